"""Directories of the local driver on the host: layout, ownership, sweeping. Decides where things lie; runs nothing.

<state>/host.sock, host.lock, start.lock, host.log
<state>/etc-<digest>/           injected /etc layer, the same for every sandbox, never changed once there
<state>/images/<digest>/        unpacked root images, see `images.cache`
<state>/sandboxes/<id>/         openshell/ tls/ log/ workspace/, image.json: the image it was made from
<state>/sandboxes/.new-<id>     marks a sandbox whose first creation did not finish
<state>/trash/                  on its way out
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from typing import Final

from pyopenshell.isolation import cgroups
from pyopenshell.isolation.environment import CA_BUNDLE, CA_KEYSTORE, PYTHON_PARTS
from pyopenshell.isolation.walls import UID, WORKDIR, Bind, WallError

_IMAGE_SECONDS: Final = 30 * 86400
"""How long an image is kept that no sandbox needs."""
_SANDBOX_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_IDS: Final = (0x70000000, 0x0FFF0000)
"""First and count of the host ids given to sandboxes as root: above systemd's container range, below 2**31."""
_SWEEP_ATTEMPTS: Final = 50
_SWEEP_PAUSE: Final = 0.02
_SYSTEM_ROOTS: Final = (
    "ssl/certs/ca-certificates.crt",
    "pki/tls/certs/ca-bundle.crt",
    "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
)
_JAVA_ROOTS: Final = ("ssl/certs/java/cacerts", "pki/ca-trust/extracted/java/cacerts", "pki/java/cacerts")
"""Where distributions' Java packages keep the roots, which their JAVA_HOME/lib/security/cacerts links to."""
_ETC: Final = {
    "resolv.conf": "nameserver 10.200.0.1\noptions timeout:2 attempts:1\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "".join(f"{name}: files\n" for name in ("passwd", "group", "shadow", "services", "protocols"))
    + "hosts: files dns\n",
    "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\nsandbox:x:{UID}:{UID}:sandbox:{WORKDIR}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nsandbox:x:{UID}:\nnogroup:x:65534:\n",
}
_PYTHON: Final = f"""\
#!/bin/sh
# `python` of the SDK's exec_python: the sandbox's own interpreter, which can import cloudpickle.
PATH="${{PATH#{PYTHON_PARTS}/bin:}}"
PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{PYTHON_PARTS}/lib"
export PATH PYTHONPATH
for name in python python3; do
    command -v "$name" >/dev/null && exec "$name" "$@"
done
echo "exec_python: there is no python or python3 on PATH; install one on the host" >&2
exit 127
"""


class StateFiles:
    """The state directory of one driver host."""

    parts: tuple[str, ...] = ("openshell", "tls", "log", "workspace")
    """Directories of each sandbox."""

    def __init__(self, state: str) -> None:
        """`state` is absolute; created private (0700) when missing."""
        self.state = state
        self._sandboxes, self._trash = os.path.join(state, "sandboxes"), os.path.join(state, "trash")
        self.images = os.path.join(state, "images")
        os.makedirs(state, mode=0o700, exist_ok=True)
        if stat.S_IMODE(os.stat(state).st_mode) & 0o077:
            os.chmod(state, 0o700)
        for path in (self._sandboxes, self._trash, self.images):
            os.makedirs(path, mode=0o755, exist_ok=True)
        self.etc = self._install_etc("/etc", "/bin/bash")

    def etc_over(self, image: str) -> str:
        """The injected /etc layer for an image's root."""
        shell = "/bin/bash" if os.path.lexists(os.path.join(image, "bin/bash")) else "/bin/sh"
        return self._install_etc(os.path.join(image, "etc"), shell)

    def pin_image(self, sandbox_id: str, reference: str, digest: str) -> None:
        """What a sandbox was made from stays what it is, also when it is started again. Raises OSError."""
        path = os.path.join(self.root(sandbox_id), "image.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"reference": reference, "digest": digest}, file)

    def pinned_image(self, sandbox_id: str, reference: str) -> str:
        """Digest of the image that `reference` was when the sandbox was made, "" where it is not known."""
        try:
            with open(os.path.join(self.root(sandbox_id), "image.json"), encoding="utf-8") as file:
                known = json.load(file)
            return str(known["digest"]) if known["reference"] == reference else ""
        except (OSError, ValueError, KeyError):
            return ""

    def root(self, sandbox_id: str) -> str:
        """Directory of a sandbox, existing or not. Raises WallError for an id that is no file name."""
        if not _SANDBOX_ID.fullmatch(sandbox_id):
            raise WallError("InvalidSandboxId", f"{sandbox_id!r} is not a sandbox id")
        return os.path.join(self._sandboxes, sandbox_id)

    def prepare(self, sandbox_id: str) -> bool:
        """Make the directories; True when the sandbox is new (then `finish` or `discard` must follow)."""
        root = self.root(sandbox_id)
        new = not os.path.isdir(root) or self.unfinished(sandbox_id)
        if new:
            os.close(os.open(self._marker(sandbox_id), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        for part in self.parts:
            os.makedirs(os.path.join(root, part), mode=0o755, exist_ok=True)
        return new

    def unfinished(self, sandbox_id: str) -> bool:
        """Its first creation is under way."""
        return os.path.exists(self._marker(sandbox_id))

    def finish(self, sandbox_id: str) -> None:
        """The sandbox stands: from now on its files are kept until `discard`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._marker(sandbox_id))

    def discard(self, sandbox_id: str) -> list[str]:
        """Move the files out of sight at once; returns what is left for `remove_tree` (nothing, or one path)."""
        root, trash = self.root(sandbox_id), os.path.join(self._trash, f"{sandbox_id}-{secrets.token_hex(4)}")
        try:
            os.rename(root, trash)
        except FileNotFoundError:
            return []
        finally:
            self.finish(sandbox_id)
        return [trash]

    def sweep(self) -> None:
        """At host start, when nothing runs: what a killed host left half made or half deleted goes to the trash.

        So do its sandboxes' control groups.
        """
        for _ in range(_SWEEP_ATTEMPTS):
            if not cgroups.sweep(self.state):
                break
            time.sleep(_SWEEP_PAUSE)  # a group empties a moment after its last process ended
        for name in os.listdir(self._sandboxes):
            if name.startswith(".new-"):
                self.discard(name.removeprefix(".new-"))
        self._sweep_images()
        for name in os.listdir(self.state):
            path = os.path.join(self.state, name)
            if name.startswith("etc-") and path != self.etc:
                shutil.rmtree(path, ignore_errors=True)

    def _sweep_images(self) -> None:
        """What was left half unpacked, and what no sandbox needs and nobody has asked for in a while."""
        needed = set()
        for name in os.listdir(self._sandboxes):
            path = os.path.join(self._sandboxes, name, "image.json")
            with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
                needed.add(json.load(file)["digest"])
        for name in os.listdir(self.images):
            path = os.path.join(self.images, name)
            old = os.lstat(path).st_mtime < time.time() - _IMAGE_SECONDS
            if name.startswith(".new-") or (old and name not in needed):
                os.rename(path, os.path.join(self._trash, f"image-{secrets.token_hex(8)}"))

    def trash(self) -> list[str]:
        return [os.path.join(self._trash, name) for name in os.listdir(self._trash)]

    def host_ids(self, sandbox_id: str) -> tuple[int, int]:
        """(uid, gid) that the sandbox's user is outside. Kept as the owner of `workspace`, so re-creation finds it."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        workspace = os.path.join(self.root(sandbox_id), "workspace")
        owner = os.lstat(workspace).st_uid
        if owner == 0:
            owner = _fresh_id(set(self._owners()))
            os.chown(workspace, owner, owner, follow_symlinks=False)
        return owner, owner

    def binds(self, sandbox_id: str) -> tuple[Bind, ...]:
        root = self.root(sandbox_id)
        return (
            Bind(os.path.join(root, "openshell"), "/etc/openshell"),
            Bind(os.path.join(root, "tls"), "/etc/openshell-tls"),
            Bind(os.path.join(root, "log"), "/var/log"),
            Bind(os.path.join(root, "workspace"), WORKDIR, writable=True),
        )

    def _marker(self, sandbox_id: str) -> str:
        return os.path.join(self._sandboxes, f".new-{sandbox_id}")

    def _owners(self) -> Iterator[int]:
        for name in os.listdir(self._sandboxes):
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(self._sandboxes, name, "workspace")).st_uid

    def _install_etc(self, below: str, shell: str) -> str:
        """The layer over the /etc at `below`."""

        def there(name: str) -> bool:
            return os.path.lexists(os.path.join(below, name))  # where a link of an image leads, only its root knows

        bundles = [name for name in _SYSTEM_ROOTS if there(name)] or [_SYSTEM_ROOTS[0]]
        links = dict.fromkeys(bundles, CA_BUNDLE)
        links |= {name: CA_KEYSTORE for name in _JAVA_ROOTS if there(name)}
        texts = {name: text.replace("/bin/bash", shell) for name, text in _ETC.items()} | _python_parts()
        digest = hashlib.sha256(repr((sorted(texts.items()), links)).encode()).hexdigest()[:12]
        final = os.path.join(self.state, f"etc-{digest}")
        if os.path.isdir(final):
            return final
        draft = os.path.join(self.state, f"etc-{digest}.{secrets.token_hex(4)}")
        for name in ("openshell", "openshell-tls"):  # mount points
            os.makedirs(os.path.join(draft, name), mode=0o755)
        for name, text in texts.items():
            path = os.path.join(draft, name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755 if text.startswith("#!") else 0o644)
        for name, target in links.items():
            os.makedirs(os.path.join(draft, os.path.dirname(name)), mode=0o755, exist_ok=True)
            os.symlink(target, os.path.join(draft, name))
        try:
            os.rename(draft, final)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # somebody else was first
        return final


def _python_parts() -> dict[str, str]:
    """Files below /etc that exec_python needs: found without importing anything, since this process forks."""
    directory = PYTHON_PARTS.removeprefix("/etc/")
    parts = {f"{directory}/bin/python": _PYTHON}
    found = importlib.util.find_spec("cloudpickle")
    for place in found.submodule_search_locations or () if found is not None else ():
        for name in sorted(os.listdir(place)):
            if name.endswith(".py"):
                with open(os.path.join(place, name), encoding="utf-8") as file:
                    parts[f"{directory}/lib/cloudpickle/{name}"] = file.read()
    return parts


def _fresh_id(taken: set[int]) -> int:
    """A host id nobody has: at random in `_IDS`, or where that is not mapped (containers) high in what is."""
    ranges = []
    with open("/proc/self/uid_map", encoding="ascii") as file:
        for line in file:
            inside, _, count = (int(part) for part in line.split())
            ranges.append((inside, count))
    first, span = _IDS
    if not any(inside <= first and first + span <= inside + count for inside, count in ranges):
        inside, count = max(ranges, key=lambda entry: entry[1])
        first, span = inside + count // 2, count - count // 2
    for _ in range(1000):
        candidate = first + secrets.randbelow(span)
        if candidate > 0 and candidate not in taken:
            return candidate
    raise WallError("IdMapRefused", "no host id is left for another sandbox", "give the container more ids")


def remove_tree(path: str) -> None:
    """Delete a tree an agent wrote, when nothing of it runs any more. Raises OSError.

    Never follows links, opens directories the agent closed, and needs neither recursion nor long paths however deep the
    tree is: a directory that is not empty is first moved up beside `path`.
    """
    base = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting = [os.path.basename(path)]
        while waiting:
            name = waiting.pop()
            os.chmod(name, 0o700, dir_fd=base)
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
            try:
                waiting += _empty(directory, base)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=base)
    finally:
        os.close(base)


def _empty(directory: int, base: int) -> list[str]:
    """Remove or move up everything in `directory`; returns the names moved to `base`."""
    moved = []
    for name in os.listdir(directory):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            os.unlink(name, dir_fd=directory)
            continue
        os.chmod(name, 0o700, dir_fd=directory)  # moving a directory needs the right to write in it
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError:
            moved.append(f"moved-{secrets.token_hex(8)}")
            os.rename(name, moved[-1], src_dir_fd=directory, dst_dir_fd=base)
    return moved
