"""Run in a mount namespace of its own: an installation on a small disk that runs out of something. Prints JSON.

Usage: python -m tests.e2e.shortage space|inodes|read-only|tools DIRECTORY
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from tests.e2e.house import OPENSHELL


class Small:
    def __init__(self, kind: str, root: pathlib.Path) -> None:
        self.kind, self.disk = kind, root / "disk"
        self.disk.mkdir()
        size = "size=12m,nr_inodes=400"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.disk], check=True)
        for name in ("config", "state"):
            (self.disk / name).mkdir()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENSHELL", "XDG_"))}
        self.env |= {"XDG_CONFIG_HOME": f"{self.disk}/config", "XDG_STATE_HOME": f"{self.disk}/state"}
        self.env |= {"XDG_RUNTIME_DIR": str(self.disk), "HOME": str(self.disk)}

    def cli(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [OPENSHELL, *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=90, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def fill(self) -> None:
        with contextlib.suppress(OSError):
            if self.kind == "space":
                with (self.disk / "fill").open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            else:
                for number in itertools.count():
                    (self.disk / f"fill{number}").touch()

    def free(self) -> None:
        for file in self.disk.glob("fill*"):
            file.unlink()

    def sandboxes(self) -> list[str]:
        state = self.disk / "state" / "openshell"
        return sorted(one.name for part in ("sandboxes", "trash") for one in (state / part).iterdir())


def full(disk: Small) -> dict[str, Any]:
    found: dict[str, Any] = {"start": disk.cli("gateway", "start", "--port", "0")[0]}
    found["first"] = disk.cli("sandbox", "create", "--name", "first", "--detach")[0]
    before = disk.sandboxes()
    disk.fill()
    found["create"] = disk.cli("sandbox", "create", "--name", "second", "--detach")
    found["left"] = sorted(set(disk.sandboxes()) - set(before))
    script = "echo alive; curl -sS -o /dev/null https://evil.test/; (echo x > /sandbox/x) 2>/dev/null || echo refused"
    found["exec"] = disk.cli("sandbox", "exec", "-n", "first", "--", "/bin/sh", "-c", script)
    found["listed"] = disk.cli("sandbox", "list", "--names")
    disk.cli("gateway", "stop")
    found["again"] = disk.cli("gateway", "start", "--port", "0")[0]
    found["delete"] = disk.cli("sandbox", "delete", "first")
    found["after"] = disk.sandboxes()
    disk.free()
    found["freed"] = disk.cli("sandbox", "create", "--name", "third", "--detach")[0]
    found["names"] = disk.cli("sandbox", "list", "--names")[1].split()
    return found


def read_only(disk: Small) -> dict[str, Any]:
    subprocess.run(["mount", "-o", "remount,ro", disk.disk], check=True)
    found: dict[str, Any] = {"create": disk.cli("sandbox", "create", "--detach")}
    found["start"] = disk.cli("gateway", "start", "--port", "0")
    subprocess.run(["mount", "-o", "remount,rw", disk.disk], check=True)
    found["left"] = sorted(str(one.relative_to(disk.disk)) for one in disk.disk.glob("*/*"))
    found["after"] = disk.cli("sandbox", "create", "--detach")[0]
    return found


def tools(disk: Small) -> dict[str, Any]:
    """Nothing of the host's PATH is needed."""
    disk.env["PATH"] = str(disk.disk / "config")
    tree = disk.disk / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    found: dict[str, Any] = {"start": disk.cli("gateway", "start", "--port", "0")[0]}
    found["create"] = disk.cli("sandbox", "create", "--name", "box", "--detach")[0]
    found["absent"] = disk.cli("sandbox", "exec", "-n", "box", "--", "no-such-tool")
    found["upload"] = disk.cli("sandbox", "upload", "box", str(tree))[0]
    found["exec"] = disk.cli("sandbox", "exec", "-n", "box", "--", "cat", "tree/file")
    found["download"] = disk.cli("sandbox", "download", "box", "tree", str(disk.disk / "back"))[0]
    found["ssh-config"] = disk.cli("sandbox", "ssh-config", "box")[0]
    return found


def main(kind: str, root: pathlib.Path) -> None:
    disk = Small(kind, root)
    try:
        run = {"read-only": read_only, "tools": tools}.get(kind, full)
        print(json.dumps(run(disk)))
    finally:
        disk.free()
        disk.cli("sandbox", "delete", "--all")
        disk.cli("gateway", "stop")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
