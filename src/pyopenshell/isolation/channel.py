"""Messages between the processes outside a sandbox (and its init): one JSON object plus descriptors per datagram.

Decides framing only: SOCK_SEQPACKET keeps boundaries, a message too long for a datagram travels in a memfd. Knows no
operation. Every received descriptor is close-on-exec.
"""

from __future__ import annotations

import array
import contextlib
import json
import mmap
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

INLINE = 60_000
"""Bytes up to which a message travels in the datagram itself; the default send buffer holds three of them."""
MAX_MESSAGE = 64 << 20
MAX_FDS = 32

Message = dict[str, Any]


class ChannelError(Exception):
    """The peer broke the framing. Not recoverable: close the channel."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, close-on-exec, blocking."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def pack(message: Message) -> tuple[bytes, int | None]:
    """(datagram, memfd or None). The caller closes the memfd after sending."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= INLINE:
        return data, None
    spill = os.memfd_create("message", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(spill), "wb") as file:
        file.write(data)
    return json.dumps({"@": len(data)}).encode(), spill


def send_raw(sock: socket.socket, data: bytes, fds: Sequence[int], flags: int = 0) -> None:
    """One datagram with descriptors. Not socket.send_fds(): Python 3.11's ignores its flags."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights, flags | socket.MSG_NOSIGNAL)


def receive_raw(
    sock: socket.socket, buffer: bytearray | mmap.mmap, count: int, flags: int = 0
) -> tuple[int, list[int], bool]:
    """(bytes in `buffer`, close-on-exec descriptors, something was cut off). Not socket.recv_fds(), as above."""
    fds = array.array("i")
    space = socket.CMSG_SPACE(count * fds.itemsize)
    flags |= socket.MSG_CMSG_CLOEXEC
    try:
        size, ancillary, received, _ = sock.recvmsg_into([buffer], space, flags)
    except ConnectionResetError:
        # The peer closed with messages of ours unread. That is reported once, before what it said last is delivered.
        size, ancillary, received, _ = sock.recvmsg_into([buffer], space, flags)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return size, list(fds), bool(received & (socket.MSG_TRUNC | socket.MSG_CTRUNC))


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError (BlockingIOError on a full non-blocking socket)."""
    data, spill = pack(message)
    try:
        send_raw(sock, data, [*fds, spill] if spill is not None else fds)
    finally:
        if spill is not None:
            os.close(spill)


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """One message and its descriptors, or (None, []) at end of stream. Raises ChannelError, OSError."""
    buffer = bytearray(INLINE + 4096)
    size, fds, cut = receive_raw(sock, buffer, MAX_FDS)
    data = bytes(memoryview(buffer)[:size])
    try:
        if cut:
            raise ChannelError("message was cut")
        if not data:
            if fds:
                raise ChannelError("descriptors without a message")
            return None, []
        message = json.loads(data)
        if isinstance(message, dict) and "@" in message:
            message = _unspill(message["@"], fds)
        if not isinstance(message, dict):
            raise ChannelError("message is no object")
    except (ValueError, TypeError, RecursionError) as error:
        close_all(fds)
        raise ChannelError("message is not JSON") from error
    except ChannelError:
        close_all(fds)
        raise
    return message, fds


def _unspill(size: object, fds: list[int]) -> Message:
    if not isinstance(size, int) or not 0 < size <= MAX_MESSAGE or not fds:
        raise ChannelError("bad long message")
    with os.fdopen(fds.pop(), "rb") as file:
        file.seek(0)
        loaded: Message = json.loads(file.read(size))
        return loaded
