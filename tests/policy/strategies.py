"""Hypothesis strategies for policies: `policies()` draws from the whole language, `small_rules()` from a tiny universe
in which rules meet often, so that merging, coverage and the engine can be compared request by request."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from pyopenshell.policy.model import (
    Endpoint,
    FilesystemPolicy,
    GraphqlOperation,
    L7Match,
    LandlockPolicy,
    McpOptions,
    Middleware,
    Policy,
    ProcessPolicy,
    QueryMatcher,
    Rule,
)
from pyopenshell.policy.schema import canonical_json
from pyopenshell.policy.validate import validate

_label = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
_exact = st.lists(_label, min_size=2, max_size=4).map(".".join)
_names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12).filter(str.isprintable)
_wild = st.tuples(st.sampled_from(["*", "**", "*-a", "a*"]), _label, _label).map(".".join)
hosts = st.one_of(_exact, _wild, st.sampled_from(["10.0.0.1", "fd00::1", "on.no", "1.2.3.4"]))
ports = st.lists(st.integers(1, 65535), min_size=1, max_size=3).map(lambda found: tuple(sorted(set(found))))
_segment = st.one_of(_label, st.sampled_from(["*", "a*", "*.json", "**", "[ab]c", "?x", "%40a"]))
paths = st.one_of(st.just("**"), st.lists(_segment, max_size=4).map(lambda found: "/" + "/".join(found)))
_glob = st.text("abc*?xyz01.: -_/=", max_size=6)
_matcher = st.lists(_glob, min_size=1, max_size=2).map(lambda found: QueryMatcher(tuple(found)))


def _matchers(keys: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, QueryMatcher], ...]]:
    return st.dictionaries(keys, _matcher, max_size=2).map(lambda found: tuple(sorted(found.items())))


http_matches = st.builds(
    L7Match,
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "*", "PROPFIND"]),
    path=paths,
    query=_matchers(_names),
)
graphql_matches = st.builds(
    L7Match,
    operation_type=st.sampled_from(["query", "mutation", "*"]),
    operation_name=st.sampled_from(["", "Get*", "x"]),
    fields=st.lists(st.sampled_from(["a", "b*"]), max_size=2, unique=True).map(tuple),
)
mcp_matches = st.builds(
    L7Match,
    method=st.sampled_from(["tools/call", "tools/list", "*"]),
    params=st.one_of(_matchers(st.just("name")).map(lambda m: tuple((k, QueryMatcher(("a_b",))) for k, _ in m))),
)
_limits = st.sampled_from([1, 65536, 100_000])
_operations = st.dictionaries(
    _names,
    st.builds(
        GraphqlOperation, st.sampled_from(["mutation", "query"]), st.just("Get"), st.sampled_from([("a",), ("a", "b")])
    ),
    max_size=2,
).map(lambda found: tuple(sorted(found.items())))


def _some(matches: st.SearchStrategy[L7Match], least: int) -> st.SearchStrategy[tuple[L7Match, ...]]:
    return st.lists(matches, min_size=least, max_size=3, unique=True).map(tuple)


def _either(**kwargs: st.SearchStrategy[object]) -> st.SearchStrategy[Endpoint]:
    return st.builds(Endpoint, host=hosts, ports=ports, advisor_proposed=st.booleans(), **kwargs)


_raw = _either(
    tls=st.sampled_from(["", "skip"]),
    allowed_ips=st.sampled_from([(), ("10.0.0.0/8",), ("10.1.0.0/16", "fd00::/8")]),
    allow_uninspected_credentials=st.booleans(),
)
_rest = _either(
    protocol=st.just("rest"),
    rules=_some(http_matches, 1),
    deny_rules=_some(http_matches, 0),
    enforcement=st.sampled_from(["enforce", "audit"]),
    path=st.one_of(st.just(""), paths),
    path_case=st.sampled_from(["sensitive", "insensitive"]),
    allow_encoded_slash=st.booleans(),
    websocket_credential_rewrite=st.booleans(),
    credential_signing=st.just("sigv4"),
    signing_service=_label,
    signing_region=st.sampled_from(["", "eu-1"]),
    credential_provider=st.sampled_from(["", "aws"]),
)
_preset = _either(
    protocol=st.sampled_from(["rest", "websocket", "graphql"]),
    access=st.sampled_from(["read-only", "read-write", "full"]),
    provider_credentialed=st.booleans(),
)
_graphql = _either(
    protocol=st.just("graphql"),
    rules=_some(graphql_matches, 1),
    persisted_queries=st.sampled_from(["deny", "allow_registered"]),
    graphql_persisted_queries=_operations,
    graphql_max_body_bytes=_limits,
)
_json_rpc = _either(
    protocol=st.just("json-rpc"),
    rules=_some(st.builds(L7Match, method=st.sampled_from(["eth_call", "*"])), 1),
    json_rpc_max_body_bytes=_limits,
)
_mcp = _either(
    protocol=st.just("mcp"),
    rules=_some(mcp_matches, 1),
    mcp=st.none()
    | st.builds(
        McpOptions,
        max_body_bytes=_limits,
        strict_tool_names=st.booleans(),
        allow_all_known_mcp_methods=st.booleans(),
        versions=st.sampled_from([(), ("2025-06-18",)]),
    ),
)
endpoints = st.one_of(_raw, _rest, _preset, _graphql, _json_rpc, _mcp)
binaries = st.lists(
    st.one_of(st.sampled_from(["/usr/bin/curl", "/**", "/opt/*/bin/*", "/usr/bin/a b"]), _label.map("/bin/{}".format)),
    min_size=1,
    max_size=3,
    unique=True,
).map(tuple)


@st.composite
def rules(draw: st.DrawFn, key: str | None = None) -> Rule:
    return Rule(
        key=key if key is not None else draw(_names),
        endpoints=tuple(draw(st.lists(endpoints, min_size=1, max_size=3))),
        binaries=draw(binaries),
        name=draw(st.one_of(st.just(""), _names)),
    )


_fs_paths = st.lists(_label.map("/{}".format), max_size=3).map(tuple)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | _names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def middlewares(draw: st.DrawFn) -> tuple[Middleware, ...]:
    keys = draw(st.lists(_names, max_size=2, unique=True))
    return tuple(
        Middleware(
            key=key,
            middleware=draw(_names),
            name=draw(st.just("") | _names),
            config_json=canonical_json(draw(st.dictionaries(_names, _json, max_size=2))),
            on_error=draw(st.sampled_from(["fail", "open"])),
            order=index,
            include=draw(st.sampled_from([(), ("*",)])),
            exclude=draw(st.sampled_from([(), ("a.b",)])),
        )
        for index, key in enumerate(keys)
    )


@st.composite
def policies(draw: st.DrawFn, *, provenance: bool = True) -> Policy:
    """Any valid policy, all sections. Without `provenance` the flags that YAML never carries are off."""
    keys = draw(st.lists(_names, max_size=3, unique=True))
    found = Policy(
        filesystem=draw(st.none() | st.builds(FilesystemPolicy, st.booleans(), _fs_paths, _fs_paths)),
        landlock=draw(st.none() | st.builds(LandlockPolicy, st.sampled_from(["best_effort", "hard_requirement"]))),
        process=draw(st.none() | st.builds(ProcessPolicy, st.sampled_from(["", "sandbox", "1000"]), st.just("7"))),
        rules=tuple(draw(rules(key)) for key in keys),
        middlewares=draw(middlewares()),
    )
    if not provenance:
        found = without_provenance(found)
    assert validate(found) == []
    return found


def without_provenance(policy: Policy) -> Policy:
    return dataclasses.replace(
        policy,
        rules=tuple(
            dataclasses.replace(
                rule,
                endpoints=tuple(
                    dataclasses.replace(e, advisor_proposed=False, provider_credentialed=False) for e in rule.endpoints
                ),
            )
            for rule in policy.rules
        ),
    )


# ---- a tiny universe ---------------------------------------------------------------------------------------------

SMALL_HOSTS = ("a.x.z", "b.x.z")
SMALL_PORTS = (80, 443)
SMALL_BINARIES = ("/b/c", "/b/d")
SMALL_METHODS = ("GET", "HEAD", "PUT")
SMALL_PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/p", "/p/q", "/%2Fa")
_small_patterns = st.sampled_from(["**", "/a", "/a/*", "/a/**", "/a/b", "/p", "/p/**", "/*"])
_small_matches = st.builds(L7Match, method=st.sampled_from(["GET", "PUT", "*"]), path=_small_patterns)


@st.composite
def small_endpoints(draw: st.DrawFn) -> Endpoint:
    endpoint = Endpoint(
        host=draw(st.sampled_from([*SMALL_HOSTS, "*.x.z"])),
        ports=draw(st.sampled_from([(443,), (443,), (80,), (80, 443)])),
        advisor_proposed=draw(st.sampled_from([False, False, True])),
    )
    if draw(st.integers(0, 3)) == 0:
        return endpoint
    endpoint = dataclasses.replace(
        endpoint,
        protocol="rest",
        path=draw(st.sampled_from(["", "", "", "/a/**"])),
        enforcement=draw(st.sampled_from(["enforce"] * 5 + ["audit"])),
        allow_encoded_slash=draw(st.sampled_from([False, False, False, True])),
    )
    if draw(st.integers(0, 3)) == 0:
        access = draw(st.sampled_from(["read-only", "read-write", "full"]))
        return dataclasses.replace(endpoint, access=access, deny_rules=draw(_some(_small_matches, 0)))
    allows = draw(_some(_small_matches, 1))
    return dataclasses.replace(endpoint, rules=allows, deny_rules=draw(st.just(()) | _some(_small_matches, 0)))


@st.composite
def small_rules(draw: st.DrawFn) -> Rule:
    return Rule(
        key=draw(st.sampled_from(["r1", "r2", "r3"])),
        endpoints=tuple(draw(st.lists(small_endpoints(), min_size=1, max_size=2))),
        binaries=draw(st.sampled_from([("/b/c",), ("/b/d",), ("/b/c", "/b/d"), ("/b/*",)])),
    )


@st.composite
def small_policies(draw: st.DrawFn) -> Policy:
    found = {rule.key: rule for rule in draw(st.lists(small_rules(), max_size=3))}
    return Policy(rules=tuple(found.values()))
