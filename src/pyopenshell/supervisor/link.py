"""The supervisor's one line to the gateway: configuration in, results, logs and observations out.

Reconnects for ever; what could not be delivered waits in bounded queues. Decides nothing about policy.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pyopenshell.audit.events import AuditSink, Event, NetworkEvent, Severity
from pyopenshell.supervisor.backoff import Backoff
from pyopenshell.supervisor.bell import Bell
from pyopenshell.supervisor.config import Applied, Configuration, Outcome
from pyopenshell.supervisor.proposals import Proposals
from pyopenshell.supervisor.rpc import Call, GatewayChannel, LinkError
from pyopenshell.supervisor.spec import SupervisorSpec
from pyopenshell.supervisor.tasks import cancel, spawn
from pyopenshell.wire.gen import openshell_pb2 as pb
from pyopenshell.wire.gen import pyopenshell_pb2

LOG_BATCH = 50
LOG_QUEUE = 1024
STATUS_QUEUE = 64
HEARTBEAT = 15.0
"""Seconds, where the gateway names no interval (contract/gateway.md 1.6)."""
MISSED_HEARTBEATS = 3
HELLO_TIMEOUT = 10.0
REFRESH_AT = 0.8
"""Part of a token's life after which it is renewed (contract/gateway.md 9.3)."""

Item = TypeVar("Item")

_OUTCOMES = {
    Outcome.APPLIED: pb.CONFIG_APPLY_OUTCOME_APPLIED,
    Outcome.DUPLICATE: pb.CONFIG_APPLY_OUTCOME_IGNORED_DUPLICATE,
    Outcome.STALE: pb.CONFIG_APPLY_OUTCOME_IGNORED_STALE,
    Outcome.RETAINED: pb.CONFIG_APPLY_OUTCOME_FAILED_RETAINED_LAST_KNOWN_GOOD,
    Outcome.FAILED_CLOSED: pb.CONFIG_APPLY_OUTCOME_FAILED_CLOSED,
}


class Outbox(Generic[Item]):
    """Items that must arrive: sent in order, kept until acknowledged, the oldest dropped (and counted) when full."""

    def __init__(self, send: Callable[[Sequence[Item]], Awaitable[None]], *, limit: int, batch: int) -> None:
        self._send = send
        self._batch = batch
        self._items: deque[Item] = deque()
        self._limit = limit
        self._bell = Bell()
        self._in_flight = 0
        self.dropped = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        if len(self._items) > self._limit:
            # Not those under way: they are removed by count when they were acknowledged.
            del self._items[self._in_flight]
            self.dropped += 1
        self._bell.ring()

    async def run(self, online: Callable[[], Awaitable[None]]) -> None:
        """Deliver for ever. `online` returns when an attempt makes sense."""
        backoff = Backoff()
        while True:
            while not self._items:
                await self._bell.wait()
            await online()
            batch = [self._items[n] for n in range(min(self._batch, len(self._items)))]
            self._in_flight = len(batch)
            try:
                await self._send(batch)
            except LinkError as error:
                self._in_flight = 0
                if error.transient:
                    await asyncio.sleep(backoff.delay())
                    continue
                # Refused for what it says: sending the same again would only block what comes after it.
                self.dropped += len(batch)
            self._in_flight = 0
            backoff.reset()
            for _ in batch:
                self._items.popleft()


class Link:
    """See module. `run` until cancelled; every other call may be made at any time from the same event loop."""

    def __init__(
        self,
        spec: SupervisorSpec,
        configuration: Configuration,
        proposals: Proposals,
        audit: AuditSink,
        *,
        clock: Callable[[], float] = time.time,
        channel: GatewayChannel | None = None,
    ) -> None:
        self._spec = spec
        self._configuration = configuration
        self._proposals = proposals
        self._audit = audit
        self._clock = clock
        self._channel = channel or GatewayChannel(spec.access)
        self._online = asyncio.Event()
        self._epoch = 0
        self._reported: tuple[int, str, str] | None = None
        self._said_lost = False
        self._logs: Outbox[pb.SandboxLogLine] = Outbox(self._push_logs, limit=LOG_QUEUE, batch=LOG_BATCH)
        self._statuses: Outbox[pb.ReportPolicyStatusRequest] = Outbox(self._report_status, limit=STATUS_QUEUE, batch=1)

    def __repr__(self) -> str:
        return f"<Link {self._spec.access.address} {'online' if self.online else 'offline'} session {self._epoch}>"

    @property
    def online(self) -> bool:
        return self._online.is_set()

    @property
    def log_lines_dropped(self) -> int:
        return self._logs.dropped

    async def wait_online(self) -> None:
        await self._online.wait()

    def log(self, time_ms: int, event: Event, text: str) -> None:
        """Queue one audit line (a `supervisor.logs.Forward`)."""
        line = pb.SandboxLogLine(
            sandbox_id=self._spec.sandbox_id,
            level="OCSF",
            target="ocsf",
            message=text,
            source="sandbox",
        )
        line.event_time.FromMilliseconds(time_ms)
        if denial := getattr(event, "denial_id", ""):
            line.fields["denial_id"] = denial
        self._logs.put(line)

    async def submit(self, request: pb.SubmitPolicyAnalysisRequest) -> pb.SubmitPolicyAnalysisResponse:
        """Hand proposals or observations to the gateway. Raises LinkError."""
        answer: pb.SubmitPolicyAnalysisResponse = await self._channel.call("SubmitPolicyAnalysis", request)
        return answer

    async def proposal(self, chunk_id: str) -> pyopenshell_pb2.ProposalState:
        """Ask where a proposal of this sandbox stands. Raises LinkError (NOT_FOUND for anybody else's)."""
        request = pyopenshell_pb2.GetProposalRequest(chunk_id=chunk_id)
        answer: pyopenshell_pb2.ProposalState = await self._channel.call("GetProposal", request)
        return answer

    async def run(self) -> None:
        """Stay connected and deliver, until cancelled. Returns at once when there is no gateway to talk to."""
        if not self._spec.access.address:
            return
        workers = [
            spawn(self._logs.run(self.wait_online), name="link-logs"),
            spawn(self._statuses.run(self.wait_online), name="link-status"),
            spawn(self._watch_proposals(), name="link-proposals"),
            spawn(self._renew_token(), name="link-token"),
        ]
        backoff = Backoff()
        try:
            while True:
                # A task of its own per session: grpclib cancels the tasks of a lost connection.
                session = asyncio.create_task(self._session(backoff), name="link-session")
                try:
                    await session
                except LinkError as error:
                    self._lost(error)
                except Exception as error:  # noqa: BLE001 - without this line nothing could be revoked any more
                    traceback.print_exception(error, file=sys.stderr)
                    self._lost(LinkError("", f"{type(error).__name__}: {error}", transient=True))
                finally:
                    self._online.clear()
                    await cancel(session)
                await asyncio.sleep(backoff.delay())
        finally:
            await cancel(*workers)
            self._channel.close()

    def _lost(self, error: LinkError) -> None:
        # Once per outage: a gateway that is away for a day must not fill the log.
        if not self._said_lost:
            self._said_lost = True
            self._audit.emit(
                NetworkEvent("FAIL", Severity.LOW, message=f"gateway link lost, enforcement goes on: {error}")
            )

    async def _session(self, backoff: Backoff) -> None:
        self._epoch += 1
        try:
            async with self._channel.open("ConnectSupervisor") as call:
                async with asyncio.timeout(HELLO_TIMEOUT):
                    accepted = await self._greet(call)
                backoff.reset()
                self._said_lost = False
                self._online.set()
                self._proposals.resync()
                await self._converse(call, accepted)
        except TimeoutError as error:
            raise LinkError("DEADLINE_EXCEEDED", "the gateway fell silent", transient=True) from error
        finally:
            # A half-dead connection must not be found again by the next attempt.
            self._channel.close()

    async def _greet(self, call: Call) -> pb.SessionAccepted:
        hello = pb.SupervisorHello(
            sandbox_id=self._spec.sandbox_id,
            instance_id=self._spec.instance_id,
            connection_epoch=self._epoch,
            supports_config_push=True,
        )
        await call.send(pb.SupervisorMessage(hello=hello))
        first = await call.receive()
        kind = first.WhichOneof("payload") if first else None
        if kind != "session_accepted":
            reason = first.session_rejected.reason if kind == "session_rejected" else f"unexpected {kind}"
            raise LinkError("FAILED_PRECONDITION", f"session not accepted: {reason}", transient=True)
        accepted: pb.SessionAccepted = first.session_accepted
        return accepted

    async def _converse(self, call: Call, accepted: pb.SessionAccepted) -> None:
        interval = HEARTBEAT
        if accepted.HasField("heartbeat_interval"):
            interval = max(accepted.heartbeat_interval.ToMilliseconds() / 1000, 0.05)
        outgoing: asyncio.Queue[pb.SupervisorMessage] = asyncio.Queue(STATUS_QUEUE)
        sender = spawn(self._send(call, outgoing, interval), name="link-sender")
        try:
            if accepted.HasField("bootstrap"):
                await self._update(accepted.bootstrap, outgoing)
            while True:
                async with asyncio.timeout(interval * MISSED_HEARTBEATS):
                    message = await call.receive()
                if message is None:
                    raise LinkError("", "the gateway ended the session", transient=True)
                match message.WhichOneof("payload"):
                    case "config_update":
                        await self._update(message.config_update, outgoing)
                    case "relay_open":
                        await outgoing.put(_no_relay(message.relay_open.channel_id))
        finally:
            await cancel(sender)

    async def _send(self, call: Call, outgoing: asyncio.Queue[pb.SupervisorMessage], interval: float) -> None:
        # The only writer of the stream: results as they come, a heartbeat when nothing came.
        try:
            while True:
                message = pb.SupervisorMessage(heartbeat=pb.SupervisorHeartbeat())
                try:
                    async with asyncio.timeout(interval):
                        message = await outgoing.get()
                except TimeoutError:
                    pass
                await call.send(message)
        except Exception:  # noqa: BLE001 - the receiving side meets the same end and reports it
            return

    async def _update(self, update: pb.ConfigUpdate, outgoing: asyncio.Queue[pb.SupervisorMessage]) -> None:
        if not update.HasField("sandbox_config"):
            result = pb.ConfigUpdateResult(update_id=update.update_id, outcome=pb.CONFIG_APPLY_OUTCOME_UNSUPPORTED)
        else:
            # Before anything of it is enforced: an approval whose limit is not known must not be in force.
            limits = await self._channel.call("GetLeases", pyopenshell_pb2.GetLeasesRequest())
            applied = await self._configuration.apply(update.sandbox_config, limits)
            result = self._result(update.update_id, applied)
            if applied.outcome is not Outcome.STALE:
                self._note_status(applied)
            # An approval always brings a policy: who waits for one whose announcement got lost asks again now.
            self._proposals.resync()
        await outgoing.put(pb.SupervisorMessage(config_update_result=result))

    def _result(self, update_id: str, applied: Applied) -> pb.ConfigUpdateResult:
        if applied.outcome is Outcome.STALE:
            return pb.ConfigUpdateResult(update_id=update_id, outcome=_OUTCOMES[applied.outcome])
        result = pb.ConfigUpdateResult(
            update_id=update_id,
            outcome=_OUTCOMES[applied.outcome],
            policy_load=pb.PolicyLoadResult(version=applied.version, loaded=applied.loaded, error=applied.error),
            admission=pb.SandboxConfigurationAdmission(
                instance_id=self._spec.instance_id,
                state=pb.CONFIGURATION_ADMISSION_STATE_ACCEPTED
                if applied.loaded
                else pb.CONFIGURATION_ADMISSION_STATE_REJECTED,
                policy_version=applied.version,
                policy_hash=applied.policy_hash,
                config_revision=applied.config_revision,
                error=applied.error,
            ),
        )
        if applied.error:
            result.failure.code = "policy_not_usable"
            result.failure.message = applied.error
        return result

    def _note_status(self, applied: Applied) -> None:
        state = (applied.version, applied.policy_hash, applied.error)
        if state == self._reported:
            return
        self._reported = state
        self._statuses.put(
            pb.ReportPolicyStatusRequest(
                sandbox_id=self._spec.sandbox_id,
                version=applied.version,
                status=pb.POLICY_STATUS_LOADED if applied.loaded else pb.POLICY_STATUS_FAILED,
                load_error=applied.error,
            )
        )

    async def _push_logs(self, batch: Sequence[pb.SandboxLogLine]) -> None:
        # One short stream per batch: its answer is the acknowledgement that a long one would never give.
        request = pb.PushSandboxLogsRequest(sandbox_id=self._spec.sandbox_id, logs=batch)
        await self._channel.call("PushSandboxLogs", request)

    async def _report_status(self, batch: Sequence[pb.ReportPolicyStatusRequest]) -> None:
        await self._channel.call("ReportPolicyStatus", batch[0])

    async def _watch_proposals(self) -> None:
        backoff = Backoff()
        while True:
            await self.wait_online()
            watch = asyncio.create_task(self._watch_once(backoff), name="link-watch")
            try:
                await watch
            except LinkError:
                pass  # the session reports losses; a watch that ended alone is simply opened again
            finally:
                await cancel(watch)
            await asyncio.sleep(backoff.delay())

    async def _watch_once(self, backoff: Backoff) -> None:
        async with self._channel.open("WatchProposals") as call:
            await call.send_last(pyopenshell_pb2.WatchProposalsRequest())
            # Decisions made before the gateway listened on our behalf are not in the stream.
            self._proposals.resync()
            await call.established()
            self._proposals.resync()
            backoff.reset()
            while (state := await call.receive()) is not None:
                self._proposals.pushed(state)

    async def _renew_token(self) -> None:
        backoff = Backoff(first=1.0, last=60.0)
        while True:
            due = renewal_due(self._channel.token)
            if due is None:
                return
            # Not only while online: an expired token is what may keep us from getting there.
            await asyncio.sleep(max(due - self._clock(), 0))
            try:
                answer = await self._channel.call("RefreshSandboxToken", pb.RefreshSandboxTokenRequest())
            except LinkError:
                await asyncio.sleep(backoff.delay())
                continue
            token = answer.sandbox_token or answer.token
            if not token or token == self._channel.token:
                await asyncio.sleep(backoff.delay())
                continue
            backoff.reset()
            self._channel.token = token


def _no_relay(channel_id: str) -> pb.SupervisorMessage:
    # Commands reach this sandbox through its driver; an unanswered open would make the gateway wait.
    refusal = pb.RelayOpenResult(channel_id=channel_id, success=False, error="this supervisor offers no relay")
    return pb.SupervisorMessage(relay_open_result=refusal)


def renewal_due(token: str) -> float | None:
    """Unix seconds at which `token` should be renewed; None when it never expires or is no JWT.

    The claims are only read for scheduling: whether they are true is the gateway's to check.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires, issued = float(claims["exp"]), float(claims["iat"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
    return issued + (expires - issued) * REFRESH_AT if expires > 0 else None
