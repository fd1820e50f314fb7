"""The names of programs: those the policy uses for a file that the kernel knows by another, and those people use.

The kernel names an executable by its real path; a policy may name `/usr/bin/python3`, a symbolic link. Links are
followed inside the sandbox's root, and only where every step is read-only there: what the agent can re-aim is no name.
Decides nothing about access.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from pyopenshell.isolation import syscalls
from pyopenshell.isolation.identity import Identity
from pyopenshell.policy.explain import printable

_HOPS = 40
"""Links followed (contract/sandbox.md 4)."""
_GLOB = re.compile(r"[*?\[{]")
_INTERPRETER = re.compile(r"(python|perl|ruby|node|nodejs|php|lua|deno|bun|bash|dash|sh|zsh|ksh|fish|tclsh)[\d.]*")
_MULTI_CALL = frozenset({"busybox", "toybox", "coreutils"})
_COMMAND_LINE = 4096


class ProgramNames:
    """Of one sandbox. `learn` with every policy that is loaded; any thread."""

    def __init__(self) -> None:
        self._root = self._proc = -1
        self._names: dict[str, tuple[str, ...]] = {}
        self._early: set[str] = set()

    def open(self, root: int, proc: int) -> None:
        """Descriptors of the sandbox's root directory and of its procfs. What was learned before is followed now."""
        self._root, self._proc = root, proc
        self.learn(self._early)

    def learn(self, binaries: Iterable[str]) -> None:
        """Follow the links among a policy's binaries."""
        literal = {path for path in binaries if path.startswith("/") and not _GLOB.search(path)}
        if self._root < 0:
            self._early |= literal
            return
        for path in literal:
            target = resolve(self._root, path)
            if target is not None and target != path and path not in self._names.get(target, ()):
                self._names[target] = (*self._names.get(target, ()), path)

    def aliases(self, identity: Identity) -> tuple[str, ...]:
        """Names of policies for this program and its ancestors besides their own."""
        if not self._names:
            return ()
        return tuple(name for path in (identity.exe, *identity.ancestors) for name in self._names.get(path, ()))

    def explain(self, identity: Identity) -> str:
        """What a person may have taken this program for, and which ancestor did not count; "" when there is nothing.

        Best effort, for denials only: a command line is whatever the process wants it to be.
        """
        notes = [
            f"ancestor {printable(path)} does not count: it came to its place after what it seems to have started, "
            "or was deleted before it was seen"
            for path in identity.doubtful
        ]
        program = identity.exe.rpartition("/")[2]
        arguments = self._command_line(identity)
        if _INTERPRETER.fullmatch(program):
            script = next((text for text in arguments[1:] if not text.startswith("-")), "")
            if script and "-c" not in arguments and "-e" not in arguments:
                notes.append(
                    f"the connecting program is {printable(identity.exe)} running {printable(script)}; "
                    "a rule for a script itself never matches"
                )
        elif program in _MULTI_CALL and arguments:
            notes.append(
                f"the connecting program is {printable(identity.exe)} called as {printable(arguments[0])}; "
                "a rule for that name never matches"
            )
        return "; ".join(notes)

    def _command_line(self, identity: Identity) -> list[str]:
        if self._proc < 0:
            return []
        process = f"/proc/self/fd/{self._proc}/{identity.pid}"
        with contextlib.suppress(OSError):
            if os.readlink(f"{process}/exe") == identity.exe:
                fd = os.open(f"{process}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    return os.read(fd, _COMMAND_LINE).decode(errors="replace").split("\0")[:-1]
                finally:
                    os.close(fd)
        return []


def resolve(root: int, path: str) -> str | None:
    """The real path of a file below the directory `root`, which is "/" to it.

    None when it does not exist or when any step of the way lies where it can be written.
    """
    waiting = _parts(path)
    done: list[str] = []
    for _ in range(_HOPS + 1):
        link = None
        while waiting and link is None:
            name = waiting.pop()
            if name == "..":
                done = done[:-1]
                continue
            link = _step(root, "/".join((*done, name)))
            if link is None:
                return None
            if not link:
                done.append(name)
                link = None
        if link is None:
            return "/" + "/".join(done)
        if link.startswith("/"):
            done = []
        waiting += _parts(link)
    return None


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _step(root: int, path: str) -> str | None:
    """Where a link leads; "" for what is no link; None for what is missing or writable. `path` holds no other link."""
    try:
        fd = syscalls.open_below(root, path)
    except OSError:
        return None
    try:
        if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return None
        return os.readlink("", dir_fd=fd)
    except OSError:
        return ""
    finally:
        os.close(fd)
