"""The life of sandboxes: create, stop, start, delete, and the phase everybody sees (contract/gateway.md 1.2).

Decides phases and their order; how a workload comes to be is the driver's business, what it enforces is not known here.
Phase READY means exactly: the workload runs and its supervisor is connected.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.drivers.base import ConnectTo, Driver, DriverError, GatewayAccess, Workload, WorkloadStatus
from pyopenshell.gateway import pages, presence, records, restarts, specs, templates
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.clock import Clock, system_clock
from pyopenshell.gateway.errors import GatewayError, exists, not_found, precondition, required
from pyopenshell.gateway.petnames import petname
from pyopenshell.gateway.records import Record, State
from pyopenshell.gateway.restarts import Restarts
from pyopenshell.gateway.revisions import Revisions
from pyopenshell.gateway.sessions import Sessions
from pyopenshell.gateway.snapshots import Snapshots
from pyopenshell.gateway.store import Store, forget_sandbox
from pyopenshell.gateway.store.schema import sandboxes
from pyopenshell.gateway.tasks import Tasks
from pyopenshell.gateway.workspaces import require_active
from pyopenshell.policy.model import Policy
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

PROVISIONING: Final = openshell_pb2.SANDBOX_PHASE_PROVISIONING
READY: Final = openshell_pb2.SANDBOX_PHASE_READY
ERROR: Final = openshell_pb2.SANDBOX_PHASE_ERROR
DELETING: Final = openshell_pb2.SANDBOX_PHASE_DELETING
STOPPING: Final = openshell_pb2.SANDBOX_PHASE_STOPPING
STOPPED: Final = openshell_pb2.SANDBOX_PHASE_STOPPED
STARTING: Final = openshell_pb2.SANDBOX_PHASE_STARTING
COMPLETED: Final = openshell_pb2.SANDBOX_PHASE_COMPLETED

SESSIONS: Final = "sessions"

TRANSIENT: Final = frozenset({PROVISIONING, STARTING, STOPPING, DELETING})
TERMINAL: Final = frozenset({READY, ERROR, STOPPED, COMPLETED})
"""Phases nothing leaves on its own."""

_RETRY_FIRST, _RETRY_LAST = 0.5, 30.0  # seconds between attempts to reach a driver that went away

_REVIVED_AT_ONCE: Final = 4
"""Sandboxes started again at a time after a reboot: the machine has other things to do, and new ones go first."""

_log = logging.getLogger(__name__)


def phase_name(phase: int) -> str:
    """ "Ready" for SANDBOX_PHASE_READY."""
    return openshell_pb2.SandboxPhase.Name(phase).removeprefix("SANDBOX_PHASE_").capitalize()


@dataclasses.dataclass(slots=True)
class Live:
    """What is known of a sandbox beyond its row. `busy` while an operation decides its phase."""

    epoch: int
    desired: str
    instance_id: str = ""
    running: bool = False
    busy: bool = False
    restarted: bool = False
    exit_code: int | None = None
    failure: tuple[str, str] | None = None
    standing: WorkloadStatus | None = None
    """What the driver said of the walls as built."""
    restarts: Restarts = dataclasses.field(default_factory=Restarts)
    session: str = ""
    """Of its supervisor at another gateway."""
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    def state(self, *, connected: bool) -> State:
        """The phase that follows from all of it. Pure."""
        if self.desired == "deleted":
            return State(DELETING, "Deleting", "The sandbox is being deleted", self.exit_code)
        if self.desired == "stopped":
            if self.running:
                return State(STOPPING, "Stopping", "The sandbox is being stopped", self.exit_code)
            return State(STOPPED, "Stopped", "The sandbox is stopped; its files are kept", self.exit_code)
        if self.restarts.pending is not None:
            return State(STARTING, "Restarting", self.restarts.coming)
        if self.failure is not None:
            return State(ERROR, *self.failure, self.exit_code)
        if self.exit_code is not None:
            phase = COMPLETED if self.exit_code == 0 else ERROR
            return State(phase, "MainProcessExited", f"Main process exited with code {self.exit_code}", self.exit_code)
        if self.running and connected:
            return State(READY, "DependenciesReady", "Supervisor session connected")
        waiting = STARTING if self.restarted else PROVISIONING
        if self.running:
            return State(waiting, "DependenciesNotReady", "Supervisor session disconnected")
        return State(waiting, "Starting", "The workload is being started")


class Sandboxes:
    """All sandboxes of one gateway.

    `access(sandbox_id, epoch)` makes what a supervisor needs to reach this gateway as that sandbox. `owner` names this
    gateway among those that share its database: it runs the sandboxes that it made, and nobody else does.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        revisions: Revisions,
        snapshots: Snapshots,
        sessions: Sessions,
        driver: Driver,
        access: Callable[[str, int], GatewayAccess],
        connect_to: Sequence[ConnectTo] = (),
        tunnel_idle_seconds: int = 86400,
        clock: Clock = system_clock,
        *,
        owner: str = "",
        new_boot: bool = False,
    ) -> None:
        """`new_boot`: the machine was started anew since a gateway last ran here."""
        self._store, self._bus, self._clock, self._owner = store, bus, clock, owner
        self._revisions, self._snapshots, self._sessions = revisions, snapshots, sessions
        self._driver, self._access, self._connect_to = driver, access, tuple(connect_to)
        self._tunnel_idle = tunnel_idle_seconds
        self._live: dict[str, Live] = {}
        self._tasks = Tasks()
        self._driver_starting = asyncio.Lock()
        self._driver_started = False
        self._closing = False
        self.driver_trouble = ""
        """Why no sandbox can be started now, in one sentence; "" when they can."""
        self._absent = restarts.MACHINE if new_boot else restarts.LOST
        """Why a sandbox that should run does not when the gateway starts."""
        self._reviving = asyncio.Semaphore(_REVIVED_AT_ONCE)
        sessions.changed = self._session_changed

    # ---- start and end of the gateway ---------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what was stored: from now on supervisors of earlier times may connect."""

        # A file has one gateway, whatever it was called before; a shared database says whose each sandbox is.
        mine = [sandboxes.c.owner.in_(("", self._owner))] if self._store.shared else []

        def write(tx: sa.Connection) -> None:
            now = self._clock()
            for record in records.every(tx, *mine):  # one transaction for all: nobody is connected here yet
                state = _live(record).state(connected=bool(record.session))
                records.write(tx, record.id, state, now, owner=self._owner)

        try:
            await self._store.run(write)
        except GatewayError as error:  # whoever must delete sandboxes to make room needs a gateway for it
            _log.error("phases stay as they were stored: %s", error.message)
        for record in await self._store.run(lambda tx: records.every(tx, *mine)):
            self._live[record.id] = _live(record)
        if self._store.shared:
            await self._store.run(self._forget_sessions)
            self._tasks.spawn(self._follow_sessions(), "sessions at other gateways")

    async def take_up(self) -> None:
        """Start the driver and take up what runs. A driver that cannot start is reported by the next create."""
        try:
            await self._ensure_driver()
        except DriverError as error:
            self.driver_trouble = error.message
            _log.error("driver %s cannot start: %s %s", self._driver.name, error.message, error.fix)

    def let_go(self) -> None:
        """From now on a session that ends is our doing: phases stay as they are until the next start."""
        self._closing = True

    async def close(self) -> None:
        """End what is under way and leave the driver; workloads go on."""
        self.let_go()
        await self._tasks.close()
        await self._driver.close()

    async def epoch_of(self, sandbox_id: str) -> int | None:
        """The token epoch a sandbox accepts; None when there is no such sandbox or it must not call any more."""
        live = self._live.get(sandbox_id)
        if live is not None:
            return live.epoch if live.desired == "running" else None
        if not self._store.shared:
            return None
        # Another gateway's: never from memory, so that a revocation there holds here at once.
        query = sa.select(sandboxes.c.token_epoch).where(sandboxes.c.id == sandbox_id, sandboxes.c.desired == "running")
        return await self._store.run(lambda tx: tx.scalar(query))

    # ---- operations ---------------------------------------------------------------------------------------------

    async def create(
        self, request: openshell_pb2.CreateSandboxRequest, workspace: str, author: str, wait: float
    ) -> Record:
        """A new sandbox; returns once it is ready, failed, or `wait` seconds went by. Raises GatewayError."""
        made_from = ""
        if name := request.workload_template:
            if not request.HasField("spec"):
                raise required("spec")
            template = await self._store.run(lambda tx: templates.find(tx, workspace, name))
            request = templates.applied(request, template)
            made_from = f"{template.metadata.name}@{template.metadata.resource_version}"
        policy, wanted = specs.checked(request, self._driver.capabilities)
        specs.remember_driver(request.spec, wanted.driver)
        record = Record(
            id=str(uuid.uuid4()),
            name=request.name,
            workspace=workspace,
            phase=PROVISIONING,
            desired="running",
            spec=request.spec,
            status=openshell_pb2.SandboxStatus(),
            labels=dict(request.labels),
            annotations=dict(request.annotations),
            resource_version=1,
            created_ms=self._clock(),
            instance_id="",
            token_epoch=0,
            template=made_from,
            owner=self._owner,
        )
        # A client that hangs up does not leave half a sandbox behind: the operation is ours, not the call's.
        await asyncio.shield(self._tasks.spawn(self._create(record, policy, author), f"create {record.id}"))
        return await self.settled(record.id, wait)

    async def get(self, workspace: str, name: str, hold: float = 0.0) -> Record:
        """One sandbox. While its phase is about to change, wait up to `hold` seconds for that. Raises NOT_FOUND."""
        record = await self._store.run(lambda tx: records.by_name(tx, workspace, name))
        if hold <= 0 or record.phase not in TRANSIENT:
            return record
        return await self.settled(record.id, hold)

    async def by_id(self, sandbox_id: str) -> Record:
        return await self._store.run(lambda tx: records.by_id(tx, sandbox_id))

    async def page(
        self, workspace: str | None, selector: str, size: int, after: pages.Cursor | None
    ) -> tuple[list[Record], pages.Cursor | None]:
        return await self._store.run(lambda tx: records.page(tx, workspace, selector, size, after))

    async def stop(self, workspace: str, name: str) -> Record:
        """End every process and keep the files. Raises FAILED_PRECONDITION unless it runs or failed."""
        record = await self._mine(workspace, name)
        return await asyncio.shield(self._tasks.spawn(self._stop(record.id), f"stop {record.id}"))

    async def start(self, workspace: str, name: str, wait: float) -> Record:
        """Run a stopped sandbox again, on the files it had. Raises FAILED_PRECONDITION unless it is stopped."""
        record = await self._mine(workspace, name)
        await asyncio.shield(self._tasks.spawn(self._start(record.id), f"start {record.id}"))
        return await self.settled(record.id, wait)

    async def delete(self, workspace: str, name: str) -> str:
        """Remove a sandbox and everything that belongs to it. Returns its id. Raises NOT_FOUND."""
        record = await self._mine(workspace, name)
        await asyncio.shield(self._tasks.spawn(self._delete(record.id), f"delete {record.id}"))
        return record.id

    async def ready(self, workspace: str, name: str, grace: float) -> Record:
        """A sandbox commands can run in. A supervisor that just reconnects is waited for, `grace` seconds at most."""
        record = await self._mine(workspace, name)
        live = self._live.get(record.id)
        if record.phase != READY and live is not None and live.running and record.phase in TRANSIENT:
            record = await self.settled(record.id, grace)
        if record.phase != READY:
            raise precondition("sandbox is not ready")
        return record

    async def settled(self, sandbox_id: str, wait: float) -> Record:
        """The sandbox once its phase is not transient, or after `wait` seconds as it is then. Raises NOT_FOUND."""
        with self._bus.subscribe(f"sandbox:{sandbox_id}", capacity=1) as changes:
            record = await self.by_id(sandbox_id)
            try:
                async with asyncio.timeout(max(wait, 0)):
                    while record.phase in TRANSIENT:
                        await anext(changes)
                        record = await self.by_id(sandbox_id)
            except TimeoutError:
                return await self.by_id(sandbox_id)
            return record

    async def main_process_exited(self, sandbox_id: str, instance_id: str, exit_code: int) -> None:
        """What a supervisor saw; a report about an earlier instance is ignored."""
        await self._on_status(WorkloadStatus(sandbox_id, instance_id, "exited", exit_code))

    async def _mine(self, workspace: str, name: str) -> Record:
        """Raises NOT_FOUND, or FAILED_PRECONDITION for a sandbox that another gateway runs."""
        record = await self.get(workspace, name)
        if record.id not in self._live and record.owner != self._owner:
            raise precondition(
                f"sandbox '{record.name}' runs on the host of another gateway ({record.owner}), which must be asked",
                "OTHER_GATEWAY",
            )
        return record

    # ---- operations, one at a time per sandbox ------------------------------------------------------------------

    async def _create(self, record: Record, policy: Policy, author: str) -> None:
        def insert(tx: sa.Connection) -> None:
            require_active(tx, record.workspace)
            name = record.name or petname(_Taken(tx, record.workspace))
            try:
                records.insert(tx, dataclasses.replace(record, name=name))
            except sa.exc.IntegrityError:
                raise exists(f"sandbox '{name}' already exists") from None
            records.write(tx, record.id, Live(0, "running").state(connected=False), record.created_ms)
            if not record.spec.HasField("policy"):
                # Nobody gave one: the restrictive default is revision 1, so that approvals have a base.
                self._revisions.append(tx, record.id, policy, origin="initial", author=author)

        await self._store.run(insert)
        live = self._live[record.id] = Live(epoch=0, desired="running", restarts=Restarts(_restartable(record)))
        async with live.lock:
            try:
                await self._bring_up(record.id, live)
            except Exception:
                await self._forget(record.id)
                raise

    async def _stop(self, sandbox_id: str) -> Record:
        live = self._existing(sandbox_id)
        async with live.lock:
            record = await self.by_id(sandbox_id)
            if record.phase in (STOPPED, STOPPING, DELETING):
                current = phase_name(record.phase)
                raise precondition(f"sandbox must be Ready to stop (current phase: {current})")
            live.desired, live.busy = "stopped", True
            live.restarts.forgive()
            live.running = True  # until the driver says it ended
            try:
                await self._try_settle(sandbox_id, desired="stopped")
                await self._driver_call(self._ensure_driver())
                await self._driver_call(self._driver.stop(sandbox_id))
                live.running, live.exit_code, live.failure = False, None, None
            except GatewayError:
                if live.running:
                    live.desired = "running"  # it still does: whoever asked may ask again
                raise
            finally:
                live.busy = False
                await self._settle(sandbox_id, desired=live.desired)
            self._sessions.close(sandbox_id)
            return await self.by_id(sandbox_id)

    async def _start(self, sandbox_id: str) -> None:
        live = self._existing(sandbox_id)
        async with live.lock:
            record = await self.by_id(sandbox_id)
            if record.phase != STOPPED:
                current = phase_name(record.phase)
                raise precondition(f"sandbox must be Stopped to start (current phase: {current})")
            live.desired, live.restarted = "running", True
            live.restarts.forgive()
            await self._revive(sandbox_id, live)

    async def _delete(self, sandbox_id: str) -> None:
        live = self._existing(sandbox_id)
        # At once, not after the lock: its token is void and waiting operations see that it goes.
        live.desired = "deleted"
        await self._try_settle(sandbox_id, desired="deleted")
        self._sessions.close(sandbox_id)
        async with live.lock:
            if sandbox_id not in self._live:
                return  # a creation that failed, or another call, removed it meanwhile
            await self._driver_call(self._ensure_driver())
            await self._driver_call(self._driver.delete(sandbox_id))
            await self._forget(sandbox_id)

    async def _revive(self, sandbox_id: str, live: Live) -> None:
        """Bring up a sandbox that exists already; when that fails it is in phase ERROR, with the reason."""
        live.exit_code, live.failure = None, None
        try:
            await self._bring_up(sandbox_id, live)
        except GatewayError as error:
            live.failure = (error.reason or "DriverFailed", error.message)
            await self._settle(sandbox_id)
            raise

    async def _bring_up(self, sandbox_id: str, live: Live) -> None:
        await self._driver_call(self._ensure_driver())
        live.epoch += 1
        live.instance_id, live.busy, live.running = str(uuid.uuid4()), True, False
        try:
            await self._settle(sandbox_id, desired=live.desired, instance_id=live.instance_id, token_epoch=live.epoch)
            if live.desired != "running":
                raise precondition("sandbox is being deleted")
            record = await self.by_id(sandbox_id)
            config = await self._snapshots.start_config(sandbox_id)
            workload = Workload(
                sandbox_id=sandbox_id,
                name=record.name,
                workspace=record.workspace,
                instance_id=live.instance_id,
                config=config.SerializeToString(),
                access=self._access(sandbox_id, live.epoch),
                command=tuple(record.spec.command),
                tty=record.spec.tty,
                environment={**record.spec.template.environment, **record.spec.environment},
                labels=record.labels,
                connect_to=self._connect_to,
                tunnel_idle_seconds=self._tunnel_idle,
                **dataclasses.asdict(specs.demands(record.spec)),
            )
            live.standing = await self._driver_call(self._driver.create(workload))
            live.running = True
            live.restarts.pending = None
        finally:
            live.busy = False
        await self._settle(sandbox_id)

    async def _forget(self, sandbox_id: str) -> None:
        def forget(tx: sa.Connection) -> None:
            presence.announce(tx, self._store, self._bus, sandbox_id, gone=True)
            forget_sandbox(tx, sandbox_id)
            self._store.announce(f"sandbox:{sandbox_id}")

        await self._store.run(forget)
        self._live.pop(sandbox_id, None)
        self._sessions.close(sandbox_id)

    async def _driver_call(self, call: Any) -> Any:
        """A driver's refusal as an answer for the caller: what, and the fix."""
        try:
            return await call
        except DriverError as error:
            message = f"{error.message}\n{error.fix}" if error.fix else error.message
            raise GatewayError("FAILED_PRECONDITION", message, error.reason) from error

    def _existing(self, sandbox_id: str) -> Live:
        live = self._live.get(sandbox_id)
        if live is None:
            raise not_found("sandbox not found")
        return live

    # ---- what the driver and the sessions say -------------------------------------------------------------------

    def _session_changed(self, sandbox_id: str) -> None:
        if self._closing:
            return
        if sandbox_id in self._live:
            self._tasks.spawn(self._settle(sandbox_id), f"settle {sandbox_id}")
        elif self._store.shared:
            self._tasks.spawn(self._tell_owner(sandbox_id), f"session of {sandbox_id}")

    async def _tell_owner(self, sandbox_id: str) -> None:
        """A supervisor whose sandbox another gateway runs came to us, or went: only the owner decides what follows."""
        session = self._sessions.get(sandbox_id)
        ours = f"{self._owner}/"
        here = f"{ours}{session.id}" if session is not None else ""
        row = sandboxes.update().where(sandboxes.c.id == sandbox_id)
        if session is None:  # it may be at a third gateway by now
            row = row.where(sandboxes.c.session.startswith(ours, autoescape=True))

        def write(tx: sa.Connection) -> None:
            if tx.execute(row.values(session=here)).rowcount:
                self._store.announce(SESSIONS, pyopenshell_pb2.InboxEvent(sandbox_id=sandbox_id))

        await self._store.run(write)

    def _forget_sessions(self, tx: sa.Connection) -> None:
        """What an earlier process of this gateway had connected, it has no more."""
        ours = sandboxes.c.session.startswith(f"{self._owner}/", autoescape=True)
        for sandbox_id in tx.scalars(sa.select(sandboxes.c.id).where(ours)).all():
            tx.execute(sandboxes.update().where(sandboxes.c.id == sandbox_id).values(session=""))
            self._store.announce(SESSIONS, pyopenshell_pb2.InboxEvent(sandbox_id=sandbox_id))

    async def _follow_sessions(self) -> None:
        """Hear which of our sandboxes' supervisors are connected to other gateways."""
        with self._bus.subscribe(SESSIONS) as changes:
            async for message in changes:
                if message.payload is not None and message.payload.gone:
                    self._sessions.close(message.payload.sandbox_id)
                for sandbox_id in list(self._live) if message.dropped else [message.payload.sandbox_id]:
                    live = self._live.get(sandbox_id)
                    if live is None:
                        continue
                    query = sa.select(sandboxes.c.session).where(sandboxes.c.id == sandbox_id)
                    try:
                        live.session = await self._store.run(lambda tx, query=query: tx.scalar(query)) or ""  # type: ignore[misc]
                        await self._settle(sandbox_id)
                    except GatewayError as error:
                        _log.error("sandbox %s: its session elsewhere cannot be read: %s", sandbox_id, error)

    async def _try_settle(self, sandbox_id: str, **columns: Any) -> None:
        """Before what ends a sandbox: a full disk must not keep it running, nor its files where they are."""
        try:
            await self._settle(sandbox_id, **columns)
        except GatewayError as error:
            _log.error("sandbox %s: going on although this could not be stored: %s", sandbox_id, error.message)

    async def _settle(self, sandbox_id: str, **columns: Any) -> None:
        """Store the phase that holds now. Transactions run in the order they are handed in, so the last one wins."""
        live = self._live.get(sandbox_id)
        if live is None:
            return
        if self._sessions.get(sandbox_id) is not None and live.session:
            live.session, columns = "", columns | {"session": ""}  # it came back to us
        state = live.state(connected=self._sessions.get(sandbox_id) is not None or bool(live.session))
        if live.standing is not None and live.standing.assurance:
            told = live.standing
            losses = "; ".join(told.losses)
            state = dataclasses.replace(
                state, assurance=(told.assurance, told.tier, losses), limits=told.limits if told.limits else None
            )
        state = dataclasses.replace(state, restarts=live.restarts)
        now = self._clock()

        def write(tx: sa.Connection) -> None:
            if self._store.shared and live.desired != "running":
                self._store.announce(SESSIONS, pyopenshell_pb2.InboxEvent(sandbox_id=sandbox_id, gone=True))
            if records.write(tx, sandbox_id, state, now, **columns):
                presence.announce(tx, self._store, self._bus, sandbox_id)
                self._store.announce(f"sandbox:{sandbox_id}")

        await self._store.run(write)

    async def _ensure_driver(self) -> None:
        """Start the driver once, take up what it runs, and listen to it from then on. Raises DriverError."""
        async with self._driver_starting:
            if not self._driver_started:
                await self._take_up(await self._driver.start())
                self._driver_started, self.driver_trouble = True, ""
                self._tasks.spawn(self._listen(), "driver events")

    async def _take_up(self, running: Sequence[WorkloadStatus]) -> None:
        """Bring what the store wants and what runs together again."""
        found = {status.sandbox_id: status for status in running if status.phase in ("running", "exited")}
        absent, self._absent = self._absent, restarts.LOST
        for stray in found.keys() - self._live.keys():
            _log.warning("stopping workload %s: this gateway does not know it; its files are kept", stray)
            self._tasks.spawn(self._driver.stop(stray), f"stop stray {stray}")
        for sandbox_id, live in self._live.items():
            status = found.get(sandbox_id)
            live.running = status is not None and status.instance_id in ("", live.instance_id)
            if live.running and status is not None:
                live.standing = status
            if live.running and status is not None and status.phase == "exited":
                live.exit_code = status.exit_code
            self._tasks.spawn(self._resume(sandbox_id, live, absent, stale=status is not None), f"resume {sandbox_id}")

    async def _resume(self, sandbox_id: str, live: Live, absent: tuple[str, str], *, stale: bool) -> None:
        """Finish what was under way when the gateway ended. `absent` is why one that should run does not."""
        if live.desired == "deleted":
            await self._delete(sandbox_id)
            return
        async with live.lock:
            if live.desired == "stopped" or (stale and not live.running):
                await self._driver.stop(sandbox_id)
                live.running = False
            if live.desired != "running" or live.running or live.failure is not None or live.exit_code is not None:
                await self._settle(sandbox_id)
                return
            try:
                async with self._reviving:
                    live.restarts.note(*absent)
                    await self._revive(sandbox_id, live)
            except GatewayError as error:
                _log.error("sandbox %s cannot be started again: %s", sandbox_id, error)

    def _failed(self, sandbox_id: str, live: Live, reason: str, message: str) -> bool:
        """It ended by itself: start it again soon (True), or leave it in phase ERROR with the reason."""
        # What had its main process end before would run that a second time.
        if live.exit_code is None and live.restarts.fail(reason, message, self._clock()) is not None:
            live.restarted = True
            return True
        live.failure = (reason, live.restarts.given_up(message) if live.exit_code is None else message)
        return False

    async def _restart(self, sandbox_id: str, live: Live) -> None:
        """Carry out the pending restart, and the next ones while starting fails."""
        while (pending := live.restarts.pending) is not None:
            await asyncio.sleep(pending.pause)
            async with live.lock:
                if live.restarts.pending is not pending or live.desired != "running":
                    return  # a person was faster
                live.restarts.began(self._clock())
                _log.warning("sandbox %s is started again: %s", sandbox_id, live.restarts.coming)
                try:
                    async with self._reviving:
                        await self._revive(sandbox_id, live)
                except GatewayError as error:
                    self._failed(sandbox_id, live, error.reason or "DriverFailed", error.message)
                    await self._settle(sandbox_id)

    async def _listen(self) -> None:
        """Follow the driver; when it goes away, start it again and compare anew."""
        pause = _RETRY_FIRST
        while True:
            try:
                async for status in self._driver.events():
                    pause = _RETRY_FIRST
                    await self._on_status(status)
                _log.error("driver %s ended its reports; starting it again", self._driver.name)
                await self._take_up(await self._driver.start())
                self.driver_trouble = ""
            except DriverError as error:
                self.driver_trouble = error.message
                _log.error("driver %s: %s %s", self._driver.name, error.message, error.fix)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_LAST)

    async def _on_status(self, status: WorkloadStatus) -> None:
        live = self._live.get(status.sandbox_id)
        if live is None or status.instance_id not in ("", live.instance_id):
            return
        match status.phase:
            case "exited":
                live.exit_code = status.exit_code if status.exit_code is not None else -1
            case "running" if not live.busy:
                live.running = True
            case "stopped" | "gone":
                live.running = False
                # An operation that is under way says itself how it ended. And whoever ends us ends the driver too,
                # perhaps: the next start compares anew.
                if live.busy or self._closing:
                    return
                if live.desired == "running":
                    message = status.message or "the workload ended unexpectedly"
                    if self._failed(status.sandbox_id, live, status.reason or "WorkloadGone", message):
                        self._tasks.spawn(self._restart(status.sandbox_id, live), f"restart {status.sandbox_id}")
            case _:
                return  # an operation is under way and says itself how it ended
        await self._settle(status.sandbox_id)


def _live(record: Record) -> Live:
    """What is known of a stored sandbox before the driver and the supervisors were heard."""
    exited = record.status.exit_code if record.status.HasField("exit_code") else None
    condition = record.ready_condition
    failed = record.phase == ERROR and exited is None and condition is not None
    return Live(
        epoch=record.token_epoch,
        desired=record.desired,
        instance_id=record.instance_id,
        exit_code=exited,
        session=record.session,
        failure=(condition.reason, condition.message) if failed and condition is not None else None,
        restarts=records.restarts(record, Restarts(_restartable(record))),
    )


def _restartable(record: Record) -> bool:
    return bool(record.spec.restart_policy != openshell_pb2.SANDBOX_RESTART_POLICY_NEVER)


class _Taken:
    """The names in use in a workspace, asked one at a time."""

    def __init__(self, tx: sa.Connection, workspace: str) -> None:
        self._tx, self._workspace = tx, workspace

    def __contains__(self, name: object) -> bool:
        try:
            records.by_name(self._tx, self._workspace, str(name))
        except GatewayError:
            return False
        return True
