"""`openshell policy lint|test|explain|fmt|edit|schema|update`: exit codes, layouts, files on disk."""

from __future__ import annotations

import json
import pathlib
import stat

import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api
from tests.cli import samples
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway

TEXT = """\
# mine
version: 1

network_policies:
  site:
    endpoints:
      - host: a.test
        port: 443
        protocol: rest
        access: read-only  # only reading
    binaries: [{path: /usr/bin/curl}]
"""
ASK = ("--as", "/usr/bin/curl")


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return path


def test_lint(cli: Cli, file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert cli.ok("policy", "lint", str(file)) == "✓ 1 file: nothing to say\n"
    file.write_text(TEXT.replace("read-only", "full"))
    out = cli.ok("policy", "lint", str(file))
    assert out == f"! {file}:10:17: access: full allows every request; write rules [everything]\n"
    assert cli.run("policy", "lint", "--strict", str(file)).exit_code == 1
    (row,) = cli.json("policy", "lint", str(file), "-o", "json")
    assert (row["code"], row["line"], row["severity"]) == ("everything", 10, "warning")
    file.write_text(TEXT.replace("port:", "prot:"))
    result = cli.run("policy", "lint", str(file))
    assert result.exit_code == 1
    assert f"✗ {file}:8:9: unknown key 'prot'; did you mean 'port'? [unknown_key]" in result.stdout
    assert cli.run("policy", "lint", str(tmp_path / "none.yaml")).exit_code == 1
    assert cli.run("policy", "lint").exit_code == 2


def test_lint_compares_the_rules(cli: Cli, file: pathlib.Path) -> None:
    raw = "  raw:\n    endpoints: [{host: a.test, port: 443, tls: skip}]\n    binaries: [{path: /usr/bin/curl}]\n"
    file.write_text(TEXT + raw)
    assert {row["code"] for row in cli.json("policy", "lint", str(file), "-o", "json")} == {"ambiguous", "shadowed_raw"}


def test_one_question(cli: Cli, file: pathlib.Path) -> None:
    assert cli.ok("policy", "test", str(file), *ASK, "GET", "https://a.test/x") == (
        "✓ allowed: GET a.test:443/x (by rule 'site')\n"
    )
    result = cli.run("policy", "test", str(file), *ASK, "PUT", "https://a.test/x")
    assert (result.exit_code, result.stdout) == (
        1,
        "✗ denied: PUT a.test:443/x (PUT /x not permitted by policy)\n"
        "  nearest: method PUT, allowed on this path: GET, HEAD, OPTIONS\n",
    )
    data = json.loads(cli.run("policy", "test", str(file), *ASK, "PUT", "https://a.test/x", "-o", "json").stdout)
    assert (data["verdict"], data["condition"]) == ("denied", "method_not_allowed")
    assert cli.run("policy", "test", str(file), *ASK, "RAW", "a.test:443").exit_code == 1
    assert cli.run("policy", "test", str(file), *ASK, "CONNECT", "a.test:443").exit_code == 0
    under = ("--as", "/bin/sh", "--ancestor", "/usr/bin/curl")
    assert cli.run("policy", "test", str(file), *under, "GET", "https://a.test/").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [(), ("GET", "https://a.test/"), (*ASK, "GET"), (*ASK, "GET", "a.test"), (*ASK, "--tests", "x")],
)
def test_what_is_no_question(cli: Cli, file: pathlib.Path, words: tuple[str, ...]) -> None:
    assert cli.run("policy", "test", str(file), *words).exit_code == 2


def test_examples(cli: Cli, file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    suite = tmp_path / "t.yaml"
    suite.write_text("tests:\n- as: /usr/bin/curl\n  allow: [GET https://a.test/]\n  deny: [PUT https://a.test/]\n")
    assert cli.ok("policy", "test", str(file), "--tests", str(suite)) == "✓ 2 passed\n"
    suite.write_text("tests:\n- name: no\n  as: /usr/bin/curl\n  deny:\n  - GET https://a.test/\n")
    result = cli.run("policy", "test", str(file), "--tests", str(suite))
    assert (result.exit_code, result.stdout) == (
        1,
        f"✗ {suite}:5: no: GET a.test:443/ by /usr/bin/curl must be denied, is allowed: by rule 'site'\n"
        "✗ 1 of 1 failed\n",
    )
    (row,) = json.loads(cli.run("policy", "test", str(file), "--tests", str(suite), "-o", "json").stdout)
    assert (row["passed"], row["line"], row["expected"]) == (False, 5, "denied")
    suite.write_text("tests: []\n")
    assert cli.run("policy", "test", str(file), "--tests", str(suite)).exit_code == 1


def test_explain(cli: Cli, file: pathlib.Path) -> None:
    out = cli.ok("policy", "explain", str(file), *ASK, "PUT", "https://a.test/a/../b").splitlines()
    assert out[0] == "PUT /a/../b on a.test:443 by /usr/bin/curl"
    assert "  ✓ spelling       the path is judged and forwarded as /b" in out
    assert out[-1] == "  = denied (method_not_allowed): PUT /b not permitted by policy"
    data = cli.json("policy", "explain", str(file), *ASK, "PUT", "https://a.test/b", "-o", "json")
    assert data["ladder"][-1]["condition"] == "method_not_allowed"


def test_fmt(cli: Cli, file: pathlib.Path) -> None:
    assert cli.run("policy", "fmt", "--check", str(file)).exit_code == 0
    file.write_text(TEXT.replace("      - host", "    - host").replace("        ", "      "))
    file.chmod(0o640)
    result = cli.run("policy", "fmt", "--check", str(file))
    assert (result.exit_code, result.stderr) == (1, f"✗ {file}: would change\n")
    assert cli.run("policy", "fmt", str(file)).stderr == f"✓ {file}: formatted\n"
    assert file.read_text() == TEXT
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.glob(".policy*")) == []
    assert cli.ok("policy", "fmt", "-", stdin="version:   1 # x\n") == "version: 1  # x\n"
    file.write_text("a: *b\n")
    assert cli.run("policy", "fmt", str(file)).exit_code == 1
    assert file.read_text() == "a: *b\n"


def test_edit_by_operations(cli: Cli, file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    deny = ("--add-deny", "a.test:443:*:/admin/**")
    out = cli.ok("policy", "edit", str(file), *deny, "--dry-run")
    assert file.read_text() == TEXT
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    assert cli.run("policy", "edit", str(link), *deny).exit_code == 0
    assert link.is_symlink()
    assert file.read_text() == out
    assert 'access: read-only  # only reading\n        deny_rules:\n          - method: "*"\n' in out
    assert out.startswith("# mine\n")
    assert cli.run("policy", "edit", str(file), *deny).stderr == f"· {file}: unchanged\n"
    refused = cli.run("policy", "edit", str(file), "--add-endpoint", "*.com:443", "--binary", "/usr/bin/curl")
    assert refused.exit_code == 1
    assert "TLD wildcard" in refused.stderr
    assert file.read_text() == out


def test_edit_in_an_editor(cli: Cli, file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/a.test/b.test/' \"$1\"\n")
    editor.chmod(0o755)
    assert cli.run("policy", "edit", str(file), env={"EDITOR": str(editor), "VISUAL": None}).exit_code == 0
    assert file.read_text() == TEXT.replace("a.test", "b.test")
    editor.write_text("#!/bin/sh\nsed -i 's/port: 443/port: 0/' \"$1\"\n")
    before = file.read_text()
    result = cli.run("policy", "edit", str(file), stdin="n\n", env={"EDITOR": str(editor), "VISUAL": None})
    assert result.exit_code == 1
    assert "invalid port 0" in result.stderr
    assert file.read_text() == before


def test_schema(cli: Cli) -> None:
    published = pathlib.Path(__file__).parents[2] / "docs" / "policy.schema.json"
    assert cli.ok("policy", "schema") == published.read_text()


# ---- update ----------------------------------------------------------------------------------------------------------

ADD = ("--add-endpoint", "new.test:443:read-only", "--binary", "/usr/bin/curl")


@pytest.fixture
def policies(gateway: FakeGateway) -> FakeGateway:
    gateway.answers |= {
        "GetSandboxConfig": lambda request: sandbox_api.GetSandboxConfigResponse(policy=samples.policy(), version=1),
        "ListSandboxPolicies": lambda request: api.ListSandboxPoliciesResponse(
            revisions=[api.SandboxPolicyRevision(version=1)]
        ),
        "UpdateConfig": lambda request: api.UpdateConfigResponse(version=2, policy_hash="ab" * 32),
    }
    return gateway


def test_update(cli: Cli, policies: FakeGateway) -> None:
    result = cli.run("policy", "update", "box", *ADD, "--remove-rule", "old")
    assert (result.exit_code, result.stderr) == (0, "✓ Policy version 2 submitted (hash: abababababab)\n")
    (request,) = policies.requests("UpdateConfig")
    assert [one.WhichOneof("operation") for one in request.merge_operations] == ["add_rule", "remove_rule"]
    added = request.merge_operations[0].add_rule
    assert added.rule_name == "allow_new_test_443"
    assert added.rule.endpoints[0].access == sandbox_api.NETWORK_ACCESS_PRESET_READ_ONLY
    data = cli.json("policy", "update", "box", *ADD, "-o", "json")
    assert (data["status"], data["version"]) == ("submitted", 2)


def test_update_dry_run_changes_nothing(cli: Cli, policies: FakeGateway) -> None:
    result = cli.run("policy", "update", "box", *ADD, "--dry-run")
    assert result.exit_code == 0
    assert result.stderr.startswith("✓ Dry run preview for 1 incremental policy operation(s)\n")
    assert "allow_new_test_443:" in result.stdout
    assert policies.requests("UpdateConfig") == []
    assert cli.run("policy", "update", "box", *ADD, "--dry-run", "--wait").exit_code == 1
    assert cli.run("policy", "update", "box").exit_code == 2


def test_update_under_a_global_policy(cli: Cli, policies: FakeGateway) -> None:
    policies.answers["GetSandboxConfig"] = lambda request: sandbox_api.GetSandboxConfigResponse(
        policy=samples.policy(), policy_source=sandbox_api.POLICY_SOURCE_GLOBAL
    )
    result = cli.run("policy", "update", "box", *ADD)
    assert result.exit_code == 1
    assert "policy is managed globally" in result.stderr
