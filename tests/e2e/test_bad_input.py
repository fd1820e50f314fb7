"""Bad input: a clear error that says what, where and what to do, with the contract's exit code."""

from __future__ import annotations

import pathlib

import pytest

from tests.e2e.house import READ_ONLY, House

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bad")]


@pytest.fixture(scope="module")
def box(home: House) -> str:
    home.create("box")
    return "box"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("version: 1", "version: [1"), "p.yaml:"),
        (("enforcement: enforce", "enforcment: enforce"), "enforcement"),
        (("enforcement: enforce", "enforcement: Enforce"), "enforce"),
        (("access: read-only", "access: readonly"), "read-only"),
        (("port: 443", "port: https"), "port"),
        (("port: 443", "port: 70000"), "65535"),
        (("host: api.e2e.test", "host: '*.com'"), "*.com"),
        (("version: 1", "version: 1\nversion: 1"), "version"),
        (("network_policies:", "network_polices:"), "network_policies"),
    ],
)
def test_policy_errors_name_file_line_and_column(home: House, box: str, change: tuple[str, str], says: str) -> None:
    text = READ_ONLY.replace(change[0], change[1], 1)
    file = home.root / "p.yaml"
    file.write_text(text)
    ran = home.cli("policy", "set", box, "--policy", str(file), ok=False)
    assert ran.code == 1
    assert says in ran.err
    assert "p.yaml:" in ran.err
    line = ran.err.split("p.yaml:")[1].split(":")
    assert line[0].isdigit()
    assert line[1].split()[0].rstrip(":").isdigit()
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (
            ("settings", "set", "box", "--key", "agent_policy_proposal_enabled", "--value", "true"),
            1,
            "unknown setting key",
        ),
        (("settings", "set", "box", "--key", "proposal_approval_mode", "--value", "autom"), 1, "manual, auto"),
        (("settings", "set", "box", "--key", "agent_policy_proposals_enabled", "--value", "maybe"), 1, "invalid bool"),
        (("settings", "set", "--global", "--key", "ocsf_json_enabled", "--value", "true"), 1, "pass --yes"),
        (("rule", "approve", "box", "--chunk-id", "ffffffff"), 1, "not found"),
        (("rule", "reject", "box", "--chunk-id", "ffffffff"), 1, "not found"),
        (("rule", "approve"), 2, "--chunk-id"),
        (("sandbox", "get", "nobody"), 1, "not found"),
        (("sandbox", "create", "--name", "Bad_Name", "--detach"), 1, "name"),
        (("sandbox", "create", "--name", "box", "--detach"), 1, "already exists"),
        (("sandbox", "create", "--policy", "/does/not/exist", "--detach"), 1, "/does/not/exist"),
        (("sandbox", "exec", "-n", "nobody", "--", "true"), 1, "not found"),
        (("sandbox", "exec", "-n", "box", "--", "/no/such/program"), 127, ""),
        (("nonsense",), 2, ""),
        (("policy", "delete"), 1, "--global"),
    ],
)
def test_command_errors(home: House, box: str, args: tuple[str, ...], code: int, says: str) -> None:
    ran = home.cli(*args, ok=False)
    assert ran.code == code, ran
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_deleting_what_is_not_there_is_not_an_error(home: House) -> None:
    assert "! Sandbox nobody not found" in home.cli("sandbox", "delete", "nobody").out


def test_exit_codes_and_streams_of_commands(home: House, box: str) -> None:
    ran = home.cli("sandbox", "exec", "-n", box, "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7", ok=False)
    assert (ran.code, ran.out, ran.err) == (7, "out\n", "err\n")
    ran = home.cli("sandbox", "exec", "-n", box, "--", "/bin/cat", stdin="piped")
    assert ran.out == "piped"
    ran = home.cli("sandbox", "exec", "-n", box, "--timeout", "1", "--", "/bin/sleep", "60", ok=False)
    assert ran.code == 124


def test_create_with_a_command_gives_its_output_and_code(home: House) -> None:
    ran = home.cli(
        "sandbox", "create", "--name", "oneshot", "--no-keep", "--", "/bin/sh", "-c", "echo hello; exit 3", ok=False
    )
    assert ran.code == 3
    assert "Created sandbox: oneshot" in ran.out + ran.err
    assert "hello\n" in ran.out
    assert "oneshot" not in home.cli("sandbox", "list", "--names").out


def test_json_everywhere(home: House, box: str, tmp_path: pathlib.Path) -> None:
    for args in (
        ("sandbox", "list"),
        ("sandbox", "get", box),
        ("rule", "get", box),
        ("settings", "get", box),
        ("settings", "get", "--global"),
        ("policy", "get", box, "--full"),
        ("policy", "list", box),
        ("status",),
        ("gateway", "status"),
        ("logs", box),
    ):
        ran = home.cli(*args, "-o", "json")
        assert ran.json is not None, args
