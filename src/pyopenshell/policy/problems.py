"""What is wrong with a policy and where: one value per finding, one exception that carries them all.

Knows how a finding reads. Must not know what makes a policy wrong (`policy.schema`, `policy.validate`).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence

Where = tuple[str | int, ...]
"""A place inside a policy by YAML keys and list indexes, for example ("network_policies", "github", "endpoints", 0)."""

MAX_PROBLEMS = 100
"""How many findings one error tells."""
_SHOWN = 80
_SUGGESTABLE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1; 0 means that there is no text behind the policy.

    `code` is stable (docs, tests, CLI exit), `message` is for people, `fix` says what to write instead and may be "".
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    fix: str = ""
    where: Where = ()

    def __str__(self) -> str:
        text = f"{self.message}; {self.fix}" if self.fix else self.message
        if self.line:
            return f"{self.file}:{self.line}:{self.column}: {text}"
        place = where_text(self.where)
        return f"{place}: {text}" if place else text


class Problems(list[Problem]):
    """Findings while they are collected: the first `MAX_PROBLEMS`, and in `more` how many were left out.

    A hostile or a mistaken text may be wrong in every line; nobody reads that, and nobody should wait for it.
    """

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        super().__init__()
        self.more = 0
        for found in problems:
            self.append(found)

    @property
    def full(self) -> bool:
        return len(self) >= MAX_PROBLEMS

    def append(self, found: Problem) -> None:
        if self.full:
            self.more += 1
        else:
            super().append(found)


class PolicyError(ValueError):
    """A policy that cannot be used. `problems` holds the findings in the order of the text, at most `MAX_PROBLEMS`;
    `more` says how many there are besides."""

    def __init__(self, problems: Iterable[Problem], more: int = 0) -> None:
        found = Problems(problems)
        self.problems: tuple[Problem, ...] = tuple(found)
        self.more = found.more + more
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if self.more:
            lines.append(f"and {self.more} more problem{'s' if self.more > 1 else ''}")
        return "\n".join(lines)


def raise_if_any(problems: Problems, filename: str) -> None:
    """Raises `PolicyError` with what was found in a file, in the order of its lines."""
    if problems:
        problems.sort(key=lambda found: (found.line, found.column))
        raise PolicyError([dataclasses.replace(found, file=filename) for found in problems], problems.more)


def problem(code: str, message: str, fix: str = "", where: Where = ()) -> Problem:
    """A finding about a policy without a text."""
    return Problem("", 0, 0, code, message, fix, where)


def where_text(where: Where) -> str:
    """`network_policies.github.endpoints[0].host`; keys are an author's text and are shown escaped."""
    out = ""
    for step in where:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            plain = step if step.isprintable() else repr(step)[1:-1]
            out += f".{plain[:_SHOWN]}" if out else plain[:_SHOWN]
    return out


def shown(text: str) -> str:
    """Quoted, bounded, with everything unprintable escaped: the text may be hostile."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def nearest(word: str, valid: Iterable[str]) -> str:
    """The valid spelling closest to `word`, or "" when none is close."""
    if len(word) > _SUGGESTABLE:
        return ""
    choices = list(valid)
    folded = {choice.casefold(): choice for choice in choices}
    if word.casefold() in folded:
        return folded[word.casefold()]
    found = difflib.get_close_matches(word, choices, 1, 0.6)
    return found[0] if found else ""


def did_you_mean(word: str, valid: Sequence[str]) -> str:
    """The `fix` for an unknown spelling: the nearest one, or the list of all when none is near."""
    close = nearest(word, valid)
    return f"did you mean {close!r}?" if close else f"expected one of: {', '.join(valid)}"
