"""The rungs below A, for real, on machines made poorer: only with the user's word, and what they promise holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.sandboxes import repository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ENVIRON = os.environ | {
    "PYTHONPATH": os.pathsep.join([repository(), f"{repository()}/src", os.environ.get("PYTHONPATH", "")])
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="this rung is root's")
RUNGS = [
    ("no-nft", "B"),
    pytest.param("no-userns", "C", marks=as_root),
    pytest.param("no-userns,no-nft", "C", marks=as_root),
]


def weak(weakness: str, *command: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.weak_host", weakness, sys.executable, *command],
        env=ENVIRON, cwd=repository(), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("weakness", "tier"), RUNGS)
def test_a_lower_rung_needs_the_users_word(weakness: str, tier: str, state: Path) -> None:
    found = json.loads(weak(weakness, "-m", "tests.drivers.weak_walls", str(state)))
    for require in ("full", "network", "files", ""):
        reason, message, fix, left = found[require]
        assert reason == ("NftablesUnavailable" if tier == "B" else "UserNamespacesUnavailable")
        assert message
        assert "--accept-weaker" in fix
        assert not left, "nothing is half made"
    level, losses, built = found["accept"]
    assert (level, built) == ("full", tier)
    assert losses, "what is weaker is said"


@pytest.mark.parametrize(("weakness", "tier"), RUNGS)
def test_what_a_lower_rung_promises_holds(weakness: str, tier: str, state: Path) -> None:
    found: dict[str, Any] = json.loads(weak(weakness, "-m", "tests.isolation.on_a_rung", str(state)))
    assert found.pop("tier") == tier
    assert found.pop("proxied")[1] == "/usr/bin/curl"
    captured = found.pop("captured")
    assert captured == {
        "http://1.1.1.1:8443/": [["1.1.1.1", 8443], "/usr/bin/curl"],
        "http://10.200.0.7/": [["10.200.0.7", 80], "/usr/bin/curl"],
        "http://[2606:4700:4700::1111]/": [["2606:4700:4700::1111", 80], "/usr/bin/curl"],
        "http://[::ffff:1.1.1.1]/": [["1.1.1.1", 80], "/usr/bin/curl"],
    }
    assert found.pop("own listener") == "hello"
    assert set(found.pop("refused")) <= {"EPERM", "ENETUNREACH"}
    assert found.pop("racing") == 0, "an address changed after the look must not be reached"
    assert found.pop("id").startswith("sandbox ")
    assert found.pop("terminal") == "0\n/dev/pts/0"
    assert found == {
        "capabilities": ["0" * 16],
        "writable": "/sandbox /tmp /run /dev/shm",
        "shadow": "",
        "killed": "still",
    }


@pytest.mark.parametrize(("weakness", "tier"), RUNGS[:2])
def test_the_self_attack_holds_on_a_lower_rung(weakness: str, tier: str, tmp_path: Path) -> None:
    outcome = json.loads(weak(weakness, "-m", "pyopenshell.cli.main", "doctor", "attack", "-o", "json"))
    assert [one for one in outcome["attacks"] if not one["held"]] == []
    assert outcome["tier"] == tier


@pytest.mark.parametrize(("weakness", "tier"), [*RUNGS, ("no-namespaces", "D"), ("no-namespaces,no-landlock", "E")])
def test_the_doctor_says_which_rung_it_is(weakness: str, tier: str) -> None:
    report = json.loads(weak(weakness, "-m", "pyopenshell.cli.main", "doctor", "-o", "json", code=1))
    assert report["tier"] == tier
    assert report["assurance"] == ("none" if tier in "DE" else "full")
    missing = [one for one in report["walls"] if not one["holds"]]
    assert missing
    assert all(one["lost"] and one["fix"] for one in missing)


@pytest.mark.parametrize("weakness", ["no-namespaces", "no-namespaces,no-landlock"])
def test_where_nothing_can_be_built_no_word_makes_a_sandbox(weakness: str, state: Path) -> None:
    found = json.loads(weak(weakness, "-m", "tests.drivers.weak_walls", str(state)))
    for reason, _message, fix, left in found.values():
        assert reason in ("UserNamespacesUnavailable", "NamespacesUnavailable")
        assert fix
        assert not left
