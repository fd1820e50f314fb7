"""kill -9 at any moment: the sandbox is closed, not open; decisions survive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket

import pytest

from pyopenshell.client import Gateway
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, House, background, connect_to, house, restarted, sh, within
from tests.e2e.test_doors import BARE

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("crash")]

CAPTURED = """\
version: 1
filesystem_policy: {read_only: [/usr, /lib, /etc, /proc, /var/log], read_write: [/tmp, /dev/null, /sandbox]}
network_policies:
  raw:
    endpoints: [{host: raw-crash.e2e.test, port: 7, protocol: tcp}]
    binaries: [{path: "/**/python3*"}]
"""


def by_name(word: str) -> list[int]:
    """Pids of processes whose command line or name has `word`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + b" " + (entry / "comm").read_bytes()
            except OSError:
                continue
            if word.encode() in text:
                found.append(int(entry.name))
    return found


def supervisors(root: pathlib.Path) -> set[int]:
    """Pids of the installation's supervisors: children of its driver host."""
    hosts = set(by_name(f"pyopenshell.drivers.local.host\0--state\0{root}"))
    found = set()
    for pid in by_name("openshell-super"):
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) in hosts:
            found.add(pid)
    return found


def ended(pid: int, seconds: float = 10) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


async def test_supervisor_killed_ends_its_sandbox_and_only_that(home: House, gateway: Gateway) -> None:
    home.create("bystander")
    before = supervisors(home.root)
    home.create("victim")
    (victim,) = supervisors(home.root) - before
    await sh(gateway, "victim", background("outlive-me", "sleep 1000; true"))
    inside = by_name("outlive-me")
    assert inside
    assert (await sh(gateway, "victim", "echo kept > /sandbox/file")).code == 0
    os.kill(victim, signal.SIGKILL)
    for pid in inside:
        assert ended(pid), "a process outlived its supervisor"
    again = await restarted(gateway, "victim")
    told = again.condition("Restarted")
    assert told is not None
    assert told.reason == "SupervisorDied"
    assert re.search(r"Restarts: 1 \(last 20.* SupervisorDied: ", home.cli("sandbox", "get", "victim").out)
    assert supervisors(home.root) - before != {victim}
    assert (await sh(gateway, "victim", f"cat /sandbox/file; curl -sS https://{HOST}/a")).out == "kept\nok\n"
    assert (await sh(gateway, "victim", put("/no"))).out.endswith("403")
    assert (await sh(gateway, "bystander", f"curl -sS https://{HOST}/a")).out == "ok\n"


async def test_supervisor_killed_under_capture_closes_what_was_captured(home: House, gateway: Gateway) -> None:
    """A raw tunnel that was captured, and a program that goes on asking: with the supervisor every way out is gone."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with house(extra_config=connect_to("raw-crash.e2e.test", port, port=7)) as own:
            own.create("captured", CAPTURED)
            (victim,) = supervisors(own.root)
            async with own.client() as inside:
                script = (
                    f'{BARE} python3 -c "import socket, time\n'
                    "s = socket.create_connection(('raw-crash.e2e.test', 7), 9); s.sendall(b'before'); s.recv(1)\n"
                    "try: s.sendall(b'after'); s.recv(1)\n"
                    "except OSError: pass\n"
                    'time.sleep(1000)" >/dev/null 2>&1 & disown'
                )
                await sh(inside, "captured", script)
                server.settimeout(10)
                connection, _ = await asyncio.to_thread(server.accept)
                with connection:
                    connection.settimeout(10)
                    heard.append(await asyncio.to_thread(connection.recv, 100))
                    os.kill(victim, signal.SIGKILL)
                    assert ended(victim)
                    with contextlib.suppress(ConnectionError):
                        while rest := await asyncio.to_thread(connection.recv, 100):
                            heard.append(rest)
                await restarted(inside, "captured")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert heard == [b"before"]


async def test_gateway_killed_sandbox_stays_closed_and_decisions_survive() -> None:
    with house() as home:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
        home.create("survivor")
        async with home.client() as gateway:
            first = json.loads((await sh(gateway, "survivor", submit(put_rule("/kept")))).out)["accepted_chunk_ids"][0]
            second = json.loads((await sh(gateway, "survivor", submit(put_rule("/left")))).out)["accepted_chunk_ids"][0]
            token = next(c.review_token for c in (await gateway.draft("survivor")).chunks if c.id == first)
            version, _ = await gateway.approve("survivor", first, token)
            wait = await sh(gateway, "survivor", f"curl -sS http://policy.local/v1/proposals/{first}/wait?timeout=30")
            assert json.loads(wait.out)["policy_reloaded"] is True
            await sh(
                gateway,
                "survivor",
                "(while :; do timeout 10 curl -sS -o /dev/null -w '%{http_code}\\n' "
                f"-X PUT -d x https://{HOST}/never; done "
                "> /sandbox/codes 2>/dev/null) >/dev/null 2>&1 & disown",
            )
        status = json.loads(home.cli("gateway", "status", "-o", "json").out)
        os.kill(status["pid"], signal.SIGKILL)
        assert ended(status["pid"])
        home.cli("gateway", "start")
        async with home.client() as gateway:
            sandbox = await gateway.get("survivor")
            async with within(30):
                await gateway.wait_for(sandbox, "Ready", failed=("Error",))
            chunks = {c.id: c.status for c in (await gateway.draft("survivor")).chunks}
            assert chunks[first] == "approved"
            assert chunks[second] == "pending"
            assert (await gateway.config("survivor")).version == version
            codes = set((await sh(gateway, "survivor", "sort -u /sandbox/codes")).out.split())
            assert codes == {"403"}, "open, or dead, while the gateway was gone"
            assert (await sh(gateway, "survivor", put("/kept"))).out.endswith("201")
            assert not home.upstream.seen("PUT", "/never")


async def test_host_killed_takes_everything_with_it() -> None:
    with house() as home:
        home.create("gone")
        async with home.client() as gateway:
            await sh(gateway, "gone", background("outlive-host", "sleep 1000; true"))
            inside = by_name("outlive-host")
            assert inside
            hosts = by_name(f"pyopenshell.drivers.local.host\0--state\0{home.root}")
            assert hosts
            for pid in hosts:
                os.kill(pid, signal.SIGKILL)
            for pid in inside:
                assert ended(pid), "a sandboxed process outlived the driver host"
            assert not home.upstream.requests
