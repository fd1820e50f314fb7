"""Approvals for a time: they end exactly, on time, once, and say so; whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from pyopenshell.gateway import leases as module
from pyopenshell.gateway.chunks import Chunk
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.inverse import Step, revert
from pyopenshell.gateway.leases import Approval, Leases, fallbacks
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.merge import AddRule, apply
from pyopenshell.policy.model import Policy
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2
from pyopenshell.wire.wellknown import Duration
from tests.gateway.test_revisions import put

from .core import ALICE, MECHANISTIC, WORKSPACE, Core, kinds, opened, policy, raw, refused, rest

MINUTE = 60_000


class Alarm:
    def __init__(self) -> None:
        self.deadlines: asyncio.Queue[float | None] = asyncio.Queue()
        self.ring: Callable[[], None] = lambda: None

    def __call__(self, ring: Callable[[], None]) -> Alarm:
        self.ring = ring
        return self

    def set(self, deadline: float | None) -> None:
        self.deadlines.put_nowait(deadline)

    def close(self) -> None: ...


class Boot:
    """A boot clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """The gateway's watch over limits, step by step."""

    def __init__(self, core: Core) -> None:
        self.core, self.alarm, self.boot = core, Alarm(), Boot()
        ledger = core.inbox.leases._ledger
        self.leases = Leases(core.store, core.bus, core.revisions, ledger, core.clock, now=self.boot, alarm=self.alarm)
        core.inbox.leases = self.leases

    def forward(self, milliseconds: int) -> None:
        self.core.clock.now += milliseconds
        self.boot.now += milliseconds / 1000

    async def looked(self) -> float | None:
        """The deadline it set after its next look."""
        async with asyncio.timeout(10):
            return await self.alarm.deadlines.get()

    async def rings(self) -> float | None:
        self.alarm.ring()
        return await self.looked()


@contextlib.asynccontextmanager
async def watched(core: Core) -> AsyncIterator[Watch]:
    watch = Watch(core)
    running = asyncio.create_task(watch.leases.run(core.inbox.refresh))
    try:
        await watch.looked()
        yield watch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def approve_for(core: Core, sandbox_id: str, chunk_id: str, milliseconds: int) -> int:
    token = (await core.chunk(sandbox_id, chunk_id)).review_token
    applied = await core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=alice", lease_ms=milliseconds)
    return applied.version


async def test_it_ends_on_time_and_the_policy_is_exactly_what_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        before = await core.base(sandbox_id)
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        version = await approve_for(core, sandbox_id, chunk_id, 10 * MINUTE)
        assert await watch.looked() == watch.boot.now + 600
        watch.forward(10 * MINUTE - 1)
        assert await watch.rings() == pytest.approx(watch.boot.now + 0.001)
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        watch.forward(1)
        assert await watch.rings() is None
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert chunk.status == "rejected"
        assert chunk.rejection_reason == (
            "the approval was for 10m and has ended; submit the proposal again if the access is still needed"
        )
        assert policy_hash(await core.base(sandbox_id)) == policy_hash(before)
        assert (await core.revisions.status(sandbox_id))[0].version == version + 1
        assert await kinds(core, sandbox_id, chunk_id) == [
            ("proposed", f"sandbox:{sandbox_id}"),
            ("approved", "mtls:CN=alice"),
            ("expired", "gateway:lease"),
        ]
        await watch.rings()
        assert (await core.revisions.status(sandbox_id))[0].version == version + 1, "it ends once"


async def test_other_approvals_stay(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        first, second, third = await core.propose(
            sandbox_id,
            rest("b.test", "PUT /1", name="r"),
            rest("b.test", "PUT /2", name="r"),
            rest("b.test", "PUT /3", name="r"),
        )
        await core.approve(sandbox_id, first)
        await approve_for(core, sandbox_id, second, MINUTE)
        await core.approve(sandbox_id, third)
        watch.forward(MINUTE)
        await watch.looked()
        await watch.rings()
        rules = [match.path for rule in (await core.base(sandbox_id)).rules for match in rule.endpoints[0].rules]
        assert sorted(rules) == ["/**", "/1", "/3"]


async def test_wall_clock_set_back_or_forward_moves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        core.clock.now -= 365 * 24 * 60 * MINUTE
        watch.boot.now += 59
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        core.clock.now += 2 * 365 * 24 * 60 * MINUTE
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        core.clock.now -= 2 * 365 * 24 * 60 * MINUTE
        watch.boot.now += 1
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "rejected"


async def test_what_ended_while_the_gateway_was_down_ends_at_its_start_and_a_clock_set_back_adds_nothing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        over, back = await core.propose(sandbox_id, rest("b.test", "PUT /x"), rest("c.test", "PUT /x"))
        await approve_for(core, sandbox_id, over, MINUTE)
        core.clock.now += 10 * MINUTE
        await approve_for(core, sandbox_id, back, MINUTE)
        core.clock.now -= 9 * MINUTE + 30_000  # `over` has half a minute to go by this clock, `back` ten minutes
        watch = Watch(core)
        running = asyncio.create_task(watch.leases.run(core.inbox.refresh))
        try:
            assert await watch.looked() == watch.boot.now + 30
            watch.boot.now += 60
            await watch.rings()
            assert [(await core.chunk(sandbox_id, one)).status for one in (over, back)] == ["rejected", "rejected"]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_renewal_counts_from_now(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        version = await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        revision = (await core.snapshots.sandbox_config(sandbox_id)).config_revision
        watch.forward(50_000)
        assert await approve_for(core, sandbox_id, chunk_id, MINUTE) == version, "no new policy"
        await watch.looked()
        assert (await core.snapshots.sandbox_config(sandbox_id)).config_revision != revision, "but it is pushed"
        watch.forward(59_000)
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        watch.forward(1_000)
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "rejected"


async def test_an_approval_without_a_limit_cannot_be_given_one_behind_its_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await core.approve(sandbox_id, chunk_id)
        with pytest.raises(GatewayError) as caught:
            await approve_for(core, sandbox_id, chunk_id, MINUTE)
        refused(caught, "chunk status is 'approved', expected 'pending' or 'rejected'")


async def test_renewal_needs_the_token_of_what_was_seen(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve(sandbox_id, chunk_id, "0" * 64, "mtls:CN=mallory", lease_ms=100 * MINUTE)
        refused(caught, "review token does not match the fetched proposal; refetch and review again")


async def test_undo_takes_the_limit_along(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        await core.inbox.undo(sandbox_id, chunk_id, "mtls:CN=alice")
        version = await core.approve(sandbox_id, chunk_id)
        watch.forward(60 * MINUTE)
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        assert (await core.revisions.status(sandbox_id))[0].version == version


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_policy_update_on_the_same_rule_lifts_the_limit_and_says_so(tmp_path: Path, keeps: bool) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x", name="r"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        mine = rest("b.test", "PUT /x", "PUT /y", name="r") if keeps else rest("b.test", "GET /y", name="r")
        await put(core, policy(rest("a.test", "GET /**"), mine))
        await core.inbox.refresh(sandbox_id)
        (event,) = [one for one in await core.inbox.history(sandbox_id) if one.type == "unlimited"]
        word = "grants it without a limit" if keeps else "no longer grants all of it"
        assert event.description == f"the limit of 1m no longer applies: a policy update changed rule 'r' and {word}"
        written = await core.base(sandbox_id)
        watch.forward(MINUTE)
        await watch.rings()
        assert await core.base(sandbox_id) == written, "what a person wrote stays"


async def test_what_the_supervisor_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        longer, shorter = await core.propose(
            sandbox_id, rest("b.test", "PUT /1", name="r"), rest("b.test", "PUT /2", name="r")
        )
        await approve_for(core, sandbox_id, longer, 10 * MINUTE)
        version = await approve_for(core, sandbox_id, shorter, MINUTE)
        told = await core.inbox.leases.schedule(sandbox_id)
        assert told.policy_version == version
        assert [one.chunk_id for one in told.fallbacks] == [shorter, longer]
        assert [round(one.remaining.ToMilliseconds(), -4) for one in told.fallbacks] == [MINUTE, 10 * MINUTE]
        after = [policy_map.policy_from_proto(one.policy) for one in told.fallbacks]
        assert [[match.path for match in rule.endpoints[0].rules] for rule in after[0].rules] == [["/**"], ["/1"]]
        assert [[match.path for match in rule.endpoints[0].rules] for rule in after[1].rules] == [["/**"]]


async def test_a_sandbox_starts_without_what_is_limited(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        assert (await core.snapshots.start_config(sandbox_id)).version == 1
        before = (await core.snapshots.start_config(sandbox_id)).policy_hash
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /1"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        start = await core.snapshots.start_config(sandbox_id)
        assert (start.version, start.policy_hash) == (0, before)
        assert (await core.snapshots.sandbox_config(sandbox_id)).policy_hash != before


async def test_a_global_policy_leaves_nothing_to_fall_back_to(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox(policy=policy(rest("a.test", "GET /**")))
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /1"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        await put(core, policy(rest("only.test", "GET /**")), everywhere=True)
        assert not (await watch.leases.schedule(sandbox_id)).fallbacks
        watch.forward(MINUTE)
        await watch.rings()
        assert (await core.chunk(sandbox_id, chunk_id)).status == "rejected"


async def test_a_refusal_under_a_global_policy_does_not_free_an_approval_of_its_limit(tmp_path: Path) -> None:
    """The program inside only has to try again while a global policy is active."""
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        before = await core.base(sandbox_id)
        (chunk_id,) = await core.propose(sandbox_id, raw("b.test"), mode=MECHANISTIC)
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        await put(core, policy(rest("only.test", "GET /**")), everywhere=True)
        assert await core.propose(sandbox_id, raw("b.test"), mode=MECHANISTIC) == [chunk_id]
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved", "it stands, beneath the global policy"
        watch.forward(MINUTE)
        await watch.rings()
        assert await core.base(sandbox_id) == before


async def test_the_call(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        token = (await core.chunk(sandbox_id, chunk_id)).review_token
        request = pyopenshell_pb2.ApproveChunkRequest(
            workspace_scope=WORKSPACE, sandbox="box", chunk_id=chunk_id, review_token=token
        )
        for duration in (None, Duration(), Duration(nanos=1), Duration(seconds=-5), Duration(seconds=400 * 86400)):
            bad = pyopenshell_pb2.ApproveChunkRequest()
            bad.CopyFrom(request)
            if duration is not None:
                bad.lease.CopyFrom(duration)
            with pytest.raises(GatewayError) as caught:
                await core.review.ApproveChunk(bad, ALICE)
            assert caught.value.code == "INVALID_ARGUMENT"
        request.lease.FromSeconds(90)
        answer = await core.review.ApproveChunk(request, ALICE)
        assert answer.lease.duration.ToSeconds() == 90
        assert answer.lease.expires_time.ToMilliseconds() == core.clock.now + 90_000
        (review,) = await core.inbox.reviews(sandbox_id, [chunk_id])
        assert review.lease == answer.lease
        state = await core.inbox.state(sandbox_id, chunk_id)
        assert state.lease == answer.lease


async def test_a_failing_database_is_tried_again_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        watch.forward(MINUTE)

        def full(*_: object, **__: object) -> None:
            raise GatewayError("UNAVAILABLE", "the gateway's database failed: disk full", "STORE_FAILED")

        with monkeypatch.context() as broken:
            broken.setattr(watch.leases._ledger, "withdraw", full)
            assert await watch.rings() == watch.boot.now + module.RETRY_SECONDS
        assert await watch.rings() is None
        assert (await core.chunk(sandbox_id, chunk_id)).status == "rejected"


async def test_one_that_cannot_be_ended_does_not_keep_the_others_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        bad, good = await core.propose(sandbox_id, rest("b.test", "PUT /x"), rest("c.test", "PUT /x"))
        for chunk_id in (bad, good):
            await approve_for(core, sandbox_id, chunk_id, MINUTE)
            await watch.looked()
        watch.forward(MINUTE)
        real = watch.leases._end

        def end(tx: sa.Connection, seen: Chunk) -> None:
            if seen.id == bad:
                raise ValueError("a row nobody expected")
            real(tx, seen)

        monkeypatch.setattr(watch.leases, "_end", end)
        assert await watch.rings() == watch.boot.now + module.RETRY_SECONDS
        assert [(await core.chunk(sandbox_id, one)).status for one in (bad, good)] == ["approved", "rejected"]


async def test_automatic_approvals_are_judged_without_what_has_ended(tmp_path: Path) -> None:
    """Attack G-4: a grant that is over must not count as reviewed, or it could come back in small steps."""
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        base = policy(rest("a.test", "GET /**"))
        sandbox_id = await core.sandbox(policy=base)
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"))
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        watch.forward(MINUTE)
        await watch.rings()
        reviewed = await core.store.run(lambda tx: core.revisions.reviewed(tx, sandbox_id))
        assert policy_hash(reviewed) == policy_hash(base)
        machine = policy(rest("a.test", "GET /**"), rest("m.test", "GET /m"))
        append = core.revisions.append
        await core.store.run(lambda tx: append(tx, sandbox_id, machine, origin="auto", author="gateway:auto"))
        reviewed = await core.store.run(lambda tx: core.revisions.reviewed(tx, sandbox_id))
        assert policy_hash(reviewed) == policy_hash(base), "later automatic approvals are not reviewed either"
        await core.store.run(lambda tx: append(tx, sandbox_id, base, origin="lease", author="gateway:lease"))
        reviewed = await core.store.run(lambda tx: core.revisions.reviewed(tx, sandbox_id))
        assert not reviewed.rules, "a machine's approvals lie between: nothing counts as reviewed"


async def test_an_expired_observation_may_be_proposed_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core, watched(core) as watch:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("b.test", "PUT /x"), mode="mechanistic")
        await approve_for(core, sandbox_id, chunk_id, MINUTE)
        await watch.looked()
        watch.forward(MINUTE)
        await watch.rings()
        again = await core.propose(sandbox_id, rest("b.test", "PUT /x"), mode="mechanistic")
        assert again == [chunk_id]
        assert (await core.chunk(sandbox_id, chunk_id)).status == "pending"


# ---- the pure part ---------------------------------------------------------------------------------------------------

PATHS = ("/a", "/b", "/c")
RULES = ("r", "s")


@st.composite
def histories(draw: st.DrawFn) -> tuple[Policy, list[Approval]]:
    """Approvals given one after the other, some for a time; the policy that they led to."""
    now = policy(rest("base.test", "GET /**", name=draw(st.sampled_from(("r", "base")))))
    given: list[Approval] = []
    for number in range(draw(st.integers(1, 5))):
        rule = rest("b.test", f"PUT {draw(st.sampled_from(PATHS))}", name=draw(st.sampled_from(RULES)))
        after = apply(now, [AddRule(rule.key, rule)]).policy
        ends = draw(st.one_of(st.none(), st.integers(1, 4)))
        given.append(Approval(f"c{number}", Step(rule.key, rule, now, after), ends))
        now = after
    return now, given


@hypothesis.given(histories())
def test_each_fallback_is_what_ending_them_one_by_one_leads_to(history: tuple[Policy, list[Approval]]) -> None:
    now, given = history
    found, stuck = fallbacks(now, given)
    assert not stuck, "nothing else changed the policy"
    limited = sorted((one for one in given if one.ends is not None), key=lambda one: (one.ends, one.chunk_id))
    assert [one.chunk_id for one in found] == [one.chunk_id for one in limited]
    for count, fallback in enumerate(found, 1):
        over = {one.chunk_id for one in limited[:count]}
        again = given[0].step.before
        for one in given:
            if one.chunk_id not in over:
                again = apply(again, [AddRule(one.step.rule_name, one.step.rule)]).policy
        assert policy_hash(fallback.policy) == policy_hash(again), "as if those that are over had never been given"


@hypothesis.given(histories(), st.sampled_from(RULES))
def test_one_that_others_changed_is_reported_and_the_rest_still_end(
    history: tuple[Policy, list[Approval]], key: str
) -> None:
    now, given = history
    mine = rest("mine.test", "GET /mine", name=key)
    rules = [mine if rule.key == key else rule for rule in now.rules]
    found, stuck = fallbacks(policy(*rules), given)
    assert {one.chunk_id for one in found} | set(stuck) == {one.chunk_id for one in given if one.ends is not None}
    for fallback in found:
        kept = {rule.key: rule for rule in fallback.policy.rules}
        assert key not in {rule.key for rule in now.rules} or kept[key] == mine, "a person's own rule is never touched"


def test_the_same_place_as_undo() -> None:
    before = policy(rest("a.test", "GET /**"))
    rule = rest("b.test", "PUT /x")
    after = apply(before, [AddRule(rule.key, rule)]).policy
    step = Step(rule.key, rule, before, after)
    (only,), _ = fallbacks(after, [Approval("c", step, 1)])
    assert only.policy == revert(after, step, []).policy


def test_openshell_v1_is_untouched() -> None:
    assert "lease" not in openshell_pb2.ApproveDraftChunkRequest.DESCRIPTOR.fields_by_name
