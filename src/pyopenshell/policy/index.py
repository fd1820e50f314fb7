"""The index of a compiled policy: which grants apply to a process chain, a host and a port.

Decides L4 membership only. Proof asks the same index as enforcement. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyopenshell.policy.globs import binary_pattern
from pyopenshell.policy.grants import Grant, Source
from pyopenshell.policy.hosts import host_pattern, host_tokens, host_word, is_ip_literal
from pyopenshell.policy.model import Policy
from pyopenshell.policy.tries import Trie, lookup

GrantKey = tuple[tuple[str, ...], str, int]
"""(sorted binaries, canonical host pattern, port)."""

_MAX_MEMO = 4096


class PortIndex:
    """Grants of one port: by exact host, by wildcard, and those without a host (`allowed_ips` only)."""

    __slots__ = ("exact", "hostless", "wild")

    def __init__(self) -> None:
        self.exact: dict[str, list[Grant]] = {}
        self.wild: Trie[Grant] = Trie()
        self.hostless: list[Grant] = []

    def add(self, grant: Grant) -> None:
        if not grant.host:
            self.hostless.append(grant)
        elif "*" in grant.host:
            self.wild.add(host_tokens(grant.host), grant)
        else:
            self.exact.setdefault(grant.host, []).append(grant)

    def at(self, host: str) -> list[Grant]:
        """Grants whose host pattern matches a canonical host. Wildcards never match addresses."""
        found = list(self.exact.get(host, ()))
        if not self.wild.empty and not is_ip_literal(host):
            found += lookup([self.wild.root], host_word(host))
        return found + self.hostless


class GrantIndex:
    """All grants of a policy. `reuse` shares unchanged grants by identity, so that work costs the size of the change.

    Raises ValueError for patterns that cannot mean what they say; `policy.validate` reports the same with positions.
    """

    __slots__ = ("_binaries_of", "_exact_binaries", "_glob_binaries", "grants", "patterns", "ports")

    def __init__(self, policy: Policy, reuse: GrantIndex | None = None) -> None:
        old = reuse.grants if reuse is not None else {}
        self.grants: dict[GrantKey, Grant] = {}
        self.ports: dict[int, PortIndex] = {}
        for key, sources in _grouped(policy).items():
            known = old.get(key)
            if known is None or known.sources != sources:
                known = Grant(*key, sources)
            self.grants[key] = known
            self.ports.setdefault(known.port, PortIndex()).add(known)
        self.patterns = frozenset(binary for binaries, _, _ in self.grants for binary in binaries)
        self._glob_binaries: Trie[str] = Trie()
        self._exact_binaries: set[str] = set()
        for pattern in sorted(self.patterns):
            tokens = binary_pattern(pattern)  # raises for a relative path
            if tokens is None:
                self._exact_binaries.add(pattern)
            else:
                self._glob_binaries.add(tokens, pattern)
        self._binaries_of: dict[str, frozenset[str]] = {}

    def binaries_of(self, path: str) -> frozenset[str]:
        """The binary patterns of the policy that one executable matches."""
        found = self._binaries_of.get(path)
        if found is None:
            names = {path} if path in self._exact_binaries else set()
            if not self._glob_binaries.empty and path.startswith("/"):
                names.update(lookup([self._glob_binaries.root], path[1:].split("/")))
            found = frozenset(names)
            if len(self._binaries_of) >= _MAX_MEMO:
                self._binaries_of.clear()
            self._binaries_of[path] = found
        return found

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


def _grouped(policy: Policy) -> dict[GrantKey, tuple[Source, ...]]:
    groups: dict[GrantKey, list[Source]] = {}
    for rule in policy.rules:
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
