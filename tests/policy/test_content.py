from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyopenshell.policy.content import MAX_BATCH, MAX_VALUES, read, read_message
from pyopenshell.policy.graphql import MAX_TOKENS
from pyopenshell.policy.operations import ContentError, GraphqlRequest, Operation, RpcCall, SessionMessage

JSON = "application/json"
LIMIT = 65536


def graphql(body: object, query: str = "", kind: str = JSON) -> tuple[Operation, ...]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read("graphql", "POST", query, kind, data, LIMIT)


def document(text: str) -> tuple[Operation, ...]:
    return graphql({"query": text})


def rpc(body: object, protocol: str = "mcp") -> tuple[Operation, ...]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(protocol, "POST", "", JSON, data, LIMIT)


def call(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


# -- GraphQL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "name", "fields"),
    [
        ("{ viewer { login } }", "query", "", ("viewer",)),
        ("query Me { viewer { login } rate }", "query", "Me", ("viewer", "rate")),
        ("mutation { harmless: deleteRepo(id: 1) { id } }", "mutation", "", ("deleteRepo",)),
        ("subscription S { events }", "subscription", "S", ("events",)),
        ("{ a ...F } fragment F on Query { b ...G } fragment G on Query { c }", "query", "", ("a", "b", "c")),
        ("{ ... on Query { a ... { b } } }", "query", "", ("a", "b")),
        ("{ a @skip(if: true) { x } b @include(if: false) }", "query", "", ("a", "b")),
        ("{ ...F } fragment F on Query { a ...F }", "query", "", ("a",)),
        ('{ a(x: """ { deleteRepo } """) }', "query", "", ("a",)),
        ("{ __schema { types { name } } __typename }", "query", "", ("__schema", "__typename")),
        ("# mutation { x }\n{ a }", "query", "", ("a",)),
    ],
)
def test_root_fields(text: str, kind: str, name: str, fields: tuple[str, ...]) -> None:
    (found,) = document(text)
    assert isinstance(found, GraphqlRequest)
    assert (found.operation_type, found.operation_name, found.id) == (kind, name, "")
    assert sorted(found.fields) == sorted(fields)


def test_every_operation_of_a_document_and_of_a_batch_counts() -> None:
    both = {"query": "query A { a } mutation B { b }", "operationName": "A"}
    found = graphql([both, {"query": "{ c }"}])
    assert [str(f) for f in found] == ["GraphQL query A {a}", "GraphQL mutation B {b}", "GraphQL query {c}"]


def test_what_one_body_may_cost_is_bounded_whatever_it_is_cut_into() -> None:
    """Tokens of GraphQL count over the whole batch, and values of JSON over the whole body."""
    fields = "a " * (MAX_TOKENS // 2 - 2)
    assert len(graphql([{"query": f"{{{fields}}}"}, {"query": f"{{{fields}}}"}])) == 2
    for batch in (
        [{"query": f"{{{fields}}}"}, {"query": f"{{{fields} b c d e f}}"}],
        [{"query": f"{{{'a ' * 200}}}"}] * 64,
        {"query": f"{{{'a ' * MAX_TOKENS}}}"},
        {"query": "#\n" * MAX_TOKENS + "{a}"},
    ):
        with pytest.raises(ContentError, match=f"more than {MAX_TOKENS} tokens"):
            graphql(batch)
    many: tuple[object, ...] = ([0] * MAX_VALUES, [[]] * MAX_VALUES, {str(n): n for n in range(MAX_VALUES // 2)})
    for values in many:
        for protocol in ("json-rpc", "mcp", "graphql"):
            body = json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"a": values}}).encode()
            with pytest.raises(ContentError, match=f"more than {MAX_VALUES} values and keys"):
                read(protocol, "POST", "", "application/json", body, 1 << 20)
    text = "[{,]" * 10_000  # what stands in a text is no value
    assert graphql({"query": "{ a }", "variables": {"a": text}})


def test_persisted_queries() -> None:
    text = "{ a }"
    digest = hashlib.sha256(text.encode()).hexdigest()
    extension = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    assert graphql({"extensions": extension}) == (GraphqlRequest(id=digest),)
    assert graphql({"id": "x", "operationName": "A"}) == (GraphqlRequest(operation_name="A", id="x"),)
    assert graphql({"query": text, "extensions": extension}) == (GraphqlRequest("query", "", ("a",)),)
    with pytest.raises(ContentError, match="hash"):
        graphql({"query": "{ b }", "extensions": extension})
    for more in ({"id": "x"}, {"documentId": "y"}):
        with pytest.raises(ContentError):
            graphql({"query": text, **more})
        assert graphql(more)
    with pytest.raises(ContentError):
        graphql({"id": "x", "documentId": "y"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{ a }", "query": "mutation { b }"}',
        b'{"query": "{ a }", "Query": "mutation { b }"}',
        b'{"query": "{ a }", "doc_id": "1"}',
        b'{"query": ["{ a }"]}',
        b'{"query": null}',
        b'{"query": ""}',
        b"{}",
        b"[]",
        b"",
        b"null",
        b'"{ a }"',
        b"{ a }",
        b'\xef\xbb\xbf{"query": "{ a }"}',
        b'{"query": "{ a }"} {"query": "mutation { b }"}',
        b'{"query": "{ a }", "variables": NaN}',
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b'{"query": "{ a }", "variables": "x"}',
        b'{"query": "{ a }", "operationName": 1}',
        b'{"query": "{ a }", "extensions": {"PersistedQuery": {"version": 1, "sha256Hash": "x"}}}',
        b'{"extensions": {"persistedQuery": {"version": true, "sha256Hash": "x"}}}',
        b'{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": ""}}}',
        "[" * 100000,
        '{"query": "{ a }", "variables": ' + '{"a":' * 100 + "1" + "}" * 101,
    ],
)
def test_envelopes_that_cannot_be_judged(body: bytes | str) -> None:
    with pytest.raises(ContentError):
        graphql(body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{ }",
        "query",
        "type A { b: C }",
        "{ a } type A { b: C }",
        "{ a } query B { b }",
        "query A { a } query A { b }",
        "{ ...F }",
        "{ ...F } fragment F on Q { a } fragment F on Q { b }",
        "fragment F on Q { a }",
        "{ a " * 2000 + "}" * 2000,
        "{ " + "a " * 6000 + "}",
        "{ a\u200b }",
    ],
)
def test_documents_that_cannot_be_judged(text: str) -> None:
    with pytest.raises(ContentError):
        document(text)


def test_a_swarm_of_fragments_is_linear() -> None:
    count = 150
    parts = [f"fragment F{i} on Q {{ f{i} {'...F' + str(i + 1) + ' ...F' + str(i + 1) if i < count else ''} }}"
             for i in range(count + 1)]  # fmt: skip
    (found,) = document("{ ...F0 } " + " ".join(parts))
    assert isinstance(found, GraphqlRequest)
    assert len(found.fields) == count + 1


def test_carriers_of_graphql() -> None:
    body = b'{"query": "{ a }"}'
    assert graphql(body, "op=Get&x=query")
    for query in ("query=mutation+%7Bb%7D", "QUERY=x", "operationName=B", "a=1&%71uery=x", "variables={}", "id=1"):
        with pytest.raises(ContentError, match="query string"):
            graphql(body, query)
    for kind in (JSON + "; charset=utf-8", "Application/JSON;charset=UTF-8", JSON + '; charset="utf-8"'):
        assert graphql(body, kind=kind)
    for kind in ("", "text/plain", "application/graphql", JSON + "; charset=utf-16", "multipart/form-data; boundary=x"):
        with pytest.raises(ContentError, match="content-type"):
            graphql(body, kind=kind)
    for method in ("GET", "PUT", "QUERY", "get"):
        with pytest.raises(ContentError, match="only POST"):
            read("graphql", method, "query={a}", JSON, b"", LIMIT)
    with pytest.raises(ContentError, match="larger than 10 bytes"):
        read("graphql", "POST", "", JSON, body, 10)
    with pytest.raises(ContentError, match=f"more than {MAX_BATCH}"):
        graphql([{"query": "{ a }"}] * (MAX_BATCH + 1))


def test_messages_of_graphql_over_websocket() -> None:
    assert read_message('{"type":"connection_init","payload":{"token":1}}') == (
        SessionMessage("GraphQL connection_init message"),
    )
    for kind in ("subscribe", "start"):
        text = json.dumps({"id": "1", "type": kind, "payload": {"query": "subscription { events }"}})
        assert read_message(text) == (GraphqlRequest("subscription", "", ("events",)),)
    for text in (
        "hello",
        "{}",
        '{"type": "next", "id": "1", "payload": {}}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": [{"query": "{ a }"}]}',
        '{"type": "ping", "type": "subscribe"}',
        '{"type": "ping", "query": "mutation { b }"}',
        '{"type": "\ud800"}',
        json.dumps({"type": "ping", "payload": "x" * 70000}),
    ):
        with pytest.raises(ContentError):
            read_message(text)


# -- JSON-RPC and MCP ---------------------------------------------------------------------------------------


def test_calls() -> None:
    assert rpc(call("tools/call", name="search", arguments={"q": 1})) == (RpcCall("tools/call", (("name", "search"),)),)
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert rpc([call("resources/read", uri="file:///x"), notification]) == (
        RpcCall("resources/read", (("uri", "file:///x"),)),
        RpcCall("notifications/initialized"),
    )
    assert rpc({"jsonrpc": "2.0", "id": None, "method": "eth_call", "params": [1, {}]}, "json-rpc") == (
        RpcCall("eth_call"),
    )
    assert [found.sort for found in rpc([call("tools/call", name=n) for n in ("a.b", "a/b", "é")])] == [
        "tool",
        "loose-tool",
        "loose-tool",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[[]]",
        b"1",
        b'{"jsonrpc": "2.0", "method": "a", "method": "b"}',
        b'{"jsonrpc": "2.0", "method": "a", "Method": "b"}',
        b'{"jsonrpc": "1.0", "method": "a"}',
        b'{"jsonrpc": 2.0, "method": "a"}',
        b'{"method": "a"}',
        b'{"jsonrpc": "2.0", "method": ""}',
        b'{"jsonrpc": "2.0", "method": ["a"]}',
        b'{"jsonrpc": "2.0", "method": "a", "params": "x"}',
        b'{"jsonrpc": "2.0", "method": "a", "params": null}',
        b'{"jsonrpc": "2.0", "method": "a", "id": {}}',
        b'{"jsonrpc": "2.0", "method": "a", "id": true}',
        b'{"jsonrpc": "2.0", "method": "a", "extra": 1}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {}}',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "a", "result": {}}',
        b'[{"jsonrpc": "2.0", "method": "a"}, {"jsonrpc": "2.0", "id": 1, "result": {}}]',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": ""}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": 1}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a", "name": "b"}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a", "Name": "b"}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"NAME": "b"}}',
        b'{"jsonrpc": "2.0", "method": "tools/call", "params": ["a"]}',
        b'{"jsonrpc": "2.0", "method": "tools/call"}',
        json.dumps(call("tools/call", name="x" * 129)).encode(),
        json.dumps(call("x" * 257)).encode(),
        json.dumps([call("a")] * (MAX_BATCH + 1)).encode(),
    ],
)
def test_calls_that_cannot_be_judged(body: bytes) -> None:
    with pytest.raises(ContentError):
        rpc(body)


def test_the_carriers_of_mcp() -> None:
    assert read("mcp", "GET", "", "", b"", LIMIT) == (SessionMessage("MCP stream"),)
    assert read("mcp", "DELETE", "", "", b"", LIMIT) == (SessionMessage("end of the MCP session"),)
    for protocol, method, body in (("mcp", "GET", b"x"), ("mcp", "PUT", b"{}"), ("json-rpc", "GET", b"")):
        with pytest.raises(ContentError):
            read(protocol, method, "", JSON, body, LIMIT)


# -- whatever comes -----------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["query", "id", "method", "params", "jsonrpc", "name", "type", "payload", "extensions", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_tokens = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "(",
            ")",
            ":",
            "...",
            "a",
            "b",
            "query",
            "mutation",
            "fragment",
            "on",
            "F",
            "@skip",
            "$x",
            "1",
            '"s"',
        ]
    ),
    max_size=20,
).map(" ".join)
_bodies = st.binary(max_size=40) | _json.map(lambda v: json.dumps(v).encode()) | _tokens.map(
    lambda text: json.dumps({"query": text}).encode()
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["graphql", "json-rpc", "mcp"]), st.sampled_from(["POST", "GET", "DELETE"]), _bodies)
def test_bytes_become_operations_or_a_refusal(protocol: str, method: str, body: bytes) -> None:
    try:
        found = read(protocol, method, "", JSON, body, LIMIT)
    except ContentError as error:
        words = [str(error)]
    else:
        words = [str(operation) for operation in found]
    assert words
    assert all(word.isprintable() for word in words)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | _json.map(json.dumps))
def test_messages_become_operations_or_a_refusal(text: str) -> None:
    try:
        words = [str(operation) for operation in read_message(text)]
    except ContentError as error:
        words = [str(error)]
    assert words
    assert all(word.isprintable() for word in words)


@settings(max_examples=150, deadline=None)
@given(_tokens)
def test_an_alias_changes_nothing_and_a_fragment_is_its_fields(text: str) -> None:
    try:
        (plain,) = document("query { a { b } c }")
        (spread,) = document("query { ...A z: c } fragment A on Q { y: a { " + (text or "b") + " } }")
    except ContentError:
        return
    assert isinstance(plain, GraphqlRequest)
    assert isinstance(spread, GraphqlRequest)
    assert set(plain.fields) <= set(spread.fields)
