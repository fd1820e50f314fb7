"""One tar stream into one directory, by an author who may want out of it.

Nothing outside of the directory is ever read, written or linked: parents are opened with the directory as their root
(RESOLVE_IN_ROOT), names have no `..`, links are made but never followed. Owners, xattrs, set-id bits and devices are
left out; what it may take is bounded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from typing import IO, Final

from pyopenshell.isolation import syscalls
from pyopenshell.isolation.walls import WallError

MAX_BYTES: Final = 32 << 30
MAX_ENTRIES: Final = 1_000_000
"""Of one image, all layers together."""
_MAX_NAME: Final = 4096
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_CHUNK = 1 << 20
_HOST_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOMEM)
_PARENTS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def bad(message: str) -> WallError:
    return WallError("ImageInvalid", message, "export the image again: docker save IMAGE -o image.tar")


class Tree:
    """A directory that layers are unpacked into, bottom first."""

    def __init__(self, path: str, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        """`path` is empty and nobody else writes in it."""
        self._root = os.open(path, _PARENTS)
        self._bytes, self._entries = max_bytes, max_entries

    def close(self) -> None:
        os.close(self._root)

    def unpack(self, stream: IO[bytes], *, layer: bool) -> None:
        """One tar, compressed or not. `layer`: with whiteouts. Raises WallError, OSError (ENOSPC and the like)."""
        try:
            # Not r|*: that would hold the whole of a sparse or damaged stream's tail against us only at its end.
            with tarfile.open(
                fileobj=stream, mode="r|*", errorlevel=2, encoding="utf-8", errors="surrogateescape"
            ) as tar:
                made: set[tuple[str, ...]] = set()
                for member in tar:
                    self._count(member)
                    self._place(tar, member, made, layer=layer)
        except tarfile.TarError as error:
            raise bad(f"the archive is damaged or not a tar of a kind known here (gzip, bzip2, xz): {error}") from error
        except (EOFError, ValueError, MemoryError) as error:
            raise bad(f"the archive is damaged: {error or type(error).__name__}") from error

    def _count(self, member: tarfile.TarInfo) -> None:
        self._entries -= 1
        self._bytes -= max(member.size, 0)
        if self._entries < 0 or self._bytes < 0:
            what = f"{MAX_ENTRIES} files" if self._entries < 0 else f"{MAX_BYTES >> 30} GiB"
            raise WallError("ImageTooLarge", f"the image has more than {what}", "use a smaller image")

    def _place(self, tar: tarfile.TarFile, member: tarfile.TarInfo, made: set[tuple[str, ...]], *, layer: bool) -> None:
        parts = _parts(member.name)
        if not parts:
            return  # the root itself
        name = parts[-1]
        try:
            parent = self._parent(parts[:-1])
        except OSError as error:
            if error.errno in _HOST_IS_FULL:
                raise
            raise bad(f"{member.name!r} lies in no directory of the image") from error
        try:
            if layer and name.startswith(_WHITEOUT):
                self._white_out(parent, name, parts[:-1], made)
            else:
                made.update(parts[:length] for length in range(1, len(parts) + 1))
                self._make(tar, member, parent, name)
        except OSError as error:
            if error.errno in _HOST_IS_FULL:
                raise
            raise bad(f"{member.name!r}: {error.strerror or error}") from error
        finally:
            os.close(parent)

    def _parent(self, parts: tuple[str, ...]) -> int:
        """The directory, made where it is missing; links on the way lead nowhere but inside."""
        try:
            return syscalls.open_in_root(self._root, "/".join(parts) or ".", _PARENTS)
        except OSError as error:
            if error.errno != errno.ENOENT or not parts:
                raise
        above = self._parent(parts[:-1])
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=above)
        finally:
            os.close(above)
        return syscalls.open_in_root(self._root, "/".join(parts), _PARENTS)

    def _white_out(self, parent: int, name: str, above: tuple[str, ...], made: set[tuple[str, ...]]) -> None:
        """Takes away what lower layers put there; what this layer itself brought stays."""
        if name == _OPAQUE:
            for one in os.listdir(parent):
                if (*above, one) not in made:
                    _remove(parent, one)
        elif (target := name.removeprefix(_WHITEOUT)) not in ("", ".", ".."):
            _remove(parent, target)

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        mode = member.mode & 0o777
        if member.isdir():
            if not _is_directory(parent, name):
                _remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
            _chmod(parent, name, mode | 0o700, os.O_DIRECTORY)
        elif member.isreg():
            _remove(parent, name)
            source = tar.extractfile(member)
            fd = os.open(
                name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            with os.fdopen(fd, "wb", buffering=0) as file:
                while source is not None and (data := source.read(_CHUNK)):
                    file.write(data)
                os.fchmod(fd, mode | 0o400)
        elif member.issym():
            _remove(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(member, parent, name)
        # Devices are the sandbox's own, and a FIFO or socket in an image means nothing.

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        parts = _parts(member.linkname)
        above = self._parent(parts[:-1]) if parts else -1
        if above < 0:
            raise bad(f"{member.name!r} is a link to the root")
        try:
            if not stat.S_ISREG(os.lstat(parts[-1], dir_fd=above).st_mode):
                raise bad(f"{member.name!r} is a hard link to {member.linkname!r}, which is no file")
            _remove_unless_same(above, parts[-1], parent, name)
            with contextlib.suppress(FileExistsError):
                os.link(parts[-1], name, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(above)


def _parts(name: str) -> tuple[str, ...]:
    if len(name) > _MAX_NAME or "\0" in name:
        raise bad(f"{name[:100]!r} is no file name")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise bad(f"{name[:200]!r} leads out of the image")
    return parts


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def _chmod(parent: int, name: str, mode: int, flags: int) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _remove_unless_same(above: int, target: str, parent: int, name: str) -> None:
    try:
        if os.path.samestat(os.lstat(target, dir_fd=above), os.lstat(name, dir_fd=parent)):
            return
    except FileNotFoundError:
        return
    _remove(parent, name)


def _remove(parent: int, name: str) -> None:
    """Whatever is there, without following it. A deep tree costs descriptors, not recursion: see `remove_tree`."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
    except FileNotFoundError:
        return
    from pyopenshell.drivers.local.files import remove_tree

    remove_tree(f"/proc/self/fd/{parent}/{name}")
