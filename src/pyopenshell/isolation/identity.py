"""Who owns a connection: the value, and the question the proxy asks.

The answer comes from the connect watcher (seccomp notification; the number it gave a connection arrives as the accepted
socket's mark) with a `/proc` scan as fallback; doubt is always an IdentityError, never a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from pyopenshell.isolation import channel
from pyopenshell.isolation.netlink import SocketDiagnosis
from pyopenshell.isolation.network import original_destination
from pyopenshell.isolation.processes import (
    CHAIN_BYTES,
    Image,
    Key,
    ancestors,
    read_image,
    read_status,
    stat_key,
    weight,
)
from pyopenshell.isolation.watcher import NOBODY, RECORD, SO_MARK, TARGET


class IdentityError(Exception):
    """Nobody, several, or a vanished or changed owner. `code` is stable (docs/isolation.md); both are in the denial."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The process that called connect(). Paths as the sandbox sees them, resolved by the kernel."""

    pid: int
    """In the sandbox's PID namespace, for log lines."""
    exe: str
    ancestors: tuple[str, ...] = ()
    """Executables of the parent chain that count, nearest first, sandbox init excluded."""
    sha256: str = ""
    """Of the running image, hex; "" only where hashing was not possible (then `identify` raised instead)."""
    doubtful: tuple[str, ...] = ()
    """Executables of the parent chain that do not count: they took their place when what they now seem to have started
    was already there, or their file was deleted before anybody had seen it."""


class Identifier(Protocol):
    """Implemented in this package; the proxy sees only this."""

    async def identify(self, accepted: socket.socket) -> Identity:
        """Owner of the client end of an accepted TCP connection, redirected or not; ask once. Raises IdentityError."""


_RECORDS = 65536
"""Connections remembered until they arrive; when full the older half is forgotten, and forgotten means denied."""
_CHAINS = 8192
"""Twice what the watcher speaks of, in number as in bytes, so that none is forgotten that it still uses."""
_IMAGES = 65536
"""Distinct image files over the life of a sandbox; one more is not hashed, and so denied."""
TRUSTED_LIMIT = 4 << 20
"""Characters of all program paths that one sandbox's supervisor remembers."""
_MAX_IMAGE_BYTES = 1 << 30
_QUEUED = 4096
"""More records than the stream can hold, so what is not among so many was never sent."""
_MAX_DESCRIPTORS = 128
_MAX_RECORD = 1 << 18
"""Bytes; more than a default socket buffer can carry."""
_BATCH = 64
"""Records taken per readiness event, so that a flood does not hold the loop."""


class _Link(NamedTuple):
    path: str
    key: Key
    deleted: bool
    counts: bool


class _Chain:
    """The caller's image, then its ancestors', nearest first. Judged once: what was trusted stays trusted."""

    __slots__ = ("ancestors", "doubtful", "exe", "links", "sha256", "weight")

    def __init__(self, links: Sequence[_Link], weighs: int = 0) -> None:
        self.weight = weighs
        self.links = tuple(links)
        self.exe = links[0].path
        self.sha256 = ""
        self.ancestors: tuple[str, ...] = ()
        self.doubtful: tuple[str, ...] = ()


class _Record(NamedTuple):
    chain: int
    """Its number; NOBODY: several programs. Not the chain itself: records outnumber what may be remembered of those."""
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class CallRefused:
    """A system call that no command may make: what it is called, who made it, how often this program until now."""

    call: str
    exe: str
    pid: int
    count: int


class ConnectionIdentity:
    """Answers `Identifier` for one sandbox; lives on one event loop.

    `records` is the SEQPACKET stream of the connect watcher. None: no watcher; then owners are found by scanning
    `proc`, the sandbox's own procfs, with the help of `diag`, a NETLINK_SOCK_DIAG socket of its network namespace; more
    than one distinct owner is an error, and no ancestor counts, because nobody knows what it was before. With a watcher
    a connection it did not record is an error, never a scan: a scan sees who holds the socket *now*, which the caller
    can choose.

    `refused` hears of the system calls that the watcher refused.

    The first hash seen for a path is trusted for the life of this object; another one is an error from then on.
    """

    def __init__(
        self,
        diag: socket.socket,
        records: socket.socket | None,
        proc: int,
        refused: Callable[[CallRefused], None] = lambda _: None,
    ) -> None:
        self._diagnosis = SocketDiagnosis(diag)
        self._diag, self._socket, self._proc = diag, records, proc
        # Kept: allocating it anew costs more than the whole look-up. Of a mapping only what was ever written is memory.
        self._buffer = mmap.mmap(-1, _MAX_RECORD)
        self._records: dict[int, _Record] = {}
        self._targets: dict[int, tuple[str, int]] = {}
        self._refused = refused
        self._chains: dict[int, _Chain] = {}
        self._weight = 0
        """Of the chains, see `processes.weight`."""
        self._hashes: dict[Key, str] = {}
        self._pending: dict[Key, asyncio.Future[str]] = {}
        self._trusted: dict[str, str] = {}
        self._trusted_size = 0
        self._executor = ThreadPoolExecutor(1, "image-hash")
        self._loop: asyncio.AbstractEventLoop | None = None

    def _trust(self, path: str, digest: str) -> str:
        """What stands for `path` since it was first seen. Raises IdentityError where no more can be remembered.

        A sandbox can give one program any number of names (by renaming a directory); each costs memory here.
        """
        known = self._trusted.get(path)
        if known is None:
            self._trusted_size += len(path)
            if self._trusted_size > TRUSTED_LIMIT:
                raise IdentityError("binary_unreadable", f"too many different programs were seen to remember {path}")
            self._trusted[path] = known = digest
        return known

    def start(self) -> None:
        """Begin to take records on the running loop."""
        self._loop = asyncio.get_running_loop()
        # The thread exists from now on: later there may be none to be had, and what was told is not told again.
        self._executor.submit(int)
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
        """See `Identifier`. The usual path (a chain that was seen before) does not wait for anything."""
        if self._socket is None:
            found: tuple[_Chain | None, int] = await self._scan(accepted)
        else:
            found = self._recorded(accepted)
        chain, pid = found
        if chain is None:
            raise IdentityError("owner_ambiguous", "ambiguous shared socket ownership: several programs connected it")
        if not chain.sha256:
            await self._judge(chain)
        return Identity(pid, chain.exe, chain.ancestors, chain.sha256, chain.doubtful)

    def destination(self, accepted: socket.socket) -> tuple[str, int] | None:
        """Where a captured connection was going: (canonical address, port); None where it was going to us.

        Ask once, before `identify`.
        """
        found = original_destination(accepted)
        if found is not None or self._socket is None:
            return found
        with contextlib.suppress(OSError):
            mark = accepted.getsockopt(socket.SOL_SOCKET, SO_MARK) & 0xFFFFFFFF
            for _ in range(_QUEUED):
                if mark in self._targets or not self._take(1):
                    break
            return self._targets.pop(mark, None)
        return None

    def _recorded(self, accepted: socket.socket) -> tuple[_Chain | None, int]:
        """Chain and pid; None: several programs."""
        try:
            mark = accepted.getsockopt(socket.SOL_SOCKET, SO_MARK) & 0xFFFFFFFF
        except OSError:
            raise IdentityError("connection_gone", "the connection is already gone") from None
        record = self._records.pop(mark, None)
        for _ in range(_QUEUED):
            if record is not None or not self._take(1):
                break
            record = self._records.pop(mark, None)  # sent before connect() returned: it is here or it never was
        if record is None or (record.chain != NOBODY and record.chain not in self._chains):
            raise IdentityError("connection_unseen", "nobody was seen making this connection")
        return self._chains.get(record.chain), record.pid

    async def _judge(self, chain: _Chain) -> None:
        """Hash what is new, compare with what is trusted. Raises IdentityError."""
        counting: list[str] = []
        doubtful: list[str] = []
        digest = ""
        for index, link in enumerate(chain.links):
            if not link.counts:
                doubtful.append(link.path)
                continue
            found = self._hashes.get(link.key) or await self._hash(link.path, link.key)
            trusted = self._trusted.get(link.path) if link.deleted else self._trust(link.path, found)
            if trusted is None and index:
                doubtful.append(link.path)
                continue
            if trusted is None:
                message = f"{link.path} was deleted before it was ever seen: nobody can tell what it is"
                raise IdentityError("binary_deleted", message)
            if trusted != found:
                message = f"Binary integrity violation: {link.path} is not the file it was"
                raise IdentityError("binary_changed", message)
            digest = digest or found
            if index:
                counting.append(link.path)
        chain.ancestors, chain.doubtful, chain.sha256 = tuple(counting), tuple(doubtful), digest

    async def _hash(self, path: str, key: Key) -> str:
        pending = self._pending.get(key)
        if pending is None:
            raise IdentityError("binary_unreadable", f"the image of {path} was not handed over")
        try:
            return await asyncio.shield(pending)
        except OSError as error:
            raise IdentityError("binary_unreadable", f"cannot hash {path}: {error.strerror or error}") from error

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
            self._remember(size, fds, cut=cut)
        return taken

    def _remember(self, size: int, fds: list[int], *, cut: bool) -> None:
        if cut:
            channel.close_all(fds)
            return
        if size == TARGET.size:
            mark, raw, port, version = TARGET.unpack_from(self._buffer)
            host = socket.inet_ntop(*((socket.AF_INET6, raw) if version == 6 else (socket.AF_INET, raw[:4])))
            _bound(self._targets)
            self._targets[mark] = (host, port)
            return
        if size == RECORD.size:
            mark, number, pid = RECORD.unpack_from(self._buffer)
            if number not in self._chains and number != NOBODY:
                return  # not told: the connection stays unseen
        else:
            message = json.loads(memoryview(self._buffer)[:size].tobytes())
            if "refused" in message:
                channel.close_all(fds)
                exe = _printable(message["exe"])
                self._refused(CallRefused(message["refused"], exe, message["p"], message["count"]))
                return
            mark, number, pid = message["m"], message["c"], message["p"]
            self._chains[number] = chain = self._introduced(message, fds)
            self._weight += chain.weight
            while len(self._chains) > _CHAINS or self._weight - chain.weight > 2 * CHAIN_BYTES:
                self._weight -= self._chains.pop(next(iter(self._chains))).weight
        _bound(self._records)
        self._records[mark] = _Record(number, pid)

    def _introduced(self, message: dict[str, Any], fds: list[int]) -> _Chain:
        links = [
            _Link(_printable(path), (device, inode, size, modified, changed), deleted, counts)
            for path, device, inode, size, modified, changed, deleted, counts in message["x"]
        ]
        for index, fd in zip(message["n"], fds, strict=True):
            self._start_hash(links[index].key, fd)
        return _Chain(links, weight(path for path, *_ in message["x"]))

    def _start_hash(self, key: Key, fd: int) -> None:
        full = len(self._hashes) + len(self._pending) >= _IMAGES
        if key in self._hashes or key in self._pending or self._loop is None or full:
            os.close(fd)
            return
        future = self._loop.run_in_executor(self._executor, _sha256, fd, key)
        self._pending[key] = future
        future.add_done_callback(lambda done: self._hashed(key, done))

    def _hashed(self, key: Key, done: asyncio.Future[str]) -> None:
        if done.cancelled():
            return
        if done.exception() is None:
            self._hashes[key] = done.result()
            del self._pending[key]

    async def _scan(self, accepted: socket.socket) -> tuple[_Chain, int]:
        found = _lookup(self._diagnosis, accepted)
        if found is None:
            raise IdentityError("connection_gone", "the connection is already gone")
        inode, _, _ = found
        if not inode:
            raise IdentityError("owner_vanished", "the socket has no owner any more")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        try:
            owners, handles = await self._loop.run_in_executor(self._executor, _owners, self._proc, inode)
        except (OSError, ValueError) as error:
            raise IdentityError("owner_vanished", "the owner vanished while it was looked up") from error
        for key, fd in handles.items():
            self._start_hash(key, fd)
        if not owners:
            raise IdentityError("owner_vanished", "no process in the sandbox owns this socket")
        if len({links for _, links in owners}) > 1:
            raise IdentityError("owner_ambiguous", "ambiguous shared socket ownership")
        pid, links = owners[0]
        return _Chain(links), pid


def _bound(table: dict[int, Any]) -> None:
    if len(table) >= _RECORDS:
        for old in list(table)[: _RECORDS // 2]:
            del table[old]


def _lookup(diagnosis: SocketDiagnosis, accepted: socket.socket) -> tuple[int, int, int] | None:
    try:
        # A redirected client's own socket still has the address that it connected to.
        source, target = accepted.getpeername(), original_destination(accepted) or accepted.getsockname()
        found = diagnosis.lookup(accepted.family, source[:2], target[:2])
        # Still this connection's ports? A client that hung up frees them, and the next one may have been found.
        still = accepted.getpeername()
    except OSError:
        return None
    return found if still == source else None


def _printable(path: str) -> str:
    """Bytes that are not UTF-8 as escapes, so that the text can be logged and sent; such a path matches no policy."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _sha256(fd: int, key: Key) -> str:
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


_Owner = tuple[int, tuple[_Link, ...]]


def _owners(proc: int, inode: int) -> tuple[list[_Owner], dict[Key, int]]:
    """Every process in the sandbox's procfs that has socket:[inode] open, and a descriptor per distinct image."""
    root, wanted = f"/proc/self/fd/{proc}", f"socket:[{inode}]"
    owners: list[_Owner] = []
    handles: dict[Key, int] = {}
    for name in os.listdir(root):
        if not name.isdigit() or not _holds(f"{root}/{name}/fd", wanted):
            continue
        pid = int(name)
        image = read_image(pid, root)
        chain = ancestors(pid, read_status(pid, root).parent, 1, root)
        links = [_link(image, counts=True), *(_link(one.image, counts=False) for one in chain)]
        if image.key not in handles:
            handles[image.key] = os.open(f"{root}/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        owners.append((pid, tuple(links)))
    return owners, handles


def _link(image: Image, *, counts: bool) -> _Link:
    return _Link(_printable(image.path), image.key, image.deleted, counts)


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
