"""`openshell policy`: layouts, waiting, exit codes."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api
from tests.cli import samples
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway, RefusalError

HASH = "ab" * 32
TEXT = """\
version: 1
network_policies:
  site:
    endpoints: [{host: example.com, port: 443, protocol: rest, enforcement: enforce, access: read-only}]
    binaries: [{path: /usr/bin/curl}]
"""


def revision(
    version: int = 2, status: api.PolicyStatus = api.POLICY_STATUS_LOADED, error: str = ""
) -> api.SandboxPolicyRevision:
    message = api.SandboxPolicyRevision(version=version, policy_hash=HASH, status=status, load_error=error)
    message.created_time.seconds = 1_790_000_000
    message.policy.CopyFrom(samples.policy())
    return message


@pytest.fixture
def file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def policies(gateway: FakeGateway) -> FakeGateway:
    gateway.answers |= {
        "ListSandboxPolicies": lambda request: api.ListSandboxPoliciesResponse(revisions=[revision(1)]),
        "UpdateConfig": lambda request: api.UpdateConfigResponse(version=2, policy_hash=HASH, settings_revision=9),
        "GetSandboxPolicyStatus": lambda request: api.GetSandboxPolicyStatusResponse(
            revision=revision(request.version or 2), active_version=2
        ),
        "WatchSandbox": lambda request: [api.SandboxStreamEvent(sandbox=samples.sandbox())],
        "GetSandboxConfig": lambda request: sandbox_api.GetSandboxConfigResponse(
            policy=samples.policy(), version=2, policy_hash=HASH, config_revision=77
        ),
    }
    return gateway


def test_set_and_wait(cli: Cli, policies: FakeGateway, file: str) -> None:
    result = cli.run("policy", "set", "box", "--policy", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "✓ Policy version 2 submitted (hash: abababababab)\n"
    (request,) = policies.requests("UpdateConfig")
    assert request.policy.network_policies["site"].endpoints[0].host == "example.com"
    result = cli.run("policy", "set", "box", "--policy", file, "--wait")
    assert result.stderr.endswith("✓ Policy version 2 loaded (active version: 2)\n")


def test_unchanged(cli: Cli, policies: FakeGateway, file: str) -> None:
    policies.answers["ListSandboxPolicies"] = lambda request: api.ListSandboxPoliciesResponse(revisions=[revision(2)])
    result = cli.run("policy", "set", "box", "--policy", file, "--wait")
    assert (result.exit_code, result.stderr) == (0, "· Policy unchanged (version 2, hash: abababababab)\n")


@pytest.mark.parametrize(
    ("status", "error", "code", "says"),
    [
        (api.POLICY_STATUS_FAILED, "bad \x1b[31m", 1, "✗ Policy version 2 failed to load: bad \\x1b[31m\n"),
        (api.POLICY_STATUS_SUPERSEDED, "", 0, "⚠ Policy version 2 was superseded (active version: 3)\n"),
    ],
)
def test_wait_outcomes(
    cli: Cli, policies: FakeGateway, file: str, status: api.PolicyStatus, error: str, code: int, says: str
) -> None:
    policies.answers["GetSandboxPolicyStatus"] = lambda request: api.GetSandboxPolicyStatusResponse(
        revision=revision(2, status, error), active_version=3
    )
    result = cli.run("policy", "set", "box", "--policy", file, "--wait")
    assert result.exit_code == code
    assert result.stderr.endswith(says)


def test_wait_timeout_is_124(cli: Cli, policies: FakeGateway, file: str) -> None:
    ended = threading.Event()

    def silent(request: Any) -> Iterator[Any]:
        yield api.SandboxStreamEvent(sandbox=samples.sandbox())
        ended.wait(5)

    policies.answers["WatchSandbox"] = silent
    policies.answers["GetSandboxPolicyStatus"] = lambda request: api.GetSandboxPolicyStatusResponse(
        revision=revision(2, api.POLICY_STATUS_PENDING)
    )
    result = cli.run("policy", "set", "box", "--policy", file, "--wait", "--timeout", "0.2")
    ended.set()
    assert result.exit_code == 124
    assert result.stderr.endswith("✗ Timeout waiting for policy version 2 to load\n")


def test_refused_candidate_shows_the_servers_lines(cli: Cli, policies: FakeGateway, file: str) -> None:
    def refuse(request: Any) -> None:
        raise RefusalError(
            grpc.StatusCode.FAILED_PRECONDITION, "network endpoint ambiguity validation failed:\n a and b"
        )

    policies.answers["UpdateConfig"] = refuse
    result = cli.run("policy", "set", "box", "--policy", file)
    assert result.exit_code == 1
    assert result.stderr == "Error:   × network endpoint ambiguity validation failed:\n             a and b\n"


def test_global(cli: Cli, policies: FakeGateway, file: str) -> None:
    result = cli.run("policy", "set", "--global", "--policy", file)
    assert result.exit_code == 1
    assert "pass --yes in non-interactive mode" in result.stderr
    result = cli.run("policy", "set", "--global", "--policy", file, "--yes", "--wait")
    assert "--wait is not supported for global policies" in result.stderr
    assert not policies.calls
    result = cli.run("policy", "set", "--global", "--policy", file, "--yes")
    assert result.stderr == "✓ Global policy configured (hash: abababababab, settings revision: 9)\n"
    (request,) = policies.requests("UpdateConfig")
    assert getattr(request, "global")
    policies.answers["UpdateConfig"] = lambda request: api.UpdateConfigResponse(
        deleted=request.setting_key == "policy" and request.delete_setting, settings_revision=10
    )
    assert cli.ok("policy", "delete", "--global", "--yes") == "✓ Deleted global setting policy (revision 10)\n"
    assert "use --global to remove" in cli.run("policy", "delete").stderr


def test_get_effective(cli: Cli, policies: FakeGateway) -> None:
    head = f"Version:      2\nHash:         {HASH}\nStatus:       Effective\nSource:       sandbox\nConfig rev:   77\n"
    assert cli.ok("policy", "get", "box") == head
    assert cli.ok("policy", "get", "box", "--full").startswith(head + "---\nversion: 1\n")
    assert cli.run("policy", "get", "box", "--full", "--base").exit_code == 2
    data = cli.json("pol", "get", "box", "-o", "json", "--full")
    assert (data["status"], data["scope"], data["config_revision"]) == ("effective", "sandbox", 77)
    assert "save_notes" in data["policy"]["network_policies"]


def test_base_leaves_provider_rules_out(cli: Cli, policies: FakeGateway) -> None:
    policy = samples.policy()
    policy.network_policies["_provider_github"].CopyFrom(samples.rule())
    policies.answers["GetSandboxConfig"] = lambda request: sandbox_api.GetSandboxConfigResponse(
        policy=policy, version=1, policy_hash=HASH
    )
    assert "_provider_github" in cli.ok("policy", "get", "box", "--full")
    assert "_provider_github" not in cli.ok("policy", "get", "box", "--base")


def test_get_revision_and_list(cli: Cli, policies: FakeGateway) -> None:
    assert cli.ok("policy", "get", "box", "--rev", "1") == (
        f"Version:      1\nHash:         {HASH}\nStatus:       Loaded\nActive:       2\n"
        "Created:      2026-09-21 14:13:20\n"
    )
    policies.answers["ListSandboxPolicies"] = lambda request: api.ListSandboxPoliciesResponse(
        revisions=[revision(2), revision(1, api.POLICY_STATUS_FAILED, "e" * 50)]
    )
    assert cli.ok("policy", "list", "box") == (
        "VERSION  HASH           STATUS       CREATED                  ERROR\n"
        "2        abababababab   loaded       2026-09-21 14:13:20\n"
        f"1        abababababab   failed       2026-09-21 14:13:20      {'e' * 40}...\n"
    )
    assert [one["version"] for one in cli.json("policy", "list", "box", "-o", "json")] == [2, 1]


def test_nothing_there(cli: Cli, policies: FakeGateway) -> None:
    policies.answers["GetSandboxConfig"] = lambda request: sandbox_api.GetSandboxConfigResponse()
    policies.answers["ListSandboxPolicies"] = lambda request: api.ListSandboxPoliciesResponse()
    assert cli.run("policy", "get", "box").stderr == "No policy history found for sandbox 'box'\n"
    assert cli.run("policy", "list", "--global").stderr == "No global policy history found\n"
