"""Sandboxes on the command line: creating, running, listing, the exit codes and streams of commands."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api
from tests.cli import samples
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway, RefusalError


@pytest.fixture
def house(gateway: FakeGateway) -> FakeGateway:
    def run(request: Any) -> Iterator[api.ExecSandboxEvent]:
        yield api.ExecSandboxEvent(stdout=api.ExecSandboxStdout(data=b"out\xff\n"))
        yield api.ExecSandboxEvent(stderr=api.ExecSandboxStderr(data=b"err\n"))
        yield api.ExecSandboxEvent(exit=api.ExecSandboxExit(exit_code=7))

    gateway.answers |= {
        "CreateSandbox": lambda request: api.SandboxResponse(sandbox=samples.sandbox(request.name or "calm-otter")),
        "GetSandbox": lambda request: api.SandboxResponse(sandbox=samples.sandbox(request.name)),
        "ListSandboxes": lambda request: api.ListSandboxesResponse(
            sandboxes=[samples.sandbox("box"), samples.sandbox("other", api.SANDBOX_PHASE_STOPPED)]
        ),
        "DeleteSandbox": lambda request: api.DeleteSandboxResponse(
            outcome=api.DELETION_OUTCOME_COMPLETED if request.name == "box" else api.DELETION_OUTCOME_ALREADY_ABSENT
        ),
        "ExecSandbox": run,
        "GetSandboxConfig": lambda request: sandbox_api.GetSandboxConfigResponse(
            policy=samples.policy(), version=2, policy_hash="ab" * 32, policy_source=sandbox_api.POLICY_SOURCE_SANDBOX
        ),
        "StopSandbox": lambda request: api.SandboxResponse(
            sandbox=samples.sandbox(request.name, api.SANDBOX_PHASE_STOPPING)
        ),
        "StartSandbox": lambda request: api.SandboxResponse(sandbox=samples.sandbox(request.name)),
    }
    return gateway


def test_create_says_the_name_and_remembers_it(cli: Cli, house: FakeGateway) -> None:
    lines = cli.ok("sandbox", "create", "--detach").split("\n")
    assert lines[:5] == ["", "Created sandbox: calm-otter", "", "  [0.0s] Requesting compute...", lines[4]]
    assert lines[4].endswith("s] Sandbox allocated")
    assert lines[5].endswith("s] Sandbox ready")
    result = cli.run("sandbox", "get")
    assert result.stderr == "→ Using sandbox 'calm-otter' (last used)\n"


def test_create_waits_for_ready_by_push(cli: Cli, house: FakeGateway) -> None:
    provisioning = samples.sandbox("slow", api.SANDBOX_PHASE_PROVISIONING)
    house.answers["CreateSandbox"] = lambda request: api.SandboxResponse(sandbox=provisioning)
    house.answers["WatchSandbox"] = lambda request: [
        api.SandboxStreamEvent(sandbox=provisioning),
        api.SandboxStreamEvent(sandbox=samples.sandbox("slow")),
    ]
    assert "Sandbox ready" in cli.ok("sandbox", "create", "--detach")
    assert not house.requests("GetSandbox")


def test_create_reports_why_it_failed(cli: Cli, house: FakeGateway) -> None:
    broken = samples.sandbox("slow", api.SANDBOX_PHASE_ERROR)
    broken.status.conditions.add(type="Ready", status="False", reason="NoUserNamespaces", message="sysctl says no")
    house.answers["CreateSandbox"] = lambda request: api.SandboxResponse(
        sandbox=samples.sandbox("slow", api.SANDBOX_PHASE_PROVISIONING)
    )
    house.answers["WatchSandbox"] = lambda request: [api.SandboxStreamEvent(sandbox=broken)]
    result = cli.run("sandbox", "create", "--detach")
    assert result.exit_code == 1
    assert "entered error phase while provisioning: NoUserNamespaces: sysctl says no" in result.stderr


def test_create_times_out(cli: Cli, house: FakeGateway) -> None:
    slow = samples.sandbox("slow", api.SANDBOX_PHASE_PROVISIONING)

    def forever(request: Any) -> Iterator[api.SandboxStreamEvent]:
        import threading

        yield api.SandboxStreamEvent(sandbox=slow)
        threading.Event().wait(5)

    house.answers |= {"CreateSandbox": lambda request: api.SandboxResponse(sandbox=slow), "WatchSandbox": forever}
    result = cli.run("sandbox", "create", "--detach", env={"OPENSHELL_PROVISION_TIMEOUT": "0.05"})
    assert result.exit_code == 1
    assert "sandbox provisioning timed out after 0s. Last reported status: Provisioning" in result.stderr


def test_create_with_a_command(cli: Cli, house: FakeGateway) -> None:
    result = cli.run("sandbox", "create", "--name", "box", "--no-keep", "--env", "A=1", "--", "sh", "-c", "x", "--help")
    assert result.exit_code == 7
    assert result.stdout_bytes == b"out\xff\n"
    assert result.stderr == "Created sandbox: box\nerr\n"
    (created,) = house.requests("CreateSandbox")
    assert not created.spec.command
    assert dict(created.spec.environment) == {"A": "1"}
    (ran,) = house.requests("ExecSandbox")
    assert list(ran.command) == ["sh", "-c", "x", "--help"]
    assert [one.name for one in house.requests("DeleteSandbox")] == ["box"]


def test_create_existing_name_has_the_hint(cli: Cli, house: FakeGateway) -> None:
    def refuse(request: Any) -> None:
        raise RefusalError(grpc.StatusCode.ALREADY_EXISTS, "sandbox 'box' already exists")

    house.answers["CreateSandbox"] = refuse
    result = cli.run("sandbox", "create", "--name", "box", "--detach")
    assert result.exit_code == 1
    assert "sandbox 'box' already exists" in result.stderr
    assert "hint: delete it first with: openshell sandbox delete <name>" in result.stderr


def test_policy_is_parsed_before_anything_is_sent(cli: Cli, house: FakeGateway, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nnetwork_polices: {}\n")
    for args in (("sandbox", "create", "--policy", str(file), "--detach"), ("policy", "set", "--policy", str(file))):
        result = cli.run(*args)
        assert result.exit_code == 1
        assert f"{file}:2:1:" in result.stderr
    assert "/no/such" in cli.run("sandbox", "create", "--policy", "/no/such").stderr
    assert not house.calls


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--env", "1A=x"), "invalid environment key '1A'"),
        (("--env", "OPENSHELL_X=x"), "reserved prefix"),
        (("--env", "novalue"), "expected KEY=VALUE"),
        (("--label", "x"), "expected KEY=VALUE"),
        (("--no-keep", "--detach"), "--no-keep cannot be combined"),
        (("-o", "json", "--", "true"), "--output cannot be combined"),
        (("--approval-mode", "sometimes"), "--approval-mode"),
        (("--unknown",), "--unknown"),
    ],
)
def test_usage_errors_exit_2(cli: Cli, house: FakeGateway, args: tuple[str, ...], says: str) -> None:
    result = cli.run("sandbox", "create", *args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not house.calls


def test_credential_warning(cli: Cli, house: FakeGateway) -> None:
    assert "⚠ API_TOKEN looks like a credential" in cli.run("sandbox", "create", "--env", "API_TOKEN=x").stderr
    quiet = cli.run("sandbox", "create", "--env", "API_TOKEN=x", "--no-credential-warnings")
    assert "credential" not in quiet.stderr


def test_approval_mode_is_stored_and_its_failure_is_a_warning(cli: Cli, house: FakeGateway) -> None:
    result = cli.run("sandbox", "create", "--name", "box", "--detach", "--approval-mode", "auto")
    assert result.exit_code == 0
    assert "warning: failed to set approval mode 'auto' on sandbox 'box': " in result.stderr
    assert "openshell settings set box --key proposal_approval_mode --value auto" in result.stderr
    (request,) = house.requests("UpdateConfig")
    assert (request.sandbox, request.setting_key, request.setting_value.string_value) == (
        "box",
        "proposal_approval_mode",
        "auto",
    )


def test_list_layouts(cli: Cli, house: FakeGateway) -> None:
    assert cli.ok("sandbox", "list") == (
        "NAME   CREATED              PHASE\nbox    2026-09-21 14:13:20  Ready\nother  2026-09-21 14:13:20  Stopped\n"
    )
    assert cli.ok("sb", "list", "--names") == "box\nother\n"
    assert cli.ok("sandbox", "list", "--ids", "--limit", "1") == "id-of-box\n"
    assert cli.ok("sandbox", "list", "--names", "--all-workspaces").startswith("default/box\n")
    assert cli.ok("sandbox", "list", "--all-workspaces").startswith("WORKSPACE  NAME")
    assert [one["name"] for one in cli.json("sandbox", "list", "-o", "json")] == ["box", "other"]
    house.answers["ListSandboxes"] = lambda request: api.ListSandboxesResponse()
    assert cli.ok("sandbox", "list") == "No sandboxes found.\n"
    assert cli.ok("sandbox", "list", "--names") == ""


def test_list_reads_every_page(cli: Cli, house: FakeGateway) -> None:
    house.answers["ListSandboxes"] = lambda request: api.ListSandboxesResponse(
        sandboxes=[samples.sandbox(f"box{request.page_token}")], next_page_token="" if request.page_token else "2"
    )
    assert cli.ok("sandbox", "list", "--names") == "box\nbox2\n"


def test_get_layout_and_keys(cli: Cli, house: FakeGateway) -> None:
    out = cli.ok("sandbox", "get", "box")
    assert out.startswith(
        "Sandbox:\n\n  Id: id-of-box\n  Name: box\n  Phase: Ready\n  Resource version: 4\n  Labels:\n    team: red\n"
        "  Policy source: sandbox\n  Revision: 2\n\nPolicy:\n\n  version: 1\n"
    )
    assert "    save_notes:" in out
    assert cli.ok("sandbox", "get", "box", "--policy-only").startswith("version: 1\n")
    data = cli.json("sandbox", "get", "box", "-o", "json")
    assert sorted(data) == [
        "annotations",
        "assurance",
        "conditions",
        "created_at",
        "current_policy_version",
        "id",
        "labels",
        "name",
        "phase",
        "policy",
        "policy_source",
        "resource_version",
        "restarts",
        "revision",
        "tier",
        "workspace",
    ]
    assert data["policy"]["network_policies"]["save_notes"]["endpoints"][0]["host"] == "api.github.com"
    house.answers["GetSandboxConfig"] = lambda request: sandbox_api.GetSandboxConfigResponse()
    result = cli.run("sandbox", "get", "box", "--policy-only")
    assert (result.exit_code, result.stderr) == (1, "Error:   × no active policy configured for this sandbox\n")


def test_delete(cli: Cli, house: FakeGateway) -> None:
    assert cli.ok("sandbox", "delete", "box", "ghost") == "✓ Deleted sandbox box\n! Sandbox ghost not found\n"
    assert "✓ Deleted sandbox box\n" in cli.ok("sandbox", "delete", "--all")
    assert cli.run("sandbox", "delete").exit_code == 2
    assert cli.run("sandbox", "delete", "box", "--all").exit_code == 2
    house.answers["ListSandboxes"] = lambda request: api.ListSandboxesResponse()
    assert cli.ok("sandbox", "delete", "--all") == "No sandboxes to delete.\n"


def test_delete_forgets_the_last_used(cli: Cli, house: FakeGateway) -> None:
    cli.ok("sandbox", "get", "box")
    cli.ok("sandbox", "delete", "box")
    result = cli.run("sandbox", "get")
    assert result.exit_code == 1
    assert "No sandbox name provided and no last-used sandbox." in result.stderr


def test_stop_waits_and_start(cli: Cli, house: FakeGateway) -> None:
    house.answers["WatchSandbox"] = lambda request: [
        api.SandboxStreamEvent(sandbox=samples.sandbox("box", api.SANDBOX_PHASE_STOPPED))
    ]
    assert cli.ok("sandbox", "stop", "box") == "✓ Stopped sandbox box\n"
    assert cli.ok("sandbox", "start", "box") == "✓ Started sandbox box\n"


def test_exec_exit_code_streams_and_options(cli: Cli, house: FakeGateway) -> None:
    result = cli.run("sandbox", "exec", "-n", "box", "--workdir", "/w", "--timeout", "1.5", "--env", "K=V", "ls", "-n")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (7, b"out\xff\n", "err\n")
    (request,) = house.requests("ExecSandbox")
    assert (list(request.command), request.workdir, dict(request.environment)) == (["ls", "-n"], "/w", {"K": "V"})
    assert (request.execution_timeout.seconds, request.execution_timeout.nanos) == (1, 500_000_000)
    assert not request.tty
    assert cli.run("sandbox", "exec", "-n", "box").exit_code == 2


def test_exec_not_ready_and_broken_stream(cli: Cli, house: FakeGateway) -> None:
    def refuse(request: Any) -> Iterator[Any]:
        raise RefusalError(grpc.StatusCode.FAILED_PRECONDITION, "sandbox is not ready")

    house.answers["ExecSandbox"] = refuse
    house.answers["GetSandbox"] = lambda request: api.SandboxResponse(
        sandbox=samples.sandbox("box", api.SANDBOX_PHASE_STOPPED)
    )
    result = cli.run("sandbox", "exec", "-n", "box", "true")
    assert result.exit_code == 1
    assert "sandbox 'box' is not ready (phase: Stopped); wait for it to reach Ready state" in result.stderr
    house.answers["ExecSandbox"] = lambda request: []
    result = cli.run("sandbox", "exec", "-n", "box", "true")
    assert (result.exit_code, result.stderr) == (1, "Error:   × exec stream ended without an exit event\n")


def test_workspace_and_gateway_flags_at_any_position(cli: Cli, house: FakeGateway) -> None:
    for args in (
        ("--workspace", "w2", "sandbox", "list"),
        ("sandbox", "--workspace", "w2", "list"),
        ("sandbox", "list", "--workspace", "w2", "-g", "fake"),
    ):
        cli.ok(*args)
    cli.ok("sandbox", "list", "--gateway-endpoint", f"http://127.0.0.1:{house.port}/")
    asked = [one.workspace_scope.workspace for one in house.requests("ListSandboxes")]
    assert asked == ["w2", "w2", "w2", "default"]
    result = cli.run("sandbox", "list", "-g", "nobody")
    assert result.exit_code == 1
    assert "Unknown gateway 'nobody'." in result.stderr
    assert "Register it first: openshell gateway add <endpoint> --name nobody" in result.stderr


def test_verbose_names_the_status_code(cli: Cli, house: FakeGateway) -> None:
    def refuse(request: Any) -> None:
        raise RefusalError(grpc.StatusCode.NOT_FOUND, "sandbox not found")

    house.answers["GetSandbox"] = refuse
    assert cli.run("sandbox", "get", "x").stderr == "Error:   × sandbox not found\n"
    assert cli.run("sandbox", "get", "x", "-v").stderr == "Error:   × NOT_FOUND: sandbox not found\n"


@pytest.mark.parametrize("field", ["name", "workspace"])
def test_a_gateway_cannot_write_lines_of_its_own_into_the_ssh_configuration(
    gateway: FakeGateway, cli: Cli, field: str
) -> None:
    hostile = samples.sandbox()
    setattr(hostile.metadata, field, "box\n    ProxyCommand touch /tmp/owned\nHost *")
    gateway.answers["GetSandbox"] = lambda request: api.SandboxResponse(sandbox=hostile)
    result = cli.run("sandbox", "ssh-config", "box")
    assert result.exit_code == 1
    assert "ProxyCommand" not in result.stdout


def test_ssh_expands_nothing_in_the_path_of_the_program(
    gateway: FakeGateway, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.answers["GetSandbox"] = lambda request: api.SandboxResponse(sandbox=samples.sandbox())
    monkeypatch.setattr("sys.argv", ["/opt/100%here/openshell"])
    assert "ProxyCommand /opt/100%%here/openshell ssh-proxy" in cli.ok("sandbox", "ssh-config", "box")
