"""Binaries: which of a policy's binary patterns the members of a process chain match.

Decides nothing but that. Knows no hosts and no rules. Immutable but for a bounded memo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pyopenshell.policy.automaton import Automaton, State
from pyopenshell.policy.globs import Token, binary_pattern
from pyopenshell.policy.tries import Node, Trie

_MAX_MEMO = 4096
_NONE: frozenset[str] = frozenset()


class _Matching(State[str]):
    __slots__ = ("patterns",)

    def __init__(self, nodes: tuple[Node[str], ...]) -> None:
        super().__init__(nodes)
        self.patterns = frozenset(self.found) or _NONE


class BinaryIndex:
    """Which binary patterns of a policy one executable matches. Shared by all engines with the same patterns."""

    __slots__ = ("_automaton", "_exact", "_memo", "globs", "patterns")

    def __init__(self) -> None:
        self.patterns: dict[str, int] = {}
        """In how many sets of binaries each pattern stands."""
        self.globs: Trie[str] = Trie()
        self._exact: dict[str, frozenset[str]] = {}
        self._automaton: Automaton[_Matching] | None = None
        self._memo: dict[str, frozenset[str]] = {}

    def changed(self, old: Iterable[Sequence[str]], new: Iterable[Sequence[str]]) -> BinaryIndex:
        """A copy without the sets of patterns `old` and with `new`. Raises ValueError for a relative path."""
        counts: dict[str, int] = {}
        for sets, by in ((old, -1), (new, 1)):
            for patterns in sets:
                for pattern in patterns:
                    counts[pattern] = counts.get(pattern, 0) + by
        out = BinaryIndex()
        out.patterns, out._exact = dict(self.patterns), dict(self._exact)
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
                out._exact[pattern] = frozenset((pattern,))
            else:
                del out._exact[pattern]
        out.globs = self.globs
        if gone or come:
            out.globs = self.globs.changed(gone, come)
        if not out.globs.empty:
            same = out.globs is self.globs and self._automaton is not None
            out._automaton = self._automaton if same else Automaton((out.globs.root,), _Matching)
        return out

    def of(self, path: str) -> frozenset[str]:
        """The patterns that one path matches."""
        found = self._memo.get(path)
        if found is None:
            found = self._look_up(path)
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            self._memo[path] = found
        return found

    def _look_up(self, path: str) -> frozenset[str]:
        exact = self._exact.get(path, _NONE)
        if self._automaton is None or not path.startswith("/"):
            return exact
        globs = self._automaton.run(path[1:].split("/")).patterns
        return exact | globs if exact and globs else exact or globs

    def of_chain(self, *chains: Iterable[str]) -> frozenset[str]:
        """The patterns that any member of some chains matches."""
        found = _NONE
        memo: Any = self._memo
        for chain in chains:
            for path in chain:
                matched = memo.get(path)
                if matched is None:
                    matched = self.of(path)
                if matched and matched is not found:
                    found = found | matched if found else matched
        return found
