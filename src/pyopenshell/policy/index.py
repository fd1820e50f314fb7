"""The index of a compiled policy: which grants apply to a process chain, a host and a port.

Decides L4 membership only. Proof asks the same index as enforcement. Knows nothing of requests.
Immutable; the index of a changed policy shares what did not change, and lists everything in an order that does not tell
how it came to be.
"""

from __future__ import annotations

import bisect
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pyopenshell.policy.globs import Token, binary_pattern
from pyopenshell.policy.grants import Grant, GrantKey, Source
from pyopenshell.policy.hosts import host_pattern, host_tokens, host_word, is_ip_literal
from pyopenshell.policy.model import Endpoint, Policy, Rule
from pyopenshell.policy.splice import identical, window
from pyopenshell.policy.tries import Trie, lookup

_MAX_MEMO = 4096
_MAX_PLACES = 64
_FEW = 8
"""Up to so many grants of one place are looked at one by one."""

by_place = operator.attrgetter("place")
"""Sort key of grants."""


class PortIndex:
    """Grants of one port: by exact host, by wildcard, and those without a host (`allowed_ips` only)."""

    __slots__ = ("exact", "hostless", "wild", "wilds")

    def __init__(self) -> None:
        self.exact: dict[str, tuple[Grant, ...]] = {}
        self.hostless: tuple[Grant, ...] = ()
        self.wild: Trie[Grant] = Trie()
        self.wilds = 0

    @classmethod
    def of(cls, grants: Sequence[Grant]) -> PortIndex:
        out = cls()
        exact: dict[str, list[Grant]] = {}
        for grant in grants:
            if "*" in grant.host:
                out.wild.add(host_tokens(grant.host), grant)
                out.wilds += 1
            elif grant.host:
                exact.setdefault(grant.host, []).append(grant)
        out.exact = {host: tuple(sorted(found, key=by_place)) for host, found in exact.items()}
        out.hostless = tuple(sorted((grant for grant in grants if not grant.host), key=by_place))
        return out

    def changed(self, old: Sequence[Grant], new: Sequence[Grant]) -> PortIndex:
        """A copy with `new` grants of this port in place of the `old` ones; what is untouched is shared."""
        out = PortIndex()
        gone = [grant for grant in old if "*" in grant.host]
        come = [grant for grant in new if "*" in grant.host]
        out.wilds = self.wilds - len(gone) + len(come)
        out.wild = self.wild
        if gone or come:
            out.wild = self.wild.changed(_placed(gone), _placed(come))
        out.hostless = _exchanged(self.hostless, old, new, "")
        out.exact = dict(self.exact)
        for host in dict.fromkeys(grant.host for grant in (*old, *new) if grant.host and "*" not in grant.host):
            found = _exchanged(self.exact.get(host, ()), old, new, host)
            if found:
                out.exact[host] = found
            else:
                del out.exact[host]
        return out

    @property
    def empty(self) -> bool:
        return not (self.exact or self.wilds or self.hostless)

    def at(self, host: str) -> tuple[Grant, ...]:
        """Grants whose host pattern matches a canonical host. Wildcards never match addresses."""
        return self.exact.get(host, ()) + self.wild_at(host) + self.hostless

    def wild_at(self, host: str) -> tuple[Grant, ...]:
        """Those of them that have a wildcard."""
        if not self.wilds or is_ip_literal(host):
            return ()
        return tuple(sorted(lookup([self.wild.root], host_word(host)), key=by_place))


def _placed(grants: Iterable[Grant]) -> list[tuple[tuple[Token, ...], Grant]]:
    return [(host_tokens(grant.host), grant) for grant in grants]


def _exchanged(have: tuple[Grant, ...], old: Sequence[Grant], new: Sequence[Grant], host: str) -> tuple[Grant, ...]:
    """Some grants of one host with others in their place, sorted."""
    out = list(have)
    for grant in old:
        if grant.host == host:
            del out[bisect.bisect_left(out, grant.place, key=by_place)]
    for grant in new:
        if grant.host == host:
            bisect.insort(out, grant, key=by_place)
    return tuple(out)


class BinaryIndex:
    """Which binary patterns of a policy one executable matches. Shared by all engines with the same patterns."""

    __slots__ = ("_exact", "_memo", "globs", "patterns")

    def __init__(self) -> None:
        self.patterns: dict[str, int] = {}
        """In how many sets of binaries each pattern stands."""
        self.globs: Trie[str] = Trie()
        self._exact: set[str] = set()
        self._memo: dict[str, frozenset[str]] = {}

    def changed(self, old: Iterable[Sequence[str]], new: Iterable[Sequence[str]]) -> BinaryIndex:
        """A copy without the sets of patterns `old` and with `new`. Raises ValueError for a relative path."""
        counts: dict[str, int] = {}
        for sets, by in ((old, -1), (new, 1)):
            for patterns in sets:
                for pattern in patterns:
                    counts[pattern] = counts.get(pattern, 0) + by
        out = BinaryIndex()
        out.patterns, out._exact = dict(self.patterns), set(self._exact)
        gone: list[tuple[tuple[Token, ...], str]] = []
        come: list[tuple[tuple[Token, ...], str]] = []
        for pattern, by in counts.items():
            before = out.patterns.get(pattern, 0)
            now = out.patterns[pattern] = before + by
            if not now:
                del out.patterns[pattern]
            if bool(before) == bool(now):
                continue
            tokens = binary_pattern(pattern)
            if tokens is not None:
                (come if now else gone).append((tokens, pattern))
            elif now:
                out._exact.add(pattern)
            else:
                out._exact.discard(pattern)
        out.globs = self.globs.changed(gone, come) if gone or come else self.globs
        return out

    def of(self, path: str) -> frozenset[str]:
        found = self._memo.get(path)
        if found is None:
            names = {path} if path in self._exact else set()
            if not self.globs.empty and path.startswith("/"):
                names.update(lookup([self.globs.root], path[1:].split("/")))
            found = frozenset(names)
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            self._memo[path] = found
        return found


class GrantIndex:
    """All grants of a policy. `reuse` shares unchanged grants by identity, so that work costs the size of the change.

    Raises ValueError for patterns that cannot mean what they say; `policy.validate` reports the same with positions.
    """

    __slots__ = ("_binaries", "_by_binary", "_domains", "_keys", "_ordered", "_scopes", "grants", "ports", "rules")

    def __init__(self, policy: Policy, reuse: GrantIndex | None = None) -> None:
        self.rules = policy.rules
        self.grants: dict[GrantKey, Grant]
        self.ports: dict[int, PortIndex]
        self._keys: set[str]
        """Keys of the rules."""
        self._scopes: dict[tuple[str, ...], int]
        """How many grants have each set of binaries."""
        self._binaries: BinaryIndex
        self._by_binary: dict[tuple[int, str], dict[str, list[Grant]]] = {}
        self._domains: dict[str, list[str]] | None = None
        self._ordered: list[Grant] | None = None
        stretch = self._stretch(reuse) if reuse is not None else None
        if reuse is not None and stretch is not None:
            self._patch(reuse, *stretch)
        else:
            self._build(reuse.grants if reuse is not None else {})

    def _stretch(self, old: GrantIndex) -> tuple[int, int, int] | None:
        """The stretch of rules that changed; None where regrouping is simpler."""
        found = stretch(old.rules, self.rules)
        if found is None or len(old._keys) != len(old.rules):
            return None  # which rule a grant came from is told by its key
        start, old_end, new_end = found
        gone = {rule.key for rule in old.rules[start:old_end]}
        fresh = [rule.key for rule in self.rules[start:new_end]]
        if len(set(fresh)) != len(fresh) or any(key in old._keys and key not in gone for key in fresh):
            return None
        return found

    def _build(self, old: Mapping[GrantKey, Grant]) -> None:
        self._keys = {rule.key for rule in self.rules}
        self.grants, self._scopes = {}, {}
        ports: dict[int, list[Grant]] = {}
        for key, sources in _grouped((rule, rule.endpoints) for rule in self.rules).items():
            known = old.get(key)
            grant = known.changed(*_difference(known, sources)) if known is not None else None
            grant = grant or Grant(*key, sources)
            self.grants[key] = grant
            ports.setdefault(grant.port, []).append(grant)
            self._scopes[grant.binaries] = self._scopes.get(grant.binaries, 0) + 1
        self.ports = {port: PortIndex.of(grants) for port, grants in ports.items()}
        self._binaries = BinaryIndex().changed((), self._scopes)

    def _patch(self, old: GrantIndex, start: int, old_end: int, new_end: int) -> None:
        """Only rules [start:old_end] of the old policy became rules [start:new_end] of this one."""
        was, now = old.rules[start:old_end], self.rules[start:new_end]
        self._keys = (old._keys - {rule.key for rule in was}) | {rule.key for rule in now}
        changes = self._changes(old, start, *_pieces(was, now))
        if changes is None:
            every = ([(rule, rule.endpoints) for rule in rules] for rules in (was, now))
            changes = self._changes(old, start, None, *every)
            assert changes is not None
        self._apply(old, changes)

    def _changes(
        self, old: GrantIndex, start: int, around: _Around | None, was: Sequence[Piece], now: Sequence[Piece]
    ) -> dict[GrantKey, Grant | None] | None:
        """Grants that changed, with what they became; None where the place of an endpoint in its rule is not known.

        It is told by identity, and a grant that saw a rule come again with the same content holds the first one's.
        """
        gone, fresh = _grouped(was), _grouped(now)
        earlier: set[str] = set()
        changes: dict[GrantKey, Grant | None] = {}
        for key in dict.fromkeys((*gone, *fresh)):
            known, sources = old.grants.get(key), fresh.get(key, ())
            if known is None:
                changes[key] = Grant(*key, sources)
                continue
            at, count = 0, len(gone.get(key, ()))
            if len(known.sources) > count:
                earlier = earlier or {rule.key for rule in self.rules[:start]}
                if around is not None and not around.knows(known.sources):
                    return None
                at = sum(1 for k, e in known.sources if k in earlier or (around is not None and around.before(k, e)))
            made = known.changed(at, at + count, sources)
            if made is not known:
                changes[key] = made
        return changes

    def _apply(self, old: GrantIndex, changes: Mapping[GrantKey, Grant | None]) -> None:
        self.grants, self.ports, self._scopes = dict(old.grants), dict(old.ports), dict(old._scopes)
        ports: dict[int, tuple[list[Grant], list[Grant]]] = {}
        for key, grant in changes.items():
            known = self.grants.pop(key, None) if grant is None else self.grants.get(key)
            gone, come = ports.setdefault(key[2], ([], []))
            if known is not None:
                gone.append(known)
            if grant is not None:
                self.grants[key] = grant
                come.append(grant)
            self._scopes[key[0]] = self._scopes.get(key[0], 0) + (grant is not None) - (known is not None)
        for port, (gone, come) in ports.items():
            self.ports[port] = self.ports.get(port, PortIndex()).changed(gone, come)
            if self.ports[port].empty:
                del self.ports[port]
        scopes = dict.fromkeys(key[0] for key in changes)
        lost = [names for names in scopes if not self._scopes[names]]
        for names in lost:
            del self._scopes[names]
        lost = [names for names in lost if names in old._scopes]
        won = [names for names in scopes if names in self._scopes and names not in old._scopes]
        self._binaries = old._binaries.changed(lost, won) if lost or won else old._binaries

    @property
    def ordered(self) -> list[Grant]:
        """All grants, by place."""
        if self._ordered is None:
            self._ordered = sorted(self.grants.values(), key=by_place)
        return self._ordered

    @property
    def patterns(self) -> frozenset[str]:
        """Every binary pattern of the policy."""
        return frozenset(self._binaries.patterns)

    @property
    def binary_globs(self) -> Trie[str]:
        """The binary patterns with wildcards."""
        return self._binaries.globs

    def binaries_of(self, path: str) -> frozenset[str]:
        """The binary patterns of the policy that one executable matches."""
        return self._binaries.of(path)

    def at_host(self, host: str, port: int) -> tuple[Grant, ...]:
        """Grants for a canonical host and port, whoever asks."""
        ports = self.ports.get(port)
        return ports.at(host) if ports is not None else ()

    def at(self, chain: Iterable[str], host: str, port: int) -> tuple[Grant, ...]:
        """Grants of a connection: any member of the chain may carry the binary condition."""
        ports = self.ports.get(port)
        if ports is None:
            return ()
        places = ((host, ports.exact.get(host, ())), ("*", ports.wild_at(host)), ("", ports.hostless))
        if not any(grants for _, grants in places):
            return ()
        names = [self.binaries_of(path) for path in chain]
        matched = names[0].union(*names[1:]) if names else frozenset[str]()
        out: tuple[Grant, ...] = ()
        for place, grants in places:
            if len(grants) <= _FEW or place == "*":
                out += tuple(grant for grant in grants if not matched.isdisjoint(grant.binaries))
            else:
                here = self._named(port, place, grants)
                out += tuple(sorted({grant for name in matched for grant in here.get(name, ())}, key=by_place))
        return out

    def _named(self, port: int, host: str, grants: Sequence[Grant]) -> dict[str, list[Grant]]:
        """Many grants of one place by their binaries."""
        found = self._by_binary.get((port, host))
        if found is None:
            found = {}
            for grant in grants:
                for binary in grant.binaries:
                    found.setdefault(binary, []).append(grant)
            if len(self._by_binary) >= _MAX_PLACES:
                self._by_binary.clear()
            self._by_binary[port, host] = found
        return found

    def near(self, domain: str) -> list[str]:
        """Host patterns that end in a registered-looking domain (two labels), sorted."""
        if self._domains is None:
            domains: dict[str, list[str]] = {}
            for host in sorted({host for _, host, _ in self.grants if host}):
                domains.setdefault(".".join(host.split(".")[-2:]), []).append(host)
            self._domains = domains
        return self._domains.get(domain, [])

    def names(self, host: str) -> Literal["exact", "pattern"] | None:
        """How the policy names a canonical host, on whatever port and for whatever program; None when it does not."""
        ports = self.ports.values()
        if any(host in port.exact for port in ports):
            return "exact"
        return "pattern" if any(port.hostless or port.wild_at(host) for port in ports) else None


def stretch(old: Sequence[Rule], new: Sequence[Rule]) -> tuple[int, int, int] | None:
    """(start, end in old, end in new) of the only stretch of rules that changed; None where it is most of them.

    By identity: a policy that was edited shares its other rules, one that was read anew shares none.
    """
    start, old_end, new_end = identical(old, new)
    if (old_end - start) + (new_end - start) > max(len(new) // 4, 8):
        return None
    return start, old_end, new_end


def _difference(grant: Grant, sources: tuple[Source, ...]) -> tuple[int, int, tuple[Source, ...]]:
    start, end, new_end = window(grant.sources, sources)
    return start, end, sources[start:new_end]


Piece = tuple[Rule, Sequence[Endpoint]]
"""Some endpoints of a rule."""


class _Around:
    """The endpoints of the one rule that changed in part: which are before the change, and which there are at all."""

    __slots__ = ("_all", "_before", "_key")

    def __init__(self, rule: Rule, start: int) -> None:
        self._key = rule.key
        self._all = set(map(id, rule.endpoints))
        self._before = set(map(id, rule.endpoints[:start]))

    def knows(self, sources: Sequence[Source]) -> bool:
        return all(id(endpoint) in self._all for key, endpoint in sources if key == self._key)

    def before(self, key: str, endpoint: Endpoint) -> bool:
        return key == self._key and id(endpoint) in self._before


def _pieces(was: Sequence[Rule], now: Sequence[Rule]) -> tuple[_Around | None, Sequence[Piece], Sequence[Piece]]:
    """(what is around the change, endpoints that went, endpoints that came) of changed rules.

    One rule that changed in one endpoint of many goes and comes with that endpoint alone.
    """
    if len(was) == len(now) == 1 and was[0].key == now[0].key and was[0].binaries == now[0].binaries:
        (rule,), (new,) = was, now
        start, old_end, new_end = identical(rule.endpoints, new.endpoints)
        if len(set(map(id, rule.endpoints))) == len(rule.endpoints):
            gone, come = rule.endpoints[start:old_end], new.endpoints[start:new_end]
            return _Around(rule, start), [(rule, gone)], [(new, come)]
    return None, [(rule, rule.endpoints) for rule in was], [(rule, rule.endpoints) for rule in now]


def _grouped(pieces: Iterable[Piece]) -> dict[GrantKey, tuple[Source, ...]]:
    groups: dict[GrantKey, list[Source]] = {}
    for rule, endpoints in pieces:
        if not rule.binaries:
            continue  # an empty list matches nothing (design, section 1)
        binaries = _sorted(rule.binaries)
        for endpoint in endpoints:
            try:
                host = _host(endpoint.host, hostless=bool(endpoint.allowed_ips))
            except ValueError as error:
                raise ValueError(f"rule '{rule.key}': {error}") from None
            for port in endpoint.ports:
                groups.setdefault((binaries, host, port), []).append((rule.key, endpoint))
    return {key: tuple(sources) for key, sources in groups.items()}


@functools.lru_cache(maxsize=64)
def _sorted(binaries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(binaries)))


def _host(text: str, *, hostless: bool) -> str:
    if text:
        return host_pattern(text)
    if hostless:
        return ""
    raise ValueError("endpoint host must not be empty unless allowed_ips constrains it")
