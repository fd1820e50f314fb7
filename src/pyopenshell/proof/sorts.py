"""What requests carry, for the proof: which tokens a rule is about, and what the values of an operation can be at all.

Decides no verdicts. The vocabulary is `policy.operations`; the space of values is what its readers let through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from pyopenshell.policy import operations as ops
from pyopenshell.policy.globs import Glob, value_glob
from pyopenshell.policy.graphql import RESERVED
from pyopenshell.policy.judgement import Judgement
from pyopenshell.policy.model import GraphqlOperation
from pyopenshell.policy.operations import GraphqlRequest, Operation, RpcCall, SessionMessage
from pyopenshell.policy.query import Conditions, Values, allows, denies
from pyopenshell.policy.records import Inspection, Record

ID = ops.KEY + "id"
"""Under this key a witness says which persisted query it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """The values one key can have: exactly one or several, always present or not; all match some of `within` (()
    for anything) and none of `without`."""

    one: bool = True
    needed: bool = True
    within: tuple[Glob, ...] = ()
    without: tuple[Glob, ...] = ()

    @property
    def globs(self) -> tuple[Glob, ...]:
        return self.within + self.without


Space = Mapping[str, Room]


def _globs(*texts: str) -> tuple[Glob, ...]:
    return tuple(map(value_glob, texts))


_EMPTY = _globs("")
_NO_NAME = _globs("*[!_0-9A-Za-z]*", "[0-9]*")
"""What a GraphQL name never is."""
_LOOSE = _globs("*[!A-Za-z0-9_.-]*")
_CALL, _INITIALIZE = _globs("tools/call"), _globs("initialize")
_FREE = Room(needed=False)
_PARAMS = {f"{ops.KEY}params.{name}": _FREE for name in (*ops.PARAMS, "protocolVersion")}
_NAME = ops.KEY + "params.name"
_GRAPHQL: Space = {
    ops.OPERATION_TYPE: Room(within=_globs("query", "mutation", "subscription")),
    ops.OPERATION_NAME: Room(without=_NO_NAME),
    ops.FIELDS: Room(one=False, without=_NO_NAME + _EMPTY),
}
_SPACES: Mapping[str, Space] = {
    ops.GRAPHQL: _GRAPHQL,
    ops.RPC: {**_PARAMS, ops.RPC_METHOD: Room(without=_CALL + _INITIALIZE + _EMPTY)},
    ops.INITIALIZE: {**_PARAMS, ops.RPC_METHOD: Room(within=_INITIALIZE)},
    ops.TOOL: {**_PARAMS, ops.RPC_METHOD: Room(within=_CALL), _NAME: Room(without=_LOOSE + _EMPTY)},
    ops.LOOSE_TOOL: {**_PARAMS, ops.RPC_METHOD: Room(within=_CALL), _NAME: Room(within=_LOOSE)},
}
_NOTHING: Space = {}
_NEVER = Room(needed=False, without=_globs("*"))


def space(token: str, keys: Iterable[str]) -> Space:
    """The space of a token's values. `keys` are those that matchers ask about."""
    sort = ops.sort(token)
    found = _SPACES.get(sort, _NOTHING)
    if sort in (ops.GRAPHQL, ops.PERSISTED) and ops.carrier(token) == "POST":
        taken = {key: _NEVER for key in keys if key.lower() in RESERVED}
        return {**found, **taken} if taken else found
    return found


def tokens_of(record: Record, *, graphql: bool) -> tuple[str, ...]:
    """What an allow is about: an HTTP method for `rest`, else tokens. `graphql`: messages may be operations."""
    protocol = record.inspection.protocol
    if protocol == "rest":
        return (record.method,)
    return tuple(token for token in _tokens(protocol, graphql=graphql) if record.covers(token))


def audited(inspection: Inspection, *, graphql: bool) -> tuple[str, ...]:
    """What an endpoint in audit mode forwards."""
    return ("*",) if inspection.protocol == "rest" else _tokens(inspection.protocol, graphql=graphql)


def _tokens(protocol: str, *, graphql: bool) -> tuple[str, ...]:
    carried = ops.JUDGES if graphql or protocol != "websocket" else (ops.UPGRADE, ops.MESSAGE)
    return tuple(t for t in carried if protocol in ops.judges(t) and ops.sort(t) != ops.PERSISTED)


def persisted(inspection: Inspection) -> list[tuple[str, str]]:
    """(token, id) of every persisted query that an endpoint knows."""
    carrier = ops.TEXT if inspection.protocol == "websocket" else "POST"
    return [(f"{carrier} {ops.PERSISTED}", name) for name in inspection.registered]


def covers(method: str, token: str) -> bool:
    """Does the `method` of a record or cube hold for a token of what requests carry?"""
    if " " in method:
        return method == token
    if method in (ops.GRAPHQL, ops.RPC, ops.SESSION):
        sorts = {ops.GRAPHQL: (ops.GRAPHQL, ops.PERSISTED), ops.RPC: ops.CALLS, ops.SESSION: (ops.SESSION,)}[method]
        return ops.sort(token) in sorts
    return method == "*" or method == ops.carrier(token)


def meaning(judgement: Judgement, name: str) -> Values | None:
    """What a persisted query stands for where this was judged, None where it is not registered."""
    found: set[GraphqlOperation] = {i.registered[name] for i in judgement.top if name in i.registered}
    if len(found) != 1:
        return None
    (known,) = found
    return GraphqlRequest(known.operation_type.lower(), known.operation_name, known.fields, name).values


def remaining(conditions: Sequence[Conditions], values: Values, *, deny: bool) -> list[Conditions]:
    """What matchers still ask of the query once the operation is known."""
    out = []
    for matcher in conditions:
        carried = tuple(pair for pair in matcher if pair[0].startswith(ops.KEY))
        if (denies if deny else allows)(carried, values):
            out.append(tuple(pair for pair in matcher if not pair[0].startswith(ops.KEY)))
    return out


def operation(token: str, values: Mapping[str, Sequence[str]]) -> Operation:
    """The operation of a witness."""
    sort = ops.sort(token)
    if sort == ops.SESSION:
        return SessionMessage(ops.named(token))
    if ID in values:
        return GraphqlRequest(id=values[ID][0])
    if sort == ops.GRAPHQL:
        return GraphqlRequest(values[ops.OPERATION_TYPE][0], values[ops.OPERATION_NAME][0], tuple(values[ops.FIELDS]))
    prefix = ops.KEY + "params."
    params = tuple((key.removeprefix(prefix), found[0]) for key, found in values.items() if key.startswith(prefix))
    return RpcCall(values[ops.RPC_METHOD][0], params)
