"""Who owns a connection: the value, and the question the proxy asks.

The answer comes from the connect watcher (seccomp notification keyed by socket cookie) with a `/proc` scan as
fallback; doubt is always an IdentityError, never a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from pyopenshell.isolation import channel
from pyopenshell.isolation.netlink import SocketDiagnosis
from pyopenshell.isolation.processes import parents, read_image, read_status, stat_key


class IdentityError(Exception):
    """Nobody, several, or a vanished or changed owner. The text is shown in the denial."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The process that called connect(). Paths as the sandbox sees them, resolved by the kernel."""

    pid: int
    """In the sandbox's PID namespace, for log lines."""
    exe: str
    ancestors: tuple[str, ...] = ()
    """Executables of the parent chain, nearest first, sandbox init excluded."""
    sha256: str = ""
    """Of the running image, hex; "" only where hashing was not possible (then `identify` raised instead)."""


class Identifier(Protocol):
    """Implemented in this package; the proxy sees only this."""

    async def identify(self, accepted: socket.socket) -> Identity:
        """Owner of the client end of an accepted loopback TCP connection. Raises IdentityError."""


_RECORDS = 65536
"""Connections remembered; when full the older half is forgotten, and forgotten means denied."""
_IMAGES = 65536
"""Distinct image files over the life of a sandbox; one more is not hashed, and so denied."""
_MAX_IMAGE_BYTES = 1 << 30
_QUEUED = 4096
"""More records than the stream can hold, so what is not among so many was never sent."""
_MAX_DESCRIPTORS = 128
_MAX_RECORD = 1 << 18
"""Bytes; more than a default socket buffer can carry."""
_BATCH = 64
"""Records taken per readiness event, so that a flood does not hold the loop."""

_Key = tuple[int, int, int, int, int]


class _Record(NamedTuple):
    pid: int
    images: tuple[tuple[str, _Key], ...]
    """(path, file) of the caller, then of its ancestors, nearest first."""


class ConnectionIdentity:
    """Answers `Identifier` for one sandbox; lives on one event loop.

    `diag` is a NETLINK_SOCK_DIAG socket of the sandbox's network namespace, `records` the SEQPACKET stream of the
    connect watcher (None: no watcher; then owners are found by scanning `proc`, the sandbox's own procfs, and more than
    one distinct owner is an error). With a watcher a connection it did not record is an error, never a scan: a scan
    sees who holds the socket *now*, which the caller can choose.

    The first hash seen for a path is trusted for the life of this object; another one is an error from then on.
    """

    def __init__(self, diag: socket.socket, records: socket.socket | None, proc: int) -> None:
        self._diagnosis = SocketDiagnosis(diag)
        self._diag, self._socket, self._proc = diag, records, proc
        self._buffer = bytearray(_MAX_RECORD)  # kept: allocating it anew costs more than the whole look-up
        self._records: dict[int, _Record | Identity] = {}
        self._hashes: dict[_Key, str] = {}
        self._pending: dict[_Key, asyncio.Future[str]] = {}
        self._trusted: dict[str, str] = {}
        self._executor = ThreadPoolExecutor(1, "image-hash")
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to take records on the running loop."""
        self._loop = asyncio.get_running_loop()
        if self._socket is not None:
            self._socket.setblocking(False)
            self._loop.add_reader(self._socket.fileno(), self._take)

    def close(self) -> None:
        if self._loop is not None and self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._socket is not None:
            self._socket.close()
        self._diag.close()

    async def identify(self, accepted: socket.socket) -> Identity:
        """See `Identifier`. The usual path (known cookie, known image) does not wait for anything."""
        found = self._lookup(accepted)
        if found is None:
            raise IdentityError("the connection is already gone")
        inode, _, cookie = found
        if self._socket is None:
            return await self._judge(await self._scan(inode))
        known = self._records.get(cookie)
        for _ in range(_QUEUED):
            if known is not None or not self._take(1):
                break
            known = self._records.get(cookie)  # sent before connect() returned: it is here or it never was
        if known is None:
            raise IdentityError("nobody was seen making this connection")
        return known if isinstance(known, Identity) else await self._judge(known)

    def _lookup(self, accepted: socket.socket) -> tuple[int, int, int] | None:
        try:
            source, target = accepted.getpeername(), accepted.getsockname()
            found = self._diagnosis.lookup(accepted.family, source[:2], target[:2])
            # Still this connection's ports? A client that hung up frees them, and the next one may have been found.
            still = accepted.getpeername()
        except OSError:
            return None
        return found if still == source else None

    def _known(self, record: _Record) -> Identity | None:
        """The identity when every image was hashed before and is still trusted: the usual case, off accept's path."""
        digest = ""
        for path, key in reversed(record.images):
            digest = self._hashes.get(key, "")
            if not digest or self._trusted.get(path) != digest:
                return None
        return Identity(record.pid, record.images[0][0], tuple(path for path, _ in record.images[1:]), digest)

    async def _judge(self, record: _Record) -> Identity:
        hashes = []
        for path, key in record.images:
            digest = self._hashes.get(key)
            if digest is None:
                digest = await self._hash(path, key)
            if self._trusted.setdefault(path, digest) != digest:
                raise IdentityError(f"Binary integrity violation: {path} is not the file it was")
            hashes.append(digest)
        return Identity(record.pid, record.images[0][0], tuple(path for path, _ in record.images[1:]), hashes[0])

    async def _hash(self, path: str, key: _Key) -> str:
        pending = self._pending.get(key)
        if pending is None:
            raise IdentityError(f"the image of {path} was not handed over")
        try:
            return await asyncio.shield(pending)
        except OSError as error:
            raise IdentityError(f"cannot hash {path}: {error.strerror or error}") from error

    def _take(self, limit: int = _BATCH) -> int:
        """Take up to `limit` records; returns how many there were."""
        assert self._socket is not None
        taken = 0
        while taken < limit:
            try:
                size, fds, cut = channel.receive_raw(self._socket, self._buffer, _MAX_DESCRIPTORS, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return taken
            except OSError:
                size, fds, cut = 0, [], False
            if not size:
                if self._loop is not None:
                    self._loop.remove_reader(self._socket.fileno())
                return taken
            taken += 1
            self._remember(bytes(memoryview(self._buffer)[:size]), fds, cut=cut)
        return taken

    def _remember(self, data: bytes, fds: list[int], *, cut: bool) -> None:
        if cut:
            channel.close_all(fds)
            return
        message = json.loads(data)
        images = tuple(
            (_printable(path), (dev, ino, size, mtime, ctime)) for path, dev, ino, size, mtime, ctime in message["x"]
        )
        for index, fd in zip(message["n"], fds, strict=True):
            self._start_hash(images[index][1], fd)
        if len(self._records) >= _RECORDS:
            for cookie in list(self._records)[: _RECORDS // 2]:
                del self._records[cookie]
        record = _Record(message["p"], images)
        self._records[message["c"]] = self._known(record) or record

    def _start_hash(self, key: _Key, fd: int) -> None:
        full = len(self._hashes) + len(self._pending) >= _IMAGES
        if key in self._hashes or key in self._pending or self._loop is None or full:
            os.close(fd)
            return
        future = self._loop.run_in_executor(self._executor, _sha256, fd, key)
        self._pending[key] = future
        future.add_done_callback(lambda done: self._hashed(key, done))

    def _hashed(self, key: _Key, done: asyncio.Future[str]) -> None:
        if done.cancelled():
            return
        if done.exception() is None:
            self._hashes[key] = done.result()
            del self._pending[key]

    async def _scan(self, inode: int) -> _Record:
        if not inode:
            raise IdentityError("the socket has no owner any more")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        try:
            owners, handles = await self._loop.run_in_executor(self._executor, _owners, self._proc, inode)
        except (OSError, ValueError) as error:
            raise IdentityError("the owner vanished while it was looked up") from error
        for key, fd in handles.items():
            self._start_hash(key, fd)
        if not owners:
            raise IdentityError("no process in the sandbox owns this socket")
        if len({owner.images for owner in owners}) > 1:
            raise IdentityError("ambiguous shared socket ownership")
        return owners[0]


def _key(parts: list[int]) -> _Key:
    device, inode, size, modified, changed = parts
    return device, inode, size, modified, changed


def _printable(path: str) -> str:
    """Bytes that are not UTF-8 as escapes, so that the text can be logged and sent; such a path matches no policy."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _sha256(fd: int, key: _Key) -> str:
    """Hash an open image, then close it. Raises OSError when it is not, or does not stay, the file `key`."""
    with os.fdopen(fd, "rb", buffering=0) as file:
        if stat_key(os.fstat(fd)) != key:
            raise OSError("the file changed while it was running")
        if key[2] > _MAX_IMAGE_BYTES:
            raise OSError("the file is larger than 1 GiB")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if stat_key(os.fstat(fd)) != key:
            raise OSError("the file changed while it was read")
        return digest


def _owners(proc: int, inode: int) -> tuple[list[_Record], dict[_Key, int]]:
    """Every process in the sandbox's procfs that has socket:[inode] open, and a descriptor per distinct image."""
    root, wanted = f"/proc/self/fd/{proc}", f"socket:[{inode}]"
    owners: list[_Record] = []
    handles: dict[_Key, int] = {}
    for name in os.listdir(root):
        if not name.isdigit() or not _holds(f"{root}/{name}/fd", wanted):
            continue
        pid = int(name)
        images = []
        for link in [pid, *parents(read_status(pid, root).parent, 1, root)]:
            image = read_image(link, root)
            images.append((_printable(image.path), image.key))
            if image.key not in handles:
                handles[image.key] = os.open(f"{root}/{link}/exe", os.O_RDONLY | os.O_CLOEXEC)
        owners.append(_Record(pid, tuple(images)))
    return owners, handles


def _holds(directory: str, wanted: str) -> bool:
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):
            if os.readlink(f"{directory}/{name}") == wanted:
                return True
    return False
