"""Where a sandbox's audit events go: the daily files, the last denials in memory, and whoever forwards lines.

Emitting never blocks and never raises: files are written in batches off the event loop, queues are bounded, and what
had to be dropped is counted and said. Formatting belongs to `audit`; what was allowed, which is most of the lines,
waits for it a moment, so that neither it nor waking the writer stands between a request and its upstream. The writer
is a thread that competes with the event loop for the interpreter: it is woken for batches, not for lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import json
import operator
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyopenshell
from pyopenshell.audit.events import Action, Event, FindingEvent, HttpEvent, NetworkEvent, Severity
from pyopenshell.audit.ocsf import record
from pyopenshell.audit.shorthand import line as format_line
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.audit.text import shorten, without_query
from pyopenshell.supervisor.tasks import spawn

FILES_KEPT = 3
QUEUE_LIMIT = 8192
"""Lines that may wait for the disk."""
SETTLE_SECONDS = 0.02
"""For how long the line of something allowed may wait unformatted; any other event takes it along at once. The disk is
left alone for as long between two batches: a line after a pause is written at once."""
SETTLE_EVENTS = 64
"""Lines that may wait so; formatting as many takes about 0.3 ms of the event loop."""
TEXTS_KEPT = 1024
"""Formatted events that may come again."""
DENIALS_KEPT = 100
DENIAL_LINE_LIMIT = 4096
"""Bytes of one line in `/v1/denials` (contract/sandbox.md 6.1)."""
_MANY = (HttpEvent, NetworkEvent)
_ALLOWED, _REFUSED = Action.ALLOWED, Action.DENIED
_SEED_BYTES = 256 * 1024
_DENIED = re.compile(r"^\S+ OCSF [A-Z]+:\S+ \[[A-Z]+\] DENIED ")
_NAMES = re.compile(r"openshell(?:-ocsf)?\.\d{4}-\d{2}-\d{2}\.log")

Forward = Callable[[int, Event, str], None]
"""Gets (Unix ms, event, shorthand line without time stamp)."""


class DenialRing:
    """The newest refusals as they stand in the log, redacted and cut: what `/v1/denials` answers with."""

    def __init__(self, capacity: int = DENIALS_KEPT) -> None:
        self._lines: deque[str] = deque(maxlen=capacity)

    def add(self, line: str) -> None:
        """Queries go before the cut, so that a cut can never leave half of one behind."""
        self._lines.append(cut(without_query(line)))

    def newest(self, count: int) -> list[str]:
        """At most `count` lines, newest first."""
        return list(itertools.islice(reversed(self._lines), count))

    def seed(self, lines: Iterable[str]) -> None:
        """Take over refusals from lines of an earlier run, oldest first."""
        for line in lines:
            if _DENIED.match(line):
                self.add(line)


def cut(line: str) -> str:
    """At most 4096 bytes of UTF-8, cut between characters; `...[truncated]` says so."""
    if len(line.encode("utf-8", "surrogateescape")) <= DENIAL_LINE_LIMIT:
        return line
    return shorten(line, DENIAL_LINE_LIMIT).removesuffix("...") + "...[truncated]"


class AuditLog:
    """`AuditSink` of one supervisor. `directory` is the host side of the sandbox's `/var/log`.

    Files: `openshell.YYYY-MM-DD.log` (UTC, three newest kept), and while `ocsf_enabled` is set also
    `openshell-ocsf.YYYY-MM-DD.log` with one JSON object per line. Use from one event loop only.
    """

    def __init__(
        self,
        directory: Path,
        sandbox_id: str,
        *,
        clock: Callable[[], float] = time.time,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._directory = directory
        self._sandbox_id = sandbox_id
        self._clock = clock
        self._limit = queue_limit
        self._queue: deque[tuple[str, str]] = deque()
        self._fresh: list[tuple[float, Event]] = []
        """What was allowed, not formatted yet."""
        self._texts: dict[int, tuple[Event, str]] = {}
        """By identity: whoever repeats an event repeats the very object, which is kept here and so keeps its number."""
        self._settling: asyncio.TimerHandle | None = None
        self._wrote = -SETTLE_SECONDS
        """When the disk was last given something, in seconds of the event loop."""
        self._day = (0.0, 0.0, "", "")
        """First second of a day and of the next one, and its two file names."""
        self._writer: asyncio.Task[None] | None = None
        self._writing = 0
        self._files: dict[str, int] = {}
        # A thread of its own: name resolution may occupy every thread of the loop's pool for seconds.
        self._disk = ThreadPoolExecutor(1, "audit-log")
        self._forward: Forward | None = None
        self._ocsf = False
        self._said_lost = 0
        self._broken = ""
        self._said = ""
        self.denials = DenialRing()
        self.lost = 0
        """Lines dropped because the disk could not keep up or failed, since the start."""

    @property
    def available(self) -> bool:
        """True when there is a log file to speak of."""
        return not self._broken

    def open(self) -> None:
        """Create the directory and today's file, and remember the refusals of an earlier run. Blocks; call at start."""
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._directory.chmod(0o755)
            self._seed()
            self._file(self._name(self._clock()))
        except OSError as error:
            self._fail(error)

    def forward_to(self, forward: Forward) -> None:
        """Also hand every event to `forward`, which must not block."""
        self._forward = forward

    def enable_ocsf(self, enabled: bool) -> None:
        """Follow the setting `ocsf_json_enabled`; the file appears with the switch, not with the first event."""
        if enabled and not self._ocsf:
            try:
                self._file(self._name(self._clock(), ocsf=True))
            except OSError as error:
                self._fail(error)
        self._ocsf = enabled

    def emit(self, event: Event) -> None:
        try:
            if isinstance(event, _MANY) and event.action is _ALLOWED:
                self._fresh.append((self._clock(), event))
                if len(self._fresh) >= SETTLE_EVENTS:
                    self._settle()
                if self._settling is None:
                    self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._write_soon)
            else:
                self._at_once(event)
        except Exception as error:  # noqa: BLE001 - a sink that raises would take the proxy's connection with it
            self._say(error)

    async def flush(self) -> None:
        """Return when everything emitted so far is written."""
        while self._fresh or self._queue or self._writer:
            self._write_soon()
            if self._writer:
                await asyncio.shield(self._writer)

    async def close(self) -> None:
        """Write what waits and close the files. Idempotent."""
        await self.flush()
        self._disk.shutdown()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _at_once(self, event: Event) -> None:
        now = self._clock()
        if self._fresh:
            self._settle()
        line = self._line(now, event, shorthand(event))
        # By the event's own action: a path may contain the word, and must not become a refusal by that.
        if getattr(event, "action", None) is _REFUSED:
            self.denials.add(line)
        loop = asyncio.get_running_loop()
        if loop.time() - self._wrote >= SETTLE_SECONDS:
            self._write_soon()
        elif self._settling is None:
            # One of many: a task and a thread for each line would cost more than all else about it.
            self._settling = loop.call_later(SETTLE_SECONDS, self._write_soon)

    def _write_soon(self) -> None:
        """Format what waits and have it all written."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._wrote = asyncio.get_running_loop().time()
        self._settle()
        if self._queue and self._writer is None:
            self._writer = spawn(self._drain(), name="audit-log")

    def _settle(self) -> None:
        """Format what waits, in the order it came."""
        fresh, self._fresh = self._fresh, []
        texts = self._texts
        for now, event in fresh:
            try:
                known = texts.get(id(event))
                if known is None:
                    if len(texts) >= TEXTS_KEPT:
                        texts.clear()
                    known = texts[id(event)] = event, shorthand(event)
                self._line(now, event, known[1])
            except Exception as error:  # noqa: BLE001 - as in emit: one bad event must not take the others along
                self._say(error)

    def _line(self, now: float, event: Event, text: str) -> str:
        time_ms = int(now * 1000)
        line = format_line(time_ms, text)
        first, following, name, _ = self._day
        if not first <= now < following:
            name = self._name(now)
        self._enqueue(name, line)
        if self._ocsf:
            body = record(event, time_ms, self._sandbox_id, pyopenshell.__version__)
            self._enqueue(self._name(now, ocsf=True), json.dumps(body, separators=(",", ":")))
        if self._forward:
            self._forward(time_ms, event, text)
        return line

    def _enqueue(self, name: str, line: str) -> None:
        if len(self._queue) + self._writing >= self._limit:
            self.lost += 1
            return
        self._queue.append((name, line))

    async def _drain(self) -> None:
        written = False
        try:
            while self._queue:
                batch = list(self._queue)
                self._queue.clear()
                self._writing = len(batch)
                try:
                    await asyncio.get_running_loop().run_in_executor(self._disk, self._write, batch)
                    written, self._broken = True, ""
                except OSError as error:
                    self.lost += len(batch)
                    self._fail(error)
                finally:
                    self._writing = 0
        finally:
            self._writer = None
        # Only after a success: the line about lost lines must not be the next one lost, for ever.
        if written and self.lost > self._said_lost:
            missing, self._said_lost = self.lost - self._said_lost, self.lost
            self.emit(
                FindingEvent(
                    uid="audit-lines-lost",
                    title=f"{missing} audit lines could not be written",
                    severity=Severity.MEDIUM,
                    evidence=(("lost", str(missing)),),
                )
            )

    def _write(self, batch: list[tuple[str, str]]) -> None:
        for name, lines in itertools.groupby(batch, key=operator.itemgetter(0)):
            text = "\n".join([line for _, line in lines]) + "\n"
            data = memoryview(text.encode("utf-8", "backslashreplace"))
            descriptor = self._file(name)
            while data:
                data = data[os.write(descriptor, data) :]

    def _name(self, now: float, *, ocsf: bool = False) -> str:
        first, following, name, ocsf_name = self._day
        if not first <= now < following:
            day = f"{datetime.datetime.fromtimestamp(now, datetime.UTC):%Y-%m-%d}"
            name, ocsf_name = f"openshell.{day}.log", f"openshell-ocsf.{day}.log"
            first = now // 86400 * 86400
            self._day = (first, first + 86400, name, ocsf_name)
        return ocsf_name if ocsf else name

    def _file(self, name: str) -> int:
        descriptor = self._files.get(name)
        if descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._directory / name, flags, 0o644)
            os.fchmod(descriptor, 0o644)  # readable inside, whatever our umask is
            self._files[name] = descriptor
            self._retire(name.split(".", 1)[0])
        return descriptor

    def _retire(self, stem: str) -> None:
        names = sorted(n for n in os.listdir(self._directory) if _NAMES.fullmatch(n) and n.split(".", 1)[0] == stem)
        for name in names[:-FILES_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory / name)
            descriptor = self._files.pop(name, None)
            if descriptor is not None:
                os.close(descriptor)

    def _seed(self) -> None:
        names = sorted(n for n in os.listdir(self._directory) if _NAMES.fullmatch(n) and "-ocsf" not in n)
        for name in names[-2:]:
            with open(self._directory / name, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _SEED_BYTES))
                self.denials.seed(file.read().decode("utf-8", "replace").split("\n"))

    def _fail(self, error: OSError) -> None:
        self._broken = str(error)
        self._say(error)

    def _say(self, error: Exception) -> None:
        text = f"openshell: audit log: {type(error).__name__}: {error}"
        if text != self._said:  # once, not per line
            self._said = text
            print(text, file=sys.stderr)  # noqa: T201 - the last resort
