"""`sandbox connect` on a real terminal: leave by the keys, come back, window size, exit code; a detached command."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import OPENSHELL, READ_ONLY, House, run, sh, within

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DETACH = b"\x10\x11"


class Terminal:
    """`openshell ARGS` on a pseudo-terminal of a given size."""

    def __init__(self, home: House, *args: str, columns: int = 91, rows: int = 33) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            [OPENSHELL, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**home.env, "TERM": "xterm-color", "COLUMNS": "17", "LINES": "9"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._seen = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, text: str, seconds: float = 60) -> str:
        """Everything new up to and with `text`."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self._seen:
            assert select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0], self._seen
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                piece = b""
            assert piece, f"it ended before {text!r}: {self._seen!r}"
            self._seen += piece
        before, found, self._seen = self._seen.partition(text.encode())
        return (before + found).decode(errors="replace")

    def ended(self) -> int:
        """Exit code; reads what still comes, so that nobody waits for room."""
        while True:
            try:
                if not os.read(self._master, 65536):
                    break
            except OSError:
                break
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


async def test_leave_a_shell_and_come_back_to_it(home: House, gateway: Gateway) -> None:
    policy = home.root / "console.yaml"
    policy.write_text(READ_ONLY)
    first = Terminal(home, "sandbox", "create", "--name", "console", "--policy", str(policy))
    try:
        first.until("$ ")
        first.type(b"kept=there; stty size; echo $TERM; echo before-$((40+2))\n")
        shown = first.until("before-42")
        assert "33 91" in shown
        assert "xterm-color" in shown
        first.type(DETACH)
        first.until("Left running. Come back with: openshell sandbox connect console")
        assert first.ended() == 0
    finally:
        first.close()
    # It goes on without anybody: what it is told to do now happens later.
    second = Terminal(home, "sandbox", "connect", "console", columns=70, rows=20)
    try:
        second.until("before-42")  # recent output
        second.type(b"stty size; echo $kept-$((1+1))\n")
        shown = second.until("there-2")
        assert "20 70" in shown
        second.resize(66, 11)
        second.type(b"stty size\n")
        second.until("11 66")
        # A third person sees the same, and a window that is closed ends nothing.
        third = Terminal(home, "sandbox", "connect", "console")
        third.until("there-2")
        third.type(b"echo from-$((2+1))\n")
        second.until("from-3")
        os.kill(third.process.pid, signal.SIGKILL)
        third.close()
        second.type(b"echo still-$((2+2)); exit 5\n")
        second.until("still-4")
        assert second.ended() == 5
    finally:
        second.close()
    fresh = Terminal(home, "sandbox", "connect", "console")
    try:
        fresh.until("$ ")
        fresh.type(b"echo new-$kept-$((3+2))\n")
        fresh.until("new--5")
        fresh.type(b"sleep 1000 &\nexit 0\n")
        fresh.until("exit")
    finally:
        fresh.close()
        home.delete("console")


async def test_a_command_of_create_can_be_left_and_its_exit_code_comes_back(home: House) -> None:
    script = "echo begun; until [ -e /sandbox/go ]; do sleep 0.1; done; echo over; exit 9"
    first = Terminal(home, "sandbox", "create", "--name", "left", "--", "/bin/sh", "-c", script)
    try:
        first.until("begun")
        first.type(DETACH)
        first.until("Left running.")
        assert first.ended() == 0
    finally:
        first.close()
    second = Terminal(home, "sandbox", "connect", "left")
    try:
        second.until("begun")
        home.cli("sandbox", "exec", "-n", "left", "--", "touch", "/sandbox/go")
        second.until("over")
        assert second.ended() == 9
    finally:
        second.close()
        home.delete("left")


async def test_a_detached_command_is_the_main_process(home: House, gateway: Gateway) -> None:
    ran = home.cli(
        "sandbox", "create", "--name", "main", "--detach", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 3"
    )
    assert "Created sandbox: main" in ran.out
    async with within(60):
        async for sandbox in gateway.watch_status("main"):
            if sandbox.phase == "Error":
                break
    assert json.loads(home.cli("sandbox", "get", "main", "-o", "json").out)["phase"] == "Error"
    assert "MainProcessExited: Main process exited with code 3" in home.cli("sandbox", "get", "main").out
    log = home.sandbox_dir(sandbox.id) / "log" / "main.log"
    assert log.read_text() == "out\nerr\n"
    home.delete("main")
    home.cli("sandbox", "create", "--name", "main", "--detach", "--", "/bin/true")
    async with within(60):
        async for sandbox in gateway.watch_status("main"):
            if sandbox.phase == "Completed":
                break
    home.delete("main")


async def test_the_log_of_the_main_process_is_read_only_inside_but_through_the_process_itself(
    home: House, gateway: Gateway
) -> None:
    script = "echo said; until [ -e /sandbox/go ]; do sleep 0.1; done; echo more >/proc/self/fd/1; : >/var/log/main.log"
    home.cli("sandbox", "create", "--name", "logged", "--detach", "--", "/bin/sh", "-c", script)
    try:
        assert (await run(gateway, "logged", "cat", "/var/log/main.log")).out == "said\n"
        assert (await sh(gateway, "logged", "echo forged >> /var/log/main.log")).code != 0
        await run(gateway, "logged", "touch", "/sandbox/go")
    finally:
        home.delete("logged")
