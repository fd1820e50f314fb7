"""HTTP/1 heads and message framing, strict: what two parsers could read differently is refused, never repaired.

Pure functions and small state machines over bytes. Knows nothing of policy, sockets or who is asking. CGI and WSGI
servers read `X_Name` and `X-Name` as one field, so names are compared with `_` read as `-`: what a judgement depends on
is seen in both spellings, and a second spelling of a field that frames or names the authority is refused.
"""

from __future__ import annotations

import enum
import re


class MessageError(Exception):
    """The peer's bytes are not a message we are willing to frame. The text is short, ours and safe to show."""


class Framing(enum.IntEnum):
    """How the end of a body is found."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_EOF = 3


class Head:
    """One parsed head. `length` is -1 without Content-Length; `lines` are the field lines as they came.

    `rewrite` says that hop-by-hop fields are present, so the head cannot be passed on as it came. Never changed once it
    is parsed: a peer that repeats its head to the byte gets the same object.
    """

    __slots__ = (
        "chunked",
        "expect",
        "framing",
        "host",
        "keep",
        "length",
        "lines",
        "method",
        "minor",
        "override",
        "reroute",
        "rewrite",
        "start_end",
        "status",
        "tail",
        "target",
        "upgrade",
        "wire",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = ""
        self.status = 0
        self.minor = 1
        self.framing = Framing.NONE
        self.length = -1
        self.keep = True
        self.host: bytes | None = None
        self.upgrade = ""
        self.expect = False
        self.override = ""
        self.reroute = ""
        """Name of a field that frameworks take the path from instead of the request line; "" for none."""
        self.rewrite = False
        self.lines: list[bytes] = []
        self.start_end = 0
        self.tail = b""
        """Of a request: the field lines and the blank line as one piece; "" without fields."""
        self.chunked = False
        self.wire = b""
        """Of a response: the whole head as it came."""


def _repeated(before: Head) -> Head:
    """What `_fields` read out of the same bytes for the same version of HTTP, in the same direction."""
    head: Head = _new(Head)
    head.status, head.minor, head.framing, head.wire = 0, before.minor, before.framing, b""
    head.tail, head.chunked, head.lines = before.tail, before.chunked, before.lines
    head.length, head.keep, head.host, head.expect = before.length, before.keep, before.host, before.expect
    head.upgrade, head.override, head.reroute = before.upgrade, before.override, before.reroute
    head.rewrite = before.rewrite
    return head


_new = object.__new__
_NONE, _BY_LENGTH, _CHUNKED, _UNTIL_EOF = Framing
"""Looking a member up in its class takes four times as long, and there are several for each exchange."""


MAX_FIELDS = 128
MAX_CHUNK_LINE = 1024
MAX_TRAILERS = 8192

_REQUEST = re.compile(rb"([A-Z][A-Z0-9_-]{0,31}) ([!-~]{1,16384}) HTTP/1\.([01])\r\n")
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\0]*)?\r\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_TEXT = bytes(b for b in range(256) if b >= 0x20 and b != 0x7F) + b"\t"
_ALLOWED = _TEXT + b"\r\n"

_PLAIN, _LENGTH, _CODING, _CONNECTION, _HOST, _UPGRADE, _EXPECT, _HOP, _OVERRIDE, _REROUTE, _TWIN = range(11)
_KINDS = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"host": _HOST,
    b"upgrade": _UPGRADE,
    b"expect": _EXPECT,
    b"keep-alive": _HOP,
    b"te": _HOP,
    b"http2-settings": _HOP,
    b"proxy-authorization": _HOP,
    b"proxy-authenticate": _HOP,
    b"proxy-connection": _HOP,
    b"alt-svc": _HOP,  # a hint at HTTP/3, which does not leave the sandbox
    b"x-http-method-override": _OVERRIDE,
    b"x-http-method": _OVERRIDE,
    b"x-method-override": _OVERRIDE,
    b"x-original-url": _REROUTE,
    b"x-rewrite-url": _REROUTE,
}
_NAMES_AUTHORITY = frozenset({b"x-forwarded-host", b"x-forwarded-server", b"x-host", b"x-original-host"})
"""Stand in for Host in some servers: passed on in their own spelling, refused in the underscore one."""
_NEVER_HOP = frozenset(
    {b"host", b"content-length", b"content-type", b"content-encoding"}
    | {b"transfer-encoding", b"authorization", b"cookie"}
)
"""Fields a `Connection:` line may not take away: dropping them would change what was judged."""
_NEVER_TRAILER = _NEVER_HOP | {b"connection", b"upgrade", b"te", b"trailer", b"expect"}
_HOP_BY_HOP = frozenset(name for name, kind in _KINDS.items() if kind == _HOP) | {b"connection", b"upgrade"}
_NOT_NAMED = frozenset({b"close", b"keep-alive"})
"""Options of `Connection` that are no fields, or go anyway: nearly all there are."""
_names: dict[bytes, int] = {}
"""Field names as written -> kind. Bounded: names are the peer's."""


def _kind(name: bytes) -> int:
    if not _TOKEN.fullmatch(name):
        raise MessageError("malformed header name")
    lower = name.lower()
    kind = _KINDS.get(lower, _PLAIN)
    if b"_" in lower:
        dashed = lower.replace(b"_", b"-")
        kind = _KINDS.get(dashed, _TWIN if dashed in _NAMES_AUTHORITY else _PLAIN)
        if kind not in (_PLAIN, _OVERRIDE, _REROUTE):
            kind = _TWIN
    if len(_names) < 4096 and len(name) < 64:
        _names[name] = kind
    return kind


def parse_request(data: bytes, end: int, before: Head | None = None) -> Head:
    """Parse a request head. `data[end:end + 4]` is the blank line. Raises MessageError.

    `before` is the connection's last request: a client that repeats its fields to the byte has them read once.
    """
    start = _REQUEST.match(data)
    if start is None:
        raise MessageError("malformed request line")
    method, target, digit = start.group(1, 2, 3)
    at = start.end()
    minor = 1 if digit == b"1" else 0
    if before is not None and before.tail and before.minor == minor and data.startswith(before.tail, at):
        head = _repeated(before)
    else:
        head = Head()
        head.minor = minor
        _fields(head, data, at, end, request=True)
        if head.host is None and minor:
            raise MessageError("missing Host header")
        if head.chunked:
            head.framing = _CHUNKED
        elif head.length > 0:
            head.framing = _BY_LENGTH
    head.method = method.decode()
    head.target = target.decode()
    head.start_end = at
    return head


def parse_response(data: bytes, end: int, request_method: str, before: Head | None = None) -> Head:
    """Parse a response head to a request with `request_method`. Raises MessageError. `before` is the connection's last
    one: the same bytes are the same head.
    """
    if before is not None and before.method == request_method and data.startswith(before.wire):
        return before
    start = _RESPONSE.match(data)
    if start is None:
        raise MessageError("malformed status line")
    head = Head()
    head.method = request_method
    head.status = int(start[2])
    head.minor = 1 if start[1] == b"1" else 0
    head.start_end = start.end()
    head.wire = data[: end + 4]
    _fields(head, data, head.start_end, end, request=False)
    if head.status < 200 or head.status in (204, 304) or request_method == "HEAD":
        head.framing = _NONE
    elif head.chunked:
        head.framing = _CHUNKED
    elif head.length >= 0:
        head.framing = _BY_LENGTH if head.length else _NONE
    else:
        head.framing = _UNTIL_EOF
    return head


def _fields(head: Head, data: bytes, start: int, end: int, *, request: bool) -> None:
    """Read the field lines into `head`."""
    head.keep = head.minor == 1
    if start > end:
        return
    block = data[start:end]
    lines = block.split(b"\r\n")
    breaks = len(lines) - 1
    if len(lines) > MAX_FIELDS:
        raise MessageError("too many header fields")
    # Without its text, a well-formed block is its line breaks and nothing else.
    if block.translate(None, _TEXT) != b"\r\n" * breaks:
        raise MessageError("control character or bare line break in a header")
    if request and not block.isascii():
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            raise MessageError("header is not UTF-8") from None
    head.lines = lines
    chunked = False
    known = _names.get
    for line in lines:
        name, colon, value = line.partition(b":")
        kind = known(name)
        if kind is None:
            kind = _kind(name)
        if not colon:
            raise MessageError("header line without a colon")
        if kind != _PLAIN:
            chunked = _special(head, kind, name, value.strip(b" \t"), chunked)
    if chunked and head.length >= 0:
        raise MessageError("both Content-Length and Transfer-Encoding")
    head.chunked = chunked
    if request:
        head.tail = data[start : end + 4]


def _special(head: Head, kind: int, name: bytes, value: bytes, chunked: bool) -> bool:
    """One field that frames, routes or belongs to this hop."""
    if kind == _LENGTH:
        if head.length >= 0 or not _DIGITS.fullmatch(value):
            raise MessageError("repeated or malformed Content-Length")
        head.length = int(value)
    elif kind == _CODING:
        if chunked or value.lower() != b"chunked" or not head.minor:
            raise MessageError("unsupported Transfer-Encoding")
        return True
    elif kind == _HOST:
        if head.host is not None:
            raise MessageError("more than one Host header")
        head.host = value
    elif kind == _CONNECTION:
        _connection(head, value.lower())
    elif kind == _UPGRADE:
        head.upgrade = value.decode("ascii", "replace")[:64] or "(empty)"
        head.rewrite = True
    elif kind == _EXPECT:
        if value.lower() != b"100-continue":
            raise MessageError("unsupported Expect header")
        head.expect = True
    elif kind == _OVERRIDE:
        override = value.decode("ascii", "replace").upper()
        if head.override and head.override != override:
            raise MessageError("contradicting method overrides")
        head.override = override
    elif kind == _REROUTE:
        head.reroute = name.decode("ascii")
    elif kind == _TWIN:
        raise MessageError("header name that imitates a framing or authority field with an underscore")
    else:
        head.rewrite = True
    return chunked


def _connection(head: Head, value: bytes) -> None:
    if value == b"keep-alive":
        if not head.minor:
            head.keep = True
        return
    head.rewrite = True
    for option in value.split(b","):
        option = option.strip(b" \t")
        if option == b"close":
            head.keep = False
        elif option == b"keep-alive":
            if not head.minor:
                head.keep = True
        elif option in _NEVER_HOP:
            raise MessageError("Connection names a header that may not be dropped")


def rebuild(start_line: bytes, head: Head, extra: bytes = b"", *, drop: frozenset[bytes] = frozenset()) -> bytes:
    """The head with a new start line (with CRLF), without hop-by-hop fields and `drop`, with `extra` lines appended."""
    named: set[bytes] = set()
    kept: list[bytes] = []
    for line in head.lines:
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower == b"connection":
            named.update([option.strip(b" \t") for option in value.lower().split(b",")])
        elif lower not in _HOP_BY_HOP and lower not in drop:
            kept.append(line)
    named -= _NOT_NAMED
    if named:
        named -= _NEVER_HOP
        kept = [line for line in kept if line.partition(b":")[0].lower() not in named]
    kept.append(extra + b"\r\n" if extra else b"\r\n")
    return start_line + b"\r\n".join(kept)


class Chunks:
    """Finds the end of a chunked body in a byte stream without changing it: the bytes are relayed as they came."""

    __slots__ = ("_left", "_line", "_state", "_trailers")

    _SIZE, _DATA, _TRAILER = range(3)

    def __init__(self) -> None:
        self._state = self._SIZE
        self._left = 0
        """Bytes left of the current chunk, its CRLF included."""
        self._line = b""
        self._trailers = 0

    def feed(self, data: bytes) -> int:
        """Index just past the end of the body, or -1 while it goes on. Raises MessageError."""
        at, size = 0, len(data)
        while at < size:
            if self._state == self._DATA:
                at = self._payload(data, at)
                continue
            stop = data.find(b"\n", at)
            piece = data[at:] if stop < 0 else data[at : stop + 1]
            line = self._line + piece if self._line else piece
            if len(line) > (MAX_CHUNK_LINE if self._state == self._SIZE else MAX_TRAILERS):
                raise MessageError("chunk line too long")
            if stop < 0:
                self._line = line
                return -1
            self._line = b""
            at = stop + 1
            if not line.endswith(b"\r\n"):
                raise MessageError("bare line feed in chunk framing")
            if self._state == self._SIZE:
                self._size(line[:-2])
            elif len(line) == 2:
                return at
            else:
                self._trailer(line[:-2])
        return -1

    def _payload(self, data: bytes, at: int) -> int:
        """Skip payload and check the two bytes behind it."""
        taken = min(len(data) - at, self._left)
        left = self._left - taken
        if left < 2:
            # What of "\r\n" lies in this piece: the last (2 - left) bytes of it, unless seen before.
            seen = min(2 - left, taken)
            if data[at + taken - seen : at + taken] != b"\r\n"[2 - left - seen : 2 - left]:
                raise MessageError("chunk does not end where it says")
        self._left = left
        if not left:
            self._state = self._SIZE
        return at + taken

    def _size(self, line: bytes) -> None:
        digits, _, extension = line.partition(b";")
        if not _HEX.fullmatch(digits) or b"\r" in extension or extension.translate(None, _ALLOWED):
            raise MessageError("malformed chunk size")
        size = int(digits, 16)
        if size:
            self._left = size + 2
            self._state = self._DATA
        else:
            self._state = self._TRAILER

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        name, colon, value = line.partition(b":")
        if self._trailers > MAX_TRAILERS or not colon or not _TOKEN.fullmatch(name):
            raise MessageError("malformed trailer")
        if name.lower().replace(b"_", b"-") in _NEVER_TRAILER or b"\r" in value or value.translate(None, _ALLOWED):
            raise MessageError("trailer that is not allowed")


class Body:
    """Where a body ends: one interface over the three ways a message can be delimited."""

    __slots__ = ("_chunks", "_left", "framing")

    def __init__(self, framing: Framing, length: int) -> None:
        self.framing = framing
        self._left = length if framing is _BY_LENGTH else 0
        self._chunks = Chunks() if framing is _CHUNKED else None

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` belong to the body when it ends within them, else -1. Raises MessageError."""
        if self._chunks is not None:
            return self._chunks.feed(data)
        if self.framing is _BY_LENGTH:
            size = len(data)
            if size >= self._left:
                size, self._left = self._left, 0
                return size
            self._left -= size
            return -1
        return -1 if self.framing is _UNTIL_EOF else 0
