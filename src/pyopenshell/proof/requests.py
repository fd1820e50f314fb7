"""Witnesses: abstract points of the request universe made concrete and confirmed by the engine.

Knows how to ask an engine about one request; decides nothing about policies.
"""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine
from pyopenshell.policy.explain import bracketed, printable
from pyopenshell.policy.globs import FRESH
from pyopenshell.proof.queries import Query

_METHODS = ("DELETE", "PUT", "POST", "PATCH", "GET", "OPTIONS", "HEAD", "PROPFIND", "BREW")
_WORDS = ("x", "any", "example", "q7", "zz9", "w-w", "0k", "aaaaaaaa")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One point: a raw connection (`method` "") or an inspected request. `chain` is executable, then ancestors."""

    chain: tuple[str, ...]
    host: str
    port: int
    method: str = ""
    path: str = ""
    query: Query = ()

    @property
    def connection(self) -> Connection:
        return Connection(self.host, self.port, self.chain[0], self.chain[1:])

    @property
    def target(self) -> str:
        pairs = [f"{_quoted(key)}={_quoted(value)}" for key, values in self.query for value in values]
        return self.path + ("?" + "&".join(pairs) if pairs else "")

    def __str__(self) -> str:
        who = printable(self.chain[0])
        if self.chain[1:]:
            who += f" (ancestors {', '.join(map(printable, self.chain[1:]))})"
        at = f"{bracketed(self.host)}:{self.port}"
        return f"{self.method} {at}{self.target} by {who}" if self.method else f"RAW {at} by {who}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def permits(engine: Engine, request: Request) -> bool:
    """Does the engine forward exactly this?"""
    cell = engine.connect(request.connection)
    if not request.method:
        return cell.decision.allowed and not cell.inspected
    return cell.decide(request.method, request.target).allowed


def confirm(after: Engine, before: Engine, point: Request) -> tuple[Request, bool]:
    """A readable request for an abstract point, and whether `after` forwards it while `before` does not."""
    candidate = point
    for word in _WORDS:
        for method in _METHODS if point.method == FRESH else (point.method,):
            candidate = Request(
                tuple(dict.fromkeys(name.replace(FRESH, word) for name in point.chain)),
                point.host.replace(FRESH, word),
                point.port,
                method,
                point.path.replace(FRESH, word),
                point.query,
            )
            if permits(after, candidate) and not permits(before, candidate):
                return candidate, True
    return candidate, False
