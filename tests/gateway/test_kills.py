"""kill -9 at any moment under load: nothing acknowledged is lost, nothing is half, no revision exists twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def killed(url: str, rounds: int, seed: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gateway.kills", url, str(rounds), str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(600)
def test_some_random_moments(tmp_path: Path) -> None:
    found = killed(f"sqlite:{tmp_path / 'a.db'}", 8, 6)
    assert (found["rounds"], found["bad"]) == (8, 0)
    assert found["acknowledged"] > 8


@pytest.mark.deep
@pytest.mark.timeout(7200)
def test_five_hundred_random_moments(tmp_path: Path) -> None:
    assert killed(f"sqlite:{tmp_path / 'a.db'}", 500, 500)["bad"] == 0


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_some_random_moments_on_postgresql(postgres: str) -> None:
    assert killed(postgres, 8, 7)["bad"] == 0
