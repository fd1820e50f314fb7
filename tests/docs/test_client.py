"""docs/client.md against a served gateway: every example runs, in the order of the page, and prints what it should."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyopenshell.client.gateway import Gateway
from pyopenshell.client.inbox import Item
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.core import message, rest
from tests.gateway.serving import DEFAULT, Served, environ, serving

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"^## (.*?)$|^### (.*?)$|```python\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)


def example(heading: str) -> str:
    found: dict[str, str] = {}
    current = ""
    for section, part, code in EXAMPLES:
        current = section or part or current
        if code:
            found[current] = code
    return found[heading]


async def run(code: str) -> None:
    """As if typed into a program: the top level may await."""
    compiled = compile(code, "docs/client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, {"__name__": "example"})
    if inspect.isawaitable(running):
        await running


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    async with serving(tmp_path) as one:
        for key, value in environ(tmp_path).items():
            monkeypatch.setenv(key, value)
        assert os.environ["HOME"] == str(tmp_path)
        yield one


async def ask(served: Served, sandbox: openshell_pb2.Sandbox, host: str, *allowed: str) -> str:
    request = openshell_pb2.SubmitPolicyAnalysisRequest(
        name=sandbox.metadata.name, analysis_mode="agent_authored", proposed_chunks=[message(rest(host, *allowed))]
    )
    (chunk_id,) = (await served.supervisor(sandbox).client.SubmitPolicyAnalysis(request)).accepted_chunk_ids
    return str(chunk_id)


async def test_connect(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await run(example("Connect"))
    assert capsys.readouterr().out == "healthy\n"


async def test_decide(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox = await served.create(name="box")
    await ask(served, sandbox, "a.example.com", "GET /x")
    await run(example("Decide"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "box allow_a_example_com_443 because"
    assert lines[1].startswith("  newly permits GET to exactly 1 path on a.example.com:443")
    assert lines[-1] == "policy 2"
    (update,) = [one for one in (await inbox(served, sandbox)).chunks if one.status == "approved"]
    assert update.rule_name == "allow_a_example_com_443"


async def inbox(served: Served, sandbox: openshell_pb2.Sandbox) -> openshell_pb2.GetDraftPolicyResponse:
    request = openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox=sandbox.metadata.name)
    answer: openshell_pb2.GetDraftPolicyResponse = await served.client.GetDraftPolicy(request)
    return answer


async def test_go_on_where_you_were(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox = await served.create(name="box")
    for host in ("a", "b", "c"):
        await ask(served, sandbox, f"{host}.example.com", "GET /x")
    await run(example("Go on where you were"))
    assert capsys.readouterr().out.startswith("next time from ")
    assert {one.rejection_reason for one in (await inbox(served, sandbox)).chunks} == {"not now"}


async def test_sandboxes(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await run(example("Sandboxes"))
    assert capsys.readouterr().out == "stdout hello\nexit 0\n['work']\n"


async def test_templates_workspaces_members(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await run(example("Templates, workspaces, members"))
    assert capsys.readouterr().out.splitlines() == [
        "[('mtls:CN=ann', 'admin')]",
        "FAILED_PRECONDITION workspace 'team' still contains resources: sandbox, sandbox template",
    ]
    (workload,) = served.driver.created
    assert (workload.memory, workload.environment["STAGE"]) == (256 << 20, "test")


async def test_what_was_decided(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox = await served.create(name="box")
    await ask(served, sandbox, "a.example.com", "GET /x")
    await run(example("Decide"))
    capsys.readouterr()
    await run(example("What was decided"))
    proposed, approved = capsys.readouterr().out.splitlines()
    assert proposed.startswith(f"proposed sandbox:{sandbox.metadata.id}")
    assert re.match(r"approved mtls:CN=\S+ ApproveChunk ipv4:127\.0\.0\.1 \w{8} \w{8}$", approved)


def test_every_member_of_an_item_and_every_call_named_exists() -> None:
    table = TEXT.split("| Member | Is |")[1].split("\n\n")[0]
    for name in re.findall(r"`(?:await item\.)?(\w+)[`(]", table.split("| `chunk` |")[0]):
        assert hasattr(Item, name) or name in Item.__dataclass_fields__
    for name in re.findall(r"await item\.(\w+)", TEXT):
        assert inspect.iscoroutinefunction(getattr(Item, name))
    rest_of_it = TEXT.split("## The rest")[1].replace("gateway.", "").split("`pyopenshell.client.live")[0]
    for name in re.findall(r"`(\w+)`", rest_of_it):
        assert callable(getattr(Gateway, name))
