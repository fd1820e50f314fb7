"""Places: the grants of one port by host pattern, and which of them a concrete host and a program come under.

Decides L4 membership only. Immutable; the index of a changed policy shares what did not change, and lists everything
in an order that does not tell how it came to be.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pyopenshell.policy.automaton import Automaton, State
from pyopenshell.policy.globs import Token
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import host_tokens, host_word, is_ip_literal
from pyopenshell.policy.tries import Node, Trie

_FEW = 8
"""Up to so many grants of one place are looked at one by one."""

_MAX_MEMO = 64

by_place = operator.attrgetter("place")
"""Sort key of grants."""


class Place:
    """All grants of one port and one host pattern, whoever they are for; "" is the pattern of grants without a host."""

    __slots__ = ("_named", "grants", "host")

    def __init__(self, host: str, grants: Iterable[Grant]) -> None:
        self.host = host
        self.grants = tuple(sorted(grants, key=by_place))
        self._named = _by_name(self.grants) if len(self.grants) > _FEW else None

    def __repr__(self) -> str:
        return f"<place {self.host or '(no host)'} of {len(self.grants)} grants>"

    def changed(self, old: Sequence[Grant], new: Sequence[Grant]) -> Place | None:
        """This place with `new` grants for the `old` ones, None when nothing is left. Costs little for few of many."""
        grants = _exchanged(self.grants, old, new)
        if not grants:
            return None
        if self._named is None or len(grants) <= _FEW or len(old) + len(new) > len(grants) // 4:
            return Place(self.host, grants)
        out = Place.__new__(Place)
        out.host, out.grants, out._named = self.host, grants, dict(self._named)
        gone, come = _by_name(old), _by_name(new)
        for name in dict.fromkeys((*gone, *come)):
            found = _exchanged(out._named.get(name, ()), gone.get(name, ()), come.get(name, ()))
            if found:
                out._named[name] = found
            else:
                del out._named[name]
        return out

    def of(self, matched: frozenset[str]) -> tuple[Grant, ...]:
        """The grants for somebody whose chain matches these binary patterns."""
        if self._named is None:
            return tuple([grant for grant in self.grants if not matched.isdisjoint(grant.names)])
        found = [self._named[name] for name in matched if name in self._named]
        if len(found) == 1:
            return found[0]
        return tuple(sorted({grant for grants in found for grant in grants}, key=by_place))


def _exchanged(have: tuple[Grant, ...], old: Iterable[Grant], new: Iterable[Grant]) -> tuple[Grant, ...]:
    """Some grants of one host with others in their place, in order of place."""
    out = list(have)
    for grant in old:
        del out[bisect.bisect_left(out, grant.place, key=by_place)]
    for grant in new:
        bisect.insort(out, grant, key=by_place)
    return tuple(out)


def _by_name(grants: Iterable[Grant]) -> dict[str, tuple[Grant, ...]]:
    found: dict[str, list[Grant]] = {}
    for grant in grants:
        for name in grant.binaries:
            found.setdefault(name, []).append(grant)
    return {name: tuple(named) for name, named in found.items()}


class _Matching(State[Place]):
    __slots__ = ("places",)

    def __init__(self, nodes: tuple[Node[Place], ...]) -> None:
        super().__init__(nodes)
        self.found.sort(key=_by_host)
        self.places = tuple(self.found)


_by_host = operator.attrgetter("host")


class Site(NamedTuple):
    """One concrete host and port: the places whose pattern covers it. Equal for hosts that no rule tells apart."""

    exact: Place | None = None
    wild: tuple[Place, ...] = ()
    hostless: Place | None = None

    def __bool__(self) -> bool:
        return self is not NOWHERE

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Whoever they are for: of the very host, of wildcards, without a host; each in order of place."""
        exact = self.exact.grants if self.exact is not None else ()
        wild = tuple(sorted((grant for place in self.wild for grant in place.grants), key=by_place))
        return exact + wild + (self.hostless.grants if self.hostless is not None else ())

    def of(self, matched: frozenset[str]) -> tuple[Grant, ...]:
        """Those of them for somebody whose chain matches these binary patterns."""
        exact, wild, hostless = self
        found = exact.of(matched) if exact is not None else ()
        if len(wild) == 1:
            found += wild[0].of(matched)
        elif wild:
            found += tuple(sorted([grant for place in wild for grant in place.of(matched)], key=by_place))
        return found + hostless.of(matched) if hostless is not None else found


NOWHERE = Site()
"""No rule covers the host and port."""


class PortIndex:
    """The places of one port."""

    __slots__ = ("_automaton", "hostless", "places", "wild", "wilds")

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        """By host pattern. A canonical host is at most a key of its own: patterns have a star, or are ""."""
        self.wild: Trie[Place] = Trie()
        self.wilds = 0
        self.hostless: Place | None = None
        self._automaton: Automaton[_Matching] | None = None

    @classmethod
    def of(cls, grants: Iterable[Grant]) -> PortIndex:
        out = cls()
        hosts: dict[str, list[Grant]] = {}
        for grant in grants:
            hosts.setdefault(grant.host, []).append(grant)
        out.places = {host: Place(host, found) for host, found in hosts.items()}
        for host, place in out.places.items():
            if "*" in host:
                out.wild.add(host_tokens(host), place)
                out.wilds += 1
        out._collect(cls())
        return out

    def changed(self, old: Iterable[Grant], new: Iterable[Grant]) -> PortIndex:
        """A copy with `new` grants of this port in place of the `old` ones; what is untouched is shared."""
        out = PortIndex()
        out.places = dict(self.places)
        touched: dict[str, tuple[list[Grant], list[Grant]]] = {}
        for grant in old:
            touched.setdefault(grant.host, ([], []))[0].append(grant)
        for grant in new:
            touched.setdefault(grant.host, ([], []))[1].append(grant)
        gone: list[tuple[tuple[Token, ...], Place]] = []
        come: list[tuple[tuple[Token, ...], Place]] = []
        for host, (lost, won) in touched.items():
            was = self.places.get(host)
            now = was.changed(lost, won) if was is not None else Place(host, won)
            if now is not None:
                out.places[host] = now
            else:
                del out.places[host]
            if "*" in host:
                gone += [(host_tokens(host), was)] if was is not None else []
                come += [(host_tokens(host), now)] if now is not None else []
        out.wild = self.wild.changed(gone, come) if gone or come else self.wild
        out.wilds = self.wilds - len(gone) + len(come)
        out._collect(self)
        return out

    def _collect(self, old: PortIndex) -> None:
        self.hostless = self.places.get("")
        if old.wild is self.wild:
            self._automaton = old._automaton
        elif self.wilds:
            self._automaton = Automaton((self.wild.root,), _Matching)

    @property
    def empty(self) -> bool:
        return not self.places

    @property
    def exact(self) -> Mapping[str, Place]:
        """The places without wildcards, by host."""
        return {host: place for host, place in self.places.items() if host and "*" not in host}

    def site(self, host: str) -> Site:
        """The places of a canonical host. Wildcards never match addresses."""
        exact = self.places.get(host)
        wild: tuple[Place, ...] = ()
        if self._automaton is not None and not is_ip_literal(host):
            wild = self._automaton.run(host_word(host)).places
        if exact is None and not wild and self.hostless is None:
            return NOWHERE
        return Site(exact, wild, self.hostless)


class Elsewhere:
    """On which ports hosts are named at all, for policies of many ports: one look instead of one per port."""

    __slots__ = ("_automaton", "_memo", "_ports")

    def __init__(self, ports: Mapping[int, PortIndex]) -> None:
        self._ports: dict[str, list[int]] = {}
        for port in sorted(ports):
            for host in ports[port].places:
                self._ports.setdefault(host, []).append(port)
        wild: Trie[str] = Trie()
        for host in self._ports:
            if "*" in host:
                wild.add(host_tokens(host), host)
        self._automaton: Automaton[State[str]] | None = None if wild.empty else Automaton((wild.root,), State)
        self._memo: dict[tuple[str, ...], tuple[int, ...]] = {}

    def patterns(self, host: str) -> tuple[str, ...]:
        """The host patterns of the policy that cover a canonical host: itself first, "" last."""
        wild: list[str] = []
        if self._automaton is not None and not is_ip_literal(host):
            wild = self._automaton.run(host_word(host)).found
        return tuple(pattern for pattern in (host, *wild, "") if pattern in self._ports)

    def ports(self, host: str) -> tuple[int, ...]:
        """The ports of those patterns, sorted."""
        patterns = self.patterns(host)
        if not patterns:
            return ()
        found = self._memo.get(patterns)
        if found is None:
            found = tuple(sorted({port for pattern in patterns for port in self._ports[pattern]}))
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            self._memo[patterns] = found
        return found
