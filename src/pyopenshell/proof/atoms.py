"""Strings against globs: one witness per distinguishable class of strings, by a product automaton over characters.

Needed where wildcards are more than `*` (classes, `?`, letter case) and for query values. Knows nothing of policies.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence
from typing import cast

from pyopenshell.policy.globs import FRESH, CharSet, Glob
from pyopenshell.proof.work import UndecidedError, Work

__all__ = [
    "ENCODED_SLASH",
    "Signature",
    "UndecidedError",
    "common_instances",
    "explore",
    "least",
    "meet",
    "minimal",
    "partition",
]

_READABLE = "xqzjkvwyabcdefghilmnoprstuXQZJKVWY0123456789_~!$&'()+,=:@-. /"
ENCODED_SLASH = "%2F"
Partition = tuple[tuple[frozenset[Glob], str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a string matches: globs, and the literal (exact, or in any letter case) that it equals."""

    globs: frozenset[Glob]
    literal: str | None = None
    fold: str | None = None

    def within(self, other: Signature) -> bool:
        """True when everything that this signature matches, the other matches too."""
        return self.globs <= other.globs and self.literal in (None, other.literal) and self.fold in (None, other.fold)


class _Machine:
    """Several globs as one nondeterministic automaton whose states are the bits of one integer."""

    __slots__ = ("_masks", "_sets", "_stars", "ends", "globs", "letters", "spans", "start", "weight")

    def __init__(self, globs: Sequence[Glob]) -> None:
        self.globs = tuple(globs)
        size = sum(len(glob.items) + 1 for glob in globs)
        self.weight = 1 + size // 1024
        """What a step of this automaton costs: its integers get longer."""
        places: dict[CharSet | None, bytearray] = {None: bytearray(size // 8 + 1)}
        self._masks: dict[str, int] = {}
        self.ends: list[int] = []
        self.spans: list[int] = []
        starts = offset = 0
        for glob in globs:
            starts |= 1 << offset
            for position, item in enumerate(glob.items, offset):
                if item not in places:
                    places[item] = bytearray(size // 8 + 1)
                places[item][position >> 3] |= 1 << (position & 7)
            self.ends.append(1 << (offset + len(glob.items)))
            self.spans.append(((1 << (len(glob.items) + 1)) - 1) << offset)
            offset += len(glob.items) + 1
        self._stars = int.from_bytes(places.pop(None), "little")
        self._sets = [(item, int.from_bytes(bits, "little")) for item, bits in places.items() if item is not None]
        self.start = self._close(starts)
        self.letters = self._alphabet()

    def _alphabet(self) -> list[str]:
        """One character per class that the globs can tell apart."""
        classes: dict[str, int] = {}
        for number, (charset, _) in enumerate(self._sets):
            for char in charset.chars:
                classes[char] = classes.get(char, 0) | 1 << number
        groups: dict[int, str] = {}
        for char in sorted(classes, key=lambda c: (not c.isalnum(), c)):
            groups.setdefault(classes[char], char)
        return sorted(groups.values())

    def _close(self, bits: int) -> int:
        while True:
            more = bits | (bits & self._stars) << 1
            if more == bits:
                return bits
            bits = more

    def move(self, bits: int, char: str) -> int:
        mask = self._masks.get(char)
        if mask is None:
            mask = 0
            for item, places in self._sets:
                if char in item:
                    mask |= places
            self._masks[char] = mask
        return self._close((bits & mask) << 1 | (bits & self._stars))


def _machine(globs: tuple[Glob, ...], work: Work) -> _Machine:
    key = ("machine", globs)
    found = work.memo.get(key)
    if found is None:
        work.spend(sum(len(glob.items) for glob in globs) * 2)
        found = work.memo[key] = _Machine(globs)
    return cast(_Machine, found)


def _prefixes(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:n] for word in words for n in range(len(word) + 1))


_State = tuple[int, str | None, str | None, bool]
"""(bits of the machine, the text while it may become a literal, the same in lower case, encoded slash seen)."""


class _Seen:
    """States that need no second look: seen before, or (`least`) dominated by one that matches less whatever follows.

    What the string must match in the end takes no part in that: there, more is better.
    """

    __slots__ = ("_known", "_least", "_must", "_weight", "_work")

    def __init__(self, must: int, weight: int, *, least: bool, work: Work) -> None:
        self._must, self._weight, self._least, self._work = must, weight, least, work
        self._known: dict[object, list[_State]] = {}

    def add(self, state: _State) -> bool:
        """Is this state news?"""
        key = (state[0] & self._must, state[3]) if self._least else state
        known = self._known.setdefault(key, [])
        if self._least:
            bits, literal, fold, _ = state
            self._work.spend(len(known) // 8 * self._weight)
            for other in known:
                if other[0] & bits == other[0] and other[1] in (None, literal) and other[2] in (None, fold):
                    return False
        elif known:
            return False
        known.append(state)
        return True


def explore(
    globs: Sequence[Glob],
    *,
    required: int = 0,
    literals: frozenset[str] = frozenset(),
    folds: frozenset[str] = frozenset(),
    fresh: str = FRESH,
    slash: bool = False,
    least: bool = False,
    work: Work,
) -> list[tuple[Signature, str]]:
    """Signatures of all strings matched by the first `required` globs, each with a shortest witness.

    With `slash`, only strings that contain an encoded slash. The empty string counts; a non-empty witness is
    preferred. With `least`, signatures that match more than another one may be missing. Raises UndecidedError.
    """
    machine = _machine(tuple(globs), work)
    letters = [fresh, *sorted(set(machine.letters).union(*literals, *folds))]
    if slash:
        letters.append(ENCODED_SLASH)
    work.spend(sum(len(word) * (1 + len(word) // 16) for word in (*literals, *folds)))
    exact, folded = _prefixes(literals), _prefixes(folds)
    must = machine.spans[:required]
    ending, every = sum(machine.ends[:required]), sum(machine.ends)
    start: _State = (machine.start, "" if exact else None, "" if folded else None, False)
    seen = _Seen(sum(must), machine.weight, least=least, work=work)
    todo = deque([(start, "")])
    found: dict[tuple[int, str | None, str | None], str] = {}
    while todo:
        (bits, literal, fold, has_slash), word = todo.popleft()
        if (has_slash or not slash) and bits & ending == ending:
            signature = (bits & every, literal if literal in literals else None, fold if fold in folds else None)
            if not found.get(signature):
                found[signature] = word
        work.spend(1 + len(letters) * machine.weight // 2)
        for letter in letters:
            after, text = bits, word + letter
            for char in letter:
                after = machine.move(after, char)
            if not all(after & span for span in must):
                continue
            low = text.lower() if fold is not None else None
            state = (
                after,
                text if literal is not None and text in exact else None,
                low if low in folded else None,
                has_slash or letter == ENCODED_SLASH,
            )
            if seen.add(state):
                todo.append((state, text))
    work.spend(len(found) * (1 + len(machine.globs) // 4))
    return [
        (Signature(frozenset(g for g, end in zip(machine.globs, machine.ends, strict=True) if ends & end), *rest), word)
        for (ends, *rest), word in found.items()
    ]


def minimal(found: Iterable[tuple[Signature, str]], work: Work) -> list[str]:
    """Witnesses of the signatures that match least: the others are dominated by them."""
    kept: list[tuple[Signature, str]] = []
    for signature, word in sorted(found, key=lambda pair: (len(pair[0].globs), len(pair[1]), pair[1])):
        work.spend(1 + len(kept))
        if not any(other.within(signature) for other, _ in kept):
            kept = [pair for pair in kept if not signature.within(pair[0])]
            kept.append((signature, word))
    return [word for _, word in kept]


def least(
    globs: tuple[Glob, ...],
    required: int,
    work: Work,
    *,
    literals: frozenset[str] = frozenset(),
    folds: frozenset[str] = frozenset(),
    slash: bool = False,
) -> list[str]:
    """Non-empty strings in the first `required` globs that match least of the others and of the literals."""
    key = ("least", globs, required, literals, folds, slash)
    known = work.memo.get(key)
    if known is None:
        found = explore(globs, required=required, literals=literals, folds=folds, slash=slash, least=True, work=work)
        known = work.memo[key] = minimal(((signature, word) for signature, word in found if word), work)
    return cast(list[str], known)


def meet(globs: Sequence[Glob], work: Work) -> bool:
    """Is there a non-empty string in all globs?"""
    if len(globs) == 2 and all(glob.plain and len(glob.parts) > 1 for glob in globs):
        # What stands between two stars can always follow what the other glob has there.
        (first, *_, last), (prefix, *_, suffix) = globs[0].parts, globs[1].parts
        return (first.startswith(prefix) or prefix.startswith(first)) and (
            last.endswith(suffix) or suffix.endswith(last)
        )
    machine = _machine(tuple(globs), work)
    ending = sum(machine.ends)
    todo, seen = [machine.start], {machine.start}
    while todo:
        bits = todo.pop()
        for letter in (FRESH, *machine.letters):
            work.spend(machine.weight)
            after = machine.move(bits, letter)
            if after & ending == ending:
                return True
            if after not in seen and all(after & span for span in machine.spans):
                seen.add(after)
                todo.append(after)
    return False


def partition(globs: tuple[Glob, ...], work: Work) -> Partition:
    """The value space of one query key cut by the given globs: (globs matched, readable witness)."""
    key = ("partition", globs)
    known = work.memo.get(key)
    if known is None:
        used = {char for glob in globs for item in glob.items if item is not None for char in item.chars}
        fresh = next(c for c in _READABLE + FRESH if c not in used)
        found = explore(globs, fresh=fresh, work=work)
        known = work.memo[key] = tuple((signature.globs, word) for signature, word in found)
    return cast(Partition, known)


def common_instances(globs: tuple[Glob, ...], work: Work, *, slash: bool = False) -> list[str]:
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
        return least(globs, len(globs), work, slash=True)
    key = ("meet", globs)
    known = work.memo.get(key)
    if known is None:
        known = work.memo[key] = _meet(globs, work)
    return cast(list[str], known)


def _meet(globs: Sequence[Glob], work: Work) -> list[str]:
    sizes = [len(glob.items) for glob in globs]
    start = tuple(0 for _ in globs)
    todo = deque([(start, "")])
    seen = {(start, "")}
    out: set[str] = set()

    def push(positions: tuple[int, ...], word: str) -> None:
        # No word gets longer than all globs together: each character moves one of them, and gaps never stand in a row.
        if (positions, word) not in seen:
            work.spend(len(sizes) + len(word) // 8)
            seen.add((positions, word))
            todo.append((positions, word))

    while todo:
        positions, word = todo.popleft()
        if all(p == size for p, size in zip(positions, sizes, strict=True)):
            out.add(word)
            continue
        work.spend(2 * len(sizes))
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
