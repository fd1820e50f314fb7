"""Tries over segment patterns: the union of many patterns, walked once per word.

Shared by enforcement and proof, so both match with the same code. Knows nothing of what the payloads mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token

P = TypeVar("P")


class Node(Generic[P]):
    """One state of the union. `ds` leads to a child that loops on itself (`**`); `end` holds finished patterns.

    `sample` is the payload of least rank at or below the node. Never changed once its trie is in use: a changed trie
    copies the nodes on the way to the change and shares all others.
    """

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

    def copy(self) -> Node[P]:
        """The same node, its children shared."""
        out: Node[P] = Node(loops=self.loops)
        out.lit = self.lit.copy()
        out.any, out.anye, out.ds, out.sample = self.any, self.anye, self.ds, self.sample
        out.fold = self.fold.copy() if self.fold is not None else None
        out.globs = self.globs.copy() if self.globs is not None else None
        out.end = self.end.copy() if self.end is not None else None
        return out

    def children(self) -> Iterator[Node[P]]:
        """All successors, in no particular order."""
        yield from self.lit.values()
        yield from (self.fold or {}).values()
        yield from (self.globs or {}).values()
        for child in (self.any, self.anye, self.ds):
            if child is not None:
                yield child

    @property
    def empty(self) -> bool:
        return not (self.lit or self.fold or self.globs or self.any or self.anye or self.ds or self.end)


Rank = Callable[[P], Any]
"""Orders payloads for `Node.sample`: by content, so that the sample never depends on how a trie came to be.
None leaves a payload out."""


class Trie(Generic[P]):
    __slots__ = ("_rank", "root")

    def __init__(self, rank: Rank[P] | None = None) -> None:
        self.root: Node[P] = Node()
        self._rank = rank

    @property
    def empty(self) -> bool:
        return self.root.empty

    def add(self, tokens: tuple[Token, ...], payload: P) -> None:
        """Add one pattern to a trie that nobody uses yet."""
        rank = self._rank(payload) if self._rank is not None else None
        node = self.root
        for kind, value in tokens:
            child = node.lit.get(value) if kind == L else _child(node, kind, value)  # type: ignore[arg-type]
            node = child or _set_child(node, kind, value, Node(loops=kind == DS))
            if rank is not None and (node.sample is None or rank < self._rank(node.sample)):  # type: ignore[misc]
                node.sample = payload
        if node.end is None:
            node.end = []
        node.end.append(payload)

    def changed(self, removed: Iterable[Entry[P]], added: Iterable[Entry[P]]) -> Trie[P]:
        """A trie without `removed` (which must be there) and with `added`. What is untouched is shared."""
        out: Trie[P] = Trie(self._rank)
        out.root = self.root.copy()
        fresh = {id(out.root): out.root}
        """Copies that this change made itself and may write to, kept alive so that no id is reused."""
        for tokens, payload in removed:
            out._remove(tokens, payload, fresh)
        for tokens, payload in added:
            out._way(tokens, fresh)
            out.add(tokens, payload)
        return out

    def _way(self, tokens: tuple[Token, ...], fresh: dict[int, Node[P]]) -> list[Node[P]]:
        """The nodes along a pattern as far as they exist, all of them made writable."""
        way = [self.root]
        for kind, value in tokens:
            node = way[-1]
            child = _child(node, kind, value)
            if child is None:
                break
            if id(child) not in fresh:
                child = _set_child(node, kind, value, child.copy())
                fresh[id(child)] = child
            way.append(child)
        return way

    def _remove(self, tokens: tuple[Token, ...], payload: P, fresh: dict[int, Node[P]]) -> None:
        way = self._way(tokens, fresh)
        end = way[-1].end if len(way) == len(tokens) + 1 else None
        assert end is not None, "only what was added can be removed"
        end.remove(payload)
        for depth in range(len(tokens), 0, -1):
            node = way[depth]
            if not node.end:
                node.end = None
            if node.empty:
                kind, value = tokens[depth - 1]
                _drop_child(way[depth - 1], kind, value)
            elif node.sample is not None and node.sample is payload:
                node.sample = self._least(node)

    def _least(self, node: Node[P]) -> P | None:
        assert self._rank is not None
        below = [child.sample for child in node.children() if child.sample is not None]
        here = [payload for payload in node.end or () if self._rank(payload) is not None]
        return min((*below, *here), key=self._rank, default=None)


Entry = tuple[tuple[Token, ...], P]
"""(pattern, payload)."""


def _child(node: Node[P], kind: int, value: str | Glob | None) -> Node[P] | None:
    if kind == L:
        return node.lit.get(value)  # type: ignore[arg-type]
    if kind == ANY:
        return node.any
    if kind == ANYE:
        return node.anye
    if kind == DS:
        return node.ds
    if kind == LF:
        return node.fold.get(value) if node.fold is not None else None  # type: ignore[arg-type]
    return node.globs.get(value) if node.globs is not None else None  # type: ignore[arg-type]


def _set_child(node: Node[P], kind: int, value: str | Glob | None, child: Node[P]) -> Node[P]:
    if kind == ANY:
        node.any = child
    elif kind == ANYE:
        node.anye = child
    elif kind == DS:
        node.ds = child
    elif isinstance(value, Glob):
        node.globs = node.globs if node.globs is not None else {}
        node.globs[value] = child
    else:
        assert isinstance(value, str)
        if kind == LF and node.fold is None:
            node.fold = {}
        (node.lit if kind == L else node.fold)[value] = child  # type: ignore[index]
    return child


def _drop_child(node: Node[P], kind: int, value: str | Glob | None) -> None:
    if kind == ANY:
        node.any = None
    elif kind == ANYE:
        node.anye = None
    elif kind == DS:
        node.ds = None
    elif isinstance(value, Glob):
        assert node.globs is not None
        del node.globs[value]
        node.globs = node.globs or None
    elif kind == LF:
        assert node.fold is not None
        del node.fold[value]  # type: ignore[arg-type]
        node.fold = node.fold or None
    else:
        del node.lit[value]  # type: ignore[arg-type]


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
