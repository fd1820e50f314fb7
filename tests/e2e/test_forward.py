"""`openshell forward` for real: a server inside, a client outside, and nothing else gets a way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pathlib
import select
import socket

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import House, house, sh

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVER = """\
import hashlib, socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
server = socket.create_server(("::1" if sys.argv[1] == "6" else "127.0.0.1", int(sys.argv[2])), family=family)
open("/sandbox/listening" + sys.argv[1], "w").close()
while True:
    link, peer = server.accept()
    with link:
        digest = hashlib.sha256()
        while piece := link.recv(65536): digest.update(piece)
        link.sendall(f"{digest.hexdigest()} {peer[0]}".encode() + b"." * 3000000)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def serve_inside(gateway: Gateway, name: str, port: int, family: str = "4") -> None:
    script = f"python3 -c '{SERVER}' {family} {port} </dev/null >/dev/null 2>&1 & disown"
    ran = await sh(gateway, name, f"{script}; until [ -e /sandbox/listening{family} ]; do sleep 0.05; done")
    assert ran.code == 0, ran


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:  # the forward answers with a reset while its gateway is away
        writer.write(data)
        writer.write_eof()
        return await reader.read(-1)
    finally:
        writer.close()


async def test_a_forward_lives_until_it_is_stopped_and_its_sandbox_deleted() -> None:
    data = os.urandom(2_000_000)
    with house() as home:
        home.create("served")
        port, other = free_port(), free_port()
        async with home.client() as gateway:
            await serve_inside(gateway, "served", port)
            began = home.cli("forward", "start", str(port), "served", "--background")
            assert f"Forwarding port {port} to sandbox served in the background" in began.err
            assert f"Access at: http://127.0.0.1:{port}/" in began.err
            answer = await ask(port, data)
            assert answer[:64].decode() == hashlib.sha256(data).hexdigest()
            assert answer[64:75] == b" 127.0.0.1."
            assert len(answer) == 64 + 10 + 3_000_000
            answers = await asyncio.gather(*(ask(port, b"%d" % number) for number in range(8)))
            assert [one[:64].decode() for one in answers] == [hashlib.sha256(b"%d" % n).hexdigest() for n in range(8)]

            # The other family, another port; listed beside it.
            await serve_inside(gateway, "served", other, "6")
            mine = free_port()
            home.cli("forward", "service", "served", "--target-port", str(other), "--local", str(mine), "-d")
            assert (await ask(mine, b"six"))[64:69] == b" ::1."
            listed = home.cli("forward", "list", "-o", "json").json
            assert {(one["port"], one["target"], one["running"]) for one in listed} == {
                (port, port, True),
                (mine, other, True),
            }
            assert home.cli("forward", "start", str(port), "served", "-d", ok=False).err.endswith(
                f"port {port} is forwarded already: openshell forward list\n"
            )

        # It outlives a gateway restart.
        home.cli("gateway", "stop")
        home.cli("gateway", "start")
        deadline = asyncio.get_running_loop().time() + 60
        while not (answer := await asyncio.wait_for(quietly(port), 60)):
            assert asyncio.get_running_loop().time() < deadline
        assert answer[:64].decode() == hashlib.sha256(b"again").hexdigest()

        assert f"✓ Stopped forward of port {mine} for sandbox served" in home.cli("forward", "stop", str(mine)).out
        assert f"! No active forward found for port {mine}" in home.cli("forward", "stop", str(mine)).out
        (left,) = home.cli("forward", "list", "-o", "json").json
        handle = os.pidfd_open(left["pid"])
        assert f"✓ Stopped forward of port {port} for sandbox served" in home.cli("sandbox", "delete", "served").err
        assert select.select([handle], [], [], 60)[0]
        os.close(handle)
        assert home.cli("forward", "list").out == "No active forwards.\n"


async def quietly(port: int) -> bytes:
    try:
        return await ask(port, b"again")
    except OSError:
        return b""


async def test_nothing_listens_inside_and_only_loopback_listens_outside(home: House, gateway: Gateway) -> None:
    home.create("quiet")
    port = free_port()
    home.cli("forward", "start", str(port), "quiet", "-d")
    try:
        with pytest.raises(ConnectionResetError):
            await ask(port, b"hello")
        text = pathlib.Path("/proc/net/tcp").read_text()
        assert f"0100007F:{port:04X} 00000000:0000 0A" in text
        assert f"00000000:{port:04X} 00000000:0000 0A" not in text
        # From inside there is no such port: the way leads in only.
        ran = await sh(gateway, "quiet", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        assert ran.code != 0
    finally:
        home.cli("forward", "stop", str(port))
        home.delete("quiet")


async def test_a_port_that_is_taken_and_one_that_makes_no_sense(home: House) -> None:
    home.create("taken")
    try:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            ran = home.cli("forward", "start", str(port), "taken", "-d", ok=False)
            assert ran.code == 1
            assert f"cannot listen on 127.0.0.1:{port}: it is in use" in ran.err
        for bad in ("0", "70000", "x", "1.2.3:80", "host:80"):
            assert home.cli("forward", "start", bad, "taken", ok=False).code == 2
        assert home.cli("forward", "start", "80", "ghost", "-d", ok=False).code == 1
        assert home.cli("forward", "list").out == "No active forwards.\n"
    finally:
        home.delete("taken")


async def test_create_forwards_at_once(home: House) -> None:
    port = free_port()
    ran = home.cli("sandbox", "create", "--name", "ported", "--forward", str(port), "--detach")
    try:
        assert f"  Stop with: openshell forward stop {port} ported" in ran.err
        assert home.cli("forward", "list").out.splitlines()[1].split()[:3] == ["ported", "127.0.0.1", str(port)]
    finally:
        home.delete("ported")
    assert home.cli("forward", "list").out == "No active forwards.\n"
