"""Making foreign text visible and harmless: the one place that decides what may reach a log line or a screen.

Whatever an agent, a remote host or a file name supplied passes through here, so that no byte of it can move a
cursor, hide itself, reverse a line, start a new one or look like a field.
"""

from __future__ import annotations


def visible(text: str) -> str:
    r"""`text` with every character that is not plainly printable spelled out.

    Control characters, escape sequences, bidirectional and zero-width marks, line separators, non-ASCII spaces and lone
    surrogates become `\xNN` or `\u{NNNN}`. Ordinary spaces and printable letters of any script stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else _spell(c) for c in text)


def one_line(text: str) -> str:
    """Like `visible`, but line breaks and tabs become single spaces first: for reasons and messages."""
    return visible(" ".join(text.split("\n")).replace("\r", " ").replace("\t", " "))


def field(text: str) -> str:
    """Like `visible`, and free of spaces and square brackets, which separate fields of a log line."""
    return "".join(_spell(c) if c in " []" else c for c in visible(text))


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


def _spell(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:04x}}}"
