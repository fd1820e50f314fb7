"""Unpacked images of one state directory, by digest: `<state>/images/<digest>/{root/,image.json}`.

A tarball is known by the SHA-256 of its bytes, an image of a layout by its manifest's; what was unpacked once is never
changed. A directory is used where it lies. Runs in a process of its own (`prepare`), confined to what it must write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, Final

from pyopenshell.drivers.local.images import oci
from pyopenshell.drivers.local.images.archive import Tree, bad
from pyopenshell.isolation import landlock, syscalls
from pyopenshell.isolation.walls import WallError

_MEMORY: Final = 1 << 30
"""Bytes of data for the process that unpacks: a header that says it is larger is an error, not the machine's end."""
EXPORT: Final = (
    "docker save IMAGE -o image.tar (or podman save, skopeo copy docker://IMAGE oci-archive:image.tar), "
    "then --from ./image.tar"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """`root` is the image's tree. `digest` is "" for a directory that is used where it lies."""

    root: str
    digest: str
    environment: dict[str, str]

    def as_message(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def prepare(directory: str, reference: str) -> Prepared:
    """Find or unpack `reference`, an absolute path, below `directory`. Raises WallError."""
    if not reference.startswith("/"):
        text = f"{reference!r} is no path: the local driver pulls from no registry"
        raise WallError("ImageUnavailable", text, EXPORT)
    try:
        mode = os.stat(reference).st_mode
    except OSError as error:
        raise WallError("ImageUnavailable", f"{reference}: {error.strerror}", "name a directory or a file") from error
    try:
        if stat.S_ISDIR(mode):
            return _from_directory(directory, reference)
        if stat.S_ISREG(mode):
            return _from_file(directory, reference)
    except OSError as error:
        fix = "free disk space or inodes in the state directory"
        raise WallError("ImageUnavailable", f"{reference}: {error.strerror or error}", fix) from error
    raise WallError("ImageUnavailable", f"{reference} is neither a directory nor a file", EXPORT)


def find(directory: str, digest: str) -> Prepared | None:
    """An image that was unpacked before."""
    place = os.path.join(directory, digest)
    try:
        with open(os.path.join(place, "image.json"), encoding="utf-8") as file:
            with contextlib.suppress(OSError):
                os.utime(place)  # it is in use: see StateFiles.sweep
            return Prepared(os.path.join(place, "root"), digest, json.load(file)["environment"])
    except (OSError, ValueError):
        return None


def confine(directory: str) -> None:
    """This process, which reads what a stranger wrote: bounded memory, and writing below `directory` only."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    if version := landlock.abi():
        rules = landlock.Ruleset(version, alone=True)
        rules.allow("/", landlock.READ)
        rules.allow(directory, landlock.WRITE)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(rules.fd, version)
        os.close(rules.fd)


def _from_directory(directory: str, path: str) -> Prepared:
    store = oci.DirectoryStore(path)
    try:
        if oci.is_layout(store):
            return _unpack_image(directory, store)
    finally:
        store.close()
    if not any(os.path.isdir(os.path.join(path, name)) for name in ("usr", "bin")):
        raise bad(f"{path} is neither a root file system (no usr, no bin) nor an OCI layout")
    return Prepared(path, "", {})


def _from_file(directory: str, path: str) -> Prepared:
    with open(path, "rb") as file:
        if _is_zstd(file.read(4)):
            raise bad(f"{path} is compressed with zstd; use gzip, or none")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if (known := find(directory, digest)) is not None:
            return known
        with _layout(path) as store:
            if store is not None:
                return _unpack_image(directory, store)
        file.seek(0)

        def fill(tree: Tree) -> None:
            checked = oci.Checked(file, digest)  # it may have changed meanwhile
            tree.unpack(checked, layer=False)  # type: ignore[arg-type]
            checked.verify()

        return _install(directory, digest, fill, {})


def _is_zstd(magic: bytes) -> bool:
    return magic == b"\x28\xb5\x2f\xfd"


@contextlib.contextmanager
def _layout(path: str) -> Iterator[oci.ArchiveStore | None]:
    """The archive as a layout, None where it is a plain root file system."""
    try:
        with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
            first = [tar.next() for _ in range(64)]
            names = {member.name.removeprefix("./").split("/")[0] for member in first if member is not None}
            store = oci.ArchiveStore(tar) if names & {"oci-layout", "blobs", "manifest.json", "index.json"} else None
            yield store if store is not None and oci.is_layout(store) else None
    except tarfile.TarError as error:
        raise bad(f"{path} is damaged or not a tar of a kind known here (gzip, bzip2, xz): {error}") from error
    except (EOFError, MemoryError) as error:
        raise bad(f"{path} is damaged: {error or type(error).__name__}") from error


def _unpack_image(directory: str, store: oci.Store) -> Prepared:
    image = oci.find(store)
    if (known := find(directory, image.digest)) is not None:
        return known

    def fill(tree: Tree) -> None:
        for name, digest in image.layers:
            with store.open(name) as source:
                checked = oci.Checked(source, digest)
                tree.unpack(checked, layer=True)  # type: ignore[arg-type]
                checked.verify()

    return _install(directory, image.digest, fill, image.environment)


def _install(directory: str, digest: str, fill: Callable[[Tree], None], environment: dict[str, str]) -> Prepared:
    """Nobody ever sees half an image: it gets its name when it is whole."""
    draft, final = os.path.join(directory, f".new-{secrets.token_hex(8)}"), os.path.join(directory, digest)
    root = os.path.join(draft, "root")
    os.makedirs(root, mode=0o755)
    try:
        tree = Tree(root)
        try:
            fill(tree)
        finally:
            tree.close()
        if not any(os.path.isdir(os.path.join(root, name)) for name in ("usr", "bin")):
            raise bad("it holds no root file system (no usr, no bin)")
        with open(os.path.join(draft, "image.json"), "w", encoding="utf-8") as file:
            json.dump({"environment": environment}, file)
        with contextlib.suppress(OSError):  # somebody else was first
            os.rename(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Prepared(os.path.join(final, "root"), digest, environment)
