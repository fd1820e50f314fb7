"""Approvals that end by themselves: when, what each sandbox's policy becomes then, and seeing to it.

The limit is kept twice. The gateway ends an approval by a transaction like any other decision; the supervisor is told
in advance what to enforce from which moment on, so that a gateway that is dead, slow or cut off stretches nothing.
While the process runs, limits are counted on the boot clock: setting the wall clock back changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import sqlalchemy as sa

from pyopenshell.audit.text import spoken
from pyopenshell.gateway import chunks, ledger
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.chunks import Chunk
from pyopenshell.gateway.clock import Clock
from pyopenshell.gateway.errors import GatewayError, invalid
from pyopenshell.gateway.inverse import InexactError, Step, revert
from pyopenshell.gateway.ledger import LEASE_ACTOR, Ledger
from pyopenshell.gateway.revisions import Revisions, encode, hash_of
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks
from pyopenshell.isolation.boottime import Alarm, TimerAlarm, boottime
from pyopenshell.policy.compose import effective
from pyopenshell.policy.coverage import covers
from pyopenshell.policy.model import Policy
from pyopenshell.wire.gen import pyopenshell_pb2
from pyopenshell.wire.wellknown import Duration

SHORTEST: Final = 1000
LONGEST: Final = 366 * 86400 * 1000
"""Milliseconds an approval may be limited to. Longer is not a limit but a policy."""
RETRY_SECONDS: Final = 5.0
"""After a failure of the database; supervisors keep the limit meanwhile."""
TOPIC: Final = "leases"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Approval:
    """One standing approval. `ends` orders those that are limited; None for one that is not."""

    chunk_id: str
    step: Step
    ends: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Fallback:
    """The base policy once the named approval, and all that end before it, are over."""

    chunk_id: str
    policy: Policy


def fallbacks(now: Policy, approvals: Sequence[Approval]) -> tuple[list[Fallback], list[str]]:
    """What `now` becomes as its limited approvals end one after the other, and the ids of those that cannot end.

    `approvals` are all that stand, in the order in which they were given. One cannot end exactly when something else
    changed what it had changed. Pure.
    """
    standing, found, stuck = list(approvals), [], []
    limited = sorted((one for one in standing if one.ends is not None), key=lambda one: (one.ends, one.chunk_id))
    for ending in limited:
        place = next(index for index, one in enumerate(standing) if one.chunk_id == ending.chunk_id)
        later = standing[place + 1 :]
        try:
            reverted = revert(now, standing[place].step, [one.step for one in later])
        except InexactError:
            stuck.append(ending.chunk_id)
            continue
        now = reverted.policy
        standing[place:] = [
            dataclasses.replace(one, step=step) for one, step in zip(later, reverted.later, strict=True)
        ]
        found.append(Fallback(ending.chunk_id, now))
    return found, stuck


def checked(duration: Duration) -> int:
    """Milliseconds of a limit that somebody asked for. Raises GatewayError INVALID_ARGUMENT."""
    milliseconds = duration.seconds * 1000 + duration.nanos // 1_000_000
    if not SHORTEST <= milliseconds <= LONGEST:
        raise invalid(f"lease must be between {spoken(SHORTEST / 1000)} and {spoken(LONGEST / 1000)}", "lease")
    return milliseconds


def lease_id(chunk: Chunk) -> str:
    """Names an approval together with its present limit."""
    return f"{chunk.id}@{chunk.expires_ms}"


def of_sandbox(tx: sa.Connection, sandbox_id: str) -> Sequence[Chunk]:
    """Its limited approvals, the next to end first."""
    return chunks.leased(tx, draft_chunks.c.sandbox_id == sandbox_id)


def ends(tx: sa.Connection, sandbox_id: str, base: Policy) -> tuple[list[Fallback], list[str]]:
    """`fallbacks` of what is stored."""
    if not of_sandbox(tx, sandbox_id):
        return [], []
    standing = [
        Approval(chunk.id, ledger.step(tx, chunk), chunk.expires_ms) for chunk in ledger.approvals(tx, sandbox_id)
    ]
    return fallbacks(base, standing)


class Leases:
    """Every limited approval of this gateway. `run` until cancelled."""

    def __init__(
        self, store: Store, bus: Bus, revisions: Revisions, book: Ledger, clock: Clock, *,
        now: Callable[[], float] = boottime, alarm: Callable[[Callable[[], None]], Alarm] = TimerAlarm,
    ) -> None:  # fmt: skip
        self._store, self._bus, self._revisions, self._ledger = store, bus, revisions, book
        self._clock, self._now, self._make_alarm = clock, now, alarm
        self._deadlines: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Leases {len(self._deadlines)} known>"

    def given(self) -> None:
        """Inside the transaction of an approval or renewal with a limit: have it watched after the commit."""
        self._store.announce(TOPIC)

    def remaining(self, chunk: Chunk) -> float:
        """Seconds until the limit, never more than the approval was given."""
        left = min(max((chunk.expires_ms or 0) - self._clock(), 0), chunk.lease_ms or 0) / 1000
        # The first look fixes the deadline on the clock that nobody can set.
        return max(self._deadlines.setdefault(lease_id(chunk), self._now() + left) - self._now(), 0.0)

    async def schedule(self, sandbox_id: str) -> pyopenshell_pb2.GetLeasesResponse:
        """What the sandbox's supervisor must know in advance."""

        def read(tx: sa.Connection) -> pyopenshell_pb2.GetLeasesResponse:
            own = self._revisions.latest(tx, sandbox_id)
            response = pyopenshell_pb2.GetLeasesResponse(policy_version=own.version if own is not None else 0)
            if own is None or self._revisions.global_policy(tx) is not None:
                return response  # nothing of its own is in force
            limited = {chunk.id: chunk for chunk in of_sandbox(tx, sandbox_id)}
            for fallback in ends(tx, sandbox_id, own.policy)[0]:
                chunk = limited[fallback.chunk_id]
                policy = effective(None, fallback.policy, {})
                left = int(self.remaining(chunk) * 1000)
                message = response.fallbacks.add(
                    lease_id=lease_id(chunk),
                    remaining=Duration(seconds=left // 1000, nanos=left % 1000 * 1_000_000),
                    policy_hash=hash_of(policy),
                    chunk_id=chunk.id,
                    summary=chunks.summary(chunk.proposed),
                )
                message.policy.MergeFromString(encode(policy))
            return response

        return await self._store.run(read)

    def settle(self, tx: sa.Connection, sandbox_id: str) -> None:
        """After others changed the policy: limits that mean nothing any more are lifted, with an event that says so."""
        base = self._revisions.base(tx, sandbox_id)
        for chunk_id in ends(tx, sandbox_id, base)[1]:
            self._lift(tx, chunks.get(tx, sandbox_id, chunk_id), base)

    async def run(self, after: Callable[[str], Awaitable[None]]) -> None:
        """End what is over, as it is over. `after(sandbox id)` is awaited after each change of a policy."""
        with self._bus.subscribe(TOPIC, capacity=1) as changes:
            alarm = self._make_alarm(lambda: self._bus.publish(TOPIC))
            try:
                alarm.set(await self._work(after))
                async for _ in changes:
                    alarm.set(await self._work(after))
            finally:
                alarm.close()

    async def _work(self, after: Callable[[str], Awaitable[None]]) -> float | None:
        """Returns when to look again."""
        try:
            limited = await self._store.run(lambda tx: chunks.leased(tx))
        except GatewayError as error:
            _log.error("limited approvals cannot be read now: %s", error)
            return self._now() + RETRY_SECONDS
        known = {lease_id(chunk) for chunk in limited}
        for gone in self._deadlines.keys() - known:
            self._deadlines.pop(gone, None)
        again = False
        for chunk in limited:
            if self.remaining(chunk) <= 0:
                try:
                    await self._store.run(lambda tx, chunk=chunk: self._end(tx, chunk))  # type: ignore[misc]
                    await after(chunk.sandbox_id)
                except Exception as error:  # noqa: BLE001 - one that cannot be ended must not keep the others alive
                    _log.error("limited approval %s cannot be ended now: %s", chunk.id, error)
                    again = True
        later = [seconds for chunk in limited if (seconds := self.remaining(chunk)) > 0]
        later += [RETRY_SECONDS] if again else []
        return self._now() + min(later) if later else None

    def _end(self, tx: sa.Connection, seen: Chunk) -> None:
        chunk = chunks.find(tx, draft_chunks.c.id == seen.id)
        if chunk is None or chunk.status != "approved" or lease_id(chunk) != lease_id(seen):
            return
        reason = (
            f"the approval was for {spoken((chunk.lease_ms or 0) / 1000)} and has ended; "
            "submit the proposal again if the access is still needed"
        )
        try:
            self._ledger.withdraw(tx, chunk, LEASE_ACTOR, status="rejected", reason=reason, expired=True)
        except GatewayError as error:
            if error.reason != "UNDO_NOT_EXACT":
                raise
            self._lift(tx, chunk, self._revisions.base(tx, chunk.sandbox_id))

    def _lift(self, tx: sa.Connection, chunk: Chunk, base: Policy) -> None:
        given = spoken((chunk.lease_ms or 0) / 1000)
        now = "grants it without a limit" if covers(base, chunk.proposed) else "no longer grants all of it"
        text = f"the limit of {given} no longer applies: a policy update changed rule '{chunk.rule_name}' and {now}"
        self._ledger.unlimited(tx, chunk, text)
