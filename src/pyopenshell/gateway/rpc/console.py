"""The console RPC: attach, read, write, leave (pyopenshell.v1). Thin over `consoles`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from pyopenshell.drivers.base import Driver, DriverError, ExecRequest, Process
from pyopenshell.gateway import limits
from pyopenshell.gateway.consoles import Console, Consoles, Reader, too_slow
from pyopenshell.gateway.errors import invalid, required
from pyopenshell.gateway.principals import Caller, workspace_of
from pyopenshell.gateway.rpc.exec import RECONNECT_GRACE, not_started
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.wire.gen import pyopenshell_pb2

Event = pyopenshell_pb2.ConsoleEvent
Input = pyopenshell_pb2.ConsoleInput


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleService:
    """Servicer of AttachConsole."""

    sandboxes: Sandboxes
    driver: Driver
    consoles: Consoles

    async def AttachConsole(self, requests: AsyncIterator[Input], caller: Caller) -> AsyncIterator[Event]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("payload") != "start":
            raise invalid("first message must be a start payload")
        start = first.start
        if not start.sandbox:
            raise required("sandbox")
        if not start.command:
            raise required("command")
        limits.command(start.command, 1024, 32 * 1024, 256 * 1024)
        limits.environment(start.environment, "environment", exec_call=True)
        record = await self.sandboxes.ready(workspace_of(start.workspace_scope), start.sandbox, grace=RECONNECT_GRACE)
        columns, rows = start.cols or 80, start.rows or 24

        async def begin() -> Process:
            return await self.driver.exec(
                record.id,
                ExecRequest(
                    argv=tuple(start.command),
                    environment=dict(start.environment),
                    tty=True,
                    columns=columns,
                    rows=rows,
                ),
            )

        try:
            console, resumed = await self.consoles.attach(record.id, begin)
        except DriverError as error:
            code = not_started(error)
            if code is None:
                raise
            yield Event(attached=pyopenshell_pb2.ConsoleAttached(resumed=False))
            yield Event(output=f"openshell: {error.message}\r\n".encode())
            yield Event(exit_code=code)
            return
        with console.reading() as reader:
            recent = console.recent if resumed else b""
            yield Event(attached=pyopenshell_pb2.ConsoleAttached(resumed=resumed))
            if recent:
                yield Event(output=recent)
            console.redraw(columns, rows) if resumed else console.resize(columns, rows)
            feeder = asyncio.create_task(_feed(requests, console), name=f"input of the console of {record.id}")
            try:
                async for event in _events(console, reader):
                    yield event
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)


async def _events(console: Console, reader: Reader) -> AsyncIterator[Event]:
    cut = asyncio.create_task(reader.cut.wait(), name="console cut")
    try:
        while True:
            piece = asyncio.create_task(reader.pieces.get(), name="console output")
            try:
                await asyncio.wait({piece, cut}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    raise too_slow()
                data = piece.result()
            finally:
                piece.cancel()
            if data is None:
                yield Event(exit_code=console.exit_code if console.exit_code is not None else 255)
                return
            yield Event(output=data)
    finally:
        cut.cancel()


async def _feed(requests: AsyncIterator[Input], console: Console) -> None:
    """Keys and window sizes. Its end is that of the reader's input, not of the command's."""
    with contextlib.suppress(DriverError, OSError):
        async for message in requests:
            match message.WhichOneof("payload"):
                case "stdin":
                    await console.process.write(message.stdin)
                case "resize":
                    console.resize(message.resize.cols or 80, message.resize.rows or 24)
