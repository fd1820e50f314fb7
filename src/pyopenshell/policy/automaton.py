"""A deterministic automaton over the states of tries: built lazily, bounded in size, one step a segment.

Decides nothing itself; it makes tries affordable per connection and per request. Must not know what payloads mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar

from pyopenshell.policy.tries import Node, accepted, closure, step

P = TypeVar("P")

_MAX_STATES = 4096
_MAX_MEMO = 1024
_MAX_MERGE = 1_000_000


class State(Generic[P]):
    """A set of trie nodes; `found` are the payloads of the patterns that end here.

    In a `uniform` state every segment that is not in `literals` leads to `other`, so unknown segments, which a
    hostile client can invent without end, cost no memory.
    """

    __slots__ = ("found", "literals", "memo", "nodes", "other", "uniform")

    def __init__(self, nodes: tuple[Node[P], ...]) -> None:
        self.nodes = nodes
        self.memo: dict[str, Self] = {}
        self.uniform = False
        self.literals: Iterable[str] = ()
        self.other: Self | None = None
        self.found: list[P] = accepted(nodes)


S = TypeVar("S", bound=State[Any])


class Automaton(Generic[S]):
    """The union of some tries, as states of the kind `made`. Filled on use; safe to share between tasks."""

    __slots__ = ("_made", "_states", "dead", "start")

    def __init__(self, roots: Iterable[Node[Any]], made: Callable[[tuple[Node[Any], ...]], S]) -> None:
        self._made = made
        self._states: dict[Node[Any] | frozenset[Node[Any]], S] = {}
        self.dead = made(())
        self.dead.uniform = True
        self.dead.other = self.dead
        self.start = self._state(tuple(closure(roots)))

    def _state(self, nodes: tuple[Node[Any], ...]) -> S:
        if not nodes:
            return self.dead
        key = nodes[0] if len(nodes) == 1 else frozenset(nodes)
        state = self._states.get(key)
        if state is None:
            state = self._made(nodes)
            if len(self._states) < _MAX_STATES:
                self._states[key] = state
        return state

    def advance(self, state: S, segment: str) -> S:
        """The state after `segment`, when `state.memo` does not know it."""
        following = self._state(tuple(step(state.nodes, segment)))
        if not state.uniform and state is not self.dead:
            self._prepare(state)
        if state.uniform and segment and segment not in state.literals:
            state.other = following
        elif len(state.memo) < _MAX_MEMO or segment in state.literals:
            state.memo[segment] = following
        return following

    @staticmethod
    def _prepare(state: S) -> None:
        if any(node.globs or node.fold for node in state.nodes):
            return
        branches = [node.lit for node in state.nodes if node.lit]
        if sum(map(len, branches)) > _MAX_MERGE:
            return
        state.literals = branches[0] if len(branches) == 1 else frozenset().union(*branches)
        state.uniform = True

    def run(self, word: Sequence[str]) -> S:
        """The state in which a word ends; `dead` when no pattern is left."""
        state = self.start
        for segment in word:
            following = state.memo.get(segment)
            if following is None:
                following = state.other
                if following is None or not segment or segment in state.literals:
                    following = self.advance(state, segment)
            state = following
        return state

    def steps(self, word: Sequence[str]) -> int:
        """What looking up a word for the first time comes to: nodes and globs looked at, payloads found."""
        state, total = self.start, 0
        for segment in word:
            total += 1 + len(state.nodes) + sum(len(node.globs) for node in state.nodes if node.globs)
            state = state.memo.get(segment) or self.advance(state, segment)
        return total + len(state.found)

    def deepest(self, word: Sequence[str]) -> S:
        """The last state along a word in which any pattern is alive."""
        state = self.start
        for segment in word:
            following = state.memo.get(segment) or self.advance(state, segment)
            if following is self.dead:
                return state
            state = following
        return state
