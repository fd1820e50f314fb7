"""The index of a compiled policy: which grants apply to a process chain, a host and a port.

Decides L4 membership only. Proof asks the same index as enforcement. Knows nothing of requests.
Immutable; the index of a changed policy shares what did not change, and lists everything in an order that does not tell
how it came to be.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pyopenshell.policy.binaries import BinaryIndex
from pyopenshell.policy.grants import Grant, GrantKey, Source
from pyopenshell.policy.hosts import host_pattern
from pyopenshell.policy.model import Endpoint, Policy, Rule
from pyopenshell.policy.places import NOWHERE, Elsewhere, PortIndex, Site, by_place
from pyopenshell.policy.splice import identical, window

_FEW_PORTS = 16
"""Up to so many are asked one by one."""


class GrantIndex:
    """All grants of a policy. `reuse` shares unchanged grants by identity, so that work costs the size of the change.

    Raises ValueError for patterns that cannot mean what they say; `policy.validate` reports the same with positions.
    """

    __slots__ = ("_domains", "_elsewhere", "_keys", "_ordered", "_scopes", "binaries", "grants", "ports", "rules")

    def __init__(self, policy: Policy, reuse: GrantIndex | None = None) -> None:
        self.rules = policy.rules
        self.grants: dict[GrantKey, Grant]
        self.ports: dict[int, PortIndex]
        self._keys: set[str]
        """Keys of the rules."""
        self._scopes: dict[tuple[str, ...], int]
        """How many grants have each set of binaries."""
        self.binaries: BinaryIndex
        self._domains: dict[str, _Domain] | None = None
        """Host patterns by domain: words for a refusal, so made when the first one needs them."""
        self._ordered: list[Grant] | None = None
        self._elsewhere: Elsewhere | None = None
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
        self.binaries = BinaryIndex().changed((), self._scopes)

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
        self._patch_domains(old, changes)
        scopes = dict.fromkeys(key[0] for key in changes)
        lost = [names for names in scopes if not self._scopes[names]]
        for names in lost:
            del self._scopes[names]
        lost = [names for names in lost if names in old._scopes]
        won = [names for names in scopes if names in self._scopes and names not in old._scopes]
        self.binaries = old.binaries.changed(lost, won) if lost or won else old.binaries

    @property
    def ordered(self) -> list[Grant]:
        """All grants, by place."""
        if self._ordered is None:
            self._ordered = sorted(self.grants.values(), key=by_place)
        return self._ordered

    @property
    def patterns(self) -> frozenset[str]:
        """Every binary pattern of the policy."""
        return frozenset(self.binaries.patterns)

    def site(self, host: str, port: int) -> Site:
        """What there is at a canonical host and port, whoever asks."""
        ports = self.ports.get(port)
        return ports.site(host) if ports is not None else NOWHERE

    def at(self, chain: Iterable[str], host: str, port: int) -> tuple[Grant, ...]:
        """Grants of a connection: any member of the chain may carry the binary condition."""
        site = self.site(host, port)
        return site.of(self.binaries.of_chain(chain)) if site else ()

    def near(self, host: str, limit: int) -> tuple[tuple[str, ...], int]:
        """Host patterns in the registered-looking domain (two labels) of a host: the first of them, how many more."""
        domain = _domain(host)
        if "." not in domain:
            return (), 0
        if self._domains is None:
            domains: dict[str, set[str]] = {}
            for pattern in {pattern for _, pattern, _ in self.grants if pattern}:
                domains.setdefault(_domain(pattern), set()).add(pattern)
            self._domains = {name: _Domain(frozenset(patterns)) for name, patterns in domains.items()}
        found = self._domains.get(domain)
        return found.first(limit) if found is not None else ((), 0)

    def _patch_domains(self, old: GrantIndex, changes: Iterable[GrantKey]) -> None:
        if old._domains is None:
            return
        self._domains = dict(old._domains)
        touched: dict[str, dict[str, bool]] = {}
        for pattern in {pattern for _, pattern, _ in changes if pattern}:
            here = any(pattern in port.places for port in self.ports.values())
            touched.setdefault(_domain(pattern), {})[pattern] = here
        for domain, patterns in touched.items():
            was = self._domains.get(domain, _Domain(frozenset())).patterns
            now = (was - patterns.keys()).union(pattern for pattern, here in patterns.items() if here)
            if now != was:
                self._domains[domain] = _Domain(now)

    def ports_of(self, host: str) -> Sequence[int]:
        """The ports on which a canonical host is covered, for whatever program, sorted."""
        if len(self.ports) <= _FEW_PORTS:
            return [port for port in sorted(self.ports) if self.ports[port].site(host)]
        return self._everywhere().ports(host)

    def names(self, host: str) -> Literal["exact", "pattern"] | None:
        """How the policy names a canonical host, on whatever port and for whatever program; None when it does not."""
        if len(self.ports) > _FEW_PORTS:
            patterns = self._everywhere().patterns(host)
            return None if not patterns else "exact" if host in patterns else "pattern"
        sites = [ports.site(host) for ports in self.ports.values()]
        if any(site.exact for site in sites):
            return "exact"
        return "pattern" if any(sites) else None

    def _everywhere(self) -> Elsewhere:
        if self._elsewhere is None:
            self._elsewhere = Elsewhere(self.ports)
        return self._elsewhere


class _Domain:
    """The host patterns of one domain."""

    __slots__ = ("_first", "patterns")

    def __init__(self, patterns: frozenset[str]) -> None:
        self.patterns = patterns
        self._first: tuple[str, ...] | None = None

    def first(self, limit: int) -> tuple[tuple[str, ...], int]:
        if self._first is None or len(self._first) < limit:
            self._first = tuple(heapq.nsmallest(limit, self.patterns))
        return self._first[:limit], max(len(self.patterns) - limit, 0)


def _domain(host: str) -> str:
    return ".".join(host.rsplit(".", 2)[-2:])


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
