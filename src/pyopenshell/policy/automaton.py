"""The request side of tries: a deterministic automaton over segments, built lazily, bounded in size.

Decides nothing itself; it makes `grants.judge` affordable per request. Must not know connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from pyopenshell.policy.grants import Grant, Record, in_order
from pyopenshell.policy.tries import Node, accepted, closure, step

T = TypeVar("T")

_MAX_STATES = 4096
_MAX_MEMO = 1024
_MAX_MERGE = 1_000_000


class State(Generic[T]):
    """A set of trie nodes. `table` caches one outcome per method for paths that end here.

    In a `uniform` state every segment that is not in `literals` leads to `other`, so unknown segments, which a
    hostile client can invent without end, cost no memory.
    """

    __slots__ = ("literals", "memo", "nodes", "other", "records", "slash_table", "table", "uniform")

    def __init__(self, nodes: tuple[Node[Record], ...]) -> None:
        self.nodes = nodes
        self.memo: dict[str, State[T]] = {}
        self.uniform = False
        self.literals: Iterable[str] = ()
        self.other: State[T] | None = None
        self.records: list[Record] = sorted(accepted(nodes), key=in_order)
        self.table: dict[str, T] = {}
        self.slash_table: dict[str, T] = {}


class Automaton(Generic[T]):
    """States for the inspected grants of one connection. Filled on use; safe to share between tasks."""

    __slots__ = ("_states", "dead", "start")

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._states: dict[frozenset[Node[Record]], State[T]] = {}
        self.dead: State[T] = State(())
        self.dead.uniform = True
        self.dead.other = self.dead
        self.start = self._state(tuple(closure(grant.trie.root for grant in grants if grant.inspected)))

    def _state(self, nodes: tuple[Node[Record], ...]) -> State[T]:
        if not nodes:
            return self.dead
        key = frozenset(nodes)
        state = self._states.get(key)
        if state is None:
            state = State(nodes)
            if len(self._states) < _MAX_STATES:
                self._states[key] = state
        return state

    def advance(self, state: State[T], segment: str) -> State[T]:
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
    def _prepare(state: State[T]) -> None:
        if any(node.globs or node.fold for node in state.nodes):
            return
        branches = [node.lit for node in state.nodes if node.lit]
        if sum(map(len, branches)) > _MAX_MERGE:
            return
        state.literals = branches[0] if len(branches) == 1 else frozenset().union(*branches)
        state.uniform = True

    def run(self, path: str) -> State[T]:
        """The state in which a canonical path ends; `dead` when no pattern is left."""
        state = self.start
        segments = path.split("/")
        del segments[0]
        for segment in segments:
            following = state.memo.get(segment)
            if following is None:
                following = state.other
                if following is None or not segment or segment in state.literals:
                    following = self.advance(state, segment)
            state = following
        return state

    def steps(self, path: str) -> int:
        """What judging a path for the first time comes to: nodes and globs looked at, records found."""
        state, total = self.start, 0
        for segment in path[1:].split("/"):
            total += 1 + len(state.nodes) + sum(len(node.globs) for node in state.nodes if node.globs)
            state = state.memo.get(segment) or self.advance(state, segment)
        return total + len(state.records)

    def deepest(self, path: str) -> State[T]:
        """The last state along `path` in which any pattern is alive."""
        state = self.start
        for segment in path[1:].split("/"):
            following = state.memo.get(segment) or self.advance(state, segment)
            if following is self.dead:
                return state
            state = following
        return state
