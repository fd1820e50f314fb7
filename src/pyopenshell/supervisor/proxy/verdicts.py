"""Verdicts on requests that were judged before, for all connections of a sandbox.

Programs repeat themselves: an agent asks its model under one path all day, a poller asks the same question each second,
often on a new connection. Cells are immutable, so the same question has the same answer, and the same event, until the
next policy. Only permits are kept: a refusal has an id of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyopenshell.audit.events import HttpEvent
    from pyopenshell.policy.decision import Cell, Decision

Question = tuple["Cell", str, str, str]
"""Cell, scheme, method and target. A cell is of one program, host and port."""

MOST = 1024
LONGEST = 256
"""Characters of a target: both bounds are against a program that never asks the same thing twice."""


class Verdicts:
    """`known` is read by whoever has a question; `add` fills it, and empties it first when it is full."""

    __slots__ = ("_most", "known")

    def __init__(self, most: int = MOST) -> None:
        self.known: dict[Question, tuple[Decision, HttpEvent]] = {}
        self._most = most

    def add(self, question: Question, decision: Decision, event: HttpEvent) -> None:
        if len(question[3]) > LONGEST:
            return
        if len(self.known) >= self._most:
            self.known.clear()
        self.known[question] = decision, event

    def clear(self) -> None:
        """There is a new policy."""
        self.known.clear()
