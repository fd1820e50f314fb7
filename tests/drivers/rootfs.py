"""Small root images for tests, made of busybox: tarballs, OCI layouts, and what `docker save` wrote."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
Member = tuple[tarfile.TarInfo, bytes]


def busybox() -> Path:
    found = shutil.which("busybox")
    assert found, "needs busybox (Debian: apt-get install busybox)"
    return Path(found)


def entry(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    return info, data


def directory(name: str) -> Member:
    return entry(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str) -> Member:
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def libraries(program: Path) -> Iterable[Member]:
    """What a dynamic program needs, where it looks for it."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    for word in said.split():
        if word.startswith("/") and Path(word).exists():
            yield entry(word.lstrip("/"), Path(word).resolve().read_bytes(), mode=0o755)


def system() -> list[Member]:
    """A root file system with a shell and a few tools."""
    names = ("sh", "ls", "cat", "echo", "id", "touch", "env", "ln", "mkdir", "wget", "grep", "readlink", "stat")
    members = [directory(name) for name in ("bin", "etc", "usr", "usr/share", "var", "var/lib", "tmp", "srv")]
    members += [entry("bin/busybox", busybox().read_bytes(), mode=0o4755), *libraries(busybox())]
    members += [link(f"bin/{name}", "busybox") for name in names]
    members += [
        entry("etc/image-release", b"a small one\n"),
        entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        entry("etc/shadow", b"secret of the image\n", mode=0o600),
        entry("var/lib/kept", b"kept\n"),
        entry("usr/share/who", b"lower\n"),
        link("etc/ssl", "/usr/share/ssl"),
        entry("start.sh", b"#!/bin/sh\necho started\n", mode=0o755),
    ]
    return members


def program(path: str) -> list[Member]:
    """A program of the host with its libraries."""
    return [entry(path.lstrip("/"), Path(path).resolve().read_bytes(), mode=0o755), *libraries(Path(path))]


def tar(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layout(path: Path, *layers: bytes, environment: Iterable[str] = (), **platforms: Any) -> Path:
    """An OCI layout; `layers` are tars, which become tar+gzip."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        (blobs / digest(data).removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    config = json.dumps({"config": {"Env": list(environment)}}).encode()
    manifest = {
        "schemaVersion": 2,
        "config": blob(config, "config.v1+json"),
        "layers": [blob(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip") for layer in layers],
    }
    here = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    foreign = here | {"platform": {"os": "linux", "architecture": "other"}}
    here |= {"platform": {"os": "linux", "architecture": ARCHITECTURE}}
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": platforms.get("manifests", [foreign, here])}
    (path / "index.json").write_text(json.dumps(index))
    return path


def saved(path: Path, *layers: bytes) -> Path:
    """What `docker save` wrote before it wrote layouts."""
    config = json.dumps(
        {"config": {"Env": ["FROM_IMAGE=yes"]}, "rootfs": {"diff_ids": [digest(one) for one in layers]}}
    )
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "Layers": names, "RepoTags": None}])
    files = {
        "manifest.json": manifest.encode(),
        "config.json": config.encode(),
        **dict(zip(names, layers, strict=True)),
    }
    path.write_bytes(tar(entry(name, data) for name, data in files.items()))
    return path
