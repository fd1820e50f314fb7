"""The index of a compiled policy: which grants apply to a process chain, a host and a port.

Decides L4 membership only. Proof asks the same index as enforcement. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyopenshell.policy.globs import binary_pattern
from pyopenshell.policy.grants import Grant, GrantKey, Source
from pyopenshell.policy.hosts import host_pattern, host_tokens, host_word, is_ip_literal
from pyopenshell.policy.model import Policy, Rule
from pyopenshell.policy.tries import Trie, lookup

_MAX_MEMO = 4096


class PortIndex:
    """Grants of one port: by exact host, by wildcard, and those without a host (`allowed_ips` only)."""

    __slots__ = ("exact", "hostless", "wild", "wild_grants")

    def __init__(self) -> None:
        self.exact: dict[str, list[Grant]] = {}
        self.wild: Trie[Grant] = Trie()
        self.wild_grants: dict[GrantKey, Grant] = {}
        self.hostless: list[Grant] = []

    def add(self, grant: Grant) -> None:
        if not grant.host:
            self.hostless.append(grant)
        elif "*" in grant.host:
            self.wild.add(host_tokens(grant.host), grant)
            self.wild_grants[grant.place] = grant
        else:
            self.exact.setdefault(grant.host, []).append(grant)

    def changed(self, changes: Mapping[GrantKey, Grant | None]) -> PortIndex:
        """A copy with some grants of this port replaced, added, or (None) removed; what is untouched is shared."""
        out = PortIndex()
        out.exact = dict(self.exact)
        wild = {key: grant for key, grant in changes.items() if "*" in key[1]}
        if wild:
            for grant in _merged(self.wild_grants, wild).values():
                out.add(grant)
        else:
            out.wild, out.wild_grants = self.wild, self.wild_grants
        hostless = {key: grant for key, grant in changes.items() if not key[1]}
        out.hostless = list(_merged({g.place: g for g in self.hostless}, hostless).values())
        for host in {key[1] for key in changes if key[1] and "*" not in key[1]}:
            here = {key: grant for key, grant in changes.items() if key[1] == host}
            found = list(_merged({g.place: g for g in self.exact.get(host, ())}, here).values())
            if found:
                out.exact[host] = found
            else:
                out.exact.pop(host, None)
        return out

    @property
    def empty(self) -> bool:
        return not (self.exact or self.wild_grants or self.hostless)

    def at(self, host: str) -> list[Grant]:
        """Grants whose host pattern matches a canonical host. Wildcards never match addresses."""
        found = list(self.exact.get(host, ()))
        if not self.wild.empty and not is_ip_literal(host):
            found += lookup([self.wild.root], host_word(host))
        return found + self.hostless


def _merged(have: Mapping[GrantKey, Grant], changes: Mapping[GrantKey, Grant | None]) -> dict[GrantKey, Grant]:
    return {key: grant for key, grant in {**have, **changes}.items() if grant is not None}


class BinaryIndex:
    """Which binary patterns of a policy one executable matches. Shared by all engines with the same patterns."""

    __slots__ = ("_exact", "_memo", "globs", "patterns")

    def __init__(self, patterns: frozenset[str]) -> None:
        self.patterns = patterns
        self.globs: Trie[str] = Trie()
        self._exact: set[str] = set()
        self._memo: dict[str, frozenset[str]] = {}
        for pattern in sorted(patterns):
            tokens = binary_pattern(pattern)  # raises for a relative path
            if tokens is None:
                self._exact.add(pattern)
            else:
                self.globs.add(tokens, pattern)

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

    __slots__ = ("_binaries", "_scopes", "grants", "ports", "rules")

    def __init__(self, policy: Policy, reuse: GrantIndex | None = None) -> None:
        self.rules = policy.rules
        self.grants: dict[GrantKey, Grant]
        self.ports: dict[int, PortIndex]
        self._scopes: dict[tuple[str, ...], int]
        """How many grants have each set of binaries."""
        self._binaries: BinaryIndex
        stretch = window(reuse.rules, policy.rules) if reuse is not None else None
        if reuse is not None and stretch is not None:
            self._patch(reuse, *stretch)
        else:
            self._build(reuse.grants if reuse is not None else {})

    def _build(self, old: Mapping[GrantKey, Grant]) -> None:
        self.grants, self.ports, self._scopes = {}, {}, {}
        for key, sources in _grouped(self.rules).items():
            known = old.get(key)
            if known is None or known.sources != sources:
                known = Grant(*key, sources)
            self.grants[key] = known
            self.ports.setdefault(known.port, PortIndex()).add(known)
            self._scopes[known.binaries] = self._scopes.get(known.binaries, 0) + 1
        self._binaries = BinaryIndex(self._patterns())

    def _patterns(self) -> frozenset[str]:
        return frozenset(binary for binaries in self._scopes for binary in binaries)

    def _patch(self, old: GrantIndex, start: int, old_end: int, new_end: int) -> None:
        """Only rules [start:old_end] of the old policy became rules [start:new_end] of this one."""
        earlier = {rule.key for rule in self.rules[:start]}
        gone = {rule.key for rule in old.rules[start:old_end]}
        fresh = _grouped(self.rules[start:new_end])
        changes: dict[GrantKey, Grant | None] = {}
        for key in dict.fromkeys((*_grouped(old.rules[start:old_end]), *fresh)):
            known = old.grants.get(key)
            had = known.sources if known is not None else ()
            before = tuple(source for source in had if source[0] in earlier)
            after = tuple(source for source in had if source[0] not in earlier and source[0] not in gone)
            sources = (*before, *fresh.get(key, ()), *after)
            if known is None or known.sources != sources:
                changes[key] = Grant(*key, sources) if sources else None
        self.grants = dict(old.grants)
        self.ports = dict(old.ports)
        self._scopes = dict(old._scopes)
        for key, grant in changes.items():
            before_count = self._scopes.get(key[0], 0) - (key in self.grants)
            if grant is None:
                del self.grants[key]
            else:
                self.grants[key] = grant
            self._scopes[key[0]] = before_count + (grant is not None)
        for port in {key[2] for key in changes}:
            here = {key: grant for key, grant in changes.items() if key[2] == port}
            self.ports[port] = self.ports.get(port, PortIndex()).changed(here)
            if self.ports[port].empty:
                del self.ports[port]
        for binaries in [binaries for binaries in {key[0] for key in changes} if not self._scopes[binaries]]:
            del self._scopes[binaries]
        same = self._scopes.keys() == old._scopes.keys()
        self._binaries = old._binaries if same else BinaryIndex(self._patterns())

    @property
    def patterns(self) -> frozenset[str]:
        """Every binary pattern of the policy."""
        return self._binaries.patterns

    @property
    def binary_globs(self) -> Trie[str]:
        """The binary patterns with wildcards."""
        return self._binaries.globs

    def binaries_of(self, path: str) -> frozenset[str]:
        """The binary patterns of the policy that one executable matches."""
        return self._binaries.of(path)

    def at_host(self, host: str, port: int) -> list[Grant]:
        """Grants for a canonical host and port, whoever asks."""
        ports = self.ports.get(port)
        return ports.at(host) if ports is not None else []

    def at(self, chain: Iterable[str], host: str, port: int) -> tuple[Grant, ...]:
        """Grants of a connection: any member of the chain may carry the binary condition."""
        candidates = self.at_host(host, port)
        if not candidates:
            return ()
        names = [self.binaries_of(path) for path in chain]
        matched = names[0].union(*names[1:]) if names else frozenset[str]()
        return tuple(grant for grant in candidates if not matched.isdisjoint(grant.binaries))

    def hosts(self) -> Iterator[str]:
        """Host patterns in policy order, each once."""
        yield from dict.fromkeys(host for _, host, _ in self.grants if host)


def window(old: Sequence[Rule], new: Sequence[Rule]) -> tuple[int, int, int] | None:
    """(start, end in old, end in new) of the only stretch of rules that changed; None where regrouping is simpler.

    By identity: a policy that was edited shares its other rules, one that was read anew shares none.
    """
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] is not new[i]), shorter)
    same = next((i for i in range(shorter - start) if old[-1 - i] is not new[-1 - i]), shorter - start)
    old_end, new_end = len(old) - same, len(new) - same
    if (old_end - start) + (new_end - start) > max(len(new) // 4, 8):
        return None
    if any(len({rule.key for rule in rules}) != len(rules) for rules in (old, new)):
        return None  # which rule a grant came from is told by its key
    return start, old_end, new_end


def _grouped(rules: Iterable[Rule]) -> dict[GrantKey, tuple[Source, ...]]:
    groups: dict[GrantKey, list[Source]] = {}
    for rule in rules:
        binaries = tuple(sorted(set(rule.binaries)))
        if not binaries:
            continue  # an empty list matches nothing (design, section 1)
        for endpoint in rule.endpoints:
            try:
                host = _host(endpoint.host, hostless=bool(endpoint.allowed_ips))
            except ValueError as error:
                raise ValueError(f"rule '{rule.key}': {error}") from None
            for port in endpoint.ports:
                groups.setdefault((binaries, host, port), []).append((rule.key, endpoint))
    return {key: tuple(sources) for key, sources in groups.items()}


def _host(text: str, *, hostless: bool) -> str:
    if text:
        return host_pattern(text)
    if hostless:
        return ""
    raise ValueError("endpoint host must not be empty unless allowed_ips constrains it")
