"""Request targets: the one canonical path under which a request is judged and in which it is forwarded.

A total function to a canonical form or a refusal; idempotent. Knows nothing of patterns and policies.
"""

from __future__ import annotations

import dataclasses
import re

MAX_PATH = 4096
"""Characters of a raw path (proof.md 2.3)."""

_PCHAR = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@")
_CLEAN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,=:@/-]*").fullmatch
_CLEAN_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]{}|\\^`\"<>-]*").fullmatch
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*(/.*)?").fullmatch
_ESCAPE = re.compile(r"[0-9A-Fa-f]{2}").fullmatch
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search

BACKSLASH = "backslash in the path, which some servers read as a slash"
"""IIS does, and so do browsers: `/a%5C..%5Cb` is `/b` there. What two servers read differently is refused."""

# Stands for an encoded slash while a path is taken apart: decoded bytes below 0x20 are refused before.
_SLASH = 1
_DOT, _DOT_DOT = [0x2E], [0x2E, 0x2E]


@dataclasses.dataclass(frozen=True, slots=True)
class Canonical:
    """`path` canonical; `query` as sent, without "?", None when there was none; `target` is what goes upstream."""

    path: str
    query: str | None
    target: str


def clean(path: str) -> bool:
    """True when `path` (without query) is canonical as it stands; False says nothing."""
    return _CLEAN(path) is not None and "//" not in path and "/." not in path and len(path) <= MAX_PATH


def canonicalise(target: str, allow_encoded_slash: bool) -> Canonical:
    """Canonical form of a request target (`/path?query`, or absolute-form, whose authority is dropped).

    Percent-decodes once, cuts `;params`, resolves dot segments, collapses empty ones, re-encodes; the query is
    kept byte for byte. Raises ValueError, and then the request must be refused, for control bytes, non-ASCII, "#",
    backslashes, bad escapes, undecodable queries, targets above 4096 characters of path, escapes above the root, and
    `%2F` without `allow_encoded_slash`.
    """
    raw, mark, query = target.partition("?")
    if mark:
        check_query(query)
    tail = "?" + query if mark else ""
    path = raw if clean(raw) else canonical_path(raw, allow_encoded_slash)
    return Canonical(path, query if mark else None, path + tail)


def check_query(query: str) -> None:
    """Raises ValueError for a query that no server would read the way we do."""
    if _CLEAN_QUERY(query) is not None:
        return
    for char in query:
        if char <= " " or char >= "\x7f":
            raise ValueError("control byte, blank or non-ASCII in the query")
    if "#" in query:
        raise ValueError("fragment in the request target")
    if _BAD_ESCAPE(query):
        raise ValueError("bad percent-encoding in the query")
    try:
        unescape(query).decode()
    except UnicodeDecodeError:
        raise ValueError("query is not UTF-8") from None


def unescape(text: str) -> bytes:
    """Percent-decode once; `+` stays."""
    first, *rest = text.split("%")
    return first.encode("latin-1") + b"".join(bytes((int(part[:2], 16),)) + part[2:].encode("latin-1") for part in rest)


def canonical_path(raw: str, allow_encoded_slash: bool) -> str:
    """The path part of `canonicalise`."""
    for char in raw:
        if char < " " or char >= "\x7f":
            raise ValueError("control byte or non-ASCII in the request target")
    if "#" in raw:
        raise ValueError("fragment in the request target")
    if "\\" in raw:
        raise ValueError(BACKSLASH)
    if not raw.startswith("/"):
        match = _ABSOLUTE(raw)
        if match is None and raw:
            raise ValueError("request target is not in origin-form")
        raw = (match and match.group(1)) or "/"
    if len(raw) > MAX_PATH:
        raise ValueError(f"path is longer than {MAX_PATH} characters")
    return "/" + "/".join(_encode(segment) for segment in _resolve(_segments(raw, allow_encoded_slash)))


def _decode(raw: str, allow_encoded_slash: bool) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(raw):
        if raw[i] != "%":
            out.append(ord(raw[i]))
            i += 1
            continue
        escape = raw[i + 1 : i + 3]
        if _ESCAPE(escape) is None:
            raise ValueError("bad percent-encoding in the path")
        byte = int(escape, 16)
        if byte == 0x2F:
            if not allow_encoded_slash:
                raise ValueError("encoded slash in the path")
            byte = _SLASH
        elif byte == 0x5C:
            raise ValueError(BACKSLASH)
        elif byte < 0x20 or byte == 0x7F:
            raise ValueError("encoded control byte in the path")
        out.append(byte)
        i += 3
    return out


def _segments(raw: str, allow_encoded_slash: bool) -> list[list[int]]:
    """Split on "/" and cut parameters, before dots are resolved: `..;x` must not smuggle a `..`."""
    segments: list[list[int]] = [[]]
    for byte in _decode(raw, allow_encoded_slash)[1:]:
        if byte == 0x2F:
            segments.append([])
        else:
            segments[-1].append(byte)
    return [s[: s.index(0x3B)] if 0x3B in s else s for s in segments]


def _resolve(segments: list[list[int]]) -> list[list[int]]:
    stack: list[list[int]] = []
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        if segment == _DOT_DOT:
            if not stack:
                raise ValueError("path climbs above the root")
            stack.pop()
        if segment in (_DOT, _DOT_DOT):
            if index == last:
                stack.append([])
        elif segment or index == last:
            stack.append(segment)
    for segment in stack:
        if _SLASH in segment and _hidden_dots(segment):
            raise ValueError("dot segment beside an encoded slash")
    return stack


def _hidden_dots(segment: list[int]) -> bool:
    part: list[int] = []
    for byte in [*segment, _SLASH]:
        if byte == _SLASH:
            if part in (_DOT, _DOT_DOT):
                return True
            part = []
        else:
            part.append(byte)
    return False


def _encode(segment: list[int]) -> str:
    return "".join("%2F" if b == _SLASH else chr(b) if chr(b) in _PCHAR else f"%{b:02X}" for b in segment)


def encode_literal(text: str) -> str:
    """A literal run of a path pattern, spelled as it would be in a canonical path.

    Raises ValueError for text that no canonical path can contain: a rule with it would never match anything.
    """
    segment = _decode(text, allow_encoded_slash=True)
    if 0x3B in segment:
        raise ValueError("';' starts path parameters, which are cut before rules are matched")
    if "#" in text:
        raise ValueError("'#' never occurs in a request path; write %23")
    return _encode(segment)
