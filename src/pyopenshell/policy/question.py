"""Questions people ask of a policy: `PUT https://api.github.com/x` by a program, and the answer with its reasons.

Decides how a question is written and what counts as an answer. The verdict is the engine's. Must not know files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence

from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine
from pyopenshell.policy.explain import bracketed
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.ladder import Explanation
from pyopenshell.policy.operations import TEXT
from pyopenshell.policy.problems import shown

CONNECT = "CONNECT"
"""May the connection be opened at all, whatever goes through it?"""
RAW = "RAW"
"""May bytes pass that nobody looks into?"""
DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL).fullmatch
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?").fullmatch
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One request (`method`, `target`), or with `CONNECT` or `RAW` as method one connection.

    `body` is what it carries; of the method WEBSOCKET_TEXT, the text of the message. `upgrade`: a WebSocket handshake.
    """

    connection: Connection
    method: str
    target: str = ""
    body: str | None = None
    upgrade: bool = False

    @property
    def whole_connection(self) -> bool:
        return self.method in (CONNECT, RAW)

    def __str__(self) -> str:
        place = f"{bracketed(self.connection.host)}:{self.connection.port}"
        asked = f"{self.method} {place}{self.target}" + (" (WebSocket upgrade)" if self.upgrade else "")
        return asked if self.body is None else f"{asked} {shown(self.body)}"


def question(method: str, url: str, binary: str, ancestors: Sequence[str] = (), body: str | None = None) -> Question:
    """Read a question. `url` is `https://host[:port]/path?query`, for `CONNECT` and `RAW` also `host:port`.

    `GET` of a `wss` or `ws` URL asks for a WebSocket, `WEBSOCKET_TEXT` whether a message (`body`) may be sent on it.
    The body of any other method is JSON. The path is taken as it stands, dots and escapes included: what the engine
    makes of it is the point of asking. Raises ValueError, in words for people, for anything that is not a question.
    """
    if not _METHOD(method):
        raise ValueError(f"{shown(method)} is not a method")
    if not binary.startswith("/"):
        raise ValueError(f"the program must be an absolute path, not {shown(binary)}")
    for ancestor in ancestors:
        if not ancestor.startswith("/"):
            raise ValueError(f"an ancestor must be an absolute path, not {shown(ancestor)}")
    verb = method.upper()
    scheme, host, port, target = _parts(url, bare=verb in (CONNECT, RAW))
    if body is not None and verb in (CONNECT, RAW):
        raise ValueError(f"{verb} asks about a connection: it has no body")
    if scheme in ("ws", "wss") and verb not in ("GET", TEXT, CONNECT, RAW):
        raise ValueError(f"a WebSocket begins with GET, and its messages are {TEXT}, not {shown(method)}")
    upgrade = scheme in ("ws", "wss") and verb == "GET"
    if upgrade and body is not None:
        raise ValueError(f"a WebSocket handshake has no body; ask for {TEXT}")
    if verb in (CONNECT, RAW) and target not in ("", "/"):
        raise ValueError(f"{verb} asks about a connection: leave out the path in {shown(url)}")
    connection = Connection(host, port, binary, tuple(ancestors))
    if verb in (CONNECT, RAW):
        return Question(connection, verb, "")
    return Question(connection, verb if verb == TEXT else method, target or "/", body, upgrade)


def _parts(url: str, *, bare: bool) -> tuple[str, str, int, str]:
    match = _URL(url)
    if match is None and not bare:
        raise ValueError(f"expected a URL such as https://api.github.com/repos, got {shown(url)}")
    scheme, authority, rest = match.groups() if match else ("", url, "")
    scheme = scheme.lower()
    if scheme not in ("", "tcp", *DEFAULT_PORTS):
        raise ValueError(f"unknown scheme {shown(scheme)}: expected https, http, wss, ws or tcp")
    if "@" in authority:
        raise ValueError(f"credentials do not belong into a URL: {shown(url)}")
    place = _AUTHORITY(authority)
    if place is None or not place.group(1):
        raise ValueError(f"no host in {shown(url)}")
    port = int(place.group(2) or DEFAULT_PORTS.get(scheme, 0))
    if not 1 <= port <= 65535:
        raise ValueError(f"a port from 1 to 65535 is missing in {shown(url)}")
    if "#" in rest:
        raise ValueError(f"a fragment is never sent, leave it out: {shown(url)}")
    host = place.group(1)
    with contextlib.suppress(ValueError):  # the engine says why it is no host
        host = canonical_host(host)
    return scheme, host, port, "/" + rest if rest.startswith("?") else rest


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a policy says to a question: exactly one of `allows`, `denies`, `audits`."""

    question: Question
    explanation: Explanation
    inspected: bool

    @property
    def allows(self) -> bool:
        """Permitted by the rules. False in audit mode, where the rules refuse and the request passes all the same."""
        decision = self.explanation.decision
        if self.question.method == RAW:
            return decision.allowed and not self.inspected
        return decision.allowed and not decision.audit

    @property
    def audits(self) -> bool:
        """Refused by the rules, forwarded because the endpoint only audits."""
        return self.explanation.decision.audit

    @property
    def denies(self) -> bool:
        return not self.allows and not self.audits

    @property
    def word(self) -> str:
        return "allowed" if self.allows else "audited" if self.audits else "denied"

    @property
    def reason(self) -> str:
        """Why not, "" when allowed."""
        if self._uninspectable:
            return "traffic on this connection is inspected: only HTTP requests pass"
        return self.explanation.decision.reason

    @property
    def _uninspectable(self) -> bool:
        """Raw bytes were asked for and the connection is admitted, but only for requests."""
        return self.question.method == RAW and self.explanation.decision.allowed and self.inspected

    @property
    def verdict(self) -> str:
        """One line for people, with the reason."""
        return f"denied: {self.reason}" if self._uninspectable else self.explanation.verdict

    def __str__(self) -> str:
        return "\n".join([*self.explanation.lines()[:-1], f"  = {self.verdict}"])


def ask(engine: Engine, asked: Question) -> Answer:
    """The engine's answer with its whole ladder."""
    method, target = ("", "") if asked.whole_connection else (asked.method, asked.target)
    explanation = engine.explain(asked.connection, method, target, body=asked.body, upgrade=asked.upgrade)
    return Answer(asked, explanation, inspected=engine.connect(asked.connection).inspected)
