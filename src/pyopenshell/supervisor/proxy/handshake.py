"""The WebSocket opening handshake (RFC 6455, 4), both halves: what may be asked, and what counts as a yes.

Pure. Only a request that is an upgrade to `websocket` and nothing else, answered by a 101 that proves the server read
it, turns an HTTP connection into frames; until then nothing passes unparsed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.http1 import Framing, rebuild

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.http1 import Head

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCH = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_KEY, _VERSION, _ACCEPT = b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-accept"
_PROTOCOL, _EXTENSIONS = b"sec-websocket-protocol", b"sec-websocket-extensions"
_FIELDS = frozenset({_KEY, _VERSION, _ACCEPT, _PROTOCOL, _EXTENSIONS})
_HANDSHAKE = _FIELDS | {b"upgrade", b"connection"}


class HandshakeError(Exception):
    """Not a handshake we would act on. The text is ours and safe to show."""


class Handshake:
    """One request's half, and the check of the answer to it. Raises HandshakeError when the request is none."""

    __slots__ = ("_accept", "_inspected", "_protocols")

    def __init__(self, head: Head, *, inspected: bool) -> None:
        """`inspected` says that messages will be judged: then no extension may be agreed on, because a compressed
        message cannot be read."""
        fields = _fields(head)
        if fields.get(b"upgrade") is None or [v.lower() for v in fields[b"upgrade"]] != [b"websocket"]:
            raise HandshakeError("only an upgrade to websocket, and to nothing else, can be inspected")
        if head.method != "GET" or not head.minor or head.framing is not Framing.NONE or head.length > 0:
            raise HandshakeError("a WebSocket handshake is a GET request of HTTP/1.1 without a body")
        if head.override or head.reroute or head.expect:
            raise HandshakeError("a WebSocket handshake with a header that changes what it asks for")
        if b"upgrade" not in _tokens(fields, b"connection"):
            raise HandshakeError("the handshake's Connection header does not say Upgrade")
        if fields.get(_VERSION) != [b"13"]:
            raise HandshakeError("only version 13 of WebSocket is known")
        if _ACCEPT in fields:
            raise HandshakeError("Sec-WebSocket-Accept in a request")
        keys = fields.get(_KEY, [])
        if len(keys) != 1 or not _is_key(keys[0]):
            raise HandshakeError("Sec-WebSocket-Key must be 16 bytes in Base64, once")
        self._accept = accept_for(keys[0])
        self._protocols = _tokens(fields, _PROTOCOL, fold=False)
        self._inspected = inspected

    def request(self, start_line: bytes, head: Head, *, drop: frozenset[bytes]) -> bytes:
        """The head to send upstream. `start_line` may be followed by whole header lines."""
        gone = drop | {_EXTENSIONS} if self._inspected else drop
        return rebuild(start_line, head, _SWITCH, drop=gone)

    def refusal(self, head: Head) -> str:
        """Why the response, a 101, is no yes to this request; "" when it is."""
        try:
            fields = _fields(head)
        except HandshakeError as error:
            return str(error)
        if not head.minor or head.length > 0 or fields.get(b"upgrade") is None:
            return "101 without an upgrade"
        if [value.lower() for value in fields[b"upgrade"]] != [b"websocket"]:
            return "101 to another protocol than websocket"
        if b"upgrade" not in _tokens(fields, b"connection"):
            return "101 whose Connection header does not say Upgrade"
        if fields.get(_ACCEPT) != [self._accept]:
            return "101 whose Sec-WebSocket-Accept does not answer the key"
        chosen = fields.get(_PROTOCOL, [])
        if len(chosen) > 1 or any(value not in self._protocols for value in chosen):
            return "101 with a subprotocol that was not offered"
        if self._inspected and any(fields.get(_EXTENSIONS, [])):
            return "101 with an extension that was not offered"
        return ""

    def response(self, head: Head, data: bytes) -> bytes:
        """The 101 for the client; `data` begins with the head as it came."""
        return rebuild(data[: head.start_end], head, _SWITCH)


def accept_for(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _fields(head: Head) -> dict[bytes, list[bytes]]:
    """Values of the handshake's own fields. A field spelled with `_` would be read by some servers, and not by us."""
    found: dict[bytes, list[bytes]] = {}
    for line in head.lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _HANDSHAKE:
            found.setdefault(name, []).append(value.strip(b" \t"))
        elif name.replace(b"_", b"-") in _FIELDS:
            raise HandshakeError("a header name that imitates a field of the handshake with an underscore")
    return found


def _tokens(fields: dict[bytes, list[bytes]], name: bytes, *, fold: bool = True) -> list[bytes]:
    values = b",".join(fields.get(name, [])).split(b",")
    return [(value.lower() if fold else value) for value in (v.strip(b" \t") for v in values) if value]
