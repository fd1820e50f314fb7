"""Live supervisor sessions: who is connected, and what each must still be sent (contract/gateway.md 1.6).

One session per sandbox, each with its own queue: a change for one sandbox wakes nobody else. Must not know gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Final

from pyopenshell.gateway.bus import Bus, Subscription
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.snapshots import Snapshots
from pyopenshell.wire.gen import openshell_pb2

HEARTBEAT: Final = 15.0
"""Seconds between heartbeats when nothing else is sent (contract/gateway.md 1.6)."""
UNANSWERED: Final = 2
"""Updates in flight at most (contract/gateway.md 2.3); what comes meanwhile is sent as one, the newest."""

_log = logging.getLogger(__name__)


class Session:
    """One connected supervisor. `outgoing()` has one consumer, the RPC that carries it."""

    def __init__(self, sandbox_id: str, instance_id: str, *, push: bool) -> None:
        self.sandbox_id, self.instance_id, self.push = sandbox_id, instance_id, push
        self.id = str(uuid.uuid4())
        self._queue: asyncio.Queue[openshell_pb2.GatewayMessage | None] = asyncio.Queue()
        self._unanswered: dict[str, int] = {}
        self._room = asyncio.Event()
        self._room.set()

    def __repr__(self) -> str:
        return f"<Session {self.id} of sandbox {self.sandbox_id}, {len(self._unanswered)} updates unanswered>"

    def close(self) -> None:
        """Let `outgoing()` end after what is queued. Idempotent."""
        self._queue.put_nowait(None)

    async def outgoing(self, heartbeat: float = HEARTBEAT) -> AsyncIterator[openshell_pb2.GatewayMessage]:
        """Messages in order, a heartbeat when there was none for that many seconds, until closed."""
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    message = await self._queue.get()
            except TimeoutError:
                yield openshell_pb2.GatewayMessage(heartbeat=openshell_pb2.GatewayHeartbeat())
                continue
            if message is None:
                return
            yield message

    def send(self, update: openshell_pb2.ConfigUpdate) -> None:
        self.sent(update)
        self._queue.put_nowait(openshell_pb2.GatewayMessage(config_update=update))

    def sent(self, update: openshell_pb2.ConfigUpdate) -> None:
        """`update` is on its way (the bootstrap travels in the acceptance, not in the queue)."""
        self._unanswered[update.update_id] = update.sandbox_config.version
        if len(self._unanswered) >= UNANSWERED:
            self._room.clear()

    def answered(self, update_id: str) -> bool:
        """The supervisor answered an update. False for one that was never sent or was answered before."""
        known = self._unanswered.pop(update_id, None) is not None
        if len(self._unanswered) < UNANSWERED:
            self._room.set()
        return known

    async def room(self) -> None:
        """Wait until another update may be sent."""
        await self._room.wait()


class Sessions:
    """Every live session of this gateway. `changed(sandbox_id)` is called when one comes or the last one goes."""

    def __init__(self, bus: Bus, snapshots: Snapshots) -> None:
        self._bus, self._snapshots = bus, snapshots
        self._live: dict[str, Session] = {}
        self.changed: Callable[[str], None] = lambda sandbox_id: None

    def __len__(self) -> int:
        return len(self._live)

    def get(self, sandbox_id: str) -> Session | None:
        return self._live.get(sandbox_id)

    def open(self, sandbox_id: str, instance_id: str, *, push: bool) -> Session:
        """Register a session; an older one of the same sandbox is closed and counts no more."""
        session = Session(sandbox_id, instance_id, push=push)
        older = self._live.get(sandbox_id)
        self._live[sandbox_id] = session
        if older is not None:
            older.close()
        self.changed(sandbox_id)
        return session

    def discard(self, session: Session) -> None:
        """The session's stream ended."""
        if self._live.get(session.sandbox_id) is session:
            del self._live[session.sandbox_id]
            self.changed(session.sandbox_id)

    def close(self, sandbox_id: str) -> None:
        """End the session of a sandbox that is being stopped or deleted."""
        session = self._live.get(sandbox_id)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        for session in self._live.values():
            session.close()

    def changes(self, session: Session) -> Subscription:
        """What tells that the session's configuration may be another. Open it before `update` is read first."""
        # Room for one: a second change before the first was looked at is the same "look again" (a lag marker).
        return self._bus.subscribe(f"config:{session.sandbox_id}", "config:*", capacity=1)

    async def update(self, session: Session) -> openshell_pb2.ConfigUpdate:
        """The effective configuration as it is now. Raises GatewayError."""
        return openshell_pb2.ConfigUpdate(
            update_id=str(uuid.uuid4()),
            sandbox_config=await self._snapshots.sandbox_config(session.sandbox_id),
            provider_environment=openshell_pb2.ProviderEnvironmentSnapshot(),
        )

    async def follow(self, session: Session, changes: Subscription, revision: int) -> None:
        """Send every configuration other than `revision` as it comes, until cancelled.

        A configuration that cannot be read ends the session: the supervisor reconnects and asks anew.
        """
        async for _ in changes:
            await session.room()
            try:
                update = await self.update(session)
            except GatewayError as error:
                if error.code != "NOT_FOUND":
                    _log.error("sandbox %s: configuration cannot be read: %s", session.sandbox_id, error)
                session.close()
                return
            if update.sandbox_config.config_revision != revision:
                revision = update.sandbox_config.config_revision
                session.send(update)
