"""A full disk, one without inodes, a home that cannot be written, no tools: said, and nothing is left half made."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk and running sandboxes on it needs root"),
]


def run(kind: str, tmp_path: pathlib.Path) -> dict[str, Any]:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.e2e.shortage"]
    done = subprocess.run([*command, kind, str(tmp_path)], capture_output=True, text=True, timeout=390, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["space", "inodes"])
def test_a_full_disk_is_said_and_what_makes_room_works(kind: str, tmp_path: pathlib.Path) -> None:
    found = run(kind, tmp_path)
    assert (found["start"], found["first"]) == (0, 0)
    code, out, err = found["create"]
    assert code == 1
    assert "Traceback" not in err
    if kind == "space":
        assert "database or disk is full\n            free disk space in the gateway's state directory" in err
    else:
        assert "No space left on device" in err
        assert "free descriptors, processes or disk space" in err
    assert found["left"] == [], "something half made was left"
    code, out, _ = found["exec"]
    assert (code, out) == (0, "alive\nrefused\n")
    assert found["listed"][:2] == [0, "first\n"]
    assert found["again"] == 0, "a gateway is needed to make room"
    assert found["delete"][:2] == [0, "✓ Deleted sandbox first\n"]
    assert found["after"] == []
    assert (found["freed"], found["names"]) == (0, ["third"])


def test_a_home_that_cannot_be_written_is_said(tmp_path: pathlib.Path) -> None:
    found = run("read-only", tmp_path)
    for call in ("create", "start"):
        code, _, err = found[call]
        assert code == 1
        assert "the gateway cannot be started: Read-only file system: " in err
        assert "or name another directory in XDG_STATE_HOME" in err
        assert "Traceback" not in err
    assert found["left"] == []
    assert found["after"] == 0


def test_no_program_of_the_host_is_needed(tmp_path: pathlib.Path) -> None:
    found = run("tools", tmp_path)
    assert (found["start"], found["create"], found["upload"], found["download"], found["ssh-config"]) == (0,) * 5
    assert found["exec"][:2] == [0, "text"]
    assert found["absent"][0] == 127
    assert found["absent"][2] == "openshell: 'no-such-tool' was not found in the sandbox\n"
