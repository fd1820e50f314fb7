"""Tries over segment patterns: the union of many patterns, walked once per word.

Shared by enforcement and proof, so both match with the same code. Knows nothing of what the payloads mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token

P = TypeVar("P")


class Node(Generic[P]):
    """One state of the union. `ds` leads to a child that loops on itself (`**`); `end` holds finished patterns."""

    __slots__ = ("any", "anye", "ds", "end", "fold", "globs", "lit", "loops", "sample")

    def __init__(self, *, loops: bool = False) -> None:
        self.lit: dict[str, Node[P]] = {}
        self.any: Node[P] | None = None
        self.anye: Node[P] | None = None
        self.fold: dict[str, Node[P]] | None = None
        self.globs: dict[Glob, Node[P]] | None = None
        self.ds: Node[P] | None = None
        self.loops = loops
        self.end: list[P] | None = None
        self.sample: P | None = None


class Trie(Generic[P]):
    __slots__ = ("empty", "root")

    def __init__(self) -> None:
        self.root: Node[P] = Node()
        self.empty = True

    def add(self, tokens: tuple[Token, ...], payload: P, *, sample: bool = False) -> None:
        """Add one pattern. `sample` lets nodes remember the first such payload below them (for near misses)."""
        self.empty = False
        node = self.root
        for kind, value in tokens:
            node = _child(node, kind, value)
            if sample and node.sample is None:
                node.sample = payload
        if node.end is None:
            node.end = []
        node.end.append(payload)


def _child(node: Node[P], kind: int, value: str | Glob | None) -> Node[P]:
    if kind == L:
        assert isinstance(value, str)
        return node.lit.get(value) or node.lit.setdefault(value, Node())
    if kind == ANY:
        node.any = node.any or Node()
        return node.any
    if kind == ANYE:
        node.anye = node.anye or Node()
        return node.anye
    if kind == DS:
        node.ds = node.ds or Node(loops=True)
        return node.ds
    if kind == LF:
        assert isinstance(value, str)
        if node.fold is None:
            node.fold = {}
        return node.fold.get(value) or node.fold.setdefault(value, Node())
    assert isinstance(value, Glob)
    if node.globs is None:
        node.globs = {}
    return node.globs.get(value) or node.globs.setdefault(value, Node())


States = dict[Node[P], None]
"""An ordered set of nodes: iteration order never depends on hashing."""


def closure(nodes: Iterable[Node[P]]) -> States[P]:
    """`nodes` and everything reached from them without consuming a segment."""
    out: States[P] = {}
    for node in nodes:
        _enter(out, node)
    return out


def _enter(out: States[P], node: Node[P]) -> None:
    out[node] = None
    below = node.ds
    while below is not None:
        out[below] = None
        below = below.ds


def step(states: Iterable[Node[P]], segment: str) -> States[P]:
    """All nodes reached by consuming one segment ("" only as the last one of a path)."""
    out: States[P] = {}
    for node in states:
        child = node.lit.get(segment)
        if child is not None:
            _enter(out, child)
        if segment:
            if node.loops:
                _enter(out, node)
            if node.any is not None:
                _enter(out, node.any)
            if node.globs is not None:
                for glob, child in node.globs.items():
                    if glob.match(segment):
                        _enter(out, child)
            if node.fold is not None:
                child = node.fold.get(segment.lower())
                if child is not None:
                    _enter(out, child)
        if node.anye is not None:
            _enter(out, node.anye)
    return out


def accepted(states: Iterable[Node[P]]) -> list[P]:
    """Payloads of the patterns that end here."""
    return [payload for node in states if node.end is not None for payload in node.end]


def lookup(roots: Iterable[Node[P]], word: Sequence[str]) -> list[P]:
    """Payloads of all patterns that match the whole word."""
    states = closure(roots)
    for segment in word:
        states = step(states, segment)
        if not states:
            return []
    return accepted(states)


def matches(tokens: tuple[Token, ...], word: Sequence[str]) -> bool:
    """Does one pattern match one word?"""
    trie: Trie[bool] = Trie()
    trie.add(tokens, True)
    return bool(lookup([trie.root], word))
