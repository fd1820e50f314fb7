"""Questions that need an answer of their own: a reason, a list to approve, the keys. Each returns what was answered."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from pyopenshell.client import visible
from pyopenshell.client.cards import Card
from pyopenshell.client.decide import MAX_REASON
from pyopenshell.client.durations import PRESETS, duration
from pyopenshell.tui import paint


class Reason(ModalScreen[str | None]):
    """Why not. None when the person changed their mind; "" is a plain no."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, card: Card) -> None:
        super().__init__()
        self._card = card

    def compose(self) -> ComposeResult:
        verb = "Revoke" if self._card.status == "approved" else "Reject"
        with Vertical(classes="dialog"):
            yield Static(paint.text((f"{verb} ", "bold"), (self._card.rule, "bold")), markup=False)
            yield Static("The agent reads your reason word for word. Say what would be acceptable.", markup=False)
            yield Input(placeholder="for example: only this one file, please", max_length=MAX_REASON)
            yield Static("Enter sends it · empty is a plain no · Esc goes back", classes="hint", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class Limit(ModalScreen[datetime.timedelta | None]):
    """For how long. None when the person changed their mind."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("j", "move(1)", "Down", show=False),
        Binding("k", "move(-1)", "Up", show=False),
        *(Binding(str(number), f"take({number})", show=False) for number in range(1, len(PRESETS) + 1)),
    ]

    def __init__(self, card: Card) -> None:
        super().__init__()
        self._card = card

    def compose(self) -> ComposeResult:
        verb = "Renew" if self._card.status == "approved" else "Approve"
        presets = [Option(f"{number}  {words}") for number, (_, words) in enumerate(PRESETS, 1)]
        with Vertical(classes="dialog"):
            yield Static(paint.text((f"{verb} ", "bold"), (self._card.rule, "bold"), (" for", "bold")), markup=False)
            yield OptionList(*presets, markup=False)
            yield Input(placeholder="or another time: 30s, 5m, 2h, 7d", max_length=20)
            yield Static("", id="wrong", markup=False)
            yield Static(
                "When the time is up the policy becomes what it would be without this approval, and connections that "
                "only it allowed end.",
                markup=False,
            )
            yield Static("Enter or 1 2 3 chooses · Tab, then type · Esc goes back", classes="hint", markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_take(event.option_index + 1)

    def action_take(self, number: int) -> None:
        self.dismiss(duration(PRESETS[number - 1][0]))

    def action_move(self, by: int) -> None:
        presets = self.query_one(OptionList)
        (presets.action_cursor_down if by > 0 else presets.action_cursor_up)()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            length = duration(event.value.strip())
        except ValueError as error:
            self.query_one("#wrong", Static).update(paint.text((visible(str(error)), paint.BAD)))
            return
        self.dismiss(length)


class Bulk(ModalScreen[bool]):
    """Exactly these. What arrives meanwhile is not among them. Says yes only after everything was on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "approve", "Approve these"),
        Binding("n,escape", "dismiss(False)", "Go back"),
    ]

    def __init__(self, cards: Sequence[Card], left_out: int) -> None:
        super().__init__()
        self._cards, self._left_out = cards, left_out

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog tall"):
            yield Static(paint.text((f"Approve these {len(self._cards)} proposals?", "bold")), markup=False)
            if self._left_out:
                yield Static(
                    f"{self._left_out} more pending: with security notes, blocked, or without a finished proof. "
                    "Each of those wants a look of its own.",
                    markup=False,
                )
            with VerticalScroll():
                yield Static(Content("\n").join(paint.summary(card) for card in self._cards), markup=False)
            yield Static(
                "y approves exactly these · n or Esc goes back · PgDn shows more", classes="hint", markup=False
            )

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_approve(self) -> None:
        scroll = self.query_one(VerticalScroll)
        if scroll.scroll_offset.y < scroll.max_scroll_y:
            scroll.scroll_page_down(animate=False)
            return
        self.dismiss(True)


class Help(ModalScreen[None]):
    """Every key."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss(None)", "Back")]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        lines = Content("\n").join(paint.text((f"{key:>12}  ", "bold"), what) for key, what in self._keys)
        with Vertical(classes="dialog"):
            yield Static(paint.text(("Keys", "bold")), markup=False)
            yield Static(lines, markup=False)
            yield Static("Esc goes back", classes="hint", markup=False)
