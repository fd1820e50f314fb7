"""The connect watcher: one process that answers every sandbox's connect() notifications.

While the calling thread is frozen it notes who calls (executable, ancestors, image files) under the socket's cookie,
tells that sandbox's supervisor, and lets the call run. It decides nothing about policy. A process of its own: beside
busy Python a connect() would wait milliseconds for the interpreter lock (isolation.md 4).

Per connection one datagram: {"c": cookie, "p": pid inside, "x": [[path, dev, ino, size, mtime_ns, ctime_ns], ...],
"n": [index, ...]} with one descriptor of the image file for every index in "n" (images the supervisor has not seen).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
from typing import Final

from pyopenshell.isolation import channel, seccomp, syscalls
from pyopenshell.isolation.processes import Image, parents, read_image, read_status

SO_COOKIE: Final = 57
_ATTEMPTS = 8
_SEEN_IMAGES = 4096
"""Per sandbox; when full it is forgotten, and the supervisor gets descriptors it already has."""


class _Unrecorded(Exception):  # noqa: N818 - a verdict, not an error of ours
    """The supervisor cannot be told, so the connection must not come to be: `code` is what connect() returns."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Sandbox:
    def __init__(self, notify: int, init: int, records: socket.socket) -> None:
        self.notify, self._init, self._records = notify, init, records
        self._seen: set[tuple[int, ...]] = set()
        with contextlib.suppress(OSError):
            seccomp.wake_on_this_cpu(notify)

    def close(self) -> None:
        os.close(self.notify)
        self._records.close()

    def answer(self) -> None:
        """Take one notification and answer it."""
        try:
            call = seccomp.receive(self.notify)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return  # the thread died before we looked
            raise
        verdict = 0
        try:
            self._record(call)
        except _Unrecorded as unrecorded:
            verdict = unrecorded.code
        except Exception:  # noqa: BLE001 - one sandbox's oddity must not end the watcher of all
            # Not identified: the call may run, because a proxy connection nobody recorded is denied at accept.
            verdict = 0
        with contextlib.suppress(OSError):  # interrupted or killed meanwhile
            if verdict:
                seccomp.fail(self.notify, call.id, verdict)
            else:
                seccomp.resume(self.notify, call.id)

    def _record(self, call: seccomp.Notification) -> None:
        cookie = _cookie(call.thread, call.first_argument & 0xFFFFFFFF)
        if cookie is None:
            return
        inside = read_status(call.thread).inside
        for attempt in range(_ATTEMPTS):
            opened: list[int] = []
            try:
                images, new = self._look(call.thread, opened)
                if seccomp.valid(self.notify, call.id):
                    self._tell(cookie, inside, images, new, opened)
                return
            except (FileNotFoundError, ProcessLookupError):
                if attempt == _ATTEMPTS - 1:  # an ancestor ended while we read: the chain is a new one
                    raise
            finally:
                channel.close_all(opened)

    def _look(self, thread: int, opened: list[int]) -> tuple[list[Image], list[int]]:
        images, new = [], []
        for index, pid in enumerate([thread, *parents(read_status(thread).parent, self._init)]):
            image = read_image(pid)
            images.append(image)
            if image.key not in self._seen:
                opened.append(os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC))
                new.append(index)
        return images, new

    def _tell(self, cookie: int, pid: int, images: list[Image], new: list[int], opened: list[int]) -> None:
        record = {"c": cookie, "p": pid, "x": [[image.path, *image.key] for image in images], "n": new}
        data = json.dumps(record, separators=(",", ":")).encode()
        try:
            channel.send_raw(self._records, data, opened, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # Never let an unrecorded connection through: that is how an attacker would blind us.
            raise _Unrecorded(errno.EAGAIN) from None
        except OSError as error:
            raise _Unrecorded(errno.ECONNREFUSED) from error
        if len(self._seen) + len(new) > _SEEN_IMAGES:
            self._seen.clear()
        self._seen.update(images[index].key for index in new)


def _cookie(thread: int, fd: int) -> int | None:
    """Cookie of the caller's TCP socket, None for anything that is not one. Raises OSError."""
    # PIDFD_THREAD (Linux 6.9, same value as O_EXCL) matters when a thread has a descriptor table of its own.
    try:
        pidfd = os.pidfd_open(thread, os.O_EXCL)
    except OSError:
        pidfd = os.pidfd_open(read_status(thread).group)
    try:
        sock = socket.socket(fileno=syscalls.pidfd_getfd(pidfd, fd))
    finally:
        os.close(pidfd)
    with sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type & 0xF != socket.SOCK_STREAM:
            return None
        value: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]
        return value


def serve(requests: socket.socket) -> None:
    """{"watch": init pid} + [notify, records] until the host goes away."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sandboxes: dict[int, _Sandbox] = {}
    poll = select.epoll()
    poll.register(requests.fileno(), select.EPOLLIN)
    while True:
        for fd, event in poll.poll():
            if fd == requests.fileno():
                message, fds = channel.receive(requests)
                if message is None:
                    return
                sandbox = _Sandbox(fds[0], int(message["watch"]), socket.socket(fileno=fds[1]))
                sandboxes[fds[0]] = sandbox
                poll.register(fds[0], select.EPOLLIN)
                continue
            # One notification per turn and sandbox, so a flood in one does not starve the others.
            if not event & select.EPOLLIN or not _answered(sandboxes[fd]):
                poll.unregister(fd)
                sandboxes.pop(fd).close()


def _answered(sandbox: _Sandbox) -> bool:
    try:
        sandbox.answer()
    except OSError:
        return False
    return True
