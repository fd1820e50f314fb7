"""Very many connections through a real plane in a process of its own: nothing is leaked, and accepting survives.

A process of its own, because descriptors, memory and the limit on open files are counted per process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

CROWD = """
import asyncio, gc, json, os, socket, sys
import uvloop
from tests.supervisor.proxy.rig import Upstream, raw, rest, rig, rule

POLICY = (rule("api", rest("api.test", ("GET", "/**"), port=80)), rule("raw", raw("raw.test", 81)))

def descriptors():
    return len(os.listdir("/proc/self/fd"))

async def one(address, kind):
    reader, writer = await asyncio.open_connection(*address)
    try:
        if kind == 0:      # closed without a word
            return
        if kind == 1:      # an exchange
            writer.write(b"GET http://api.test/ HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n")
            await reader.read()
        elif kind == 2:    # a tunnel, aborted
            writer.write(b"CONNECT raw.test:81 HTTP/1.1\\r\\nHost: raw.test\\r\\n\\r\\n")
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.transport.abort()
        elif kind == 3:    # a refusal
            writer.write(b"CONNECT no.test:81 HTTP/1.1\\r\\nHost: no.test\\r\\n\\r\\n")
            await reader.read()
        else:              # half a head, reset
            writer.write(b"GET http://api.t")
            await writer.drain()
            writer.transport.abort()
    except ConnectionError:
        pass
    finally:
        writer.close()

async def until(ready):
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0.01)

async def main(total, at_once):
    upstream = Upstream()
    await upstream.start(None)
    where = {("api.test", 80): upstream.address, ("raw.test", 81): upstream.address}
    async with rig(*POLICY, upstreams=where) as r:
        async def idle():
            r.plane._pool.clear()
            await until(lambda: repr(r.plane).startswith("<plane 0 connections, 0 raw tunnels, 0 websockets, 0 idle"))
            await until(lambda: not upstream._writers and not r.plane._upstreams)
            gc.collect()
        async def crowd(count):
            turn = iter(range(count))
            async def worker():
                for n in turn:
                    await one(r.address, n % 5)
            await asyncio.gather(*(worker() for _ in range(at_once)))
            upstream.requests.clear(); r.log.events.clear(); r.denials.clear()
            await idle()
            return descriptors(), len(asyncio.all_tasks())
        before = await crowd(500)
        after = await crowd(total)
    await upstream.stop()
    print(json.dumps({"before": before, "after": after}))

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(int(sys.argv[1]), 50))
"""

EXHAUSTED = """
import asyncio, json, os, resource, socket
import uvloop
from tests.supervisor.proxy.rig import raw, rig, rule

async def main():
    async with rig(rule("raw", raw("raw.test", 81))) as r:
        clients = []
        def client():
            one = socket.create_connection(r.address)
            one.setblocking(False)
            clients.append(one)
        client()
        held = [os.open("/dev/null", os.O_RDONLY)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A client that waits in the backlog while there is no descriptor left to accept it with.
        waiting = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held[0], waiting.fileno()) + 1, hard))
        try:
            while True:
                held.append(os.dup(held[0]))
        except OSError:
            pass
        started = asyncio.get_running_loop().time()
        waiting.connect(r.address)
        await r.log.until("accept failed: Too many open files", 3)
        spent = asyncio.get_running_loop().time() - started
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        loop = asyncio.get_running_loop()
        waiting.setblocking(False)
        await loop.sock_sendall(waiting, b"CONNECT no.test:81 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        async with asyncio.timeout(20):
            answer = await loop.sock_recv(waiting, 4096)
        for one in (*clients, waiting):
            one.close()
    print(json.dumps({"answer": answer[:12].decode(), "spent": spent}))

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


def child(program: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "connections", [1000, pytest.param(10_000, marks=[pytest.mark.deep, pytest.mark.timeout(600)])]
)
def test_connections_opened_and_closed_leave_nothing(connections: int) -> None:
    seen = child(CROWD, str(connections))
    assert seen["after"] == seen["before"]


def test_accepting_survives_want_of_descriptors_and_does_not_spin() -> None:
    seen = child(EXHAUSTED)
    assert seen["answer"] == "HTTP/1.1 403"
    # Back-off of 0.1 s, doubling: three attempts take 0.3 s at least, and without it next to nothing.
    assert seen["spent"] > 0.25
