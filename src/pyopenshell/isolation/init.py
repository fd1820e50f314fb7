"""PID 1 of a sandbox: builds the walls, hands every socket out, then forks restricted commands on request.

Keeps the capabilities of its *own* user namespace, so a command (which has none) can neither trace nor signal it, and
dies with the driver host and with the supervisor. Knows no policy and no gateway.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Sequence

from pyopenshell.isolation import channel, command, landlock, mounts, network, seccomp, syscalls
from pyopenshell.isolation.assurance import FILES, Loss
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.walls import BASE_READ, BASE_WRITE, UID, WallError, Walls, wall


def main(control: socket.socket, lifeline: socket.socket, walls: Walls) -> None:
    """Build, report "ready" or "failed" on `control`, serve until an end of life. Runs in the clone; never returns."""
    gc.disable()  # a collection would copy every page shared with the zygote
    syscalls.set_process_name("openshell-init")
    syscalls.set_command_line("openshell-init")  # the host's names paths of the host
    try:
        restrictions, offered, losses = _build(control, walls)
    except WallError as error:
        channel.send(control, {"failed": error.as_message()})
        os._exit(1)
    channel.send(
        control, {"ready": list(offered), "losses": [loss.as_message() for loss in losses]}, list(offered.values())
    )
    channel.close_all(offered.values())
    _Server(control, lifeline, restrictions).run()


def _build(control: socket.socket, walls: Walls) -> tuple[command.Restrictions, dict[str, int], list[Loss]]:
    message, trees = channel.receive(control)
    if message is None:
        os._exit(1)
    with wall("IdMapRefused"):
        if os.getuid() != UID:
            # Root made this namespace and its id is not mapped here: creating files would fail. Become the mapped id;
            # capabilities survive because uid 0 of the host is not this namespace's root.
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
    with wall("PrivilegesNotDropped"):
        os.setsid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the ids: changing them clears it
    offered = {name: sock.detach() for name, sock in network.build().items()}
    with contextlib.suppress(OSError):  # cosmetic; some container profiles deny it
        syscalls.sethostname(walls.hostname)
    with wall("MountsRefused"):
        losses = mounts.build(walls, trees)
    with wall("PrivilegesNotDropped"):
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.drop_bounding_set()
    ruleset, more = _landlock(walls)
    with wall("SeccompUnavailable"):
        # One listener for the whole sandbox: every command inherits the filter.
        offered["notify"] = seccomp.install_listener(seccomp.watched_filter())
    offered["proc"] = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    offered["root"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    program = seccomp.command_filter()
    processes = min(walls.processes, walls.limits.pids or walls.processes)
    # Where no control group limits the memory of all, each process has the limit for itself.
    memory = None if "memory" in message["held"] else walls.limits.memory
    restrictions = command.Restrictions(program, ruleset, processes, walls.open_files, memory)
    if "nflog" not in offered:
        losses.append(Loss("", "NFLOG is unavailable: packets the fence refuses are not logged"))
    return restrictions, offered, losses + more


def _landlock(walls: Walls) -> tuple[int | None, list[Loss]]:
    """(ruleset descriptor, what could not be done). With `landlock_required` anything missing is an error."""
    with wall("LandlockUnavailable"):
        version = landlock.abi()
        if not version:
            if walls.landlock_required:
                raise OSError("this kernel offers no Landlock")
            text = "Landlock is unavailable: filesystem_policy is not enforced beyond the mounts"
            return None, [Loss(FILES, text)]
        ruleset = landlock.Ruleset(version)
        # Without this `ls /` and `ls /dev` fail, and programs that walk up from the workdir with them.
        ruleset.allow("/", landlock.LIST)
        for path in BASE_READ:
            ruleset.allow(path, landlock.READ)
        for path in BASE_WRITE:
            ruleset.allow(path, landlock.WRITE)
        missing = [path for path in walls.read_only if not _allow(ruleset, path, landlock.READ)]
        missing += [path for path in walls.read_write if not _allow(ruleset, path, landlock.WRITE)]
    # Such a path is not opened to anybody: said, but nothing is weaker for it.
    losses = [Loss("", f"filesystem_policy names {path}, which does not exist in the sandbox") for path in missing]
    if losses and walls.landlock_required:
        text = "; ".join(loss.text for loss in losses)
        raise WallError("FilesystemPolicyPath", text, "remove the path or create it on the host")
    if version < landlock.TRUNCATE_ABI:
        text = f"Landlock ABI {version} does not confine truncation: a file that may only be read can be emptied"
        losses.append(Loss(FILES, text))
    return ruleset.fd, losses


def _allow(ruleset: landlock.Ruleset, path: str, rights: int) -> bool:
    """Also where /etc is a farm of symbolic links: the rule belongs to what they lead to."""
    if path == "/etc" or path.startswith("/etc/"):
        for part in (mounts.INJECTED_ETC, mounts.HOST_ETC):
            ruleset.allow(part + path.removeprefix("/etc"), rights)
    return ruleset.allow(path, rights)


class _Server:
    """The request loop. Requests come from the driver host only; a broken control channel ends the sandbox."""

    def __init__(self, control: socket.socket, lifeline: socket.socket, restrictions: command.Restrictions) -> None:
        self._control, self._lifeline, self._restrictions = control, lifeline, restrictions
        self._live: dict[int, str] = {}  # pid -> the host's name for the command
        self._terminating = False
        self._wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> None:
        poll = select.poll()
        for fd in (self._control.fileno(), self._lifeline.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    self._reap()
                elif fd == self._lifeline.fileno():
                    os._exit(0)  # nothing is ever said on it: readable means the supervisor is gone
                else:
                    self._request()

    def _reap(self) -> None:
        """Ours and every orphan."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if self._terminating:
                    os._exit(0)
                return
            if not pid:
                return
            name = self._live.pop(pid, None)
            if name is not None:
                channel.send(self._control, {"exit": name, "code": os.waitstatus_to_exitcode(status)})

    def _request(self) -> None:
        message, fds = channel.receive(self._control)
        if message is None:  # the host is gone: PID 1 ends and the kernel ends the namespace
            os._exit(0)
        try:
            self._dispatch(message, fds)
        finally:
            channel.close_all(fds)

    def _dispatch(self, message: Message, fds: Sequence[int]) -> None:
        operation = message["op"]
        if operation == "exec":
            self._exec(message, fds)
        elif operation == "kill":
            self._kill(str(message["name"]), int(message["signal"]))
        elif operation == "terminate":
            self._terminating = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGTERM)
            self._reap()

    def _exec(self, message: Message, fds: Sequence[int]) -> None:
        name = message["name"]
        try:
            pid, master = command.start(command.Command.from_message(message), fds, self._restrictions)
        except WallError as error:
            channel.send(self._control, {"failed": error.as_message(), "name": name})
            return
        except OSError as error:
            refused = WallError("ResourcesExhausted", str(error), "end processes in the sandbox and try again")
            channel.send(self._control, {"failed": refused.as_message(), "name": name})
            return
        self._live[pid] = name
        channel.send(self._control, {"started": name, "pid": pid}, [] if master is None else [master])
        if master is not None:
            os.close(master)

    def _kill(self, name: str, number: int) -> None:
        for pid, known in self._live.items():
            if known == name:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
                return
