"""What the first bytes of an inspected tunnel are: TLS, HTTP/1, or something that cannot be inspected.

Pure. Decides nothing about access; only names what it sees and reads the server name a TLS client asks for.
"""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    MORE = "more"
    """Not enough bytes yet."""
    TLS = "tls"
    HTTP = "http"
    OTHER = "other"


MAX_HELLO = 16384
"""Bytes that a ClientHello may have; real ones stay below 4 KiB, keys for a time with quantum computers included."""

_METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_PREFACE = b"PRI "
"""A method that exists in HTTP/2's preface only (RFC 9113, 11.6)."""


INTERNAL_ERROR = bytes.fromhex("15 0303 0002 02 50")
"""TLS record with a fatal alert (RFC 8446, 6.2): what a TLS client can read when the proxy itself failed."""


class HelloError(Exception):
    """Starts like TLS but is no ClientHello."""


def classify(data: bytes) -> Kind:
    """Name the protocol. HTTP/2 with prior knowledge, SSH and the rest are OTHER."""
    if not data:
        return Kind.MORE
    if data[0] == 0x16:
        return Kind.TLS
    if not 0x41 <= data[0] <= 0x5A:
        return Kind.OTHER
    if data[:4] == _PREFACE[: len(data)]:
        return Kind.OTHER if len(data) >= 4 else Kind.MORE
    method, space, _ = data[:33].partition(b" ")
    if (not space and len(data) > 32) or any(c not in _METHOD for c in method):
        return Kind.OTHER
    return Kind.HTTP if space else Kind.MORE


def server_name(data: bytes) -> str | None:
    """The name in a ClientHello's SNI, "" when it has none, None while more bytes are needed. Raises HelloError."""
    hello = _handshake(data)
    if hello is None:
        return None
    try:
        return _sni(hello)
    except (IndexError, UnicodeDecodeError):
        raise HelloError("malformed ClientHello") from None


def _handshake(data: bytes) -> bytes | None:
    """The ClientHello's body, put together from its records."""
    at, message = 0, b""
    while True:
        if len(data) < at + 5:
            return None
        if data[at] != 0x16 or data[at + 1] != 0x03:
            raise HelloError("not a TLS handshake record")
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < size <= 16640:
            raise HelloError("impossible TLS record")
        message += data[at + 5 : at + 5 + size]
        if message[0:1] not in (b"", b"\x01"):
            raise HelloError("not a ClientHello")
        if len(message) >= 4:
            need = 4 + int.from_bytes(message[1:4], "big")
            if need > MAX_HELLO:
                raise HelloError("ClientHello too large")
            if len(message) >= need:
                return message[4:need]
        if len(data) < at + 5 + size:
            return None
        at += 5 + size


def _sni(hello: bytes) -> str:
    at = 34  # version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(_take(hello, at, 2), "big")  # cipher suites
    at += 1 + hello[at]  # compression methods
    if at == len(hello):
        return ""
    end = at + 2 + int.from_bytes(_take(hello, at, 2), "big")
    at += 2
    while at < end:
        kind = int.from_bytes(_take(hello, at, 2), "big")
        size = int.from_bytes(_take(hello, at + 2, 2), "big")
        if kind == 0:
            entry = _take(hello, at + 4, size)
            length = int.from_bytes(_take(entry, 3, 2), "big")
            return _take(entry, 5, length).decode("ascii")
        at += 4 + size
    return ""


def _take(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) != size:
        raise IndexError
    return piece
