"""The bus: order, isolation of slow readers, and no reader left behind."""

from __future__ import annotations

import asyncio

import pytest

from pyopenshell.gateway.bus import Bus, Message


async def test_delivers_in_order_to_every_subscriber_of_a_topic() -> None:
    bus = Bus()
    with bus.subscribe("a", "b") as both, bus.subscribe("a") as one:
        bus.publish("a", 1)
        bus.publish("b", 2)
        bus.publish("a", 3)
        assert [(await anext(both)).payload for _ in range(3)] == [1, 2, 3]
        assert [(await anext(one)).payload for _ in range(2)] == [1, 3]


async def test_subscribes_at_once_not_at_the_first_read() -> None:
    bus = Bus()
    subscription = bus.subscribe("a")
    bus.publish("a", "early")
    assert await anext(subscription) == Message("a", "early")
    subscription.close()


async def test_slow_reader_gets_one_marker_and_then_only_what_is_new() -> None:
    bus = Bus()
    with bus.subscribe("a", capacity=3) as slow, bus.subscribe("a") as quick:
        for number in range(10):
            bus.publish("a", number)
        marker = await anext(slow)
        assert (marker.topic, marker.dropped) == ("", 10)
        bus.publish("a", "new")
        assert (await anext(slow)).payload == "new"
        assert [(await anext(quick)).payload for _ in range(10)] == list(range(10))


async def test_close_ends_a_waiting_reader_and_forgets_the_topic() -> None:
    bus = Bus()
    subscription = bus.subscribe("a")
    reading = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    subscription.close()
    subscription.close()
    with pytest.raises(StopAsyncIteration):
        await reading
    assert bus.subscribers("a") == 0
    assert "closed" in repr(subscription)


async def test_publishing_wakes_a_waiting_reader() -> None:
    bus = Bus()
    with bus.subscribe("a") as subscription:
        reading = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        bus.publish("a", "x")
        assert (await asyncio.wait_for(reading, 5)).payload == "x"
