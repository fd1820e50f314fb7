"""Settings, logs, status and gateway registrations on the command line."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway, RefusalError

KEY = "agent_policy_proposals_enabled"


@pytest.fixture
def settings(gateway: FakeGateway) -> FakeGateway:
    value = sandbox_api.SettingValue
    gateway.answers |= {
        "GetGatewayConfig": lambda request: sandbox_api.GetGatewayConfigResponse(
            settings={KEY: value(bool_value=True), "ocsf_json_enabled": value()}, settings_revision=3
        ),
        "GetSandboxConfig": lambda request: sandbox_api.GetSandboxConfigResponse(
            policy_hash="ff",
            config_revision=12,
            settings={
                "proposal_approval_mode": sandbox_api.EffectiveSetting(
                    value=value(string_value="auto"), scope=sandbox_api.SETTING_SCOPE_SANDBOX
                ),
                KEY: sandbox_api.EffectiveSetting(value=value(bool_value=True), scope=sandbox_api.SETTING_SCOPE_GLOBAL),
                "ocsf_json_enabled": sandbox_api.EffectiveSetting(),
            },
        ),
        "UpdateConfig": lambda request: api.UpdateConfigResponse(settings_revision=4, deleted=True),
    }
    return gateway


def test_get_layouts(cli: Cli, settings: FakeGateway) -> None:
    assert cli.ok("settings", "get", "--global") == (
        f"Scope:         global\nSettings Rev:  3\nSettings:\n  {KEY} = true\n  ocsf_json_enabled = <unset>\n"
    )
    assert cli.ok("settings", "get", "box") == (
        "Sandbox:       box\nConfig Rev:    12\nPolicy Source: sandbox\nPolicy Hash:   ff\nSettings:\n"
        f"  {KEY} = true (global)\n  ocsf_json_enabled = <unset> (unset)\n  proposal_approval_mode = auto (sandbox)\n"
    )
    assert cli.json("settings", "get", "--global", "--json") == {
        "scope": "global",
        "settings": {KEY: "true", "ocsf_json_enabled": "<unset>"},
        "settings_revision": 3,
    }
    data = cli.json("settings", "get", "box", "-o", "json")
    assert data["settings"]["proposal_approval_mode"] == {"scope": "sandbox", "value": "auto"}
    assert sorted(data) == ["config_revision", "policy_hash", "policy_source", "sandbox", "settings", "workspace"]
    assert "does not accept a sandbox name" in cli.run("settings", "get", "box", "--global").stderr


def test_set_and_delete(cli: Cli, settings: FakeGateway) -> None:
    args = ("--key", KEY, "--value", "yes")
    assert cli.ok("settings", "set", "box", *args) == f"✓ Set sandbox setting {KEY}=yes for box (revision 4)\n"
    assert settings.requests("UpdateConfig")[0].setting_value.bool_value is True
    assert cli.ok("settings", "set", "--global", "--yes", *args) == f"✓ Set global setting {KEY}=yes (revision 4)\n"
    assert (
        cli.ok("settings", "delete", "box", "--key", KEY) == f"✓ Deleted sandbox setting {KEY} for box (revision 4)\n"
    )
    settings.answers["UpdateConfig"] = lambda request: api.UpdateConfigResponse(settings_revision=4)
    assert cli.ok("settings", "delete", "box", "--key", KEY) == f"! Sandbox setting {KEY} not found for box\n"
    assert cli.ok("settings", "delete", "--global", "--yes", "--key", KEY) == f"! Global setting {KEY} not found\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("set", "box", "--key", "x", "--value", "1"), "unknown setting key 'x'. Allowed keys: agent_policy"),
        (("set", "box", "--key", "proposal_approval_mode", "--value", "autom"), "expected one of: manual, auto"),
        (("set", "box", "--key", KEY, "--value", "on"), "expected one of: true,false,yes,no,1,0"),
        (("set", "--global", "--key", KEY, "--value", "1"), "global setting updates require confirmation; pass --yes"),
        (("delete", "--global", "--key", KEY), "global setting deletes require confirmation; pass --yes"),
        (("delete", "box", "--key", "policy"), "unknown setting key 'policy'"),
    ],
)
def test_refusals_before_any_call(cli: Cli, settings: FakeGateway, args: tuple[str, ...], says: str) -> None:
    result = cli.run("settings", *args)
    assert result.exit_code == 1
    assert says in result.stderr
    assert not settings.calls


def line(seconds: int, message: str, level: str = "OCSF") -> api.SandboxLogLine:
    found = api.SandboxLogLine(
        source="sandbox", level=level, target="ocsf", message=message, fields={"b": "2", "a": "1"}
    )
    found.event_time.seconds, found.event_time.nanos = seconds, 5_000_000
    return found


def test_logs(cli: Cli, gateway: FakeGateway) -> None:
    lines = [line(10, "HTTP:PUT [MED] DENIED x\x1b[0m"), line(11, "CONFIG:LOADED [INFO] y", "INFO")]
    gateway.answers["GetSandboxLogs"] = lambda request: api.GetSandboxLogsResponse(logs=lines, buffer_total=2)
    result = cli.run("logs", "box", "--since", "5m", "-n", "50", "--source", "sandbox", "--level", "info")
    assert result.stdout == (
        "[10.005] [sandbox] [OCSF ] [ocsf] HTTP:PUT [MED] DENIED x\\x1b[0m a=1 b=2\n"
        "[11.005] [sandbox] [INFO ] [ocsf] CONFIG:LOADED [INFO] y a=1 b=2\n"
    )
    assert result.stderr == ""
    (request,) = gateway.requests("GetSandboxLogs")
    assert (request.lines, list(request.sources), request.min_level) == (50, ["sandbox"], "info")
    assert request.since_time.seconds > 0
    assert (
        "Warning: log buffer contains only the last 2 lines"
        in cli.run("logs", "box", "--since", "1h", "-n", "2").stderr
    )
    assert cli.run("logs", "box", "--since", "soon").exit_code == 2
    assert [one["source"] for one in cli.json("logs", "box", "-o", "json")] == ["sandbox", "sandbox"]


def test_logs_tail_follows(cli: Cli, gateway: FakeGateway) -> None:
    def watch(request: Any) -> Iterator[api.SandboxStreamEvent]:
        assert (request.follow_logs, request.log_tail_lines) == (True, 3)
        yield api.SandboxStreamEvent(log=line(10, "one"))
        yield api.SandboxStreamEvent(warning=api.SandboxStreamWarning(message="dropped 4"))
        yield api.SandboxStreamEvent(log=line(11, "two"))

    gateway.answers["WatchSandbox"] = watch
    result = cli.run("logs", "box", "--tail", "-n", "3")
    assert result.stdout == (
        "[10.005] [sandbox] [OCSF ] [ocsf] one a=1 b=2\n[11.005] [sandbox] [OCSF ] [ocsf] two a=1 b=2\n"
    )
    assert result.stderr == "Warning: dropped 4\n"
    assert [
        json.loads(one)["message"] for one in cli.ok("lg", "box", "--tail", "-n", "3", "-o", "json").splitlines()
    ] == [
        "one",
        "two",
    ]


def test_status(cli: Cli, gateway: FakeGateway) -> None:
    gateway.answers |= {
        "Health": lambda request: api.HealthResponse(status=api.SERVICE_STATUS_HEALTHY, version="0.1.0"),
        "GetOperatorStatus": lambda request: review_api.GetOperatorStatusResponse(
            connect_to=[review_api.ConnectTo(host="api.github.com", port=443, address="127.0.0.1:9", has_ca=True)],
            sandboxes_connected=2,
        ),
    }
    assert cli.ok("status") == (
        f"Server Status\n\n  Gateway: fake\n  Server: http://127.0.0.1:{gateway.port}\n  Status: Connected\n"
        "  Authentication: Not required (gateway)\n  Version: 0.1.0\n  Sandboxes connected: 2\n"
        "  Connect-to override: api.github.com:443 -> 127.0.0.1:9, its own certificate authority\n"
    )
    data = cli.json("status", "-o", "json")
    assert (data["status"], data["authentication"]["status"]) == ("connected", "not_required")
    assert data["operator"]["connect_to"][0]["address"] == "127.0.0.1:9"


def test_status_when_there_is_none(cli: Cli) -> None:
    result = cli.run("status")
    assert result.exit_code == 1
    assert result.stdout.startswith("Gateway Status\n\n  Status: No gateway configured.\n\nRegister a gateway with: ")


def test_status_when_it_is_down_or_refuses(cli: Cli, gateway: FakeGateway) -> None:
    def refuse(request: Any) -> None:
        raise RefusalError(grpc.StatusCode.UNAVAILABLE, "store is locked")

    gateway.answers["Health"] = refuse
    result = cli.run("status")
    assert result.exit_code == 1
    assert "  Status: Error\n  Error: store is locked\n" in result.stdout
    gateway.register("http://127.0.0.1:1")
    result = cli.run("status")
    assert result.exit_code == 1
    assert "  Status: Disconnected\n" in result.stdout
    result = cli.run("sandbox", "list")
    assert result.exit_code == 1
    assert "failed to connect to gateway 'fake' at http://127.0.0.1:1" in result.stderr


def test_no_gateway(cli: Cli) -> None:
    result = cli.run("sandbox", "list")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error:   × No active gateway.\n            Set one with: openshell gateway select <name>\n"
        "            Or register one with: openshell gateway add <endpoint>\n"
    )


def test_gateway_add_list_select_remove(cli: Cli, gateway: FakeGateway, tmp_path: pathlib.Path) -> None:
    result = cli.run("gateway", "add", "http://127.0.0.1:1", "--name", "far")
    assert result.exit_code == 0
    assert result.stderr == (
        "✓ Gateway 'far' added and set as active\n  Endpoint: http://127.0.0.1:1\n  Type: local\n  Auth: plaintext\n"
        "⚠ Gateway is not reachable at http://127.0.0.1:1\n"
    )
    assert "already exists" in cli.run("gateway", "add", "http://127.0.0.1:1", "--name", "far").stderr
    out = cli.ok("gateway", "list").splitlines()
    assert out[0].split() == ["NAME", "ENDPOINT", "TYPE", "SOURCE", "AUTH"]
    assert out[1].startswith("  fake ")
    assert out[2].startswith("* far ")
    assert cli.run("gateway", "select", "fake").stderr == "✓ Active gateway set to 'fake'\n"
    assert cli.run("gateway", "select", "../x").exit_code == 1
    assert cli.ok("gateway", "remove", "far") == "✓ Gateway registration 'far' removed.\n"
    assert [one["name"] for one in cli.json("gateway", "list", "-o", "json")] == ["fake"]
    assert "No gateway metadata found for 'far'." in cli.run("gateway", "remove", "far").stderr


def test_local_gateway_that_does_not_run(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    result = cli.run("gateway", "status")
    assert result.exit_code == 1
    assert "No local gateway runs." in result.stdout
    assert cli.ok("gateway", "stop") == "! No local gateway runs.\n"
    assert cli.json("gateway", "stop", "-o", "json") == {"stopped": False}
