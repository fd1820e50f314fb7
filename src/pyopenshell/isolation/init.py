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
from collections.abc import Collection, Sequence
from typing import NamedTuple, NoReturn

from pyopenshell.isolation import channel, command, confinement, landlock, mounts, network, seccomp, syscalls
from pyopenshell.isolation.assurance import Loss
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.network import Network
from pyopenshell.isolation.redirect import Doors
from pyopenshell.isolation.walls import UID, WallError, Walls, wall


def main(control: socket.socket, lifeline: socket.socket, walls: Walls) -> None:
    """Build, report "ready" or "failed" on `control`, serve until an end of life. Runs in the clone; never returns."""
    gc.disable()  # a collection would copy every page shared with the zygote
    syscalls.set_process_name("openshell-init")
    syscalls.set_command_line(command_line(walls.owner))  # the host's names paths of the host
    try:
        built = _build(control, walls)
    except WallError as error:
        channel.send(control, {"failed": error.as_message()})
        os._exit(1)
    serve(control, lifeline, built)


class Built(NamedTuple):
    """Walls that stand."""

    restrictions: command.Restrictions
    offered: dict[str, int]
    """Descriptors for the driver host and the supervisor, by name."""
    losses: list[Loss]
    tier: str
    doors: Doors | None


def serve(control: socket.socket, lifeline: socket.socket, built: Built) -> NoReturn:
    """Report "ready", hand everything out, and run commands until an end of life."""
    channel.send(
        control,
        {
            "ready": list(built.offered),
            "tier": built.tier,
            "losses": [loss.as_message() for loss in built.losses],
            "doors": None if built.doors is None else built.doors.as_message(),
        },
        list(built.offered.values()),
    )
    channel.close_all(built.offered.values())
    _Server(control, lifeline, built.restrictions).run()


def command_line(owner: str) -> str:
    """What `ps` shows of an init, inside and outside: by it a later host finds what an earlier one left."""
    return f"openshell-init {owner}".rstrip()


def _build(control: socket.socket, walls: Walls) -> Built:
    message, trees = channel.receive(control)
    if message is None:
        os._exit(1)
    mapped = walls.tier == "A"
    with wall("IdMapRefused"):
        if mapped and os.getuid() != UID:
            # Root made this namespace and its id is not mapped here: creating files would fail. Become the mapped id;
            # capabilities survive because uid 0 of the host is not this namespace's root.
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
    with wall("PrivilegesNotDropped"):
        os.setsid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the ids: changing them clears it
    net = network.build(UID if mapped else walls.host_gid, accept_weaker=walls.accept_weaker)
    with contextlib.suppress(OSError):  # cosmetic; some container profiles deny it
        syscalls.sethostname(walls.hostname)
    with wall("MountsRefused"):
        losses = mounts.build(walls, trees)
    return seal(walls, net, losses, message["held"])


def seal(walls: Walls, net: Network, losses: Sequence[Loss], held: Collection[str]) -> Built:
    """The walls that every init builds itself, once network and file tree stand. Takes the sockets over.

    `losses` are the file tree's; `held` the limits that control groups keep. Raises WallError.
    """
    mapped = walls.tier == "A"
    offered = {name: sock.detach() for name, sock in net.sockets.items()}
    with wall("PrivilegesNotDropped"):
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.drop_bounding_set()
    version = landlock.abi()
    rules, more = confinement.ruleset(walls, version)
    with wall("SeccompUnavailable"):
        # One listener for the whole sandbox: every command inherits the filter.
        offered["notify"] = seccomp.install_listener(seccomp.watched_filter())
    offered["proc"] = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    offered["root"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    program = seccomp.command_filter(watched=True)
    processes = min(walls.processes, walls.limits.pids or walls.processes)
    # Where no control group limits the memory of all, each process has the limit for itself.
    memory = None if "memory" in held else walls.limits.memory
    ids = None if mapped else (walls.host_uid, walls.host_gid)
    domain = None if rules is None else (rules.fd, version)
    restrictions = command.Restrictions(program, domain, processes, walls.open_files, memory, ids)
    found = [*net.losses, *losses, *([] if mapped else [Loss("", NO_USER_NAMESPACE)]), *more]
    tier = "B" if mapped and net.doors is not None else walls.tier
    return Built(restrictions, offered, found, tier, net.doors)


NO_USER_NAMESPACE = (
    "no user namespaces: commands run as a host user of their own, and the sandbox's init as the host's root"
)


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

    def run(self) -> NoReturn:
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
        elif operation == "socket":
            self._socket(str(message["name"]), bool(message["ipv6"]))
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

    def _socket(self, name: str, ipv6: bool) -> None:
        """An unconnected TCP socket of this namespace, for somebody outside who may reach a server in here."""
        try:
            with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM) as sock:
                channel.send(self._control, {"name": name}, [sock.fileno()])
        except OSError as error:
            refused = WallError("ResourcesExhausted", str(error), "end processes in the sandbox and try again")
            channel.send(self._control, {"failed": refused.as_message(), "name": name})

    def _kill(self, name: str, number: int) -> None:
        for pid, known in self._live.items():
            if known == name:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
                return
