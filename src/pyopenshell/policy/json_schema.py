"""The JSON Schema of policy files, for editors: generated from the model's types and defaults and the vocabulary.

Decides nothing about validity: the loader is stricter than any schema can be. Must not know files.
"""

from __future__ import annotations

import dataclasses
import json
import typing

from pyopenshell.policy.vocabulary import POLICY, SECTIONS, TEXT, Key, Section, Shape, listing

IDENTIFIER = "urn:pyopenshell:policy:1"
MATCHER: Shape = {
    "description": "A glob, or a list of globs of which one must match.",
    "anyOf": [
        TEXT,
        {"type": "object", "properties": {"glob": TEXT}, "required": ["glob"], "additionalProperties": False},
        {"type": "object", "properties": {"any": listing(TEXT, 1)}, "required": ["any"], "additionalProperties": False},
    ],
}
_TYPES: dict[object, str] = {bool: "boolean", int: "integer", str: "string"}


def json_schema() -> Shape:
    """The schema as a dictionary (draft 2020-12)."""
    definitions: Shape = {section.name: _mapping(section) for section in SECTIONS if section is not POLICY}
    definitions["matcher"] = MATCHER
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": IDENTIFIER,
        "title": "OpenShell sandbox policy",
        **_mapping(POLICY),
        "$defs": definitions,
    }


def json_schema_text() -> str:
    return json.dumps(json_schema(), indent=2) + "\n"


def _mapping(section: Section) -> Shape:
    out: Shape = {
        "description": section.text,
        "type": "object",
        "properties": {key.name: property_of(section, key) for key in section.keys},
        "additionalProperties": False,
    }
    required = [key.name for key in section.keys if key.required]
    if required:
        out["required"] = required
    if section.any_of:
        out["anyOf"] = list(section.any_of)
    return out


def property_of(section: Section, key: Key) -> Shape:
    out: Shape = {"description": key.text}
    out |= key.shape
    if "$ref" not in out and not {"type", "enum", "const", "anyOf", "deprecated"} & out.keys():
        out["type"] = _type(section, key)
    elif "enum" in out:
        out["type"] = "string"
    default = default_of(section, key)
    if default is not None and not key.required:
        out["default"] = default
    return out


def _type(section: Section, key: Key) -> str:
    if section.model is None:
        return "string"
    return _TYPES[typing.get_type_hints(section.model)[key.attribute or key.name]]


def default_of(section: Section, key: Key) -> object:
    """What a key that is not written means, None where that is not a value of its own."""
    if key.default is not None or section.model is None or key.required:
        return key.default
    if "$ref" in key.shape or key.attribute:
        return None
    fields = {field.name: field for field in dataclasses.fields(section.model)}
    default = fields[key.name].default
    values = key.shape.get("enum")
    if isinstance(values, list) and default not in values:
        return None  # "" stands in the model for what is not written, and cannot be written
    if default == () and key.shape.get("type") == "object":
        return {}
    if default == () and key.shape.get("minItems"):
        return None
    if isinstance(default, tuple):
        return list(default)
    return default if isinstance(default, str | int | bool) else None
