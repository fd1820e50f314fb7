"""Raw netlink: rtnetlink set-up of the sandbox's network namespace, and sock_diag look-ups.

A netlink socket belongs for life to the namespace it was created in, so init opens them inside and the supervisor uses
them from outside, without setns() and without privilege. Decides nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 1, 4, 0x200, 0x400, 0x800
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_LOCAL, _RT_SCOPE_HOST = 254, 4, 2, 254
_SOCK_DIAG_BY_FAMILY = 20
LOOPBACK = 1
"""Interface index of `lo` in every network namespace."""


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(parts))


def attributes(buffer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(buffer):
        length, kind = struct.unpack_from("=HH", buffer, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Netlink:
    """Request and answer on one netlink socket. The kernel answers before send() returns, so nothing blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 1

    @classmethod
    def open(cls, protocol: int) -> Netlink:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        sock.bind((0, 0))
        return cls(sock)

    def close(self) -> None:
        self._sock.close()

    def request(self, kind: int, flags: int, body: bytes) -> bytes:
        """Payload of the answer, b"" for a plain acknowledgement. Raises OSError."""
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._sock.send(header + body)
        while True:
            data = self._sock.recv(65536)
            length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data)
            if sequence != self._sequence:
                continue  # the answer to a request that was given up
            if answer == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, 16)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return b""
            return data[16:length]

    def loopback_up(self) -> None:
        self.request(_RTM_NEWLINK, NLM_F_ACK, struct.pack("=BxHiII", 0, 0, LOOPBACK, 1, 1))

    def add_address(self, ip: str, prefix: int) -> None:
        """Give `lo` an address, usable at once (no duplicate address detection)."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        raw = socket.inet_pton(family, ip)
        nodad = 0x02 if family == socket.AF_INET6 else 0
        body = struct.pack("=BBBBi", family, prefix, nodad, 0, LOOPBACK) + attribute(2, raw) + attribute(1, raw)
        self.request(_RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)

    def everything_is_local(self, family: int, source: str | None = None) -> None:
        """`local default dev lo`: connect() to any address reaches the output hook, and nothing can leave."""
        scope = _RT_SCOPE_HOST if family == socket.AF_INET else 0
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_LOCAL, 0)
        body += attribute(4, struct.pack("=i", LOOPBACK))
        if source:
            body += attribute(7, socket.inet_pton(family, source))
        self.request(_RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


_ALL = 0xFFFFFFFF
_NLMSG, _CODE = struct.Struct("=IHHII"), struct.Struct("=i")
_DIAG_HEAD, _DIAG_PORTS = struct.Struct("=IHHIIBBBxI"), struct.Struct("!HH")
_DIAG_IPV4, _DIAG_IPV6 = struct.Struct("=4s12x4s12xIII"), struct.Struct("=16s16sIII")
_COOKIE, _OWNER = struct.Struct("=Q"), struct.Struct("=II")


class SocketDiagnosis:
    """Exact TCP 4-tuple -> (inode, uid, cookie) in the namespace the socket was made in. About 4 us, no dump."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 1

    def lookup(self, family: int, source: tuple[str, int], target: tuple[str, int]) -> tuple[int, int, int] | None:
        """`source` and `target` as the *client's* socket has them. None when the kernel knows no such socket."""
        self._sequence = sequence = (self._sequence + 1) & 0x7FFFFFFF
        pack = _DIAG_IPV4.pack if family == socket.AF_INET else _DIAG_IPV6.pack
        own, other = socket.inet_pton(family, source[0]), socket.inet_pton(family, target[0])
        # nlmsghdr; inet_diag_req_v2 with every state; the ports are in network order
        self._sock.send(
            _DIAG_HEAD.pack(72, _SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence, 0, family, socket.IPPROTO_TCP, 0, _ALL)
            + _DIAG_PORTS.pack(source[1], target[1])
            + pack(own, other, 0, _ALL, _ALL)
        )
        while True:
            data = self._sock.recv(1024)
            _, answer, _, answered, _ = _NLMSG.unpack_from(data)
            if answered != sequence:
                continue  # the answer to a look-up that was given up
            if answer != _NLMSG_ERROR:
                break
            code = -_CODE.unpack_from(data, 16)[0]
            if code == errno.ENOENT:
                return None
            raise OSError(code, os.strerror(code))
        # inet_diag_msg: family, state, timer, retrans (4), id (48: cookie at 40), expires, two queues, uid, inode
        cookie: int = _COOKIE.unpack_from(data, 16 + 4 + 40)[0]
        uid, inode = _OWNER.unpack_from(data, 16 + 4 + 48 + 12)
        return inode, uid, cookie
