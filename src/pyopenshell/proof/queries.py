"""The query dimension (proof.md 3.4): is there a query that one set of matchers permits and another does not?

At a fixed path the question is propositional over classes of values. Knows nothing of paths and hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyopenshell.policy.globs import value_glob
from pyopenshell.policy.query import Conditions
from pyopenshell.proof.atoms import partition

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

    def hitting(self, key: str, mask: Mask) -> _State:
        hits = {**self.hits, key: (*self.hits.get(key, ()), mask)}
        return _State(self.allowed, hits, self.present | {key}, self.absent)


class _Universe:
    """Value classes of every key that any of the matchers mentions."""

    def __init__(self, matchers: Sequence[Conditions]) -> None:
        globs: dict[str, dict[str, None]] = {}
        for matcher in matchers:
            for key, texts in matcher:
                globs.setdefault(key, {}).update(dict.fromkeys(texts))
        self.classes = {
            key: partition(tuple(sorted({value_glob(t) for t in texts}, key=lambda g: g.text)))
            for key, texts in sorted(globs.items())
        }
        self.full: Masks = {key: frozenset(range(len(classes))) for key, classes in self.classes.items()}

    def masks(self, matcher: Conditions) -> Masks:
        out: Masks = {}
        for key, texts in matcher:
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


def _search(todo: Sequence[tuple[bool, Masks]], state: _State, full: Masks) -> _State | None:
    """Satisfy every constraint: (True, m) "some key of m escapes an allow", (False, m) "some key escapes a deny"."""
    if not state.feasible():
        return None
    if not todo:
        return state
    escape_allow, masks = todo[0]
    for key, mask in masks.items():
        if not escape_allow:
            branches = [state.without(key, mask)]
        else:
            branches = []
            if key not in state.present and not state.hits.get(key):
                branches.append(state.lacking(key))
            if key not in state.absent and full[key] - mask:
                branches.append(state.hitting(key, full[key] - mask))
        for branch in branches:
            solved = _search(todo[1:], branch, full)
            if solved is not None:
                return solved
    return None


def solve(
    allow: Sequence[Conditions],
    deny: Sequence[Conditions],
    other_allow: Sequence[Conditions],
    other_deny: Sequence[Conditions],
) -> Query | None:
    """A query with: some `allow`, no `deny`, and (no `other_allow`, or some `other_deny`). None when there is none.

    Raises UndecidedError.
    """
    if any(not matcher for matcher in deny):
        return None
    universe = _Universe([*allow, *deny, *other_allow, *other_deny])
    base: list[tuple[bool, Masks]] = [(False, universe.masks(matcher)) for matcher in deny]
    refused = [(True, universe.masks(matcher)) for matcher in other_allow]
    for matcher in allow:
        masks = universe.masks(matcher)
        allowed = {key: full & masks.get(key, full) for key, full in universe.full.items()}
        start = _State(allowed, {}, frozenset(masks), frozenset())
        solved = None
        if all(other_allow):
            solved = _search([*base, *refused], start, universe.full)
        for other in () if solved is not None else other_deny:
            hits = universe.masks(other)
            state = _State(allowed, {k: (m,) for k, m in hits.items()}, start.present | hits.keys(), frozenset())
            solved = _search(base, state, universe.full)
            if solved is not None:
                break
        if solved is not None:
            return universe.spell(solved)
    return None


def spelled(values: Mapping[str, Sequence[str]]) -> str:
    """`k=v&k=w` for people (not encoded)."""
    return "&".join(f"{key}={value}" for key, items in values.items() for value in items)
