"""The watcher: one process that answers every sandbox's notifications: connect(), execve(), and what is refused.

While the calling thread is frozen in connect() it numbers the connection, notes under that number who calls
(executable, ancestors, image files), tells that sandbox's supervisor, and lets the call run. The number travels as the
socket's mark: the kernel copies it to the socket that the proxy accepts (`tcp_fwmark_accept`), and no command may set
a mark. Of an execve() it notes only what `lineage` must know. A call of the deny list it refuses and tells. It decides
nothing about policy. A process of its own: beside busy Python a connect() would wait milliseconds for the interpreter
lock (isolation.md 4).

One datagram per connection: RECORD (number, chain, pid inside) when the chain was told before, else that as JSON,
{"m": number, "p": pid, "c": chain, "x": [[path, dev, ino, size, mtime_ns, ctime_ns, deleted, counts], ...],
"n": [index, ...]}, with one descriptor of the image file for every index in "n" (images the supervisor has not seen).
A chain of NOBODY: programs that are not the same called connect() on this one socket.

Before it, where the watcher itself connects (`redirect`): TARGET (number, where it was going, IP version). In between:
{"refused": call, "exe": path, "p": pid, "count": so often until now} for what was refused, at counts 1, 2, 4, 8 ...
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
from typing import Final, NamedTuple

from pyopenshell.isolation import channel, redirect, seccomp, syscalls
from pyopenshell.isolation.lineage import Lineage
from pyopenshell.isolation.processes import CHAIN_BYTES, Image, Key, ancestors, read_image, read_status, weight

RECORD: Final = struct.Struct("=III")
TARGET: Final = struct.Struct("=I16sHB")
NOBODY: Final = 0
SO_MARK: Final = 36
_MARKS = 1 << 32
_ATTEMPTS = 4
_SEEN_IMAGES = 4096
_SEEN_CHAINS = 4096
"""Per sandbox; when full they are forgotten, and the supervisor is told again what it knows."""
_SOCKETS = 4096
"""Connections per sandbox of which it is remembered who made them; a second connect() on an older one is NOBODY's."""
_REFUSED = 512
"""(call, program) pairs per sandbox that are counted one by one; more programs are counted together."""


class _Link(NamedTuple):
    image: Image
    counts: bool


class _Caller(NamedTuple):
    pid: int
    """In its own PID namespace."""
    chain: tuple[_Link, ...]
    """Itself, then its ancestors, nearest first."""
    new: list[int]
    """Indices of images the supervisor has no descriptor of."""


class _Unrecorded(Exception):  # noqa: N818 - a verdict, not an error of ours
    """The supervisor cannot be told, so the connection must not come to be: `code` is what connect() returns."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Sandbox:
    def __init__(self, notify: int, init: int, records: socket.socket, doors: redirect.Doors | None) -> None:
        self.notify, self._init, self._records, self._doors = notify, init, records, doors
        self._refused: dict[tuple[str, str], int] = {}
        self._lineage = Lineage()
        self._images: set[Key] = set()
        self._chains: dict[tuple[_Link, ...], int] = {}
        self._weight = 0
        """Of the chains, see `processes.weight`."""
        self._callers: dict[int, int] = {}  # number of a connection -> chain
        self._last_mark = self._last_chain = 0
        with contextlib.suppress(OSError):
            seccomp.wake_on_this_cpu(notify)

    def close(self) -> None:
        os.close(self.notify)
        self._records.close()

    def answer(self) -> None:
        """Take one notification and answer it. Raises OSError when there will be no more."""
        try:
            call = seccomp.receive(self.notify)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return  # the thread died before we looked
            raise
        refusal = seccomp.refusal(call)
        if refusal is not None:
            self._refuse(call, refusal)
            return
        verdict = self._connecting(call) if call.number == seccomp.NUMBER["connect"] else self._executing(call)
        with contextlib.suppress(OSError):  # interrupted or killed meanwhile
            if verdict is None:
                seccomp.resume(self.notify, call.id)
            else:
                seccomp.fail(self.notify, call.id, verdict)

    def _refuse(self, call: seccomp.Notification, refusal: seccomp.Refusal) -> None:
        """First the record, as long as the caller cannot go on; what cannot be recorded is refused all the same."""
        with contextlib.suppress(Exception):
            self._tell_refusal(call, refusal)
        with contextlib.suppress(OSError):
            if not call.native and seccomp.valid(
                self.notify, call.id
            ):  # nothing of ours is built for it: who calls like this looks for a way round
                os.kill(call.thread, signal.SIGKILL)
        with contextlib.suppress(OSError):
            seccomp.fail(self.notify, call.id, refusal.code)

    def _tell_refusal(self, call: seccomp.Notification, refusal: seccomp.Refusal) -> None:
        exe = os.readlink(f"/proc/{call.thread}/exe")
        key = (refusal.name, exe)
        if key not in self._refused and len(self._refused) >= _REFUSED:
            key = (refusal.name, "")
        self._refused[key] = count = self._refused.get(key, 0) + 1
        if count & (count - 1):
            return  # not a power of two: a loop of refused calls must not become a loop of log lines
        pid = read_status(call.thread).inside
        if seccomp.valid(self.notify, call.id):
            record = {"refused": refusal.name, "exe": exe, "p": pid, "count": count}
            channel.send_raw(self._records, json.dumps(record).encode(), [], socket.MSG_DONTWAIT)

    def _executing(self, call: seccomp.Notification) -> int | None:
        """None, or the error with which execve() fails because its consequences could not be noted."""
        try:
            self._lineage.executing(call.thread, lambda: seccomp.valid(self.notify, call.id))
        except Exception:  # noqa: BLE001 - one sandbox's oddity must not end the watcher of all
            return errno.EAGAIN
        return None

    def _connecting(self, call: seccomp.Notification) -> int | None:
        """None: the call may run; or what connect() returns instead: an errno, or 0 where it was performed here."""
        try:
            return self._record(call)
        except _Unrecorded as unrecorded:
            return unrecorded.code
        except Exception:  # noqa: BLE001 - one sandbox's oddity must not end the watcher of all
            # Not identified: the call may run, because a proxy connection nobody recorded is denied at accept.
            return None

    def _record(self, call: seccomp.Notification) -> int | None:
        sock = _stream(call.thread, call.descriptor)
        if sock is None:
            return None
        with sock:
            target = self._target(call) if self._doors is not None else None
            before = sock.getsockopt(socket.SOL_SOCKET, SO_MARK) % _MARKS
            self._last_mark = mark = self._last_mark % (_MARKS - 1) + 1
            # Before anything can fail: this call must not run under the number of an earlier one.
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
            self._note(call, mark, before, target)
            if self._doors is None or target is None:
                return None
            door = self._doors.door(sock.family, target)
            if door is None or not seccomp.valid(self.notify, call.id):
                return errno.ENETUNREACH
            return redirect.perform(sock, door)

    def _target(self, call: seccomp.Notification) -> redirect.Address | None:
        """Where a connection goes that needs a door. Raises OSError."""
        found = redirect.target(call.thread, call.arguments[1], call.arguments[2] & 0xFFFFFFFF)
        assert self._doors is not None
        return None if found is None or self._doors.local(found) else found

    def _note(self, call: seccomp.Notification, mark: int, before: int, target: redirect.Address | None) -> None:
        if target is not None:
            version = 6 if ":" in target[0] else 4
            raw = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, target[0])
            self._send(TARGET.pack(mark, raw, target[1], version), [])
        for attempt in range(_ATTEMPTS):
            opened: list[int] = []
            try:
                caller = self._look(call.thread, opened)
                if seccomp.valid(self.notify, call.id):
                    self._tell(mark, before, caller, opened)
                return
            except (FileNotFoundError, ProcessLookupError):
                if attempt == _ATTEMPTS - 1:  # an ancestor ended while we read: the chain is a new one
                    raise
            finally:
                channel.close_all(opened)

    def _look(self, thread: int, opened: list[int]) -> _Caller:
        """Raises ProcessLookupError or FileNotFoundError when the chain changed meanwhile."""
        status = read_status(thread)
        pids, chain = [thread], [_Link(read_image(thread), True)]
        for one in ancestors(thread, status.parent, self._init):
            pids.append(one.pid)
            chain.append(_Link(one.image, self._lineage.counts(one.pid, one.start, one.image)))
        new = []
        for index, (pid, link) in enumerate(zip(pids, chain, strict=True)):
            if link.image.key not in self._images:
                opened.append(os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC))
                new.append(index)
        return _Caller(status.inside, tuple(chain), new)

    def _tell(self, mark: int, before: int, caller: _Caller, opened: list[int]) -> None:
        known = self._chains.get(caller.chain)
        if before and (known is None or self._callers.get(before) != known):
            self._send(RECORD.pack(mark, NOBODY, caller.pid), [])
            return
        if known is not None and not opened:
            self._send(RECORD.pack(mark, known, caller.pid), [])
        else:
            known = self._introduce(mark, caller, opened)
        self._callers[mark] = known
        if len(self._callers) > _SOCKETS:
            del self._callers[next(iter(self._callers))]

    def _introduce(self, mark: int, caller: _Caller, opened: list[int]) -> int:
        number = self._last_chain + 1
        images = [[link.image.path, *link.image.key, link.image.deleted, link.counts] for link in caller.chain]
        record = {"m": mark, "p": caller.pid, "c": number, "x": images, "n": caller.new}
        self._send(json.dumps(record, separators=(",", ":")).encode(), opened)
        self._last_chain = number
        heavier = weight(link.image.path for link in caller.chain)
        self._weight += heavier
        full = len(self._chains) >= _SEEN_CHAINS or len(self._images) >= _SEEN_IMAGES
        if full or self._weight > CHAIN_BYTES:
            self._chains.clear()
            self._images.clear()
            self._weight = heavier
        self._chains[caller.chain] = number
        self._images.update(link.image.key for link in caller.chain)
        return number

    def _send(self, data: bytes, fds: list[int]) -> None:
        try:
            channel.send_raw(self._records, data, fds, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # Never let an unrecorded connection through: that is how an attacker would blind us.
            raise _Unrecorded(errno.EAGAIN) from None
        except OSError as error:
            raise _Unrecorded(errno.ECONNREFUSED) from error


def _stream(thread: int, fd: int) -> socket.socket | None:
    """A duplicate of the caller's TCP socket, None for anything that is not one. Raises OSError."""
    # PIDFD_THREAD (Linux 6.9, same value as O_EXCL) matters when a thread has a descriptor table of its own.
    try:
        pidfd = os.pidfd_open(thread, os.O_EXCL)
    except OSError:
        pidfd = os.pidfd_open(read_status(thread).group)
    try:
        sock = socket.socket(fileno=syscalls.pidfd_getfd(pidfd, fd))
    finally:
        os.close(pidfd)
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type & 0xF == socket.SOCK_STREAM:
        return sock
    sock.close()
    return None


def serve(requests: socket.socket) -> None:
    """{"watch": init pid, "doors": where to connect instead, or None} + [notify, records] until the host goes away."""
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
                doors = message.get("doors")
                sandbox = _Sandbox(
                    fds[0],
                    int(message["watch"]),
                    socket.socket(fileno=fds[1]),
                    redirect.Doors.from_message(doors) if doors else None,
                )
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
