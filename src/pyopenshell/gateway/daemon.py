"""The gateway as a background process of this user: start, stop, status (without polling).

Decides what "runs" means: a process that holds the lock file. Light to import; knows nothing of what the gateway does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pyopenshell.gateway.configuration import Paths
from pyopenshell.gateway.files import private_directory

READY_FD_OPTION: Final = "--ready-fd"

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid (fcntl.h)."""


class DaemonError(Exception):
    """The gateway did not start or stop. `fix` says what to do, one line."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message}\n{fix}" if fix else message)
        self.message, self.fix = message, fix


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers. `started` is unix seconds."""

    pid: int
    name: str
    endpoint: str
    version: str
    started: float
    health: str = ""
    """Base URL of /healthz, /readyz and /metrics."""

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])


class Lock:
    """Held by the gateway process as long as it lives; the kernel releases it however the process ends."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def acquire(cls, run: Path) -> Lock:
        """Raises DaemonError when another gateway of this state directory runs."""
        private_directory(run)
        file = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except BlockingIOError:
            holder = _read(file)
            os.close(file)
            who = f" (pid {holder['pid']})" if holder else ""
            raise DaemonError(
                f"a gateway already runs for {run.parent}{who}",
                "Use it, or stop it with: openshell gateway stop",
            ) from None
        os.ftruncate(file, 0)
        lock = cls(file)
        lock._write({"pid": os.getpid()})
        return lock

    def publish(self, running: Running) -> None:
        """Say where the gateway answers: from now on `status` finds it."""
        self._write(dataclasses.asdict(running))

    def release(self) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _write(self, content: dict[str, Any]) -> None:
        # One write over the old content, then cut: a reader sees the old or the new text, or one it cannot parse.
        data = json.dumps(content).encode() + b"\n"
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))


def status(environ: Mapping[str, str] = os.environ) -> Running | None:
    """The gateway that runs and is ready; None when there is none."""
    holder = _holder(Paths.of(environ).run)
    return None if holder is None or "endpoint" not in holder else Running(**holder)


def start(
    *,
    port: int | None = None,
    bind: str | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout: float = 30.0,
) -> Running:
    """Start a gateway in the background and return once it answers; the one that runs already is returned as it is.

    Raises DaemonError with the gateway's own reason, or after `timeout` seconds. Safe when several callers start at
    once: one starts it, the others find it running.
    """
    paths = Paths.of(environ)
    with _usable(paths), _only_starter(paths.run):
        running = status(environ)
        if running is not None:
            if _answers(running):
                return running
            _await_end(running.pid, timeout)  # killed a moment ago: its threads still hold the lock
        arguments = [sys.executable, "-m", "pyopenshell.gateway"]
        arguments += ["--port", str(port)] if port is not None else []
        arguments += ["--bind-address", bind] if bind else []
        arguments += ["--config", str(config)] if config else []
        return _spawn(arguments, environ, paths.log, timeout)


def stop(*, environ: Mapping[str, str] = os.environ, timeout: float = 15.0) -> bool:
    """Stop the gateway and return when it is gone; False when none ran. Sandboxes go on.

    After `timeout` seconds it is killed: decisions are in the store, nothing is lost.
    """
    holder = _holder(Paths.of(environ).run)
    if holder is None:
        return False
    try:
        process = os.pidfd_open(int(holder["pid"]))
    except ProcessLookupError:
        return False
    try:
        again = _holder(Paths.of(environ).run)  # the pid is still the lock's holder: the pidfd is the right process
        if again is None or again["pid"] != holder["pid"]:
            return False
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], timeout)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], timeout)
    except ProcessLookupError:
        pass
    finally:
        os.close(process)
    return True


def report_ready(file: int, running: Running) -> None:
    """Gateway side: tell the starter that the gateway answers."""
    _report(file, {"ready": dataclasses.asdict(running)})


def report_failure(file: int, message: str, fix: str) -> None:
    """Gateway side: tell the starter why not."""
    _report(file, {"error": message, "fix": fix})


def _report(file: int, content: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the starter gave up waiting: nobody to tell
        os.write(file, json.dumps(content).encode() + b"\n")
    os.close(file)


def _answers(running: Running) -> bool:
    """Does the process do its half of a TLS handshake? One that was just killed may still accept, never answer."""
    host = running.endpoint.removeprefix("https://").rpartition(":")[0].strip("[]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname = (
        False  # a sign of life is asked for; who it is, clients check with the registered authority
    )
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, running.port), timeout=5) as link, context.wrap_socket(link):
            return True
    except OSError:
        return False


def _await_end(pid: int, timeout: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            select.select([process], [], [], timeout)
        finally:
            os.close(process)


def _spawn(arguments: list[str], environ: Mapping[str, str], log: Path, timeout: float) -> Running:
    private_directory(log.parent)
    reader, writer = os.pipe()
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                [*arguments, READY_FD_OPTION, str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(writer,),
                env=dict(environ),
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(output)
            os.close(writer)
        answer = _await_line(reader, timeout)
    finally:
        os.close(reader)
    if answer is None:
        process.kill()
        process.wait()
        raise DaemonError(f"the gateway did not become ready within {timeout:g} s", f"Its log is {log}")
    if not answer:
        code = process.wait()
        raise DaemonError(f"the gateway ended with exit code {code} before it was ready", f"Its log is {log}")
    content = json.loads(answer)
    if "ready" in content:
        process.returncode = 0  # it is on its own now: this Popen object must not warn that it still runs
        return Running(**content["ready"])
    process.wait()
    raise DaemonError(content["error"], content["fix"])


def _await_line(reader: int, timeout: float) -> bytes | None:
    """One line; b"" when the writer ended without one; None after `timeout` seconds."""
    data, deadline = b"", time.monotonic() + timeout
    while not data.endswith(b"\n"):
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([reader], [], [], remaining)[0]:
            return None
        part = os.read(reader, 65536)
        if not part:
            return b""
        data += part
    return data


@contextlib.contextmanager
def _usable(paths: Paths) -> Iterator[None]:
    """A home that cannot be written, or is full, is the operator's to repair: said, not thrown."""
    try:
        yield
    except OSError as error:
        raise DaemonError(
            f"the gateway cannot be started: {error.strerror or error}: {error.filename or paths.state}",
            f"Make {paths.state} writable with room in it, or name another directory in XDG_STATE_HOME",
        ) from error


@contextlib.contextmanager
def _only_starter(run: Path) -> Iterator[None]:
    private_directory(run)
    file = os.open(run / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _holder(run: Path) -> dict[str, Any] | None:
    """What the process that holds the lock says about itself; None when nobody holds it."""
    try:
        file = os.open(run / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Ask, never take: a status query must not make a gateway that starts right now believe another one runs.
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return None if _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK else _read(file)
    finally:
        os.close(file)


def _read(file: int) -> dict[str, Any] | None:
    try:
        content = json.loads(os.pread(file, 65536, 0))
    except ValueError:
        return None
    return content if isinstance(content, dict) and isinstance(content.get("pid"), int) else None
