"""Consoles over a fake process: leaving and coming back, several readers, slow ones, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyopenshell.gateway import consoles
from pyopenshell.gateway.consoles import Console, Consoles


class FakeTerminal:
    """A process of which the test says what it prints and when it ends."""

    def __init__(self) -> None:
        self.printed: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.closed = False

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        while (data := await self.printed.get()) is not None:
            yield "stdout", data

    async def write(self, data: bytes) -> None:
        await self.printed.put(data)

    def close_stdin(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    def signal(self, number: int) -> None: ...

    async def wait(self) -> int:
        return 7

    async def aclose(self) -> None:
        self.closed = True


async def attached(all_: Consoles, process: FakeTerminal) -> tuple[Console, bool]:
    async def start() -> FakeTerminal:
        return process

    return await all_.attach("box", start)


async def settle(console: Console, text: bytes) -> None:
    """Until the console has heard everything it was told."""
    async with asyncio.timeout(60):
        while text not in console.recent:
            await asyncio.sleep(0)


async def test_it_goes_on_without_readers_and_shows_what_it_printed_last() -> None:
    all_, process = Consoles(), FakeTerminal()
    console, resumed = await attached(all_, process)
    assert not resumed
    with console.reading() as reader:
        await process.write(b"one\n")
        assert await reader.pieces.get() == b"one\n"
    await process.write(b"two\n")
    await settle(console, b"two\n")
    again, resumed = await attached(all_, FakeTerminal())
    assert (again, resumed) == (console, True)
    assert again.recent == b"one\ntwo\n"
    with again.reading() as first, again.reading() as second:
        await process.printed.put(None)
        assert (await first.pieces.get(), await second.pieces.get()) == (None, None)
    assert console.exit_code == 7
    await all_.close()
    assert process.closed


async def test_after_its_end_a_new_one_is_started() -> None:
    all_, process = Consoles(), FakeTerminal()
    console, _ = await attached(all_, process)
    await process.printed.put(None)
    async with asyncio.timeout(60):
        while console.exit_code is None:
            await asyncio.sleep(0)
    other, resumed = await attached(all_, FakeTerminal())
    assert not resumed
    assert other is not console
    await all_.close()


async def test_two_who_come_at_once_get_one_console() -> None:
    all_ = Consoles()
    begun: list[FakeTerminal] = []

    async def start() -> FakeTerminal:
        await asyncio.sleep(0)
        begun.append(FakeTerminal())
        return begun[-1]

    found = await asyncio.gather(*(all_.attach("box", start) for _ in range(5)))
    assert len(begun) == 1
    assert sorted(resumed for _, resumed in found) == [False, True, True, True, True]
    await all_.close()


async def test_what_is_kept_is_bounded_and_begins_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "KEPT", 20)
    all_, process = Consoles(), FakeTerminal()
    console, _ = await attached(all_, process)
    for number in range(10):
        await process.write(b"line %d\n" % number)
    await settle(console, b"line 9\n")
    assert console.recent == b"line 8\nline 9\n"
    await all_.close()


async def test_a_reader_that_does_not_read_is_let_go_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "_PATIENCE", 0.01)
    all_, process = Consoles(), FakeTerminal()
    console, _ = await attached(all_, process)
    with console.reading() as stuck, console.reading() as reader:
        got = 0
        for _ in range(200):
            await process.write(b"x")
            got += len(await reader.pieces.get() or b"")
        assert got == 200
        assert stuck.cut.is_set()
    await all_.close()


async def test_who_comes_back_makes_full_screen_programs_paint_anew() -> None:
    all_, process = Consoles(), FakeTerminal()
    console, _ = await attached(all_, process)
    console.resize(80, 24)
    console.redraw(80, 24)
    console.redraw(100, 30)
    assert process.sizes == [(80, 24), (80, 23), (80, 24), (100, 30)]
    await all_.close()
