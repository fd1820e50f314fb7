"""The watcher serves every sandbox: a flood in one must not starve another, and no full table may shift an identity."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyopenshell.drivers.base import ExecRequest
from pyopenshell.isolation import identity as rooms
from pyopenshell.isolation.identity import ConnectionIdentity, IdentityError
from pyopenshell.isolation.processes import stat_key
from pyopenshell.isolation.watcher import NOBODY, RECORD
from tests.drivers.sandboxes import Box

FLOOD = """
import os, socket, sys
def connect():
    s = socket.socket()
    try: s.connect(('127.0.0.1', 9))
    except OSError: pass
    s.close()
r, w = os.pipe()
for depth in range(40):  # a long chain of ancestors is dear to read
    if os.fork():
        os.close(w)
        os.wait()
        os._exit(0)
children = 0
for _ in range(48):
    children += 1
    if not os.fork():
        count = 0
        while not os.path.exists('/sandbox/stop'):
            connect()
            count += 1
        os.write(w, b'%d\\n' % count)
        os._exit(0)
print('up', flush=True)
for _ in range(children): os.wait()
os.close(w)
print(sum(int(line) for line in os.fdopen(r)), flush=True)
"""
MODEST = """
import socket
for _ in range(300):
    s = socket.socket()
    try: s.connect(('127.0.0.1', 9))
    except OSError: pass
    s.close()
print('done')
"""


@pytest.mark.e2e
async def test_a_flood_in_one_sandbox_does_not_starve_another(box: Box) -> None:
    await box.create("hostile")
    await box.create()
    process = await box.driver.exec("hostile", ExecRequest(["/usr/bin/python3", "-c", FLOOD]))
    output = process.output()
    assert await anext(output) == ("stdout", b"up\n")
    assert (await box.python(MODEST)).out == "done\n"
    (box.root("hostile") / "workspace" / "stop").touch()
    text = b"".join([data async for name, data in output if name == "stdout"])
    await process.aclose()
    # 48 at a time against one: first come, first served would be 48 to one and more.
    assert int(text) < 16 * 300


@pytest.mark.e2e
async def test_another_programs_memory_is_not_to_be_written(box: Box) -> None:
    await box.create()
    ran = await box.python(
        "import os, subprocess\n"
        "p = subprocess.Popen(['/bin/sleep', '1000'])\n"
        "for way in (os.O_WRONLY, os.O_RDWR):\n"
        " try: os.open(f'/proc/{p.pid}/mem', way); print('open')\n"
        " except OSError as error: print('refused')\n"
        "p.kill()"
    )
    assert ran.out == "refused\nrefused\n"


class Told:
    """An identity whose watcher is the test."""

    def __init__(self) -> None:
        records, self.watcher = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.identity = ConnectionIdentity(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4), records, -1)
        self.identity.start()
        self.file = os.open("/bin/sleep", os.O_RDONLY)

    def introduce(self, mark: int, chain: int, path: str = "/bin/sleep") -> None:
        image = [path, *stat_key(os.fstat(self.file)), False, True]
        message = {"m": mark, "p": 7, "c": chain, "x": [image], "n": [0]}
        socket.send_fds(self.watcher, [json.dumps(message).encode()], [self.file])

    def record(self, mark: int, chain: int) -> None:
        self.watcher.send(RECORD.pack(mark, chain, 7))

    async def who(self, mark: int) -> str:
        class Accepted(socket.socket):
            def getsockopt(self, *_: int) -> int:  # type: ignore[override]
                return mark if mark < 1 << 31 else mark - (1 << 32)

        with Accepted() as accepted:
            try:
                return (await self.identity.identify(accepted)).exe
            except IdentityError as error:
                return error.code

    def close(self) -> None:
        self.identity.close()
        self.watcher.close()
        os.close(self.file)


@pytest.fixture
def make_told() -> Iterator[Callable[[], Told]]:
    made: list[Told] = []

    def make() -> Told:
        made.append(Told())
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_a_number_names_one_connection_once(make_told: Callable[[], Told]) -> None:
    told = make_told()
    told.introduce(1, 1)
    told.record(2, 1)
    told.record(0xFFFFFFFF, 1)
    assert [await told.who(mark) for mark in (2, 1, 0xFFFFFFFF)] == ["/bin/sleep"] * 3
    assert [await told.who(mark) for mark in (2, 1, 0, 3)] == ["connection_unseen"] * 4


async def test_what_was_not_told_or_belongs_to_several_is_nobodys(make_told: Callable[[], Told]) -> None:
    told = make_told()
    told.record(1, 5)
    told.record(2, NOBODY)
    assert [await told.who(mark) for mark in (1, 2)] == ["connection_unseen", "owner_ambiguous"]


async def test_full_tables_forget_and_never_confuse(
    make_told: Callable[[], Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_RECORDS", 8)
    monkeypatch.setattr(rooms, "_CHAINS", 2)
    told = make_told()
    for mark in range(1, 10):
        told.introduce(mark, mark, f"/{mark}")
    told.record(10, 1)
    told.record(11, 9)
    assert await told.who(11) == "/9"
    # Of the eight records that are left, those whose chain is remembered.
    unseen = "connection_unseen"
    assert [await told.who(mark) for mark in range(1, 11)] == [unseen] * 7 + ["/8", "/9", unseen]


async def test_chains_are_bounded_by_what_they_weigh(
    make_told: Callable[[], Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long names of programs must not let few chains, or the records that speak of them, cost much."""
    monkeypatch.setattr(rooms, "CHAIN_BYTES", 10_000)
    told = make_told()
    for mark in range(1, 101):
        told.introduce(mark, mark, f"/{'x' * 4000}{mark}")
        while told.identity._take():
            pass
    assert await told.who(100) == f"/{'x' * 4000}100"
    known = [await told.who(mark) != "connection_unseen" for mark in range(1, 100)]
    assert known == sorted(known), "the oldest went first"
    assert 2 <= sum(known) <= 5
    told.record(101, 100)
    assert await told.who(101) == f"/{'x' * 4000}100"


async def test_programs_are_known_on_a_machine_without_a_thread_to_spare(
    make_told: Callable[[], Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told = make_told()
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        told.introduce(1, 1)
        assert await told.who(1) == "/bin/sleep"


async def test_a_file_that_is_not_the_one_that_was_seen_is_unreadable(make_told: Callable[[], Told]) -> None:
    told = make_told()
    other = os.open(Path(__file__), os.O_RDONLY)
    image = ["/bin/x", *stat_key(os.fstat(told.file)), False, True]
    message = {"m": 1, "p": 7, "c": 1, "x": [image], "n": [0]}
    socket.send_fds(told.watcher, [json.dumps(message).encode()], [other])
    os.close(other)
    assert await told.who(1) == "binary_unreadable"
