"""What both databases promise: whole transactions, one order, announcements in that order, any text, no half backup."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks, meta
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

from . import core as core_module
from .core import Core, opened, raw, rest

WAIT = 60


@pytest.fixture
def url(database: str, tmp_path: Path) -> str:
    return core_module.url_of(tmp_path / "a.db")


def put(key: str, value: str = "x") -> sa.Insert:
    return meta.insert().values(key=key, value=value)


async def keys(store: Store) -> list[str]:
    return list(await store.run(lambda tx: tx.scalars(sa.select(meta.c.key).order_by(meta.c.key)).all()))


async def test_whole_or_nothing_and_the_next_one_works(url: str) -> None:
    store = Store(url)
    await store.open()

    def fails(tx: sa.Connection) -> None:
        tx.execute(put("half"))
        store.announce("config:*")
        raise RuntimeError("stop")

    with store.bus.subscribe("config:*") as heard:
        with pytest.raises(RuntimeError, match="stop"):
            await store.run(fails)

        def works(tx: sa.Connection) -> None:
            tx.execute(put("whole"))
            store.announce("config:*", pyopenshell_pb2.ProposalState(chunk_id="told"))

        await store.run(works)
        assert (await asyncio.wait_for(anext(heard), WAIT)).payload.chunk_id == "told"
    assert await keys(store) == ["whole"]
    await store.close()


async def test_a_name_that_is_taken_does_not_spoil_what_follows(url: str) -> None:
    store = Store(url)
    await store.open()
    await store.run(lambda tx: tx.execute(put("one")))
    with pytest.raises(sa.exc.IntegrityError):
        await store.run(lambda tx: tx.execute(put("one")))
    await store.run(lambda tx: tx.execute(put("two")))
    assert await keys(store) == ["one", "two"]
    await store.close()


async def test_announcements_arrive_in_commit_order_whatever_their_size(url: str) -> None:
    store = Store(url)
    await store.open()

    def write(number: int) -> Callable[[sa.Connection], None]:
        def fn(tx: sa.Connection) -> None:
            # From nothing to a hundred kilobytes: one notification of PostgreSQL holds eight.
            size = (number * 7919) % 100_000
            store.announce("inbox", pyopenshell_pb2.InboxEvent(sandbox_id=str(number), sandbox_name="n" * size))
            store.announce("inbox")

        return fn

    with store.bus.subscribe("inbox") as heard:
        await asyncio.gather(*(store.run(write(number)) for number in range(40)))
        for number in range(40):
            event = (await asyncio.wait_for(anext(heard), WAIT)).payload
            assert (event.sandbox_id, len(event.sandbox_name)) == (str(number), (number * 7919) % 100_000)
            assert (await asyncio.wait_for(anext(heard), WAIT)).payload is None
    await store.close()


@pytest.mark.parametrize("text", ["a\x00b", "\x1a", "\x1a0\x00\x1a1", "\U0001f512 \u202e\ufffe\t\r\n'\"\\%s", ""])
async def test_any_text_comes_back_as_it_was(url: str, text: str) -> None:
    store = Store(url)
    await store.open()
    await store.run(lambda tx: tx.execute(put("k", text)))
    assert await store.run(lambda tx: tx.scalar(sa.select(meta.c.value).where(meta.c.key == "k"))) == text
    assert await store.run(lambda tx: tx.scalar(sa.select(meta.c.key).where(meta.c.value == text))) == "k"
    await store.close()


async def test_what_a_hostile_sandbox_sends_is_stored_or_refused_but_never_breaks_the_store(
    database: str, tmp_path: Path
) -> None:
    """Longer than an index can hold, numbers that no column holds, characters that no text column takes."""
    async with opened(tmp_path / "a.db") as core:
        box = await core.sandbox()
        long = "/" + "x" * 4000
        summary = openshell_pb2.DenialSummary(
            host="h\x00.example.com", port=2**32 - 1, binary=long, l7_inspection_active=True, deny_reason="\x00" * 2000
        )
        for _ in range(2):
            summary.l7_request_samples.add(method="PUT\x00", path="/" + "\u20ac" * 2047, count=2**32 - 1)
        summary.last_seen_time.seconds = 2**62
        await core.inbox.submit(box, openshell_pb2.SubmitPolicyAnalysisRequest(summaries=[summary]))
        (seen,) = await core.inbox.observed(box)
        assert (seen.host, seen.binary, seen.method, seen.count) == ("h\x00.example.com", long, "PUT\x00", 2**33 - 2)

        request = openshell_pb2.SubmitPolicyAnalysisRequest(analysis_mode="mechanistic")
        request.proposed_chunks.add().CopyFrom(core_module.message(raw("a.example.com", binaries=(long,))))
        request.proposed_chunks[0].rationale = "because\x00"
        request.proposed_chunks[0].first_seen_time.seconds = -(2**60)
        for _ in range(2):
            response = await core.inbox.submit(box, request)
        (chunk,) = (await core.inbox.list(box, bodies=False)).chunks
        assert list(response.accepted_chunk_ids) == [chunk.id]
        assert (chunk.hit_count, chunk.rationale, chunk.binary) == (2, "because\x00", long)
        # An agent's proposal for the same replaces the observation: the long key is found again.
        await core.propose(box, raw("a.example.com", binaries=(long,)))
        assert (await core.chunk(box, chunk.id)).status == "rejected"


async def test_a_revision_exists_once_when_two_gateways_decide_at_the_same_time(url: str, tmp_path: Path) -> None:
    """Two stores on one database, as two replicas have it: the one order of decisions is the database's."""
    one, two = Core(tmp_path / "a.db"), Core(tmp_path / "a.db")
    await one.store.open()
    await two.store.open()
    box = await one.sandbox()
    ids = await one.propose(box, *(rest(f"h{number}.example.com", "GET /x") for number in range(12)))

    async def decide(core: Core, mine: list[str]) -> int:
        done = 0
        for chunk_id in mine:
            while True:
                try:
                    await core.approve(box, chunk_id)
                except GatewayError as error:
                    if error.reason not in ("PROPOSAL_INPUTS_CHANGED", "REVIEW_TOKEN_MISMATCH"):
                        raise
                else:
                    done += 1
                    break
        return done

    assert tuple(await asyncio.gather(decide(one, ids[::2]), decide(two, ids[1::2]))) == (6, 6)
    rows = await one.store.run(
        lambda tx: tx.execute(
            sa.select(draft_chunks.c.policy_version, draft_chunks.c.applied_order).order_by(
                draft_chunks.c.policy_version
            )
        ).all()
    )
    assert [row.applied_order for row in rows] == list(range(1, 13))
    assert len({row.policy_version for row in rows}) == 12
    assert len((await two.base(box)).rules) == 12
    await one.store.close()
    await two.store.close()


async def test_a_transaction_in_another_gateway_is_waited_for(url: str) -> None:
    one, two = Store(url, Bus()), Store(url, Bus())
    await one.open()
    await two.open()
    inside, go = threading.Event(), threading.Event()

    def slow(tx: sa.Connection) -> None:
        tx.execute(put("first"))
        inside.set()
        go.wait(WAIT)

    holding = asyncio.ensure_future(one.run(slow))
    await asyncio.to_thread(inside.wait, WAIT)
    waiting = asyncio.ensure_future(keys(two))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    await holding
    assert await waiting == ["first"]
    await one.close()
    await two.close()
