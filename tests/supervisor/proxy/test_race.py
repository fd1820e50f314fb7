"""Order and timing of attempts at several addresses. Nothing is dialled: attempts are events of the test."""

from __future__ import annotations

import asyncio

import pytest

from pyopenshell.supervisor.proxy.race import first, interleaved

Never = float("inf")
FAR = 1000.0
"""A stagger that no test waits for."""


class Net:
    """Addresses that answer when told to."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.answers: dict[str, asyncio.Future[str]] = {}
        self.discarded: list[str] = []
        self.cancelled: list[str] = []
        self.attempted = asyncio.Event()

    async def dial(self, address: str) -> str:
        self.tried.append(address)
        self.attempted.set()
        try:
            return await self.answers.setdefault(address, asyncio.get_running_loop().create_future())
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise

    async def until_tried(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.tried) < count:
                self.attempted.clear()
                await self.attempted.wait()

    def race(self, *addresses: str, stagger: float) -> asyncio.Future[str]:
        return asyncio.ensure_future(first(addresses, self.dial, self.discarded.append, stagger))


def test_families_take_turns() -> None:
    assert interleaved(["::1", "::2", "::3", "10.1", "10.2"]) == ["::1", "10.1", "::2", "10.2", "::3"]
    assert interleaved(["10.1", "::1"]) == ["10.1", "::1"]
    assert interleaved(["10.2", "10.1"]) == ["10.2", "10.1"]


async def test_a_silent_address_delays_by_the_stagger_and_no_more() -> None:
    net = Net()
    race = net.race("::1", "10.1", "::2", stagger=0.001)
    await net.until_tried(3)
    net.answers["10.1"].set_result("yes")
    assert await race == "yes"
    assert net.tried == ["::1", "10.1", "::2"]
    assert sorted(net.cancelled) == ["::1", "::2"]


async def test_a_refusal_brings_the_next_address_at_once_and_the_winner_stops_the_rest() -> None:
    net = Net()
    race = net.race("a", "b", "c", stagger=FAR)
    await net.until_tried(1)
    net.answers["a"].set_exception(ConnectionRefusedError(111, "refused"))
    await net.until_tried(2)
    net.answers["b"].set_result("b")
    assert await race == "b"
    assert net.tried == ["a", "b"]


async def test_the_last_error_is_the_one_that_is_told() -> None:
    net = Net()
    race = net.race("a", "b", stagger=FAR)
    await net.until_tried(1)
    net.answers["a"].set_exception(ConnectionRefusedError(111, "refused"))
    await net.until_tried(2)
    net.answers["b"].set_exception(OSError(101, "Network is unreachable"))
    with pytest.raises(OSError, match="unreachable"):
        await race


async def test_two_winners_leave_one_connection() -> None:
    net = Net()
    race = net.race("a", "b", stagger=0.001)
    await net.until_tried(2)
    for address in ("a", "b"):
        net.answers[address].set_result(address)
    winner = await race
    assert sorted([winner, *net.discarded]) == ["a", "b"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_winner_whose_race_is_cancelled_while_the_others_end_is_not_forgotten(turns: int) -> None:
    """Whatever the moment: the connection is the caller's, or it is discarded."""
    net, slow = Net(), asyncio.Event()
    kept: list[str] = []

    async def dial(address: str) -> str:
        try:
            return await net.dial(address)
        except asyncio.CancelledError:
            await slow.wait()  # ending an attempt may take its time
            raise

    async def caller() -> None:
        kept.append(await first(("a", "b"), dial, net.discarded.append, 0.001))

    race = asyncio.ensure_future(caller())
    await net.until_tried(2)
    net.answers["a"].set_result("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    race.cancel()
    slow.set()
    await asyncio.gather(race, return_exceptions=True)
    for _ in range(4):
        await asyncio.sleep(0)
    assert kept + net.discarded == ["a"]


async def test_giving_up_ends_every_attempt() -> None:
    net = Net()
    race = net.race("a", "b", stagger=0.001)
    await net.until_tried(2)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert sorted(net.cancelled) == ["a", "b"]
