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
    assert [one["decision"] for one in outcome["decisions"]] == ["reject", "approve"]
    assert "403 policy_denied" in done.stderr
    assert list(tmp_path.iterdir()) == []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                assert os.fsencode(tmp_path) not in (entry / "cmdline").read_bytes()
            except OSError:
                continue


def test_github_path_against_a_look_alike(tmp_path: pathlib.Path) -> None:
    """The same story with `--github`: real name resolution, the machine's trust store, a token that must arrive."""
    token = "ghp_only-for-this-test"
    home = tmp_path / "home"
    home.mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--net", "--mount", sys.executable, "-m", "tests.e2e.look_alike",
         str(tmp_path / "hosts"), str(tmp_path / "bundle.pem"), token],
        env=os.environ | {"TMPDIR": str(home), "HOME": str(home)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["code"] == 0, seen["err"] + seen["out"]
    outcome = json.loads(seen["out"])
    assert outcome["ok"], outcome["problems"]
    assert [one["decision"] for one in outcome["decisions"]] == ["reject", "approve"]
    ((where, content),) = seen["files"].items()
    assert where.startswith("acme/field-notes:pyopenshell-demo/")
    assert content.startswith("# Field notes")
    assert [request.split()[0] for request in seen["requests"]] == ["PUT", "GET"], "one write, and the verification"
    assert token not in seen["out"] + seen["err"]
    assert list(home.iterdir()) == []
