"""How the demo looks: two lanes, the agent inside and the person outside, each line with its time since the start.

Everything that came from the agent is made visible before it is printed.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from collections.abc import Callable

import click

from pyopenshell.cli.output import say
from pyopenshell.client import visible_lines

_LANES = {"inside": ("agent ", "cyan"), "outside": ("you   ", "yellow"), "stage": ("      ", "white")}


class Screen:
    """Lines go to stdout, or to stderr when stdout carries JSON."""

    def __init__(self, *, err: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._err, self._clock, self._begun = err, clock, clock()
        stream = sys.stderr if err else sys.stdout
        width = shutil.get_terminal_size((110, 24)).columns if stream.isatty() else 118
        self._width = max(60, min(width, 140)) - 18

    @property
    def seconds(self) -> float:
        return self._clock() - self._begun

    def title(self, text: str) -> None:
        say(err=self._err)
        say(click.style(f"  {text}", bold=True), err=self._err)
        say(err=self._err)

    def stage(self, text: str) -> None:
        """What the machinery does."""
        self._lane("stage", text)

    def inside(self, text: str) -> None:
        """What the agent does and says: hostile until proven otherwise."""
        self._lane("inside", visible_lines(text.replace("\n", " "), 1200)[0])

    def outside(self, text: str, *, strong: bool = False) -> None:
        """What the person sees and decides."""
        self._lane("outside", text, strong=strong)

    def blank(self) -> None:
        say(err=self._err)

    def plain(self, text: str, colour: str | None = None) -> None:
        say(click.style(text, fg=colour) if colour else text, err=self._err)

    async def prompt(self, text: str) -> str:
        """Ask the person. Raises EOFError when there is nobody.

        Waits for the terminal to have a line instead of blocking a thread in it: a demo that ends meanwhile must not
        hang until somebody presses Enter.
        """
        self._lane("outside", text, newline=False)
        say(" ", err=self._err, newline=False)
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()

    def _lane(self, lane: str, text: str, *, strong: bool = False, newline: bool = True) -> None:
        name, colour = _LANES[lane]
        indent = " " * (len(text) - len(text.lstrip(" ")) + 2)
        pieces = textwrap.wrap(
            text, self._width, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False
        ) or [""]
        for number, piece in enumerate(pieces):
            moment = f"{self.seconds:7.2f}s" if number == 0 else " " * 8
            bar = click.style("│" if lane == "stage" else "┃", fg=colour)
            label = click.style(name if number == 0 else " " * 6, fg=colour)
            styled = click.style(piece, bold=True) if strong else piece
            say(f"{click.style(moment, dim=True)}  {label}{bar} {styled}", err=self._err, newline=newline)
