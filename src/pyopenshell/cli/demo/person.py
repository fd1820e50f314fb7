"""Who decides in the demo: somebody at the terminal, or a script that first rejects with guidance and then approves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from pyopenshell.cli.app import CliError
from pyopenshell.cli.demo.screen import Screen
from pyopenshell.client.values import Chunk

GUIDANCE = "Only the one file you were refused, please, not the whole folder."


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`kind` is "approve", "reject" or "narrow"."""

    kind: str
    reason: str = ""


class Person(Protocol):
    async def decide(self, chunk: Chunk, screen: Screen) -> Answer: ...


class Scripted:
    """`--yes`: the same decisions each time."""

    def __init__(self, answers: Sequence[Answer] = (Answer("reject", GUIDANCE), Answer("approve"))) -> None:
        self._answers = list(answers)

    async def decide(self, chunk: Chunk, screen: Screen) -> Answer:
        if not self._answers:
            raise CliError("the agent asked more often than the script has answers")
        answer = self._answers.pop(0)
        typed = {"approve": "y", "narrow": "narrower"}.get(answer.kind, f"n {answer.reason}")
        screen.outside(f"decide [y / n reason / narrower]: {typed}", strong=True)
        return answer


class AtTerminal:
    """A person who reads the proof and types."""

    async def decide(self, chunk: Chunk, screen: Screen) -> Answer:
        while True:
            try:
                line = await screen.prompt("decide [y / n reason / narrower]:")
            except EOFError:
                raise CliError("nobody is there to decide; use --yes for scripted decisions") from None
            answer = parse(line)
            if answer is not None:
                return answer
            screen.outside(
                "y approves, n REASON rejects and tells the agent why, narrower cuts it down to what was refused"
            )


def parse(line: str) -> Answer | None:
    """What was typed, None when it is none of the three."""
    word, _, rest = line.strip().partition(" ")
    if word.lower() in ("y", "yes") and not rest.strip():
        return Answer("approve")
    if word.lower() in ("n", "no"):
        return Answer("reject", rest.strip())
    if word.lower() == "narrower" and not rest.strip():
        return Answer("narrow")
    return None
