"""The driver host's front: gateway connections, requests, and what every sandbox borrows from the host.

Requests are {"id": n, "op": ..., ...}; answers {"re": n, ...} with "failed" on refusal. Unasked: {"status": ...} and
{"exit": name, "code": n}. Decides who hears what; how a sandbox lives is `sandbox.py`.
"""

from __future__ import annotations

import base64
import collections
import gc
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from pyopenshell.drivers.local.files import StateFiles, remove_tree
from pyopenshell.drivers.local.images import cache, workshop
from pyopenshell.drivers.local.images.cache import Prepared
from pyopenshell.drivers.local.loop import END_SIGNALS, Link, Loop, Watch, own_signals
from pyopenshell.drivers.local.sandbox import Sandbox, State
from pyopenshell.drivers.local.settings import walls_for
from pyopenshell.isolation import assurance, cgroups, channel, syscalls, zygote
from pyopenshell.isolation.cgroups import Limits
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.walls import WallError, Walls
from pyopenshell.supervisor.spec import Access, ConnectTo, SupervisorSpec

_FIRST_GATEWAY_SECONDS = 30.0
"""A host nobody talks to after this time was started by a gateway that died."""
_LEAVE_SECONDS = 10.0
"""Until the host leaves although a sandbox has not ended; its processes then die with the host."""
Entry = Callable[[SupervisorSpec, socket.socket], int]


class Server:
    def __init__(
        self,
        files: StateFiles,
        listener: socket.socket,
        zygote_end: socket.socket | None,
        watcher_end: socket.socket,
        entry: Entry,
    ) -> None:
        """`zygote_end`: None where inits come from somewhere else; then `launch` is overridden."""
        self.loop = Loop()
        self._files, self._listener, self._entry = files, listener, entry
        self._sandboxes: dict[str, Sandbox] = {}
        self._last: dict[str, dict[str, Any]] = {}
        """Status of sandboxes that ended while no gateway listened."""
        self._clients: set[Link] = set()
        self._owners: dict[str, tuple[Link, str]] = {}
        """Command name -> (gateway connection that waits for it, sandbox)."""
        self._launches: collections.deque[Callable[[Message, list[int]], None]] = collections.deque()
        self._after_end: dict[str, list[Callable[[], None]]] = {}
        self._sweepers = 0
        self._leaving = False
        self._zygote: Link | None = None
        if zygote_end is not None:
            self._zygote = Link(self.loop, zygote_end, self._launched, self._helper_died)
        self._watcher = Link(self.loop, watcher_end, lambda _message, fds: channel.close_all(fds), self._helper_died)
        self.loop.add(listener.fileno(), self._accept)
        self._expected = True
        """The gateway that started this host has yet to connect."""
        self.loop.after(_FIRST_GATEWAY_SECONDS, self._expect_nobody)
        self.loop.on_signals(END_SIGNALS, self._asked_to_end)
        self._remove(files.trash(), lambda _complete: None)

    def serve(self) -> None:
        """Until nobody needs this host, it is asked to end, or a helper died; then nothing of any sandbox is left."""
        self.loop.run()
        for sandbox in self._sandboxes.values():  # only where one did not end within _LEAVE_SECONDS
            sandbox.kill("HostDied", "the driver host ended")

    def _asked_to_end(self) -> None:
        """SIGTERM: commands get theirs, supervisors flush their logs, then the host leaves."""
        self._leave(lambda one: one.terminate("HostStopped", "the driver host was asked to end"))

    def _leave(self, end: Callable[[Sandbox], None]) -> None:
        if self._leaving:
            return
        self._leaving = True
        self.loop.after(_LEAVE_SECONDS, self.loop.stop)
        for sandbox in list(self._sandboxes.values()):
            end(sandbox)
        self._maybe_leave()

    # -- Surroundings ------------------------------------------------------

    def launch(
        self, sandbox_id: str, walls: Walls, lifeline: int, answered: Callable[[Message, list[int]], None]
    ) -> None:
        assert self._zygote is not None
        self._launches.append(answered)
        self._zygote.send({"launch": walls.as_message()}, [lifeline])

    def watch(self, init: int, notify: int, records: int, doors: Mapping[str, Any] | None) -> None:
        self._watcher.send({"watch": init, "doors": doors}, [notify, records])

    def main_log(self, sandbox_id: str) -> int:
        path = os.path.join(self._files.root(sandbox_id), "log", "main.log")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def fork_supervisor(self, request: Mapping[str, Any], init: int) -> tuple[int, socket.socket]:
        ours, theirs = channel.pair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_supervisor(request, init, theirs, parent)
        theirs.close()
        return pid, ours

    def _become_supervisor(
        self, request: Mapping[str, Any], init: int, control: socket.socket, parent: int
    ) -> NoReturn:
        code = 1
        try:
            zygote.die_with(parent)
            syscalls.close_except(control.fileno())
            syscalls.set_process_name("openshell-super")
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # holds keys: no core, no ptrace by others of this user
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            own_signals()
            gc.freeze()  # never collect objects whose descriptors were closed above
            code = self._entry(self._spec(request, init), control) or 0
        except BaseException:  # noqa: BLE001 - a fork must not run the host's loop
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _spec(self, request: Mapping[str, Any], init: int) -> SupervisorSpec:
        return SupervisorSpec(
            sandbox_id=request["sandbox_id"],
            name=request["name"],
            workspace=request["workspace"],
            instance_id=request["instance_id"],
            config=base64.b64decode(request["config"]),
            access=Access(**request["access"]),
            root=self._files.root(request["sandbox_id"]),
            init_pid=init,
            tunnel_idle_seconds=request["tunnel_idle_seconds"],
            connect_to=tuple(ConnectTo(**entry) for entry in request["connect_to"]),
        )

    def _launched(self, message: Message, fds: list[int]) -> None:
        self._launches.popleft()(message, fds)

    def _helper_died(self) -> None:
        print("zygote or watcher ended: leaving", file=sys.stderr)  # noqa: T201 - the host's log is its stderr
        self._leave(lambda one: one.abandon("HostDied", "a process of the driver host ended unexpectedly"))

    # -- gateways ----------------------------------------------------------

    def _accept(self, _events: int) -> None:
        sock, _ = self._listener.accept()
        _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if self._leaving or uid not in (0, os.geteuid()):  # who comes now starts a successor
            sock.close()
            return
        links: list[Link] = []
        link = Link(
            self.loop, sock, lambda message, fds: self._request(links[0], message, fds), lambda: self._lost(links[0])
        )
        links.append(link)
        self._clients.add(link)
        self._expected = False

    def _lost(self, link: Link) -> None:
        self._clients.discard(link)
        for name, (owner, sandbox_id) in list(self._owners.items()):
            if owner is link:
                # Nobody can read it or wait for it any more: tell it as a closed terminal would.
                del self._owners[name]
                self._sandboxes[sandbox_id].signal_command(name, signal.SIGHUP)
        self._maybe_leave()

    def _expect_nobody(self) -> None:
        self._expected = False
        self._maybe_leave()

    def _maybe_leave(self) -> None:
        wanted = (self._expected or self._clients) and not self._leaving
        if not wanted and not self._sandboxes and not self._sweepers:
            self.loop.stop()

    def _request(self, link: Link, message: Message, fds: list[int]) -> None:
        try:
            self._guarded(link, message, lambda: self._dispatch(link, message, fds))
        finally:
            channel.close_all(fds)

    def _dispatch(self, link: Link, message: Message, fds: list[int]) -> None:
        if self._leaving and message["op"] in ("create", "exec", "socket"):
            raise WallError("HostStopped", "the driver host is ending", "try again")
        self._handlers()[message["op"]](link, message, fds)

    def _guarded(self, link: Link, message: Message, work: Callable[[], None]) -> None:
        """What goes wrong in `work` is the answer to `message`."""
        try:
            work()
        except WallError as error:
            link.send({"re": message.get("id"), "failed": error.as_message()})
        except (KeyError, TypeError, ValueError) as error:
            bad = WallError("BadRequest", f"{type(error).__name__}: {error}", "use the driver of the same version")
            link.send({"re": message.get("id"), "failed": bad.as_message()})
        except OSError as error:
            broken = WallError("HostResources", str(error), "free descriptors, processes or disk space")
            link.send({"re": message.get("id"), "failed": broken.as_message()})

    def _handlers(self) -> Mapping[str, Callable[[Link, Message, list[int]], None]]:
        return {
            "hello": self._hello,
            "create": self._create,
            "stop": self._stop,
            "delete": self._delete,
            "exec": self._exec,
            "socket": self._socket,
            "signal": self._signal,
        }

    def _hello(self, link: Link, message: Message, _fds: list[int]) -> None:
        alive = [self._status(s) for s in self._sandboxes.values() if s.state is State.RUNNING]
        link.send({"re": message["id"], "pid": os.getpid(), "running": alive, "ended": list(self._last.values())})
        self._last.clear()

    def _create(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox_id = str(message["sandbox_id"])
        self._files.root(sandbox_id)  # refuses a bad id
        if self._in_place(link, message, sandbox_id):
            return
        self._with_image(link, message, lambda image: self._create_from(link, message, image))

    def _with_image(self, link: Link, message: Message, go_on: Callable[[Prepared | None], None]) -> None:
        """`go_on` with the image that is asked for, prepared; or an answer why not."""
        reference = str(message["image"])
        if not reference:
            go_on(None)
            return
        pinned = self._files.pinned_image(str(message["sandbox_id"]), reference)
        if pinned and (known := cache.find(self._files.images, pinned)) is not None:
            go_on(known)
            return
        self._sweepers += 1

        def answered(found: Prepared | WallError) -> None:
            self._sweepers -= 1
            if isinstance(found, WallError):
                link.send({"re": message["id"], "failed": found.as_message()})
            else:
                self._guarded(link, message, lambda: go_on(found))
            self._maybe_leave()

        workshop.prepare(self.loop, self._files.images, reference, answered)

    def _create_from(self, link: Link, message: Message, image: Prepared | None) -> None:
        if self._leaving:  # it was asked for before, and the image took its time
            raise WallError("HostStopped", "the driver host is ending", "try again")
        # Nothing below that lives on may hold the message: it has the sandbox's key.
        sandbox_id, number = str(message["sandbox_id"]), message["id"]
        new = self._files.prepare(sandbox_id)
        self._last.pop(sandbox_id, None)
        try:
            if image is not None:
                message = {**message, "image_environment": image.environment}
                if image.digest:
                    self._files.pin_image(sandbox_id, str(message["image"]), image.digest)
            walls = self._walls(sandbox_id, message, image)
        except WallError as error:
            refused = {"re": number, "failed": error.as_message()}
            self._remove(self._files.discard(sandbox_id) if new else [], lambda _complete: link.send(refused))
            return

        def built(error: WallError | None) -> None:
            sandbox = self._sandboxes[sandbox_id]
            if error is None:
                self._files.finish(sandbox_id)
                link.send({"re": number, "status": self._status(sandbox)})
                self._publish(self._status(sandbox))
                return
            del self._sandboxes[sandbox_id]

            left = self._files.discard(sandbox_id) if new else []
            self._remove(left, lambda _complete: link.send({"re": number, "failed": error.as_message()}))

        self._sandboxes[sandbox_id] = Sandbox(
            self,
            message,
            walls,
            built,
            lambda reason, text: self._ended(sandbox_id, reason, text),
            lambda name, code: self._exited(sandbox_id, name, code),
        )

    def _in_place(self, link: Link, message: Message, sandbox_id: str) -> bool:
        """True when nothing is to be built now: it runs already, or another instance must end first."""
        existing = self._sandboxes.get(sandbox_id)
        if existing is None:
            return False
        if existing.instance_id == message["instance_id"] and existing.state is State.RUNNING:
            link.send({"re": message["id"], "status": self._status(existing)})
            return True
        self._when_ended(sandbox_id, lambda: self._request(link, message, []))
        existing.terminate("Replaced", "a newer instance takes its place")
        return True

    def _walls(self, sandbox_id: str, message: Message, image: Prepared | None) -> Walls:
        """Raises WallError."""
        return walls_for(
            base64.b64decode(message["config"]),
            self._files.host_ids(sandbox_id),
            self._files.etc if image is None else self._files.etc_over(image.root),
            self._files.binds(sandbox_id),
            image="" if image is None else image.root,
            sealed=image is not None and bool(image.digest),
            owner=cgroups.owner_name(self._files.state),
            required=str(message["require"]),
            accept_weaker=bool(message["accept_weaker"]),
            group=cgroups.group_name(self._files.state, sandbox_id),
            limits=Limits(**message["limits"]),
        )

    def _ended(self, sandbox_id: str, reason: str, text: str) -> None:
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            status = {**self._status(sandbox), "phase": "stopped", "reason": reason, "message": text}
            self._publish(status)
            if not self._clients:
                self._last[sandbox_id] = status
        for callback in self._after_end.pop(sandbox_id, []):
            callback()
        self._maybe_leave()

    def _when_ended(self, sandbox_id: str, callback: Callable[[], None]) -> None:
        self._after_end.setdefault(sandbox_id, []).append(callback)

    def _stop(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox_id = str(message["sandbox_id"])
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            link.send({"re": message["id"]})
            return
        self._when_ended(sandbox_id, lambda: link.send({"re": message["id"]}))
        sandbox.terminate("Stopped")

    def _delete(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox_id = str(message["sandbox_id"])
        self._files.root(sandbox_id)

        def remove() -> None:
            self._last.pop(sandbox_id, None)
            self._remove(self._files.discard(sandbox_id), answer)

        def answer(complete: bool) -> None:
            if complete:
                link.send({"re": message["id"]})
                return
            remain = WallError("FilesRemain", "some files could not be removed", "see host.log; retried at next start")
            link.send({"re": message["id"], "failed": remain.as_message()})

        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            remove()
        else:
            self._when_ended(sandbox_id, remove)
            sandbox.kill("Deleted")

    def _exec(self, link: Link, message: Message, fds: list[int]) -> None:
        sandbox = self._sandboxes.get(str(message["sandbox_id"]))
        if sandbox is None:
            raise WallError("NotRunning", "the sandbox is not running", "start it")
        name = str(message["name"])

        def answered(answer: Message, gifts: list[int]) -> None:
            try:
                if "failed" in answer:
                    self._owners.pop(name, None)
                    link.send({"re": message["id"], "failed": answer["failed"]})
                else:
                    link.send({"re": message["id"], "pid": answer["pid"]}, gifts)
            finally:
                channel.close_all(gifts)

        self._owners[name] = (link, sandbox.id)
        sandbox.start_command(name, message["command"], fds, answered)

    def _socket(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox = self._sandboxes.get(str(message["sandbox_id"]))
        if sandbox is None:
            raise WallError("NotRunning", "the sandbox is not running", "start it")

        def answered(answer: Message, gifts: list[int]) -> None:
            try:
                failed = {"failed": answer["failed"]} if "failed" in answer else {}
                link.send({"re": message["id"], **failed}, gifts)
            finally:
                channel.close_all(gifts)

        sandbox.open_socket(f"socket-{message['id']}-{id(link)}", bool(message["ipv6"]), answered)

    def _signal(self, _link: Link, message: Message, _fds: list[int]) -> None:
        sandbox = self._sandboxes.get(str(message["sandbox_id"]))
        if sandbox is not None:
            sandbox.signal_command(str(message["name"]), int(message["signal"]))

    def _exited(self, sandbox_id: str, name: str, code: int) -> None:
        owner = self._owners.pop(name, None)
        if owner is not None:
            owner[0].send({"exit": name, "code": code})
        sandbox = self._sandboxes.get(sandbox_id)
        if name == "main" and sandbox is not None and sandbox.state is State.RUNNING:
            self._publish(self._status(sandbox))

    def _status(self, sandbox: Sandbox) -> dict[str, Any]:
        notes = "; ".join(loss.text for loss in sandbox.losses)
        return {
            "sandbox_id": sandbox.id,
            "instance_id": sandbox.instance_id,
            "phase": "running" if sandbox.main_exit is None else "exited",
            "exit_code": sandbox.main_exit,
            "reason": "Degraded" if notes else "",
            "message": notes,
            "assurance": assurance.level(sandbox.losses),
            "tier": sandbox.tier,
            "losses": [loss.text for loss in sandbox.losses],
            "limits": sandbox.limits,
        }

    def _publish(self, status: dict[str, Any]) -> None:
        for link in self._clients:
            link.send({"status": status})

    def _remove(self, paths: list[str], done: Callable[[bool], None]) -> None:
        """Delete in a child: an agent's tree can be large, and the loop must go on. `done(everything is gone)`."""
        if not paths:
            done(True)
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _sweep(paths, parent)
        self._sweepers += 1

        def swept(status: int | None) -> None:
            self._sweepers -= 1
            done(status == 0)
            self._maybe_leave()

        Watch(self.loop, os.pidfd_open(pid), pid, swept)


def _sweep(paths: list[str], parent: int) -> NoReturn:
    code = 1
    try:
        zygote.die_with(parent)
        syscalls.close_except()
        own_signals()
        syscalls.set_process_name("openshell-sweep")
        for path in paths:
            remove_tree(path)
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not run the host's loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
