"""How broad a region is: the number of paths it has in a model universe. A reviewer's aid, never the verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

from pyopenshell.policy.globs import ANY, ANYE, DS, FRESH, LF, G, Glob, L
from pyopenshell.policy.tries import Node, Trie, accepted, closure, step
from pyopenshell.proof.words import Tokens
from pyopenshell.proof.work import UndecidedError, Work

DEPTH = 6
"""Segments of the longest path in the model universe."""
FREE_NAMES = 1000
"""Names, beside those the patterns mention, that a free segment can have: each free segment adds 3 to the breadth."""

_MAX_STATES = 100
"""Automaton states per level beyond which carve-outs are left out: the number is then an upper bound."""

_Positions = frozenset[int]


def _simplified(tokens: Tokens) -> Tokens:
    """Classes and letter case are counted as free segments: an upper bound."""
    return tuple(
        (ANY, None) if kind == LF or (isinstance(v, Glob) and not v.plain) else (kind, v) for kind, v in tokens
    )


def _exact(tokens: Tokens) -> bool:
    return tokens == _simplified(tokens)


def _close(tokens: Tokens, positions: Iterable[int]) -> _Positions:
    out: set[int] = set()
    for position in positions:
        out.add(position)
        while position < len(tokens) and tokens[position][0] == DS:
            position += 1
            out.add(position)
    return frozenset(out)


def _advance(tokens: Tokens, positions: _Positions, segment: str) -> _Positions:
    out = set()
    for position in positions:
        if position == len(tokens):
            continue
        kind, value = tokens[position]
        if kind == DS and segment:
            out.add(position)
        elif (
            (kind == L and value == segment)
            or (kind == ANY and segment)
            or kind == ANYE
            or (isinstance(value, Glob) and segment and value.match(segment))
        ):
            out.add(position + 1)
    return _close(tokens, out)


def breadth(
    patterns: Sequence[Tokens],
    avoid: Sequence[Tokens],
    work: Work,
    depth: int = DEPTH,
    names: int = FREE_NAMES,
) -> float:
    """log10 of the number of paths in all `patterns` and in none of `avoid`; -inf when there are none.

    Where `work` does not suffice, that of all paths there are.

    Universe: up to `depth` segments, each a literal that the patterns mention, one instance of each partial glob,
    or one of `names` others; with or without a trailing slash. Exact there, by dynamic programming.
    """
    try:
        total = _count(patterns, avoid, work, depth, names)
    except UndecidedError:
        return _everything(depth, names)
    return math.log10(total) if total else -math.inf


@functools.cache
def _everything(depth: int, names: int) -> float:
    return math.log10(sum((2 if level else 1) * (names + 1) ** level for level in range(depth + 1)))


def _count(patterns: Sequence[Tokens], avoid: Sequence[Tokens], work: Work, depth: int, names: int) -> int:
    lefts = [_simplified(p) for p in patterns] or [((DS, None), (ANYE, None))]
    avoided = [p for p in avoid if _exact(p)]
    trie: Trie[bool] = Trie()
    for pattern in avoided:
        trie.add(pattern, True)
    literals = {v for p in (*lefts, *avoided) for kind, v in p if kind == L and isinstance(v, str) and v}
    instances = {FRESH.join(v.parts) for p in (*lefts, *avoided) for _, v in p if isinstance(v, Glob)}
    named = literals | instances
    start = (tuple(_close(p, (0,)) for p in lefts), frozenset(closure([trie.root])))
    current: dict[tuple[tuple[_Positions, ...], frozenset[Node[bool]]], int] = {start: 1}
    total = 0
    for level in range(depth + 1):
        following: dict[tuple[tuple[_Positions, ...], frozenset[Node[bool]]], int] = {}
        for (at, right), number in current.items():
            if level and _done(lefts, at) and not accepted(right):
                total += number
            bare = tuple(_advance(p, positions, "") for p, positions in zip(lefts, at, strict=True))
            if _done(lefts, bare) and not accepted(step(right, "")):
                total += number
            if level == depth:
                continue
            alive = sum(map(len, at)) + len(right)
            work.spend(4 * alive + sum(len(node.lit) + len(node.globs or ()) for node in right) + len(named))
            relevant = _relevant(lefts, at, right, named)
            choices = [(name, 1) for name in sorted(relevant)] + [(FRESH, names + len(named) - len(relevant))]
            for name, times in choices:
                work.spend(alive)
                moved = tuple(_advance(p, positions, name) for p, positions in zip(lefts, at, strict=True))
                if all(moved):
                    key = (moved, frozenset(step(right, name)))
                    following[key] = following.get(key, 0) + number * times
        if len(following) > _MAX_STATES and avoid:
            return _count(patterns, (), work, depth, names)
        current = following
    return total


def _done(lefts: Sequence[Tokens], at: Sequence[_Positions]) -> bool:
    return all(len(p) in positions for p, positions in zip(lefts, at, strict=True))


def _relevant(
    lefts: Sequence[Tokens], at: Sequence[_Positions], right: Iterable[Node[bool]], named: set[str]
) -> set[str]:
    """Names that can behave differently from a fresh one here."""
    words: set[str] = set()
    globs: set[Glob] = set()
    for tokens, positions in zip(lefts, at, strict=True):
        for position in positions:
            if position < len(tokens):
                kind, value = tokens[position]
                if kind == L and isinstance(value, str):
                    words.add(value)
                elif kind == G and isinstance(value, Glob):
                    globs.add(value)
    for node in right:
        words.update(node.lit)
        globs.update(node.globs or ())
    words |= {name for name in named if any(glob.match(name) for glob in globs)}
    return (words & named) - {""}
