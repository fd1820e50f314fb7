"""The agent's instructions: installed as promised, and true. Every example and every command in them is executed."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from pyopenshell.policy.decision import Condition, Connection
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.model import Policy
from pyopenshell.policy.proposal import Proposal, parse
from pyopenshell.supervisor import policy_local, skills
from pyopenshell.supervisor.denial import NEXT_STEPS, SKILL_PATH

SKILL = skills.TEXTS["skills/policy_advisor.md"]
EXAMPLES = re.findall(r"```json\n(.*?)```", SKILL, re.DOTALL)
CLEAN = Connection("api.github.com", 443, "/usr/bin/curl")


def granted(proposal: Proposal) -> Policy:
    return Policy(rules=tuple(operation.rule for operation in proposal.operations))


def test_there_are_examples_for_the_usual_cases() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_a_proposal_that_would_be_accepted_and_compiled(text: str) -> None:
    proposal = parse(text.encode())
    assert not proposal.ignored
    assert proposal.intent_summary
    compile_engine(granted(proposal))
    for operation in proposal.operations:
        for endpoint in operation.rule.endpoints:
            assert endpoint.access == "", "the norms say: never a preset"
            assert "*" not in endpoint.host


def test_the_examples_allow_what_they_say_and_not_the_neighbours() -> None:
    put, pip, clone, tool, database = (compile_engine(granted(parse(text.encode()))) for text in EXAMPLES)
    target = "/repos/OWNER/REPO/contents/demo.md"
    assert put.decide(CLEAN, "PUT", target)
    assert not put.decide(CLEAN, "GET", target)
    assert not put.decide(CLEAN, "PUT", "/repos/OWNER/REPO/contents/other.md")
    python = Connection("files.pythonhosted.org", 443, "/usr/bin/python3.11")
    assert pip.decide(python, "GET", "/packages/ab/cd/requests-2.32.3-py3-none-any.whl")
    assert pip.decide(Connection("pypi.org", 443, "/usr/bin/python3.11"), "GET", "/simple/requests/")
    assert not pip.decide(Connection("pypi.org", 443, "/usr/bin/python3.11"), "GET", "/simple/other/")
    git = Connection("github.com", 443, "/usr/lib/git-core/git-remote-http", ("/usr/bin/git",))
    assert clone.decide(git, "GET", "/OWNER/REPO.git/info/refs?service=git-upload-pack")
    assert clone.decide(git, "POST", "/OWNER/REPO.git/git-upload-pack")
    assert not clone.decide(git, "GET", "/OWNER/REPO.git/info/refs?service=git-receive-pack")
    assert not clone.decide(git, "POST", "/OWNER/REPO.git/git-receive-pack")
    tracker = tool.connect(Connection("mcp.example.com", 443, "/usr/bin/curl"))
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "%s"}}'
    assert tracker.decide_content("POST", "/mcp", "application/json", call % b"create_issue")
    assert not tracker.decide_content("POST", "/mcp", "application/json", call % b"delete_issue")
    assert database.decide(Connection("db.example.com", 5432, "/usr/bin/psql"))


def test_the_command_that_takes_the_id_out_of_the_answer_works_on_a_real_answer(tmp_path: Path) -> None:
    (line,) = [line for line in SKILL.splitlines() if line.startswith("id=")]
    answer = policy_local._answer(
        202,
        {
            "status": "submitted",
            "accepted_chunks": 2,
            "rejected_chunks": 0,
            "rejection_reasons": [],
            "accepted_chunk_ids": ["0b5e-1", "second"],
        },
    )
    file = tmp_path / "answer.json"
    file.write_bytes(answer.body)
    script = line.replace("/tmp/answer.json", str(file)) + '; printf %s "$id"'
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "0b5e-1"


def test_shell_blocks_are_valid_shell() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", SKILL, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        subprocess.run(["/bin/sh", "-n", "-c", block], check=True)
        for command in re.findall(r"^\s*(\w+) -", block, re.MULTILINE):
            assert command in {"curl", "sed"}, "an agent has nothing else for sure"
            assert shutil.which(command)


def test_every_code_an_agent_can_meet_is_explained() -> None:
    source = Path(policy_local.__file__).read_text()
    codes = set(re.findall(r'_RefusedError\(\s*(?:4|5)\d\d,\s*"(\w+)"', source)) | {"chunk_not_found"}
    unexplained = codes - {
        # Reached by no command of the skill; `detail` says everything there is to know.
        "not_found",
        "policy_serialize_failed",
        # Stand in the table by their status: 502, 503.
        "gateway_unavailable",
        "gateway_connect_failed",
        "sandbox_name_unavailable",
        "workspace_unavailable",
    }
    assert unexplained >= {"feature_disabled", "invalid_proposal", "too_many_undecided"}
    for code in unexplained:
        assert f"`{code}`" in SKILL, code
    for condition in Condition:
        if condition is not Condition.NONE:
            assert f"`{condition.value}`" in SKILL, condition
    for field in ("timed_out", "policy_reloaded", "rejection_reason", "application_error", "accepted_chunk_ids"):
        assert field in SKILL


def test_the_refusal_and_the_instructions_point_at_each_other() -> None:
    for step in NEXT_STEPS:
        if "url" in step:
            assert step["url"].split("?")[0] in SKILL
    assert SKILL_PATH in skills.TEXTS["AGENTS.md"]
    assert SKILL_PATH == "/etc/openshell/skills/policy_advisor.md"


def test_it_fits_into_an_agents_head() -> None:
    assert len(SKILL) < 16_000
    assert len(skills.TEXTS["AGENTS.md"]) < 1_200
    assert SKILL.isprintable() or set(SKILL) - {"\n"} == {c for c in SKILL if c.isprintable()}


def test_installed_complete_readable_and_not_writable(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert skills.install(tmp_path / "openshell") is True
    finally:
        os.umask(before)
    for name, text in skills.TEXTS.items():
        path = tmp_path / "openshell" / name
        assert path.read_text() == text
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert not list((tmp_path / "openshell").rglob(".new-*"))
    assert skills.install(tmp_path / "openshell") is False


def test_an_older_text_is_refreshed(tmp_path: Path) -> None:
    skills.install(tmp_path)
    old = tmp_path / "AGENTS.md"
    old.chmod(0o644)
    old.write_text("old")
    assert skills.install(tmp_path) is True
    assert "OpenShell" in old.read_text()


def test_the_packaged_skill_has_its_front_matter() -> None:
    text = skills.TEXTS["skills/policy-advisor/SKILL.md"]
    head, body = text.removeprefix("---\n").split("---\n\n", 1)
    assert head.startswith("name: policy-advisor\ndescription: >-\n  ")
    assert body == SKILL


def test_the_answer_shown_is_the_answer_given() -> None:
    (shown,) = re.findall(r'^\{"status": "submitted".*$', SKILL, re.MULTILINE)
    assert list(json.loads(shown)) == [
        "status",
        "accepted_chunks",
        "rejected_chunks",
        "rejection_reasons",
        "accepted_chunk_ids",
    ]
