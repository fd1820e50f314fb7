"""ForwardTcp over a fake driver: who may call it, what it refuses, bytes and ends in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pyopenshell.gateway.rpc import forward
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.serving import Served, failure, serving

Frame = openshell_pb2.TcpForwardFrame
CODE = grpc.StatusCode


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets, then "end" once its client has ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
            writer.write(b"end")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def init(port: int, **fields: Any) -> Frame:
    values: dict[str, Any] = {"sandbox": "box", "workspace": "default", "tcp": {"host": "127.0.0.1", "port": port}}
    return Frame(init={**values, **fields})


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(served: Served, echo: int) -> None:
    await served.create(name="box")
    call = served.client.ForwardTcp()
    await call.write(init(echo))
    assert (await call.read()).data == b""  # it stands
    sent = bytes(range(256)) * 8192
    for start in range(0, len(sent), 65536):
        await call.write(Frame(data=sent[start : start + 65536]))
    await call.done_writing()
    got = b""
    while (frame := await call.read()) is not grpc.aio.EOF:
        got += frame.data
    assert got == sent + b"end"


@pytest.mark.parametrize(
    ("frame", "code", "message"),
    [
        (Frame(data=b"x"), CODE.INVALID_ARGUMENT, "first frame must be init"),
        (init(1, sandbox=""), CODE.INVALID_ARGUMENT, "sandbox is required"),
        (init(1, workspace=""), CODE.INVALID_ARGUMENT, "workspace is required"),
        (init(1, sandbox="ghost"), CODE.NOT_FOUND, "sandbox not found"),
        (init(1, service_id="s"), CODE.FAILED_PRECONDITION, "services cannot be exposed"),
        (init(1, tcp={"host": "192.0.2.1", "port": 80}), CODE.INVALID_ARGUMENT, "no way to other hosts"),
        (init(1, tcp={"host": "10.200.0.1", "port": 3128}), CODE.INVALID_ARGUMENT, "no way to other hosts"),
        (init(0), CODE.INVALID_ARGUMENT, "must be in 1..65535"),
        (init(65536), CODE.INVALID_ARGUMENT, "must be in 1..65535"),
        (Frame(init={"sandbox": "box", "workspace": "default", "ssh": {}}), CODE.FAILED_PRECONDITION, "ssh-proxy"),
    ],
)
async def test_refusals(served: Served, frame: Frame, code: grpc.StatusCode, message: str) -> None:
    await served.create(name="box")
    call = served.client.ForwardTcp()
    await call.write(frame)
    found = await failure(call.read())
    assert found[0] is code
    assert message in found[1]


async def test_nothing_listens(served: Served, unused_port: int) -> None:
    await served.create(name="box")
    call = served.client.ForwardTcp()
    await call.write(init(unused_port))
    assert (await failure(call.read()))[0] is CODE.UNAVAILABLE


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_sandbox_may_not_come_back_in_through_it(served: Served, echo: int) -> None:
    sandbox = await served.create(name="box")
    call = served.supervisor(sandbox).client.ForwardTcp()
    await call.write(init(echo))
    assert (await failure(call.read()))[0] is CODE.PERMISSION_DENIED


async def test_connections_are_bounded_and_given_back(
    served: Served, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MOST", 1)
    await served.create(name="box")
    first = served.client.ForwardTcp()
    await first.write(init(echo))
    await first.read()
    second = served.client.ForwardTcp()
    await second.write(init(echo))
    assert (await failure(second.read()))[0] is CODE.RESOURCE_EXHAUSTED
    await first.done_writing()
    while await first.read() is not grpc.aio.EOF:
        pass
    third = served.client.ForwardTcp()
    await third.write(init(echo))
    assert (await third.read()).data == b""
    third.cancel()
