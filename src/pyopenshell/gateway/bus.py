"""Who hears of what was committed: in-process publish and subscribe, bounded, without polling.

Decides nothing and stores nothing. Everything here runs on the gateway's event loop; other threads hand over with
`loop.call_soon_threadsafe`. What a transaction announces (`Store.announce`) is published after its commit, in commit
order, in every gateway of the database; a payload is None or one of the messages below.

Topics and payloads:

    config:<sandbox id>     None: this sandbox must be sent a fresh snapshot
    config:*                None: every sandbox must (a global setting or policy changed)
    proposals:<sandbox id>  pyopenshell.v1.ProposalState
    inbox                   pyopenshell.v1.InboxEvent
    sandboxes               pyopenshell.v1.InboxEvent: a sandbox changed (one that is gone is told on inbox)
    sandbox:<sandbox id>    None: the stored sandbox changed, or openshell.v1.DraftPolicyUpdate
    logs:<sandbox id>       None: there are new lines in the store
    sessions                pyopenshell.v1.InboxEvent: a supervisor's session at another gateway came or went
    leases                  None: an approval was given a limit, or one may be over
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from typing import Any, Self

DEFAULT_CAPACITY = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One published payload; or, with topic "" and `dropped` > 0, the marker that this subscriber was too slow.

    After a marker the subscriber must read the present state from the store; everything that follows is complete.
    """

    topic: str
    payload: Any = None
    dropped: int = 0


class Subscription:
    """An async iterator of `Message`, and a context manager that unsubscribes. One consumer."""

    def __init__(self, bus: Bus, topics: tuple[str, ...], capacity: int) -> None:
        self._bus, self.topics, self._capacity = bus, topics, capacity
        self._queue: collections.deque[Message] = collections.deque()
        self._dropped = 0
        self._closed = False
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._queue)} waiting, {self._dropped} dropped"
        return f"<Subscription {', '.join(self.topics)}: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while True:
            if self._dropped:
                # What is still queued is older than what was lost: the marker replaces all of it.
                dropped, self._dropped = self._dropped + len(self._queue), 0
                self._queue.clear()
                return Message("", None, dropped)
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Unsubscribe; a waiting consumer ends. Idempotent."""
        if not self._closed:
            self._closed = True
            self._bus._remove(self)
            self._wake.set()

    def _lag(self) -> None:
        self._dropped += 1
        self._wake.set()

    def _offer(self, message: Message) -> None:
        if self._dropped or len(self._queue) >= self._capacity:
            self._dropped += 1
        else:
            self._queue.append(message)
        self._wake.set()


class Bus:
    """All subscriptions of one gateway process."""

    def __init__(self) -> None:
        self._topics: dict[str, list[Subscription]] = {}

    def publish(self, topic: str, payload: Any = None) -> None:
        """Hand `payload` to every present subscriber. Never blocks, never fails."""
        for subscription in tuple(self._topics.get(topic, ())):
            subscription._offer(Message(topic, payload))

    def subscribe(self, *topics: str, capacity: int = DEFAULT_CAPACITY) -> Subscription:
        """Subscribed from this moment on, not from the first `async for` step."""
        subscription = Subscription(self, topics, capacity)
        for topic in set(topics):
            self._topics.setdefault(topic, []).append(subscription)
        return subscription

    def missed(self) -> None:
        """Nobody knows what was published meanwhile: every subscriber must read the present state."""
        for subscriptions in tuple(self._topics.values()):
            for subscription in tuple(subscriptions):
                subscription._lag()

    def subscribers(self, topic: str) -> int:
        return len(self._topics.get(topic, ()))

    def _remove(self, subscription: Subscription) -> None:
        for topic in set(subscription.topics):
            remaining = [other for other in self._topics.get(topic, ()) if other is not subscription]
            if remaining:
                self._topics[topic] = remaining
            else:
                self._topics.pop(topic, None)
