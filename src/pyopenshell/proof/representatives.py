"""Generic binaries and hosts: the finitely many that need to be tried, and which grants a host pattern can meet.

The path dimension has `words`; this is the same idea where both policies' patterns are all that can match.
"""

from __future__ import annotations

from collections.abc import Callable

from pyopenshell.policy.globs import L, binary_pattern
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import host_matches, host_tokens, host_word, is_ip_literal
from pyopenshell.policy.index import GrantIndex
from pyopenshell.policy.places import Place, PortIndex, by_place
from pyopenshell.policy.tries import Trie, closure, matches
from pyopenshell.proof.words import Tokens, lookup_steps, overlaps, walk
from pyopenshell.proof.work import Work


def binary_tokens(pattern: str) -> Tokens:
    """Tokens of a binary pattern, exact ones included."""
    tokens = binary_pattern(pattern)
    if tokens is not None:
        return tokens
    return tuple((L, segment) for segment in pattern[1:].split("/"))


def binary_matches(pattern: str, path: str) -> bool:
    tokens = binary_pattern(pattern)
    return pattern == path if tokens is None else matches(tokens, path[1:].split("/"))


class Representatives:
    """Minimal binaries and hosts of intersections of patterns, with respect to all patterns of two policies."""

    def __init__(self, a: GrantIndex, b: GrantIndex, work: Work) -> None:
        self._work = work
        self._binaries = dict.fromkeys([*sorted(a.patterns), *sorted(b.patterns)])
        self._hosts = dict.fromkeys(
            [host for index in (a, b) for host in sorted({host for _, host, _ in index.grants})]
        )
        self._binary_trie: Trie[str] | None = None
        self._host_trie: Trie[str] | None = None
        self._memo: dict[tuple[bool, tuple[str, ...]], list[str]] = {}

    def binaries(self, patterns: tuple[str, ...]) -> list[str]:
        """Executables in all `patterns`."""
        key = (True, patterns)
        found = self._memo.get(key)
        self._work.spend()
        if found is None:
            self._work.spend(4 * len(patterns))
            exact = [p for p in patterns if "*" not in p]
            if exact:
                found = exact[:1] if all(binary_matches(p, exact[0]) for p in patterns) else []
            else:
                if self._binary_trie is None:
                    self._binary_trie = _trie(self._binaries, binary_tokens)
                found = _minimal(
                    patterns, binary_tokens, self._binary_trie, lambda word: "/" + "/".join(word), self._work
                )
            self._memo[key] = found
        return found

    def hosts(self, patterns: tuple[str, ...]) -> list[str]:
        """Canonical hosts in all `patterns`; wildcards never stand for addresses."""
        key = (False, patterns)
        found = self._memo.get(key)
        if found is None:
            exact = [p for p in patterns if p and "*" not in p]
            if exact:
                found = exact[:1] if all(host_matches(p, exact[0]) for p in patterns) else []
            else:
                if self._host_trie is None:
                    self._host_trie = _trie(self._hosts, host_tokens)
                found = _minimal(
                    patterns, host_tokens, self._host_trie, lambda word: ".".join(reversed(word)), self._work
                )
            self._memo[key] = found
        return found


def _trie(patterns: dict[str, None], tokens: Callable[[str], Tokens]) -> Trie[str]:
    trie: Trie[str] = Trie()
    for pattern in patterns:
        trie.add(tokens(pattern), pattern)
    return trie


def _minimal(
    patterns: tuple[str, ...],
    tokens: Callable[[str], Tokens],
    trie: Trie[str],
    spell: Callable[[list[str]], str],
    work: Work,
) -> list[str]:
    found = [
        (frozenset(state.found), spell(word))
        for word, state in walk([tokens(p) for p in patterns], closure([trie.root]), work, empty=False)
    ]
    kept: list[tuple[frozenset[str], str]] = []
    for matched, text in sorted(found, key=lambda pair: (len(pair[0]), len(pair[1]), pair[1])):
        work.spend(1 + len(kept))
        if not any(other <= matched for other, _ in kept):
            kept.append((matched, text))
    return [text for _, text in kept]


class HostOverlap:
    """Grants of one policy whose host pattern shares a host with a given pattern."""

    def __init__(self, index: GrantIndex, work: Work) -> None:
        self._index = index
        self._work = work
        self._memo: dict[tuple[str, int], list[Grant]] = {}
        self._exact: dict[int, Trie[Place]] = {}

    def at(self, host: str, port: int) -> list[Grant]:
        key = (host, port)
        found = self._memo.get(key)
        if found is None:
            ports = self._index.ports.get(port)
            found = self._memo[key] = self._find(ports, host, port) if ports is not None else []
        self._work.spend(1 + len(found) // 8)
        return found

    def _find(self, ports: PortIndex, host: str, port: int) -> list[Grant]:
        hostless = [ports.hostless] if ports.hostless is not None else []
        if not host:
            wild = overlaps(ports.wild.root, host_tokens(""), self._work)
            self._work.spend(len(ports.places))
            return _grants([*ports.exact.values(), *wild, *hostless])
        if "*" not in host:
            if not is_ip_literal(host):
                lookup_steps(ports.wild.root, host_word(host), self._work)
            return list(ports.site(host).grants)
        exact = self._exact.get(port)
        if exact is None:
            self._work.spend(4 * len(ports.places))
            exact = self._exact[port] = Trie()
            for name, place in ports.exact.items():
                if not is_ip_literal(name):
                    exact.add(host_tokens(name), place)
        tokens = host_tokens(host)
        wild = overlaps(ports.wild.root, tokens, self._work)
        return _grants([*overlaps(exact.root, tokens, self._work), *wild, *hostless])


def _grants(places: list[Place]) -> list[Grant]:
    """By place: tries list their payloads in an order that tells how a policy came to be."""
    return sorted((grant for place in places for grant in place.grants), key=by_place)
