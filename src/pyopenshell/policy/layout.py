"""A policy text as a tree that remembers its comments: parse, lay out again, change in place.

Decides indentation, blank lines and where comments stand. Knows no key; what a text means is `nodes` and `schema`.
Scalars are written exactly as their author wrote them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pyopenshell.policy.nodes import ListNode, MapNode, Node, ScalarNode, parse_yaml, resolve

WIDTH = 120
INDENT = 2

_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.@~+=()*-]*").fullmatch


@dataclasses.dataclass(slots=True, eq=False)
class Piece:
    """One value. `text` is a scalar's source; `entries` are a container's children.

    `column` counts from 0 in the source, -1 for what was not parsed. `close` are comments after the last child.
    """

    kind: str
    text: str = ""
    entries: list[Entry] = dataclasses.field(default_factory=list)
    flow: bool = False
    column: int = -1
    close: list[str] = dataclasses.field(default_factory=list)

    def keys(self) -> dict[str, Entry]:
        return {entry.key: entry for entry in self.entries}


@dataclasses.dataclass(slots=True, eq=False)
class Entry:
    """One child. `label` is the source of its key, "" in a list; `lead` stands above it, `tail` behind it."""

    key: str
    label: str
    value: Piece
    lead: list[str] = dataclasses.field(default_factory=list)
    tail: str = ""
    line: int = 0
    column: int = 0
    last: int = 0
    """Lines of the source, from 0: where the entry starts, and where its first line's comment would be."""


@dataclasses.dataclass(slots=True, eq=False)
class Layout:
    """A whole text. `head` are directives, `lead` comments before the first key of a document that has a marker."""

    root: Piece
    head: list[str]

    def render(self) -> str:
        """The text in the one layout there is: two blanks, lists indented, one blank line between sections."""
        lines = list(self.head)
        if self.root.kind == "scalar" or not self.root.entries:
            lines.append(_inline(self.root))
        else:
            for number, entry in enumerate(self.root.entries):
                section = self.root.kind == "map" and number > 0
                _entry(lines, entry, 0, first=number == 0 and not lines, apart=section)
        lines += _comments(self.root.close, 0, first=False)
        while lines and not lines[-1]:
            lines.pop()
        return "\n".join(lines) + "\n"


def format_text(text: str | bytes, filename: str = "policy.yaml") -> str:
    """The same document in the one layout there is. Comments, order and spellings of values stay.

    Raises `PolicyError` for a text that is not strict YAML; whether it is a policy is not asked.
    """
    before = parse_yaml(text, filename)
    layout = read(text, filename)
    out = layout.render()
    if bare(parse_yaml(out, filename)) != bare(before) or comments(out) != comments(decoded(text)):
        raise AssertionError("the new layout lost something; the text is left as it is")
    return out


def decoded(text: str | bytes) -> str:
    return (text.decode("utf-8-sig") if isinstance(text, bytes) else text).removeprefix("\ufeff")


def bare(node: Node) -> object:
    """A tree without positions, for comparison; keys keep their order."""
    if isinstance(node, MapNode):
        return [(key, bare(value)) for key, (_, value) in node.entries.items()]
    if isinstance(node, ListNode):
        return [bare(item) for item in node.items]
    assert isinstance(node, ScalarNode)
    return (type(node.value).__name__, node.value)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(text: str | bytes, filename: str = "policy.yaml") -> Layout:
    """The text as a tree with comments. Raises `PolicyError` where `nodes.parse_yaml` does."""
    parse_yaml(text, filename)  # everything that could go wrong goes wrong here, with words
    source = decoded(text).replace("\r\n", "\n").replace("\r", "\n")
    return _Reader(source).read()


def comments(text: str) -> list[str]:
    """Every comment of a text, in order."""
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    return [found.text for found in _scan_comments(source)]


@dataclasses.dataclass(slots=True)
class _Comment:
    line: int
    column: int
    text: str
    own: bool


def _scan_comments(source: str) -> list[_Comment]:
    """Comments are whatever begins with `#` outside of scalars."""
    masked = list(source)
    for event in YAML(typ="safe", pure=True).parse(source):
        if isinstance(event, ScalarEvent):
            end = event.end_mark.index
            if event.style in ("|", ">"):
                start = source.index("\n", event.start_mark.index) if "\n" in source[event.start_mark.index :] else end
            else:
                start = event.start_mark.index
            masked[start:end] = ["x" if c != "\n" else c for c in masked[start:end]]
    out = []
    lines, shadow = source.split("\n"), "".join(masked).split("\n")
    for number, (line, shape) in enumerate(zip(lines, shadow, strict=True)):
        match = re.search(r"(?:^|(?<=[ \t]))#", shape)
        if match:
            own = not shape[: match.start()].strip()
            out.append(_Comment(number, match.start(), line[match.start() :].rstrip(), own))
    return out


class _Reader:
    """Builds the tree from parser events, then hangs the comments into it by line and column."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = source.split("\n")
        found = _scan_comments(source)
        self._own = {one.line: one for one in found if one.own}
        self._tails = {one.line: one.text for one in found if not one.own}
        self._at = 0
        """The first source line whose comments have not been placed."""
        self._pending: list[str] = []
        """Comments and blanks above the entry that comes next."""
        self._open: list[Piece] = []
        self._closed: list[Piece] = []
        """Containers that are being read, and those around the last entry, for the comments that follow it."""

    def read(self) -> Layout:
        head: list[str] = []
        root: Piece | None = None
        stack: list[tuple[Piece, Any]] = []
        for event in YAML(typ="safe", pure=True).parse(self._source):
            if isinstance(event, DocumentStartEvent) and event.explicit:
                head = self._head(event)
            elif isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent):
                piece = self._piece(event)
                if not stack:
                    root = piece
                else:
                    self._hang(stack, piece, event)
                if not isinstance(event, ScalarEvent):
                    stack.append((piece, None))
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                stack.pop()
        assert root is not None
        self._place(root)
        self._rest(len(self._lines), -1)
        root.close += self._leftover()
        return Layout(root, head)

    def _head(self, event: Any) -> list[str]:
        """Directives, comments before the marker, and the marker."""
        last = event.end_mark.line
        out = [self._lines[number].rstrip() for number in range(last + 1)]
        self._at = last + 1
        for number in range(last + 1):
            self._own.pop(number, None)
            self._tails.pop(number, None)
        return [line for line in out if line]

    def _piece(self, event: Any) -> Piece:
        column = event.start_mark.column
        if not isinstance(event, ScalarEvent):
            kind = "map" if isinstance(event, MappingStartEvent) else "list"
            return Piece(kind, flow=bool(event.flow_style), column=column)
        text = self._source[event.start_mark.index : event.end_mark.index].strip()
        if "\n" in text or event.style in ("|", ">"):
            text = scalar_text(str(event.value), text=event.style is not None)
        return Piece("scalar", text, column=column)

    def _hang(self, stack: list[tuple[Piece, Any]], piece: Piece, event: Any) -> None:
        container, key = stack[-1]
        line = event.start_mark.line
        if container.kind == "list":
            container.entries.append(Entry("", "", piece, line=line, column=container.column, last=line))
        elif key is None:
            stack[-1] = (container, event)
            return
        else:
            mark = key.start_mark
            entry = Entry(str(key.value), self._piece(key).text, piece, line=mark.line, column=mark.column)
            entry.last = line if piece.kind == "scalar" else mark.line
            container.entries.append(entry)
            stack[-1] = (container, None)

    def _place(self, container: Piece) -> None:
        self._open.append(container)
        for entry in container.entries:
            self._rest(entry.line, entry.column)
            entry.lead = self._leftover()
            self._closed = []
            value = entry.value
            behind_dash = not entry.label and value.entries and not value.flow and value.entries[0].line == entry.line
            if not behind_dash:
                found = [line for line in range(entry.line, entry.last + 1) if line in self._tails]
                entry.tail = self._tails.pop(found[0]) if found else ""
                self._at = max(self._at, (found[0] if found else entry.last) + 1)
            if value.kind != "scalar":
                self._place(value)
        if not self._closed:
            self._closed = list(self._open)
        self._open.pop()

    def _rest(self, end: int, column: int) -> None:
        """Hand comments before line `end` that are indented deeper than `column` to the block they stand in."""
        deeper = True
        for number in range(self._at, min(end, len(self._lines))):
            tail = self._tails.pop(number, "")
            one = self._own.get(number)
            if tail:
                self._pending.append(tail)
            if one is None:
                if not self._lines[number].strip():
                    self._pending.append("")
                continue
            home = self._home(one.column) if deeper and one.column > column else None
            if home is None:
                deeper = False
                self._pending.append(one.text)
            else:
                home.close += [*self._pending, one.text]
                self._pending = []
        self._at = max(self._at, end)

    def _home(self, column: int) -> Piece | None:
        """The deepest block, of those that just ended, that a comment at this column can belong to."""
        still = set(map(id, self._open))
        for piece in reversed(self._closed):
            if id(piece) not in still and not piece.flow and piece.column <= column:
                return piece
        return None

    def _leftover(self) -> list[str]:
        out, self._pending = self._pending, []
        return out


# ---- writing ---------------------------------------------------------------------------------------------------------


def _comments(lead: list[str], indent: int, *, first: bool) -> list[str]:
    """Comments at an indent; runs of blank lines become one, none at the beginning of a block."""
    out: list[str] = []
    for text in lead:
        if text:
            out.append(" " * indent + text)
        elif not (out or not first) or (out and not out[-1]):
            continue
        else:
            out.append("")
    return out


def _entry(
    lines: list[str], entry: Entry, indent: int, *, first: bool, apart: bool = False, dash: str = "", bare: bool = False
) -> None:
    """Write one child. `dash` are the list dashes it stands behind; `bare` when its comments are written already."""
    above = [] if bare else _comments(entry.lead, indent, first=first)
    if apart and not (above and not above[0]) and lines and lines[-1]:
        lines.append("")
    lines += above
    start = " " * indent + (f"{dash}{entry.label}:" if entry.label else dash.rstrip())
    value = entry.value
    tail = f"  {entry.tail}" if entry.tail else ""
    if value.kind == "scalar" or not value.entries or _fits(value, len(start)):
        text = _inline(value)
        lines.append((f"{start} {text}" if text else start) + tail)
        lines += _comments(value.close, indent + INDENT, first=False)
    elif entry.label:
        lines.append(start + tail)
        _children(lines, value, indent + len(dash) + INDENT)
    else:
        # A container in a list: its first child stands behind the dash, so what was between them moves above.
        between = [*([entry.tail] if entry.tail else []), *value.entries[0].lead]
        lines += _comments(between, indent, first=True)
        _children(lines, value, indent + len(dash), dash)


def _children(lines: list[str], value: Piece, indent: int, dash: str = "") -> None:
    """Children of a block at `indent`; with `dash` the first one stands behind it, as far left as the dash is long."""
    own = "- " if value.kind == "list" else ""
    for number, child in enumerate(value.entries):
        if number == 0 and dash:
            _entry(lines, child, indent - len(dash), first=True, dash=dash + own, bare=True)
        else:
            _entry(lines, child, indent, first=number == 0, dash=own)
    lines += _comments(value.close, indent, first=False)


def _fits(value: Piece, before: int) -> bool:
    """May a flow container stay on one line?"""
    return value.flow and not _commented(value) and before + 1 + len(_inline(value)) <= WIDTH


def _commented(value: Piece) -> bool:
    return any(value.close) or any(any(e.lead) or e.tail or _commented(e.value) for e in value.entries)


def _inline(value: Piece) -> str:
    if value.kind == "scalar":
        return value.text
    if value.kind == "list":
        return "[" + ", ".join(_inline(entry.value) for entry in value.entries) + "]"
    inside = ", ".join(f"{entry.label}: {_inline(entry.value)}".rstrip() for entry in value.entries)
    return "{" + inside + "}"


# ---- new values ------------------------------------------------------------------------------------------------------


def piece(value: object, *, flow: bool = False) -> Piece:
    """A value of the YAML shape (`policy.yaml.to_plain`) as a piece without a source."""
    if isinstance(value, Mapping):
        entries = [Entry(str(key), scalar_text(str(key), text=True), piece(item)) for key, item in value.items()]
        return Piece("map", entries=entries, flow=flow)
    if isinstance(value, list | tuple):
        return Piece("list", entries=[Entry("", "", piece(item)) for item in value], flow=flow)
    if isinstance(value, str):
        return Piece("scalar", scalar_text(value, text=True))
    return Piece("scalar", json.dumps(value))


def scalar_text(value: str, *, text: bool) -> str:
    """A scalar on one line: as it is where that is read back equal, in double quotes otherwise."""
    if _PLAIN(value) and (not text or isinstance(resolve(value), str)) and value.lower() not in _AMBIGUOUS:
        return value
    return value if not text and value == "" else _quoted(value)


_AMBIGUOUS = frozenset({"yes", "no", "on", "off", "y", "n"})
"""Texts that YAML 1.1 readers take for truth values: written in quotes, so that every reader agrees."""


def _quoted(value: str) -> str:
    return "".join(_escaped(json.dumps(value, ensure_ascii=False)))


def _escaped(text: str) -> Iterator[str]:
    for char in text:
        code = ord(char)
        if char.isprintable():
            yield char
        else:
            yield f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"
