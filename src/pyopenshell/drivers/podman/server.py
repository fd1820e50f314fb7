"""The front of the driver host for containers: whose init comes through which door, and what is done until it does.

Beside the requests of `local.server`: "prepare" {"sandbox_id", "instance_id"} makes directories and opens the door,
answered with what Podman must be told, or with the status of what runs already; "create" then waits for the init;
"abandon" {"sandbox_id", "failed"} ends that waiting.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable, Mapping

from pyopenshell.drivers.local.images.cache import Prepared
from pyopenshell.drivers.local.loop import Link
from pyopenshell.drivers.local.sandbox import State
from pyopenshell.drivers.local.server import Entry, Server
from pyopenshell.drivers.local.settings import walls_for
from pyopenshell.drivers.podman.door import Door
from pyopenshell.drivers.podman.files import DOOR, LOG, SOCKET, ContainerFiles
from pyopenshell.isolation import cgroups, channel
from pyopenshell.isolation.cgroups import Limits
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.walls import WallError, Walls

_Answered = Callable[[Message, list[int]], None]


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A door; behind it, once "create" asked, who wants to hear of the init."""

    door: Door
    link: Link
    answered: _Answered | None = None
    walls: Walls | None = None
    lifeline: int = -1


class ContainerServer(Server):
    _files: ContainerFiles

    def __init__(
        self,
        files: ContainerFiles,
        listener: socket.socket,
        zygote_end: None,
        watcher_end: socket.socket,
        entry: Entry,
    ) -> None:
        super().__init__(files, listener, zygote_end, watcher_end, entry)
        self._waiting: dict[str, _Waiting] = {}

    def _handlers(self) -> Mapping[str, Callable[[Link, Message, list[int]], None]]:
        return {**super()._handlers(), "prepare": self._prepare, "abandon": self._abandon}

    def _prepare(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox_id = str(message["sandbox_id"])
        self._files.root(sandbox_id)  # refuses a bad id
        if self._in_place(link, message, sandbox_id):
            return
        new = self._files.prepare(sandbox_id)
        try:
            uid, _ = self._files.host_ids(sandbox_id)
            self._shut(sandbox_id)
            door = Door(os.path.join(self._files.root(sandbox_id), DOOR), SOCKET, uid)
        except (WallError, OSError):
            if new:
                self._remove(self._files.discard(sandbox_id), lambda _complete: None)
            raise
        self._waiting[sandbox_id] = _Waiting(door, link)
        self.loop.add(door.listener.fileno(), lambda _events: self._knocked(sandbox_id))
        binds = [dataclasses.asdict(bind) for bind in self._files.binds(sandbox_id)]
        log = os.path.join(self._files.root(sandbox_id), LOG)
        link.send({"re": message["id"], "uid": uid, "binds": binds, "log": log})

    def _abandon(self, link: Link, message: Message, _fds: list[int]) -> None:
        sandbox_id = str(message["sandbox_id"])
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None and sandbox.state is State.BUILDING:
            failed = message["failed"]
            sandbox.abandon(str(failed["reason"]), str(failed["message"]), str(failed["fix"]))
        self._give_up(sandbox_id, lambda _complete: link.send({"re": message["id"]}))

    def _give_up(self, sandbox_id: str, done: Callable[[bool], None] = lambda _complete: None) -> None:
        """Nobody will come through this door; what was only prepared is removed."""
        self._shut(sandbox_id)
        only_prepared = sandbox_id not in self._sandboxes and self._files.unfinished(sandbox_id)
        self._remove(self._files.discard(sandbox_id) if only_prepared else [], done)

    def _lost(self, link: Link) -> None:
        for sandbox_id, waiting in list(self._waiting.items()):
            if waiting.link is link and waiting.answered is None:
                self._give_up(sandbox_id)
        super()._lost(link)

    def _shut(self, sandbox_id: str) -> bool:
        waiting = self._waiting.pop(sandbox_id, None)
        if waiting is None:
            return False
        self.loop.remove(waiting.door.listener.fileno())
        waiting.door.close()
        if waiting.lifeline >= 0:
            os.close(waiting.lifeline)
        return True

    # -- inits ---------------------------------------------------------------

    def launch(self, sandbox_id: str, walls: Walls, lifeline: int, answered: _Answered) -> None:
        waiting = self._waiting.get(sandbox_id)
        if waiting is None:
            refused = WallError("NotPrepared", "nothing was prepared for this container", "try again")
            self.loop.after(0, lambda: answered({"failed": refused.as_message()}, []))
            return
        waiting.answered, waiting.walls, waiting.lifeline = answered, walls, os.dup(lifeline)

    def _knocked(self, sandbox_id: str) -> None:
        waiting = self._waiting[sandbox_id]
        if waiting.answered is None or waiting.walls is None:
            self._give_up(sandbox_id)  # nobody asked for it yet: an order no driver of ours follows
            return
        answered, walls = waiting.answered, waiting.walls
        try:
            pid, pidfd, control = waiting.door.admit()
        except WallError as error:
            self._shut(sandbox_id)
            answered({"failed": error.as_message()}, [])
            return
        except OSError:
            return  # it left again; if it does not come back, Podman says that it ended
        with control:
            held = cgroups.held(pid, walls.limits)
            with contextlib.suppress(OSError):  # its end is seen by its pidfd
                channel.send(control, {"walls": walls.as_message(), "held": list(held)}, [waiting.lifeline])
            self._shut(sandbox_id)
            answered({"launched": pid, "held": held}, [pidfd, control.detach()])

    def _walls(self, sandbox_id: str, message: Message, image: Prepared | None) -> Walls:
        return walls_for(
            base64.b64decode(message["config"]),
            self._files.host_ids(sandbox_id),
            self._files.etc,
            (),
            owner=cgroups.owner_name(self._files.state),
            required=str(message["require"]),
            accept_weaker=bool(message["accept_weaker"]),
            limits=Limits(**message["limits"]),
        )

    def _ended(self, sandbox_id: str, reason: str, text: str) -> None:
        self._shut(sandbox_id)
        super()._ended(sandbox_id, reason, text)
