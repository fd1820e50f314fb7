"""`openshell term` itself, on a real pseudo-terminal: keys go in, what a terminal would draw comes out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from tests.cli import samples
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway, environment
from tests.e2e.house import OPENSHELL

_COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


class Terminal:
    """A child on a pseudo-terminal of 120x50; `screen` is all it wrote."""

    def __init__(self, env: dict[str, str], *args: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self.child = subprocess.Popen(
            [OPENSHELL, *args], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self.screen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
            os.close(self.master)

    def until(self, words: bytes, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while words not in self.screen:
            assert select.select([self.master], [], [], end - time.monotonic())[0], self.screen[-2000:]
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                piece = b""
            assert piece, self.screen[-2000:]
            self.screen += piece

    def close(self) -> int:
        """Exit code, once the child ended by itself."""
        try:
            while True:
                self.screen += os.read(self.master, 65536)
        except OSError:
            return self.child.wait(30)
        finally:
            os.close(self.master)


@pytest.fixture
def env(tmp_path: Path, gateway: FakeGateway) -> dict[str, str]:
    ended = threading.Event()

    def events(request: review_api.WatchInboxRequest) -> Iterator[review_api.InboxEvent]:
        assert request.overview
        box = samples.sandbox()
        box.ClearField("spec")
        yield review_api.InboxEvent(sandbox_id="1", sandbox_name="box", workspace="default", sandbox=box)
        chunk = samples.chunk()
        chunk.rationale = "look \x1b]0;owned\x07 here \x1b[2J"
        yield review_api.InboxEvent(sandbox_id="1", sandbox_name="box", workspace="default", chunk=chunk)
        yield review_api.InboxEvent(workspace="default", synced=True)
        while True:
            ended.wait(0.1)
            yield review_api.InboxEvent(
                sandbox_id="1", sandbox_name="box", workspace="default", observed=samples.observed()
            )

    def reviews(request: object) -> review_api.ListChunkReviewsResponse:
        review = samples.review()
        review.review_token = samples.chunk().review_token
        return review_api.ListChunkReviewsResponse(reviews=[review])

    gateway.answers |= {
        "WatchInbox": events,
        "ListChunkReviews": reviews,
        "GetDraftPolicy": lambda request: api.GetDraftPolicyResponse(chunks=[samples.chunk()]),
    }
    changed = {key: value for key, value in environment(tmp_path).items() if value is not None}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OPENSHELL_")}
    return kept | changed | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    with FakeGateway(tmp_path / "config") as fake:
        yield fake


def test_shows_draws_and_quits_without_colour(env: dict[str, str]) -> None:
    with Terminal(env, "term") as terminal:
        terminal.until(b"Approving would newly permit")
        terminal.until(b"look \\x1b]0;owned\\x07")
        os.write(terminal.master, b"q")
        assert terminal.close() == 0
        assert b"\x1b]0;owned" not in terminal.screen
        assert not _COLOUR.search(terminal.screen)


def test_colours_where_nothing_forbids_them(env: dict[str, str]) -> None:
    del env["NO_COLOR"]
    with Terminal(env, "term", "--theme", "light") as terminal:
        terminal.until(b"Approving would newly permit")
        os.write(terminal.master, b"\x03")
        assert terminal.close() == 0
        assert _COLOUR.search(terminal.screen)


def test_a_terminal_that_goes_away_ends_it_at_once(env: dict[str, str]) -> None:
    """Closed without a SIGHUP, as for a program that is not of the terminal's own session."""
    with Terminal(env, "term") as terminal:
        terminal.until(b"Approving would newly permit")
        os.close(terminal.master)
        assert terminal.child.wait(30) == 129


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_gives_the_terminal_back(env: dict[str, str], number: int, code: int) -> None:
    with Terminal(env, "term") as terminal:
        before = termios.tcgetattr(terminal.master)
        terminal.until(b"Approving would newly permit")
        assert termios.tcgetattr(terminal.master) != before
        terminal.child.send_signal(number)
        terminal.until(b"\x1b[?1049l")
        assert termios.tcgetattr(terminal.master) == before
        assert terminal.close() == code
        assert b"Traceback" not in terminal.screen
        assert b"Error" not in terminal.screen


def test_without_a_terminal_it_says_what_to_use(tmp_path: Path) -> None:
    result = Cli(tmp_path).run("term")
    assert result.exit_code == 2
    assert "openshell rule get --watch" in result.stderr


def test_a_gateway_that_cannot_be_watched_is_an_error(env: dict[str, str], gateway: FakeGateway) -> None:
    del gateway.answers["WatchInbox"]
    with Terminal(env, "term") as terminal:
        assert terminal.close() == 1
        assert b"WatchInbox has no canned answer" in terminal.screen
