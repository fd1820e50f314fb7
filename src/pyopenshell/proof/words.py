"""Generic instances (proof.md 3.1): the words of a pattern that match as little else as possible.

Walks left patterns together with the state set of a trie. Knows nothing of rules; a word is a list of segments.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, cast

from pyopenshell.policy.globs import ANY, ANYE, DS, FRESH, LF, CharSet, G, Glob, L, Token, spelling
from pyopenshell.policy.tries import Node, P, States, Trie, accepted, closure, step
from pyopenshell.proof.atoms import ENCODED_SLASH, common_instances, least, meet
from pyopenshell.proof.work import Work

Tokens = tuple[Token, ...]
Sides = tuple[States[P], States[P], States[P]]
"""Nodes of both sides, of the left one alone, of the right one alone."""


def folded_literal(text: str) -> Glob:
    """The glob of a literal in any letter case."""
    return Glob(text, tuple(CharSet(frozenset(c)).folded() for c in text))


class State(Generic[P]):
    """A set of trie nodes on each of two sides; `bits` is the same as an integer, so that "part of" is one comparison.

    What both sides have stands in `sides[0]` only, what one of them has in `sides[1]` or `sides[2]`.
    """

    __slots__ = ("_globs", "_moves", "_symbols", "bits", "found", "nodes", "sides")

    def __init__(self, sides: Sides[P], bits: int) -> None:
        self.sides, self.bits = sides, bits
        self.nodes: list[Node[P]] = list(itertools.chain(*sides))
        self.found: list[P] = accepted(self.nodes)
        """Of either side."""
        self._globs: list[Glob] | None = None
        self._moves: dict[str, State[P]] = {}
        self._symbols: dict[object, list[str]] = {}

    @property
    def globs(self) -> list[Glob]:
        """What the nodes wait for."""
        if self._globs is None:
            globs = {glob for node in self.nodes for glob in (node.globs or ())}
            self._globs = sorted(globs, key=spelling) if len(globs) > 1 else list(globs)
        return self._globs

    def of(self, side: int) -> list[P]:
        """What is found on side 1 or 2."""
        return accepted(itertools.chain(self.sides[0], self.sides[side]))


class Union(Generic[P]):
    """A union of patterns made deterministic as far as somebody walked it. One per question and evaluation."""

    __slots__ = ("_numbers", "_states", "start", "work")

    def __init__(
        self, nodes: States[P], work: Work, left: States[P] | None = None, right: States[P] | None = None
    ) -> None:
        self.work = work
        self._numbers: tuple[dict[Node[P], int], ...] = ({}, {}, {})
        self._states: dict[int, State[P]] = {}
        self.start = self._state((nodes, left or {}, right or {}))

    def _state(self, sides: Sides[P]) -> State[P]:
        bits = 0
        for side, (nodes, numbers) in enumerate(zip(sides, self._numbers, strict=True)):
            for node in nodes:
                bits |= 1 << (3 * numbers.setdefault(node, len(numbers)) + side)
        state = self._states.get(bits)
        if state is None:
            state = self._states[bits] = State(sides, bits)
            self.work.spend(1 + (len(state.nodes) + len(state.found)) // 4)
        return state

    def move(self, state: State[P], segment: str) -> State[P]:
        following = state._moves.get(segment)
        if following is None:
            plain = 1 + len(segment) // 16
            globs = sum(plain if g.plain else 1 + len(segment) for g in state.globs)
            self.work.spend(1 + (len(state.nodes) + globs) // 2)
            following = state._moves[segment] = self._state(
                (step(state.sides[0], segment), step(state.sides[1], segment), step(state.sides[2], segment))
            )
        return following

    def symbols(self, current: Sequence[Token], state: State[P], *, slash: bool = False) -> list[str]:
        """Non-empty segments that all `current` tokens accept and that match least of what `state` waits for.

        With `slash`, only segments that contain an encoded slash. Literals are returned whatever they contain.
        """
        key = (tuple(current), slash)
        found = state._symbols.get(key)
        if found is None:
            found = state._symbols[key] = self._least(current, state, slash=slash)
        return found

    def _least(self, current: Sequence[Token], state: State[P], *, slash: bool) -> list[str]:
        wanted = common(current)
        if wanted is None:
            return []
        literal, globs = wanted
        if literal is not None:
            free = any(kind in (ANY, DS) for kind, _ in current)
            if slash or (free and not literal) or not all(glob.match(literal) for glob in globs):
                return []
            return [literal]
        self.work.spend(1 + len(globs) + len(state.globs))
        if all(glob.plain for glob in globs) and all(glob.plain for glob in state.globs):
            if globs:
                return common_instances(globs, self.work, slash=slash)
            return [FRESH + ENCODED_SLASH + FRESH] if slash else [FRESH]
        every = tuple(dict.fromkeys((*globs, *state.globs)))
        known = {char for glob in every for item in glob.items if item is not None for char in item.chars}
        literals = [text for node in state.nodes for text in node.lit]
        self.work.spend(len(state.nodes) + sum(1 + len(text) // 8 for text in literals))
        # A literal with a character that no glob mentions is never the least matching segment: the same segment with
        # a fresh character in its place matches the same globs and no literal.
        exact = frozenset(
            text for text in literals if text and known.issuperset(text) and all(g.match(text) for g in globs)
        )
        folds = frozenset(text for node in state.nodes for text in (node.fold or ()) if known.issuperset(text))
        return least(every, len(globs), self.work, literals=exact, folds=folds, slash=slash)

    def walk(
        self, lefts: Sequence[Tokens], *, slash: bool = False, empty: bool = True
    ) -> Iterator[tuple[list[str], State[P]]]:
        """The generic words of the intersection of `lefts`, with the state of the union after each; shortest first.

        `slash` adds words in which one free segment holds an encoded slash; `empty` (paths, not binaries and hosts)
        lets a last `*` be empty where that matches less. A word that surely matches all that an earlier one matches is
        left out: it can show nothing that the earlier one does not. Raises UndecidedError.
        """
        if len(lefts) == 1 and not slash and all(kind != DS for kind, _ in lefts[0]):
            yield from self._straight(lefts[0], empty=empty)
            return
        count = len(lefts)
        at = (tuple(0 for _ in lefts), False)
        todo: deque[tuple[tuple[tuple[int, ...], bool], State[P], list[str]]] = deque([(at, self.start, [])])
        seen: dict[tuple[tuple[int, ...], bool], list[int]] = {at: [self.start.bits]}
        while todo:
            (positions_so_far, slashed), state, word = todo.popleft()
            for positions in _skips(lefts, positions_so_far):
                self.work.spend(2 * count)
                ended = [positions[k] == len(lefts[k]) for k in range(count)]
                if all(ended):
                    yield word, state
                if any(ended):
                    continue
                current = [lefts[k][positions[k]] for k in range(count)]
                following = tuple(p if token[0] == DS else p + 1 for p, token in zip(positions, current, strict=True))
                choices = [(symbol, slashed) for symbol in self.symbols(current, state)]
                if slash and not slashed:
                    choices += [(symbol, True) for symbol in self.symbols(current, state, slash=True)]
                if empty and all(kind == ANYE for kind, _ in current):
                    choices.append(("", slashed))
                for symbol, now_slashed in choices:
                    self.work.spend(1 + len(word) // 8)
                    after = self.move(state, symbol)
                    at = (following, now_slashed)
                    if self._news(seen.setdefault(at, []), after.bits):
                        todo.append((at, after, [*word, symbol]))

    def _news(self, known: list[int], bits: int) -> bool:
        self.work.spend(1 + len(known) // 16)
        if any(other & bits == other for other in known):
            return False
        known.append(bits)
        return True

    def _straight(self, tokens: Tokens, *, empty: bool) -> Iterator[tuple[list[str], State[P]]]:
        """One pattern without `**`: a single generic word, unless classes or an empty last segment split it."""
        branches: list[tuple[list[str], State[P]]] = [([], self.start)]
        for position, token in enumerate(tokens):
            grown: list[tuple[list[str], State[P]]] = []
            seen: list[int] = []
            for word, state in branches:
                self.work.spend(1 + len(word) // 8)
                here = [([*word, s], self.move(state, s)) for s in self.symbols([token], state)]
                if empty and token[0] == ANYE and position == len(tokens) - 1:
                    bare = self.move(state, "")
                    matched = set(map(id, bare.found))
                    if all(not matched.issuperset(map(id, after.found)) for _, after in here):
                        here.append(([*word, ""], bare))
                grown += [(longer, after) for longer, after in here if self._news(seen, after.bits)]
            branches = grown
        yield from branches


def common(current: Sequence[Token]) -> tuple[str | None, tuple[Glob, ...]] | None:
    """What one segment must be for all tokens: a literal (or None) and globs; None where two literals differ."""
    literal: str | None = None
    globs: list[Glob] = []
    for kind, value in current:
        if kind == L and isinstance(value, str):
            if literal is not None and literal != value:
                return None
            literal = value
        elif kind == G and isinstance(value, Glob):
            globs.append(value)
        elif kind == LF and isinstance(value, str):
            globs.append(folded_literal(value))
    return literal, tuple(dict.fromkeys(globs))


def walk(
    lefts: Sequence[Tokens], right: States[P], work: Work, *, slash: bool = False, empty: bool = True
) -> Iterator[tuple[list[str], State[P]]]:
    """`Union.walk` over a union that is needed once."""
    return Union(right, work).walk(lefts, slash=slash, empty=empty)


def _skips(lefts: Sequence[Tokens], at: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Positions reached by letting `**` be empty, furthest first."""
    if all(p == len(tokens) or tokens[p][0] != DS for p, tokens in zip(at, lefts, strict=True)):
        return [at]
    todo, out = [at], {at}
    while todo:
        positions = todo.pop()
        for k, tokens in enumerate(lefts):
            p = positions[k]
            if p < len(tokens) and tokens[p][0] == DS:
                skipped = (*positions[:k], p + 1, *positions[k + 1 :])
                if skipped not in out:
                    out.add(skipped)
                    todo.append(skipped)
    return sorted(out, reverse=True)


def subset(small: Tokens, big: Tokens, work: Work, *, empty: bool = True) -> bool:
    """Is every word of one pattern a word of the other?"""
    if small == big:
        return True
    key = ("subset", small, big, empty)
    known = work.memo.get(key)
    if known is None:
        trie: Trie[bool] = Trie()
        trie.add(big, True)
        work.spend(len(small) + len(big))
        known = all(state.found for _, state in walk([small], closure([trie.root]), work, empty=empty))
        work.memo[key] = known
    return cast(bool, known)


def overlaps(root: Node[P], tokens: Tokens, work: Work) -> list[P]:
    """Payloads of all patterns below `root` that share a word with the pattern."""
    key = ("overlaps", root, tokens)
    known = work.memo.get(key)
    if known is None:
        known = work.memo[key] = _overlaps(root, tokens, work)
    work.spend()
    return cast(list[P], known)


def _overlaps(root: Node[P], tokens: Tokens, work: Work) -> list[P]:
    found: dict[int, P] = {}
    start = (root, 0)
    seen: set[tuple[Node[P], int]] = {start}
    todo = [start]

    def push(node: Node[P] | None, position: int) -> None:
        if node is not None and (node, position) not in seen:
            seen.add((node, position))
            todo.append((node, position))

    while todo:
        node, position = todo.pop()
        work.spend(2)
        push(node.ds, position)
        if position == len(tokens):
            for payload in node.end or ():
                work.spend()
                found[id(payload)] = payload
            continue
        kind, value = tokens[position]
        following = position if kind == DS else position + 1
        if kind == DS:
            push(node, position + 1)
        for child in _meeting(node, (kind, value), work):
            work.spend()
            push(child, following)
    return list(found.values())


def lookup_steps(root: Node[P], word: Sequence[str], work: Work) -> None:
    """Spend what the engine may have to look at for one word below `root`, whether or not it remembers the answer."""
    key = ("lookup", root, tuple(word))
    if key in work.memo:
        return
    states = closure([root])
    for segment in word:
        work.spend(1 + sum(1 + len(node.globs or ()) for node in states))
        states = step(states, segment)
    work.memo[key] = True


def _meeting(node: Node[P], token: Token, work: Work) -> Iterator[Node[P]]:
    """Children (and a looping node itself) that can consume a segment together with the token."""
    kind, value = token
    if kind == L and isinstance(value, str):
        yield from step_one(node, value)
        return
    work.spend(len(node.lit) + len(node.fold or ()) + len(node.globs or ()))
    for text, child in node.lit.items():
        if (text and _accepts(token, text)) or (not text and kind == ANYE):
            yield child
    for text, child in (node.fold or {}).items():
        if kind not in (G, LF) or _meet(token, (LF, text), work):
            yield child
    for glob, child in (node.globs or {}).items():
        if kind not in (G, LF) or _meet(token, (G, glob), work):
            yield child
    if node.any is not None:
        yield node.any
    if node.anye is not None:
        yield node.anye
    if node.loops:
        yield node


def _meet(one: Token, other: Token, work: Work) -> bool:
    """Is there a segment for both? Neither of them is a plain literal."""
    key = ("meet", one, other)
    known = work.memo.get(key)
    if known is None:
        wanted = common((one, other))
        globs = wanted[1] if wanted is not None else ()
        known = work.memo[key] = meet(globs, work)
    return cast(bool, known)


def _accepts(token: Token, text: str) -> bool:
    kind, value = token
    if isinstance(value, Glob):
        return value.match(text)
    return kind != LF or text.lower() == value


def step_one(node: Node[P], segment: str) -> Iterator[Node[P]]:
    """Direct successors of one node for one segment, without following `**`."""
    child = node.lit.get(segment)
    if child is not None:
        yield child
    if segment:
        if node.loops:
            yield node
        if node.any is not None:
            yield node.any
        for glob, matched in (node.globs or {}).items():
            if glob.match(segment):
                yield matched
        if node.fold is not None and segment.lower() in node.fold:
            yield node.fold[segment.lower()]
    if node.anye is not None:
        yield node.anye
