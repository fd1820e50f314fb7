"""Strings against globs: one witness per distinguishable class of strings, by a product automaton over characters.

Needed where wildcards are more than `*` (classes, `?`, letter case) and for query values. Knows nothing of policies.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Sequence

from pyopenshell.policy.globs import FRESH, Glob

_BUDGET = 20_000
_READABLE = "xqzjkvwyabcdefghilmnoprstuXQZJKVWY0123456789_~!$&'()+,=:@-. /"
ENCODED_SLASH = "%2F"


class UndecidedError(Exception):
    """A search outgrew its budget: callers must treat the question as not proven."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a string matches: globs, and the literal (exact, or in any letter case) that it equals."""

    globs: frozenset[Glob]
    literal: str | None = None
    fold: str | None = None

    def within(self, other: Signature) -> bool:
        """True when everything that this signature matches, the other matches too."""
        return self.globs <= other.globs and self.literal in (None, other.literal) and self.fold in (None, other.fold)


def _advance(glob: Glob, bits: int, char: str) -> int:
    out = 0
    for position, item in enumerate(glob.items):
        if bits >> position & 1:
            if item is None:
                out |= 1 << position
            elif char in item:
                out |= 1 << (position + 1)
    return _close(glob, out)


def _close(glob: Glob, bits: int) -> int:
    for position, item in enumerate(glob.items):
        if item is None and bits >> position & 1:
            bits |= 1 << (position + 1)
    return bits


def _alphabet(globs: Sequence[Glob], words: Iterable[str], fresh: str) -> list[str]:
    """One character per class that the globs can tell apart, all characters of `words`, and `fresh`."""
    sets = list(dict.fromkeys(item for glob in globs for item in glob.items if item is not None))
    groups: dict[tuple[bool, ...], str] = {}
    for char in sorted(set().union(*(s.chars for s in sets)), key=lambda c: (not c.isalnum(), c)):
        groups.setdefault(tuple(char in s for s in sets), char)
    return [*sorted(set(groups.values()).union(*words)), fresh]


def _prefixes(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:n] for word in words for n in range(len(word) + 1))


def explore(
    globs: Sequence[Glob],
    *,
    required: int = 0,
    literals: frozenset[str] = frozenset(),
    folds: frozenset[str] = frozenset(),
    fresh: str = FRESH,
    slash: bool = False,
) -> list[tuple[Signature, str]]:
    """Signatures of all strings matched by the first `required` globs, each with a shortest witness.

    With `slash`, only strings that contain an encoded slash. The empty string counts; a non-empty witness is
    preferred. Raises UndecidedError.
    """
    letters = _alphabet(globs, [*literals, *folds], fresh)
    if slash:
        letters.append(ENCODED_SLASH)
    exact, folded = _prefixes(literals), _prefixes(folds)
    start = (tuple(_close(g, 1) for g in globs), "" if exact else None, "" if folded else None, False)
    seen = set()
    todo = deque([(start, "")])
    found: dict[Signature, str] = {}
    while todo:
        (bits, literal, fold, has_slash), word = todo.popleft()
        if has_slash or not slash:
            ends = [bool(b >> len(g.items) & 1) for g, b in zip(globs, bits, strict=True)]
            if all(ends[:required]):
                signature = Signature(
                    frozenset(g for g, end in zip(globs, ends, strict=True) if end),
                    literal if literal in literals else None,
                    fold if fold in folds else None,
                )
                if not found.get(signature):
                    found[signature] = word
        for letter in letters:
            after, text = bits, word + letter
            for char in letter:
                after = tuple(_advance(g, b, char) for g, b in zip(globs, after, strict=True))
            if not all(after[:required]):
                continue
            state = (
                after,
                text if text in exact else None,
                text.lower() if text.lower() in folded else None,
                has_slash or letter == ENCODED_SLASH,
            )
            if state not in seen:
                seen.add(state)
                if len(seen) > _BUDGET:
                    raise UndecidedError("too many distinguishable strings")
                todo.append((state, text))
    return list(found.items())


def minimal(found: Iterable[tuple[Signature, str]]) -> list[str]:
    """Witnesses of the signatures that match least: the others are dominated by them."""
    kept: list[tuple[Signature, str]] = []
    for signature, word in sorted(found, key=lambda pair: (len(pair[0].globs), len(pair[1]), pair[1])):
        if not any(other.within(signature) for other, _ in kept):
            kept = [pair for pair in kept if not signature.within(pair[0])]
            kept.append((signature, word))
    return [word for _, word in kept]


@functools.lru_cache(maxsize=20_000)
def partition(globs: tuple[Glob, ...]) -> tuple[tuple[frozenset[Glob], str], ...]:
    """The value space of one query key cut by the given globs: (globs matched, readable witness)."""
    used = {char for glob in globs for item in glob.items if item is not None for char in item.chars}
    fresh = next(c for c in _READABLE + FRESH if c not in used)
    return tuple((signature.globs, word) for signature, word in explore(globs, fresh=fresh))


def common_instances(globs: Sequence[Glob], *, slash: bool = False) -> list[str]:
    """Generic instances of the intersection of plain globs: literal parts as they are, FRESH in the gaps.

    With `slash`, instances in which one gap holds an encoded slash. Raises UndecidedError.
    """
    if len(globs) == 1:
        parts = globs[0].parts
        if not slash:
            return [FRESH.join(parts)]
        gap = FRESH + ENCODED_SLASH + FRESH
        return [FRESH.join(parts[:i]) + gap + FRESH.join(parts[i:]) for i in range(1, len(parts))]
    if slash:
        return minimal(explore(globs, required=len(globs), slash=True))
    return _meet(globs)


def _meet(globs: Sequence[Glob]) -> list[str]:
    sizes = [len(glob.items) for glob in globs]
    start = tuple(0 for _ in globs)
    todo = deque([(start, "")])
    seen = {(start, "")}
    out: set[str] = set()

    def push(positions: tuple[int, ...], word: str) -> None:
        if (positions, word) not in seen and len(word) <= 200:
            seen.add((positions, word))
            if len(seen) > _BUDGET:
                raise UndecidedError("intersection of globs")
            todo.append((positions, word))

    while todo:
        positions, word = todo.popleft()
        if all(p == size for p, size in zip(positions, sizes, strict=True)):
            out.add(word)
            continue
        current = [g.items[p] if p < n else None for g, p, n in zip(globs, positions, sizes, strict=True)]
        ended = [p == n for p, n in zip(positions, sizes, strict=True)]
        for k, item in enumerate(current):
            if item is None and not ended[k]:
                push((*positions[:k], positions[k] + 1, *positions[k + 1 :]), word)
        if any(ended):
            continue
        wanted = {char for item in current if item is not None for char in item.chars}
        if len(wanted) > 1:
            continue
        if wanted:
            moved = tuple(p + (item is not None) for p, item in zip(positions, current, strict=True))
            push(moved, word + next(iter(wanted)))
        elif not word.endswith(FRESH):
            push(positions, word + FRESH)
    return sorted(out, key=lambda w: (len(w), w))
