"""Text to a plain tree with positions: YAML 1.2 (core schema) and JSON, read strictly and within bounds.

Decides what is well-formed. Must not know what a policy is: names and types are `policy.schema`.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from pyopenshell.policy.problems import PolicyError, Problem, Problems, Where, shown

MAX_TEXT = 4 * 1024 * 1024
"""Characters of one document. The same bound as a gRPC message, so no policy is writable but not sendable."""
MAX_DEPTH = 32
"""Nesting. A policy needs nine levels."""

Scalar = str | int | float | bool | None


@dataclasses.dataclass(slots=True)
class Node(abc.ABC):
    """One value of a document. `line` and `column` count from 1, 0 where the format has no positions."""

    line: int = 0
    column: int = 0

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """What it is, in the words an error message uses."""


@dataclasses.dataclass(slots=True)
class ScalarNode(Node):
    value: Scalar = None

    @property
    def kind(self) -> str:
        if self.value is None:
            return "nothing"
        if isinstance(self.value, bool):
            return f"the truth value {str(self.value).lower()}"
        if isinstance(self.value, str):
            return f"the text {shown(self.value)}"
        return f"the number {self.value}"


@dataclasses.dataclass(slots=True)
class ListNode(Node):
    items: list[Node] = dataclasses.field(default_factory=list)

    @property
    def kind(self) -> str:
        return "a list"


@dataclasses.dataclass(slots=True)
class MapNode(Node):
    entries: dict[str, tuple[Node, Node]] = dataclasses.field(default_factory=dict)
    """key -> (position of the key, value), in the order of the text."""

    @property
    def kind(self) -> str:
        return "a mapping"


def locate(root: Node | None, where: Where) -> tuple[int, int]:
    """Line and column of a place: the scalar itself, the key of a mapping or list, or the nearest ancestor's."""
    node, position = root, (0, 0) if root is None else (root.line, root.column)
    for step in where:
        if isinstance(node, MapNode) and isinstance(step, str) and step in node.entries:
            key, value = node.entries[step]
            node, position = value, (key.line, key.column)
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            position = (node.line, node.column)
        else:
            break
    return (node.line, node.column) if isinstance(node, ScalarNode) else position


# ---- YAML ------------------------------------------------------------------------------------------------------------

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
# Numbers that YAML 1.1 and 1.2 read differently (`0443` is 291 or 443) stay text, and so become errors.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LONGEST_NUMBER = 20


def parse_yaml(text: str | bytes, filename: str) -> Node:
    """The one document in `text`.

    Refuses, with the position: more or fewer than one document, duplicate keys, keys that are not text, anchors and
    aliases (they make bombs, and an unquoted `*.example.com` is one), tags, other YAML versions, deep nesting.
    Raises `PolicyError`.
    """
    decoded = _text(text, filename)
    try:
        return _Builder(filename).build(YAML(typ="safe", pure=True).parse(decoded))
    except ReaderError as error:
        before = decoded[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        found = Problem(filename, line, column, "yaml_syntax", "a character that YAML does not allow")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        reason = " ".join(str(error.problem or error.context or "cannot be read").split())
        fix = "use blanks, tabs cannot indent" if r"'\t'" in reason else ""
        found = Problem(filename, line, column, "yaml_syntax", f"not valid YAML: {shown(reason)[1:-1]}", fix)
    except (YAMLError, ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError) as error:
        if isinstance(error, PolicyError):
            raise
        # The scanner of ruamel.yaml stumbles over some malformed input with whatever happens to break first.
        found = Problem(filename, 1, 1, "yaml_syntax", f"not valid YAML ({type(error).__name__})")
    raise PolicyError([found])


def _text(text: str | bytes, filename: str) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            line, column = good.count(b"\n") + 1, len(good) - (good.rfind(b"\n") + 1) + 1
            raise PolicyError([Problem(filename, line, column, "not_utf8", "the file is not UTF-8 text")]) from None
    if len(text) > MAX_TEXT:
        raise PolicyError([Problem(filename, 1, 1, "too_large", f"more than {MAX_TEXT} characters")])
    return text.removeprefix("\ufeff")


class _Builder:
    """Folds parser events into a tree without recursion, so that depth is a bound and not a stack overflow."""

    def __init__(self, filename: str) -> None:
        self._file = filename
        self._problems = Problems()
        self._open: list[tuple[Node, ScalarNode | None]] = []
        """Containers being filled, each with the key that waits for its value."""
        self._roots: list[Node] = []

    def build(self, events: Iterator[Any]) -> Node:
        for event in events:
            self._event(event)
        if not self._roots and not self._problems:
            self._add(1, 1, "empty_document", "the document is empty", "a policy starts with `version: 1`")
        if self._problems:
            raise PolicyError(self._problems, self._problems.more)
        return self._roots[0]

    def _add(self, line: int, column: int, code: str, message: str, fix: str = "") -> None:
        self._problems.append(Problem(self._file, line, column, code, message, fix))

    def _stop(self, line: int, column: int, code: str, message: str, fix: str = "") -> None:
        self._add(line, column, code, message, fix)
        raise PolicyError(self._problems, self._problems.more)

    def _event(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, DocumentStartEvent):
            if self._roots:
                self._stop(line, column, "several_documents", "more than one YAML document", "keep only one")
            if event.version not in (None, (1, 2)):
                self._stop(line, column, "yaml_version", "only YAML 1.2 is read", "remove the %YAML line")
            if event.tags:
                self._stop(line, column, "yaml_tag", "tags are not allowed", "remove the %TAG line")
        elif isinstance(event, AliasEvent):
            self._stop(
                line,
                column,
                "yaml_alias",
                f"aliases are not allowed, and {shown(f'*{event.anchor}')} is one",
                "put quotes around a text that starts with *",
            )
        elif isinstance(event, NodeEvent):
            self._node(event, line, column)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._open.pop()

    def _node(self, event: Any, line: int, column: int) -> None:
        if event.anchor is not None:
            self._stop(line, column, "yaml_anchor", f"anchors are not allowed, and {shown(f'&{event.anchor}')} is one")
        if event.ctag is not None and str(event.ctag) not in ("", "None"):
            self._stop(line, column, "yaml_tag", f"tags are not allowed: {shown(str(event.ctag))}", "remove the tag")
        if len(self._open) >= MAX_DEPTH:
            self._stop(line, column, "too_deep", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, ScalarEvent):
            plain = event.style is None and bool(event.implicit[0])
            self._place(ScalarNode(line, column, resolve(event.value) if plain else str(event.value)))
            return
        node: Node = MapNode(line, column) if isinstance(event, MappingStartEvent) else ListNode(line, column)
        assert isinstance(event, MappingStartEvent | SequenceStartEvent)
        self._place(node)
        self._open.append((node, None))

    def _place(self, node: Node) -> None:
        if not self._open:
            self._roots.append(node)
            return
        container, key = self._open[-1]
        if isinstance(container, ListNode):
            container.items.append(node)
        elif isinstance(container, MapNode):
            if key is None:
                self._key(container, node)
            else:
                # A refused duplicate keeps its first value: nothing is used after a problem anyway.
                container.entries.setdefault(str(key.value), (key, node))
                self._open[-1] = (container, None)

    def _key(self, container: MapNode, node: Node) -> None:
        if not isinstance(node, ScalarNode):
            self._stop(node.line, node.column, "key_not_text", f"a key must be text, not {node.kind}")
            return
        if not isinstance(node.value, str):
            self._add(
                node.line, node.column, "key_not_text", f"a key must be text, not {node.kind}", "put quotes around it"
            )
        elif node.value in container.entries:
            first = container.entries[node.value][0]
            self._add(
                node.line,
                node.column,
                "duplicate_key",
                f"duplicate key {shown(node.value)}, first written on line {first.line}",
                "keep one of them",
            )
        self._open[-1] = (container, node)


def resolve(text: str) -> Scalar:
    """A plain scalar by the YAML 1.2 core schema: `on`, `yes`, `1_000` are text; so are, here, `0443`, `0o7`, `0x1`."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if text[:1] not in "+-.0123456789":
        return text
    if _INT.fullmatch(text):
        if len(text) > _LONGEST_NUMBER:
            return float("inf")
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


# ---- JSON ------------------------------------------------------------------------------------------------------------


class JsonError(ValueError):
    """Text that is not the strict JSON we read. The message is for the author of the text."""


class _Pairs(list[tuple[str, object]]):
    """A JSON object before it is checked: told from an array by its type."""


def parse_json(body: bytes, max_values: int = 0) -> Node:
    """The one JSON value in `body` as a tree without positions.

    Refuses duplicate keys, NaN and infinities, lone surrogates, text that is not UTF-8, deep nesting, and more than
    `max_values` values and keys (0: any number). Raises `JsonError`.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse_constant, parse_int=_integer)
    except UnicodeDecodeError:
        raise JsonError("the body is not UTF-8 text") from None
    except RecursionError:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not valid JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    return _Tree(max_values).node(value, "", 0)


def _refuse_constant(name: str) -> object:
    raise JsonError(f"not valid JSON: {name} is not a JSON number")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


class _Tree:
    """Builds nodes, at most so many: they cost far more than the text they come from."""

    __slots__ = ("_left", "_most")

    def __init__(self, most: int) -> None:
        self._most = self._left = most or MAX_TEXT

    def node(self, value: object, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise JsonError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, _Pairs):
            self._count(2 * len(value))
            node = MapNode()
            for key, item in value:
                _refuse_surrogates(key, path)
                if key in node.entries:
                    raise JsonError(f"duplicate key {shown(key)}" + (f" in {shown(path)[1:-1]}" if path else ""))
                inside = f"{path}.{key}" if path else key
                node.entries[key] = (ScalarNode(value=key), self.node(item, inside, depth + 1))
            return node
        if isinstance(value, list):
            items: Sequence[object] = value
            self._count(len(items))
            return ListNode(items=[self.node(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)])
        if isinstance(value, str):
            _refuse_surrogates(value, path)
            return ScalarNode(value=value)
        assert value is None or isinstance(value, bool | int | float)
        return ScalarNode(value=value)

    def _count(self, more: int) -> None:
        self._left -= more
        if self._left < 0:
            raise JsonError(f"more than {self._most} values and keys")


def _refuse_surrogates(text: str, path: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise JsonError(f"a lone surrogate in {shown(path or 'the body')}")
