"""docs/logs.md: every kind, activity, state, finding, word and limit that can stand in a log line."""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import Any, get_args

import pytest

from pyopenshell.audit import events, ocsf, shorthand
from pyopenshell.gateway.logs import KEPT
from pyopenshell.supervisor import logs
from pyopenshell.supervisor.link import LOG_QUEUE
from tests.docs.code import SOURCE, argument, arguments, calls, page

TEXT = page("logs.md")
LINES = [line for block in re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
PREFIX = {
    events.NetworkEvent: "NET",
    events.ConfigEvent: "CONFIG",
    events.FindingEvent: "FINDING",
    events.ProcessEvent: "PROC",
    events.LifecycleEvent: "LIFECYCLE",
    events.SshEvent: "SSH",
}


def given(kind: Any, field: str) -> set[str]:
    """What is passed to a field of an event class anywhere in the product."""
    return arguments(kind.__name__, keyword=field, position=kind.__match_args__.index(field))


def _fields(kind: Any) -> set[str]:
    return set(kind.__match_args__)


def _disposition(call: ast.Call) -> str:
    default = next(one.default for one in dataclasses.fields(events.FindingEvent) if one.name == "disposition")
    own = [word.value for word in call.keywords if word.arg == "disposition"]
    return str(ast.literal_eval(own[0]) if own else default)


def activities() -> set[str]:
    found = set()
    for kind, prefix in PREFIX.items():
        if "activity" in _fields(kind):
            found |= {f"{prefix}:{one}" for one in given(kind, "activity")}
    return found | {f"FINDING:{_disposition(one.call)}" for one in calls("FindingEvent")}


def engines() -> set[str]:
    return given(events.NetworkEvent, "engine") | given(events.HttpEvent, "engine")


def test_the_lists_are_not_empty() -> None:
    assert {"NET:OPEN", "NET:REFUSE", "LIFECYCLE:START", "FINDING:CREATE"} <= activities()
    assert {"LOADED", "ENABLED", "UPDATED", "FAIL_CLOSED", "MERGED", "REMOVED"} <= given(events.ConfigEvent, "state")
    assert {"denial-flood", "audit-lines-lost"} <= given(events.FindingEvent, "uid")
    assert {"opa", "l7", "ssrf", "nftables"} <= engines()


@pytest.mark.parametrize("activity", sorted(activities()))
def test_every_activity_has_a_row(activity: str) -> None:
    assert f"| `{activity}` |" in TEXT


@pytest.mark.parametrize("state", sorted(given(events.ConfigEvent, "state")))
def test_every_config_state_has_a_row(state: str) -> None:
    assert re.search(rf"^\| [^|]*`{state}`", TEXT, re.MULTILINE)


@pytest.mark.parametrize("state", sorted(arguments("ConfigEvent", keyword="state", position=0, room="gateway")))
def test_every_state_the_gateway_writes_stands_in_its_own_table(state: str) -> None:
    assert f"| `{state}` |" in TEXT.split("Written by the gateway")[1].split("###")[0]


@pytest.mark.parametrize("uid", sorted(given(events.FindingEvent, "uid")))
def test_every_finding_has_a_row(uid: str) -> None:
    assert f"| `{uid}` |" in TEXT


@pytest.mark.parametrize("engine", sorted(engines() - {""}))
def test_every_engine_has_a_row(engine: str) -> None:
    assert f"| `{engine}` |" in TEXT


def test_every_kind_of_event_is_named_with_its_class() -> None:
    for kind in get_args(events.Event):
        prefix = PREFIX.get(kind, "HTTP")
        assert re.search(rf"^\| `{prefix}` \| \d{{4}} ", TEXT, re.MULTILINE), prefix


def test_kinds_said_to_be_unused_are() -> None:
    assert "`PROC` and `SSH` lines belong to the grammar; this version emits none." in TEXT
    assert not [one.where for one in calls("ProcessEvent", "SshEvent") if not one.where.startswith("audit/")]


@pytest.mark.parametrize("word", shorthand._SEVERITY.values())
def test_every_severity_word_is_named(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("action", [one for one in events.Action if one.word])
def test_every_action_word_is_named(action: events.Action) -> None:
    assert re.search(rf"`{action.word}`", TEXT)


def test_class_ids_and_version_are_those_of_the_code() -> None:
    assert f"OCSF {ocsf.SCHEMA_VERSION}" in TEXT
    tree = ast.parse((SOURCE / "audit" / "ocsf.py").read_text())
    ids = {
        node.args[0].value: node.args[1].value  # type: ignore[attr-defined]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_base"
    }
    assert len(ids) == len(get_args(events.Event))
    for number, name in ids.items():
        assert f"| {number} {name} |" in TEXT


def test_limits_are_those_of_the_code() -> None:
    assert f"the {logs.FILES_KEPT} newest days" in TEXT
    assert f"at most {logs.QUEUE_LIMIT} lines wait" in TEXT
    assert f"up to {LOG_QUEUE} for a gateway" in TEXT
    assert f"the newest {KEPT} lines" in TEXT
    assert f"reasons {shorthand.REASON_LIMIT} bytes, messages and titles {shorthand.MESSAGE_LIMIT}" in TEXT


def test_examples_are_lines_of_the_grammar() -> None:
    words = "|".join(re.escape(word) for word in shorthand._SEVERITY.values())
    line = re.compile(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z OCSF ([A-Z]+:[A-Z_]+) ({words}) .+")
    kinds = set()
    for example in LINES:
        match = line.fullmatch(example)
        assert match, example
        kinds.add(match[1])
    assert activities() - kinds == {"NET:CLOSE"}, "one example of every activity"


def test_argument_positions_are_followed() -> None:
    """A guard for these tests themselves: no event call hides its first argument."""
    for found in calls(*(kind.__name__ for kind in PREFIX)):
        first = dataclasses.fields(getattr(events, ast.unparse(found.call.func)))[0].name
        if not found.where.startswith("audit/"):
            assert argument(found, first, 0) is not None, found.where
