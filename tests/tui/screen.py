"""A person at the full-screen inbox: presses keys, reads, and waits for what the screen shows, never for time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from pyopenshell.client import Gateway
from pyopenshell.tui.app import Term


class Screen(Term):
    """Tells the test whenever anything changed; its clock lets every card settle at once unless frozen."""

    def __init__(self, client: Gateway, **options: object) -> None:
        ticks = itertools.count()
        self.frozen = False
        self.news = asyncio.Event()
        self.said: list[str] = []
        super().__init__(client, clock=lambda: 0.0 if self.frozen else float(next(ticks)), **options)  # type: ignore[arg-type]

    def notify(self, message: str, **options: object) -> None:
        assert options["markup"] is False
        self.said.append(message)
        self.news.set()
        super().notify(message, **options)  # type: ignore[arg-type]

    def _refresh(self) -> None:
        super()._refresh()
        self.news.set()

    def _write(self) -> None:
        super()._write()
        self.news.set()

    def _was_drawn(self) -> None:
        super()._was_drawn()
        self.news.set()


class Reviewer:
    """A person at the screen."""

    def __init__(self, screen: Screen, pilot: Pilot[None]) -> None:
        self.screen, self.pilot = screen, pilot

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while True:
                await self.pilot.pause(0)
                if holds():
                    return
                await self.screen.news.wait()
                self.screen.news.clear()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause(0)

    async def proof(self, *words: str) -> None:
        """Until the card shows these, with its proof."""
        card = self.screen
        await self.until(
            lambda: (
                card._card is not None
                and card._card.proof != "missing"
                and card._drawn
                and all(word in self.paper for word in words)
            )
        )

    async def says(self, words: str) -> None:
        await self.until(lambda: any(words in one for one in self.screen.said))

    @property
    def paper(self) -> str:
        return str(self.screen.query_one("#paper", Static).visual)

    @property
    def title(self) -> str:
        return str(self.screen.query_one("#title", Static).visual)

    def rows(self, which: str = "inbox") -> list[str]:
        return [str(option.prompt) for option in self.screen.query_one(f"#{which}", OptionList).options]


@contextlib.asynccontextmanager
async def reviewing(client: Gateway, size: tuple[int, int] = (140, 50), **options: object) -> AsyncIterator[Reviewer]:
    screen = Screen(client, **options)
    async with screen.run_test(size=size) as pilot:
        reviewer = Reviewer(screen, pilot)
        await reviewer.until(lambda: screen.live.connected)
        yield reviewer
