"""Files into and out of a sandbox, over `exec`: what runs inside is `cat` and `tar`, behind the sandbox's own walls.

Nothing that comes out is trusted: an archive is read member by member into a fresh directory, where nothing it says can
name a place outside; links are made last, and only those that stay inside. All of it appears at once, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import shutil
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Self

from pyopenshell.client import autorun
from pyopenshell.client.values import Exit, Output
from pyopenshell.client.visible import visible

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

HOME = "/sandbox"
PIECE = 256 * 1024
DOWNLOAD_LIMIT = 16 * 1024**3
"""Bytes that one download may write, unless told otherwise: the sandbox decides how much it sends."""
_STDERR_KEPT = 4096
_ENTRY = 4096
"""Bytes that an entry counts at least against a download's limit: what it takes on a disk, whatever it holds."""
_HEADER = 64 * 1024
"""Bytes of one extended header (long names, attributes); tarfile keeps it in memory whole."""
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_PUT_FILE = """
if [ -d "$1" ]; then t=${1%/}/$2; else case $1 in */) mkdir -p -- "$1" || exit; t=$1$2;; *)
  case $1 in */*) mkdir -p -- "${1%/*}/" || exit;; esac; t=$1;; esac; fi
p=$t.part-$4
trap 'rm -f -- "$p"' EXIT
cat > "$p" && chmod -- "$3" "$p" && mv -f -- "$p" "$t"
"""
_PUT_TREE = 'mkdir -p -- "$1" && exec tar -x -f - --no-same-owner -C "$1"'
_GET = """
p=${1%/}; [ -n "$p" ] || p=/
[ -e "$p" ] || [ -L "$p" ] || { echo "no such file or directory: $1" >&2; exit 66; }
r=$(realpath -e -- "$p") || exit 66
case $r in "$2"|"${2%/}"/*) ;; *) echo "$1 leads out of $2 (to $r)" >&2; exit 67;; esac
d=$(dirname -- "$r"); b=$(basename -- "$r")
exec tar -c -f - --format=posix --hard-dereference --one-file-system -C "$d" -- "./$b"
"""


class TransferError(Exception):
    """Files could not be moved. The text says which and why; nothing half done is left where it was to go."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What was moved. `unfiltered` is set when a .gitignore would have left nothing and was not used."""

    files: int
    size: int
    unfiltered: bool = False
    traps: tuple[autorun.Trap, ...] = ()
    """Of a download: files that programs here run by themselves."""


# ---- into the sandbox ------------------------------------------------------------------------------------------------


async def upload(gateway: Gateway, sandbox: str, local: Path, remote: str = "", *, git_ignore: bool = True) -> Report:
    """Copy a file, or a directory under its own name, to `remote`, relative to the working directory.

    With `git_ignore` what git ignores stays behind, and so does `.git`. Raises TransferError, GatewayError.
    """
    destination = str(PurePosixPath(HOME) / remote) + ("/" if remote.endswith("/") else "")
    if not await asyncio.to_thread(_is_tree, local):
        return await _upload_file(gateway, sandbox, local, destination)
    names = await asyncio.to_thread(_unignored, local) if git_ignore else None
    unfiltered = names is not None and not names
    chosen = None if unfiltered else names
    count = _Count()

    def write(pipe: IO[bytes]) -> None:
        with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _pack(archive, local, chosen, count)

    await _send(gateway, sandbox, ["/bin/sh", "-c", _PUT_TREE, "upload", destination], write)
    return Report(count.files, count.size, unfiltered)


def _is_tree(local: Path) -> bool:
    if not os.path.lexists(local):
        raise TransferError(f"local path does not exist: {local}")
    return local.is_dir()


async def _upload_file(gateway: Gateway, sandbox: str, local: Path, destination: str) -> Report:
    try:
        source = await asyncio.to_thread(open, local, "rb")
    except OSError as error:
        raise TransferError(f"{local}: {error.strerror}") from None
    with source:
        status = os.fstat(source.fileno())
        mode = f"{status.st_mode & 0o777:o}"
        arguments = [destination, local.name, mode, secrets.token_hex(6)]
        sent = 0

        def write(pipe: IO[bytes]) -> None:
            nonlocal sent
            while piece := source.read(PIECE):
                pipe.write(piece)
                sent += len(piece)

        await _send(gateway, sandbox, ["/bin/sh", "-c", _PUT_FILE, "upload", *arguments], write)
    return Report(1, sent)


@dataclasses.dataclass(slots=True)
class _Count:
    files: int = 0
    size: int = 0
    entries: int = 0


def _unignored(directory: Path) -> list[str] | None:
    """Paths below `directory` that git does not ignore; None where git has nothing to say."""
    command = ["git", "-C", str(directory), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    if done.returncode:
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _pack(archive: tarfile.TarFile, directory: Path, names: Iterable[str] | None, count: _Count) -> None:
    """Everything below `directory` (or just `names`) under the directory's own name; no owners, no special files."""
    top = directory.resolve().name or "root"
    found = names if names is not None else _walk(directory)
    archive.addfile(_entry(archive, directory, top))
    made: set[str] = set()
    for name in found:
        path = directory / name
        if not os.path.lexists(path):
            continue  # in git's index, but deleted
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                archive.addfile(_entry(archive, directory / parent, f"{top}/{parent}"))
        if path.is_dir() and not path.is_symlink():
            if name not in made:
                made.add(name)
                archive.addfile(_entry(archive, path, f"{top}/{name}"))
            continue
        entry = _entry(archive, path, f"{top}/{name}")
        if entry.issym():
            archive.addfile(entry)
        elif entry.isreg():
            with path.open("rb") as file:
                archive.addfile(entry, file)
            count.files += 1
            count.size += entry.size


def _walk(directory: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders.sort()
        here = os.path.relpath(folder, directory)
        for name in sorted([*files, *folders]):
            yield name if here == "." else f"{here}/{name}"


def _entry(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
    entry = archive.gettarinfo(str(path), arcname=name)
    if entry.islnk():
        # Twice the same file: send it twice; what it is a link to may not be part of this.
        entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


async def _send(gateway: Gateway, sandbox: str, command: list[str], write: Callable[[IO[bytes]], None]) -> None:
    """Run `command` with what `write` writes as its input. Raises TransferError when it fails."""
    async with _Pipe(write) as pipe:
        errors, code = bytearray(), 1
        async for event in gateway.exec(sandbox, command, stdin=pipe.pieces()):
            if isinstance(event, Exit):
                code = event.code
            elif len(errors) < _STDERR_KEPT:
                errors += event.data
        if pipe.failure is not None:
            raise TransferError(f"reading failed: {pipe.failure}")
    if code:
        raise TransferError(_said(errors, code))


class _Pipe:
    """A thread that writes (tar wants a file) and a loop that reads: bounded by the pipe, nothing is collected."""

    def __init__(self, write: Callable[[IO[bytes]], None]) -> None:
        self._write = write
        self.failure: Exception | None = None

    async def __aenter__(self) -> _Pipe:
        self._reading, writing = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(writing,), name="upload", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._reading)  # a writer that is still at it gets EPIPE
        await asyncio.to_thread(self._thread.join)

    def _run(self, writing: int) -> None:
        try:
            with os.fdopen(writing, "wb") as file:
                self._write(file)
        except BrokenPipeError:
            pass  # the other side ended, and says why
        except (OSError, tarfile.TarError) as error:
            self.failure = error

    async def pieces(self) -> AsyncIterator[bytes | tuple[int, int]]:
        while piece := await asyncio.to_thread(os.read, self._reading, PIECE):
            yield piece


# ---- out of the sandbox ----------------------------------------------------------------------------------------------


async def download(
    gateway: Gateway, sandbox: str, remote: str, local: Path, *, within: str = HOME, limit: int = DOWNLOAD_LIMIT
) -> Report:
    """Copy a file or directory of the sandbox to `local`: into it where it is a directory, else as it.

    `remote` is relative to the working directory and must not lead out of `within`. Raises TransferError, GatewayError.
    """
    source = str(PurePosixPath(HOME) / remote)
    target = await asyncio.to_thread(_place, source, local)
    fresh = target.parent / f".openshell-{secrets.token_hex(6)}"
    try:
        fresh.mkdir(mode=0o700)
    except OSError as error:
        raise TransferError(f"{target.parent}: {error.strerror}") from None
    try:
        report = await _receive(gateway, sandbox, ["/bin/sh", "-c", _GET, "download", source, within], fresh, limit)
        (only,) = fresh.iterdir()
        only.rename(target)
        return dataclasses.replace(report, traps=tuple(await asyncio.to_thread(autorun.find, target)))
    finally:
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)


def _place(source: str, local: Path) -> Path:
    """Where it is to go. Raises TransferError when something is there: nothing on the host is ever overwritten."""
    name = PurePosixPath(os.path.normpath(source)).name or "root"
    target = local / name if local.is_dir() else local
    if os.path.lexists(target):
        raise TransferError(f"{target} exists already; nothing was downloaded")
    if not target.parent.is_dir():
        raise TransferError(f"no such directory: {target.parent}")
    return target


async def _receive(gateway: Gateway, sandbox: str, command: list[str], into: Path, limit: int) -> Report:
    reading, writing = os.pipe()
    unpacking = asyncio.ensure_future(asyncio.to_thread(_unpack_from, reading, into, limit))
    errors, code = bytearray(), 1
    try:
        async with contextlib.aclosing(gateway.exec(sandbox, command)) as events:
            async for event in events:
                match event:
                    case Exit():
                        code = event.code
                    case Output(stream="stdout"):
                        await asyncio.to_thread(_write_all, writing, event.data)
                    case Output() if len(errors) < _STDERR_KEPT:
                        errors += event.data
    except BrokenPipeError:
        pass  # unpacking gave up, and says why
    finally:
        os.close(writing)
        outcome = await asyncio.gather(unpacking, return_exceptions=True)
    if isinstance(outcome[0], TransferError):
        # What the other side said about its own failure explains a broken archive better.
        raise TransferError(_said(errors, code)) if code and errors else outcome[0]
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    if code:
        raise TransferError(_said(errors, code))
    return outcome[0]


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _unpack_from(reading: int, into: Path, limit: int) -> Report:
    with os.fdopen(reading, "rb") as file:
        report = unpack(file, into, limit=limit)
        while file.read(PIECE):
            pass  # padding
        return report


class _Member(tarfile.TarInfo):
    """One that cannot make tarfile collect what a sandbox sends without end."""

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        """tarfile's own entry point for subclasses, in every release; distributions' patches go around `frombuf`."""
        if self.type in _HEADERS and self.size > _HEADER:
            raise TransferError(f"the archive has a header of more than {_HEADER} bytes; nothing was downloaded")
        member: Self = super()._proc_member(archive)  # type: ignore[misc]
        return member


def unpack(file: IO[bytes], into: Path, *, limit: int) -> Report:
    """Unpack a tar stream of one tree from somebody hostile into a fresh, empty directory. Raises TransferError."""
    count, links = _Count(), dict[Path, str]()
    try:
        with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as archive:
            top = ""
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every one
                count.entries += 1
                _bounded(count, limit)
                parts = _parts(member.name)
                top = top or parts[0]
                if parts[0] != top:
                    raise TransferError(f"the archive has a second tree: {visible(member.name)}")
                _unpack_one(archive, member, into.joinpath(*parts), count, links, limit)
    except (tarfile.TarError, ValueError, OverflowError, EOFError, UnicodeError) as error:
        raise TransferError(f"what came is not a sound archive: {visible(str(error))}") from None
    except OSError as error:
        raise TransferError(f"{error.filename or into}: {error.strerror or error}") from None
    if not count.files and not links and not any(into.iterdir()):
        raise TransferError("nothing came")
    for path, destination in links.items():
        # Last, so that nothing was ever written through one of them.
        path.symlink_to(destination)
    return Report(count.files, count.size)


def _unpack_one(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: Path,
    count: _Count,
    links: dict[Path, str],
    limit: int,
) -> None:
    if path in links or (not member.isdir() and os.path.lexists(path)):
        raise TransferError(f"the archive names {visible(member.name)} twice")
    if member.isdir():
        path.mkdir(mode=0o700 | member.mode & 0o755, exist_ok=True)
    elif member.issym():
        if not stays_inside(member.name, member.linkname):
            where = f"{visible(member.name)} -> {visible(member.linkname)}"
            raise TransferError(f"a link leads out of what is downloaded: {where}; nothing was downloaded")
        links[path] = member.linkname
    elif member.isreg() and not member.issparse():
        source = archive.extractfile(member)
        assert source is not None  # regular files have one
        with path.open("xb") as file:
            while piece := source.read(PIECE):
                count.size += len(piece)
                _bounded(count, limit)
                file.write(piece)
            os.fchmod(file.fileno(), 0o600 | member.mode & 0o755)
        count.files += 1
    else:
        raise TransferError(f"neither file, directory nor link: {visible(member.name)}; nothing was downloaded")


def _bounded(count: _Count, limit: int) -> None:
    if count.size > limit or count.entries * _ENTRY > limit:
        raise TransferError(f"more than {limit} bytes came; nothing was downloaded")


def _parts(name: str) -> tuple[str, ...]:
    """The components of a member's name below the tree. Raises TransferError for one that goes elsewhere."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise TransferError(f"a name leads out of what is downloaded: {visible(name)}; nothing was downloaded")
    return parts


def stays_inside(name: str, target: str) -> bool:
    """Whether a link `name` (below the top of the tree) can only lead to something below that top.

    `..` only at the beginning, where the link's own directories, which are real ones, decide what it means: after a
    name, which may be a link itself, it could mean anything.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    depth = len(_parts(name)) - 2
    steps = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    return up <= depth and ".." not in steps[up:]


def _said(errors: bytearray, code: int) -> str:
    text = errors.decode("utf-8", "replace").strip()
    return visible(text.removeprefix("download: ").removeprefix("upload: ")) if text else f"exit code {code} inside"
