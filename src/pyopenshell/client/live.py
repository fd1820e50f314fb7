"""The whole inbox as it is now, kept by push: what a screen shows. One stream, resumed when it breaks; no polling.

Decides nothing. Everything kept is bounded, whatever sandboxes send.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from pyopenshell.client import cards
from pyopenshell.client.errors import GatewayError
from pyopenshell.client.values import Chunk, InboxEvent, Observed, Review, Sandbox

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

FIRST_PAUSE, LAST_PAUSE = 0.25, 5.0
"""Seconds before the stream is opened again after it broke."""
DECIDED_KEPT = 1000
OBSERVED_KEPT = 1000
REVIEWS_KEPT = 256
_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One proposal and whose it is."""

    sandbox_id: str
    sandbox: str
    chunk: Chunk


@dataclasses.dataclass(frozen=True, slots=True)
class Sighting:
    """One observed denial and whose it is."""

    sandbox_id: str
    sandbox: str
    denial: Observed


class Picture:
    """Everything at one moment."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Sandbox] = {}
        self.entries: dict[str, Entry] = {}
        self.sightings: dict[tuple[object, ...], Sighting] = {}

    def take(self, event: InboxEvent) -> None:
        """One event that is not a mark."""
        if event.chunk is not None:
            self._take_chunk(event, event.chunk)
        elif event.observed is not None:
            one = event.observed
            key = (event.sandbox_id, one.host, one.port, one.binary, one.method, one.path, one.reason)
            self.sightings.pop(key, None)
            self.sightings[key] = Sighting(event.sandbox_id, event.sandbox, one)
            while len(self.sightings) > OBSERVED_KEPT:
                del self.sightings[next(iter(self.sightings))]
        elif event.state is not None:
            self.sandboxes[event.sandbox_id] = event.state
        elif event.gone:
            self.sandboxes.pop(event.sandbox_id, None)
            self.entries = {k: v for k, v in self.entries.items() if v.sandbox_id != event.sandbox_id}
            self.sightings = {k: v for k, v in self.sightings.items() if v.sandbox_id != event.sandbox_id}

    def _take_chunk(self, event: InboxEvent, chunk: Chunk) -> None:
        known = self.entries.pop(chunk.id, None)
        if chunk.status == "cleared":
            return
        self.entries[chunk.id] = Entry(event.sandbox_id, event.sandbox, chunk)
        if chunk.status != "pending" and (known is None or known.chunk.status == "pending"):
            decided = [key for key, one in self.entries.items() if one.chunk.status != "pending"]
            for key in decided[: max(0, len(decided) - DECIDED_KEPT)]:
                del self.entries[key]


class Live:
    """Run `follow` as a task; read `picture`, `connected` and `trouble` at any time; wait with `changes`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.picture = Picture()
        self.connected = False
        self.trouble = ""
        self.version = 0
        self._news = asyncio.Event()
        self._reviews: collections.OrderedDict[tuple[str, str, str], Review] = collections.OrderedDict()

    def __repr__(self) -> str:
        state = "connected" if self.connected else f"not connected ({self.trouble or 'yet'})"
        return f"<Live inbox of {len(self.picture.sandboxes)} sandboxes, {len(self.pending())} pending: {state}>"

    # -- reading -----------------------------------------------------------------------------------------------

    def pending(self, sandbox: str = "") -> list[Entry]:
        """Newest first; of all sandboxes without a name."""
        found = [one for one in self._of(sandbox) if one.chunk.status == "pending"]
        return sorted(found, key=lambda one: (one.chunk.created or _BEGINNING, one.chunk.id), reverse=True)

    def decided(self, sandbox: str = "") -> list[Entry]:
        """Latest decision first."""
        found = [one for one in self._of(sandbox) if one.chunk.status != "pending"]
        return sorted(found, key=lambda one: (one.chunk.decided or _BEGINNING, one.chunk.id), reverse=True)

    def observed(self, sandbox: str = "") -> list[Sighting]:
        """Latest first."""
        found = [one for one in self.picture.sightings.values() if sandbox in ("", one.sandbox)]
        return sorted(found, key=lambda one: one.denial.last_seen or _BEGINNING, reverse=True)

    def sandboxes(self) -> list[Sandbox]:
        """By name."""
        return sorted(self.picture.sandboxes.values(), key=lambda one: one.name)

    def entry(self, chunk_id: str) -> Entry | None:
        return self.picture.entries.get(chunk_id)

    async def card(self, chunk_id: str) -> cards.Card | None:
        """The card with its proof, None when there is no such proposal any more. Raises GatewayError.

        A chunk that changes while its proof is fetched gets a card without proof; its change is a change of the
        picture, so whoever shows it asks again.
        """
        entry = self.entry(chunk_id)
        if entry is None:
            return None
        review = await self._review(entry)
        entry = self.entry(chunk_id)
        return None if entry is None else cards.card_of(entry.sandbox, entry.chunk, review)

    def correct(self, chunk_id: str, chunk: Chunk | None) -> None:
        """What the gateway said when a decision was stale: the picture must not wait for the push to say it too."""
        entry = self.picture.entries.get(chunk_id)
        if entry is None:
            return
        if chunk is None:
            del self.picture.entries[chunk_id]
        else:
            self.picture.entries[chunk_id] = dataclasses.replace(entry, chunk=chunk)
        self._changed()

    async def _review(self, entry: Entry) -> Review | None:
        chunk = entry.chunk
        key = (chunk.id, chunk.review_token, chunk.status)
        if key in self._reviews:
            self._reviews.move_to_end(key)
            return self._reviews[key]
        try:
            review = (await self.gateway.reviews(entry.sandbox, [chunk.id])).get(chunk.id)
        except GatewayError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        if review is None or review.review_token != chunk.review_token:
            return None
        if review.lease is not None:
            return review  # its end can be moved without any change of the chunk
        self._reviews[key] = review
        if len(self._reviews) > REVIEWS_KEPT:
            self._reviews.popitem(last=False)
        return review

    def _of(self, sandbox: str) -> list[Entry]:
        return [one for one in self.picture.entries.values() if sandbox in ("", one.sandbox)]

    # -- following ---------------------------------------------------------------------------------------------

    async def changes(self) -> AsyncGenerator[int]:
        """The version of the picture now, and again whenever it has changed; changes that come fast count as one."""
        seen = -1
        while True:
            while self.version == seen:
                await self._news.wait()
            seen = self.version
            yield seen

    async def follow(self) -> None:
        """Until cancelled. A refusal that no retry can cure (UNIMPLEMENTED, PERMISSION_DENIED, ...) is raised."""
        pause = FIRST_PAUSE
        while True:
            try:
                async for _ in self._watch():
                    pause = FIRST_PAUSE
                self._lost("the gateway ended the stream")
            except GatewayError as error:
                self._lost(error.message)
                if error.code in ("UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT"):
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _watch(self) -> AsyncIterator[None]:
        """One stream. What came before `synced` becomes the picture at once, so that a screen never shows half."""
        coming: Picture | None = Picture()
        async for event in self.gateway.watch_inbox(overview=True):
            if event.restart:
                coming = Picture()
            elif event.synced:
                if coming is not None:
                    self.picture, coming = coming, None
                self.connected, self.trouble = True, ""
                self._changed()
            else:
                (coming or self.picture).take(event)
                if coming is None:
                    self._changed()
            yield

    def _lost(self, why: str) -> None:
        self.connected, self.trouble = False, why
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
