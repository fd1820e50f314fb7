"""Bodies larger than memory should hold, through a plane in a process of its own: constant memory, both directions."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

BULK = """
import asyncio, json, os, sys
import uvloop
from tests.supervisor.proxy.rig import Upstream, rest, rig, rule

PIECE = b"x" * 65536

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main(pieces, direction, chunked):
    peak = 0
    piece = b"10000\\r\\n" + PIECE + b"\\r\\n" if chunked else PIECE
    total = pieces * len(piece) + (5 if chunked else 0)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (pieces * len(PIECE))

    async def send(writer):
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\\r\\n\\r\\n")

    async def receive(reader):
        nonlocal peak
        left, turn = total, 0
        while left:
            data = await reader.read(min(left, 1 << 18))
            assert data, left
            left -= len(data)
            turn += 1
            if turn % 64 == 0:
                peak = max(peak, resident())

    async def server(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        if direction == "up":
            await receive(reader)
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\\r\\n" + framing + b"\\r\\n\\r\\n")
            await send(writer)
        await writer.drain()
        await reader.read()

    upstream = Upstream(server)
    await upstream.start(None)
    policy = rule("api", rest("api.test", ("*", "/**"), port=80))
    async with rig(policy, upstreams={("api.test", 80): upstream.address}) as r:
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(b"CONNECT api.test:80 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        await reader.readuntil(b"\\r\\n\\r\\n")
        before = resident()
        if direction == "up":
            writer.write(b"POST / HTTP/1.1\\r\\nHost: api.test\\r\\n" + framing + b"\\r\\n\\r\\n")
            await send(writer)
            await reader.readuntil(b"\\r\\n\\r\\n")
        else:
            writer.write(b"GET / HTTP/1.1\\r\\nHost: api.test\\r\\n\\r\\n")
            await reader.readuntil(b"\\r\\n\\r\\n")
            await receive(reader)
        writer.close()
    await upstream.stop()
    print(json.dumps({"grown": max(peak, resident()) - before}))

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "chunked"))
"""


def bulk(mebibytes: int, direction: str, framing: str) -> int:
    """Bytes by which the whole process, client and server in it too, has grown at most."""
    command = [sys.executable, "-c", BULK, str(mebibytes * 16), direction, framing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return int(result["grown"])


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("mebibytes", [64, pytest.param(1024, marks=[pytest.mark.deep, pytest.mark.timeout(600)])])
def test_a_body_costs_the_same_memory_whatever_its_size(direction: str, framing: str, mebibytes: int) -> None:
    assert bulk(mebibytes, direction, framing) < 24 << 20
