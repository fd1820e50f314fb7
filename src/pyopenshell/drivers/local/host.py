"""The driver host: owns every local sandbox's processes and outlives a gateway restart.

Forks zygote and connect watcher while it is still small, then loads the supervisor's code once and forks one supervisor
per sandbox from it. Decides nothing about policy; must never import grpcio and never start a thread, because it forks.

    python -P -m pyopenshell.drivers.local.host --state DIR --supervisor MODULE:FUNCTION [--ready-fd N]

Writes one JSON line to the ready descriptor: {"ready": true} or {"failed": ...}. Ends by itself when no gateway is
connected and no sandbox is left.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pyopenshell.isolation import syscalls, watcher, zygote
from pyopenshell.isolation.walls import WallError

if TYPE_CHECKING:
    from pyopenshell.drivers.local.files import StateFiles
    from pyopenshell.drivers.local.server import Server

SOCKET, LOCK = "host.sock", "host.lock"


def local() -> tuple[type[StateFiles], type[Server]]:
    """Where files lie and how inits come to be; imported only after the helpers were forked."""
    from pyopenshell.drivers.local.files import StateFiles
    from pyopenshell.drivers.local.server import Server

    return StateFiles, Server


def main(
    arguments: list[str] | None = None,
    *,
    parts: Callable[[], tuple[type[StateFiles], type[Server]]] = local,
    clones: bool = True,
) -> NoReturn:
    """`parts` and `clones` are another driver's: `clones` False means that its inits are made elsewhere."""
    parser = argparse.ArgumentParser(prog="pyopenshell-driver-host")
    parser.add_argument("--state", required=True)
    parser.add_argument("--supervisor", required=True)
    parser.add_argument("--ready-fd", type=int, default=-1)
    options = parser.parse_args(arguments)
    if os.fork():  # detached from whoever started us, so that nobody has to wait for us
        os._exit(0)
    code = 1
    try:
        _prepare_process()
        with open(options.ready_fd, "wb", buffering=0) if options.ready_fd >= 0 else contextlib.nullcontext() as ready:
            code = _run(os.path.abspath(options.state), options.supervisor, ready, parts, clones=clones)
    except BaseException:  # noqa: BLE001 - the last word of a daemon goes to its log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _prepare_process() -> None:
    os.umask(0o022)
    syscalls.set_process_name("openshell-host")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _run(
    state: str,
    supervisor: str,
    ready: Any,
    parts: Callable[[], tuple[type[StateFiles], type[Server]]],
    *,
    clones: bool,
) -> int:
    # Before anything heavy is imported, and before any descriptor exists that a helper must not hold.
    zygote_pid, zygote_end = zygote.fork_helper("openshell-zygot", zygote.serve) if clones else (None, None)
    watcher_pid, watcher_end = zygote.fork_helper("openshell-watch", watcher.serve)
    try:
        server = _server(state, supervisor, zygote_end, watcher_end, parts())
    except WallError as error:
        _tell(ready, {"failed": error.as_message()})
        return 1
    except (ImportError, AttributeError) as error:
        broken = WallError("SupervisorMissing", f"cannot load {supervisor}: {error}", "reinstall pyopenshell")
        _tell(ready, {"failed": broken.as_message()})
        raise
    except OSError as error:
        broken = WallError("StateDirectory", str(error), f"make {state} a directory this user can write")
        _tell(ready, {"failed": broken.as_message()})
        raise
    _tell(ready, {"ready": True})
    if ready is not None:
        ready.close()
    server.serve()
    for pid in filter(None, (zygote_pid, watcher_pid)):  # whoever waits for our lock finds nothing running
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)  # while the lock is still ours: a successor's socket is never removed
    return 0


def _server(
    state: str,
    supervisor: str,
    zygote_end: socket.socket | None,
    watcher_end: socket.socket,
    parts: tuple[type[StateFiles], type[Server]],
) -> Server:
    from pyopenshell.drivers.local import orphans

    kind_of_files, kind_of_server = parts
    files = kind_of_files(state)
    os.chdir(state)  # the socket's path may be longer than a socket address
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A record lock: unlike flock() it does not pass to forks. Waits only while a predecessor is on its way out.
    fcntl.lockf(lock, fcntl.LOCK_EX)
    if left := orphans.end(state):
        raise WallError(
            "OrphansRemain",
            f"processes of an earlier driver host do not end: {left}",
            "end them, or restart the machine: two hosts must not run the same sandboxes",
        )
    files.sweep()
    entry = _load(supervisor)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o600)
    listener.listen(16)
    gc.collect()
    gc.freeze()  # supervisors share what is loaded now
    return kind_of_server(files, listener, zygote_end, watcher_end, entry)


def _load(name: str) -> Callable[..., int]:
    """The supervisor's entry point. What its module offers as `rehearse` runs once here, for all that are forked."""
    path, _, function = name.partition(":")
    module = importlib.import_module(path)
    entry: Callable[..., int] = getattr(module, function)
    rehearse: Callable[[], None] | None = getattr(module, "rehearse", None)
    if rehearse is not None:
        rehearse()
    return entry


def _tell(ready: Any, message: Mapping[str, Any]) -> None:
    if ready is not None:
        ready.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
