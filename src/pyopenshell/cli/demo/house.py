"""A private house: directories, gateway and driver host that nobody else uses, and that all end with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pyopenshell.cli.app import CliError
from pyopenshell.client import Places, Registration, resolve
from pyopenshell.gateway import daemon
from pyopenshell.isolation import cgroups

END_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectTo:
    """The operator's override for one name: where to dial, and whom to trust there."""

    host: str
    address: str
    ca_pem: str


@dataclasses.dataclass(slots=True)
class House:
    """Made by `open_house`. After it closed, `left` names what could not be removed (empty when all is well)."""

    root: Path
    environ: dict[str, str]
    gateway: daemon.Running
    registration: Registration
    left: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def open_house(override: ConnectTo | None, purpose: str = "demo") -> Iterator[House]:
    """Start a private gateway, and end everything afterwards, whatever happened. Raises CliError."""
    root = Path(tempfile.mkdtemp(prefix=f"openshell-{purpose}-"))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OPENSHELL_")}
    environ |= {
        "XDG_CONFIG_HOME": str(root / "config"),
        "XDG_STATE_HOME": str(root / "state"),
        "XDG_CACHE_HOME": str(root / "cache"),
    }
    house: House | None = None
    try:
        _configure(root, override)
        try:
            running = daemon.start(port=0, environ=environ)
        except daemon.DaemonError as error:
            raise CliError(f"{error.message}\n{_last_words(root)}") from None
        house = House(root, environ, running, resolve(Places.of(environ)))
        yield house
    finally:
        left = _end(root, environ)
        if house is not None:
            house.left = left


def _configure(root: Path, override: ConnectTo | None) -> None:
    folder = root / "config" / "openshell"
    folder.mkdir(parents=True)
    lines = ["[openshell]", "version = 1", "", "[openshell.gateway]", 'name = "demo"']
    if override is not None:
        (folder / "demo-ca.pem").write_text(override.ca_pem)
        lines += [
            "",
            "# Operator-owned: nothing inside a sandbox and no proposal can set this.",
            "[[openshell.gateway.connect_to]]",
            f'host = "{override.host}"',
            "port = 443",
            f'address = "{override.address}"',
            'ca_file = "demo-ca.pem"',
        ]
    (folder / "gateway.toml").write_text("\n".join(lines) + "\n")


def _last_words(root: Path) -> str:
    """The end of the gateway's log: the file itself is about to go."""
    try:
        text = (root / "state" / "openshell" / "gateway" / "gateway.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(it wrote no log)"
    return "\n".join(text.splitlines()[-12:])


def _end(root: Path, environ: dict[str, str]) -> list[str]:
    """Stop the gateway, end every process that works for this house, remove the files. Returns what is left."""
    left: list[str] = []
    try:
        daemon.stop(environ=environ)
    except daemon.DaemonError as error:
        left.append(f"gateway: {error}")
    left += [f"process {pid}" for pid in _processes(root) if not _end_process(pid)]
    left += _groups(root)
    shutil.rmtree(root, ignore_errors=True)
    if root.exists():
        left.append(str(root))
    return left


def _groups(root: Path) -> list[str]:
    """Remove the control groups of sandboxes that ended with their driver host; returns what is left of them."""
    left: list[str] = []
    for lock in root.rglob("host.lock"):
        end = time.monotonic() + END_SECONDS
        while (still := cgroups.sweep(str(lock.parent))) and time.monotonic() < end:
            time.sleep(0.02)  # a group empties a moment after its last process ended
        left += still
    return left


def _processes(root: Path) -> list[int]:
    """Our programs that work in our directory. Its name is random, so they cannot be anybody else's."""
    needle = os.fsencode(str(root))
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if needle in command and b"pyopenshell." in command:
                    found.append(int(entry.name))
    return found


def _end_process(pid: int) -> bool:
    """Ask, wait, kill, wait. True when it is gone."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], END_SECONDS)[0]:
                return True
    finally:
        os.close(process)
    return False
