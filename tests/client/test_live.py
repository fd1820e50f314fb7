"""The picture that screens show: complete, by push, bounded; and decisions that hold only for what was shown."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from pyopenshell.client import GatewayError, decide, live, mapping
from pyopenshell.client.decide import NothingNarrowerError, Shown, StaleError
from pyopenshell.client.live import Live, Picture
from pyopenshell.client.values import Chunk, InboxEvent
from tests.cli import samples
from tests.desk import NOTES, Desk, desk, until
from tests.gateway.core import rest


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as one:
        yield one


@contextlib.asynccontextmanager
async def following(desk: Desk) -> AsyncIterator[Live]:
    picture = Live(desk.client)
    task = asyncio.create_task(picture.follow())
    try:
        await until(picture, lambda: picture.connected)
        yield picture
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def shown(desk: Desk, sandbox: str, chunk_id: str) -> Shown:
    chunk = await desk.chunk(sandbox, chunk_id)
    assert chunk is not None
    return Shown(sandbox, chunk.id, chunk.review_token, chunk.status)


async def test_the_picture_begins_complete_and_follows(at: Desk) -> None:
    box = await at.sandbox()
    approved = await at.put_notes(box, "/first")
    await decide.approve(at.client, await shown(at, "box", approved))
    pending = await at.put_notes(box, "/second")
    await at.refuse(box, "PUT", "/refused")
    async with following(at) as picture:
        assert [one.name for one in picture.sandboxes()] == ["box"]
        assert [one.chunk.id for one in picture.pending()] == [pending]
        assert [one.chunk.id for one in picture.decided("box")] == [approved]
        assert [one.denial.path for one in picture.observed()] == ["/refused"]
        card = await picture.card(pending)
        assert card is not None
        assert (card.proof, card.status, card.sandbox) == ("complete", "pending", "box")
        await at.client.clear("box")
        await until(picture, lambda: not picture.pending())
        assert await picture.card(pending) is None
        await at.client.delete("box")
        await until(picture, lambda: not picture.sandboxes())
        assert (picture.decided(), picture.observed()) == ([], [])


async def test_a_card_never_pairs_a_chunk_with_another_versions_proof(at: Desk) -> None:
    """Attack G-2: the proof is fetched after the chunk was told, so it may be of a newer version."""
    box = await at.sandbox()
    chunk = await at.put_notes(box, "/narrow")
    async with following(at) as picture:
        await until(picture, lambda: picture.pending())
        entry = picture.picture.entries[chunk]
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
        await until(picture, lambda: picture.picture.entries[chunk].chunk.review_token != entry.chunk.review_token)
        picture.picture.entries[chunk] = entry  # as if the push had not come yet
        card = await picture.card(chunk)
        assert card is not None
        assert (card.token, card.proof, card.permits) == (entry.chunk.review_token, "missing", ())


@pytest.mark.parametrize("how", ["approve", "reject", "narrow", "undo"])
async def test_no_decision_on_what_was_not_shown(at: Desk, how: str) -> None:
    box = await at.sandbox()
    await at.refuse(box, "PUT", NOTES + "a.md")
    chunk = await at.put_notes(box)
    if how == "undo":
        await decide.approve(at.client, await shown(at, "box", chunk))
    seen = await shown(at, "box", chunk)
    if how == "undo":
        await at.client.reject("box", chunk, "changed my mind")
    else:
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
    before = await at.client.history("box")
    act = getattr(decide, how)
    with pytest.raises(StaleError, match="changed since it was shown") as stale:
        await (act(at.client, seen, "no") if how == "reject" else act(at.client, seen))
    assert stale.value.chunk is not None
    assert stale.value.chunk.id == chunk
    assert await at.client.history("box") == before
    await at.client.delete("box")
    with pytest.raises(StaleError, match="gone"):
        await (act(at.client, seen, "no") if how == "reject" else act(at.client, seen))


async def test_the_gateway_checks_again_what_changes_in_between(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    seen = await shown(at, "box", chunk)
    approve = at.client.approve

    async def late(*args: str, expires: datetime.timedelta | None = None) -> tuple[int, str]:
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
        return await approve(*args, expires=expires)

    monkeypatch.setattr(at.client, "approve", late)
    with pytest.raises(StaleError):
        await decide.approve(at.client, seen)
    assert await at.status("box", chunk) == "pending"


async def test_the_gateways_own_reason_is_passed_on(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    seen = await shown(at, "box", chunk)
    config = await at.client.config("box")
    assert config.policy is not None
    await at.client.set_policy(config.policy)
    with pytest.raises((GatewayError, StaleError)):
        await decide.approve(at.client, seen)
    with pytest.raises(NothingNarrowerError):
        await decide.narrow(at.client, await shown(at, "box", chunk))


async def test_bulk_skips_what_changed_or_was_decided(at: Desk) -> None:
    box = await at.sandbox()
    ids = [await at.put_notes(box, f"/{n}") for n in range(4)]
    seen = [await shown(at, "box", one) for one in ids]
    await at.client.edit("box", ids[1], rest("api.github.com", "PUT /**", name="save_notes"))
    await at.client.reject("box", ids[2], "")
    assert await decide.approve_all(at.client, seen) == (2, 2)
    assert [await at.status("box", one) for one in ids] == ["approved", "pending", "rejected", "approved"]
    assert await decide.approve_all(at.client, seen[2:3]) == (0, 1)


# ---- bounds and order, without a gateway ---------------------------------------------------------------------------


def told(chunk: Chunk, sandbox: str = "box") -> InboxEvent:
    return InboxEvent(sandbox, "default", f"id-of-{sandbox}", chunk=chunk)


def chunk(number: int, status: str = "pending") -> Chunk:
    return dataclasses.replace(mapping.chunk(samples.chunk()), id=f"{number:04d}", status=status)


def test_decided_proposals_are_bounded_and_pending_ones_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "DECIDED_KEPT", 3)
    picture = Picture()
    for number in range(10):
        picture.take(told(chunk(number)))
        picture.take(told(chunk(100 + number, "rejected")))
    assert sum(one.chunk.status == "pending" for one in picture.entries.values()) == 10
    assert [key for key in picture.entries if key >= "0100"] == ["0107", "0108", "0109"]


def test_observed_denials_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "OBSERVED_KEPT", 3)
    picture = Picture()
    for number in range(10):
        one = dataclasses.replace(mapping.observed(samples.observed()), path=f"/{number}")
        picture.take(InboxEvent("box", "default", "id", observed=one))
        picture.take(InboxEvent("box", "default", "id", observed=dataclasses.replace(one, count=9)))
    assert [(one.denial.path, one.denial.count) for one in picture.sightings.values()] == [
        ("/7", 9),
        ("/8", 9),
        ("/9", 9),
    ]


def test_one_request_refused_for_two_reasons_is_two_denials() -> None:
    """The gateway counts them apart; a newer reason must not hide an older one."""
    picture = Picture()
    for reason in ("not allowed", "credential in a header"):
        one = dataclasses.replace(mapping.observed(samples.observed()), reason=reason)
        picture.take(InboxEvent("box", "default", "id", observed=one))
    assert [one.denial.reason for one in picture.sightings.values()] == ["not allowed", "credential in a header"]


class Scripted:
    """A gateway whose streams are given; after the last one it is out of reach."""

    def __init__(self, *streams: list[InboxEvent]) -> None:
        self.streams = list(streams)

    async def watch_inbox(self, *, overview: bool) -> AsyncGenerator[InboxEvent]:
        assert overview
        if not self.streams:
            raise GatewayError("UNIMPLEMENTED", "no more")
        for event in self.streams.pop(0):
            yield event


async def test_a_restart_replaces_the_picture_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.0)
    synced, restart = InboxEvent("", "default", synced=True), InboxEvent("", "default", restart=True)
    first = [told(chunk(1)), told(chunk(2)), synced, restart, told(chunk(2)), synced]
    second = [told(chunk(3)), synced]
    pictures: list[list[str]] = []
    following = Live(Scripted(first, second))  # type: ignore[arg-type]

    async def look() -> None:
        pictures.extend([sorted(following.picture.entries) async for _ in following.changes()])

    looking = asyncio.create_task(look())
    with pytest.raises(GatewayError, match="no more"):
        await following.follow()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert sorted(following.picture.entries) == ["0003"]
    assert [] not in pictures[1:]
    assert (following.connected, following.trouble) == (False, "no more")
