"""One sandbox in the driver host: the order in which its processes come and go.

clone -> fork supervisor while init builds its walls -> hand every socket out -> supervisor ready -> main process.
Whatever dies, everything else of the sandbox is ended too. Knows no gateway connection; reports through callbacks.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pyopenshell.drivers.local.loop import Link, Loop, Timer, Watch
from pyopenshell.isolation import assurance, cgroups, channel
from pyopenshell.isolation.assurance import FILES, Loss
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.environment import BASE, environment
from pyopenshell.isolation.walls import ACCEPT, WallError, Walls

MAIN = "main"
"""Name of the main process among a sandbox's commands."""
BUILD_SECONDS = 20.0
"""Bound on a creation; normally 20 ms. Running into it is a defect or a frozen machine."""
TERM_SECONDS = 2.0
SUPERVISOR_SECONDS = 3.0
"""How long commands get after SIGTERM, and how long a supervisor gets to flush its log, before SIGKILL."""


class State(enum.Enum):
    BUILDING = "building"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Surroundings(Protocol):
    """What the host gives every sandbox."""

    @property
    def loop(self) -> Loop: ...

    def launch(
        self, sandbox_id: str, walls: Walls, lifeline: int, answered: Callable[[Message, list[int]], None]
    ) -> None:
        """Get an init: {"launched": pid, "held": limits} + [pidfd, control channel], or {"failed"}.

        `answered` owns the descriptors.
        """

    def watch(self, init: int, notify: int, records: int, doors: Mapping[str, Any] | None) -> None:
        """Give a notify descriptor to the connect watcher; the caller keeps its copies."""

    def main_log(self, sandbox_id: str) -> int:
        """Opens what the main process prints to. The caller closes it. Raises OSError."""

    def fork_supervisor(self, request: Mapping[str, Any], init: int) -> tuple[int, socket.socket]:
        """(pid, our end of its control socket)."""


class Sandbox:
    """`built(error or None)` is called once, then `ended(reason, message)` once; `exited(name, code)` per command."""

    def __init__(
        self,
        host: Surroundings,
        request: Mapping[str, Any],
        walls: Walls,
        built: Callable[[WallError | None], None],
        ended: Callable[[str, str], None],
        exited: Callable[[str, int], None],
    ) -> None:
        self._host, self._request = host, request
        self._built: Callable[[WallError | None], None] | None = built
        self._ended, self._exited = ended, exited
        self.id, self.instance_id = str(request["sandbox_id"]), str(request["instance_id"])
        self.state = State.BUILDING
        self.losses: list[Loss] = []
        self.tier = ""
        self.limits: dict[str, str] = {}
        """How each limit that was asked for holds."""
        self._walls = walls
        self.main_exit: int | None = None
        self._why = ("Ended", "")
        self._failure: WallError | None = None
        self._supervisor_killed = False
        self._init: Watch | None = None
        self._supervisor: Watch | None = None
        self._init_link: Link | None = None
        self._supervisor_link: Link | None = None
        self._init_pid = 0
        self._starting: dict[str, Callable[[Message, list[int]], None]] = {}
        self._live: set[str] = set()
        self._timer: Timer | None = host.loop.after(BUILD_SECONDS, self._too_slow)
        self._lifeline, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with inner:
            host.launch(self.id, walls, inner.fileno(), self._launched)

    def start_command(
        self,
        name: str,
        request: Mapping[str, Any],
        stdio: Sequence[int],
        answered: Callable[[Message, list[int]], None],
    ) -> None:
        """Run a command; `answered` gets {"started", "pid"} + [terminal] or {"failed"}, and owns the descriptors."""
        if self.state is not State.RUNNING and name != MAIN:
            refused = WallError("NotRunning", "the sandbox is not running", "start it")
            answered({"failed": refused.as_message()}, [])
            return
        assert self._init_link is not None
        self._starting[name] = answered
        env = environment(self._image_environment(), self._request["environment"], request["environment"])
        self._init_link.send({**request, "op": "exec", "name": name, "env": env}, stdio)

    def _image_environment(self) -> dict[str, str]:
        """What an image says of itself; where its programs lie, but not what we say of proxies and certificates."""
        said: dict[str, str] = self._request.get("image_environment", {})
        return {name: value for name, value in said.items() if name in ("PATH", "LANG") or name not in BASE}

    def open_socket(self, name: str, ipv6: bool, answered: Callable[[Message, list[int]], None]) -> None:
        """An unconnected TCP socket of the sandbox's network; `answered` gets it or {"failed"}, as above."""
        if self.state is not State.RUNNING or self._init_link is None:
            answered({"failed": WallError("NotRunning", "the sandbox is not running", "start it").as_message()}, [])
            return
        self._starting[name] = answered
        self._init_link.send({"op": "socket", "name": name, "ipv6": ipv6})

    def signal_command(self, name: str, number: int) -> None:
        if self._init_link is not None:
            self._init_link.send({"op": "kill", "name": name, "signal": number})

    def terminate(self, reason: str, message: str = "") -> None:
        """SIGTERM to every command, then the end; `ended` follows."""
        if self.state is not State.RUNNING or self._init_link is None:
            self.kill(reason, message)
            return
        self.state, self._why = State.ENDING, (reason, message)
        self._init_link.send({"op": "terminate"})
        self._arm(TERM_SECONDS, self._kill_init)

    def kill(self, reason: str, message: str = "") -> None:
        """End everything now; `ended` follows."""
        self._ending(reason, message)
        self._kill_init()

    def abandon(self, reason: str, message: str, fix: str = "") -> None:
        """As `kill`, but waits for no answer: whoever should give it is gone."""
        self._fail(WallError(reason, message, fix))

    def _ending(self, reason: str, message: str) -> None:
        """The first reason stays."""
        if self.state not in (State.ENDING, State.ENDED):
            self.state, self._why = State.ENDING, (reason, message)

    # -- coming to be ------------------------------------------------------

    def _launched(self, message: Message, fds: list[int]) -> None:
        if "failed" in message:
            channel.close_all(fds)
            self._fail(WallError.from_message(message["failed"]))
            return
        self._init_pid = int(message["launched"])
        self.limits = cgroups.standing(self._walls.limits, message["held"])
        self._init = Watch(self._host.loop, fds[0], None, self._init_ended)
        self._init_link = Link(self._host.loop, socket.socket(fileno=fds[1]), self._from_init, self._init_hung_up)
        if self.state is not State.BUILDING:
            self._kill_init()
            return
        pid, control = self._host.fork_supervisor(self._request, self._init_pid)
        # Supervisors forked after this one must not find its key in what they inherit.
        self._request = {name: value for name, value in self._request.items() if name not in ("access", "config")}
        self._supervisor = Watch(self._host.loop, os.pidfd_open(pid), pid, self._supervisor_ended)
        self._supervisor_link = Link(self._host.loop, control, self._from_supervisor, self._supervisor_hung_up)

    def _from_init(self, message: Message, fds: list[int]) -> None:
        if "ready" in message:
            self._walls_stand(message, fds)
        elif "exit" in message:
            self._command_ended(str(message["exit"]), int(message["code"]))
        elif "started" in message or "name" in message:
            name = str(message.get("started") or message["name"])
            if "started" in message:
                self._live.add(name)
            answered = self._starting.pop(name, None)
            if answered is not None:
                answered(message, fds)
            else:
                channel.close_all(fds)
        else:
            channel.close_all(fds)
            self._fail(WallError.from_message(message["failed"]))

    def _walls_stand(self, message: Message, fds: list[int]) -> None:
        offered = dict(zip(message["ready"], fds, strict=True))
        self.tier = str(message["tier"])
        self.losses = [Loss(**loss) for loss in message["losses"]]
        self.losses += [
            Loss("", f"--{kind} holds only as: {how}" if how != "not held" else f"--{kind} limits nothing here")
            for kind, how in self.limits.items()
            if not how.startswith("cgroup")
        ]
        found = assurance.level(self.losses)
        if (error := self._too_weak(found)) is not None:
            channel.close_all(fds)
            self._fail(error)
            return
        records, identity = channel.pair()
        with records, identity, self._lifeline:
            if self.state is State.BUILDING and self._supervisor_link is not None:
                self._host.watch(self._init_pid, offered.pop("notify"), records.fileno(), message["doors"])
                gifts = {**offered, "identity": identity.fileno(), "lifeline": self._lifeline.fileno()}
                self._supervisor_link.send({"op": "sockets", "names": list(gifts)}, list(gifts.values()))
        channel.close_all(fds)

    def _too_weak(self, found: str) -> WallError | None:
        """Nothing weaker than what was asked for starts, nor, unasked, an open network; no command ran yet.

        Weaker confinement of files alone is what a policy's `best_effort` means.
        """
        required, what = self._walls.required, "; ".join(loss.text for loss in self.losses if loss.part)
        worth = f"the walls that can be built here are worth `{found}` ({what})"
        if not assurance.meets(found, required):
            fix = "run `openshell doctor` for the fix of each, or require less"
            return WallError("AssuranceTooLow", f"--require {required}: {worth}", fix)
        if found in (FILES, "none") and not required and not self._walls.accept_weaker:
            return WallError("WeakerNotAccepted", worth, f"run `openshell doctor` for the fix of each, or {ACCEPT}")
        return None

    def _from_supervisor(self, message: Message, fds: list[int]) -> None:
        channel.close_all(fds)
        if message.get("op") == "failed":
            self._fail(WallError(str(message.get("reason")), str(message.get("message"))))
        elif message.get("op") == "ready" and self.state is State.BUILDING:
            if self._request["command"]:
                self._start_main()
            else:
                self._stands()

    def _start_main(self) -> None:
        """Nobody looks at it: no terminal, and what it prints goes to /var/log/main.log of the sandbox."""
        opened = []
        try:
            opened.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            opened.append(self._host.main_log(self.id))
            request = {**self._request["main"], "tty": False}
            self.start_command(MAIN, request, [opened[0], opened[1], opened[1]], self._main_answered)
        except OSError as error:
            self._fail(WallError("HostResources", str(error), "free descriptors, processes or disk space"))
        finally:
            channel.close_all(opened)

    def _main_answered(self, message: Message, fds: list[int]) -> None:
        channel.close_all(fds)
        if "failed" in message:
            self._fail(WallError.from_message(message["failed"]))
        else:
            self._stands()

    def _stands(self) -> None:
        self.state = State.RUNNING
        self._disarm()
        self._report(None)

    # -- ceasing to be -----------------------------------------------------

    def _fail(self, error: WallError) -> None:
        if self.state is State.BUILDING:
            self._failure = error
        self.kill(error.reason, error.message)
        self._maybe_over()

    def _too_slow(self) -> None:
        self._fail(WallError("CreationTimeout", f"the sandbox was not ready within {BUILD_SECONDS:.0f} s"))

    def _init_hung_up(self) -> None:
        self._init_link = None
        self._hear_supervisor()
        self.kill("InitDied", "the sandbox's init ended unexpectedly")

    def _hear_supervisor(self) -> None:
        """A supervisor that failed takes its init with it: what it said first is why, even if still unread."""
        if self._supervisor_link is not None:
            self._supervisor_link.drain()

    def _init_ended(self, _status: int | None) -> None:
        self._init = None
        if self._init_link is not None:
            self._init_link.drain()  # an init that failed says why; its last words may still be unread
        self._hear_supervisor()
        self._ending("InitDied", "the sandbox's init ended unexpectedly")
        for name in list(self._live):
            self._command_ended(name, -signal.SIGKILL)
        for answered in list(self._starting.values()):
            answered({"failed": WallError("NotRunning", "the sandbox ended").as_message()}, [])
        self._starting.clear()
        if self._init_link is not None:
            self._init_link.close()
            self._init_link = None
        self._lifeline.close()
        if self._supervisor is None:
            self._maybe_over()
            return
        # Its lifeline broke, so it is flushing its log and leaving.
        if self._supervisor_link is not None:
            self._supervisor_link.send({"op": "stop"})
        self._arm(SUPERVISOR_SECONDS, self._kill_supervisor)

    def _supervisor_hung_up(self) -> None:
        # It is leaving, by itself or because its init died: its exit code will say which, so it is not killed yet.
        self._supervisor_link = None
        if self._timer is None:
            self._arm(SUPERVISOR_SECONDS, self._kill_supervisor)

    def _supervisor_ended(self, status: int | None) -> None:
        self._supervisor = None
        if self._supervisor_link is not None:
            self._supervisor_link.drain()
        if self._supervisor_link is not None:
            self._supervisor_link.close()
            self._supervisor_link = None
        code = os.waitstatus_to_exitcode(status or 0)
        why = ("SupervisorDied", f"the sandbox's supervisor ended unexpectedly (exit code {code})")
        if code and self._why[0] == "InitDied" and not self._supervisor_killed:
            self._why = why  # init only followed: a supervisor that follows its init leaves with 0
        self.kill(*why)
        self._maybe_over()

    def _command_ended(self, name: str, code: int) -> None:
        self._live.discard(name)
        if code < 0:
            code = 128 - code
        if name == MAIN:
            self.main_exit = code
        self._exited(name, code)

    def _kill_init(self) -> None:
        if self._init is not None:
            self._init.kill(signal.SIGKILL)
        else:
            self._kill_supervisor()

    def _kill_supervisor(self) -> None:
        if self._supervisor is not None:
            self._supervisor_killed = True
            self._supervisor.kill(signal.SIGKILL)

    def _maybe_over(self) -> None:
        if self._init is not None or self._supervisor is not None or self.state is State.ENDED:
            return
        self.state = State.ENDED
        self._disarm()
        if self._walls.group:
            self._remove_group()
        with contextlib.suppress(OSError):
            self._lifeline.close()
        if self._built is not None:
            self._report(self._failure or WallError(*self._why))
        self._ended(*self._why)

    def _remove_group(self, attempts: int = 10) -> None:
        """A group empties a moment after its last process ended; what stays is swept at the host's next start."""
        if cgroups.remove(self._walls.group) and attempts:
            self._host.loop.after(0.05, lambda: self._remove_group(attempts - 1))

    def _report(self, error: WallError | None) -> None:
        built, self._built = self._built, None
        if built is not None:
            built(error)

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._host.loop.after(seconds, callback)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
