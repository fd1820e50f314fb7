"""Decisions that meet: whatever the order, the ledger, the policy and the history agree afterwards.

Also floods (attack G-8), many small automatic steps (G-4), and streams that must not miss a decision.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from pyopenshell.gateway import evaluation, inbox
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.submission import Limits
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2, pyopenshell_pb2, sandbox_pb2

from .agreement import agree
from .core import ALICE, MECHANISTIC, WORKSPACE, Core, as_sandbox, auto, message, opened, policy, raw, rest, statuses


async def step(core: Core, sandbox_id: str, ids: list[str], dice: random.Random) -> None:
    """One person does one thing; being refused is fine, being half done is not."""
    chunk_id, actor = dice.choice(ids), f"mtls:CN={dice.choice(('alice', 'bob', 'carol'))}"
    try:
        match dice.randrange(6):
            case 0 | 1:
                await core.approve(sandbox_id, chunk_id, actor)
            case 2:
                await core.inbox.reject(sandbox_id, chunk_id, f"by {actor}", actor)
            case 3:
                await core.inbox.undo(sandbox_id, chunk_id, actor)
            case 4:
                listed = (await core.inbox.list(sandbox_id, "pending", bodies=False)).chunks
                pairs = [(chunk.id, chunk.review_token) for chunk in listed]
                await core.inbox.approve_all(
                    sandbox_id, dice.sample(pairs, len(pairs) // 2), actor, include_flagged=True
                )
            case 5:
                await core.inbox.refresh(sandbox_id)
    except GatewayError as error:
        if error.code != "FAILED_PRECONDITION":
            raise


@pytest.mark.parametrize("seed", range(8))
async def test_any_interleaving_of_decisions_leaves_ledger_and_policy_agreeing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        # Several proposals per host fold into one rule: the hard case for undo.
        ids = [
            (await core.propose(sandbox_id, rest(f"{number % 3}.example.com", f"PUT /{number}")))[0]
            for number in range(9)
        ]
        for _ in range(6):
            await asyncio.gather(*(step(core, sandbox_id, ids, dice) for _ in range(8)))
            await agree(core, sandbox_id)
        for chunk_id, status in (await statuses(core, sandbox_id)).items():
            if status == "approved":
                await core.inbox.undo(sandbox_id, chunk_id, "mtls:CN=alice")
        assert policy_hash(await core.base(sandbox_id)) == policy_hash(policy())


@pytest.mark.parametrize("seed", range(4))
async def test_policy_sets_between_decisions_win_and_nothing_is_guessed(tmp_path: Path, seed: int) -> None:
    """A person replaces the policy while others decide: each revision is one of the whole steps, in order."""
    dice = random.Random(seed)
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        ids = [(await core.propose(sandbox_id, rest(f"{n}.example.com", "PUT /x")))[0] for n in range(4)]

        async def set_something() -> None:
            await core.set_policy(sandbox_id, policy(*(raw(f"set{dice.randrange(3)}.example.org") for _ in range(1))))

        for _ in range(4):
            await asyncio.gather(*(step(core, sandbox_id, ids, dice) for _ in range(5)), set_something())
        revisions = list(reversed(await core.revisions.list(sandbox_id, 1000)))
        assert [one.version for one in revisions] == list(range(1, len(revisions) + 1))
        by_hash = {one.hash for one in revisions}
        for event in await core.inbox.history(sandbox_id):
            if event.type == "approved":
                made = revisions[event.policy_version - 1]
                assert made.author == event.actor
                assert made.hash in by_hash
        assert all(one.author for one in revisions[1:])


async def test_approve_and_reject_at_once_have_one_winner(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        for number in range(20):
            (chunk_id,) = await core.propose(sandbox_id, rest(f"{number}.example.com", "GET /x"))
            token = (await core.chunk(sandbox_id, chunk_id)).review_token
            results = await asyncio.gather(
                core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=alice"),
                core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=bob"),
                return_exceptions=True,
            )
            assert [isinstance(result, GatewayError) for result in results].count(True) == 1
        assert len(await core.inbox.history(sandbox_id)) == 40


async def test_decisions_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        yes, no = await core.propose(sandbox_id, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x"))
        await core.approve(sandbox_id, yes)
        await core.inbox.reject(sandbox_id, no, "never", "mtls:CN=alice")
        before = await core.inbox.list(sandbox_id, bodies=False)
    async with opened(tmp_path / "a.db") as core:
        assert await core.inbox.list(sandbox_id, bodies=False) == before
        await agree(core, sandbox_id)
        await core.inbox.undo(sandbox_id, yes, "mtls:CN=alice")
        assert policy_hash(await core.base(sandbox_id)) == policy_hash(policy())


# ---- floods ----------------------------------------------------------------------------------------------------------


async def test_a_flood_costs_the_sandbox_its_own_proposals_only(tmp_path: Path) -> None:
    """Attack G-8."""
    async with opened(tmp_path / "a.db", Limits(pending_authored=10, pending_mechanistic=5, burst=100)) as core:
        loud, quiet = await core.sandbox("loud"), await core.sandbox("quiet")
        for batch in range(2):
            response = await core.submit(loud, *(rest(f"{batch}-{n}.example.com", "GET /x") for n in range(30)))
        assert (
            "10 proposals of this sandbox are pending already; wait for a decision first"
            in response.rejection_reasons[0]
        )
        await core.submit(loud, *(raw(f"{n}.example.org") for n in range(20)), mode=MECHANISTIC)
        found = await statuses(core, loud)
        assert list(found.values()) == ["pending"] * 15
        with pytest.raises(GatewayError, match="too fast; try again in 1 s") as caught:
            await core.submit(loud, *(rest(f"{n}.example.net", "GET /x") for n in range(30)))
        assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "PROPOSAL_QUOTA")
        await core.propose(quiet, rest("a.example.com", "GET /x"))
        core.clock.now += 60_000
        await core.submit(loud, rest("a.example.net", "GET /x"))
        with pytest.raises(GatewayError, match="at most 64 proposals, this one has 65"):
            await core.submit(loud, *(rest(f"{n}.example.net", "GET /x") for n in range(65)))


async def test_machine_rejected_rows_do_not_pile_up(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db", Limits(kept_rejected=5, burst=1000)) as core:
        sandbox_id = await core.sandbox(policy=policy(rest("a.example.com", "GET /**")))
        (kept,) = await core.propose(sandbox_id, rest("b.example.com", "GET /x"))
        await core.inbox.reject(sandbox_id, kept, "a person said no", "mtls:CN=alice")
        for number in range(30):
            await core.propose(sandbox_id, rest("a.example.com", f"GET /{number}"))  # covered already
        found = await statuses(core, sandbox_id)
        assert len(found) <= 7
        assert kept in found


async def test_a_rule_with_endless_combinations_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        rule = raw("a.example.com")
        ports = dataclasses.replace(rule.endpoints[0], ports=tuple(range(1, 2000)))
        response = await core.submit(sandbox_id, dataclasses.replace(rule, endpoints=(ports,)))
        assert "more than 1024 combinations" in response.rejection_reasons[0]
        big = message(rule)
        for number in range(3000):
            big.proposed_rule.endpoints[0].rules.add().allow.path = f"/{'x' * 20}{number}"
        response = await core.inbox.submit(sandbox_id, _request(big))
        assert "larger than 16384 bytes" in response.rejection_reasons[0]


@pytest.mark.parametrize(
    "paths",
    [
        [f"/{'a*b*c*d*/' * 3}{n}" for n in range(3)],
        [f"/{n}/*/**/*" for n in range(30)],
    ],
)
async def test_what_cannot_be_proved_in_time_is_refused(tmp_path: Path, paths: list[str]) -> None:
    """Attack G-8: fifty paths full of wildcards would keep the prover busy for half a minute."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        response = await core.submit(sandbox_id, rest("a.example.com", *(f"GET {path}" for path in paths)))
        assert "too many wildcards to be proved" in response.rejection_reasons[0]


async def test_a_decision_does_not_wait_for_costly_proposals_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack G-8: a hundred proposals that are slow to judge made every approval wait half a minute for all of them."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        ids = [(await core.propose(sandbox_id, rest("a.example.com", f"PUT /{number}")))[0] for number in range(20)]
        judge, judged = evaluation.evaluate, 0

        def slow(*arguments: Any) -> Any:
            nonlocal judged
            judged += 1
            core.clock.now += inbox.REFRESH_MILLISECONDS // 2
            return judge(*arguments)

        monkeypatch.setattr(evaluation, "evaluate", slow)
        await core.approve(sandbox_id, ids[-1])
        assert 0 < judged < 10
        with pytest.raises(GatewayError, match="proposal inputs changed"):
            await core.approve(sandbox_id, ids[0])
        await core.approve(sandbox_id, ids[0])


async def test_a_full_inbox_still_fits_into_one_answer(tmp_path: Path) -> None:
    """Attack G-8: gRPC clients take 4 MiB by default."""
    async with opened(tmp_path / "a.db", Limits(burst=10_000)) as core:
        sandbox_id = await core.sandbox()
        for number in range(140):
            paths = (f"GET /{number}/{'x' * 60}/{n}" for n in range(160))
            response = await core.submit(sandbox_id, rest(f"{number}.example.com", *paths))
        assert "are too large; wait for a decision first" in response.rejection_reasons[0]
        listed = await core.inbox.list(sandbox_id, bodies=True)
        assert len(listed.chunks) > 50
        assert listed.ByteSize() < 4 * 1024 * 1024
        reviews = await core.inbox.reviews(sandbox_id, [])
        assert sum(review.ByteSize() for review in reviews) < 4 * 1024 * 1024


def _request(*proposed: openshell_pb2.PolicyChunk) -> openshell_pb2.SubmitPolicyAnalysisRequest:
    return openshell_pb2.SubmitPolicyAnalysisRequest(analysis_mode="agent_authored", proposed_chunks=proposed)


# ---- many small automatic steps --------------------------------------------------------------------------------------


async def test_automatic_steps_are_judged_on_their_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack G-4: no single step has a finding; their sum has one, and then the machine stops approving."""
    judged: list[int] = []

    def total(before: object, after: object, hosts: object) -> str:
        grown = len(after.rules) - len(before.rules)  # type: ignore[attr-defined]
        judged.append(grown)
        return "prover: no new findings" if grown <= 3 else "prover: 1 new finding\n  capability_expansion: x"

    monkeypatch.setattr(evaluation, "validation_result", total)
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        await auto(core, sandbox_id)
        ids = [(await core.propose(sandbox_id, rest(f"{n}.example.com", "GET /x")))[0] for n in range(6)]
        found = await statuses(core, sandbox_id)
        assert [found[one] for one in ids] == ["approved"] * 3 + ["pending"] * 3
        # A person looks and approves: from here the machine may go on.
        await core.approve(sandbox_id, ids[3])
        (again,) = await core.propose(sandbox_id, rest("next.example.com", "GET /x"))
        assert (await statuses(core, sandbox_id))[again] == "approved"
        assert max(judged) == 4


# ---- streams ---------------------------------------------------------------------------------------------------------


async def test_watching_the_inbox_shows_what_is_pending_then_what_happens(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        one, two = await core.sandbox("one"), await core.sandbox("two", workspace="other")
        (first,) = await core.propose(one, rest("a.example.com", "GET /x"))
        (hidden,) = await core.propose(two, rest("b.example.com", "GET /x"))
        mine = core.review.WatchInbox(pyopenshell_pb2.WatchInboxRequest(workspace_scope=WORKSPACE), ALICE)
        everyone = datamodel_pb2.WorkspaceSelector(all_workspaces=datamodel_pb2.AllWorkspaces())
        every = core.review.WatchInbox(pyopenshell_pb2.WatchInboxRequest(workspace_scope=everyone), ALICE)
        assert (await anext(mine)).chunk.id == first
        assert (await anext(mine)).synced
        assert [(await anext(every)).chunk.id for _ in range(2)] == [first, hidden]
        assert (await anext(every)).synced
        await core.inbox.reject(two, hidden, "", "mtls:CN=alice")
        await core.approve(one, first)
        assert [(await anext(every)).chunk.status for _ in range(2)] == ["rejected", "approved"]
        event = await anext(mine)
        assert (event.sandbox_name, event.chunk.status) == ("one", "approved")


async def test_a_waiting_sandbox_hears_only_of_its_own(tmp_path: Path) -> None:
    """Attack G-12."""
    async with opened(tmp_path / "a.db") as core:
        mine, other = await core.sandbox("mine"), await core.sandbox("other")
        (my_chunk,) = await core.propose(mine, rest("a.example.com", "GET /x"))
        (its_chunk,) = await core.propose(other, rest("a.example.com", "GET /x"))
        stream = core.proposals.WatchProposals(pyopenshell_pb2.WatchProposalsRequest(), as_sandbox(mine))
        waiting = asyncio.ensure_future(anext(stream))
        while not core.bus.subscribers(f"proposals:{mine}"):
            await asyncio.sleep(0)
        await core.inbox.reject(other, its_chunk, "no", "mtls:CN=alice")
        await core.approve(mine, my_chunk)
        state = await asyncio.wait_for(waiting, 10)
        assert (state.chunk_id, state.status) == (my_chunk, "approved")
        request = pyopenshell_pb2.GetProposalRequest(chunk_id=its_chunk)
        with pytest.raises(GatewayError, match="chunk not found"):
            await core.proposals.GetProposal(request, as_sandbox(mine))
        request.chunk_id = my_chunk
        assert (await core.proposals.GetProposal(request, as_sandbox(mine))).policy_version == 1
        with pytest.raises(GatewayError, match="requires a sandbox principal"):
            await core.proposals.GetProposal(request, ALICE)


async def test_refreshing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "REFRESHED_PER_DECISION", 3)
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        ids = await core.propose(sandbox_id, *(rest(f"{n}.example.com", "GET /x") for n in range(6)))
        value = sandbox_pb2.SettingValue(string_value="manual")
        await core.store.run(lambda tx: core.settings.put(tx, sandbox_id, "proposal_approval_mode", value))
        await core.set_policy(sandbox_id, policy(raw("other.example.org")))
        current = policy_hash(await core.base(sandbox_id))
        fresh = [one for one in ids if (await core.chunk(sandbox_id, one)).current_effective_policy_hash == current]
        assert fresh == ids[3:]  # the newest
