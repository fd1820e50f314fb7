"""The parts of the demo: stand-in server, decisions, trail, screen, and the agent against canned answers."""

from __future__ import annotations

import asyncio
import base64
import datetime
import importlib.resources
import json
import pathlib
import ssl
import subprocess
from typing import Any

import pytest

from pyopenshell.cli.demo import trace
from pyopenshell.cli.demo.forge import Forge, blob_sha, forge
from pyopenshell.cli.demo.person import Answer, Scripted, parse
from pyopenshell.cli.demo.screen import Screen
from pyopenshell.client.mapping import chunk
from pyopenshell.client.values import LogLine
from tests.cli import samples
from tests.cli.conftest import Cli

TARGET = "/repos/acme/notes/contents/a/b.md"


async def test_forge_speaks_tls_and_keeps_files() -> None:
    async with forge("api.github.com") as stand_in:
        context = ssl.create_default_context(cadata=stand_in.ca_pem)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", stand_in.port, ssl=context, server_hostname="api.github.com"
        )
        body = json.dumps({"content": base64.b64encode(b"hello").decode()}).encode()
        head = f"PUT {TARGET} HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        assert (await reader.readline()) == b"HTTP/1.1 201 Created\r\n"
        await reader.readuntil(b"}}")
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert json.loads(answer.partition("\r\n\r\n")[2])["content"] == "aGVsbG8="
        writer.close()
        assert stand_in.files == {("acme/notes", "a/b.md"): b"hello"}


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", TARGET, b"", 404),
        ("GET", "/other", b"", 404),
        ("DELETE", TARGET, b"", 405),
        ("PUT", TARGET, b"{", 400),
        ("PUT", TARGET, b'{"content": "!"}', 400),
        ("PUT", TARGET, b'{"content": 1}', 400),
        ("PUT", TARGET + "?x=1", b'{"content": ""}', 201),
    ],
)
def test_forge_answers(method: str, target: str, body: bytes, status: int) -> None:
    assert Forge("", 0).answer(method, target, body)[0] == status


def test_blob_sha_is_gits() -> None:
    assert blob_sha(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y", Answer("approve")),
        (" YES ", Answer("approve")),
        ("n", Answer("reject")),
        ("n  only  this file ", Answer("reject", "only  this file")),
        ("narrower", Answer("narrow")),
        ("", None),
        ("yes please", None),
        ("nope", None),
    ],
)
def test_decisions_are_parsed_strictly(typed: str, answer: Answer | None) -> None:
    assert parse(typed) == answer


def line(seconds: float, message: str, level: str = "OCSF") -> LogLine:
    return LogLine(datetime.datetime.fromtimestamp(seconds, datetime.UTC), "sandbox", level, "ocsf", message, {})


def test_trail_is_in_order_with_times_between() -> None:
    rows = trace.rows(
        [
            line(12.0, "HTTP:PUT [INFO] ALLOWED x"),
            line(10.0, "HTTP:PUT [MED] DENIED x"),
            line(10.5, "PROC:LAUNCH [INFO] noise"),
            line(11.5, "CONFIG:APPROVED [INFO] c"),
            line(11.6, "HTTP:PUT not ours", "INFO"),
        ]
    )
    assert [(row.at, row.since, row.message.split()[0]) for row in rows] == [
        (0.0, 0.0, "HTTP:PUT"),
        (1.5, 1.5, "CONFIG:APPROVED"),
        (2.0, 0.5, "HTTP:PUT"),
    ]
    assert trace.missing(rows, [("HTTP:PUT", "DENIED"), ("CONFIG:APPROVED", "c"), ("HTTP:PUT", "ALLOWED")]) == []
    assert trace.missing(rows, [("HTTP:PUT", "ALLOWED"), ("HTTP:PUT", "DENIED")]) == ["HTTP:PUT DENIED"]


def test_the_agents_lines_are_inert(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(clock=lambda: 0.0)
    screen.inside("    ok \x1b[2J\u202e" + "x" * 300)
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert "┃     ok \\x1b[2J\\u202e" in out
    assert max(len(one) for one in out.splitlines()) <= 140


async def test_the_script_rejects_then_approves() -> None:
    person = Scripted()
    screen = Screen(err=True)
    kinds = [(await person.decide(chunk(samples.chunk()), screen)).kind for _ in range(2)]
    assert kinds == ["reject", "approve"]


def test_demo_needs_a_person_or_yes(cli: Cli) -> None:
    result = cli.run("demo")
    assert result.exit_code == 2
    assert "pass --yes in non-interactive mode" in result.stderr
    assert cli.run("demo", "--yes", "--github", "a/b/c").exit_code == 2
    result = cli.run("demo", "--yes", "--github", "a/b", env={"GITHUB_TOKEN": None, "GH_TOKEN": None})
    assert result.exit_code == 1
    assert "needs a token" in result.stderr


CURL = r"""#!/bin/bash
# Answers as the sandbox would: one file per call, in order.
count=$(( $(cat "$CANNED/count" 2>/dev/null || echo 0) + 1 )); echo $count > "$CANNED/count"
printf '%s\n' "$*" >> "$CANNED/log"
cat "$CANNED/$count"
"""


def agent(folder: pathlib.Path, answers: list[tuple[int, object]]) -> tuple[int, str, list[str]]:
    """Run the agent with canned answers. Returns exit code, what it said, and its curl command lines."""
    for number, (status, body) in enumerate(answers, 1):
        (folder / str(number)).write_text(f"{json.dumps(body)}\n{status}")
    curl = folder / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(CURL)
    curl.chmod(0o755)
    script = importlib.resources.files("pyopenshell.cli.demo").joinpath("agent.sh").read_text()
    done = subprocess.run(
        ["/bin/bash", "-c", script, "agent", f"https://api.github.com{TARGET}", "aGVsbG8="],
        env={"PATH": f"{curl.parent}:/usr/bin:/bin", "CANNED": str(folder)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    log = folder / "log"
    return done.returncode, done.stdout + done.stderr, log.read_text().splitlines() if log.exists() else []


def denial(folder: pathlib.Path) -> dict[str, object]:
    from pyopenshell.supervisor import denial as denials

    refused = denials.Denial(
        "l7", "l7", "api.github.com", 443, "PUT not permitted", method="PUT", path=TARGET, binary="/usr/bin/curl"
    )
    body: dict[str, Any] = denials.envelope(refused, proposals_enabled=True)
    skill = folder / "skill.md"
    skill.write_text("how to ask")
    body["next_steps"][0] = {"action": "read_skill", "path": str(skill)}
    return body


def test_agent_asks_narrower_after_a_rejection(tmp_path: pathlib.Path) -> None:
    reason = 'only "this" 100% one\nfile é'
    code, said, calls = agent(
        tmp_path,
        [
            (403, denial(tmp_path)),
            (200, {"format": "yaml", "policy_yaml": "version: 1\n"}),
            (200, {"denials": ["one"], "log_available": True}),
            (202, {"status": "submitted", "accepted_chunk_ids": ["aaaa-1"]}),
            (200, {"status": "pending", "timed_out": True}),
            (200, {"status": "rejected", "rejection_reason": reason}),
            (202, {"status": "submitted", "accepted_chunk_ids": ["bbbb-2"]}),
            (200, {"status": "approved", "rejection_reason": "", "policy_reloaded": True}),
            (201, {"content": {"sha": "abc"}}),
        ],
    )
    assert code == 0, said
    assert f"rejected; the reviewer says: {reason}" in said
    assert "201, sha abc" in said
    proposals = [one for one in " ".join(calls).split("-X ") if one.startswith("POST ")]
    assert "/repos/acme/notes/contents/a/**" in proposals[0]
    assert f'"path": "{TARGET}"' in proposals[1]
    assert calls[-1].startswith("-sS -X PUT -w")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([(500, {"error": "x"})], "unexpected answer 500"),
        ([(200, {"content": {}})], "200, at once"),
    ],
)
def test_agent_stops_where_the_story_ends(tmp_path: pathlib.Path, answers: list[tuple[int, object]], says: str) -> None:
    code, said, _ = agent(tmp_path, answers)
    assert says in said
    assert code == (0 if "at once" in says else 3)


def test_agent_does_not_believe_approved_without_reload(tmp_path: pathlib.Path) -> None:
    code, said, _ = agent(
        tmp_path,
        [
            (403, denial(tmp_path)),
            (200, {}),
            (200, {"denials": []}),
            (202, {"accepted_chunk_ids": ["a"]}),
            (200, {"status": "approved", "policy_reloaded": False}),
        ],
    )
    assert code == 3
    assert "approved, but not loaded" in said
