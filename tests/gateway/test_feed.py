"""Streams that a reader can leave and take up again, and waiting that costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pyopenshell.gateway import order, presence
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.revisions import encode
from pyopenshell.gateway.store import forget_sandbox
from pyopenshell.gateway.store.schema import log_lines
from pyopenshell.gateway.submission import Limits
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2, sandbox_pb2

from .core import ALICE, MECHANISTIC, WORKSPACE, Core, as_sandbox, opened, policy, raw, rest

Event = pyopenshell_pb2.InboxEvent


def watch(core: Core, cursor: str = "", **fields: Any) -> AsyncIterator[Event]:
    request = pyopenshell_pb2.WatchInboxRequest(workspace_scope=WORKSPACE, resume_after_cursor=cursor, **fields)
    return core.review.WatchInbox(request, ALICE)


async def until_synced(stream: AsyncIterator[Event]) -> list[Event]:
    found = []
    while True:
        event = await asyncio.wait_for(anext(stream), 60)
        found.append(event)
        if event.synced:
            return found


async def test_a_reader_who_was_away_is_told_what_changed_in_order_and_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box, other = await core.sandbox("box"), await core.sandbox("other", workspace="elsewhere")
        one, two = await core.propose(box, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x"))
        seen = await until_synced(watch(core))
        assert [event.chunk.id for event in seen[:-1]] == [one, two]
        place = seen[-1].cursor
        await core.inbox.reject(box, two, "no", "mtls:CN=alice")
        (three,) = await core.propose(box, rest("c.example.com", "GET /x"))
        await core.propose(other, rest("d.example.com", "GET /x"))
        await core.approve(box, three)  # proposed and approved meanwhile: told once, as it is now
        missed = await until_synced(watch(core, place))
        assert [(event.chunk.id, event.chunk.status) for event in missed[:-1]] == [
            (two, "rejected"),
            (three, "approved"),
        ]
        cursors = [event.cursor for event in missed]
        assert cursors == sorted(cursors)
        # From the middle, and from the end.
        assert [event.chunk.id for event in (await until_synced(watch(core, missed[0].cursor)))[:-1]] == [three]
        stream = watch(core, missed[-1].cursor)
        assert len(await until_synced(stream)) == 1
        await core.inbox.undo(box, three, "mtls:CN=alice")
        event = await asyncio.wait_for(anext(stream), 60)
        assert (event.chunk.id, event.chunk.status, event.cursor > missed[-1].cursor) == (three, "pending", True)


async def test_after_a_restart_the_place_is_still_good(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box = await core.sandbox()
        (one,) = await core.propose(box, rest("a.example.com", "GET /x"))
        place = (await until_synced(watch(core)))[-1].cursor
        await core.inbox.reject(box, one, "no", "mtls:CN=alice")
    async with opened(tmp_path / "a.db") as core:
        (event, _) = await until_synced(watch(core, place))
        assert (event.chunk.id, event.chunk.rejection_reason) == (one, "no")


async def test_what_vanished_is_told_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box, doomed = await core.sandbox("box"), await core.sandbox("doomed")
        (one,) = await core.propose(box, rest("a.example.com", "GET /x"))
        await core.propose(doomed, rest("a.example.com", "GET /x"))
        live = watch(core)
        place = (await until_synced(live))[-1].cursor
        await core.inbox.clear(box, "mtls:CN=alice")

        def forget(tx: sa.Connection) -> None:
            presence.announce(tx, core.store, core.bus, doomed, gone=True)
            forget_sandbox(tx, doomed)

        await core.store.run(forget)
        for told in (await until_synced(watch(core, place)))[:-1], [await anext(live), await anext(live)]:
            assert [(event.chunk.id, event.chunk.status, event.gone) for event in told] == [
                (one, "cleared", False),
                ("", "", True),
            ]
            assert told[1].sandbox_name == "doomed"


async def test_observed_denials_are_part_of_the_order(tmp_path: Path) -> None:
    def seen(path: str) -> openshell_pb2.SubmitPolicyAnalysisRequest:
        sample = openshell_pb2.L7RequestSample(method="GET", path=path, count=1)
        summary = openshell_pb2.DenialSummary(
            host="a.example.com", port=443, binary="/usr/bin/curl", l7_inspection_active=True,
            l7_request_samples=[sample], deny_reason="[denial:x] not allowed",
        )  # fmt: skip
        return openshell_pb2.SubmitPolicyAnalysisRequest(analysis_mode=MECHANISTIC, summaries=[summary])

    async with opened(tmp_path / "a.db") as core:
        box = await core.sandbox()
        place = (await until_synced(watch(core)))[-1].cursor
        for path in ("/one", "/two", "/one"):
            await core.inbox.submit(box, seen(path))
        told = (await until_synced(watch(core, place)))[:-1]
        assert [(event.observed.path, event.observed.count) for event in told] == [("/two", 1), ("/one", 2)]


@pytest.mark.parametrize("cursor", ["1", "x" * 20, "-0000000000000000001"])
async def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    async with opened(tmp_path / "a.db") as core:
        with pytest.raises(GatewayError, match="resume_after_cursor is malformed"):
            await anext(watch(core, cursor))


async def test_what_cannot_be_told_one_by_one_begins_anew_instead_of_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "KEPT", 3)
    monkeypatch.setattr(order, "_TRIM_EVERY", 1)
    async with opened(tmp_path / "a.db", Limits(burst=1000)) as core:
        box = await core.sandbox()
        old = (await until_synced(watch(core)))[-1].cursor
        await core.propose(box, *(rest(f"{n}.example.com", "GET /x") for n in range(6)))
        told = await until_synced(watch(core, old))
        assert (told[0].restart, len(told)) == (True, 8)
        # A database that was restored knows nothing of what came after.
        told = await until_synced(watch(core, f"{10**12:020d}"))
        assert (told[0].restart, len(told)) == (True, 8)
        fresh = told[-1].cursor
        await core.propose(box, rest("x.example.com", "GET /x"))
        assert len(await until_synced(watch(core, fresh))) == 2


async def test_a_slow_reader_is_told_exactly_what_it_missed(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db", Limits(burst=10_000)) as core:
        box = await core.sandbox()
        (kept,) = await core.propose(box, rest("a.example.com", "GET /x"))
        stream = watch(core)
        await until_synced(stream)
        for _ in range(1100):  # more than a subscriber's room
            core.bus.publish("inbox", Event(sandbox_id="nobody", workspace="nowhere"))
        await core.inbox.reject(box, kept, "no", "mtls:CN=alice")
        told = await until_synced(stream)
        assert [(event.chunk.id, event.chunk.status) for event in told[:-1]] == [(kept, "rejected")]


# ---- waiting ---------------------------------------------------------------------------------------------------------


async def test_ten_thousand_waiters_cost_nothing_until_their_own_decision(tmp_path: Path) -> None:
    """Each `/wait` is one subscription: no timer, no transaction, and a decision wakes only those it is for."""
    async with opened(tmp_path / "a.db") as core:
        boxes = [await core.sandbox(f"box-{n}") for n in range(10)]
        chunks = [(await core.propose(box, rest("a.example.com", "GET /x")))[0] for box in boxes]
        streams = [
            (box, core.proposals.WatchProposals(pyopenshell_pb2.WatchProposalsRequest(), as_sandbox(box)))
            for box in boxes
            for _ in range(1000)
        ]
        waiting = [asyncio.ensure_future(anext(stream)) for _, stream in streams]
        while sum(core.bus.subscribers(f"proposals:{box}") for box in boxes) < len(streams):
            await asyncio.sleep(0)
        loop: Any = asyncio.get_running_loop()
        for _ in range(5):
            await asyncio.sleep(0)
        transactions = 0
        run = core.store.run

        def counted(fn: Any) -> Any:
            nonlocal transactions
            transactions += 1
            return run(fn)

        core.store.run = counted  # type: ignore[method-assign]
        if hasattr(loop, "_scheduled"):
            mine = [timer for timer in loop._scheduled if not timer.cancelled()]
            assert len(mine) == 0  # nobody wakes up to look
            assert len(loop._ready) == 0
        await core.inbox.reject(boxes[3], chunks[3], "no", "mtls:CN=alice")
        woken, rest_of_them = waiting[3000:4000], waiting[:3000] + waiting[4000:]
        states = await asyncio.wait_for(asyncio.gather(*woken), 60)
        assert {(state.chunk_id, state.rejection_reason) for state in states} == {(chunks[3], "no")}
        assert not any(task.done() for task in rest_of_them)
        assert transactions == 1
        for task in rest_of_them:
            task.cancel()
        await asyncio.gather(*rest_of_them, return_exceptions=True)
        for _, stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]


# ---- the whole history, and what settings and policies tell ----------------------------------------------------------


async def test_decisions_are_listed_whole_and_in_pages(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box = await core.sandbox("box")
        one, two = await core.propose(box, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x"))
        await core.drafts.ApproveDraftChunk(
            openshell_pb2.ApproveDraftChunkRequest(
                workspace_scope=WORKSPACE, sandbox="box", chunk_id=one,
                review_token=(await core.chunk(box, one)).review_token,
            ),
            ALICE,
        )  # fmt: skip
        await core.inbox.reject(box, two, "a reason\nof two lines", "mtls:CN=bob")
        request = pyopenshell_pb2.ListDecisionsRequest(workspace_scope=WORKSPACE, sandbox="box", page_size=3)
        first = await core.review.ListDecisions(request, ALICE)
        request.page_token = first.next_page_token
        second = await core.review.ListDecisions(request, ALICE)
        told = [*first.decisions, *second.decisions]
        assert second.next_page_token == ""
        assert [(one.event_type, one.actor) for one in told] == [
            ("proposed", f"sandbox:{box}"),
            ("proposed", f"sandbox:{box}"),
            ("approved", "mtls:CN=alice"),
            ("rejected", "mtls:CN=bob"),
        ]
        assert told[2].before_policy_hash != told[2].after_policy_hash
        assert (told[2].policy_version, told[3].reason) == (1, "a reason\nof two lines")
        request = pyopenshell_pb2.ListDecisionsRequest(workspace_scope=WORKSPACE, sandbox="box", chunk_id=two)
        only = await core.review.ListDecisions(request, ALICE)
        assert [one.event_type for one in only.decisions] == ["proposed", "rejected"]
        request.page_token = first.next_page_token
        with pytest.raises(GatewayError, match="page_token does not match this list request"):
            await core.review.ListDecisions(request, ALICE)


async def lines(core: Core, sandbox_id: str) -> list[str]:
    query = sa.select(log_lines.c.message).where(log_lines.c.sandbox_id == sandbox_id).order_by(log_lines.c.seq)
    return list(await core.store.run(lambda tx: tx.scalars(query).all()))


async def test_every_change_of_policy_and_settings_is_a_line_that_says_whose_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        one, two = await core.sandbox("one", policy()), await core.sandbox("two", policy())

        async def update(**fields: Any) -> None:
            everywhere = fields.pop("everywhere", False)
            request = openshell_pb2.UpdateConfigRequest(workspace_scope=WORKSPACE, **fields)
            if everywhere:
                setattr(request, "global", True)
            else:
                request.sandbox = "one"
            await core.policy.UpdateConfig(request, ALICE)

        body = sandbox_pb2.SandboxPolicy.FromString(_encoded())
        on = sandbox_pb2.SettingValue(bool_value=True)
        await update(policy=body)
        await update(policy=body)  # nothing changed: nothing is told
        await update(setting_key="ocsf_json_enabled", setting_value=on)
        await update(setting_key="ocsf_json_enabled", setting_value=on)
        await update(setting_key="ocsf_json_enabled", delete_setting=True)
        await update(setting_key="agent_policy_proposals_enabled", setting_value=on, everywhere=True)
        await update(policy=body, everywhere=True)
        await update(setting_key="policy", delete_setting=True, everywhere=True)
        told = [line.partition("policy_version")[0].rstrip(" [") for line in await lines(core, one)]
        assert told == [
            "CONFIG:REPLACED [INFO] gateway replaced the policy, by mtls:CN=alice",
            "CONFIG:SETTING [INFO] gateway set ocsf_json_enabled to true, by mtls:CN=alice",
            "CONFIG:SETTING [INFO] gateway unset ocsf_json_enabled, by mtls:CN=alice",
            "CONFIG:SETTING [INFO] gateway set agent_policy_proposals_enabled to true, by mtls:CN=alice [scope:global]",
            "CONFIG:REPLACED [INFO] gateway put every sandbox under a global policy, by mtls:CN=alice [scope:global",
            "CONFIG:LIFTED [INFO] gateway lifted the global policy, by mtls:CN=alice [scope:global]",
        ]
        assert len(await lines(core, two)) == 3


def _encoded() -> bytes:
    return encode(policy(raw("a.example.com")))


async def test_quotas_are_what_the_operator_wrote(tmp_path: Path) -> None:
    limits = Limits.of({"per_minute": 60, "burst": 2, "pending_proposals": 3})
    async with opened(tmp_path / "a.db", limits) as core:
        box = await core.sandbox()
        await core.propose(box, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x"))
        with pytest.raises(GatewayError, match="too fast; try again in 1 s") as caught:
            await core.submit(box, rest("c.example.com", "GET /x"))
        assert (caught.value.reason, caught.value.retry_after) == ("PROPOSAL_QUOTA", 1)
        core.clock.now += 1000
        await core.submit(box, rest("c.example.com", "GET /x"))
        core.clock.now += 1000
        response = await core.submit(box, rest("d.example.com", "GET /x"))
        assert "3 proposals of this sandbox are pending already" in response.rejection_reasons[0]
