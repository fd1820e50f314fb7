"""The stream of a tool that keeps everything on a screen: complete at first, then every change, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from pyopenshell.gateway import overview, presence
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

from .core import ALICE, WORKSPACE, opened, rest


async def test_an_overview_begins_with_everything_and_follows_sandboxes(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box, other = await core.sandbox("box"), await core.sandbox("other", workspace="other")
        (approved,) = await core.propose(box, rest("a.example.com", "GET /x"))
        await core.approve(box, approved)
        (pending,) = await core.propose(box, rest("b.example.com", "GET /x"))
        await core.propose(other, rest("c.example.com", "GET /x"))
        summary = openshell_pb2.DenialSummary(host="a.example.com", port=443, denial_stage="l7", binary="/usr/bin/curl")
        summary.l7_request_samples.add(method="PUT", path="/y", count=3)
        await core.inbox.submit(box, openshell_pb2.SubmitPolicyAnalysisRequest(summaries=[summary]))
        request = pyopenshell_pb2.WatchInboxRequest(workspace_scope=WORKSPACE, overview=True)
        stream = core.review.WatchInbox(request, ALICE)
        first = [await anext(stream) for _ in range(5)]
        kinds = [event.WhichOneof("payload") for event in first]
        assert kinds == ["sandbox", "chunk", "observed", "chunk", "synced"]
        assert [event.chunk.id for event in first if event.HasField("chunk")] == [approved, pending]
        assert (first[0].sandbox.metadata.name, first[0].sandbox.HasField("spec")) == ("box", False)
        assert (first[2].observed.path, first[2].observed.count) == ("/y", 3)

        def forget(tx: sa.Connection) -> None:
            presence.announce(tx, core.store, core.bus, box)
            presence.announce(tx, core.store, core.bus, other)
            presence.announce(tx, core.store, core.bus, "nobody")
            presence.announce(tx, core.store, core.bus, box, gone=True)

        await core.store.run(forget)
        assert (await anext(stream)).WhichOneof("payload") == "sandbox"
        gone = await anext(stream)
        assert (gone.WhichOneof("payload"), gone.sandbox_name) == ("gone", "box")
        for _ in range(1100):
            core.bus.publish("inbox", pyopenshell_pb2.InboxEvent(sandbox_id=box, workspace="default"))
        again = [(await anext(stream)).WhichOneof("payload") for _ in range(6)]
        assert again == ["restart", *kinds]


async def test_an_overview_is_bounded_per_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack G-8: a sandbox that makes noise leaves the others' decisions on the screen, and its own approvals."""
    monkeypatch.setattr(overview, "PER_SANDBOX", 2)
    async with opened(tmp_path / "a.db") as core:
        quiet, loud = await core.sandbox("quiet"), await core.sandbox("loud")
        (kept,) = await core.propose(quiet, rest("kept.example.com", "GET /x"))
        (mine,) = await core.propose(loud, rest("mine.example.com", "GET /x"))
        await core.approve(quiet, kept)
        await core.approve(loud, mine)
        for one in await core.propose(loud, *(rest(f"{n}.example.com", "GET /x") for n in range(5))):
            await core.inbox.reject(loud, one, "", "mtls:CN=alice")
        events = await core.store.run(lambda tx: overview.beginning(tx, None, ""))
        decided = [(event.sandbox_name, event.chunk.status) for event in events if event.HasField("chunk")]
        assert decided == [("quiet", "approved"), ("loud", "approved"), ("loud", "rejected"), ("loud", "rejected")]


async def test_a_proof_names_the_token_of_the_chunk_it_is_about(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (one,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        (review,) = await core.inbox.reviews(sandbox_id, [one])
        assert review.review_token == (await core.chunk(sandbox_id, one)).review_token != ""
