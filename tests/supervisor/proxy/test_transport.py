"""The transports' traps, one by one."""

from __future__ import annotations

import asyncio

from pyopenshell.supervisor.proxy.tls import UpstreamTrust
from pyopenshell.supervisor.proxy.transport import Side
from tests.supervisor.proxy.rig import UPSTREAM_CA, Upstream, unbounded


async def dial(upstream: Upstream) -> Side:
    side = Side(unbounded(), hold=True)
    host, _, port = upstream.address.partition(":")
    await asyncio.get_running_loop().create_connection(lambda: side, host, int(port))
    context = UpstreamTrust().context(UPSTREAM_CA.ca_pem)
    await side.start_tls(context, host="api.test", seconds=5)
    return side


async def test_what_a_tls_server_sent_before_it_closed_survives_a_pause() -> None:
    """The end must not overtake data that a paused reader has not taken yet (holds on uvloop 0.23 by itself, too)."""
    size, sent = 200_000, asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * size)
        await writer.drain()
        writer.close()
        sent.set()

    upstream = Upstream(handler)
    await upstream.start("api.test")
    side = await dial(upstream)
    got: list[bytes] = []
    lost = asyncio.Event()
    ended = asyncio.Event()

    def eof() -> bool:
        ended.set()
        return False

    side.bind(got.append, eof, lost.set, lambda _: None)
    side.pause()
    side.release()
    await sent.wait()
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.2, turn.set_result, None)
    await turn
    side.resume()
    await asyncio.wait_for(lost.wait(), 5)
    assert sum(map(len, got)) == size
    assert ended.is_set()
    await upstream.stop()


async def test_data_that_comes_with_the_handshake_is_kept() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"early")
        await reader.read()

    upstream = Upstream(handler)
    await upstream.start("api.test")
    side = await dial(upstream)
    arrived = asyncio.get_running_loop().create_future()
    # Only now is anybody there to listen.
    side.bind(arrived.set_result, lambda: False, lambda: None, lambda _: None)
    side.release()
    assert await asyncio.wait_for(arrived, 5) == b"early"
    side.abort()
    await upstream.stop()
