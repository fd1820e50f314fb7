"""`openshell doctor attack`, for real: all holds, it leaves nothing; and where there are no walls the attacker wins."""

from __future__ import annotations

import importlib.resources
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from pyopenshell.cli.doctor import attack, clients
from pyopenshell.cli.doctor.attack import RECORDS, TITLES, Attack, heard, judged
from pyopenshell.isolation import cgroups

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
SCRIPT = importlib.resources.files("pyopenshell.cli.doctor").joinpath("inside.py").read_text(encoding="utf-8")


def test_the_attack_holds_is_recorded_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyopenshell.cli.main", "doctor", "attack", "-o", "json"],
        env=os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["held"]
    assert {one["key"] for one in outcome["attacks"]} == {*TITLES, "afterwards"}
    for one in outcome["attacks"]:
        assert one["held"], one
        assert bool(one["record"]) == (one["key"] in RECORDS), one
    assert list(tmp_path.iterdir()) == []


async def test_without_python_the_shell_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "PYTHON", "/nonexistent/python3")
    outcome = await attack.perform()
    assert outcome.with_shell
    assert [one for one in outcome.attacks if not one.held] == []
    assert {"host_loopback", "gateway", "metadata", "self_approval", "guard"} <= {one.key for one in outcome.attacks}
    assert outcome.held


def test_the_attacker_wins_where_there_are_no_walls() -> None:
    """Here, outside: only attacks that touch nothing but the attacker itself and a socket of this test."""
    name = f"openshell-test-{os.getpid()}"
    keys = ["abstract_socket", "memfd_exec", "namespaces"]  # the last one moves it to another network
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        order = json.dumps({"abstract": name, "only": keys})
        done = subprocess.run([sys.executable, "-I", "-c", SCRIPT, order], capture_output=True, text=True, check=True)
    found = list(heard(done.stdout))
    assert [one.key for one in found] == keys
    assert not any(one.held for one in found), found


def test_what_the_outside_saw_outweighs_the_attackers_word() -> None:
    one = Attack("gateway", "the gateway's port", True, "refused")
    assert judged(one, None, reached=False).held
    assert judged(one, "NET:OPEN DENIED", reached=False).record == "NET:OPEN DENIED"
    assert not judged(one, None, reached=True).held
    assert not judged(one, "", reached=False).held, "a refusal that the log does not know is none"


def test_an_attacker_that_lies_or_babbles_wins_nothing() -> None:
    text = "\n".join(
        [
            '{"key": "gateway", "held": "yes", "saw": "x"}',
            '{"key": "unknown", "held": true, "saw": "x"}',
            '{"key": "names"}',
            "[1]",
            "Traceback",
            '{"key": "mounts", "held": true, "saw": "EPERM"}',
        ]
    )
    assert [(one.key, one.held) for one in heard(text)] == [("gateway", False), ("mounts", True)]


def test_every_installed_program_works_and_nothing_is_left(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyopenshell.cli.main", "doctor", "clients", "-o", "json"],
        env=os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found.keys() == {program.name for program in clients.PROGRAMS}
    for name in ("curl", "wget", "git", "pip", "npm", "python (urllib)"):
        assert found[name]["state"] == "works", found[name]
        assert found[name]["how"].endswith("uses the proxy"), found[name]
    assert list(tmp_path.iterdir()) == []


async def test_a_program_that_fails_is_told_from_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(name: str, script: str, needs: str = "true") -> clients.Program:
        return clients.Program(name, needs, script, "its fix")

    tried = (
        program("distrusts", "curl -sS --cacert /dev/null https://$HOST/$WHAT"),
        program("asks nobody", "echo done"),
        program("captured", "curl -sS --noproxy '*' https://$HOST/$WHAT"),
        program("absent", "true", needs="command -v there-is-no-such-program"),
        program("docker", "echo a daemon answered"),
    )
    monkeypatch.setattr(clients, "PROGRAMS", tried)
    found = {one.name: one for one in await clients.perform()}
    assert {name: one.state for name, one in found.items()} == {
        "distrusts": "fails",
        "asks nobody": "fails",
        "captured": "works",
        "absent": "absent",
        "docker": "fails",
    }
    assert found["distrusts"].fix == "its fix"
    assert found["distrusts"].said
    assert "captured" in found["captured"].how


async def test_a_private_house_takes_its_control_groups_along() -> None:
    """Also when a sandbox with limits still runs as the house ends."""
    from pyopenshell.cli.doctor.attack import private_house
    from pyopenshell.client.gateway import FAILED_PHASES, Gateway

    async with private_house() as house, await Gateway.open(house.registration) as gateway:
        await gateway.wait_for(await gateway.create(pids=64), "Ready", FAILED_PHASES)
        (lock,) = house.root.rglob("host.lock")
        prefix = cgroups.group_name(str(lock.parent), "")
        there = [path for path in pathlib.Path("/sys/fs/cgroup").rglob(f"{prefix}*") if path.is_dir()]
        assert there or os.geteuid() != 0
    assert not house.left
    assert [path for path in there if path.exists()] == []
