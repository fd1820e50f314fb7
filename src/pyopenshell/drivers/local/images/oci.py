"""The layers of one image in an OCI layout (a directory or an archive of one) or in what `docker save` writes.

Every blob is read through its digest. Decides which manifest is for this machine; unpacks nothing itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import platform
import re
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final, Protocol

from pyopenshell.drivers.local.images.archive import bad
from pyopenshell.isolation import syscalls

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_JSON: Final = 8 << 20
_MAX_LAYERS: Final = 512
_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Store(Protocol):
    """Named files of a layout."""

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Raises WallError where there is none."""

    def has(self, name: str) -> bool: ...


class DirectoryStore:
    """A layout as a directory of the host."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._root)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            # Not to be held up by a FIFO in its place, nor led out by a link.
            fd = syscalls.open_in_root(self._root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise bad(f"{name}: {error.strerror}") from error
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise bad(f"{name} is no file")
            yield file

    def has(self, name: str) -> bool:
        try:
            os.close(syscalls.open_in_root(self._root, name, os.O_PATH | os.O_CLOEXEC))
        except OSError:
            return False
        return True


class ArchiveStore:
    """A layout inside a tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar if member.isreg() or member.issym()}

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        member = self._members.get(name)
        if member is not None and member.issym():  # old `docker save` links equal layers
            target = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
            member = self._members.get(target)
        source = self._tar.extractfile(member) if member is not None and member.isreg() else None
        if source is None:
            raise bad(f"{name} is missing in the archive")
        with source:
            yield source

    def has(self, name: str) -> bool:
        return name in self._members


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """`digest` names the content: 64 hex digits. `layers` are names in the store, bottom first, with their digests."""

    digest: str
    layers: tuple[tuple[str, str], ...]
    environment: dict[str, str]


def is_layout(store: Store) -> bool:
    return (store.has("oci-layout") and store.has("index.json")) or store.has("manifest.json")


def find(store: Store) -> Image:
    """The one image for this machine. Raises WallError."""
    if store.has("index.json"):
        return _from_manifest(store, _manifest(store, _json(store, "index.json"), 0))
    return _from_docker(store)


def _json(store: Store, name: str, digest: str = "") -> Any:
    with store.open(name) as file:
        data = file.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON or (digest and hashlib.sha256(data).hexdigest() != digest):
        raise bad(f"{name} is too large, or not what its digest says")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad(f"{name} is not JSON") from error
    return found


def _blob(descriptor: Any) -> tuple[str, str]:
    """(name in the store, hex digest)."""
    match = _DIGEST.fullmatch(str(descriptor.get("digest"))) if isinstance(descriptor, dict) else None
    if match is None:
        raise bad("a part of the image has no SHA-256 digest")
    return f"blobs/sha256/{match[1]}", match[1]


def _entries(document: Any, key: str) -> list[Any]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise bad(f"the image has no {key}")
    return found


def _manifest(store: Store, index: Any, depth: int) -> Any:
    """Follow indexes down to this machine's manifest, a descriptor."""
    found = [one for one in _entries(index, "manifests") if isinstance(one, dict)]
    fitting = [one for one in found if _fits(one.get("platform"))] or [one for one in found if not one.get("platform")]
    if len(fitting) != 1 or depth > 4:
        there = ", ".join(sorted({_platform(one.get("platform")) for one in found})) or "none"
        raise bad(f"it holds {len(fitting)} images for linux/{_ARCHITECTURE} (there: {there}); exactly one is needed")
    if fitting[0].get("mediaType") in _INDEXES:
        return _manifest(store, _json(store, *_blob(fitting[0])), depth + 1)
    return fitting[0]


def _fits(where: Any) -> bool:
    return isinstance(where, dict) and (where.get("os"), where.get("architecture")) == ("linux", _ARCHITECTURE)


def _platform(where: Any) -> str:
    return f"{where.get('os')}/{where.get('architecture')}"[:60] if isinstance(where, dict) else "any"


def _from_manifest(store: Store, descriptor: Any) -> Image:
    name, digest = _blob(descriptor)
    manifest = _json(store, name, digest)
    layers = _entries(manifest, "layers")
    if len(layers) > _MAX_LAYERS:
        raise bad(f"it has more than {_MAX_LAYERS} layers")
    for layer in layers:
        kind = str(layer.get("mediaType")) if isinstance(layer, dict) else ""
        if kind.endswith("zstd"):
            raise bad("a layer is compressed with zstd; export it with gzip or uncompressed")
        if "encrypted" in kind or "nondistributable" in kind or "foreign" in kind:
            raise bad(f"a layer is {kind[:100]}, which is not in the image itself")
    config = _json(store, *_blob(manifest.get("config")))
    return Image(digest, tuple(_blob(layer) for layer in layers), _environment(config))


def _from_docker(store: Store) -> Image:
    """`docker save` before it wrote layouts: manifest.json names a configuration and layers by file."""
    manifest = _json(store, "manifest.json")
    if not isinstance(manifest, list) or len(manifest) != 1 or not isinstance(manifest[0], dict):
        raise bad("it holds several images; save exactly one")
    layers = [str(name) for name in _entries(manifest[0], "Layers")]
    config = _json(store, str(manifest[0].get("Config")))
    wanted = _entries(config.get("rootfs") if isinstance(config, dict) else None, "diff_ids")
    digests = [_blob({"digest": one})[1] for one in wanted]
    if len(layers) != len(digests) or len(layers) > _MAX_LAYERS:
        raise bad("its configuration speaks of other layers")
    name = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    return Image(name, tuple(zip(layers, digests, strict=True)), _environment(config))


def _environment(config: Any) -> dict[str, str]:
    inner = config.get("config") if isinstance(config, dict) else None
    entries = inner.get("Env") if isinstance(inner, dict) else None
    pairs = [str(entry).partition("=") for entry in entries] if isinstance(entries, list) else []
    return {key: value for key, equals, value in pairs if equals and key and "\0" not in key + value}


class Checked(io.RawIOBase):
    """A stream that is hashed as it is read; `verify` at its end. Raises WallError."""

    def __init__(self, source: IO[bytes], digest: str) -> None:
        super().__init__()
        self._source, self._digest, self._hash = source, digest, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        self._hash.update(data)
        buffer[: len(data)] = data
        return len(data)

    def verify(self) -> None:
        while self.read(1 << 20):
            pass
        if self._hash.hexdigest() != self._digest:
            raise bad(f"layer sha256:{self._digest[:12]}… is not what its digest says")
