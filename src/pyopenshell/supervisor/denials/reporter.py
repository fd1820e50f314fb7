"""Getting refusals to the gateway: what is new at once, repetitions collected, nothing forgotten before it arrived.

Decides only when to send and what becomes a draft: connection-level refusals may, refused requests (L7) never do.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pyopenshell.audit.events import AuditSink, FindingEvent, Severity
from pyopenshell.supervisor.backoff import Backoff
from pyopenshell.supervisor.bell import Bell
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.denials import mapper, wire
from pyopenshell.supervisor.denials.ledger import Ledger
from pyopenshell.supervisor.rpc import LinkError
from pyopenshell.wire.gen import openshell_pb2 as pb

COLLECT_SECONDS = 0.5
"""How long repetitions of a known refusal are collected before they are sent together."""

BATCH = 64
"""Keys of each kind in one submission: the gateway takes no more proposals at once."""

Submit = Callable[[pb.SubmitPolicyAnalysisRequest], Awaitable[object]]


def connection_key(denial: Denial) -> tuple[str, int, str]:
    """What makes two connection refusals the same (contract/sandbox.md 7.2)."""
    return (denial.host, denial.port, denial.binary)


def request_key(denial: Denial) -> tuple[str, int, str, str, str, str, str]:
    """What makes two refused requests the same: the request, and why it was refused."""
    what = (denial.method, denial.path, denial.condition, denial.reason or denial.detail)
    return (denial.host, denial.port, denial.binary, *what)


class DenialReporter:
    """`add` from any door; `run` sends until cancelled."""

    def __init__(
        self,
        *,
        sandbox_id: str,
        name: str,
        workspace: str,
        submit: Submit,
        online: Callable[[], Awaitable[None]],
        audit: AuditSink,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        collect_seconds: float = COLLECT_SECONDS,
    ) -> None:
        self._identity = (sandbox_id, name, workspace)
        self._submit = submit
        self._online = online
        self._audit = audit
        self._collect_seconds = collect_seconds
        self._connections = Ledger(connection_key, clock_ms)
        self._requests: Ledger[tuple[object, ...]] = Ledger(request_key, clock_ms)
        self._questions = Ledger(connection_key, clock_ms)
        self._bell = Bell()
        self._urgent = False
        self._collecting = False
        """There is something to send, which waits for more: only what is new hurries it."""
        self._said_overflow = 0

    def __repr__(self) -> str:
        return f"<DenialReporter connections, requests, questions = {self._ledgers!r}>"

    @property
    def overflow(self) -> int:
        """Refusals that could not even be counted per destination, since the start."""
        return sum(ledger.overflow for ledger in self._ledgers)

    @property
    def _ledgers(self) -> tuple[Ledger[Any], ...]:
        return self._connections, self._requests, self._questions

    def add(self, denial: Denial) -> None:
        """Count one refusal. Never blocks, never raises."""
        # Ledgers of their own, so that no mistake further down can turn a refused request into a rule for a whole host,
        # and that no flood of invented names keeps a refused connection from being counted.
        new: bool
        if denial.layer == "l7":
            new = self._requests.add(denial)
        else:
            new = (self._questions if denial.stage == "dns" else self._connections).add(denial)
        self._urgent = self._urgent or new
        if new or not self._collecting:
            self._bell.ring()

    async def run(self) -> None:
        backoff = Backoff()
        while True:
            await self._until_due()
            await self._online()
            self._note_overflow()
            if await self._send():
                backoff.reset()
            else:
                await asyncio.sleep(backoff.delay())
                self._urgent = True  # it has waited long enough

    async def _until_due(self) -> None:
        while not any(ledger.waiting for ledger in self._ledgers):
            await self._bell.wait()
        deadline = asyncio.get_running_loop().time() + self._collect_seconds
        self._collecting = True
        try:
            while not self._urgent:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or not await self._bell.wait(left):
                    return
        finally:
            self._collecting = False

    async def _send(self) -> bool:
        """One batch; True when it arrived or was refused for good, False when it should be sent again."""
        batches = [ledger.take(BATCH) for ledger in self._ledgers]
        self._urgent = any(len(batch) == BATCH for batch in batches)
        tallies = tuple(itertools.chain.from_iterable(batches))
        arrived = False
        try:
            await self._submit(wire.analysis(*self._identity, tallies, mapper.drafts(batches[0])))
            arrived = True
        except LinkError as error:
            # A batch that the gateway refuses for what it says would only be refused again.
            arrived = not error.transient
        finally:
            for ledger in self._ledgers:
                if arrived:
                    ledger.acknowledge()
                else:
                    ledger.give_back()
        return arrived

    def _note_overflow(self) -> None:
        if self.overflow > self._said_overflow:
            missing, self._said_overflow = self.overflow - self._said_overflow, self.overflow
            self._audit.emit(
                FindingEvent(
                    uid="denial-flood",
                    title=f"{missing} refusals were not drafted: too many different destinations",
                    severity=Severity.MEDIUM,
                    evidence=(("refusals", str(missing)),),
                )
            )
