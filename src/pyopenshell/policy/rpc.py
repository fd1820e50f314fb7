"""JSON-RPC 2.0 requests, notifications and batches, and the Model Context Protocol on top of them: JSON to calls.

Decides which parameters rules can see. Knows nothing of which calls are allowed.
"""

from __future__ import annotations

from pyopenshell.policy.content import absent, batch, members, text_of
from pyopenshell.policy.nodes import ListNode, MapNode, Node, ScalarNode
from pyopenshell.policy.operations import MAX_TOOL, PARAMS, ContentError, RpcCall
from pyopenshell.policy.problems import shown

MAX_METHOD = 256
MAX_VALUE = 4096
"""Characters of a method, and of a parameter that rules can match."""

_MEMBERS = ("jsonrpc", "id", "method", "params")
_SEEN = (*PARAMS, "protocolVersion")
_FOLDED = {name.lower(): name for name in _SEEN}


def read_calls(root: Node, limit: int, *, mcp: bool) -> tuple[RpcCall, ...]:
    """Every call of a body, notifications included: one, or a batch of at most `limit`. Raises ContentError."""
    return tuple(_call(item, mcp=mcp) for item in batch(root, limit))


def _call(node: Node, *, mcp: bool) -> RpcCall:
    if isinstance(node, MapNode) and "method" not in node.entries and {"result", "error"} & set(node.entries):
        raise ContentError("JSON-RPC response frames are not permitted from client to server")
    found = members(node, _MEMBERS, "a JSON-RPC call")
    if text_of(found, "jsonrpc", "version (jsonrpc)") != "2.0":
        raise ContentError("a JSON-RPC call must say jsonrpc 2.0")
    method = text_of(found, "method", "method of a JSON-RPC call")
    if not 1 <= len(method) <= MAX_METHOD:
        raise ContentError(f"the method of a JSON-RPC call has 1 to {MAX_METHOD} characters")
    identifier = found.get("id")
    if identifier is not None and (not isinstance(identifier, ScalarNode) or isinstance(identifier.value, bool)):
        raise ContentError("the id of a JSON-RPC call must be a text or a number")
    params = found.get("params")
    if params is not None and not isinstance(params, MapNode | ListNode):
        raise ContentError("params of a JSON-RPC call must be an object or an array")
    seen = _seen(params, mcp=mcp) if isinstance(params, MapNode) else {}
    if mcp and isinstance(params, ListNode):
        raise ContentError("params of an MCP call must be an object")
    if method == "tools/call" and not seen.get("name"):
        raise ContentError("tools/call needs the name of a tool")
    if method == "tools/call" and len(seen.get("name", "")) > MAX_TOOL:
        raise ContentError(f"the name of a tool has at most {MAX_TOOL} characters")
    return RpcCall(method, tuple((name, seen[name]) for name in _SEEN if name in seen))


def _seen(params: MapNode, *, mcp: bool) -> dict[str, str]:
    """The parameters that rules can match, as texts."""
    out: dict[str, str] = {}
    for key, (_, node) in params.entries.items():
        name = _FOLDED.get(key.lower())
        if name is None:
            continue
        if key != name:
            if mcp:  # a server that ignores letter case would take it for the other one
                raise ContentError(f"params have {shown(key)}, which is not {name!r}")
            continue
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and len(node.value) <= MAX_VALUE:
            out[name] = node.value
        elif mcp and not absent(node):
            raise ContentError(f"params.{name} must be a text of at most {MAX_VALUE} characters")
    return out
