"""The approval inbox on the command line: layouts, decisions, hostile text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import grpc
import pytest

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from tests.cli import samples
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import FakeGateway, RefusalError
from tests.cli.samples import FIRST, SECOND


@pytest.fixture
def inbox(gateway: FakeGateway) -> FakeGateway:
    chunks = [samples.chunk(), samples.chunk(SECOND)]
    gateway.answers |= {
        "GetDraftPolicy": lambda request: api.GetDraftPolicyResponse(chunks=chunks, draft_version=7),
        "ListChunkReviews": lambda request: review_api.ListChunkReviewsResponse(reviews=[samples.review()]),
        "ListObservedDenials": lambda request: review_api.ListObservedDenialsResponse(denials=[samples.observed()]),
        "ApproveDraftChunk": lambda request: api.ApproveDraftChunkResponse(policy_version=2, policy_hash="ab" * 32),
        "RejectDraftChunk": lambda request: api.RejectDraftChunkResponse(),
        "EditDraftChunk": lambda request: api.EditDraftChunkResponse(),
        "UndoDraftChunk": lambda request: api.UndoDraftChunkResponse(policy_version=3, policy_hash="cd" * 32),
        "ClearDraftChunks": lambda request: api.ClearDraftChunksResponse(chunks_cleared=2),
        "ApproveAllDraftChunks": lambda request: api.ApproveAllDraftChunksResponse(
            policy_version=5, chunks_approved=1, chunks_skipped=1
        ),
    }
    return gateway


def test_get_layout(cli: Cli, inbox: FakeGateway) -> None:
    lines = cli.ok("rule", "get", "box").split("\n")
    assert lines[:25] == [
        "Network Rules:  (version 7, 2 chunks)",
        "",
        f"  Chunk: {FIRST}",
        "  Status: pending",
        "  Rule: save_notes",
        "  Binary: /usr/bin/curl",
        "  Confidence: 75%",
        "  Rationale: Save my notes",
        "  Prover: prover: 1 new finding",
        "      capability_expansion: PUT on api.github.com",
        "  Candidate: abcdef012345",
        "  Endpoints: api.github.com:443 [L7 rest, allow PUT /repos/acme/notes/contents/**]",
        "  Binaries: /usr/bin/curl",
        "  Hits: 3 (first seen 2026-09-21 14:13:20, last seen 2026-09-21 14:14:20)",
        "  Author: agent_authored",
        "  Newly permits:",
        "    + PUT to any path under /repos/acme/notes/contents/ on api.github.com:443 by /usr/bin/curl  [new grant]",
        "      for example: PUT https://api.github.com/repos/acme/notes/contents/a by /usr/bin/curl",
        "",
        f"  Chunk: {SECOND}",
        "  Status: pending",
        "  Rule: save_notes",
        "  Binary: /usr/bin/curl",
        "  Confidence: 75%",
        "  Rationale: Save my notes",
    ]
    assert lines[-7:-1] == [
        "Observed Denials:  (1; counted and shown only, never a rule by themselves)",
        "",
        "  PUT api.github.com:443/repos/acme/notes/contents/a.md",
        f"    by /usr/bin/curl, refused by github_api_readonly: {samples.observed().reason}",
        "    2 times, last 2026-09-21 14:14:20",
        "",
    ]
    assert inbox.requests("GetDraftPolicy")[0].workspace_scope.workspace == "default"


def test_get_singular_and_empty(cli: Cli, gateway: FakeGateway) -> None:
    gateway.answers["GetDraftPolicy"] = lambda request: api.GetDraftPolicyResponse(
        chunks=[samples.chunk()] if request.sandbox == "one" else [], draft_version=1
    )
    assert cli.ok("rule", "get", "one").startswith("Network Rules:  (version 1, 1 chunk)\n")
    assert cli.ok("rule", "get", "none") == "No network rules for sandbox 'none'\n"


def test_status_is_passed_to_the_server_and_hides_observed(cli: Cli, inbox: FakeGateway) -> None:
    out = cli.ok("rule", "get", "box", "--status", "approved")
    assert inbox.requests("GetDraftPolicy")[0].status_filter == "approved"
    assert "Observed" not in out


def test_unproven_and_uninspected_are_said(cli: Cli, inbox: FakeGateway) -> None:
    shown = samples.review()
    shown.proven = False
    shown.newly_permits[0].uninspected = True
    inbox.answers["ListChunkReviews"] = lambda request: review_api.ListChunkReviewsResponse(reviews=[shown])
    out = cli.ok("rule", "get", "box")
    assert "[new grant]  (NOT INSPECTED)" in out
    assert "(the proof did not finish: there may be more)" in out


@pytest.mark.parametrize("args", [("box", "--chunk-id", "3f2a"), ("box", FIRST), ("box", "3f2a11")])
def test_approve_by_unique_prefix_uses_the_listed_token(cli: Cli, inbox: FakeGateway, args: tuple[str, ...]) -> None:
    assert cli.ok("rule", "approve", *args) == "OK Chunk approved. Policy version: 2, hash: abababababab\n"
    (request,) = inbox.requests("ApproveDraftChunk")
    assert (request.sandbox, request.chunk_id, request.review_token) == ("box", FIRST, "token-of-3f2a")


def test_ambiguous_and_unknown_ids(cli: Cli, inbox: FakeGateway) -> None:
    result = cli.run("rule", "approve", "box", "--chunk-id", "3f2")
    assert result.exit_code == 1
    assert "chunk id '3f2' is ambiguous" in result.stderr
    assert FIRST in result.stderr
    result = cli.run("rule", "approve", "box", "--chunk-id", "9")
    assert (result.exit_code, result.stderr) == (1, "Error:   × draft chunk '9' not found\n")
    assert not inbox.requests("ApproveDraftChunk")


def test_missing_chunk_id_is_a_usage_error_before_any_call(cli: Cli, inbox: FakeGateway) -> None:
    result = cli.run("rule", "approve")
    assert result.exit_code == 2
    assert "--chunk-id" in result.stderr
    assert cli.run("rule", "approve", "a", "b", "c").exit_code == 2
    assert not inbox.calls


def test_candidate_pins_what_was_seen(cli: Cli, inbox: FakeGateway) -> None:
    result = cli.run("rule", "approve", "box", "3f2a", "--candidate", "000000000000")
    assert result.exit_code == 1
    assert "the proposal changed: its candidate is now abcdef012345" in result.stderr
    assert not inbox.requests("ApproveDraftChunk")
    cli.ok("rule", "approve", "box", "3f2a", "--candidate", "ABCDEF012345")


def test_stale_review_is_the_servers_word_and_exit_1(cli: Cli, inbox: FakeGateway) -> None:
    def refuse(request: object) -> None:
        raise RefusalError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "proposal inputs changed; evaluation refreshed, refetch and review again",
        )

    inbox.answers["ApproveDraftChunk"] = refuse
    result = cli.run("rule", "approve", "box", "3f2a")
    assert result.exit_code == 1
    assert result.stderr == ("Error:   × proposal inputs changed; evaluation refreshed, refetch and review again\n")


def test_reject_sends_the_reason_byte_for_byte(cli: Cli, inbox: FakeGateway) -> None:
    reason = " only  this \\n \u202e é file\t"
    assert cli.ok("rule", "reject", "box", "--chunk-id", "3f2b", "--reason", reason) == "OK Chunk rejected.\n"
    (request,) = inbox.requests("RejectDraftChunk")
    assert (request.chunk_id, request.reason) == (SECOND, reason)


def test_approve_all_sends_exactly_the_listed_tokens(cli: Cli, inbox: FakeGateway) -> None:
    assert cli.ok("rule", "approve-all", "box") == "OK 1 chunk(s) approved, 1 skipped. Policy version: 5\n"
    (request,) = inbox.requests("ApproveAllDraftChunks")
    assert [(one.chunk_id, one.review_token) for one in request.approvals] == [
        (FIRST, "token-of-3f2a"),
        (SECOND, "token-of-3f2b"),
    ]
    assert not request.include_security_flagged
    assert inbox.requests("GetDraftPolicy")[0].status_filter == "pending"


def test_clear_undo(cli: Cli, inbox: FakeGateway) -> None:
    assert cli.ok("rule", "clear", "box") == "OK 2 pending chunk(s) cleared.\n"
    assert cli.ok("rule", "undo", "box", "3f2a") == "OK Approval undone. Policy version: 3, hash: cdcdcdcdcdcd\n"


def test_narrow_edits_to_what_was_refused(cli: Cli, inbox: FakeGateway) -> None:
    out = cli.ok("rule", "narrow", "box", "3f2a")
    assert out.startswith("OK Chunk narrowed.\n")
    (request,) = inbox.requests("EditDraftChunk")
    (endpoint,) = request.proposed_rule.endpoints
    (one,) = endpoint.rules
    assert (one.allow.method, one.allow.path) == ("PUT", "/repos/acme/notes/contents/a.md")
    inbox.answers["ListObservedDenials"] = lambda request: review_api.ListObservedDenialsResponse()
    result = cli.run("rule", "narrow", "box", "3f2a")
    assert result.exit_code == 1
    assert "no refused request on record" in result.stderr


def test_history(cli: Cli, gateway: FakeGateway) -> None:
    entry = api.DraftHistoryEntry(event_type="approved", description="Rule 'x' approved", chunk_id=FIRST)
    entry.event_time.seconds = 1_790_000_000
    entries = [entry]
    gateway.answers["GetDraftHistory"] = lambda request: api.GetDraftHistoryResponse(entries=entries)
    assert cli.ok("rule", "history", "box") == (
        "Rule History:\n\n  2026-09-21 14:13:20 approved [3f2a1111] Rule 'x' approved\n"
    )
    entries.clear()
    assert cli.ok("rule", "history", "box") == "No rule history for sandbox 'box'\n"


def test_watch_prints_each_event(cli: Cli, inbox: FakeGateway) -> None:
    def events(request: object) -> Iterator[review_api.InboxEvent]:
        yield review_api.InboxEvent(sandbox_name="box", chunk=samples.chunk())
        yield review_api.InboxEvent(sandbox_name="box", synced=True)
        yield review_api.InboxEvent(sandbox_name="box", observed=samples.observed())
        yield review_api.InboxEvent(sandbox_name="box", chunk=samples.chunk(status="approved"))

    inbox.answers["WatchInbox"] = events
    out = cli.ok("rule", "get", "box", "--watch")
    assert re.findall(r"Status: (\w+)", out) == ["pending", "approved"]
    assert "  PUT api.github.com:443/repos/acme/notes/contents/a.md" in out
    lines = [json.loads(line) for line in cli.ok("rule", "get", "box", "--watch", "-o", "json").splitlines()]
    assert [sorted(line) for line in lines] == [
        ["chunk", "sandbox"],
        ["sandbox", "synced"],
        ["observed", "sandbox"],
        ["chunk", "sandbox"],
    ]


EVIL = "ok\x1b[2J\r\n  Chunk: fake\u202eevil\u200b\u00a0\u2028" + " " * 300 + "end\x9b"


def test_hostile_text_is_inert_in_every_field(cli: Cli, inbox: FakeGateway) -> None:
    evil = samples.chunk()
    for field in ("rationale", "security_notes", "rule_name", "binary", "application_error", "rejection_reason"):
        setattr(evil, field, EVIL)
    evil.validation_result = "prover: 1 new finding\n  x: \x1b[31m\u202e"
    evil.proposed_rule.endpoints[0].host = "a\u202eb.example"
    evil.proposed_rule.binaries[0].path = EVIL
    shown, seen = samples.review(), samples.observed()
    shown.newly_permits[0].text = shown.newly_permits[0].witness = shown.decided_by = EVIL
    seen.path = seen.reason = seen.binary = EVIL
    inbox.answers |= {
        "GetDraftPolicy": lambda request: api.GetDraftPolicyResponse(chunks=[evil]),
        "ListChunkReviews": lambda request: review_api.ListChunkReviewsResponse(reviews=[shown]),
        "ListObservedDenials": lambda request: review_api.ListObservedDenialsResponse(denials=[seen]),
    }
    for args in (("rule", "get", "box"), ("rule", "get", "box", "-o", "json"), ("rule", "get", "box", "-o", "yaml")):
        out = cli.ok(*args)
        bad = {c for c in out if not (c == "\n" or (c.isascii() and c.isprintable()))}
        assert not bad, args
    text = cli.ok("rule", "get", "box")
    assert text.count("\n  Chunk: ") == 1
    assert "ok\\x1b[2J\\r\\n" in text
    assert "[300 spaces]end\\x9b" in text
    assert cli.json("rule", "get", "box", "-o", "json")["chunks"][0]["rationale"] == EVIL
