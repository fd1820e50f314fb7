"""TCP into a sandbox: a person outside reaches a server inside (contract/gateway.md 1.2, ForwardTcp). Bytes only.

The way is the driver's own; the sandbox's network gets no route, no port of the host is opened here, and no sandbox may
call this.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from pyopenshell.drivers.base import Driver, DriverError
from pyopenshell.gateway.errors import GatewayError, invalid, required
from pyopenshell.gateway.principals import Caller
from pyopenshell.gateway.rpc.exec import RECONNECT_GRACE
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.wire.gen import openshell_pb2

LOOPBACK: Final = frozenset(("", "localhost", "127.0.0.1", "::1"))
MOST: Final = 512
"""Connections at a time through one gateway: each costs two descriptors."""
_CHUNK: Final = 64 * 1024

Frame = openshell_pb2.TcpForwardFrame


@dataclasses.dataclass(slots=True)
class ForwardService:
    """Servicer of ForwardTcp. The first frame back is empty: the connection stands."""

    sandboxes: Sandboxes
    driver: Driver
    open: int = 0

    async def ForwardTcp(self, requests: AsyncIterator[Frame], caller: Caller) -> AsyncIterator[Frame]:
        _ = caller.user  # the gate refuses sandboxes already; nothing inside may ever come back in this way
        first = await anext(requests, None)
        if first is None or first.WhichOneof("payload") != "init":
            raise invalid("first frame must be init")
        port = _port(first.init)
        record = await self.sandboxes.ready(first.init.workspace, first.init.sandbox, grace=RECONNECT_GRACE)
        if self.open >= MOST:
            raise GatewayError("RESOURCE_EXHAUSTED", f"more than {MOST} forwarded connections", "TOO_MANY_FORWARDS")
        self.open += 1
        try:
            try:
                connection = await self.driver.dial(record.id, port)
            except DriverError as error:
                code = "UNAVAILABLE" if error.reason == "NotListening" else "FAILED_PRECONDITION"
                raise GatewayError(code, error.message, error.reason) from error
            reader, writer = await asyncio.open_connection(sock=connection)
            feeder = asyncio.create_task(_feed(requests, writer), name=f"forward to {record.id}:{port}")
            try:
                yield Frame(data=b"")
                with contextlib.suppress(ConnectionError):
                    while piece := await reader.read(_CHUNK):
                        yield Frame(data=piece)
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)
                writer.transport.abort()  # what was to be delivered was: the other end closed
        finally:
            self.open -= 1


async def _feed(requests: AsyncIterator[Frame], writer: asyncio.StreamWriter) -> None:
    """The client's bytes, then its end of file: the server may still answer."""
    with contextlib.suppress(OSError):
        async for frame in requests:
            writer.write(frame.data)
            await writer.drain()
        writer.write_eof()


def _port(init: openshell_pb2.TcpForwardInit) -> int:
    if not init.sandbox:
        raise required("sandbox")
    if not init.workspace:
        raise required("workspace")
    if init.service_id:
        raise GatewayError("FAILED_PRECONDITION", "services cannot be exposed by this gateway", "NOT_SUPPORTED")
    if init.WhichOneof("target") != "tcp":
        text = "only `tcp` targets are offered; for SSH use `openshell ssh-proxy`, which needs no port"
        raise GatewayError("FAILED_PRECONDITION", text, "NOT_SUPPORTED")
    if init.tcp.host not in LOOPBACK:
        text = "target host must be the sandbox's own loopback (127.0.0.1): a sandbox is no way to other hosts"
        raise invalid(text, field="init.tcp.host")
    if not 1 <= init.tcp.port <= 65535:
        raise invalid("target port must be in 1..65535", field="init.tcp.port")
    return init.tcp.port
