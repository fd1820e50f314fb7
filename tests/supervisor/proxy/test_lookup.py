"""The host's resolver within bounds. The resolver is a function of the test: nothing leaves the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pyopenshell.supervisor.proxy.lookup import Lookups


class Names:
    """A resolver that answers when `gate` opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host != "quick.test":
            self.gate.wait(10)
        if host == "none.test":
            raise OSError(-2, "Name or service not known")
        return ["192.0.2.1"]


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.gate.set()


async def test_silent_names_hold_up_nobody_else(names: Names) -> None:
    lookups = Lookups(8, 10, names)
    slow = [asyncio.ensure_future(lookups(f"{n}.test", 443)) for n in range(7)]
    assert await lookups("quick.test", 443) == ["192.0.2.1"]
    names.gate.set()
    assert await asyncio.gather(*slow) == [["192.0.2.1"]] * 7
    assert repr(lookups) == "<0 of at most 8 lookups under way>"


async def test_waiting_has_an_end_and_the_thread_still_counts(names: Names) -> None:
    lookups = Lookups(1, 0.01, names)
    with pytest.raises(OSError, match="no answer within"):
        await lookups("slow.test", 443)
    with pytest.raises(OSError, match="under way"):
        await lookups("quick.test", 443)
    assert names.asked == ["slow.test"]


async def test_equal_questions_are_one(names: Names) -> None:
    lookups = Lookups(1, 10, names)
    asked = [asyncio.ensure_future(lookups("a.test", port)) for port in (80, 443, 443)]
    await asyncio.sleep(0)
    names.gate.set()
    assert await asyncio.gather(*asked) == [["192.0.2.1"]] * 3
    assert names.asked == ["a.test"]


async def test_a_caller_that_leaves_takes_the_answer_from_nobody(names: Names) -> None:
    lookups = Lookups(1, 10, names)
    leaving, staying = (asyncio.ensure_future(lookups("a.test", 443)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    names.gate.set()
    assert await staying == ["192.0.2.1"]


async def test_no_address_is_said_so(names: Names) -> None:
    names.gate.set()
    with pytest.raises(OSError, match="not known"):
        await Lookups(1, 10, names)("none.test", 443)


async def test_a_thread_that_could_not_be_had_is_no_lookup_under_way(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookups = Lookups(1, 10, names)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread"):
            await lookups("quick.test", 443)
    assert await lookups("quick.test", 443) == ["192.0.2.1"]
