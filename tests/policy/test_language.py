"""Every example of docs/policy-language.md, run."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pyopenshell.policy import patterns
from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import compile
from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.hosts import canonical_host, host_matches, host_pattern
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.policy.paths import canonicalise
from pyopenshell.policy.problems import PolicyError
from pyopenshell.policy.query import allows, conditions, denies, parse_query
from pyopenshell.policy.tries import matches
from tests.policy.reference import binary_matches, deny_path_matches, path_regex

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "policy-language.md").read_text()
BLOCKS = re.findall(r"^```([a-z-]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINE = re.compile(r"(?P<left>.*?)(?: (?P<sign>[→∋∌]) ?(?P<right>.*)| (?P<refused>✗))")


def examples() -> Iterator[tuple[str, str, str, str]]:
    for kind, block in BLOCKS:
        for line in block.splitlines():
            match = LINE.fullmatch(line)
            assert match is not None, line
            yield kind, match["left"], match["sign"] or match["refused"], match["right"] or ""


EXAMPLES = list(examples())


def path_of(target: str) -> str:
    return canonicalise(target, allow_encoded_slash=False).path


def slash_path_of(target: str) -> str:
    return canonicalise(target, allow_encoded_slash=True).path


SPELLINGS: dict[str, Callable[[str], object]] = {
    "host": canonical_host,
    "path": path_of,
    "path-slash": slash_path_of,
    "path-pattern": path_pattern,
}


def _conditions(text: str) -> tuple[tuple[str, QueryMatcher], ...]:
    key, _, glob = text.partition("=")
    return ((key, QueryMatcher((glob,))),)


def _engine_allows(match: L7Match, target: str, *, deny: bool) -> bool:
    plain = Endpoint("x.test", (443,), protocol="rest")
    endpoint = replace(plain, deny_rules=(match,), access="full") if deny else replace(plain, rules=(match,))
    engine = compile(Policy(rules=(Rule("r", (endpoint,), ("/b",)),)))
    return engine.decide(Connection("x.test", 443, "/b"), "GET", target).allowed


def _binary(pattern: str, path: str) -> bool:
    engine = compile(Policy(rules=(Rule("r", (Endpoint("x.test", (443,)),), (pattern,)),)))
    found = engine.decide(Connection("x.test", 443, path)).allowed
    assert found == binary_matches(pattern, path)
    return found


def _path(pattern: str, path: str) -> bool:
    found = matches(path_pattern(pattern)[1], path[1:].split("/"))
    assert found == bool(path_regex(pattern.replace("%40", "@")).match(path)), "the definition says otherwise"
    return found


def _deny(pattern: str, path: str) -> bool:
    endpoint = Endpoint("x.test", (443,), protocol="rest")
    found = not _engine_allows(L7Match("*", pattern), path, deny=True)
    assert found == deny_path_matches(endpoint, pattern, path)
    return found


def _query(text: str, query: str) -> bool:
    found = allows(conditions(_conditions(text)), parse_query(query))
    match = L7Match("GET", "/**", _conditions(text))
    assert found == _engine_allows(match, "/x" + (f"?{query}" if query else ""), deny=False)
    return found


def _query_deny(text: str, query: str) -> bool:
    found = denies(conditions(_conditions(text)), parse_query(query))
    assert found != _engine_allows(L7Match("GET", "/**", _conditions(text)), f"/x?{query}", deny=True)
    return found


def _carried(endpoint: Endpoint, body: str) -> bool:
    engine = compile(Policy(rules=(Rule("r", (endpoint,), ("/b",)),)))
    cell = engine.connect(Connection("x.test", 443, "/b"))
    return cell.decide_content("POST", "/", "application/json", body.encode()).allowed


def _graphql(text: str, document: str) -> bool:
    kind, name, *fields = text.split()
    match = L7Match(operation_type=kind, operation_name=name, fields=tuple(fields))
    endpoint = Endpoint("x.test", (443,), protocol="graphql", rules=(match,))
    return _carried(endpoint, json.dumps({"query": document}))


def _call(text: str, body: str) -> bool:
    first, _, tool = text.partition(" ")
    match = L7Match(params=(("name", QueryMatcher((tool,))),)) if tool else L7Match(first)
    return _carried(Endpoint("x.test", (443,), protocol="mcp", rules=(match,)), body)


RELATIONS: dict[str, Callable[[str, str], bool]] = {
    "host-pattern": lambda pattern, host: host_matches(host_pattern(pattern), host),
    "path-pattern": _path,
    "binary": _binary,
    "deny": _deny,
    "query": _query,
    "query-deny": _query_deny,
    "graphql": _graphql,
    "call": _call,
}


@pytest.mark.parametrize(("kind", "left", "sign", "right"), EXAMPLES, ids=lambda text: repr(text))
def test_examples_hold(kind: str, left: str, sign: str, right: str) -> None:
    if sign == "→":
        assert SPELLINGS[kind](left) == right
        assert SPELLINGS[kind](right) == right, "canonical spellings are their own"
    elif sign == "✗":
        if kind == "path-pattern":
            assert patterns.path_problem(left)
        else:
            with pytest.raises((ValueError, PolicyError)):
                SPELLINGS[kind](left)
    else:
        assert RELATIONS[kind](left, right) is (sign == "∋")


def test_the_page_has_examples_of_everything() -> None:
    assert {kind for kind, *_ in EXAMPLES} == SPELLINGS.keys() | RELATIONS.keys()
    assert len(EXAMPLES) > 90
