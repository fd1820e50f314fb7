"""Making foreign text visible and harmless: the one place that decides what may reach a log line or a screen.

Whatever an agent, a remote host or a file name supplied passes through here, so that no byte of it can move a
cursor, hide itself, reverse a line, start a new one or look like a field.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = (
    frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0))
    | frozenset(range(0xFE00, 0xFE10))
    | frozenset(range(0xE0100, 0xE01F0))
)
"""Blank or ignorable though Unicode calls them letters, marks or symbols (DerivedCoreProperties 15)."""
_MARKS_IN_A_ROW = 3
"""More combining marks than this on one letter are a tower that covers the lines around it."""


_PLAIN = re.compile(r"[!-Z\\^-~]*").fullmatch
"""Printable ASCII without blank and square brackets, as nearly every field is."""


def visible(text: str) -> str:
    r"""`text` with every character that is not plainly visible spelled out.

    Control characters, escape sequences, bidirectional and zero-width marks, blanks that are not the ordinary space,
    invisible letters, stacked combining marks and lone surrogates become `\n`, `\xNN`, `\uNNNN` or `\UNNNNNNNN`.
    Ordinary spaces and letters of any script stay.
    """
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        parts.append(_spell(char) if marks > _MARKS_IN_A_ROW or _hidden(char) else char)
    return "".join(parts)


def one_line(text: str) -> str:
    """Like `visible`, but line breaks and tabs become single spaces first: for reasons and messages."""
    return visible(" ".join(text.split("\n")).replace("\r", " ").replace("\t", " "))


def field(text: str) -> str:
    """Like `visible`, and free of spaces and square brackets, which separate fields of a log line."""
    if _PLAIN(text) is not None:
        return text
    shown = visible(text)
    if " " not in shown and "[" not in shown and "]" not in shown:
        return shown
    return shown.replace(" ", "\\x20").replace("[", "\\x5b").replace("]", "\\x5d")


def shorten(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut between characters, with `...` appended when something was lost."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= limit:
        return text
    return raw[:limit].decode("utf-8", "ignore") + "..."


def without_query(text: str) -> str:
    """Replace every `?query` (up to white space or `]`) by `?[redacted]`."""
    out: list[str] = []
    rest = text
    while True:
        head, mark, tail = rest.partition("?")
        out.append(head)
        if not mark:
            return "".join(out)
        out.append("?[redacted]")
        end = next((i for i, c in enumerate(tail) if c.isspace() or c == "]"), len(tail))
        rest = tail[end:]


def _hidden(char: str) -> bool:
    return not char.isprintable() or ord(char) in _INVISIBLE


def _spell(char: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if named:
        return named
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def spoken(seconds: float) -> str:
    """A length of time as people write it: `1h30m`, `2d`, `45s`; below a second `250ms`. Never negative."""
    if seconds < 1:
        return f"{max(int(seconds * 1000), 0)}ms"
    whole, parts = int(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
