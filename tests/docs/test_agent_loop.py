"""docs/agent-loop.md: every key, code, header, route, limit and outcome of the loop; its examples are real."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from typing import Any

import pytest

from pyopenshell.policy import proposal
from pyopenshell.policy.decision import Condition
from pyopenshell.policy.ladder import RUNGS
from pyopenshell.supervisor import policy_local
from pyopenshell.supervisor.denial import Denial, envelope, http_response
from pyopenshell.supervisor.denials.ledger import CAPACITY
from pyopenshell.supervisor.logs import DENIAL_LINE_LIMIT, DENIALS_KEPT
from pyopenshell.supervisor.proposals import State
from pyopenshell.supervisor.proxy.admission import request_denial
from pyopenshell.supervisor.proxy.context import Limits
from pyopenshell.supervisor.proxy.destination import CONTROL_PLANE_PORTS
from tests.docs.code import argument, arguments, calls, modules, page, values

TEXT = page("agent-loop.md")
ROOM = "supervisor"
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
MAKERS = ("Denial", "replace", "request_denial")
"""What makes denials."""
DENIALS = [example for example in EXAMPLES if "denial_id" in example]


def part(title: str) -> str:
    """One section of the page, with its sub-sections."""
    level = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    assert level, f"docs/agent-loop.md has no section '{title}'"
    return re.split(rf"^#{{1,{len(level[1])}}} ", TEXT[level.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def conditions() -> set[str]:
    """Of denials: the engine's, the destination guard's, and those the doors name themselves."""
    carried = ("decision.condition.value", "refusal.condition")
    own = arguments(*MAKERS, keyword="condition", position=None, room=ROOM, elsewhere=carried.__contains__)
    return own | arguments("Refusal", keyword="condition", position=2, room=ROOM) | {one.value for one in Condition}


def denial_errors() -> set[str]:
    field = next(one for one in dataclasses.fields(Denial) if one.name == "error")
    return {str(field.default)} | {
        text
        for found in calls(*MAKERS, room=f"{ROOM}/proxy")
        if (value := argument(found, "error", None)) is not None
        for text in values(value, found, lambda _: False)
    }


def stages() -> set[str]:
    carried = "intent.stage".__eq__
    own = arguments(*MAKERS, keyword="stage", position=None, room=ROOM, elsewhere=carried)
    usual = inspect.signature(request_denial).parameters["stage"].default
    return own | {usual} | arguments("Intent", keyword="stage", position=0, room=ROOM)


def proxy_errors() -> set[str]:
    """Of answers that are no denials."""
    failures = arguments("Failure", keyword="error", position=1, room=ROOM)
    return failures | arguments("error_response", keyword="error", position=1, room=ROOM)


def local_errors() -> set[str]:
    return arguments("_RefusedError", keyword="code", position=1, room=ROOM)


def routes() -> set[str]:
    """From the match statement of `_route`: `GET /v1/proposals/{id}`."""
    tree = dict(modules(ROOM))["supervisor/policy_local.py"]
    found = set()
    for case in (node for node in ast.walk(tree) if isinstance(node, ast.match_case)):
        match case.pattern:
            case ast.MatchSequence(patterns=[ast.MatchValue(ast.Constant(method)), ast.MatchSequence(patterns=parts)]):
                words = [p.value.value if isinstance(p, ast.MatchValue) else "{id}" for p in parts]  # type: ignore[attr-defined]
                found.add(f"{method!s} {'/'.join(words)}")
    return found


def samples() -> list[Denial]:
    common: dict[str, Any] = {"host": "h", "port": 1, "detail": "d", "binary": "/b", "reason": "r", "nearest": "n"}
    blocked = Denial(layer="l7", stage="l7", method="GET", path="/", condition="blocked_by_deny_rule", **common)
    return [Denial(layer="l4", stage="connect", **common), blocked]


def test_the_lists_are_not_empty() -> None:
    assert {"address_internal", "request_authority_mismatch", "host_not_allowed"} <= conditions()
    assert {"policy_denied", "ssrf_denied"} <= denial_errors()
    assert {"connect", "forward", "ssrf", "l7"} <= stages()
    assert {"bad_request", "length_required", "request_timeout", "upstream_unreachable"} <= proxy_errors()
    assert {"gateway_lookup_failed", "feature_disabled"} <= local_errors()
    assert "GET /v1/proposals/{id}/wait" in routes()


def test_every_envelope_key_is_explained() -> None:
    about = part("A denial")
    for denial in samples():
        body = envelope(denial, proposals_enabled=True)
        for key in (*body, *body["rule_missing"]):
            assert f"`{key}`" in about or f'"{key}"' in about, key
        for key in body:
            assert re.search(rf"^\| [^|]*`{key}`", about, re.MULTILINE), f"no row for {key}"
        assert f"`{body['rule_missing']['type']}`" in about


def test_every_header_of_a_denial_is_explained() -> None:
    for denial in samples():
        head = http_response(denial, proposals_enabled=True, close=True).decode().split("\r\n\r\n")[0]
        for name in (line.split(":")[0] for line in head.splitlines()[1:]):
            if name not in ("Content-Type", "Content-Length"):
                assert f"`{name}" in TEXT, name


def test_there_is_one_real_example_per_layer() -> None:
    assert {example["layer"] for example in DENIALS} == {"l4", "l7"}


@pytest.mark.parametrize("example", DENIALS, ids=lambda example: example["layer"])
def test_an_example_is_what_the_product_answers(example: dict[str, Any]) -> None:
    l7 = example["layer"] == "l7"
    denial = Denial(
        layer=example["layer"],
        stage="l7" if l7 else "connect",
        host=example["host"],
        port=example["port"],
        detail=example["detail"],
        binary=example["binary"],
        method=example["method"] if l7 else "",
        path=example["path"],
        policy=example["policy"],
        reason=example.get("reason", ""),
        condition=example["failed_condition"],
        nearest=example.get("nearest_miss", ""),
        id=example["denial_id"],
    )
    assert envelope(denial, proposals_enabled=bool(example["next_steps"])) == example


@pytest.mark.parametrize("code", sorted(conditions()))
def test_every_failed_condition_has_a_row(code: str) -> None:
    assert f"| `{code}` |" in part("failed_condition")


def test_conditions_stand_in_the_order_in_which_they_are_asked() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", part("failed_condition"), re.MULTILINE)
    assert rows[: len(RUNGS)] == [condition.value for condition in RUNGS]


@pytest.mark.parametrize("code", sorted(denial_errors() | proxy_errors()))
def test_every_error_of_the_proxy_has_a_row(code: str) -> None:
    assert f"| `{code}` |" in TEXT


@pytest.mark.parametrize("stage", sorted(stages()))
def test_every_stage_is_explained(stage: str) -> None:
    assert f"`{stage}` (" in part("error and stage")


@pytest.mark.parametrize("code", sorted(local_errors()))
def test_every_error_of_policy_local_has_a_row(code: str) -> None:
    assert re.search(rf"^\| \d{{3}} \| [^|]*`{code}`", part("policy.local"), re.MULTILINE)


def test_a_status_stands_beside_its_error() -> None:
    for found in calls("_RefusedError", room=ROOM):
        status = argument(found, "status", 0)
        assert isinstance(status, ast.Constant)
        code = argument(found, "code", 1)
        assert code is not None
        for text in values(code, found, lambda _: False):
            assert re.search(rf"^\| {status.value!s} \| [^|]*`{text}`", part("policy.local"), re.MULTILINE), text


@pytest.mark.parametrize("route", sorted(routes()))
def test_every_route_has_a_row(route: str) -> None:
    assert f"| `{route}` |" in part("policy.local")


def test_the_limits_are_those_of_the_code() -> None:
    limits, local = Limits(), part("policy.local")
    assert f"1 to {DENIALS_KEPT}, default {policy_local.DENIALS_DEFAULT}" in local
    assert f"seconds, 1 to {policy_local.WAIT_LIMIT}, default {policy_local.WAIT_DEFAULT}" in local
    assert f"{policy_local.UNDECIDED_LIMIT} undecided" in local
    assert f"at least {policy_local.RELOAD_FLOOR} s" in local
    assert limits.local_body == proposal.MAX_BODY
    assert f"at most {limits.local_body} bytes, complete within {limits.local_seconds:g} s" in local
    assert f"{limits.local_requests} requests at a time" in local
    assert f"{proposal.MAX_OPERATIONS} operations" in local
    assert f"{proposal.MAX_SUMMARY} characters" in " ".join(local.split())
    assert f"at most {DENIAL_LINE_LIMIT} bytes" in local
    assert f"more than {limits.door_head} bytes at the proxy, {limits.tunnel_head} in a tunnel" in TEXT
    assert f"within {limits.head_seconds:g} s" in TEXT
    assert f"more than {CAPACITY} different destinations" in TEXT
    assert f"({', '.join(map(str, sorted(CONTROL_PLANE_PORTS)))})" in TEXT


def test_the_gateways_own_limits_are_those_of_the_code() -> None:
    from pyopenshell.gateway.submission import Limits as Quota

    quota = Quota()
    assert (
        f"at most {quota.chunks_per_call} proposals per submission, {quota.burst} at once and then "
        f"{quota.per_minute} per minute, {quota.pending_authored} pending authored and "
        f"{quota.pending_mechanistic} pending mechanistic"
    ) in " ".join(TEXT.split())


def test_every_key_of_a_state_is_named() -> None:
    for key in policy_local._state(State()):
        assert f"`{key}`" in part("/wait"), key
    for key in ("policy_reloaded", "timed_out"):
        assert f'"{key}"' in part("/wait")


def test_the_proposal_example_is_accepted() -> None:
    found = [example for example in EXAMPLES if "operations" in example]
    assert found
    for example in found:
        assert proposal.parse(json.dumps(example).encode()).operations


def test_why_requests_are_never_drafted_is_linked() -> None:
    assert "(decisions/0001-l7-denials-are-never-mapped.md)" in part("What becomes a draft by itself")
