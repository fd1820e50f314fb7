"""The gateway's side of the Podman driver: images and containers over Podman's API, everything else as for local ones.

Implements `drivers.base.Driver`. The driver host (`podman.host`) owns supervisors and watcher and runs every command
through the container's init, so that neither a gateway nor a Podman service that goes away ends a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyopenshell
from pyopenshell.drivers.base import Capabilities, DriverError, ExecRequest, Process, Workload, WorkloadStatus
from pyopenshell.drivers.local.driver import DEFAULT_SUPERVISOR, LocalDriver, check_environment, status_of
from pyopenshell.drivers.podman import container
from pyopenshell.drivers.podman.api import ApiError, Podman
from pyopenshell.drivers.podman.container import Image, Place
from pyopenshell.isolation import cgroups
from pyopenshell.isolation.walls import UID

_HOST = "pyopenshell.drivers.podman.host"
PULL_SECONDS: Final = 1800.0
"""An image may be large and its registry slow (contract/gateway.md 10, image_preparation_timeout_seconds)."""
_MAKE_SECONDS: Final = 600.0
"""A rootless Podman copies an image the first time it is used with other ids."""
_OLDEST: Final = (4, 0)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_LOOK_SECONDS: Final = 1.0
"""Between looks at a container whose init has not reported yet; it does so within a tenth of that."""
_LOG_TAIL: Final = 500
_WITHOUT: Final = "or without Podman: docker save IMAGE -o image.tar, then --from ./image.tar"


def default_socket(environ: Mapping[str, str] = os.environ) -> str:
    """Where Podman's service listens: $CONTAINER_HOST if it is a unix socket, root's, or this user's."""
    host = environ.get("CONTAINER_HOST", "")
    if host.startswith("unix://"):
        return host.removeprefix("unix://")
    if os.geteuid() == 0:
        return "/run/podman/podman.sock"
    return f"{environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/podman/podman.sock"


class PodmanDriver:
    """Sandboxes in containers of the Podman behind `socket_path`, rootful or rootless as that is.

    `state_dir` is private to this driver of one gateway. With `pull` an image that is not here is fetched.
    """

    def __init__(
        self, state_dir: Path, socket_path: str = "", *, pull: bool = True, supervisor: str = DEFAULT_SUPERVISOR
    ) -> None:
        self._state = state_dir.absolute()
        self._podman = Podman(socket_path or default_socket())
        self._host = LocalDriver(state_dir, supervisor=supervisor, host=_HOST)
        self._pull = pull
        self._locks: dict[str, asyncio.Lock] = {}
        self._map: list[dict[str, int]] | None = None
        """Of user ids, as Podman has it; None: not asked yet."""
        self._looked = False
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return "podman"

    @property
    def version(self) -> str:
        return pyopenshell.__version__

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        return {self.name: Capabilities(images=True)}

    async def start(self) -> Sequence[WorkloadStatus]:
        """Needs no Podman: what runs is the driver host's to tell. Starts nothing where there is no sandbox."""
        first, self._looked = not self._looked, True
        if first and not any(self._state.glob("sandboxes/*")):
            return ()
        running = await self._host.start()
        if not first:
            return ()
        instances = {status.instance_id for status in running}
        self._sweeping = asyncio.create_task(self._sweep(instances))
        return running

    async def create(self, workload: Workload) -> WorkloadStatus:
        if not workload.image:
            raise DriverError("ImageRequired", "a container needs an image", "name one: --from IMAGE")
        check_environment(workload.environment)
        async with self._locks.setdefault(workload.sandbox_id, asyncio.Lock()):
            sizes, image = await self._available(workload.image)
            ids = {"sandbox_id": workload.sandbox_id, "instance_id": workload.instance_id}
            prepared = await self._host.ask({"op": "prepare", **ids})
            if "status" in prepared:
                return status_of(prepared["status"])
            place = Place(prepared["uid"], tuple(prepared["binds"]), prepared["log"], self._owner)
            try:
                await self._make(workload, image, place, sizes)
                return await self._run(workload, image, place)
            except BaseException:
                await asyncio.shield(self._undo(workload))
                raise

    async def stop(self, sandbox_id: str) -> None:
        await self._host.stop(sandbox_id)
        await self._gone(sandbox_id)

    async def delete(self, sandbox_id: str) -> None:
        await self._host.delete(sandbox_id)
        await self._gone(sandbox_id)
        self._locks.pop(sandbox_id, None)

    async def exec(self, sandbox_id: str, request: ExecRequest) -> Process:
        return await self._host.exec(sandbox_id, request)

    async def dial(self, sandbox_id: str, port: int) -> socket.socket:
        return await self._host.dial(sandbox_id, port)

    def events(self) -> AsyncIterator[WorkloadStatus]:
        return self._host.events()

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._host.close()

    # -- Podman and its images ------------------------------------------------

    @property
    def _owner(self) -> str:
        return cgroups.owner_name(str(self._state))

    async def _available(self, reference: str) -> tuple[list[dict[str, int]], Image]:
        """Podman's map of user ids, and the image. Raises DriverError.

        Whoever gave an image by name did not have to know that this asks for Podman: both ways on are said.
        """
        try:
            return await self._ready(), await self._image(reference)
        except DriverError as error:
            if error.reason != "PodmanUnreachable":
                raise
            text = f"{reference!r} names an image of a registry, which takes Podman; {error.message}"
            raise DriverError(error.reason, text, f"{error.fix}; {_WITHOUT}") from error

    async def _ready(self) -> list[dict[str, int]]:
        """Podman's map of user ids, empty as root. Raises DriverError when there is no Podman we can work with."""
        if self._map is not None:
            return self._map
        info = await self._call("GET", "/info")
        version = str(info.get("version", {}).get("Version", ""))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers < _OLDEST:
            raise DriverError("PodmanTooOld", f"this is Podman {version or '?'}", "install Podman 4.0 or newer")
        host = info.get("host", {})
        rootless = bool(host.get("security", {}).get("rootless"))
        sizes = (host.get("idMappings") or {}).get("uidmap") or []
        groups = (host.get("idMappings") or {}).get("gidmap") or []
        if rootless and min(_size(sizes), _size(groups)) < UID + 2:
            raise DriverError(
                "NoSubordinateIds",
                "this user has too few subordinate ids for a container",
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER; podman system migrate",
            )
        self._map = (sizes if _size(sizes) <= _size(groups) else groups) if rootless else []
        return self._map

    async def _image(self, reference: str) -> Image:
        """The image, fetched if it is not here. Raises DriverError."""
        path = f"/images/{quote(reference, safe='/:@')}/json"
        try:
            found = await self._podman.call("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise _refused(error) from error
            if not self._pull:
                text = f"there is no image {reference!r}, and this gateway fetches none"
                raise DriverError("ImageNotFound", text, f"podman pull {reference}") from error
            await self._fetch(reference)
            found = await self._call("GET", path)
        wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
        if found.get("Os") != "linux" or found.get("Architecture") != wanted:
            is_for = f"{found.get('Os')}/{found.get('Architecture')}"
            text = f"the image {reference!r} is for {is_for}, this machine is linux/{wanted}"
            raise DriverError("ImageArchitecture", text, "choose an image for this machine: emulation escapes seccomp")
        return Image(found["Id"], tuple((found.get("Config") or {}).get("Env") or ()))

    async def _fetch(self, reference: str) -> None:
        query = {"reference": reference, "policy": "missing", "quiet": "true"}
        try:
            text = await self._podman.call("POST", "/images/pull", query, timeout=PULL_SECONDS)
        except ApiError as error:
            raise _not_fetched(reference, error.message) from error
        lines = text.splitlines() if isinstance(text, str) else [json.dumps(text)]
        for line in lines:
            with contextlib.suppress(ValueError, AttributeError):
                if why := json.loads(line).get("error"):
                    raise _not_fetched(reference, str(why))

    async def _call(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        try:
            return await self._podman.call(method, path, *arguments, **options)
        except ApiError as error:
            raise _refused(error) from error

    # -- containers --------------------------------------------------------------

    async def _make(self, workload: Workload, image: Image, place: Place, sizes: Sequence[Mapping[str, int]]) -> None:
        """The container, not started."""
        ids = container.mapping(place.uid, sizes)
        body = container.specification(workload, image, place, ids, container.settings_here())
        await self._call("POST", "/containers/create", None, body, timeout=_MAKE_SECONDS)
        path = f"/containers/{container.name_of(workload)}/archive"
        await self._call("PUT", path, {"path": "/"}, container.additions())

    async def _run(self, workload: Workload, image: Image, place: Place) -> WorkloadStatus:
        """Start the container, wait for its init and the supervisor; whichever fails says why."""
        variables = {**container.environment(image), **workload.environment}
        building = asyncio.create_task(
            self._host.create(dataclasses.replace(workload, image="", environment=variables))
        )
        watching = asyncio.create_task(self._watch(workload, place))
        try:
            await asyncio.wait({building, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not building.done():
                failed = watching.result()
                message = {"reason": failed.reason, "message": failed.message, "fix": failed.fix}
                await self._host.ask({"op": "abandon", "sandbox_id": workload.sandbox_id, "failed": message})
            return await building
        finally:
            for task in (building, watching):
                task.cancel()
            await asyncio.gather(building, watching, return_exceptions=True)

    async def _watch(self, workload: Workload, place: Place) -> DriverError:
        """Start it; returns what is wrong when it does not start, or ends before anybody said that it stands."""
        path = f"/containers/{container.name_of(workload)}"
        try:
            await self._call("POST", f"{path}/start", timeout=_MAKE_SECONDS)
            while await self._runs(path):  # noqa: ASYNC110 - Podman tells nobody
                await asyncio.sleep(_LOOK_SECONDS)
        except DriverError as error:
            return error
        await asyncio.sleep(_LOOK_SECONDS)  # an init that failed said why to the driver host, which knows best
        log = await asyncio.to_thread(_tail, place.log)
        text = f"the container ended before its init reported: {log or 'it said nothing'}"
        return DriverError("ContainerEnded", text, "look at `podman events` and the image")

    async def _runs(self, path: str) -> bool:
        try:
            found = await self._podman.call("GET", f"{path}/json")
        except ApiError as error:
            if error.status == 404:  # ended, and removed by Podman itself
                return False
            raise _refused(error) from error
        return bool(found["State"]["Running"])

    async def _undo(self, workload: Workload) -> None:
        """Whatever of a failed creation is left; best effort, because the reason is told already."""
        failed = {"reason": "Abandoned", "message": "the creation was given up", "fix": ""}
        with contextlib.suppress(DriverError):
            await self._host.ask({"op": "abandon", "sandbox_id": workload.sandbox_id, "failed": failed})
        await self._remove(container.name_of(workload))

    async def _remove(self, name: str) -> None:
        """Best effort: a container whose init ended is removed by Podman itself."""
        with contextlib.suppress(ApiError, DriverError):
            await self._podman.call("DELETE", f"/containers/{name}", {"force": "true", "v": "true", "ignore": "true"})

    async def _gone(self, sandbox_id: str) -> None:
        """Its processes ended: wait until Podman has let go of what it made. Without a Podman it does so by itself."""
        with contextlib.suppress(ApiError, DriverError):
            for name in await self._ours({"label": [f"{container.LABEL}sandbox-id={sandbox_id}"]}):
                await self._remove(name)

    async def _ours(self, filters: Mapping[str, list[str]]) -> dict[str, str]:
        """Name -> instance of this state directory's containers. Raises ApiError, DriverError."""
        labels = [f"{container.OWNER}={self._owner}", *filters.get("label", ())]
        query = {"all": "true", "filters": json.dumps({"label": labels})}
        listed = await self._podman.call("GET", "/containers/json", query)
        return {one["Names"][0]: (one.get("Labels") or {}).get(f"{container.LABEL}instance-id", "") for one in listed}

    async def _sweep(self, running: set[str]) -> None:
        """Containers that a killed gateway made and nobody guards: never started, or on their way out."""
        with contextlib.suppress(ApiError, DriverError):
            for name, instance in (await self._ours({})).items():
                if instance not in running:
                    await self._remove(name)


def _size(entries: Sequence[Mapping[str, int]]) -> int:
    return sum(int(entry["size"]) for entry in entries)


def _refused(error: ApiError) -> DriverError:
    return DriverError("PodmanRefused", f"Podman: {error.message}", "")


def _not_fetched(reference: str, why: str) -> DriverError:
    return DriverError(
        "ImageNotFound", f"the image {reference!r} cannot be had: {why[:1000]}", "podman pull it by hand"
    )


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split(" ", 3)[-1].strip() for line in file]
    except OSError:
        return ""
    return " ".join(lines)[-_LOG_TAIL:]
