"""Many proposals at once, the automatic mode, observed denials, and the RPC classes over all of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store.schema import log_lines
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

from .core import (
    ALICE,
    CURL,
    MECHANISTIC,
    WORKSPACE,
    Core,
    as_sandbox,
    auto,
    opened,
    policy,
    refused,
    rest,
    statuses,
)

# ---- approve all -----------------------------------------------------------------------------------------------------


async def listed(core: Core, sandbox_id: str) -> list[tuple[str, str]]:
    return [(one.id, one.review_token) for one in (await core.inbox.list(sandbox_id, "pending", bodies=False)).chunks]


async def test_bulk_approval_is_one_revision_of_what_was_listed(tmp_path: Path) -> None:
    """Attack G-18: what arrived after the list was drawn is not approved."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        ids = await core.propose(sandbox_id, *(rest("a.example.com", f"GET /{n}") for n in range(3)))
        approvals = await listed(core, sandbox_id)
        (late,) = await core.propose(sandbox_id, rest("late.example.com", "GET /x"))
        bulk = await core.inbox.approve_all(sandbox_id, approvals, "mtls:CN=alice", include_flagged=False)
        assert (bulk.applied.version, bulk.approved, bulk.skipped) == (2, 3, 0)
        assert (await core.chunk(sandbox_id, late)).status == "pending"
        # Each one of a batch can be taken back on its own.
        await core.inbox.undo(sandbox_id, ids[1], "mtls:CN=alice")
        paths = [match.path for rule in (await core.base(sandbox_id)).rules for match in rule.endpoints[0].rules]
        assert sorted(paths) == ["/0", "/2"]
        lines = await core.store.run(lambda tx: tx.scalars(sa.select(log_lines.c.message)).all())
        assert any("gateway bulk-approved 3 draft chunk(s) and skipped 0" in line for line in lines)


async def test_bulk_approval_skips_flagged_and_stale(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        good, flagged, stale = await core.propose(
            sandbox_id,
            rest("a.example.com", "GET /x"),
            rest("*.wild.example.com", "GET /x", name="wild"),
            rest("c.example.com", "GET /x"),
        )
        assert (await core.chunk(sandbox_id, flagged)).security_notes
        approvals = [(one, token if one != stale else "old") for one, token in await listed(core, sandbox_id)]
        bulk = await core.inbox.approve_all(sandbox_id, approvals, "mtls:CN=alice", include_flagged=False)
        assert (bulk.approved, bulk.skipped) == (1, 2)
        assert await statuses(core, sandbox_id) == {good: "approved", flagged: "pending", stale: "pending"}
        bulk = await core.inbox.approve_all(
            sandbox_id, await listed(core, sandbox_id), "mtls:CN=alice", include_flagged=True
        )
        assert (bulk.approved, bulk.skipped) == (2, 0)


async def test_bulk_approval_without_a_list_approves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve_all(sandbox_id, [], "x", include_flagged=True)
        refused(caught, "no pending chunks to approve")
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        bulk = await core.inbox.approve_all(sandbox_id, [], "x", include_flagged=True)
        assert (bulk.applied.version, bulk.approved, bulk.skipped) == (1, 0, 1)
        approvals = await listed(core, sandbox_id)
        await core.inbox.reject(sandbox_id, chunk_id, "", "x")
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve_all(sandbox_id, approvals, "x", include_flagged=True)
        refused(caught, f"chunk '{chunk_id}' is not pending; refetch before bulk approval")


# ---- automatic mode --------------------------------------------------------------------------------------------------


async def test_automatic_mode_approves_what_has_no_finding_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        await auto(core, sandbox_id)
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert chunk.validation_result == "prover: no new findings"
        assert chunk.status == "approved"
        (review,) = await core.inbox.reviews(sandbox_id, [chunk_id])
        assert review.decided_by == "gateway:auto"
        (line,) = await core.store.run(lambda tx: tx.scalars(sa.select(log_lines.c.message)).all())
        assert line.startswith(
            f"CONFIG:APPROVED [INFO] auto-approved: no new prover findings (source=agent_authored) — chunk {chunk_id}: "
        )
        for part in ("auto:true", "source:agent_authored", "prover_delta:empty", "resolved_from:sandbox"):
            assert part in line


async def test_automatic_mode_leaves_to_people_what_has_notes_or_private_reach(tmp_path: Path) -> None:
    """Attack G-9."""
    private = rest("intranet.example.com", "GET /x")
    private = dataclasses.replace(
        private, endpoints=(dataclasses.replace(private.endpoints[0], allowed_ips=("10.0.0.0/8",)),)
    )
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        await auto(core, sandbox_id)
        ids = await core.propose(sandbox_id, rest("*.wild.example.com", "GET /x", name="wild"), private)
        assert await statuses(core, sandbox_id) == dict.fromkeys(ids, "pending")


async def test_a_global_manual_beats_a_sandboxs_auto(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        await auto(core, sandbox_id)
        manual = sandbox_pb2.SettingValue(string_value="manual")
        await core.store.run(lambda tx: core.settings.put(tx, "__global__", "proposal_approval_mode", manual))
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        assert await statuses(core, sandbox_id) == {chunk_id: "pending"}


# ---- observed denials ------------------------------------------------------------------------------------------------


def l7(path: str, count: int = 1, method: str = "PUT") -> openshell_pb2.DenialSummary:
    summary = openshell_pb2.DenialSummary(
        host="API.github.com",
        port=443,
        binary=CURL,
        denial_stage="l7",
        l7_inspection_active=True,
        deny_reason="no rule",
    )
    summary.l7_request_samples.add(method=method, path=path, decision="deny", count=count)
    return summary


async def test_inspected_refusals_are_counted_and_never_proposed(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        request = openshell_pb2.SubmitPolicyAnalysisRequest
        with core.bus.subscribe("inbox") as heard:
            await core.inbox.submit(
                sandbox_id, request(analysis_mode=MECHANISTIC, summaries=[l7("/x?token=s3cret", 2)])
            )
            told = (await anext(heard)).payload.observed
        assert (told.host, told.method, told.path, told.count) == ("api.github.com", "PUT", "/x", 2)
        core.clock.now += 1000
        await core.inbox.submit(sandbox_id, request(analysis_mode=MECHANISTIC, summaries=[l7("/x", 3), l7("/y")]))
        found = {one.path: one for one in await core.inbox.observed(sandbox_id)}
        assert {path: one.count for path, one in found.items()} == {"/x": 5, "/y": 1}
        assert found["/x"].reason == "no rule"
        assert await statuses(core, sandbox_id) == {}


async def test_one_request_refused_for_two_reasons_is_two_rows_with_their_latest_ids(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        summaries = [l7("/x"), l7("/x"), l7("/x")]
        for summary, said in zip(summaries, ("d-1] method", "d-2] query", "d-3] method"), strict=True):
            summary.deny_reason = f"[policy:api] [denial:{said}"
        request = openshell_pb2.SubmitPolicyAnalysisRequest(analysis_mode=MECHANISTIC, summaries=summaries)
        await core.inbox.submit(sandbox_id, request)
        found = {one.reason: one for one in await core.inbox.observed(sandbox_id)}
        assert {reason: (one.count, one.denial_id) for reason, one in found.items()} == {
            "method": (2, "d-3"),
            "query": (1, "d-2"),
        }
        assert {one.policy for one in found.values()} == {"api"}


async def test_observed_denials_are_bounded_by_age(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        for batch in range(5):
            core.clock.now += 1000
            await core.inbox.submit(
                sandbox_id,
                openshell_pb2.SubmitPolicyAnalysisRequest(
                    analysis_mode=MECHANISTIC, summaries=[l7(f"/{batch}/{n}") for n in range(300)]
                ),
            )
        found = await core.inbox.observed(sandbox_id)
        assert len(found) <= 1000
        assert {one.path.split("/")[1] for one in found} == {"2", "3", "4"}


# ---- through the RPC classes -----------------------------------------------------------------------------------------


async def test_rpcs_record_the_caller_and_hide_bodies_from_sandboxes(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id, other = await core.sandbox(), await core.sandbox("other")
        request = openshell_pb2.SubmitPolicyAnalysisRequest(
            workspace_scope=WORKSPACE,
            name="box",
            analysis_mode="agent_authored",
            proposed_chunks=[
                openshell_pb2.PolicyChunk(
                    rule_name="a", proposed_rule=policy_map.rule_to_proto(rest("a.example.com", "GET /x"))
                )
            ],
        )
        (chunk_id,) = (await core.drafts.SubmitPolicyAnalysis(request, as_sandbox(sandbox_id))).accepted_chunk_ids
        with pytest.raises(GatewayError, match="sandbox not found or not owned by caller"):
            await core.drafts.SubmitPolicyAnalysis(request, as_sandbox(other))
        read = openshell_pb2.GetDraftPolicyRequest(workspace_scope=WORKSPACE, sandbox="box")
        (seen,) = (await core.drafts.GetDraftPolicy(read, as_sandbox(sandbox_id))).chunks
        assert not seen.HasField("candidate_effective_policy")
        (seen,) = (await core.drafts.GetDraftPolicy(read, ALICE)).chunks
        assert seen.HasField("candidate_effective_policy")
        approve = openshell_pb2.ApproveDraftChunkRequest(
            workspace_scope=WORKSPACE, sandbox="box", chunk_id=chunk_id, review_token=seen.review_token
        )
        with pytest.raises(GatewayError) as caught:
            await core.drafts.ApproveDraftChunk(approve, as_sandbox(sandbox_id))
        assert caught.value.code == "PERMISSION_DENIED"
        assert (await core.drafts.ApproveDraftChunk(approve, ALICE)).policy_version == 1
        history = await core.drafts.GetDraftHistory(
            openshell_pb2.GetDraftHistoryRequest(workspace_scope=WORKSPACE, sandbox="box"), ALICE
        )
        assert [entry.event_type for entry in history.entries] == ["proposed", "approved"]
        assert history.entries[0].description == "Rule 'a' proposed (confidence: 0%)"
        assert history.entries[1].description == "Rule 'a' approved by mtls:CN=alice"
