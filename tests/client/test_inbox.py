"""`async for item in gateway.inbox()`: order, at-least-once, resumption, decisions bound to what was shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pyopenshell.client import Gateway, GatewayError, Inbox, Item, StaleError
from pyopenshell.client.registration import Places, resolve
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.core import message, rest
from tests.gateway.serving import FakeDriver, Served, environ, serving


async def ask(served: Served, sandbox: openshell_pb2.Sandbox, host: str) -> str:
    request = openshell_pb2.SubmitPolicyAnalysisRequest(
        name=sandbox.metadata.name, analysis_mode="agent_authored", proposed_chunks=[message(rest(host, "GET /x"))]
    )
    (chunk_id,) = (await served.supervisor(sandbox).client.SubmitPolicyAnalysis(request)).accepted_chunk_ids
    return str(chunk_id)


async def connect(tmp_path: Path) -> Gateway:
    return await Gateway.open(resolve(Places.of(environ(tmp_path))))


async def take(inbox: Inbox, count: int) -> list[Item]:
    found: list[Item] = []
    async with asyncio.timeout(60):
        async for item in inbox:
            found.append(item)
            if len(found) == count:
                break
    return found


async def test_items_come_oldest_first_then_as_they_happen(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await connect(tmp_path) as gateway:
        box = await served.create(name="box")
        first = [await ask(served, box, f"{name}.example.com") for name in ("a", "b")]
        inbox = aiter(gateway.inbox())
        assert [(await anext(inbox)).id for _ in range(2)] == first
        waiting = asyncio.ensure_future(anext(inbox))
        third = await ask(served, box, "c.example.com")
        item = await asyncio.wait_for(waiting, 60)
        assert (item.id, item.sandbox, item.workspace) == (third, "box", "default")
        assert item.review is not None
        assert item.review.proven
        await inbox.aclose()


async def test_a_decision_counts_for_what_was_shown_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await connect(tmp_path) as gateway:
        box = await served.create(name="box")
        await ask(served, box, "a.example.com")
        (item,) = await take(gateway.inbox("box"), 1)
        applied = await item.approve(expires="1h")
        assert applied.policy_version == 2
        review = (await gateway.reviews("box", [item.id]))[item.id]
        assert review.lease is not None
        assert review.lease.duration.total_seconds() == 3600
        with pytest.raises(StaleError):
            await item.reject("too late")
        with pytest.raises(ValueError, match="invalid duration"):
            await item.approve(expires="soon")
        assert (await item.undo()).policy_version == 3
        (again,) = await take(gateway.inbox("box"), 1)
        await again.reject("no")
        with pytest.raises(StaleError):
            await again.undo()
        told = [(one.event, one.via.split()[0] if one.via else "") for one in await gateway.decisions("box", item.id)]
        assert told == [
            ("proposed", ""),
            ("approved", "ApproveChunk"),
            ("undone", "UndoDraftChunk"),
            ("rejected", "RejectDraftChunk"),
        ]


async def test_it_goes_on_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with serving(tmp_path, driver) as served:
        port = served.gateway.port
        box = await served.create(name="box")
        first = await ask(served, box, "a.example.com")
        gateway = await connect(tmp_path)
        inbox = aiter(gateway.inbox())
        assert (await anext(inbox)).id == first
        waiting = asyncio.ensure_future(anext(inbox))
    async with serving(tmp_path, driver) as served:
        assert served.gateway.port == port
        box = await served.create(name="other")
        second = await ask(served, box, "b.example.com")
        item = await asyncio.wait_for(waiting, 60)
        assert item.id == second  # what was told before is not told again
        await inbox.aclose()
        await gateway.__aexit__(None, None, None)
    await driver.end()


async def test_a_place_is_good_for_another_process(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await connect(tmp_path) as gateway:
        box = await served.create(name="box")
        first = await ask(served, box, "a.example.com")
        inbox = gateway.inbox()
        stream = aiter(inbox)
        assert (await anext(stream)).id == first
        waiting = asyncio.ensure_future(anext(stream))
        second = await ask(served, box, "b.example.com")
        assert (await asyncio.wait_for(waiting, 60)).id == second
        # The second was not finished: whoever goes on from here gets it again, and not the first.
        assert inbox.cursor
        assert [item.id for item in await take(gateway.inbox(resume_after=inbox.cursor), 1)] == [second]
        await stream.aclose()


async def test_what_no_retry_can_cure_is_raised_and_details_come_along(tmp_path: Path) -> None:
    async with serving(tmp_path), await connect(tmp_path) as gateway:
        with pytest.raises(GatewayError, match="sandbox not found"):
            await take(gateway.inbox("nobody"), 1)
        with pytest.raises(GatewayError) as caught:
            await take(gateway.inbox(resume_after="x"), 1)
        assert (caught.value.reason, caught.value.fields) == ("INVALID_ARGUMENT", ("resume_after_cursor",))
