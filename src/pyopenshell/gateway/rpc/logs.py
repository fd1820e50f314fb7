"""Log lines in and out, and the watch stream (contract/gateway.md 1.2: logs, WatchSandbox)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Iterable
from typing import Final

from pyopenshell.gateway.bus import Bus, Message
from pyopenshell.gateway.clock import from_timestamp
from pyopenshell.gateway.errors import GatewayError, denied, invalid, required
from pyopenshell.gateway.logs import Entry, Filter, Logs
from pyopenshell.gateway.principals import Caller, workspace_of
from pyopenshell.gateway.sandboxes import TERMINAL, Sandboxes
from pyopenshell.wire.gen import openshell_pb2

DEFAULT_TAIL: Final = 200
_BUFFER: Final = 128
"""Status changes waiting for a slow reader (contract/gateway.md 1.2); log lines are read from the store, never lost."""
_CURSOR: Final = re.compile(r"[0-9]{20}\Z")

Event = openshell_pb2.SandboxStreamEvent


@dataclasses.dataclass(frozen=True, slots=True)
class LogService:
    """Servicer of PushSandboxLogs, GetSandboxLogs and WatchSandbox."""

    logs: Logs
    bus: Bus
    sandboxes: Sandboxes

    async def PushSandboxLogs(
        self, requests: AsyncIterator[openshell_pb2.PushSandboxLogsRequest], caller: Caller
    ) -> openshell_pb2.PushSandboxLogsResponse:
        sandbox_id = ""
        async for request in requests:
            if not sandbox_id:
                caller.require_sandbox(request.sandbox_id)
                sandbox_id = request.sandbox_id
            elif request.sandbox_id != sandbox_id:
                raise denied("log stream sandbox_id changed after validation")
            self.logs.append(sandbox_id, request.logs, "sandbox")
        return openshell_pb2.PushSandboxLogsResponse()

    async def GetSandboxLogs(
        self, request: openshell_pb2.GetSandboxLogsRequest, caller: Caller
    ) -> openshell_pb2.GetSandboxLogsResponse:
        sandbox_id = await self._sandbox_id(workspace_of(request.workspace_scope), request.sandbox)
        wanted = Filter.of(from_timestamp(request.since_time), request.sources, request.min_level)
        entries, total = await self.logs.tail(sandbox_id, request.lines, wanted)
        return openshell_pb2.GetSandboxLogsResponse(logs=[entry.line for entry in entries], buffer_total=total)

    async def WatchSandbox(self, request: openshell_pb2.WatchSandboxRequest, caller: Caller) -> AsyncIterator[Event]:
        sandbox_id = await self._sandbox_id(workspace_of(request.workspace_scope), request.sandbox)
        watch = _Watch(self, request, sandbox_id)
        topics = [f"sandbox:{sandbox_id}", *([f"logs:{sandbox_id}"] if request.follow_logs else [])]
        # Subscribed before the first read: what happens in between is seen twice at most, never missed.
        with self.bus.subscribe(*topics, capacity=_BUFFER) as changes:
            try:
                async for event in watch.begin():
                    yield event
                if not (request.follow_status or request.follow_logs or request.follow_events):
                    return
                while not watch.over:
                    message = await anext(changes)
                    async for event in watch.on(message):
                        yield event
            except GatewayError as error:
                if error.code != "NOT_FOUND":
                    raise  # a sandbox that was deleted ends its stream in order

    async def _sandbox_id(self, workspace: str, name: str) -> str:
        if not name:
            raise required("sandbox")
        return (await self.sandboxes.get(workspace, name)).id


class _Watch:
    """One reader's place in the stream. A cursor is the number of the last log line before it, in 20 digits."""

    def __init__(self, service: LogService, request: openshell_pb2.WatchSandboxRequest, sandbox_id: str) -> None:
        self._service, self._request, self._sandbox_id = service, request, sandbox_id
        self._filter = Filter.of(from_timestamp(request.since_time), request.log_sources, request.log_min_level)
        self._seq = 0
        self._seen = 0
        self.over = False

    async def begin(self) -> AsyncIterator[Event]:
        """The sandbox as it is, then the end of its log."""
        logs, request = self._service.logs, self._request
        low, high = await logs.bounds(self._sandbox_id)
        entries: list[Entry] = []
        if request.resume_after_cursor:
            self._seq = _parse(request.resume_after_cursor)
            if self._seq > high or (self._seq and self._seq < low - 1):
                raise GatewayError(
                    "OUT_OF_RANGE", "resume_after_cursor has expired; start a new watch", "CURSOR_EXPIRED"
                )
            if request.follow_logs:
                entries = await logs.after(self._sandbox_id, self._seq, self._filter)
        elif request.follow_logs:
            entries, _ = await logs.tail(self._sandbox_id, request.log_tail_lines or DEFAULT_TAIL, self._filter)
            self._seq = entries[0].seq - 1 if entries else high
        else:
            self._seq = high
        yield await self._snapshot()
        for event in self._lines(entries):
            yield event

    async def on(self, message: Message) -> AsyncIterator[Event]:
        if message.dropped:
            text = f"watch stream lagged; {message.dropped} changes were merged into the next snapshot"
            yield Event(warning=openshell_pb2.SandboxStreamWarning(message=text), cursor=self._cursor())
        if message.topic.startswith("logs:") or (message.dropped and self._request.follow_logs):
            async for event in self._new_lines():
                yield event
        if message.topic.startswith("logs:"):
            return
        if isinstance(message.payload, openshell_pb2.DraftPolicyUpdate):
            if self._request.follow_status or self._request.follow_events:
                yield Event(draft_policy_update=message.payload, cursor=self._cursor())
            return
        seen = self._seen
        snapshot = await self._snapshot()
        if (self._request.follow_status or self.over) and self._seen != seen:
            yield snapshot

    async def _snapshot(self) -> Event:
        record = await self._service.sandboxes.by_id(self._sandbox_id)
        if self._request.stop_on_terminal and record.phase in TERMINAL:
            self.over = True
        self._seen = record.resource_version
        return Event(sandbox=record.to_proto(), cursor=self._cursor())

    async def _new_lines(self) -> AsyncIterator[Event]:
        for event in self._lines(await self._service.logs.after(self._sandbox_id, self._seq, self._filter)):
            yield event

    def _lines(self, entries: Iterable[Entry]) -> Iterable[Event]:
        for entry in entries:
            self._seq = max(self._seq, entry.seq)
            yield Event(log=entry.line, cursor=self._cursor())

    def _cursor(self) -> str:
        return f"{self._seq:020d}"


def _parse(cursor: str) -> int:
    if not _CURSOR.match(cursor):
        raise invalid("resume_after_cursor is malformed", field="resume_after_cursor")
    return int(cursor)
