"""Identity of an accepted connection. Budget: <= 10 us at accept, at 10 and at 2,000 processes (design 6).

The timing runs in the supervisor: `measure` is the entry point the driver host forks. Then what the watcher costs the
sandbox, and races: of 300 connections whose maker exits, becomes another program, is orphaned or shares the socket, how
many are attributed to their maker, the proxy asking as late as it can.
Usage: python -m benchmarks.identity
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path

from benchmarks._sandbox import running_box, summary
from pyopenshell.drivers.base import ExecRequest
from pyopenshell.isolation import channel
from pyopenshell.isolation.identity import ConnectionIdentity, IdentityError
from pyopenshell.supervisor.spec import SupervisorSpec

CONNECTIONS = """
import socket, sys, time
spent = []
for _ in range(500):
    began = time.perf_counter()
    s = socket.create_connection(('10.200.0.1', 3128))
    spent.append((time.perf_counter() - began) * 1e6)
    s.recv(1)
spent.sort()
print(f'connect() inside: p50 {spent[250]:.0f} us')
"""
EXECS = """
import os, time
spent = []
for _ in range(300):
    began = time.perf_counter()
    pid = os.posix_spawn('/bin/true', ['true'], {})
    os.waitpid(pid, 0)
    spent.append((time.perf_counter() - began) * 1e6)
spent.sort()
print(f'spawn and wait for /bin/true inside: p50 {spent[150]:.0f} us')
"""
RACE = """
import os, socket, sys, time
count, mode = int(sys.argv[1]), sys.argv[2]
for _ in range(count):
    if os.fork():
        time.sleep(0.001)
        continue
    s = socket.create_connection(('10.200.0.1', 3128))
    os.set_inheritable(s.fileno(), True)
    if mode == 'exec':
        os.execv('/bin/sleep', ['sleep', '0.2'])
    if mode == 'orphan' and os.fork():
        os._exit(0)
    if mode == 'shared' and not os.fork():
        os.execv('/bin/sleep', ['sleep', '0.2'])
    os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
"""
RACES = 300
CROWD = """
import os, signal
for _ in range(COUNT):
    if not os.fork():
        signal.pause()
print('up', flush=True)
signal.pause()
"""


def measure(spec: SupervisorSpec, control: socket.socket) -> int:
    return asyncio.run(_measure(spec, control))


async def _measure(spec: SupervisorSpec, control: socket.socket) -> int:
    message, fds = channel.receive(control)
    assert message is not None
    sockets = dict(zip(message["names"], fds, strict=True))
    identity = ConnectionIdentity(
        socket.socket(fileno=sockets["diag"]), socket.socket(fileno=sockets["identity"]), sockets["proc"]
    )
    identity.start()
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sockets["lifeline"], over.set)
    listener = socket.socket(fileno=sockets["proxy"])

    async def serve() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                accepted, _ = await loop.sock_accept(listener)
                if spec.name == "late":
                    await asyncio.sleep(0.002)
                began = time.perf_counter_ns()
                try:
                    found = (await identity.identify(accepted)).exe
                except IdentityError as error:
                    found = error.code
                spent = time.perf_counter_ns() - began
                with Path(spec.root, "spent").open("a") as file:
                    file.write(f"{spent} {found}\n")
                accepted.close()

    task = asyncio.create_task(serve())
    channel.send(control, {"op": "ready"})
    await over.wait()
    task.cancel()
    await task
    return 0


async def main() -> None:
    async with running_box("benchmarks.identity:measure") as box:
        for crowd in (10, 2000):
            name = f"crowd{crowd}"
            await box.create(name)
            request = ExecRequest(["/usr/bin/python3", "-c", CROWD.replace("COUNT", str(crowd))])
            waiting = await box.driver.exec(name, request)
            await anext(waiting.output())
            ran = await box.python(CONNECTIONS, box=name)
            values = [int(line.split()[0]) / 1e3 for line in (box.root(name) / "spent").read_text().splitlines()]
            print(json.dumps(crowd), "processes: identify", summary(values[1:], "us"), "|", ran.out.strip())
            await box.driver.delete(name)
        await box.create("late", name="late")
        print((await box.python(EXECS, box="late")).out.strip())
        python, spent = str(Path("/usr/bin/python3").resolve()), box.root("late") / "spent"
        for mode in ("exit", "exec", "orphan", "shared"):
            await box.python(RACE, str(RACES), mode, box="late")
            while spent.read_text().count("\n") < RACES:
                await asyncio.sleep(0.01)
            right = sum(line.endswith(f" {python}") for line in spent.read_text().splitlines())
            spent.write_text("")
            print(f"race, then {mode}: {right} of {RACES} right")


if __name__ == "__main__":
    asyncio.run(main())
