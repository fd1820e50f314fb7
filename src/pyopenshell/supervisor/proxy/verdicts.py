"""Verdicts on requests that were judged before, for all connections of a sandbox.

Programs repeat themselves: an agent asks its model under one path all day, a poller asks the same question each second,
often on a new connection. Cells are immutable, so the same question has the same answer, and the same event, until the
next policy. What is refused is often asked again too; the answer to it differs in the denial's id alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyopenshell.audit.events import HttpEvent
    from pyopenshell.policy.decision import Cell, Decision
    from pyopenshell.supervisor.denial import Answer

Question = tuple["Cell", str, str, str, str]
"""Cell, program, scheme, method and target. Programs can share a cell, but each answer names its own."""

Occasion = tuple[bool, bool]
"""Whether proposals are enabled, and whether the connection ends after the answer."""

MOST = 1024
LONGEST = 256
"""Characters of a target: both bounds are against a program that never asks the same thing twice."""


class Verdicts:
    """`permits` and `refusals` are read by whoever has a question; both are emptied when one is full."""

    __slots__ = ("_most", "permits", "refusals")

    def __init__(self, most: int = MOST) -> None:
        self.permits: dict[Question, tuple[Decision, HttpEvent]] = {}
        self.refusals: dict[Question, tuple[Decision, dict[Occasion, Answer]]] = {}
        self._most = most

    def permit(self, question: Question, decision: Decision, event: HttpEvent) -> None:
        if self._room(question):
            self.permits[question] = decision, event

    def refuse(self, question: Question, decision: Decision) -> dict[Occasion, Answer] | None:
        """Where the answers to this refusal may be kept."""
        if not self._room(question):
            return None
        answers: dict[Occasion, Answer] = {}
        self.refusals[question] = decision, answers
        return answers

    def _room(self, question: Question) -> bool:
        if len(question[-1]) > LONGEST:
            return False
        if len(self.permits) + len(self.refusals) >= self._most:
            self.clear()
        return True

    def clear(self) -> None:
        """There is a new policy."""
        self.permits.clear()
        self.refusals.clear()
