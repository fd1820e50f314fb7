from __future__ import annotations

import dataclasses
import random
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.decision import Condition, Connection, Decision
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.policy.operations import GraphqlRequest, Operation, RpcCall, SessionMessage
from tests.policy.generate import Style, mutate, small
from tests.policy.reference import SESSION, TEXT, UPGRADE, Call, Graphql, Point, permits

CURL = "/usr/bin/curl"


def rest(host: str = "api.github.com", **fields: Any) -> Endpoint:
    return dataclasses.replace(Endpoint(host, (443,), protocol="rest"), **fields)


def engine(*endpoints: Endpoint, binaries: tuple[str, ...] = (CURL,), key: str = "github") -> Engine:
    return compile(Policy(rules=(Rule(key, endpoints, binaries),)))


def at(host: str = "api.github.com", port: int = 443, binary: str = CURL, *ancestors: str) -> Connection:
    return Connection(host, port, binary, ancestors)


# -- the definition -----------------------------------------------------------------------------------------


def _point(rng: random.Random) -> Point:
    chain = tuple(
        dict.fromkeys(rng.choice(["/b/c", "/b/d", "/q/c", "/b/q/c", "/z"]) for _ in range(rng.choice([1, 2])))
    )
    segments = [rng.choice(["a", "b", "ab", "qb", "A", "B", "a%2Fb"]) for _ in range(rng.choice([0, 1, 2, 3]))]
    path = "/" + "/".join(segments) + ("/" if segments and rng.random() < 0.3 else "")
    values = ["x", "y", "xy", "xq", "q", "z z", "é"]
    query = tuple((key, tuple(rng.sample(values, rng.choice([1, 1, 2])))) for key in "kl" if rng.random() < 0.5)
    host = rng.choice(["a.x.z", "b.x.z", "q.q.x.z", "a.b.z", "10.0.0.1", "zz"])
    return Point(chain, host, rng.choice([80, 443]), rng.choice([None, "GET", "HEAD", "PUT", "BREW"]), path, query)


def _carried(rng: random.Random, point: Point) -> Point:
    """The same point as an upgrade, a message, a GraphQL operation, a call, or what goes with them."""
    draw = rng.random()
    websocket = rng.random() < 0.4
    if draw < 0.15:
        return dataclasses.replace(point, method="GET", what=UPGRADE)
    if draw < 0.3:
        return dataclasses.replace(point, method="WEBSOCKET_TEXT", what=TEXT)
    if draw < 0.4:
        method = "WEBSOCKET_TEXT" if websocket else rng.choice(["GET", "DELETE"])
        return dataclasses.replace(point, method=method, what=SESSION)
    if draw < 0.7:
        kind, name = rng.choice(["query", "mutation", "subscription"]), rng.choice(["", "Go", "Get", "x"])
        fields = tuple(rng.sample(["a", "b", "ab", "qb", "q"], rng.choice([1, 1, 2])))
        what = Graphql(kind, name, fields)
        if rng.random() < 0.3:
            what = Graphql(id=rng.choice("ijk"))
        return dataclasses.replace(point, method="WEBSOCKET_TEXT" if websocket else "POST", what=what)
    method = rng.choice(["tools/call", "tools/call", "tools/list", "initialize", "x", "y", "z/z"])
    params = {}
    if method == "tools/call" or rng.random() < 0.3:
        params["name"] = rng.choice(["t", "t_x", "u", "t/u", "é", "a b"])
    if rng.random() < 0.3:
        params["uri"] = rng.choice(["f:x", "g"])
    if method == "initialize" and rng.random() < 0.8:
        params["protocolVersion"] = rng.choice("123")
    return dataclasses.replace(point, method="POST", what=Call(method, tuple(params.items())))


def _ask(engine: Engine, point: Point) -> bool:
    cell = engine.connect(Connection(point.host, point.port, point.chain[0], point.chain[1:]))
    if point.method is None:
        return cell.decision.allowed and not cell.inspected
    query = "&".join(f"{quote(k)}={quote(v)}" for k, values in point.query for v in values)
    target, what = point.path + (f"?{query}" if query else ""), point.what
    if what is None:
        return cell.decide(point.method, target).allowed
    if what == UPGRADE:
        return cell.decide_upgrade(target).allowed
    if what == TEXT:
        return cell.decide_message(target, b"x").allowed
    operation: Operation = SessionMessage("session")
    if isinstance(what, Call):
        operation = RpcCall(what.method, what.params)
    elif isinstance(what, Graphql):
        operation = GraphqlRequest(id=what.id) if what.id else GraphqlRequest(what.type, what.name, what.fields)
    return cell.decide_operations(point.method, target, [operation]).allowed


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_engine_is_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    policy = small(rng, 3, Style(classes=0.2, extras=True))
    built = compile(policy)
    for _ in range(30):
        point = _point(rng)
        assert _ask(built, point) == permits(policy, point), point


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_engine_is_the_definition_for_every_sort(seed: int) -> None:
    rng = random.Random(seed)
    policy = small(rng, 3, Style(classes=0.1, scoped=0.4, raw=0.02, sorts=0.7, extras=rng.random() < 0.5))
    built = compile(policy)
    for _ in range(40):
        point = _point(rng)
        point = _carried(rng, point) if point.method and rng.random() < 0.85 else point
        assert _ask(built, point) == permits(policy, point), point


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_reuse_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    style = Style(extras=True)
    before = small(rng, 3, style)
    after = mutate(rng, before, style)
    fresh, shared = compile(after), compile(after, reuse=compile(before))
    for _ in range(20):
        point = _point(rng)
        assert _ask(fresh, point) == _ask(shared, point)


def test_reuse_shares_unchanged_grants() -> None:
    policy = small(random.Random(3), 3)
    first = compile(policy)
    again = compile(policy, reuse=first)
    assert all(again.index.grants[key] is grant for key, grant in first.index.grants.items())
    keys = [e.connect(at("a.x.z", 443, "/b/c")).key for e in (first, again)]
    assert keys[0] == keys[1]


# -- connections --------------------------------------------------------------------------------------------


def test_no_rules_at_all() -> None:
    decision = compile(Policy()).decide(at())
    assert decision == Decision(False, "-", "network connections not allowed by policy", Condition.NO_POLICY)


def test_host_and_port_misses() -> None:
    built = engine(rest())
    host = built.decide(at("www.github.com"))
    assert host.reason == "endpoint www.github.com:443 is not allowed by any policy"
    assert (host.condition, host.rule) == (Condition.HOST, "-")
    assert host.nearest == "host www.github.com, allowed: api.github.com"
    port = built.decide(at(port=8443))
    assert port.reason == "endpoint api.github.com:8443 is not allowed by any policy"
    assert (port.condition, port.nearest) == (Condition.PORT, "port 8443, allowed: 443")


def test_binary_miss_names_policy_and_ancestors() -> None:
    decision = engine(rest()).decide(at("api.github.com", 443, "/usr/bin/wget", "/usr/bin/bash", "/sbin/init"))
    expected = "binary '/usr/bin/wget' not allowed in policy 'github' (ancestors: [/usr/bin/bash -> /sbin/init])"
    assert (decision.reason, decision.condition, decision.rule) == (expected, Condition.BINARY, "github")
    assert decision.nearest == "binary /usr/bin/wget, allowed: /usr/bin/curl"


def test_ancestors_grant_and_unknown_identity_never_does() -> None:
    built = engine(rest(), binaries=("/usr/bin/bash",))
    assert built.connect(at("api.github.com", 443, CURL, "/usr/bin/bash")).decision.allowed
    unknown = built.decide(at("api.github.com", 443, "", "/usr/bin/bash"))
    assert (unknown.allowed, unknown.condition) == (False, Condition.IDENTITY)
    assert not engine(rest(), binaries=("/**",)).decide(at(binary="")).allowed


@pytest.mark.parametrize("host", ["api.github.com\0.evil.test", "127.1", "api.github.com%00", "", "a b", "[::1"])
def test_malformed_hosts_are_denied_before_matching(host: str) -> None:
    decision = engine(rest(), Endpoint("**.evil.test", (443,))).decide(at(host))
    assert (decision.allowed, decision.condition) == (False, Condition.REQUEST_TARGET)
    assert decision.reason.isprintable()


def test_spelling_of_a_host_does_not_matter() -> None:
    built = engine(rest("API.github.com"))
    for host in ("api.github.com", "API.GITHUB.COM", "api.github.com."):
        assert built.connect(at(host)).decision.allowed


def test_empty_binaries_match_nobody_and_empty_host_is_an_error() -> None:
    assert not engine(rest(), binaries=()).decide(at()).allowed
    with pytest.raises(ValueError, match="host must not be empty"):
        engine(Endpoint("", (443,)))


def test_hostile_names_stay_on_one_printable_line() -> None:
    decision = engine(rest()).decide(at("api.github.com", 443, "/tmp/x\n\x1b[31m\u202eevil" + "y" * 999))
    assert decision.reason.isprintable()
    assert "\u202e" not in decision.reason + decision.nearest
    assert len(decision.reason) < 500


def test_cell_facts() -> None:
    policy = Policy(
        rules=(
            Rule("a", (Endpoint("x.test", (443,), tls="skip", allowed_ips=("10.0.0.0/8",)),), (CURL,)),
            Rule("b", (Endpoint("x.test", (443,), allowed_ips=("10.0.0.0/8", "fd00::/8")),), (CURL, "/bin/sh")),
            Rule("c", (Endpoint("*.test", (443,), advisor_proposed=True),), (CURL,)),
            Rule("d", (Endpoint("y.test", (443,), protocol="rest", access="full", advisor_proposed=True),), (CURL,)),
        )
    )
    built = compile(policy)
    raw = built.connect(at("x.test"))
    assert (raw.inspected, raw.tls_skip, raw.protocols) == (False, True, ())
    assert raw.allowed_ips == ("10.0.0.0/8", "fd00::/8")
    assert raw.host_declared
    assert raw.decision.rule == "a"
    assert raw.decide("GET", "/a/../b%2f").target == "/a/../b%2f"
    other = built.connect(at("z.test"))
    assert (other.decision.allowed, other.host_declared) == (True, False)
    inspected = built.connect(at("y.test"))
    assert (inspected.inspected, inspected.tls_skip, inspected.host_declared) == (True, False, False)
    assert inspected.protocols == ("rest",)
    assert inspected.key != raw.key
    assert built.connect(at("y.test", 443, CURL, "/bin/sh")).key == inspected.key
    denied = built.connect(at("q.other"))
    assert not denied.decide("GET", "/").allowed
    assert not denied.inspected


def test_an_inspected_endpoint_shadows_a_raw_one() -> None:
    cell = engine(Endpoint("api.github.com", (443,)), rest(access="read-only")).connect(at())
    assert cell.inspected
    assert not cell.decide("PUT", "/x").allowed


# -- requests -----------------------------------------------------------------------------------------------

RULES = (L7Match("GET", "/repos/**"), L7Match("PUT", "/repos/acme/site/contents/README.md"))


def test_permits_and_canonical_target() -> None:
    cell = engine(rest(rules=RULES)).connect(at())
    decision = cell.decide("GET", "/x/../repos//a?b=%2e")
    assert decision == Decision(True, "github", path="/repos/a", target="/repos/a?b=%2e")
    assert cell.decide("HEAD", "/repos/a").allowed
    assert cell.decide("put", "/repos/acme/site/contents/README.md").allowed


@pytest.mark.parametrize(
    ("method", "target", "reason", "condition"),
    [
        ("PUT", "/repos/a", "PUT /repos/a not permitted by policy", Condition.METHOD),
        ("GET", "/user?token=s3cret", "GET /user not permitted by policy", Condition.PATH),
        ("GET", "/repos", "GET /repos not permitted by policy", Condition.PATH),
        ("DELETE", "/repos/secret/x", "DELETE /repos/secret/x blocked by deny rule", Condition.DENY_RULE),
        ("HEAD", "/repos/secret", "HEAD /repos/secret blocked by deny rule", Condition.DENY_RULE),
    ],
)
def test_reasons(method: str, target: str, reason: str, condition: Condition) -> None:
    denies = (L7Match("*", "/repos/secret/**"),)
    decision = engine(rest(rules=RULES, deny_rules=denies)).connect(at()).decide(method, target)
    assert (decision.allowed, decision.reason, decision.condition) == (False, reason, condition)
    assert decision.rule == "github"
    assert "s3cret" not in decision.nearest + decision.reason + decision.path


def test_nearest_misses() -> None:
    cell = engine(rest(rules=RULES)).connect(at())
    assert cell.decide("DELETE", "/repos/x").nearest == "method DELETE, allowed on this path: GET"
    near = cell.decide("PUT", "/repos/acme/site/contents/other.md").nearest
    assert "PUT /repos/acme/site/contents/README.md" in near
    assert "/repos/**" in cell.decide("GET", "/user").nearest


@pytest.mark.parametrize("target", ["/a%2fb", "/..", "/a%00", "/a#b", "*", "/a?%zz", "/é", "/a?x=%ff"])
def test_uncanonical_targets_are_denied(target: str) -> None:
    decision = engine(rest(access="full")).connect(at()).decide("GET", target)
    assert (decision.allowed, decision.condition, decision.target) == (False, Condition.REQUEST_TARGET, "")
    assert decision.reason.startswith("request-target must be canonical")


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "é", "A" * 65])
def test_methods_that_are_no_tokens_are_denied(method: str) -> None:
    assert not engine(rest(access="full")).connect(at()).decide(method, "/").allowed


def test_query_conditions() -> None:
    rule = L7Match("GET", "/search", (("ref", QueryMatcher(("v*",))),))
    cell = engine(rest(rules=(rule,))).connect(at())
    assert cell.decide("GET", "/search?ref=v1.2").allowed
    for target in ("/search", "/search?ref=v1&ref=main", "/search?Ref=v1", "/search?ref=", "/search?xref=v1"):
        decision = cell.decide("GET", target)
        assert (decision.allowed, decision.condition) == (False, Condition.QUERY)
    deny = engine(rest(access="full", deny_rules=(L7Match("GET", "/s", (("q", QueryMatcher(("a b",))),)),)))
    assert not deny.connect(at()).decide("GET", "/s?q=a+b").allowed
    assert not deny.connect(at()).decide("GET", "/s?q=x&q=a%20b").allowed
    assert deny.connect(at()).decide("GET", "/s?q=x").allowed


def test_audit_is_marked_and_never_overrides_a_more_specific_scope() -> None:
    cell = engine(
        rest(access="read-only", enforcement="audit"), rest(path="/admin/**", rules=(L7Match("GET", "/admin/ok"),))
    ).connect(at())
    forwarded = cell.decide("PUT", "/x")
    assert (forwarded.allowed, forwarded.audit) == (True, True)
    assert forwarded.reason == "PUT /x not permitted by policy"
    assert cell.decide("GET", "/x") == Decision(True, "github", path="/x", target="/x")
    assert not cell.decide("PUT", "/admin/x").allowed


def test_no_endpoint_path() -> None:
    decision = engine(rest(path="/api/**", access="full")).connect(at()).decide("GET", "/other")
    assert (decision.reason, decision.condition) == ("no L7 endpoint path matched request", Condition.ENDPOINT_PATH)
    assert "/api/**" in decision.nearest


def test_encoded_slash_belongs_to_the_endpoint_that_allows_it() -> None:
    cell = engine(
        rest(path="/projects/**", access="full", allow_encoded_slash=True),
        rest(path="/public/**", access="full"),
        rest(deny_rules=(L7Match("*", "/projects/secret/**"),), rules=(L7Match("GET", "/x"),)),
    ).connect(at())
    assert cell.decide("GET", "/projects/g%2fp").target == "/projects/g%2Fp"
    assert not cell.decide("GET", "/public/g%2fp").allowed
    assert not cell.decide("GET", "/projects/secret/g%2fp").allowed
    assert not cell.decide("GET", "/projects/..%2fp").allowed


def test_denies_hold_modulo_trailing_slash_and_letter_case() -> None:
    denies = (L7Match("*", "/repos/acme/**"), L7Match("*", "/x"), L7Match("*", "/y/"))
    built = engine(rest(access="full", deny_rules=denies, path_case="insensitive"))
    for target in ("/repos/acme", "/repos/ACME/x", "/Repos/acme/", "/x/", "/X", "/y"):
        assert built.decide(at(), "GET", target).condition is Condition.DENY_RULE, target
    assert built.decide(at(), "GET", "/repos/other").allowed


@pytest.mark.parametrize("protocol", ["graphql", "websocket", "mcp", "json-rpc", "sql"])
def test_unsupported_protocols_deny_their_scope(protocol: str) -> None:
    endpoint = dataclasses.replace(rest(), path="/graphql", protocol=protocol, access="full", enforcement="audit")
    cell = engine(rest(access="full"), endpoint).connect(at())
    decision = cell.decide("POST", "/graphql")
    assert (decision.allowed, decision.condition) == (False, Condition.PROTOCOL)
    assert protocol in decision.reason
    assert cell.decide("POST", "/other").allowed


def test_what_is_not_written_allows_nothing_and_still_denies() -> None:
    vague = (L7Match("GET", ""), L7Match("", "/**"), L7Match("GET", "/**", operation_name="x"))
    assert not engine(rest(rules=vague)).decide(at(), "GET", "/x").allowed
    for deny in (L7Match("GET", ""), L7Match("", "/**")):
        assert not engine(rest(access="full", deny_rules=(deny,))).decide(at(), "GET", "/x").allowed
    assert not engine(rest(access="everything")).decide(at(), "GET", "/x").allowed


@pytest.mark.parametrize("path", ["/a/{b,c}", "no-slash", "/a**b", "/a/../b"])
def test_patterns_that_mean_nothing_do_not_compile(path: str) -> None:
    with pytest.raises(ValueError, match="rule 'github'"):
        engine(rest(rules=(L7Match("GET", path),)))
    with pytest.raises(ValueError, match="rule 'github'"):
        engine(rest(access="full", deny_rules=(L7Match("GET", path),)))


def test_memory_is_bounded_under_invented_names() -> None:
    built = engine(rest(rules=(L7Match("GET", "/a/x*/**"), L7Match("GET", "/b/*/c"))))
    cell = built.connect(at())
    for number in range(6000):
        assert cell.decide("GET", f"/a/x{number}/y{number}").allowed
        assert cell.decide(f"M{number}", f"/b/{number}/c").condition is Condition.METHOD
        built.connect(at(f"h{number}.test"))
    assert len(built._cells) <= 4096
    automaton = cell._automaton
    assert automaton is not None
    states = list(automaton._states.values())
    assert len(states) < 50
    assert max(len(state.memo) for state in states) <= 1024
    assert max(len(state.table) for state in states) <= 64


# -- what requests carry ------------------------------------------------------------------------------------

BODY = "application/json"


def _mixed() -> Engine:
    graphql = dataclasses.replace(rest(path="/graphql"), protocol="graphql", rules=(L7Match(operation_type="query"),))
    socket = dataclasses.replace(
        rest(path="/ws"), protocol="websocket", rules=(L7Match("GET", "/ws"), L7Match("WEBSOCKET_TEXT", "/ws"))
    )
    tool = L7Match("tools/call", params=(("name", QueryMatcher(("get_*",))),))
    mcp = dataclasses.replace(rest(path="/mcp"), protocol="mcp", rules=(L7Match("initialize"), tool))
    return engine(rest(access="full"), graphql, socket, mcp)


def test_a_plain_request_never_passes_where_content_is_judged() -> None:
    cell = _mixed().connect(at())
    for target in ("/graphql", "/ws", "/mcp"):
        for method in ("GET", "POST", "WEBSOCKET_TEXT", "graphql", "*"):
            decision = cell.decide(method, target)
            assert (decision.allowed, decision.condition) == (False, Condition.PROTOCOL)
    assert cell.decide("POST", "/other").allowed
    assert [cell.content_limit(target) for target in ("/graphql?x=1", "/ws", "/mcp", "/other")] == [65536, 0, 65536, 0]


def test_bodies() -> None:
    cell = _mixed().connect(at())

    def ask(target: str, body: str) -> tuple[bool, str]:
        decision = cell.decide_content("POST", target, BODY, body.encode())
        return decision.allowed, decision.condition.value

    assert ask("/graphql", '{"query": "{ a }"}') == (True, "none")
    assert ask("/graphql", '{"query": "mutation { a: b }"}') == (False, "operation_not_allowed")
    assert ask("/graphql", '[{"query": "{ a }"}, {"query": "mutation { b }"}]') == (False, "operation_not_allowed")
    assert ask("/graphql", '{"id": "x"}') == (False, "operation_not_allowed")
    assert ask("/graphql", "{}") == (False, "invalid_request_content")
    assert ask("/graphql?query={a}", '{"query": "{ a }"}') == (False, "invalid_request_content")
    call = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "%s"}}'
    assert ask("/mcp", call % "get_x") == (True, "none")
    assert ask("/mcp", call % "del_x") == (False, "operation_not_allowed")
    assert ask("/mcp", call % "get_x/../y") == (False, "operation_not_allowed")
    assert ask("/mcp", f"[{call % 'get_x'}, {call % 'del_x'}]") == (False, "operation_not_allowed")
    assert cell.decide_content("GET", "/mcp", "", b"").allowed
    assert cell.decide_content("POST", "/other", "text/plain", b"anything").allowed
    denied = cell.decide_content("POST", "/mcp", BODY, (call % "del_x").encode())
    assert denied.reason == "call tools/call name='del_x' not permitted by policy"
    assert denied.nearest.startswith("allowed: call tools/call params.name=get_* (rule 'github'), ")


def test_messages() -> None:
    cell = _mixed().connect(at())
    assert cell.decide_upgrade("/ws").allowed
    assert cell.decide_message("/ws", "anything").allowed
    assert cell.decide_message("/ws", b"\x00").allowed
    assert cell.decide_upgrade("/other").allowed
    assert not cell.decide_upgrade("/graphql").allowed
    assert not cell.decide_message("/graphql", "x").allowed
    reading = dataclasses.replace(rest(), protocol="websocket", access="read-only")
    quiet = engine(reading).connect(at())
    assert quiet.decide_upgrade("/x").allowed
    decision = quiet.decide_message("/x", "y")
    assert (decision.allowed, decision.condition) == (False, Condition.METHOD)
    assert decision.reason == "WEBSOCKET_TEXT /x not permitted by policy"


def test_messages_that_are_graphql() -> None:
    rules = (L7Match("GET", "/ws"), L7Match(operation_type="subscription", fields=("events",)))
    cell = engine(dataclasses.replace(rest(), protocol="websocket", rules=rules)).connect(at())
    start = '{"id": "1", "type": "subscribe", "payload": {"query": "%s"}}'
    assert cell.decide_message("/ws", '{"type": "connection_init"}').allowed
    assert cell.decide_message("/ws", start % "subscription { e: events }").allowed
    for text in (start % "subscription { events secrets }", start % "mutation { events }", "hello", "{}"):
        assert not cell.decide_message("/ws", text).allowed
    decision = cell.decide_message("/ws", (start % "subscription { events }").encode())
    assert (decision.allowed, decision.condition) == (False, Condition.PROTOCOL)


def test_audit_forwards_what_rules_refuse_but_not_what_nobody_can_read() -> None:
    endpoint = dataclasses.replace(rest(), protocol="graphql", access="read-only", enforcement="audit")
    cell = engine(endpoint).connect(at())
    decision = cell.decide_content("POST", "/", BODY, b'[{"query": "{ a }"}, {"query": "mutation { b }"}]')
    assert (decision.allowed, decision.audit) == (True, True)
    assert "mutation {b}" in decision.reason
    assert not cell.decide_content("POST", "/", BODY, b"{}").allowed
    assert not cell.decide("POST", "/").allowed
    assert not cell.decide_operations("POST", "/", []).allowed


def test_a_deny_on_the_carrier_refuses_what_it_carries() -> None:
    graphql = dataclasses.replace(rest(path="/graphql"), protocol="graphql", access="full")
    denies = (L7Match("POST", "/graphql", (("debug", QueryMatcher(("*",))),)), L7Match("GET", "/mcp"))
    cell = engine(rest(access="full", deny_rules=denies), graphql).connect(at())
    body = b'{"query": "{ a }"}'
    assert cell.decide_content("POST", "/graphql", BODY, body).allowed
    decision = cell.decide_content("POST", "/graphql?debug=1", BODY, body)
    assert (decision.condition, decision.reason) == (Condition.DENY_RULE, "POST /graphql blocked by deny rule")


def test_a_query_key_never_stands_for_what_the_body_says() -> None:
    rules = (L7Match("tools/call", params=(("uri", QueryMatcher(("*",))),)),)
    cell = engine(dataclasses.replace(rest(), protocol="mcp", rules=rules)).connect(at())
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}'
    assert not cell.decide_content("POST", "/?%EE%80%81params.uri=x", BODY, body).allowed


@pytest.mark.parametrize("protocol", ["sql", "SQL", "carrier-pigeon"])
def test_what_no_protocol_of_ours_judges_is_denied(protocol: str) -> None:
    cell = engine(rest(protocol=protocol, access="full", enforcement="audit")).connect(at())
    assert not cell.decide("GET", "/").allowed
    assert not cell.decide_upgrade("/").allowed
    assert not cell.decide_message("/", "SELECT 1").allowed
    assert not cell.decide_content("POST", "/", BODY, b'{"query": "{ a }"}').allowed
