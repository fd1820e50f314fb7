"""Bodies and WebSocket messages to the operations they carry: strict, bounded, total or a refusal.

Decides what can be judged at all; whoever forwards must send exactly the bytes that were read here. Knows nothing of
rules and connections.
"""

from __future__ import annotations

import re

from pyopenshell.policy.model import Endpoint, McpOptions
from pyopenshell.policy.nodes import JsonError, ListNode, MapNode, Node, ScalarNode, parse_json
from pyopenshell.policy.operations import ContentError, Operation, SessionMessage
from pyopenshell.policy.problems import shown
from pyopenshell.policy.query import parse_query

MAX_BATCH = 64
"""Operations of one body. Every one of them is judged."""
MAX_HELD = 64 << 20
"""Bytes of bodies that the proxy holds for judgement at the same time; a longer one can never be judged."""
MAX_MESSAGE = 65536
"""Characters of a WebSocket message that is judged as GraphQL."""

MAX_VALUES = 10_000
"""Values and keys of one body, whatever its size: each costs about 3 µs to read, and nothing else of the sandbox is
served meanwhile."""

_JSON_TYPE = re.compile(r'application/json[ \t]*(;[ \t]*charset=("utf-8"|utf-8)[ \t]*)?', re.IGNORECASE).fullmatch


def content_limit(endpoint: Endpoint) -> int:
    """Bytes of body that are read and judged where this endpoint decides; 0 where bodies are not looked at."""
    if endpoint.protocol == "graphql":
        return endpoint.graphql_max_body_bytes
    if endpoint.protocol == "json-rpc":
        return endpoint.json_rpc_max_body_bytes
    return (endpoint.mcp or McpOptions()).max_body_bytes if endpoint.protocol == "mcp" else 0


def read(protocol: str, method: str, query: str, content_type: str, body: bytes, limit: int) -> tuple[Operation, ...]:
    """What a request to an endpoint of `protocol` (graphql, json-rpc, mcp) carries; never empty.

    `query` is that of the target, as sent. Raises ContentError for whatever is not plainly readable.
    """
    if protocol == "mcp" and method.upper() in ("GET", "DELETE"):
        if body:
            raise ContentError(f"{protocol}: a {method.upper()} request has no body")
        return (SessionMessage("MCP stream" if method.upper() == "GET" else "end of the MCP session"),)
    if method.upper() != "POST":
        raise ContentError(f"{protocol}: only POST requests are judged, not {shown(method)[1:-1]}")
    if len(body) > limit:
        raise ContentError(f"{protocol}: the body is larger than {limit} bytes")
    if _JSON_TYPE(content_type.strip()) is None:
        raise ContentError(f"{protocol}: content-type must be application/json, not {shown(content_type)}")
    root = json_tree(body)
    if protocol == "graphql":
        from pyopenshell.policy.graphql import read_requests, refuse_query

        refuse_query(parse_query(query))
        return read_requests(root, MAX_BATCH)
    from pyopenshell.policy.rpc import read_calls

    return read_calls(root, MAX_BATCH, mcp=protocol == "mcp")


def read_message(text: str) -> tuple[Operation, ...]:
    """What one WebSocket text message of a GraphQL protocol carries. Raises ContentError."""
    from pyopenshell.policy.graphql import read_request

    if len(text) > MAX_MESSAGE:
        raise ContentError(f"the message is longer than {MAX_MESSAGE} characters")
    try:
        body = text.encode()
    except UnicodeEncodeError:
        raise ContentError("the message is not UTF-8 text") from None
    found = members(json_tree(body), ("type", "id", "payload"), "a GraphQL message")
    kind = text_of(found, "type", "type of the message")
    if kind in _STARTS:
        if "payload" not in found:
            raise ContentError(f"the {kind} message has no payload")
        return read_request(found["payload"])
    if kind not in _CARRYING:
        raise ContentError(f"{shown(kind)} is not a message that a GraphQL client sends")
    return (SessionMessage(f"GraphQL {kind} message"),)


_STARTS = ("subscribe", "start")
_CARRYING = ("connection_init", "ping", "pong", "complete", "stop", "connection_terminate")
"""Of graphql-transport-ws, and of subscriptions-transport-ws, which it replaced."""


def json_tree(body: bytes) -> Node:
    """Strict JSON: no duplicate keys, no lone surrogates, bounded depth and number of values. Raises ContentError."""
    try:
        return parse_json(body, MAX_VALUES)
    except JsonError as error:
        raise ContentError(str(error)) from None


def members(node: Node, known: tuple[str, ...], what: str) -> dict[str, Node]:
    """The members of an object that has no others than `known`. Raises ContentError.

    Others are refused because a server may understand them, in another letter case too (Go's decoder does).
    """
    if not isinstance(node, MapNode):
        raise ContentError(
            f"{what} must be an object, not {node.kind if not isinstance(node, ScalarNode) else 'a value'}"
        )
    for key in node.entries:
        if key not in known:
            raise ContentError(f"{what} has an unknown member {shown(key)}")
    return {key: value for key, (_, value) in node.entries.items()}


def batch(node: Node, limit: int) -> list[Node]:
    """The items of an array, or the one value itself. Raises ContentError for an empty or an endless batch."""
    if not isinstance(node, ListNode):
        return [node]
    if not node.items:
        raise ContentError("the batch is empty")
    if len(node.items) > limit:
        raise ContentError(f"the batch has more than {limit} items")
    return node.items


def text_of(found: dict[str, Node], key: str, what: str) -> str:
    """A member that must be text. Raises ContentError."""
    node = found.get(key)
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        raise ContentError(f"the {what} must be a text")
    return node.value


def absent(node: Node | None) -> bool:
    """Not written, or null."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)
