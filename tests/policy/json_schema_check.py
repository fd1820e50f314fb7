"""A small, independent reading of JSON Schema: the keywords that our schema uses, and no others."""

from __future__ import annotations

import re
from typing import Any

_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
_KNOWN = {
    "$schema", "$id", "$ref", "$defs", "title", "description", "default", "deprecated", "type", "properties",
    "required", "additionalProperties", "propertyNames", "items", "enum", "const", "anyOf", "not", "pattern", "minimum",
    "maximum", "minItems", "maxItems", "minLength", "maxLength", "maxProperties",
}  # fmt: skip


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return valid(value, root["$defs"][name], root)
    checks = (_of_type, _scalar, _text, _object, _array, _combined)
    return all(check(value, schema, root) for check in checks)


def _of_type(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    kind = schema.get("type")
    if kind is None:
        return True
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _scalar(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    number = isinstance(value, int) and not isinstance(value, bool)
    return not number or bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _text(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return True
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))


def _object(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        if "propertyNames" in schema and not valid(key, schema["propertyNames"], root):
            return False
        if key not in known and others is False:
            return False
        shape = known.get(key) or (others if isinstance(others, dict) else {})
        if not valid(item, shape, root):
            return False
    return set(schema.get("required", ())) <= set(value) and len(value) <= schema.get("maxProperties", len(value))


def _array(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return True
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    return all(valid(item, schema["items"], root) for item in value) if "items" in schema else True


def _combined(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "anyOf" in schema and not any(valid(value, one, root) for one in schema["anyOf"]):
        return False
    return "not" not in schema or not valid(value, schema["not"], root)
