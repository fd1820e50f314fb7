"""Images for tests, made of this machine's own Debian packages: no registry is asked for anything."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGES = (
    *("bash", "coreutils", "curl", "dash", "findutils", "grep", "gzip", "mawk", "perl-base", "procps", "sed", "tar"),
    *("util-linux", "netcat-openbsd", "python3-minimal", "ca-certificates"),
)
ENVIRONMENT = {"APP": "image", "HTTP_PROXY": "http://image.test", "LD_PRELOAD": "/usr/lib/preloaded.so"}
"""Of both images: what is fine, what would lead past the proxy, what would put the image's code into our init."""
_PYTHON = re.compile(r"(lib)?python3\.\d+(-minimal|-stdlib)?")
_LEFT_OUT = re.compile(r"/usr/share/(doc|man|locale|info|lintian|bash-completion|zsh)|/__pycache__/|^/etc/|/systemd/")
_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/ssl/certs/ca-certificates.crt": "of the image\n",
}


class NoDebian(Exception):  # noqa: N818 - says why a test is skipped
    """Nothing to make an image of here."""


def debian(target: Path, *, extra: Iterable[str] = ()) -> None:
    """A tar archive of a root file system with curl, Python, Perl and the usual tools. Raises NoDebian."""
    if shutil.which("dpkg-query") is None:
        raise NoDebian("no Debian: nothing to make an image of")
    listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\n"], capture_output=True, text=True, check=True)
    python = sorted({name for name in listed.stdout.split() if _PYTHON.fullmatch(name)})
    files: set[str] = set()
    for package in (*PACKAGES, *python, *extra):
        there = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True, check=False)
        files |= {line for line in there.stdout.splitlines() if line.startswith("/") and not _LEFT_OUT.search(line)}
    with tarfile.open(target, "w") as archive:
        _skeleton(archive)
        added = set(archive.getnames())
        made = len(added)
        for path in sorted(files | {"/usr/bin/awk", "/usr/bin/which"}):
            _add(archive, path, added)
        assert len(added) > made
        for path in sorted(added):
            for library in _libraries("/" + path):
                _add(archive, library, added)


def bare(target: Path) -> None:
    """An image without Python, without a shell but busybox, with next to nothing in /etc."""
    with tarfile.open(target, "w") as archive:
        added: set[str] = set()
        for path in ("/usr/bin/busybox", *_libraries("/usr/bin/busybox")):
            _add(archive, path, added)
        for name in ("sh", "cat", "id", "ls", "wget", "sleep"):
            _link(archive, f"bin/{name}", "/usr/bin/busybox")
        _link(archive, "lib64", "usr/lib64")
        _link(archive, "lib", "usr/lib")
        _hostile(archive)


def _hostile(archive: tarfile.TarFile) -> None:
    """What the dynamic loader would load into every program: harmless, but it would be seen."""
    libz = next(path for path in _libraries("/usr/bin/curl") if "/libz.so" in path)
    _file(archive, "usr/lib/preloaded.so", Path(libz).read_bytes(), 0o755)
    _file(archive, "etc/ld.so.preload", b"/usr/lib/preloaded.so\n")


def _skeleton(archive: tarfile.TarFile) -> None:
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        if os.path.islink(f"/{name}"):
            _link(archive, name, os.readlink(f"/{name}"))
    for name in ("tmp", "root", "var/log", "etc", "app"):
        _directory(archive, name, 0o700 if name == "root" else 0o755)
    _hostile(archive)
    for name, text in _ETC.items():
        _file(archive, name, text.encode())
    _file(archive, "app/readme", b"of the image\n")
    _file(archive, "etc/shadow", b"root:*:1::::::\n", 0o600)


def _add(archive: tarfile.TarFile, path: str, added: set[str]) -> None:
    """A file under the name of its real directory, and what a link leads to."""
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    name = real.lstrip("/")
    if name in added or not os.path.lexists(real) or (os.path.isdir(real) and not os.path.islink(real)):
        return
    added.add(name)
    if os.path.islink(real):
        _link(archive, name, os.readlink(real))
        _add(archive, os.path.join(os.path.dirname(real), os.readlink(real)), added)
        return
    info = archive.gettarinfo(real, name)
    info.type, info.uid, info.gid, info.uname, info.gname = tarfile.REGTYPE, 0, 0, "", ""
    info.size = os.stat(real).st_size
    with open(real, "rb") as file:
        archive.addfile(info, file)


def _libraries(path: str) -> Iterator[str]:
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        return
    with open(real, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return
    said = subprocess.run(["ldd", real], capture_output=True, text=True, check=False).stdout
    yield from re.findall(r"(/\S+) \(0x", said)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


def _directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    directory = tarfile.TarInfo(name)
    directory.type, directory.mode = tarfile.DIRTYPE, mode
    archive.addfile(directory)


def _file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    file = tarfile.TarInfo(name)
    file.size, file.mode = len(content), mode
    archive.addfile(file, io.BytesIO(content))
