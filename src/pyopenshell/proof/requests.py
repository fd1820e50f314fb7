"""Witnesses: abstract points of the request universe made concrete and confirmed by the engine.

Knows how to ask an engine about one request; decides nothing about policies.
"""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from pyopenshell.policy import operations as ops
from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine
from pyopenshell.policy.explain import bracketed, printable
from pyopenshell.policy.globs import FRESH
from pyopenshell.policy.hosts import host_word, is_ip_literal
from pyopenshell.policy.operations import Operation
from pyopenshell.proof.queries import Query
from pyopenshell.proof.sorts import operation
from pyopenshell.proof.words import lookup_steps
from pyopenshell.proof.work import Work

_METHODS = ("DELETE", "PUT", "POST", "PATCH", "GET", "OPTIONS", "HEAD", "PROPFIND", "BREW")
_WORDS = ("x", "any", "q", "example", "q7", "zz9", "w-w", "0k", "Z", "_", "~", "j", "aaaaaaaa")
"""What a fresh character may stand for: short, long, and single ones for patterns in which it is one character."""


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
        asked = [pair for pair in self.query if not pair[0].startswith(ops.KEY)]
        pairs = [f"{_quoted(key)}={_quoted(value)}" for key, values in asked for value in values]
        return self.path + ("?" + "&".join(pairs) if pairs else "")

    def __str__(self) -> str:
        who = printable(self.chain[0])
        if self.chain[1:]:
            who += f" (ancestors {', '.join(map(printable, self.chain[1:]))})"
        at = f"{bracketed(self.host)}:{self.port}"
        if not self.method:
            return f"RAW {at} by {who}"
        return f"{self.what} {at}{self.target} by {who}"

    @property
    def operation(self) -> Operation | None:
        """What the request carries, None when it is only itself."""
        if ops.sort(self.method) in ("", "websocket"):
            return None
        return operation(self.method, {k: v for k, v in self.query if k.startswith(ops.KEY)})

    @property
    def what(self) -> str:
        """The method, and with it the operation: `POST (GraphQL mutation {x})`."""
        if " " not in self.method:
            return self.method
        carried = self.operation
        said = carried if carried is not None else ops.named(self.method)
        return f"{ops.carrier(self.method)} ({printable(str(said))})"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def permits(engine: Engine, request: Request, work: Work | None = None) -> bool:
    """Does the engine forward exactly this? The same work is counted whatever the engine remembers."""
    cell = engine.connect(request.connection)
    if work is not None:
        for name in request.chain:
            lookup_steps(engine.index.binaries.globs.root, name[1:].split("/"), work)
        ports = engine.index.ports.get(request.port)
        if ports is not None and not is_ip_literal(request.host):
            lookup_steps(ports.wild.root, host_word(request.host), work)
        work.spend(cell.steps(request.path if request.method else ""))
    if not request.method:
        return cell.decision.allowed and not cell.inspected
    if request.method == ops.UPGRADE:
        return cell.decide_upgrade(request.target).allowed
    if request.method == ops.MESSAGE:
        return cell.decide_message(request.target, b"").allowed
    carried = request.operation
    if carried is not None:
        return cell.decide_operations(ops.carrier(request.method), request.target, [carried]).allowed
    return cell.decide(request.method, request.target).allowed


def confirm(after: Engine, before: Engine, point: Request, work: Work) -> tuple[Request, bool]:
    """A readable request for an abstract point, and whether `after` forwards it while `before` does not.

    Raises UndecidedError.
    """
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
            work.spend(40)
            if permits(after, candidate, work) and not permits(before, candidate, work):
                return candidate, True
    return candidate, False
