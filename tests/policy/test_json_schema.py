from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from ruamel.yaml import YAML

from pyopenshell.policy import Policy, PolicyError, load
from pyopenshell.policy.json_schema import json_schema, json_schema_text
from pyopenshell.policy.schema import ENDPOINT_KEYS, MATCH_KEYS, RULE_KEYS, TOP_KEYS
from pyopenshell.policy.vocabulary import SECTIONS
from pyopenshell.policy.yaml import dump
from tests.policy.json_schema_check import valid
from tests.policy.strategies import policies

SCHEMA = json_schema()
DOCS = pathlib.Path(__file__).parents[2] / "docs"
INTERNAL = {"advisor_proposed", "provider_credentialed"}


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@settings(max_examples=200, deadline=None)
@given(policies())
def test_every_valid_policy_is_valid_by_the_schema(policy: Policy) -> None:
    text = dump(policy)
    load(text)
    assert valid(plain(text), SCHEMA, SCHEMA)


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
    assert not valid(plain(text), SCHEMA, SCHEMA)
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
