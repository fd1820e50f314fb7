"""SOCKS5 on the proxy's port (RFC 1928, 1929): from the client's bytes to one request, and the replies.

Free of I/O. Names travel as they are (socks5h): a name is canonical or refused here, before anything is matched or
resolved. BIND and UDP ASSOCIATE have no place in a sandbox, and SOCKS4 cannot carry a name beyond doubt.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress

from pyopenshell.policy.hosts import canonical_host

VERSION = 5
VERSION_4 = 4
_NO_AUTH, _PASSWORD, _NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
_CONNECT, _BIND, _ASSOCIATE = 1, 2, 3
_IPV4, _DOMAIN, _IPV6 = 1, 3, 4
REJECTED_4 = bytes([0, 0x5B, 0, 0, 0, 0, 0, 0])
"""SOCKS4 has one word for every refusal: 0x5B."""
METHOD_REFUSED = bytes([VERSION, _NONE_ACCEPTABLE])


class Reply(enum.IntEnum):
    """RFC 1928, 6."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8

    @property
    def wire(self) -> bytes:
        """The whole reply. The bound address is none of the client's business: 0.0.0.0:0."""
        return bytes([VERSION, self, 0, _IPV4, 0, 0, 0, 0, 0, 0])


class SocksError(Exception):
    """The client asked for something that is not served; `wire` tells it so, then the connection ends."""

    def __init__(self, text: str, wire: bytes) -> None:
        super().__init__(text)
        self.wire = wire


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """CONNECT to a canonical host. `rest` is what the client sent behind its request, too early but not wrongly."""

    host: str
    port: int
    rest: bytes


class _State(enum.Enum):
    METHODS = "methods"
    PASSWORD = "password"  # noqa: S105 - the name of a state
    REQUEST = "request"
    DONE = "done"


class Handshake:
    """Bounded by the protocol itself: no message of it is longer than 513 bytes."""

    __slots__ = ("_buffer", "_state", "out")

    def __init__(self) -> None:
        self._buffer = b""
        self._state = _State.METHODS
        self.out = b""
        """What must be sent to the client; the caller empties it."""

    def __repr__(self) -> str:
        return f"<socks handshake, {self._state.value}>"

    def feed(self, data: bytes) -> Request | None:
        """The request once it is complete, None before. Raises SocksError; nothing may be fed after either."""
        self._buffer += data
        while True:
            match self._state:
                case _State.METHODS:
                    size = self._methods()
                case _State.PASSWORD:
                    size = self._password()
                case _State.REQUEST:
                    return self._request()
                case _State.DONE:
                    raise SocksError("the handshake is over", b"")
            if not size:
                return None
            self._buffer = self._buffer[size:]

    def _methods(self) -> int:
        buffer = self._buffer
        if buffer and buffer[0] != VERSION:
            raise SocksError("not SOCKS version 5", b"")
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return 0
        offered = buffer[2 : 2 + buffer[1]]
        if _NO_AUTH in offered:
            self._state, chosen = _State.REQUEST, _NO_AUTH
        elif _PASSWORD in offered:
            # Some clients insist on sending one. Who connects is known from the socket, so it means nothing.
            self._state, chosen = _State.PASSWORD, _PASSWORD
        else:
            raise SocksError("no acceptable SOCKS5 authentication method: offer 'none'", METHOD_REFUSED)
        self.out += bytes([VERSION, chosen])
        return 2 + buffer[1]

    def _password(self) -> int:
        buffer = self._buffer
        if buffer and buffer[0] != 1:
            raise SocksError("malformed SOCKS5 user and password", bytes([1, 1]))
        if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
            return 0
        size = 3 + buffer[1] + buffer[2 + buffer[1]]
        if len(buffer) < size:
            return 0
        self._state = _State.REQUEST
        self.out += bytes([1, 0])
        return size

    def _request(self) -> Request | None:
        buffer = self._buffer
        if buffer and buffer[0] != VERSION:
            raise SocksError("malformed SOCKS5 request", Reply.FAILURE.wire)
        if len(buffer) < 5:
            return None
        _, command, reserved, kind, first = buffer[:5]
        size = {_IPV4: 10, _IPV6: 22, _DOMAIN: 7 + first}.get(kind)
        if reserved or size is None:
            raise SocksError("unknown SOCKS5 address type", Reply.ADDRESS_NOT_SUPPORTED.wire)
        if len(buffer) < size:
            return None
        self._state = _State.DONE
        if command != _CONNECT:
            word = {_BIND: "BIND", _ASSOCIATE: "UDP ASSOCIATE"}.get(command, f"command {command}")
            raise SocksError(f"SOCKS5 {word} is not supported", Reply.COMMAND_NOT_SUPPORTED.wire)
        host = _host(kind, buffer[5 : size - 2] if kind == _DOMAIN else buffer[4 : size - 2])
        port = int.from_bytes(buffer[size - 2 : size], "big")
        if not port:
            raise SocksError("port 0 in a SOCKS5 request", Reply.FAILURE.wire)
        return Request(host, port, buffer[size:])


def _host(kind: int, raw: bytes) -> str:
    if kind != _DOMAIN:
        # Through canonical_host as well: an IPv4 address in IPv6 clothes has to be judged as IPv4.
        return canonical_host(str(ipaddress.ip_address(raw)))
    try:
        return canonical_host(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise SocksError("SOCKS5 name is not ASCII (IDNA in its xn-- form)", Reply.FAILURE.wire) from None
    except ValueError as error:
        raise SocksError(f"SOCKS5 name refused: {error}", Reply.FAILURE.wire) from None
