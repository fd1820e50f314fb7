from __future__ import annotations

import pytest

from pyopenshell.policy import PolicyError, load
from pyopenshell.policy.engine import compile
from pyopenshell.policy.examples import load_examples, run
from tests.policy.test_question import POLICY

SUITE = """\
tests:
  - name: reading
    as: /usr/bin/curl
    allow:
      - GET https://a.test/x
      - CONNECT c.test:22
    deny:
      - {request: PUT https://a.test/x, because: method_not_allowed}
      - RAW a.test:443
    audit:
      - PUT https://b.test/x
  - as: /bin/sh
    ancestors: [/usr/bin/curl]
    allow: [GET https://a.test/]
"""


def test_examples_that_hold() -> None:
    examples = load_examples(SUITE)
    assert [one.line for one in examples] == [5, 6, 8, 9, 11, 14]
    assert examples[0].name == "reading"
    results = run(compile(load(POLICY)), examples)
    assert [result.complaint for result in results] == [""] * 6


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("deny: [GET https://a.test/]", "must be denied, is allowed: by rule 'site'"),
        ("allow: [PUT https://a.test/]", "must be allowed, is denied (method_not_allowed): PUT / not permitted"),
        ("deny: [PUT https://b.test/]", "must be denied, is audited (method_not_allowed): PUT / not permitted"),
        ("allow: [PUT https://b.test/]", "must be allowed, is audited"),
        ("deny: [{request: PUT https://a.test/, because: path_not_allowed}]", "because of path_not_allowed, is denied"),
    ],
)
def test_examples_that_do_not(line: str, complaint: str) -> None:
    (result,) = run(compile(load(POLICY)), load_examples(f"tests: [{{as: /usr/bin/curl, {line}}}]"))
    assert not result.passed
    assert complaint in result.complaint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tests: []", "t:1:1: there is no example"),
        ("test: []", "t:1:1: unknown key 'test'; did you mean 'tests'?"),
        ("{}", "t:1:1: tests is missing"),
        ("tests: [{allow: [GET https://a.test/]}]", "t:1:9: a test needs the program"),
        ("tests:\n- {as: /x}", "t:2:3: a test needs allow, deny or audit"),
        ("tests:\n- as: /x\n  alow: []", "t:3:3: unknown key 'alow'; did you mean 'allow'?"),
        ("tests:\n- as: /x\n  allow: [GET a.test]", "t:3:11: expected a URL"),
        ("tests:\n- as: x\n  allow: [GET https://a.test/]", "must be an absolute path"),
        (
            "tests:\n- as: /x\n  deny: [{request: GET https://a.test/, because: methd_not_allowed}]",
            "'method_not_allowed'",
        ),
        ("tests:\n- as: /x\n  allow: [{request: GET https://a.test/, because: host_not_allowed}]", "remove because"),
        ("tests:\n- as: /x\n  allow: [[GET]]", "remove a dash"),
        ("tests:\n- as: /x\n  allow: [{because: x}]", "an example needs request"),
    ],
)
def test_mistakes_have_a_place(text: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_examples(text, "t")
    assert problem in str(caught.value)


SORTS = """\
version: 1
network_policies:
  sorts:
    binaries: [{path: /usr/bin/curl}]
    endpoints:
      - {host: g.test, port: 443, protocol: graphql, access: read-only}
      - host: m.test
        port: 443
        protocol: mcp
        rules: [{allow: {method: initialize}}, {allow: {tool: "get_*"}}]
      - host: w.test
        port: 443
        protocol: websocket
        rules:
          - allow: {method: GET, path: /ws}
          - allow: {operation_type: subscription, fields: [events]}
"""
SORTS_SUITE = """\
tests:
  - as: /usr/bin/curl
    allow:
      - {request: POST https://g.test/, body: {query: "{ a }"}}
      - {request: POST https://m.test/, body: {jsonrpc: "2.0", id: 1, method: tools/call, params: {name: get_x}}}
      - GET https://m.test/
      - GET wss://w.test/ws
      - request: WEBSOCKET_TEXT wss://w.test/ws
        body: '{"type": "subscribe", "id": "1", "payload": {"query": "subscription { events }"}}'
    deny:
      - {request: POST https://g.test/, body: {query: "mutation { a }"}, because: operation_not_allowed}
      - {request: POST https://g.test/, body: {query: [a]}, because: invalid_request_content}
      - {request: POST https://g.test/, because: protocol_not_supported}
      - request: POST https://m.test/
        body: '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "del", "name": "get_x"}}'
        because: invalid_request_content
      - {request: WEBSOCKET_TEXT wss://w.test/ws, body: hello, because: invalid_request_content}
      - {request: GET https://w.test/ws, because: protocol_not_supported}
"""


def test_examples_of_what_requests_carry() -> None:
    results = run(compile(load(SORTS)), load_examples(SORTS_SUITE))
    assert [result.complaint for result in results] == [""] * 11
    for result in results:
        assert result.answer.word in str(result.answer) or result.passed
