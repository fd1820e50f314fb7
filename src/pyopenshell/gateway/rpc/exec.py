"""Commands in running sandboxes (contract/gateway.md 1.2, ExecSandbox). Bytes are passed on, never looked at."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from pyopenshell.drivers.base import Driver, DriverError, ExecRequest, Process
from pyopenshell.gateway import limits
from pyopenshell.gateway.errors import GatewayError, invalid, required
from pyopenshell.gateway.principals import Caller, workspace_of
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.wire.gen import openshell_pb2

TIMED_OUT: Final = 124
_NOT_STARTED: Final = {"CommandNotFound": 127, "CommandNotExecutable": 126}
"""Driver reasons that a shell would report by exit code: the caller's command is at fault, not the gateway."""
RECONNECT_GRACE: Final = 2.0
"""Seconds a supervisor that just lost its session is waited for (a gateway restart must not fail every exec)."""
_CHUNK: Final = 256 * 1024

Event = openshell_pb2.ExecSandboxEvent


@dataclasses.dataclass(frozen=True, slots=True)
class ExecService:
    """Servicer of ExecSandbox and ExecSandboxInteractive."""

    sandboxes: Sandboxes
    driver: Driver

    async def ExecSandbox(self, request: openshell_pb2.ExecSandboxRequest, caller: Caller) -> AsyncIterator[Event]:
        async def feed(process: Process) -> None:
            if request.stdin:
                await process.write(request.stdin)
            process.close_stdin()

        async with contextlib.aclosing(self._run(request, feed)) as events:
            async for event in events:
                yield event

    async def ExecSandboxInteractive(
        self, requests: AsyncIterator[openshell_pb2.ExecSandboxInput], caller: Caller
    ) -> AsyncIterator[Event]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("payload") != "start":
            raise invalid("first message must be a start payload")

        async def feed(process: Process) -> None:
            if first.start.stdin:
                await process.write(first.start.stdin)
            async for message in requests:
                match message.WhichOneof("payload"):
                    case "stdin":
                        await process.write(message.stdin)
                    case "resize":
                        process.resize(message.resize.cols or 80, message.resize.rows or 24)
            process.close_stdin()

        async with contextlib.aclosing(self._run(first.start, feed)) as events:
            async for event in events:
                yield event

    async def _run(
        self, request: openshell_pb2.ExecSandboxRequest, feed: Callable[[Process], Awaitable[None]]
    ) -> AsyncGenerator[Event, None]:
        _check(request)
        record = await self.sandboxes.ready(
            workspace_of(request.workspace_scope), request.sandbox, grace=RECONNECT_GRACE
        )
        deadline = _deadline(request)
        try:
            process = await self.driver.exec(
                record.id,
                ExecRequest(
                    argv=tuple(request.command),
                    environment=dict(request.environment),
                    workdir=request.workdir,
                    tty=request.tty,
                    columns=request.cols or 80,
                    rows=request.rows or 24,
                ),
            )
        except DriverError as error:
            failed = not_started(error)
            if failed is None:
                raise
            text = f"openshell: {error.message}\n".encode()
            yield Event(stderr=openshell_pb2.ExecSandboxStderr(data=text))
            yield Event(exit=openshell_pb2.ExecSandboxExit(exit_code=failed))
            return
        feeder = asyncio.create_task(_fed(feed, process), name=f"stdin of an exec in {record.id}")
        try:
            async for event in _events(process, deadline):
                yield event
        finally:
            feeder.cancel()
            await process.aclose()


def not_started(error: DriverError) -> int | None:
    """The exit code a shell would give; None where not the command is at fault."""
    return _NOT_STARTED.get(error.reason)


async def _events(process: Process, deadline: float | None) -> AsyncIterator[Event]:
    """Output as it comes, then exactly one exit."""
    output = aiter(process.output())
    try:
        while True:
            # The limit is around each wait, not around the loop: a `yield` must not be inside a timeout's scope.
            async with asyncio.timeout_at(deadline):
                stream, data = await anext(output)
            for start in range(0, len(data), _CHUNK):
                part = data[start : start + _CHUNK]
                if stream == "stderr":
                    yield Event(stderr=openshell_pb2.ExecSandboxStderr(data=part))
                else:
                    yield Event(stdout=openshell_pb2.ExecSandboxStdout(data=part))
    except StopAsyncIteration:
        pass
    except TimeoutError:
        process.signal(signal.SIGKILL)
        yield Event(exit=openshell_pb2.ExecSandboxExit(exit_code=TIMED_OUT))
        return
    except DriverError as error:
        raise _broken(error) from error
    try:
        async with asyncio.timeout_at(deadline):
            code = await process.wait()
    except TimeoutError:
        process.signal(signal.SIGKILL)
        code = TIMED_OUT
    except DriverError as error:
        raise _broken(error) from error
    yield Event(exit=openshell_pb2.ExecSandboxExit(exit_code=code))


async def _fed(feed: Callable[[Process], Awaitable[None]], process: Process) -> None:
    # A command that ended or closed its input does not fail the call: its output and exit code still count.
    with contextlib.suppress(DriverError, OSError):
        await feed(process)


def _check(request: openshell_pb2.ExecSandboxRequest) -> None:
    if not request.sandbox:
        raise required("sandbox")
    if not request.command:
        raise required("command")
    limits.command(request.command, 1024, 32 * 1024, 256 * 1024)
    limits.environment(request.environment, "environment", exec_call=True)
    if len(request.workdir) > 4096 or "\0" in request.workdir:
        raise invalid("workdir must have at most 4096 characters and no NUL byte", field="workdir")
    if request.execution_timeout.seconds < 0 or request.execution_timeout.nanos < 0:
        raise invalid("execution_timeout must not be negative", field="execution_timeout")


def _deadline(request: openshell_pb2.ExecSandboxRequest) -> float | None:
    seconds = request.execution_timeout.seconds + request.execution_timeout.nanos / 1e9
    return asyncio.get_running_loop().time() + seconds if seconds else None


def _broken(error: DriverError) -> GatewayError:
    return GatewayError(
        "UNAVAILABLE",
        f"exec relay closed before the command reported an exit status: {error.message}",
        error.reason,
    )
