"""`openshell demo --yes`, for real: it must hold, be quick, and leave nothing behind."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


def test_demo_holds_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    environ = os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pyopenshell.cli.main", "demo", "--yes", "-o", "json"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    outcome = json.loads(done.stdout)
    assert outcome["ok"], outcome["problems"]
    assert outcome["seconds"] < 10
    assert [one["decision"] for one in outcome["decisions"]] == ["reject", "approve"]
    assert "403 policy_denied" in done.stderr
    assert list(tmp_path.iterdir()) == []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                assert os.fsencode(tmp_path) not in (entry / "cmdline").read_bytes()
            except OSError:
                continue
