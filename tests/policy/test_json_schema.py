from __future__ import annotations

import dataclasses
import json
import pathlib
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from pyopenshell.policy import Policy, PolicyError, load
from pyopenshell.policy.json_schema import json_schema, json_schema_text
from pyopenshell.policy.schema import ENDPOINT_KEYS, MATCH_KEYS, RULE_KEYS, TOP_KEYS
from pyopenshell.policy.vocabulary import SECTIONS
from pyopenshell.policy.yaml import dump
from tests.policy.documents import codes, plain, spoilt, written
from tests.policy.strategies import policies

SCHEMA = json_schema()
DOCS = pathlib.Path(__file__).parents[2] / "docs"
INTERNAL = {"advisor_proposed", "provider_credentialed"}


VALIDATOR = Draft202012Validator(SCHEMA)
EXPRESSIBLE = {
    "unknown_key", "version_missing", "version_unsupported", "endpoints_empty", "binaries_empty",
    "binary_path_missing", "rules_empty", "allow_missing", "matcher_shape", "matcher_empty", "provider_missing",
    "port_missing", "port_invalid", "protocol_sql", "wrong_type", "path_not_absolute", "middleware_missing",
    "too_many_middlewares", "identity_invalid", "limit_invalid", "unknown_value",
}  # fmt: skip
"""Codes of mistakes that a schema can see: whatever is refused for one of them is invalid by the schema, too."""


def valid(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def agree(text: str, document: Any) -> set[str]:
    """What the loader accepts the schema accepts, and what the schema can express it refuses; the loader's findings."""
    found = codes(text)
    errors = [error.message[:200] for error in VALIDATOR.iter_errors(document)]
    if not found:
        assert not errors, f"the loader accepts, the schema refuses {text}: {errors}"
    if found & EXPRESSIBLE:
        assert errors, f"the loader finds {found & EXPRESSIBLE} in {text}, the schema nothing"
    return found


def test_every_document_of_docs_and_tests_is_judged_alike() -> None:
    seen: Counter[bool] = Counter()
    for _, text in written():
        document = plain(text)
        if document is not None:
            seen[not agree(text, document)] += 1
    assert seen[True] >= 20
    assert seen[False] >= 20


def test_random_mistakes_are_judged_alike() -> None:
    """Every code in `EXPRESSIBLE` comes up, but for what takes a whole list of mistakes."""
    library = [document for _, text in written() if not codes(text) and (document := plain(text)) is not None]
    seen: Counter[str] = Counter()
    for seed in range(3000):
        rng = random.Random(seed)
        text = spoilt(rng, library[0] if rng.random() < 0.5 else rng.choice(library))
        seen.update(agree(text, json.loads(text)) or {"accepted"})
    assert seen["accepted"] > 100
    assert EXPRESSIBLE - set(seen) <= {"too_many_middlewares"}


@settings(max_examples=200, deadline=None)
@given(policies())
def test_every_valid_policy_is_valid_by_the_schema(policy: Policy) -> None:
    text = dump(policy)
    load(text)
    assert valid(plain(text))


RULE = "version: 1\nnetwork_policies: {r: {endpoints: [{host: a.test, %s}], binaries: [{path: /x}]}}\n"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "version: 2",
        "version: 1\nnetwork: {}",
        "version: 1\nlandlock: {compatibility: best-effort}",
        "version: 1\nfilesystem_policy: {read_only: [usr]}",
        "version: 1\nprocess: {run_as_user: root}",
        "version: 1\nnetwork_policies: {_provider_x: {endpoints: [{host: a.test, port: 1}], binaries: [{path: /x}]}}",
        "version: 1\nnetwork_policies: {r: {endpoints: [], binaries: [{path: /x}]}}",
        "version: 1\nnetwork_policies: {r: {endpoints: [{host: a.test, port: 1}], binaries: []}}",
        "version: 1\nnetwork_policies: {r: {endpoints: [{host: a.test, port: 1}]}}",
        "version: 1\nnetwork_middlewares:\n" + "".join(f"  m{i}: {{middleware: x, order: {i}}}\n" for i in range(11)),
        RULE % "protocol: rest",
        RULE % "port: 70000",
        RULE % "port: '443'",
        RULE % "port: 443, enforcment: enforce",
        RULE % "port: 443, enforcement: Enforce",
        RULE % "port: 443, protocol: sql",
        RULE % "port: 443, protocol: rest, access: readonly",
        RULE % "port: 443, protocol: rest, rules: []",
        RULE % "port: 443, protocol: rest, rules: [{method: GET, path: /x}]",
        RULE % "port: 443, protocol: rest, rules: [{allow: {method: GET, path: x}}]",
        RULE % "port: 443, protocol: rest, rules: [{allow: {method: GET, path: /x, query: {a: {any: []}}}}]",
        RULE % "port: 443, allow_encoded_slash: on",
        RULE % "port: 443, graphql_max_body_bytes: 0",
    ],
)
def test_what_the_schema_refuses_the_loader_refuses_too(text: str) -> None:
    assert not valid(plain(text))
    with pytest.raises(PolicyError):
        load(text)


def test_every_key_that_is_read_is_in_the_schema_and_no_other() -> None:
    definitions: Any = SCHEMA["$defs"]
    top: Any = SCHEMA["properties"]
    assert set(top) == set(TOP_KEYS)
    assert set(definitions["rule"]["properties"]) == set(RULE_KEYS)
    assert set(definitions["endpoint"]["properties"]) == set(ENDPOINT_KEYS)
    assert set(definitions["match"]["properties"]) == set(MATCH_KEYS)


@pytest.mark.parametrize("section", [one for one in SECTIONS if one.model is not None], ids=lambda one: one.name)
def test_every_field_of_the_model_is_in_the_vocabulary(section: Any) -> None:
    written = {key.attribute or key.name for key in section.keys}
    outside = {"key", "include", "exclude"} | INTERNAL
    assert {field.name for field in dataclasses.fields(section.model)} - outside <= written


def test_defaults_are_the_models() -> None:
    endpoint: Any = SCHEMA["$defs"]
    properties = endpoint["endpoint"]["properties"]
    assert properties["enforcement"]["default"] == "enforce"
    assert properties["persisted_queries"]["default"] == "deny"
    assert properties["graphql_max_body_bytes"]["default"] == 65536
    assert properties["allow_encoded_slash"]["default"] is False
    assert endpoint["mcp"]["properties"]["strict_tool_names"]["default"] is True


def test_what_is_published_is_what_the_model_says() -> None:
    assert (DOCS / "policy.schema.json").read_text() == json_schema_text(), "run tools/generate_policy_docs.py"
