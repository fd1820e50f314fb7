"""`openshell term`: sandboxes and proposals on the left, the chosen proposal with its proof on the right.

Only what is on the screen can be decided: a decision carries the review token of the card that is shown, counts only
once that card has stood there for a moment and was scrolled to its end, and a card that changes under the person's
eyes must be looked at again. Decides nothing itself.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, OptionList, RichLog, Static, TabbedContent, TabPane
from textual.widgets.option_list import Option

from pyopenshell.client import cards, decide, visible
from pyopenshell.client.cards import Card
from pyopenshell.client.decide import NothingNarrowerError, Shown, StaleError
from pyopenshell.client.durations import spoken
from pyopenshell.client.errors import GatewayError
from pyopenshell.client.live import Entry, Live
from pyopenshell.client.values import Chunk
from pyopenshell.tui import paint, theme
from pyopenshell.tui.dialogs import Bulk, Help, Limit, Reason

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

SETTLE = 0.4
"""Seconds a card must have stood on the screen before a key decides it: reading takes longer, a second key press that
was meant for the card before it does not."""
LOG_LINES = 500
LOG_KEPT = 5000
BULK_MOST = 50
"""Proposals of one bulk approval: more than anybody reads at once."""
CHANGED = "Changed while you were looking. Read it again, then decide."
LINE = "-"
_PIECES = ("title", "sandboxes", "inbox", "empty", "tabs", "paper", "denials", "lines")
"""Ids of what is drawn into."""
EVERY = "*"
"""Id of the row that stands for all sandboxes; sandbox ids are UUIDs."""

KEYS: tuple[tuple[str, str], ...] = (
    ("j k ↑ ↓", "move in a list or scroll"),
    ("Tab", "next part of the screen"),
    ("Enter", "into the proposal; Esc back to the list"),
    ("Space b", "page through the proposal"),
    ("a", "approve the proposal that is shown"),
    ("T", "approve it for a time, or renew such an approval"),
    ("x", "reject it, or revoke an approval, with a reason for the agent"),
    ("n", "narrow it to exactly the requests that were refused"),
    ("u", "undo an approval: the policy becomes what it was"),
    ("A", "approve several: shows them all first"),
    ("r o l", "proposal, observed denials, log"),
    ("f", "follow the log again"),
    ("t", "dark or light"),
    ("q", "quit"),
)


class Term(App[None]):
    """One gateway, one workspace. `failure` says why it ended by itself. `clock` is monotonic, in seconds; `now` is
    the time of day, for approvals that end."""

    CSS_PATH = Path(__file__).with_name("style.tcss")
    TITLE = "OpenShell"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-normal"), (100, "-medium"), (130, "-wide")]  # noqa: RUF012 - textual declares it so
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "Approve"),
        Binding("T", "limit", "For a time"),
        Binding("x", "reject", "Reject"),
        Binding("n", "narrow", "Narrow"),
        Binding("u", "undo", "Undo"),
        Binding("A", "approve_all", "Several"),
        Binding("question_mark", "help", "Keys"),  # before what a narrow screen may cut off
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("r", "show('proposal')", "Proposal", show=False),
        Binding("o", "show('observed')", "Observed"),
        Binding("l", "show('log')", "Log"),
        Binding("f", "follow", "Follow", show=False),
        Binding("j", "step(1)", "Down", show=False),
        Binding("k", "step(-1)", "Up", show=False),
        Binding("space", "page(1)", "More", show=False),
        Binding("b", "page(-1)", "Back", show=False),
        Binding("escape", "leave", "Back", show=False),
        Binding("t", "toggle_theme", "Theme", show=False),
    ]

    def __init__(
        self,
        gateway: Gateway,
        *,
        theme_name: str = theme.DARK.name,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        super().__init__(ansi_color=theme_name.startswith("ansi-") or None)
        self.gateway, self.live = gateway, Live(gateway)
        self.failure: GatewayError | None = None
        self._clock, self._now = clock, now
        self._sandbox = ""
        self._chosen = ""
        self._card: Card | None = None
        self._card_since = 0.0
        self._chunk: Chunk | None = None
        self._drawn = False
        self._notice = ""
        self._expected = ""
        self._busy = False
        self._log_of = ""
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        self.theme = theme_name

    # -- layout ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Static("Sandboxes", classes="heading", markup=False)
                yield OptionList(id="sandboxes", markup=False)
                yield Static("Proposals", classes="heading", markup=False)
                yield OptionList(id="inbox", markup=False)
                yield Static(id="empty", markup=False)
            with TabbedContent(id="tabs", initial="proposal"):
                with TabPane("Proposal", id="proposal"), VerticalScroll(id="card"):
                    yield Static(id="paper", markup=False)
                with TabPane("Observed", id="observed"), VerticalScroll(id="seen"):
                    yield Static(id="denials", markup=False)
                with TabPane("Log", id="log"):
                    yield RichLog(id="lines", markup=False, wrap=True, max_lines=LOG_KEPT, min_width=20)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#inbox", OptionList).focus()
        self._follow()
        self._paint()
        self.set_interval(1, self._count_down)

    @work(group="follow", exit_on_error=False)
    async def _follow(self) -> None:
        try:
            await self.live.follow()
        except GatewayError as error:
            self.failure = error
            self.exit(return_code=1)

    @work(group="paint")
    async def _paint(self) -> None:
        async for _ in self.live.changes():
            if self._standing():
                self._refresh()

    def _standing(self) -> bool:
        """False once the screen is being taken down, piece by piece: workers end a little later."""
        return all(self.query(f"#{name}") for name in _PIECES)

    # -- drawing -----------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Everything that follows from the picture. Keeps the place in every list by id, never by position."""
        if self._sandbox and all(one.name != self._sandbox for one in self.live.sandboxes()) and self.live.connected:
            self._sandbox = ""
        self._draw_title()
        self._draw_sandboxes()
        self._draw_inbox()
        denials = self.live.observed(self._sandbox)
        self.query_one("#denials", Static).update(paint.observed(denials, named=not self._sandbox))
        label = f"Observed ({len(denials)})" if denials else "Observed"
        self.query_one("#tabs", TabbedContent).get_tab("observed").label = Content(label)
        self._follow_log()

    def _draw_title(self) -> None:
        pending = len(self.live.pending())
        state = ("connected", paint.GOOD) if self.live.connected else (self.live.trouble or "connecting", paint.BAD)
        name = visible(self.gateway.registration.name, 40)
        self.query_one("#title", Static).update(
            paint.text(
                (">_ OpenShell", "bold"), ("  gateway ", paint.DIM), name, " (", (visible(state[0], 60), state[1]), ")",
                ("  workspace ", paint.DIM), visible(self.gateway.workspace, 40),
                (f"  {pending} pending" if pending else "  nothing pending", paint.WARN if pending else paint.DIM),
            )
        )  # fmt: skip

    def _draw_sandboxes(self) -> None:
        counts: dict[str, int] = {}
        for entry in self.live.pending():
            counts[entry.sandbox_id] = counts.get(entry.sandbox_id, 0) + 1
        rows = [(EVERY, paint.everyone(sum(counts.values())))]
        chosen = EVERY
        for one in self.live.sandboxes():
            rows.append((one.id, paint.sandbox(one, counts.get(one.id, 0))))
            chosen = one.id if one.name == self._sandbox else chosen
        self._fill("#sandboxes", rows, chosen)

    def _draw_inbox(self) -> None:
        entries = self._entries()
        ids = [one.chunk.id for one in entries]
        inbox = self.query_one("#inbox", OptionList)
        if self._chosen not in ids:
            self._chosen = ids[0] if ids else ""
        self._fill("#inbox", self._rows(entries), self._chosen)
        inbox.display = bool(entries)
        empty = self.query_one("#empty", Static)
        empty.display = not entries
        empty.update(_nothing(self._sandbox, connected=self.live.connected))
        self._draw_card()

    def _entries(self) -> list[Entry]:
        return [*self.live.pending(self._sandbox), *self.live.decided(self._sandbox)]

    def _rows(self, entries: Sequence[Entry]) -> list[tuple[str, Content]]:
        """What waits for a decision, a line, what is decided."""
        rows = [(one.chunk.id, paint.row(one.chunk, "" if self._sandbox else one.sandbox)) for one in entries]
        pending = sum(one.chunk.status == "pending" for one in entries)
        if pending < len(rows):
            rows.insert(pending, (LINE, paint.text(("decided", paint.DIM))))
        return rows

    def _fill(self, selector: str, rows: Sequence[tuple[str, Content]], chosen: str) -> None:
        listed = self.query_one(selector, OptionList)
        with self.prevent(OptionList.OptionHighlighted):
            if [option.id for option in listed.options] == [key for key, _ in rows]:
                for key, prompt in rows:
                    listed.replace_option_prompt(key, prompt)
            else:
                top = listed.scroll_offset.y
                listed.set_options([Option(prompt, id=key, disabled=key == LINE) for key, prompt in rows])
                listed.scroll_to(y=top, animate=False, immediate=True)
            keys = [key for key, _ in rows]
            listed.highlighted = keys.index(chosen) if chosen in keys else None

    def _draw_card(self) -> None:
        """The chosen proposal as the picture has it; its proof follows as soon as the gateway has given it."""
        entry = self.live.entry(self._chosen) if self._chosen else None
        if entry is None:
            self._card = None
            self.query_one("#paper", Static).update(paint.text(("No proposal chosen.", paint.DIM)))
            return
        shown = self._card
        if shown is not None and shown.id == entry.chunk.id:
            if (shown.token, shown.status) == (entry.chunk.review_token, entry.chunk.status):
                # The end of an approval for a time is moved without any other change of the proposal.
                renewed = shown.expires is not None and self._chunk is not entry.chunk
                if shown.proof == "missing" or renewed:
                    self._fetch(entry.chunk.id)
                elif shown.hits != entry.chunk.hit_count:
                    self._put(cards.with_hits(shown, entry.chunk), keep=True)
                return
            if shown.status == entry.chunk.status == "pending" and shown.proof != "missing":
                # What this person just did is no surprise, but its new proof counts as unread all the same.
                self._notice = "" if self._expected == shown.id else CHANGED
                self._expected = ""
        else:
            self._notice = self._expected = ""
        self._put(cards.card_of(entry.sandbox, entry.chunk, None))
        self._fetch(entry.chunk.id)

    @work(group="card", exclusive=True)
    async def _fetch(self, chunk_id: str) -> None:
        entry = self.live.entry(chunk_id)
        self._chunk = entry.chunk if entry is not None else None
        try:
            card = await self.live.card(chunk_id)
        except GatewayError as error:
            self._say(f"the proof cannot be shown: {error}", bad=True)
            return
        if card is not None and card.id == self._chosen and card.proof != "missing" and self._standing():
            shown = self._card
            self._put(card, keep=shown is not None and dataclasses.replace(shown, **_ends(card)) == card)

    def _count_down(self) -> None:
        if self._standing() and self._card is not None and self._card.expires is not None:
            self._write()

    def _write(self) -> None:
        if self._card is not None:
            self.query_one("#paper", Static).update(paint.card(self._card, self._notice, self._now()))

    def _put(self, card: Card, *, keep: bool = False) -> None:
        """On the screen. `keep`: only something beside the point changed, so it counts as seen as before."""
        self._card = card
        self._write()
        if keep:
            return
        self._card_since, self._drawn = self._clock(), False
        self.query_one("#card", VerticalScroll).scroll_home(animate=False, immediate=True)
        self.call_after_refresh(self._was_drawn)

    def _was_drawn(self) -> None:
        self._drawn = True

    # -- moving ------------------------------------------------------------------------------------------------

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id is None:
            return
        if event.option_list.id == "inbox":
            if event.option_id != self._chosen:
                self._chosen = event.option_id
                self._draw_card()
                self._follow_log()
            return
        one = self.live.picture.sandboxes.get(event.option_id)
        name = one.name if one is not None else ""
        if name != self._sandbox:
            self._sandbox = name
            self._refresh()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_list.id == "inbox":
            self.action_show("proposal")
            self.query_one("#card").focus()
        else:
            self.query_one("#inbox").focus()

    def on_tabbed_content_tab_activated(self) -> None:
        self._follow_log()

    def action_show(self, tab: str) -> None:
        self.query_one("#tabs", TabbedContent).active = tab

    def action_step(self, by: int) -> None:
        focused = self.focused
        if isinstance(focused, OptionList):
            (focused.action_cursor_down if by > 0 else focused.action_cursor_up)()
        elif focused is not None:
            focused.scroll_relative(y=by * 2, animate=False)

    def action_page(self, by: int) -> None:
        for name in ("card", "seen", "lines"):
            part = self.query_one(f"#{name}")
            if part.visible and part.is_on_screen:
                (part.scroll_page_down if by > 0 else part.scroll_page_up)(animate=False)

    def action_leave(self) -> None:
        self.action_show("proposal")
        self.query_one("#inbox").focus()

    def action_toggle_theme(self) -> None:
        pairs = ((theme.DARK.name, theme.LIGHT.name), ("ansi-dark", "ansi-light"))
        for dark, light in pairs:
            if self.theme in (dark, light):
                self.theme = light if self.theme == dark else dark
                return

    def action_help(self) -> None:
        self.push_screen(Help(KEYS))

    # -- deciding ----------------------------------------------------------------------------------------------

    def _looked_at(self, *statuses: str, whole: bool = False) -> Shown | None:
        """What is on the screen, if it may be decided now; otherwise says what is in the way, and shows it."""
        tabs = self.query_one("#tabs", TabbedContent)
        card = self._card
        if self._busy:
            return None
        if card is None:
            self._say("no proposal is chosen")
        elif tabs.active != "proposal":
            tabs.active = "proposal"
            self._card_since = self._clock()
            self._say("this is the proposal: decide once you have read it")
        elif card.status not in statuses:
            self._say(f"this proposal is {card.status}")
        elif self._notice:
            self._notice = ""
            self._put(card)
            self._say("it changed: read it again, then decide")
        elif card.proof == "missing" or not self._drawn:
            self._say("its proof is still being fetched")
        elif self._clock() - self._card_since < SETTLE:
            self._say("this just came up: look at it first")
        elif whole and not self._at_end():
            self.query_one("#card", VerticalScroll).scroll_page_down(animate=False)
            self._say("there was more below: approve once you have seen the end")
        else:
            return Shown(card.sandbox, card.id, card.token, card.status)
        return None

    def _at_end(self) -> bool:
        part = self.query_one("#card", VerticalScroll)
        return part.scroll_offset.y >= part.max_scroll_y

    def action_approve(self) -> None:
        shown = self._looked_at("pending", "rejected", whole=True)
        if shown is not None:
            self._decide("approved", lambda: decide.approve(self.gateway, shown))

    def action_limit(self) -> None:
        shown, card = self._looked_at("pending", "rejected", "approved", whole=True), self._card
        if shown is None or card is None:
            return
        if card.status == "approved" and card.expires is None:
            self._say("this approval has no end: undo it (u), then approve it for a time")
            return

        def answered(length: datetime.timedelta | None) -> None:
            if length is not None:
                said = f"approved for {spoken(length.total_seconds())}"
                self._decide(said, lambda: decide.approve(self.gateway, shown, expires=length))

        self.push_screen(Limit(card), answered)

    def action_narrow(self) -> None:
        shown = self._looked_at("pending")
        if shown is not None:
            self._expected = shown.id
            self._decide("narrowed to what was refused: read it", lambda: decide.narrow(self.gateway, shown))

    def action_undo(self) -> None:
        shown = self._looked_at("approved")
        if shown is not None:
            self._decide("approval undone: the policy is what it was", lambda: decide.undo(self.gateway, shown))

    def action_reject(self) -> None:
        shown, card = self._looked_at("pending", "approved"), self._card
        if shown is None or card is None:
            return
        done = "revoked" if card.status == "approved" else "rejected"

        def answered(reason: str | None) -> None:
            if reason is not None:
                self._decide(done, lambda: decide.reject(self.gateway, shown, reason))

        self.push_screen(Reason(card), answered)

    @work(group="bulk", exclusive=True)
    async def action_approve_all(self) -> None:
        """Shows what is pending now, and approves exactly that."""
        entries = self.live.pending(self._sandbox)
        if not entries:
            self._say("nothing is pending")
            return
        try:
            found = [await self.live.card(one.chunk.id) for one in entries[:BULK_MOST]]
        except GatewayError as error:
            self._say(str(error), bad=True)
            return
        fit = [one for one in found if one and not one.application and not one.security and one.proof == "complete"]
        if not fit:
            self._say("each of these wants a look of its own")
            return
        if await self.push_screen_wait(Bulk(fit, len(entries) - len(fit))):
            shown = [Shown(one.sandbox, one.id, one.token, one.status) for one in fit]
            self._decide("approved {0[0]}, skipped {0[1]}", lambda: decide.approve_all(self.gateway, shown))

    @work(group="decision")
    async def _decide(self, done: str, decision: Callable[[], Awaitable[Any]]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._say(done.format(await decision()))
        except StaleError as error:
            self._expected = ""
            self._say(str(error), bad=True)
            self.live.correct(error.shown.id, error.chunk)
        except (GatewayError, NothingNarrowerError) as error:
            self._expected = ""
            self._say(str(error), bad=True)
        finally:
            self._busy = False

    # -- log ---------------------------------------------------------------------------------------------------

    def _follow_log(self) -> None:
        """The log of the chosen sandbox, or of the chosen proposal's, while it can be seen."""
        if self.query_one("#tabs", TabbedContent).active != "log":
            return
        entry = self.live.entry(self._chosen) if self._chosen else None
        wanted = self._sandbox or (entry.sandbox if entry is not None else "")
        if wanted == self._log_of or not self.live.connected:
            return
        self._log_of = wanted
        lines = self.query_one("#lines", RichLog)
        lines.clear()
        if wanted:
            self._tail(wanted)
        else:
            lines.write(paint.remark("Choose a sandbox to see its log."))

    @work(group="log", exclusive=True)
    async def _tail(self, sandbox: str) -> None:
        lines = self.query_one("#lines", RichLog)
        lines.write(paint.remark(f"log of {visible(sandbox)}"))
        try:
            async for line in self.gateway.tail(sandbox, lines=LOG_LINES):
                if not self._standing():
                    return
                lines.write(paint.remark(visible(line)) if isinstance(line, str) else paint.log_line(line))
        except GatewayError as error:
            lines.write(paint.remark(visible(str(error))))
        self._log_of = ""  # once the gateway is back, from the beginning

    def action_follow(self) -> None:
        lines = self.query_one("#lines", RichLog)
        lines.auto_scroll = True
        lines.scroll_end(animate=False)

    def _say(self, message: str, *, bad: bool = False) -> None:
        self.notify(visible(message, 400), severity="error" if bad else "information", markup=False, timeout=6)


def _ends(card: Card) -> dict[str, Any]:
    return {"expires": card.expires, "ends": card.ends, "given": card.given}


def _nothing(sandbox: str, *, connected: bool) -> Content:
    if not connected:
        return paint.text(("Connecting ...", paint.DIM))
    where = f"in {visible(sandbox)}" if sandbox else "anywhere"
    return paint.text(
        (f"Nothing to decide {where}.\n\n", "bold"),
        ("Proposals appear here the moment an agent makes one, and refused connections as drafts.", paint.DIM),
    )


async def run(gateway: Gateway, wanted_theme: str) -> None:
    """Until the person quits. Raises GatewayError when the gateway refuses to be watched."""
    term = Term(gateway, theme_name=theme.choose(wanted_theme, os.environ))
    await term.run_async()
    if term.failure is not None:
        raise term.failure
