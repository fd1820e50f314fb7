"""The query dimension (proof.md 3.4): is there a query that one set of matchers permits and another does not?

At a fixed path the question is propositional over classes of values. Knows nothing of paths and hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyopenshell.policy.globs import Glob, value_glob
from pyopenshell.policy.query import Conditions
from pyopenshell.proof.atoms import partition
from pyopenshell.proof.sorts import space
from pyopenshell.proof.work import Work

Query = tuple[tuple[str, tuple[str, ...]], ...]
Mask = frozenset[int]
Masks = dict[str, Mask]


class _State:
    """A partial query: per key the value classes still allowed, sets that must be hit, presence."""

    __slots__ = ("absent", "allowed", "hits", "present")

    def __init__(
        self, allowed: Masks, hits: dict[str, tuple[Mask, ...]], present: frozenset[str], absent: frozenset[str]
    ) -> None:
        self.allowed, self.hits, self.present, self.absent = allowed, hits, present, absent

    def feasible(self) -> bool:
        for key, allowed in self.allowed.items():
            hits = self.hits.get(key, ())
            needed = key in self.present or bool(hits)
            if needed and (key in self.absent or not allowed or any(not hit & allowed for hit in hits)):
                return False
        return True

    def without(self, key: str, mask: Mask) -> _State:
        return _State({**self.allowed, key: self.allowed[key] - mask}, self.hits, self.present, self.absent)

    def lacking(self, key: str) -> _State:
        return _State(self.allowed, self.hits, self.present, self.absent | {key})

    def within(self, key: str, mask: Mask) -> _State:
        """For a key that has one value: hitting a set is being inside it."""
        allowed = {**self.allowed, key: self.allowed[key] & mask}
        return _State(allowed, self.hits, self.present | {key}, self.absent)

    def hitting(self, key: str, mask: Mask) -> _State:
        hits = {**self.hits, key: (*self.hits.get(key, ()), mask)}
        return _State(self.allowed, hits, self.present | {key}, self.absent)


class _Universe:
    """Value classes of every key that any of the matchers mentions."""

    def __init__(self, matchers: Sequence[Conditions], token: str, work: Work) -> None:
        self._work = work
        globs: dict[str, dict[Glob, None]] = {}
        for matcher in matchers:
            for key, texts in matcher:
                work.spend(len(texts))
                globs.setdefault(key, {}).update(dict.fromkeys(map(value_glob, texts)))
        self.space = space(token, globs)
        for key, room in self.space.items():
            if room.needed or key in globs:
                work.spend(len(room.globs))
                globs.setdefault(key, {}).update(dict.fromkeys(room.globs))
        self.classes = {
            key: partition(tuple(sorted(found, key=lambda g: g.text)), work) for key, found in sorted(globs.items())
        }
        self.full: Masks = {key: self._full(key) for key in self.classes}
        self.needed = frozenset(key for key, room in self.space.items() if room.needed)
        self.weight = 1 + sum(1 + len(classes) // 16 for classes in self.classes.values())

    def _full(self, key: str) -> Mask:
        room = self.space.get(key)
        if room is None:
            return frozenset(range(len(self.classes[key])))
        within, without = frozenset(room.within), frozenset(room.without)
        return frozenset(
            i
            for i, (globs, _) in enumerate(self.classes[key])
            if (not within or globs & within) and not globs & without
        )

    def hit(self, state: _State, key: str, mask: Mask) -> _State:
        """The state in which some value of the key is in the mask."""
        room = self.space.get(key)
        return state.within(key, mask) if room is not None and room.one else state.hitting(key, mask)

    def masks(self, matcher: Conditions) -> Masks:
        out: Masks = {}
        for key, texts in matcher:
            self._work.spend(len(texts) + len(self.classes[key]))
            wanted = {value_glob(text) for text in texts}
            out[key] = frozenset(i for i, (globs, _) in enumerate(self.classes[key]) if globs & wanted)
        return out

    def spell(self, state: _State) -> Query:
        query: list[tuple[str, tuple[str, ...]]] = []
        for key in sorted(state.present | {key for key, hits in state.hits.items() if hits}):
            allowed = state.allowed[key]
            values = [self.classes[key][min(hit & allowed)][1] for hit in state.hits.get(key, ())]
            query.append((key, tuple(dict.fromkeys(values)) or (self.classes[key][min(allowed)][1],)))
        return tuple(query)

    def search(self, todo: Sequence[tuple[bool, Masks]], start: _State) -> _State | None:
        """Satisfy every constraint: (True, m) "a key of m escapes an allow", (False, m) "a key escapes a deny"."""
        stack = [(0, start)]
        while stack:
            done, state = stack.pop()
            self._work.spend(self.weight + sum(len(hits) for hits in state.hits.values()))
            if not state.feasible():
                continue
            if done == len(todo):
                return state
            stack += [(done + 1, branch) for branch in reversed(self._branches(*todo[done], state))]
        return None

    def _branches(self, escape_allow: bool, masks: Masks, state: _State) -> list[_State]:
        if not escape_allow:
            return [state.without(key, mask) for key, mask in masks.items()]
        branches = []
        for key, mask in masks.items():
            if key not in state.present and not state.hits.get(key):
                branches.append(state.lacking(key))
            if key not in state.absent and self.full[key] - mask:
                branches.append(self.hit(state, key, self.full[key] - mask))
        return branches


def solve(
    allow: Sequence[Conditions],
    deny: Sequence[Conditions],
    other_allow: Sequence[Conditions],
    other_deny: Sequence[Conditions],
    work: Work,
    token: str = "",
) -> Query | None:
    """A query with: some `allow`, no `deny`, and (no `other_allow`, or some `other_deny`). None when there is none.

    For a `token` of `policy.operations` it also holds what the operation says.

    Raises UndecidedError.
    """
    work.spend(1 + len(allow) + len(deny) + len(other_allow) + len(other_deny))
    if any(not matcher for matcher in deny):
        return None
    universe = _Universe([*allow, *deny, *other_allow, *other_deny], token, work)
    base: list[tuple[bool, Masks]] = [(False, universe.masks(matcher)) for matcher in deny]
    refused = [(True, universe.masks(matcher)) for matcher in other_allow]
    for matcher in allow:
        masks = universe.masks(matcher)
        allowed = {key: full & masks.get(key, full) for key, full in universe.full.items()}
        start = _State(allowed, {}, universe.needed | masks.keys(), frozenset())
        solved = None
        if all(other_allow):
            solved = universe.search([*base, *refused], start)
        for other in () if solved is not None else other_deny:
            state = start
            for key, mask in universe.masks(other).items():
                state = universe.hit(state, key, mask)
            solved = universe.search(base, state)
            if solved is not None:
                break
        if solved is not None:
            return universe.spell(solved)
    return None


def spelled(values: Mapping[str, Sequence[str]]) -> str:
    """`k=v&k=w` for people (not encoded)."""
    return "&".join(f"{key}={value}" for key, items in values.items() for value in items)
