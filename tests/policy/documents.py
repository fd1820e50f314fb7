"""A library of policy documents, valid and invalid: all that the tests and the docs hold, and mistakes made at random.

Documents are plain data, written as JSON (a subset of YAML 1.2) where they were not text to begin with.
"""

from __future__ import annotations

import ast
import functools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pyopenshell.policy import PolicyError, load
from pyopenshell.policy.vocabulary import SECTIONS

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_POLICY = re.compile(r"^version:", re.MULTILINE).search


RICH = """\
version: 1
process: {run_as_user: "1000"}
network_policies:
  graph:
    endpoints:
      - host: graph.test
        port: 443
        protocol: graphql
        path: /graphql
        rules:
          - allow: {operation_type: query, operation_name: "Get*", fields: [user, "repo*"]}
        deny_rules:
          - {operation_type: mutation, fields: ["delete*"]}
        persisted_queries: allow_registered
        graphql_persisted_queries: {abc: {operation_type: query, operation_name: Go, fields: [user]}}
        graphql_max_body_bytes: 4096
      - host: socket.test
        ports: [80, 443]
        protocol: websocket
        access: read-write
        websocket_credential_rewrite: true
    binaries: [{path: /usr/bin/node}]
  tools:
    endpoints:
      - host: mcp.test
        port: 443
        protocol: mcp
        rules:
          - allow: {tool: {any: ["get_*", list]}}
          - allow: {method: resources/read, params: {uri: "file:*"}}
        mcp: {max_body_bytes: 1024, strict_tool_names: false, versions: ["2025-06-18"]}
      - host: rpc.test
        port: 443
        protocol: json-rpc
        rules:
          - allow: {method: "eth_*"}
        json_rpc: {max_body_bytes: 1024}
      - host: store.test
        port: 443
        protocol: rest
        access: full
        deny_rules:
          - {method: PUT, path: /x, query: {a: "*", b: {any: [c]}, d: {glob: e}}}
        credential_signing: sigv4
        signing_service: s3
        credential_binding: {provider: aws}
      - {host: db.test, port: 5432, protocol: tcp, tls: skip}
    binaries: [{path: /opt/**/tool*}]
network_middlewares:
  scan:
    middleware: scanner
    config: {level: 3, words: [a, b]}
    order: 1
    endpoints: {include: ["*.test"], exclude: [db.test]}
"""


@functools.cache
def written() -> tuple[tuple[str, str], ...]:
    """(where, text) of every policy in the docs and in the tests."""
    found = {RICH: "RICH"}
    for file in sorted(ROOT.joinpath("docs").rglob("*.md")):
        for number, match in enumerate(_FENCED.finditer(file.read_text())):
            found.setdefault(match[1], f"{file.name}#{number}")
    for file in sorted(ROOT.joinpath("tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                found.setdefault(node.value, f"{file.name}:{node.lineno}")
    return tuple((where, text) for text, where in found.items() if _POLICY(text))


def plain(text: str) -> Any:
    """The data of a text as an editor reads it, None where it is no YAML, or has the merge keys of YAML 1.1."""
    if "<<:" in text:
        return None
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        return None


def codes(text: str) -> set[str]:
    """What the loader finds in a text; nothing when it accepts it."""
    try:
        load(text)
    except PolicyError as error:
        return {problem.code for problem in error.problems}
    return set()


_KEYS = sorted({key.name for section in SECTIONS for key in section.keys})
_VALUES: tuple[Any, ...] = (
    "", "x", "on", "/", "/x", "**", "rest", "tcp", "mcp", "audit", "GET", "*", "443", "10.0.0.0/8",
    0, 1, 2, 443, 65536, -1, True, False, None, [], {}, ["x"], [443], {"x": 1}, {"any": []},
    {"glob": "a", "any": ["a"]},
)  # fmt: skip


def _value(rng: random.Random) -> Any:
    return json.loads(json.dumps(rng.choice(_VALUES)))


def spoilt(rng: random.Random, document: Any) -> str:
    """The document with one or two mistakes, or what may be some."""
    copy = json.loads(json.dumps(document))
    for _ in range(rng.choice([1, 1, 2])):
        _spoil(rng, copy)
    return json.dumps(copy)


def _spoil(rng: random.Random, document: Any) -> None:
    container, key = rng.choice([*_places(document), (document, None)])
    draw = rng.random()
    value = None if key is None else container[key]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        container[key] = rng.choice([0, -1, value + 1, 65536, 2**32, True, 1.5, str(value)])
    elif isinstance(value, str) and rng.random() < 0.2:
        container[key] = rng.choice([value.upper(), value[:-1], value + "x", "sql", "", " " + value])
    elif isinstance(container, list):
        if draw < 0.5:
            container[key] = _value(rng)
        elif draw < 0.8:
            del container[key]
        else:
            container.insert(key, _value(rng))
    elif key is None or draw < 0.25:
        container[rng.choice(_KEYS)] = _value(rng)
    elif draw < 0.6:
        container[key] = _value(rng)
    elif draw < 0.8:
        del container[key]
    else:
        container[rng.choice([key + "s", key.upper(), key[:-1], "_provider_x", ""])] = container.pop(key)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value inside."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
