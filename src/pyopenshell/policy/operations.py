"""What a request carries besides method, path and query: the sorts of operations, and each one as values to be matched.

Decides which protocol may judge which sort. Knows nothing of rules; bytes become operations in `policy.content`.

What is judged at a path is named by a *token*: an HTTP method ("PUT"), or a carrier and a sort ("POST graphql"). A
blank never stands in a method, so no client can send a token of another sort. What an operation says about itself is a
mapping like that of a query string; its keys begin with `KEY`, which no policy can write and no query key keeps.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from pyopenshell.policy.problems import shown

KEY = "\ue001"
"""First character of the keys under which an operation's own values are matched."""

OPERATION_TYPE, OPERATION_NAME, FIELDS = KEY + "operation_type", KEY + "operation_name", KEY + "fields"
RPC_METHOD, RPC_VERSION = KEY + "method", KEY + "params.protocolVersion"
PARAMS = ("name", "uri", "level")
"""Parameters of MCP that rules may match: the tool or prompt, the resource, the log level."""

GRAPHQL, PERSISTED, RPC, TOOL, LOOSE_TOOL, INITIALIZE, SESSION = (
    "graphql",
    "persisted",
    "rpc",
    "tool",
    "loose-tool",
    "initialize",
    "session",
)
"""Sorts of operations. Calls are told apart where an endpoint's options make a difference: `loose-tool` calls a tool
whose name is not strict, `initialize` carries a protocol version, `session` is what the others need to be carried."""
CALLS = (RPC, TOOL, LOOSE_TOOL, INITIALIZE)

TEXT = "WEBSOCKET_TEXT"
UPGRADE = "GET websocket"
"""A WebSocket handshake: a GET request that nothing but a valid upgrade may be."""
MESSAGE = f"{TEXT} websocket"
"""A message on an upgraded connection whose content no rule asks about."""

_HTTP = frozenset({"rest"})
_SWITCHED = frozenset({"rest", "websocket"})
JUDGES: Mapping[str, frozenset[str]] = {
    UPGRADE: _SWITCHED,
    MESSAGE: _SWITCHED,
    **dict.fromkeys((f"{TEXT} {GRAPHQL}", f"{TEXT} {PERSISTED}", f"{TEXT} {SESSION}"), _SWITCHED),
    **dict.fromkeys((f"POST {GRAPHQL}", f"POST {PERSISTED}"), frozenset({"graphql"})),
    **dict.fromkeys((f"POST {sort}" for sort in CALLS), frozenset({"json-rpc", "mcp"})),
    **dict.fromkeys((f"GET {SESSION}", f"DELETE {SESSION}"), frozenset({"mcp"})),
}
"""Which protocols of endpoints can judge what a token names; HTTP methods, which are not here, only `rest`."""


def judges(token: str) -> frozenset[str]:
    return JUDGES.get(token, _HTTP)


def carrier(token: str) -> str:
    """The HTTP method (or `WEBSOCKET_TEXT`) that carries what the token names."""
    return token.partition(" ")[0]


def sort(token: str) -> str:
    """ "" for a plain HTTP request."""
    return token.partition(" ")[2]


STRICT_NAME = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
"""A tool name as `strict_tool_names` wants it; longer than `MAX_TOOL` none may be."""
MAX_TOOL = 128
_SHOWN, _LONGEST = 8, 160

Values = dict[str, list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class GraphqlRequest:
    """One GraphQL operation with the names of its root fields (aliases resolved, fragments expanded), or with `id` a
    persisted one of which nothing else is known."""

    operation_type: str = ""
    operation_name: str = ""
    fields: tuple[str, ...] = ()
    id: str = ""

    @property
    def sort(self) -> str:
        return PERSISTED if self.id else GRAPHQL

    @property
    def values(self) -> Values:
        return {
            OPERATION_TYPE: [self.operation_type],
            OPERATION_NAME: [self.operation_name],
            FIELDS: list(self.fields),
        }

    def __str__(self) -> str:
        if self.id and not self.operation_type:
            return f"GraphQL persisted query {shown(self.id)}"
        name = f" {self.operation_name}" if self.operation_name else ""
        more = " …" if len(self.fields) > _SHOWN else ""
        text = f"GraphQL {self.operation_type}{name} {{{' '.join(self.fields[:_SHOWN])}{more}}}"
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


@dataclasses.dataclass(frozen=True, slots=True)
class RpcCall:
    """One JSON-RPC request or notification. `params` are those of `PARAMS` and the protocol version, as texts."""

    method: str
    params: tuple[tuple[str, str], ...] = ()

    @property
    def sort(self) -> str:
        if self.method == "tools/call":
            name = dict(self.params).get("name", "")
            return TOOL if STRICT_NAME(name) else LOOSE_TOOL
        return INITIALIZE if self.method == "initialize" else RPC

    @property
    def values(self) -> Values:
        return {RPC_METHOD: [self.method], **{f"{KEY}params.{key}": [value] for key, value in self.params}}

    def __str__(self) -> str:
        said = "".join(f" {key}={shown(value)}" for key, value in self.params if key in PARAMS)
        return f"call {shown(self.method)[1:-1]}{said}"


@dataclasses.dataclass(frozen=True, slots=True)
class SessionMessage:
    """What a protocol sends to carry its operations: MCP's stream and its end, GraphQL's `connection_init`."""

    kind: str

    @property
    def sort(self) -> str:
        return SESSION

    @property
    def values(self) -> Values:
        return {}

    def __str__(self) -> str:
        return self.kind


Operation = GraphqlRequest | RpcCall | SessionMessage


class ContentError(ValueError):
    """Content that cannot be judged, so that the request must be refused. The message never quotes it unescaped."""


def merged(query: Mapping[str, Sequence[str]], operation: Operation | None) -> Mapping[str, Sequence[str]]:
    """What the matchers of a request are held against: its query, and beside it what the operation says."""
    if operation is None:
        return query
    return {**{key: value for key, value in query.items() if not key.startswith(KEY)}, **operation.values}


def named(token: str) -> str:
    """A token for people who know no tokens: `PUT`, `WebSocket text`, `MCP stream`."""
    return _NAMES.get(token, token)


_NAMES = {
    UPGRADE: "WebSocket upgrade",
    MESSAGE: "WebSocket text",
    f"POST {GRAPHQL}": "GraphQL",
    f"POST {PERSISTED}": "GraphQL persisted queries",
    f"{TEXT} {GRAPHQL}": "GraphQL over WebSocket",
    f"{TEXT} {PERSISTED}": "GraphQL persisted queries over WebSocket",
    f"{TEXT} {SESSION}": "GraphQL session messages over WebSocket",
    f"POST {RPC}": "JSON-RPC calls",
    f"POST {TOOL}": "tool calls",
    f"POST {LOOSE_TOOL}": "calls of tools with unusual names",
    f"POST {INITIALIZE}": "initialize",
    f"GET {SESSION}": "MCP stream",
    f"DELETE {SESSION}": "MCP session end",
}
