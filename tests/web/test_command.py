"""`openshell web` itself: prints the link, serves, and ends cleanly however it is told to."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_gateway import FakeGateway
from tests.desk import desk
from tests.e2e.house import OPENSHELL
from tests.tui.test_command import env, gateway
from tests.web.desk_web import Web, served

__all__ = ["env", "gateway"]


@pytest.fixture
def running(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [OPENSHELL, "web", "-o", "json"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield child
    if child.poll() is None:
        child.kill()
    child.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
async def test_a_signal_ends_it_with_a_page_open(running: subprocess.Popen[str], number: int, code: int) -> None:
    assert running.stdout is not None
    lines = [await asyncio.to_thread(running.stdout.readline) for _ in range(3)]
    web = Web(json.loads("".join(lines))["url"])
    assert (await web.login()).status == 303
    async with web.stream("/api/events") as events:
        assert (await anext(events))["connected"] in (True, False)
        running.send_signal(number)
        async for _ in events:
            pass  # to its end: an answer that is cut off raises
    out, err = await asyncio.to_thread(running.communicate, timeout=30)
    assert (running.returncode, out, err) == (code, "", "")


def test_a_gateway_that_cannot_be_watched_is_an_error(
    running: subprocess.Popen[str], env: dict[str, str], gateway: FakeGateway
) -> None:
    del gateway.answers["WatchInbox"]
    out, err = running.communicate(timeout=30)
    assert running.returncode == 1, out
    assert "WatchInbox has no canned answer" in err


async def test_no_task_is_left(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        before = asyncio.all_tasks()
        async with served(at.client) as web:
            await web.login()
            async with web.stream("/api/events") as events, web.stream("/api/events") as others:
                await anext(events)
                await anext(others)
                # One reader has gone when the server ends, the other has not.
        left = [one for one in asyncio.all_tasks() - before if "grpcio" not in repr(one)]  # those are the gateway's
        assert not left
