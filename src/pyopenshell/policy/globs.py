"""The pattern language of paths, binaries and query values: text to tokens, and one matcher for one segment.

Decides what a glob means, once for the whole product. Knows nothing of rules, requests or hosts.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from pyopenshell.policy.paths import encode_literal

# Token kinds, one per segment of a pattern. Plain ints: they are compared in every step of every walk.
L = 0
"""Exactly this segment."""
G = 1
"""One non-empty segment matched by a `Glob`."""
ANY = 2
"""One non-empty segment."""
ANYE = 3
"""One segment, possibly empty (`*` at the end: `/a/*` covers `/a/`)."""
DS = 4
"""Zero or more non-empty segments (`**`)."""
LF = 5
"""Exactly this segment in any letter case; the value is lower case (deny rules, `path_case: insensitive`)."""

FRESH = "\ue000"
"""A character that no pattern and no canonical request may contain: proof uses it for "anything else"."""

_FORBIDDEN = frozenset("{}\\")

# Segments that are literals already in their canonical spelling: most of all there are, so they skip the scanner.
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@-]*").fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class CharSet:
    """A set of characters: `chars`, or everything else when `negated`."""

    chars: frozenset[str]
    negated: bool = False

    def __contains__(self, char: str) -> bool:
        return (char in self.chars) != self.negated

    def folded(self) -> CharSet:
        """Every character of which some letter case is in the set: never less than the set itself."""
        if self.negated:
            return CharSet(frozenset(c for c in self.chars if c.swapcase() in self.chars), negated=True)
        return CharSet(self.chars | frozenset(c.swapcase() for c in self.chars))


ANY_CHAR = CharSet(frozenset(), negated=True)

Item = CharSet | None
"""One position of a segment glob: a character set, or None for `*` (any run of characters, also none)."""


class Glob:
    """A segment, or a query value, with wildcards inside. Equal globs have equal `items`.

    `plain` says that every wildcard is `*`: those are matched by searching for the literal `parts` in order, and
    for them generic instances are unique (proof.md 3.1).
    """

    __slots__ = ("_hash", "items", "parts", "plain", "text")

    def __init__(self, text: str, items: tuple[Item, ...]) -> None:
        self.text = text
        self.items = items
        self.plain = all(item is None or (not item.negated and len(item.chars) == 1) for item in items)
        self.parts = _parts(items) if self.plain else ()
        self._hash = hash(items)

    def match(self, text: str) -> bool:
        """True when the whole `text` matches. Linear for plain globs, at worst len(text) x len(items) otherwise."""
        if not self.plain:
            return _match_items(self.items, text)
        parts = self.parts
        first, last = parts[0], parts[-1]
        if len(parts) == 1:
            return text == first
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return False
        start, end = len(first), len(text) - len(last)
        for part in parts[1:-1]:
            found = text.find(part, start, end)
            if found < 0:
                return False
            start = found + len(part)
        return True

    def folded(self) -> Glob:
        """The same glob in any letter case."""
        return Glob(self.text, tuple(None if item is None else item.folded() for item in self.items))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.items == self.items

    def __repr__(self) -> str:
        return f"Glob({self.text!r})"


Token = tuple[int, str | Glob | None]
"""(kind, value): value is the text of L and LF, the Glob of G, None otherwise."""


def _parts(items: tuple[Item, ...]) -> tuple[str, ...]:
    parts = [""]
    for item in items:
        if item is None:
            parts.append("")
        else:
            parts[-1] += next(iter(item.chars))
    return tuple(parts)


def _match_items(items: tuple[Item, ...], text: str) -> bool:
    """Greedy match that only ever backtracks to the last `*`: no exponential and no cubic case."""
    i = j = 0
    star, mark = -1, 0
    while i < len(text):
        item = items[j] if j < len(items) else ANY_CHAR
        if j < len(items) and item is None:
            star, mark = j, i
            j += 1
        elif j < len(items) and item is not None and text[i] in item:
            i += 1
            j += 1
        elif star >= 0:
            mark += 1
            i, j = mark, star + 1
        else:
            return False
    return all(item is None for item in items[j:])


def _scan(text: str, *, encode: bool) -> tuple[Item, ...]:
    """Items of one segment. `encode` canonicalises literal runs the way request paths are canonicalised."""
    items: list[Item] = []
    literal = ""
    i = 0

    def flush() -> None:
        nonlocal literal
        run = encode_literal(literal) if encode and literal else literal
        items.extend(CharSet(frozenset(c)) for c in run)
        literal = ""

    while i < len(text):
        char = text[i]
        if char in _FORBIDDEN:
            raise ValueError(f"{char!r} is not supported in patterns (write a class like [{char}] or several rules)")
        if char == "*":
            flush()
            if not items or items[-1] is not None:
                items.append(None)
        elif char == "?":
            flush()
            items.append(ANY_CHAR)
        elif char == "[":
            flush()
            charset, i = _scan_class(text, i)
            items.append(charset)
        else:
            literal += char
        i += 1
    flush()
    return tuple(items)


def _scan_class(text: str, start: int) -> tuple[CharSet, int]:
    """`[abc]`, `[a-z]`, `[!a]`, `[^a]`; returns the set and the index of the closing bracket."""
    i = start + 1
    negated = text[i : i + 1] in ("!", "^")
    if negated:
        i += 1
    first = i
    chars: set[str] = set()
    while i < len(text) and (text[i] != "]" or i == first):
        if text[i + 1 : i + 2] == "-" and text[i + 2 : i + 3] not in ("", "]"):
            low, high = ord(text[i]), ord(text[i + 2])
            if low > high:
                raise ValueError(f"character range {text[i : i + 3]!r} is reversed")
            if high > 0x7F:
                raise ValueError("character ranges are limited to ASCII")
            chars.update(map(chr, range(low, high + 1)))
            i += 3
        else:
            chars.add(text[i])
            i += 1
    if i >= len(text):
        raise ValueError(f"character class in {text!r} is not closed")
    return CharSet(frozenset(chars), negated), i


def _token(segment: str, *, last: bool, encode: bool) -> Token:
    if segment == "*":
        return (ANYE if last else ANY, None)
    if _PLAIN(segment):
        return (L, segment)
    items = _scan(segment, encode=encode)
    if all(item is not None and not item.negated and len(item.chars) == 1 for item in items):
        return (L, "".join(next(iter(item.chars)) for item in items if item is not None))
    return (G, Glob(segment, items))


def _tokens(segments: list[str], *, encode: bool) -> tuple[Token, ...]:
    out: list[Token] = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            if not out or out[-1][0] != DS:
                out.append((DS, None))
            if last:
                out.append((ANYE, None))
            continue
        if "**" in segment:
            raise ValueError("'**' must be a whole path segment")
        out.append(_token(segment, last=last, encode=encode))
    return tuple(out)


@functools.lru_cache(maxsize=262144)
def path_pattern(text: str) -> tuple[str, tuple[Token, ...]]:
    """Canonical text and tokens of a path pattern. Raises ValueError when it could never mean what it says.

    Literal parts are canonicalised like request paths (`/users/%40a` is `/users/@a`), so that a rule, above all a
    deny rule, is never silently dead because of its spelling.
    """
    if text == "**":
        text = "/**"
    if not text.startswith("/"):
        raise ValueError(f"path pattern {text!r} must start with '/' or be '**'")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"path pattern {text!r} must be printable ASCII; write other characters as %XX")
    if len(text) > 4096:
        raise ValueError("path pattern is longer than 4096 characters")
    raw = text[1:].split("/")
    segments = [s for s in raw[:-1] if s] + raw[-1:]
    tokens = _tokens(segments, encode=True)
    for kind, value in tokens:
        if kind == L and value in (".", ".."):
            raise ValueError(f"path pattern {text!r} has a dot segment; requests are judged without them")
    return _spell(tokens), tokens


def _spell(tokens: tuple[Token, ...]) -> str:
    """The pattern as people should read it: canonical literals, `[*]` for a literal star."""
    out: list[str] = []
    for index, (kind, value) in enumerate(tokens):
        if kind == L and isinstance(value, str):
            out.append(value.replace("*", "[*]"))
        elif kind == G and isinstance(value, Glob):
            out.append(spelling(value))
        elif kind == DS:
            out.append("**")
        elif not (index and tokens[index - 1][0] == DS and index == len(tokens) - 1):
            out.append("*")
    return "/" + "/".join(out)


def spelling(glob: Glob) -> str:
    """The canonical text of a glob: equal globs have the same."""
    out = ""
    for item in glob.items:
        if item is None:
            out += "*"
        elif item == ANY_CHAR:
            out += "?"
        elif not item.negated and len(item.chars) == 1:
            (char,) = item.chars
            out += "[*]" if char == "*" else char
        else:
            out += "[" + ("!" if item.negated else "") + _spell_chars(item.chars) + "]"
    return out


def _spell_chars(chars: frozenset[str]) -> str:
    """Characters of a class in an order in which none of them is read as syntax."""
    codes = sorted(map(ord, chars))
    out: list[str] = []
    tail = ""
    while codes:
        run = 1
        while run < len(codes) and codes[run] == codes[0] + run:
            run += 1
        run = run if run > 3 else 1
        first, last = chr(codes[0]), chr(codes[run - 1])
        if run > 1:
            out.append(f"{first}-{last}")
        elif first in "-!^":
            tail += first
        elif first == "]":
            out.insert(0, first)
        else:
            out.append(first)
        codes = codes[run:]
    return "".join(out) + "".join(sorted(tail, key="!^-".index))


@functools.lru_cache(maxsize=65536)
def binary_pattern(text: str) -> tuple[Token, ...] | None:
    """Tokens of a binary glob, None for an exact path (no `*`: `[` and `?` are then plain characters)."""
    if not text.startswith("/"):
        raise ValueError(f"binary {text!r} must be an absolute path")
    if "\0" in text or FRESH in text:
        raise ValueError("binary path has a NUL or a reserved private-use character")
    if "*" not in text:
        return None
    return _tokens([s for s in text[1:].split("/") if s], encode=False)


@functools.lru_cache(maxsize=65536)
def value_glob(text: str) -> Glob:
    """A glob over a whole query value: `*` is any run of characters, also `/` and `.`."""
    return Glob(text, _scan(text, encode=False))


@functools.lru_cache(maxsize=65536)
def literal_star_glob(text: str) -> Glob:
    """A glob whose only wildcard is `*` (host labels)."""
    return Glob(text, tuple(None if c == "*" else CharSet(frozenset(c)) for c in text))


def segment_literal(tokens: tuple[Token, ...]) -> tuple[str, ...] | None:
    """The one word of a pattern without wildcards, None otherwise."""
    if any(kind != L for kind, _ in tokens):
        return None
    return tuple(value for _, value in tokens if isinstance(value, str))
