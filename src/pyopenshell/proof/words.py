"""Generic instances (proof.md 3.1): the words of a pattern that match as little else as possible.

Walks left patterns together with the state set of a trie. Knows nothing of rules; a word is a list of segments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pyopenshell.policy.globs import ANY, ANYE, DS, FRESH, LF, CharSet, G, Glob, L, Token
from pyopenshell.policy.tries import Node, P, States, Trie, accepted, closure, step
from pyopenshell.proof.atoms import ENCODED_SLASH, UndecidedError, common_instances, explore, minimal

Tokens = tuple[Token, ...]
_BUDGET = 50_000


def folded_literal(text: str) -> Glob:
    """The glob of a literal in any letter case."""
    return Glob(text, tuple(CharSet(frozenset(c)).folded() for c in text))


def symbols(current: Sequence[Token], states: States[P], *, slash: bool = False) -> list[str]:
    """Non-empty segments that all `current` tokens accept and that match least of what `states` wait for.

    With `slash`, only segments that contain an encoded slash. Literals are returned whatever they contain.
    """
    literal: str | None = None
    globs: list[Glob] = []
    for kind, value in current:
        if kind == L and isinstance(value, str):
            if literal is not None and literal != value:
                return []
            literal = value
        elif kind == G and isinstance(value, Glob):
            globs.append(value)
        elif kind == LF and isinstance(value, str):
            globs.append(folded_literal(value))
    if literal is not None:
        free = any(kind in (ANY, DS) for kind, _ in current)
        if slash or (free and not literal) or not all(glob.match(literal) for glob in globs):
            return []
        return [literal]
    globs = list(dict.fromkeys(globs))
    waiting = list(dict.fromkeys(glob for node in states for glob in (node.globs or ())))
    if all(glob.plain for glob in globs) and all(glob.plain for glob in waiting):
        if globs:
            return common_instances(globs, slash=slash)
        return [FRESH + ENCODED_SLASH + FRESH] if slash else [FRESH]
    return _complex_symbols(globs, waiting, states, slash=slash)


def _complex_symbols(left: list[Glob], waiting: list[Glob], states: States[P], *, slash: bool) -> list[str]:
    every = left + [glob for glob in waiting if glob not in left]
    known = {char for glob in every for item in glob.items if item is not None for char in item.chars}
    # A literal with a character that no glob mentions is never the least matching segment: the same segment with a
    # fresh character in its place matches the same globs and no literal.
    literals = frozenset(
        text
        for node in states
        for text in node.lit
        if text and known.issuperset(text) and all(g.match(text) for g in left)
    )
    folds = frozenset(text for node in states for text in (node.fold or ()) if known.issuperset(text))
    found = explore(every, required=len(left), literals=literals, folds=folds, slash=slash)
    return minimal((signature, word) for signature, word in found if word)


def walk(
    lefts: Sequence[Tokens], right: States[P], *, slash: bool = False, empty: bool = True
) -> Iterator[tuple[list[str], States[P]]]:
    """All generic words of the intersection of `lefts`, with the states of `right` after each; shortest first.

    `slash` adds words in which one free segment holds an encoded slash; `empty` (paths, not binaries and hosts) lets
    a last `*` be empty where that matches less. Raises UndecidedError.
    """
    if len(lefts) == 1 and not slash and all(kind != DS for kind, _ in lefts[0]):
        yield from _straight(lefts[0], right, empty=empty)
        return
    count = len(lefts)
    start = (tuple(0 for _ in lefts), False)
    todo: deque[tuple[tuple[tuple[int, ...], bool], States[P], list[str]]] = deque([(start, right, [])])
    seen = {(start, frozenset(right))}
    while todo:
        (at, slashed), states, word = todo.popleft()
        for positions in _skips(lefts, at):
            ended = [positions[k] == len(lefts[k]) for k in range(count)]
            if all(ended):
                yield word, states
            if any(ended):
                continue
            current = [lefts[k][positions[k]] for k in range(count)]
            following = tuple(p if token[0] == DS else p + 1 for p, token in zip(positions, current, strict=True))
            choices = [(symbol, slashed) for symbol in symbols(current, states)]
            if slash and not slashed:
                choices += [(symbol, True) for symbol in symbols(current, states, slash=True)]
            if empty and all(kind == ANYE for kind, _ in current):
                choices.append(("", slashed))
            for symbol, now_slashed in choices:
                after = step(states, symbol)
                key = ((following, now_slashed), frozenset(after))
                if key not in seen:
                    seen.add(key)
                    if len(seen) > _BUDGET:
                        raise UndecidedError("too many generic words")
                    todo.append(((following, now_slashed), after, [*word, symbol]))


def _skips(lefts: Sequence[Tokens], at: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Positions reached by letting `**` be empty, furthest first."""
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


def _straight(tokens: Tokens, right: States[P], *, empty: bool) -> Iterator[tuple[list[str], States[P]]]:
    """One pattern without `**`: a single generic word, unless classes or an empty last segment split it."""
    branches: list[tuple[list[str], States[P]]] = [([], right)]
    for position, token in enumerate(tokens):
        grown: list[tuple[list[str], States[P]]] = []
        for word, states in branches:
            here = [([*word, s], step(states, s)) for s in symbols([token], states)]
            if empty and token[0] == ANYE and position == len(tokens) - 1:
                bare = step(states, "")
                least = set(map(id, accepted(bare)))
                if all(not least.issuperset(map(id, accepted(after))) for _, after in here):
                    here.append(([*word, ""], bare))
            grown += here
        branches = grown
        if len(branches) > _BUDGET:
            raise UndecidedError("too many generic words")
    yield from branches


def subset(small: Tokens, big: Tokens, *, empty: bool = True) -> bool:
    """Is every word of one pattern a word of the other?"""
    trie: Trie[bool] = Trie()
    trie.add(big, True)
    return all(accepted(states) for _, states in walk([small], closure([trie.root]), empty=empty))


def overlaps(root: Node[P], tokens: Tokens) -> list[P]:
    """Payloads of all patterns below `root` that share a word with the pattern."""
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
        push(node.ds, position)
        if position == len(tokens):
            for payload in node.end or ():
                found[id(payload)] = payload
            continue
        kind, value = tokens[position]
        following = position if kind == DS else position + 1
        if kind == DS:
            push(node, position + 1)
        for child in _meeting(node, (kind, value)):
            push(child, following)
    return list(found.values())


def _meeting(node: Node[P], token: Token) -> Iterator[Node[P]]:
    """Children (and a looping node itself) that can consume a segment together with the token."""
    kind, value = token
    if kind == L and isinstance(value, str):
        yield from step_one(node, value)
        return
    for text, child in node.lit.items():
        if (text and _accepts(token, text)) or (not text and kind == ANYE):
            yield child
    for text, child in (node.fold or {}).items():
        if kind not in (G, LF) or symbols([token, (LF, text)], {}):
            yield child
    for glob, child in (node.globs or {}).items():
        if kind not in (G, LF) or symbols([token, (G, glob)], {}):
            yield child
    if node.any is not None:
        yield node.any
    if node.anye is not None:
        yield node.anye
    if node.loops:
        yield node


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
