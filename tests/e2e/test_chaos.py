"""Random kills of everything there is, while a probe inside every sandbox tries to get out; then nothing may be left.

Each step starts something or nothing (a command, a stop and start, another sandbox that comes and goes), kills one
process at a drawn moment of it, and waits until every sandbox is ready again. The probe is the main process, so it
runs from the first instruction of every incarnation to the last. OPENSHELL_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import random
import select
import signal
import socket
from collections.abc import Awaitable, Iterator

import pytest

from pyopenshell.client import Gateway
from pyopenshell.client.errors import GatewayError, UnreachableError
from pyopenshell.client.gateway import SandboxFailedError
from pyopenshell.policy import load
from tests.e2e import leftovers
from tests.e2e.house import HOST, OTHER, READ_ONLY, House, house, sh, within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]

SEED = int(os.environ.get("OPENSHELL_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
SHORT, LONG = 20, 200
SANDBOXES = ("one", "two")
VICTIMS = {"supervisor": 6, "init": 6, "agent": 6, "gateway": 2, "host": 3, "zygote": 1, "watcher": 1}
REFUSED = (GatewayError, UnreachableError, SandboxFailedError, OSError)

PROBE = f"""
import os, socket, time
def breach(what):
    with open('/sandbox/breach', 'a') as file: file.write(what + chr(10))
def attempt(what, function):
    try:
        if function(): breach(what)
    except (OSError, ValueError): pass
def direct(address):
    with socket.create_connection(address, 5) as link: return link.recv(1) == b'!'
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link: link.sendto(b'probe', ('127.0.0.1', PORT))
def proxied(name):
    with socket.create_connection(('10.200.0.1', 3128), 5) as link:
        link.sendall(b'CONNECT %s:443 HTTP/1.1\\r\\nHost: %s:443\\r\\n\\r\\n' % (name, name))
        return b' 200 ' in link.recv(4096)
def interfaces():
    with open('/proc/net/dev') as file: return [line.split(':')[0].strip() for line in file][2:] != ['lo']
PORT, count = int(os.environ['PROBE_PORT']), 0
with open('/sandbox/begun', 'a') as file: file.write('.')
while True:
    attempt('tcp', lambda: direct(('127.0.0.1', PORT)))
    attempt('udp', datagram)
    attempt('other', lambda: proxied(b'{OTHER}'))
    attempt('host', lambda: proxied(b'{HOST}'))
    attempt('interfaces', interfaces)
    count += 1
    with open('/sandbox/count', 'w') as file: file.write(str(count))
"""


@dataclasses.dataclass(slots=True)
class Trap:
    """Listens on the host's loopback and says "!" to whoever comes. Nobody must."""

    tcp: socket.socket
    udp: socket.socket

    @property
    def port(self) -> int:
        return int(self.tcp.getsockname()[1])

    def caught(self) -> bool:
        return bool(select.select([self.tcp, self.udp], [], [], 0)[0])


@contextlib.contextmanager
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        yield Trap(tcp, udp)


class Processes:
    """The installation's processes by what they are, with a handle on each."""

    def __init__(self, root: pathlib.Path) -> None:
        self._handles: dict[int, int] = {}
        self.kinds: dict[str, list[int]] = {kind: [] for kind in VICTIMS}
        self.sandbox: dict[int, set[int]] = {}
        """init -> all processes inside."""
        names = {"openshell-super": "supervisor", "openshell-host": "host", "openshell-zygot": "zygote"}
        names["openshell-watch"] = "watcher"
        inits = leftovers.inits(root)
        for pid in leftovers.processes(root):
            try:
                self._handles[pid] = os.pidfd_open(pid)
                comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            kind = "init" if pid in inits else names.get(comm, "")
            if not kind and "pyopenshell.gateway" in leftovers.cmdline(pid):
                kind = "gateway"
            if kind:
                self.kinds[kind].append(pid)
        for init in inits:
            self.sandbox[init] = leftovers.below({init})
            self.kinds["agent"] += [pid for pid in self.sandbox[init] - {init} if pid in self._handles]

    def kill(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handles[pid], number)

    def ended(self, pid: int) -> bool:
        return pid not in self._handles or bool(select.select([self._handles[pid]], [], [], 60)[0])

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)


@dataclasses.dataclass(slots=True)
class Chaos:
    home: House
    dice: random.Random
    trap: Trap
    seen: set[str] = dataclasses.field(default_factory=set)
    """Every namespace a sandbox ever had."""
    killed: dict[str, int] = dataclasses.field(default_factory=dict)

    async def create(self, gateway: Gateway, name: str) -> None:
        await gateway.create(
            name=name,
            policy=load(READ_ONLY),
            environment={"PROBE_PORT": str(self.trap.port)},
            command=["/usr/bin/python3", "-c", PROBE],
            pids=100,
        )

    async def step(self, number: int) -> None:
        processes = Processes(self.home.root)
        try:
            for init in processes.kinds["init"]:
                self.seen |= leftovers.namespaces(init) - leftovers.namespaces(os.getpid())
            possible = [kind for kind in VICTIMS if processes.kinds[kind]]
            kind = self.dice.choices(possible, [VICTIMS[one] for one in possible])[0]
            victim = self.dice.choice(sorted(processes.kinds[kind]))
            gentle = kind in ("supervisor", "host", "gateway") and self.dice.random() < 0.25
            activity = self.dice.choice([self._nothing, self._command, self._stop_and_start, self._come_and_go])
            how = signal.SIGTERM if gentle else signal.SIGKILL
            print(f"{number}: {activity.__name__}, then {how.name} to {kind} {victim}")
            working = asyncio.create_task(activity(number))
            await asyncio.sleep(self.dice.random() * 0.15)
            processes.kill(victim, how)
            self.killed[kind] = self.killed.get(kind, 0) + 1
            assert await asyncio.to_thread(processes.ended, victim)
            with contextlib.suppress(*REFUSED):
                await working
            await self._follow(processes, kind, victim)
        finally:
            processes.close()
        await self.recover(restart=kind == "gateway")
        assert not self.trap.caught(), "a sandbox reached the host's loopback"

    async def _follow(self, processes: Processes, kind: str, victim: int) -> None:
        """What must have ended with the victim has."""
        if kind in ("host", "zygote", "watcher"):
            gone = set().union(*processes.sandbox.values(), processes.kinds["supervisor"])
        elif kind == "init":
            gone = processes.sandbox[victim]
        else:
            return
        for pid in gone:
            assert await asyncio.to_thread(processes.ended, pid), f"{pid} outlived its {kind}"

    # ---- what goes on while the kill comes ------------------------------------------------------------------

    async def _nothing(self, number: int) -> None:
        pass

    async def _command(self, number: int) -> None:
        async with self.home.client() as gateway:
            await sh(gateway, self.dice.choice(SANDBOXES), "sleep 0.05; (sleep 100 &) ; cat /proc/self/status", 20)

    async def _stop_and_start(self, number: int) -> None:
        async with self.home.client() as gateway:
            name = self.dice.choice(SANDBOXES)
            await gateway.stop(name)
            await gateway.start(name)

    async def _come_and_go(self, number: int) -> None:
        async with self.home.client() as gateway:
            await self.create(gateway, f"guest-{number}")
            await gateway.delete(f"guest-{number}")

    # ---- and back -------------------------------------------------------------------------------------------

    async def recover(self, *, restart: bool) -> None:
        """Until every sandbox is ready with a running probe; starts what nothing starts by itself."""
        if restart:
            await asyncio.to_thread(self.home.cli, "gateway", "start")
        async with within(100), self.home.client() as gateway:
            for guest in await gateway.sandboxes():
                if guest.name not in SANDBOXES:
                    await self._patiently(gateway.delete(guest.name))
            for name in SANDBOXES:
                await self._until_ready(gateway, name)

    async def _patiently(self, call: Awaitable[object]) -> None:
        """A driver host that was killed meanwhile refuses once; the next step sees to it."""
        with contextlib.suppress(GatewayError):
            await call

    async def _until_ready(self, gateway: Gateway, name: str) -> None:
        async for sandbox in gateway.watch_status(name):
            if sandbox.phase == "Ready":
                return
            if sandbox.phase in ("Error", "Completed"):
                await self._patiently(gateway.stop(name))
            elif sandbox.phase == "Stopped":
                await self._patiently(gateway.start(name))


async def run(kills: int) -> None:
    print(f"OPENSHELL_CHAOS_SEED={SEED}, {kills} kills")
    with trap() as listening, house() as home:
        chaos = Chaos(home, random.Random(SEED), listening)
        async with home.client() as gateway:
            for name in SANDBOXES:
                await chaos.create(gateway, name)
            ids = [(await gateway.get(name)).id for name in SANDBOXES]
            port = gateway.registration.endpoint.rpartition(":")[2]
        await chaos.recover(restart=False)
        for number in range(kills):
            await chaos.step(number)
        print(f"killed: {chaos.killed}")
        for sandbox_id in ids:
            workspace = home.sandbox_dir(sandbox_id) / "workspace"
            assert not (workspace / "breach").exists(), (workspace / "breach").read_text()
            assert (workspace / "begun").stat().st_size >= 1
            assert int((workspace / "count").read_text() or "1")
        assert not home.upstream.requests, "something arrived at a server nobody may reach"
        home.cli("sandbox", "delete", "--all")
        async with home.client() as gateway:
            assert await gateway.sandboxes() == []
        assert not list(leftovers.driver_state(home.root).glob("sandboxes/*"))
        assert not list(leftovers.driver_state(home.root).glob("trash/*"))
        home.cli("gateway", "stop")
        await asyncio.to_thread(nothing_left, home.root, chaos.seen, int(port))


def nothing_left(root: pathlib.Path, seen: set[str], port: int) -> None:
    """The driver host leaves by itself once no gateway and no sandbox needs it: wait for exactly that."""
    for pid in leftovers.processes(root):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            assert select.select([handle], [], [], 60)[0], f"still there: {leftovers.processes(root)}"
            os.close(handle)
    assert leftovers.processes(root) == {}
    assert seen or os.geteuid() != 0, "no sandbox was ever looked at"
    assert leftovers.holders(seen) == []
    assert leftovers.mounts(root) == []
    assert leftovers.control_groups(root) == []
    assert leftovers.sockets(root) == []
    assert not leftovers.listening(port)


async def test_twenty_random_kills_leave_nothing_and_open_nothing() -> None:
    await run(SHORT)


@pytest.mark.deep
@pytest.mark.timeout(3600)
async def test_two_hundred_random_kills_leave_nothing_and_open_nothing() -> None:
    await run(LONG)
