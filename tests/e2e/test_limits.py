"""What `sandbox create --require`, `--memory`, `--cpu` and `--pids` mean to people, with the real gateway."""

from __future__ import annotations

import json
import os

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, House, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BOMBS = """\
import os, signal, sys
if sys.argv[1] == "forks":
    try:
        while os.fork():
            pass
        signal.pause()
    except OSError:
        print("stopped", flush=True)
        os.kill(0, signal.SIGKILL)
held = []
try:
    for _ in range(64):
        held.append(bytearray(16 << 20))
except MemoryError:
    raise SystemExit(137)
"""


async def test_bombs_inside_leave_the_proxy_and_the_gateway_alive(home: House, gateway: Gateway) -> None:
    home.create("limited", "version: 1\n", "--require", "full", "--memory", "128Mi", "--cpu", "500m", "--pids", "48")
    shown = home.cli("sandbox", "get", "limited").out
    assert "  Assurance: full\n" in shown
    how = next(line for line in shown.splitlines() if line.startswith("  Limits: "))
    for kind in ("memory: ", "cpu: ", "pids: "):
        assert kind in how
    if os.geteuid() == 0:
        assert how.count("cgroup v") == 3
    answer = home.cli("sandbox", "get", "limited", "-o", "json").json
    assert answer["assurance"] == "full"
    assert {one["type"] for one in answer["conditions"]} == {"Ready", "Assurance", "Limits"}
    forks = await run(gateway, "limited", "/usr/bin/python3", "-c", BOMBS, "forks")
    assert "stopped" in forks.out, forks
    memory = await run(gateway, "limited", "/usr/bin/python3", "-c", BOMBS, "memory")
    assert memory.code == 137, memory
    ran = await run(gateway, "limited", "/usr/bin/curl", "-sS", "-m", "10", f"https://{HOST}/")
    assert "403" in ran.err, "the supervisor still answers"
    assert home.cli("status", "-o", "json").json["status"] == "connected"
    assert home.cli("sandbox", "get", "limited", "-o", "json").json["phase"] == "Ready"
    home.cli("sandbox", "stop", "limited")
    home.cli("sandbox", "start", "limited")
    again = home.cli("sandbox", "get", "limited").out
    assert how in again, "the limits are those of every start"
    home.delete("limited")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory", "lots"], "memory 'lots' is not an amount: write 512Mi, 4Gi or 8G"),
        (["--memory", "1Mi"], "at least 16Mi"),
        (["--cpu", "all"], "cpu 'all' is not an amount: write 2, 0.5 or 500m"),
        (["--pids", "1"], "pids 1 must be between 4 and"),
    ],
)
def test_amounts_that_are_none_are_refused(home: House, options: list[str], words: str) -> None:
    ran = home.cli("sandbox", "create", "--name", "refused", "--detach", *options, ok=False)
    assert ran.code == 1
    assert words in ran.err
    assert "refused" not in [one["name"] for one in json.loads(home.cli("sandbox", "list", "-o", "json").out)]
