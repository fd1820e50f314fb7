"""Work that is run up to where it first waits."""

from __future__ import annotations

import asyncio

import pytest

from pyopenshell.supervisor.tasks import Begun


async def test_work_that_does_not_wait_is_done_at_once() -> None:
    async def work() -> str:
        return "here"

    begun = Begun(work())
    assert (begun.done, begun.result) == (True, "here")


async def test_work_that_waits_goes_on_where_it_is_awaited() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()

    async def work() -> tuple[str, str]:
        return await first, await second

    begun = Begun(work())
    assert (begun.done, begun.result) == (False, None)
    first.set_result("a")  # before anybody awaits the rest
    loop.call_soon(second.set_result, "b")
    assert await begun == ("a", "b")


async def test_what_work_raises_comes_when_it_is_raised() -> None:
    async def work(gate: asyncio.Future[None] | None) -> None:
        if gate is not None:
            await gate
        raise LookupError

    with pytest.raises(LookupError):
        Begun(work(None))
    gate = asyncio.get_running_loop().create_future()
    begun = Begun(work(gate))
    gate.set_result(None)
    with pytest.raises(LookupError):
        await begun


async def test_cancelling_who_awaits_cancels_the_work() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("work")

    begun = Begun(work())

    async def rest() -> None:
        await begun

    task = asyncio.create_task(rest())
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["work"]
