"""The life of a proposal: every state, every refusal, and the exact texts (contract/gateway.md 4, 6.1)."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store.schema import log_lines
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

from .core import (
    CURL,
    MECHANISTIC,
    kinds,
    opened,
    policy,
    raw,
    refused,
    rest,
    statuses,
)

GUIDANCE = 'Only /docs — not "everything".\n\tÜber 100 %? \x1b[31mno\x1b[0m \u202e\u200b end '


# ---- submit ----------------------------------------------------------------------------------------------------------


async def test_a_proposal_is_stored_with_what_its_reviewer_needs(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("api.github.com", "PUT /repos/x"))
        listed = await core.inbox.list(sandbox_id, bodies=True)
        (chunk,) = listed.chunks
        assert (chunk.id, chunk.status, chunk.rule_name) == (chunk_id, "pending", "allow_api_github_com_443")
        assert (chunk.binary, chunk.rationale, chunk.hit_count) == (CURL, "because", 1)
        assert chunk.confidence == pytest.approx(0.75)
        assert chunk.validation_result.startswith("prover: ")
        assert len(chunk.review_token) == 64
        assert chunk.current_effective_policy_hash == policy_hash(policy())
        assert list(chunk.current_effective_policy.network_policies) == []
        assert list(chunk.candidate_effective_policy.network_policies) == ["allow_api_github_com_443"]
        candidate = policy_map.policy_from_proto(chunk.candidate_effective_policy)
        assert chunk.candidate_effective_policy_hash == policy_hash(candidate)
        assert listed.draft_version == 1
        # The grant is marked as nobody's but the advisor's: private addresses stay closed to it.
        assert all(endpoint.advisor_proposed for rule in candidate.rules for endpoint in rule.endpoints)
        (review,) = await core.inbox.reviews(sandbox_id, [chunk_id])
        assert (review.analysis_mode, review.decided_by, review.proven) == ("agent_authored", "", True)
        assert review.newly_permits
        assert await kinds(core, sandbox_id, chunk_id) == [("proposed", f"sandbox:{sandbox_id}")]


async def test_c3_a_proposed_name_is_looked_up_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels are the agent's choice: whoever resolved them, or fetched a preview, would carry them out."""
    asked: list[object] = []
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "getnameinfo", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *arguments, **_: asked.append(arguments))
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("stolen-secret.evil.example.com", "GET /x"))
        await core.inbox.list(sandbox_id, bodies=True)
        await core.inbox.reviews(sandbox_id, [chunk_id])
        await core.approve(sandbox_id, chunk_id)
        assert "stolen-secret.evil.example.com" in str(await core.base(sandbox_id))
    assert asked == []


async def test_what_only_the_gateway_may_say_is_taken_out_of_a_proposal(tmp_path: Path) -> None:
    rule = rest("a.example.com", "GET /x")
    forged = dataclasses.replace(rule.endpoints[0], advisor_proposed=False, provider_credentialed=True)
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, dataclasses.replace(rule, endpoints=(forged,)))
        (endpoint,) = (await core.chunk(sandbox_id, chunk_id)).proposed_rule.endpoints
        assert endpoint.advisor_proposed
        assert not endpoint.provider_credentialed


async def test_refused_proposals_are_counted_with_their_reason(tmp_path: Path) -> None:
    good, named = rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x", name="_provider_github")
    chunk = openshell_pb2.PolicyChunk
    rule = policy_map.rule_to_proto(good)
    odd = policy_map.rule_to_proto(good)
    odd.endpoints[0].protocol = "tcp"
    skip = policy_map.rule_to_proto(good)
    skip.endpoints[0].tls = sandbox_pb2.NETWORK_TLS_MODE_SKIP
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        response = await core.inbox.submit(
            sandbox_id,
            openshell_pb2.SubmitPolicyAnalysisRequest(
                analysis_mode="agent_authored",
                proposed_chunks=[
                    chunk(rule_name="  ", proposed_rule=rule),
                    chunk(rule_name="x"),
                    chunk(rule_name=named.key, proposed_rule=rule),
                    chunk(rule_name="_Provider_github", proposed_rule=rule),
                    chunk(rule_name="good", proposed_rule=rule),
                    chunk(rule_name="tcp", proposed_rule=odd),
                    chunk(rule_name="skip", proposed_rule=skip),
                    chunk(rule_name="long", proposed_rule=rule, rationale="x" * 100_000),
                    chunk(rule_name="n" * 300, proposed_rule=rule),
                ],
            ),
        )
        assert (response.accepted_chunks, response.rejected_chunks) == (1, 8)
        reasons = list(response.rejection_reasons)
        assert reasons[0] == "chunk missing rule_name"
        assert reasons[1] == "chunk 'x' missing proposed_rule"
        assert reasons[2] == "chunk '_provider_github' uses reserved '_provider_' rule-name prefix"
        assert reasons[3] == "chunk '_Provider_github' uses reserved '_provider_' rule-name prefix"
        assert reasons[4].startswith("chunk 'tcp': agent-authored proposals cannot request protocol tcp; ")
        assert reasons[5].startswith("chunk 'skip': agent-authored proposals cannot request tls: skip; ")
        assert len(await statuses(core, sandbox_id)) == 1


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "metadata.google.internal", "localhost", "127.0.0.1", "0.0.0.0", "::1", "fe80::1"]
)
async def test_blocked_destinations_never_reach_a_reviewer(tmp_path: Path, host: str) -> None:
    """Attack G-9."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        response = await core.submit(sandbox_id, raw(host, name="sneaky"))
        (reason,) = response.rejection_reasons
        assert reason.startswith("chunk 'sneaky': merge failed: ")
        assert await statuses(core, sandbox_id) == {}


async def test_summaries_alone_are_telemetry(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        response = await core.inbox.submit(
            sandbox_id,
            openshell_pb2.SubmitPolicyAnalysisRequest(
                analysis_mode=MECHANISTIC,
                summaries=[openshell_pb2.DenialSummary(host="a.example.com", port=443, denial_stage="connect")],
            ),
        )
        assert response == openshell_pb2.SubmitPolicyAnalysisResponse()
        assert await core.inbox.observed(sandbox_id) == []


# ---- deduplication and supersession ----------------------------------------------------------------------------------


async def test_fifty_repeats_of_one_observation_are_one_chunk_with_fifty_hits(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        ids = set()
        for hits in (1, 20, 1, 28):
            ids |= set(await core.propose(sandbox_id, raw("blocked.invalid"), mode=MECHANISTIC, hits=hits))
        (chunk_id,) = ids
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert (chunk.hit_count, chunk.status, chunk.binary) == (50, "pending", CURL)
        await core.inbox.reject(sandbox_id, chunk_id, "no", "mtls:CN=alice")  # by the effective id
        # What a person refused stays refused, however often it is tried again.
        assert await core.propose(sandbox_id, raw("blocked.invalid"), mode=MECHANISTIC) == [chunk_id]
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert (chunk.hit_count, chunk.status) == (51, "rejected")


async def test_other_host_port_or_binary_is_another_observation(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        ids = await core.propose(
            sandbox_id,
            raw("a.example.com"),
            raw("b.example.com"),
            raw("a.example.com", port=8443),
            raw("a.example.com", name="x", binaries=("/usr/bin/wget",)),
            mode=MECHANISTIC,
        )
        assert len(set(ids)) == 4


async def test_two_agent_proposals_for_one_endpoint_are_two_chunks_each_rejectable(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        same = rest("a.example.com", "GET /x")
        (first,), (second,) = await core.propose(sandbox_id, same), await core.propose(sandbox_id, same)
        assert first != second
        assert await statuses(core, sandbox_id) == {first: "pending", second: "pending"}
        await core.inbox.reject(sandbox_id, second, "narrower", "mtls:CN=alice")
        await core.inbox.reject(sandbox_id, first, "too", "mtls:CN=alice")
        assert (await core.chunk(sandbox_id, first)).rejection_reason == "too"
        assert (await core.chunk(sandbox_id, second)).rejection_reason == "narrower"


async def test_an_agents_proposal_supersedes_the_observation_and_never_the_other_way(tmp_path: Path) -> None:
    """Weakness 12.1.1 of the reference: a late flush must not kill what the agent asked for."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        observed, agents = raw("a.example.com"), rest("a.example.com", "GET /x")
        (noise,) = await core.propose(sandbox_id, observed, mode=MECHANISTIC)
        (other,) = await core.propose(sandbox_id, raw("b.example.com"), mode=MECHANISTIC)
        (asked,) = await core.propose(sandbox_id, agents)
        assert (await core.chunk(sandbox_id, noise)).rejection_reason == f"superseded by chunk {asked}"
        assert await core.propose(sandbox_id, observed, mode=MECHANISTIC) == [noise]  # the late flush
        assert await statuses(core, sandbox_id) == {noise: "rejected", other: "pending", asked: "pending"}
        (review,) = await core.inbox.reviews(sandbox_id, [noise])
        assert (review.superseded_by, review.decided_by) == (asked, "gateway")


async def test_a_first_flush_after_the_agents_proposal_closes_itself(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (asked,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        (noise,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        assert await statuses(core, sandbox_id) == {asked: "pending", noise: "rejected"}
        assert (await core.chunk(sandbox_id, noise)).rejection_reason == f"superseded by chunk {asked}"


async def test_a_first_flush_after_the_approval_names_the_chunk_that_covers_it(tmp_path: Path) -> None:
    """Attack G-10: a late mechanistic flush against an approved chunk."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (asked,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        await core.approve(sandbox_id, asked)
        (noise,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        reason = f"already covered by approved chunk {asked} (agent_authored or prior auto-approval)"
        assert (await core.chunk(sandbox_id, noise)).rejection_reason == reason


async def test_an_observation_comes_back_when_what_superseded_it_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (noise,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        (asked,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        await core.inbox.reject(sandbox_id, asked, "", "mtls:CN=alice")
        assert await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC) == [noise]
        assert await statuses(core, sandbox_id) == {noise: "pending", asked: "rejected"}


async def test_an_approved_observation_is_news_again_once_a_policy_takes_it_away(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        await core.approve(sandbox_id, chunk_id)
        await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)  # a flush from before the approval
        assert await statuses(core, sandbox_id) == {chunk_id: "approved"}
        await core.set_policy(sandbox_id, policy())
        await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        assert await statuses(core, sandbox_id) == {chunk_id: "pending"}
        await core.approve(sandbox_id, chunk_id)
        assert len((await core.base(sandbox_id)).rules) == 1


async def test_an_observation_adopts_the_contract_of_its_destination(tmp_path: Path) -> None:
    """contract/gateway.md 3.3: an inspected host stays inspected for the new binary."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(rest("a.example.com", "GET /x")))
        (chunk_id,) = await core.propose(
            sandbox_id, raw("a.example.com", binaries=("/usr/bin/wget",)), mode=MECHANISTIC
        )
        (endpoint,) = (await core.chunk(sandbox_id, chunk_id)).proposed_rule.endpoints
        assert endpoint.protocol == "rest"
        assert [rule.allow.path for rule in endpoint.rules] == ["/x"]


async def test_what_is_allowed_already_is_closed_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(rest("a.example.com", "GET /**")))
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert (chunk.status, chunk.rejection_reason) == ("rejected", "covered by active policy revision 1")


# ---- approve ---------------------------------------------------------------------------------------------------------


async def test_approval_makes_a_revision_and_is_heard_by_everyone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        token = (await core.chunk(sandbox_id, chunk_id)).review_token
        topics = (
            f"config:{sandbox_id}",
            f"proposals:{sandbox_id}",
            "inbox",
            f"sandbox:{sandbox_id}",
            f"logs:{sandbox_id}",
        )
        with core.bus.subscribe(*topics) as heard:
            applied = await core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=alice")
            got = {message.topic: message.payload for message in [await anext(heard) for _ in topics]}
        assert set(got) == set(topics)
        state = got[f"proposals:{sandbox_id}"]
        assert (state.chunk_id, state.status, state.policy_version) == (chunk_id, "approved", 2)
        assert state.summary == f"a.example.com:443 GET /x by {CURL}"
        assert (got["inbox"].sandbox_name, got["inbox"].chunk.status) == ("box", "approved")
        assert got[f"sandbox:{sandbox_id}"].total_pending == 0
        revision, _ = await core.revisions.status(sandbox_id)
        assert (applied.version, applied.hash) == (revision.version, revision.hash) == (2, revision.hash)
        assert (revision.origin, revision.author, revision.status) == ("approve", "mtls:CN=alice", "pending")
        (review,) = await core.inbox.reviews(sandbox_id, [])
        assert review.decided_by == "mtls:CN=alice"
        events = await core.inbox.history(sandbox_id)
        assert [event.type for event in events] == ["proposed", "approved"]
        assert (events[1].before_hash, events[1].after_hash) == (policy_hash(policy()), revision.hash)
        lines = await core.store.run(lambda tx: tx.scalars(sa.select(log_lines.c.message)).all())
        assert lines[0].startswith(
            f"CONFIG:APPROVED [INFO] gateway approved draft chunk {chunk_id}: add-rule allow_a_example_com_443 "
        )


async def test_a_policy_change_between_look_and_approval_needs_another_look(tmp_path: Path) -> None:
    """Attack G-2."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        seen = (await core.chunk(sandbox_id, chunk_id)).review_token
        changed = policy(rest("a.example.com", "PUT /x", name="theirs", binaries=("/usr/bin/wget",)))
        # Only stored, so that the approval itself must notice (a policy set through the RPC refreshes at once).
        await core.store.run(lambda tx: core.revisions.append(tx, sandbox_id, changed, origin="set", author="x"))
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve(sandbox_id, chunk_id, seen, "mtls:CN=alice")
        refused(caught, "proposal inputs changed; evaluation refreshed, refetch and review again")
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve(sandbox_id, chunk_id, seen, "mtls:CN=alice")
        refused(caught, "review token does not match the fetched proposal; refetch and review again")
        assert [rule.key for rule in (await core.base(sandbox_id)).rules] == ["theirs"]
        await core.approve(sandbox_id, chunk_id)
        assert len((await core.base(sandbox_id)).rules) == 2


@pytest.mark.parametrize("token", ["", "0" * 64, "x"])
async def test_a_wrong_or_missing_token_approves_nothing(tmp_path: Path, token: str) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=alice")
        refused(caught, "review token does not match the fetched proposal; refetch and review again")
        assert (await core.base(sandbox_id)).rules == ()


async def test_an_approval_keeps_the_others_tokens_fresh(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        ids = [(await core.propose(sandbox_id, rest(f"{n}.example.com", "GET /x")))[0] for n in range(5)]
        for chunk_id in ids:
            await core.approve(sandbox_id, chunk_id)  # one look, one approval, no retry
        assert len((await core.base(sandbox_id)).rules) == 5


async def test_no_approval_while_a_global_policy_is_active(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        approved, pending = await core.propose(
            sandbox_id, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x")
        )
        await core.approve(sandbox_id, approved)
        token = (await core.chunk(sandbox_id, pending)).review_token
        await core.store.run(lambda tx: core.revisions.set_global(tx, policy(), author="x"))
        text = (
            "cannot approve rules while a global policy is active; delete the global policy to manage per-sandbox rules"
        )
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve(sandbox_id, pending, token, "mtls:CN=alice")
        refused(caught, text)
        with pytest.raises(GatewayError) as caught:
            await core.inbox.approve_all(sandbox_id, [(pending, token)], "mtls:CN=alice", include_flagged=True)
        refused(caught, text)
        managed = "policy is managed globally; delete global policy before sandbox policy update"
        with pytest.raises(GatewayError) as caught:
            await core.inbox.undo(sandbox_id, approved, "mtls:CN=alice")
        refused(caught, managed)
        with pytest.raises(GatewayError) as caught:
            await core.inbox.reject(sandbox_id, approved, "", "mtls:CN=alice")
        refused(caught, managed)
        await core.inbox.reject(sandbox_id, pending, "a plain no is always possible", "mtls:CN=alice")


async def test_a_rejected_proposal_can_still_be_approved(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        await core.inbox.reject(sandbox_id, chunk_id, "no", "mtls:CN=alice")
        await core.approve(sandbox_id, chunk_id)
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert (chunk.status, chunk.rejection_reason) == ("approved", "")
        with pytest.raises(GatewayError) as caught:
            await core.approve(sandbox_id, chunk_id)
        refused(caught, "chunk status is 'approved', expected 'pending' or 'rejected'")


async def test_another_sandboxs_chunk_does_not_exist(tmp_path: Path) -> None:
    """Attack G-12."""
    async with opened(tmp_path / "a.db") as core:
        mine, other = await core.sandbox("mine"), await core.sandbox("other")
        (chunk_id,) = await core.propose(other, rest("a.example.com", "GET /x"))
        token = (await core.chunk(other, chunk_id)).review_token
        calls = [
            core.inbox.approve(mine, chunk_id, token, "x"),
            core.inbox.reject(mine, chunk_id, "", "x"),
            core.inbox.undo(mine, chunk_id, "x"),
            core.inbox.state(mine, chunk_id),
            core.inbox.edit(mine, chunk_id, policy_map.rule_to_proto(raw("a.example.com")), "x"),
            core.inbox.approve_all(mine, [(chunk_id, token)], "x", include_flagged=True),
        ]
        for call in calls:
            with pytest.raises(GatewayError) as caught:
                await call
            refused(caught, "chunk not found", "NOT_FOUND")
        assert await core.inbox.reviews(mine, [chunk_id]) == []
        assert await statuses(core, other) == {chunk_id: "pending"}


# ---- reject, undo, edit, clear ---------------------------------------------------------------------------------------


async def test_the_reviewers_words_arrive_byte_for_byte(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        with core.bus.subscribe(f"proposals:{sandbox_id}") as heard:
            await core.inbox.reject(sandbox_id, chunk_id, GUIDANCE, "mtls:CN=alice")
            assert (await anext(heard)).payload.rejection_reason == GUIDANCE
        assert (await core.inbox.state(sandbox_id, chunk_id)).rejection_reason == GUIDANCE
        assert (await core.chunk(sandbox_id, chunk_id)).rejection_reason.encode() == GUIDANCE.encode()
        with pytest.raises(GatewayError) as caught:
            await core.inbox.reject(sandbox_id, chunk_id, "", "mtls:CN=alice")
        refused(caught, "chunk status is 'rejected', expected 'pending' or 'approved'")


async def test_undo_restores_exactly_and_the_proposal_is_pending_again(tmp_path: Path) -> None:
    """Weakness 12.1.4: the rule existed before for another method; undo must take back the method, not the rule."""
    async with opened(tmp_path / "a.db") as core:
        start = policy(rest("a.example.com", "GET /x"), raw("b.example.com"))
        sandbox_id = await core.sandbox(policy=start)
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "PUT /x"))
        assert await core.approve(sandbox_id, chunk_id) == 2
        assert policy_hash(await core.base(sandbox_id)) != policy_hash(start)
        applied = await core.inbox.undo(sandbox_id, chunk_id, "mtls:CN=bob")
        assert (applied.version, applied.hash) == (3, policy_hash(start))
        assert await core.base(sandbox_id) == (await core.revisions.status(sandbox_id, 1))[0].policy
        chunk = await core.chunk(sandbox_id, chunk_id)
        assert (chunk.status, chunk.rejection_reason) == ("pending", "")
        assert await kinds(core, sandbox_id, chunk_id) == [
            ("proposed", f"sandbox:{sandbox_id}"),
            ("approved", "mtls:CN=alice"),
            ("undone", "mtls:CN=bob"),
        ]
        assert await core.approve(sandbox_id, chunk_id) == 4
        with pytest.raises(GatewayError) as caught:
            await core.inbox.reject(sandbox_id, "no-such-chunk", "", "x")
        refused(caught, "chunk not found", "NOT_FOUND")


async def test_undo_of_an_earlier_approval_leaves_later_ones_on_the_same_rule(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        first, second, third = [
            (await core.propose(sandbox_id, rest("a.example.com", f"PUT /{name}")))[0]
            for name in ("one", "two", "three")
        ]
        for chunk_id in (first, second, third):
            await core.approve(sandbox_id, chunk_id)

        async def paths() -> list[str]:
            return sorted(
                match.path for rule in (await core.base(sandbox_id)).rules for e in rule.endpoints for match in e.rules
            )

        assert await paths() == ["/one", "/three", "/two"]
        await core.inbox.undo(sandbox_id, first, "mtls:CN=alice")
        assert await paths() == ["/three", "/two"]
        await core.inbox.reject(sandbox_id, second, "not this one", "mtls:CN=alice")
        assert await paths() == ["/three"]
        await core.inbox.undo(sandbox_id, third, "mtls:CN=alice")
        assert policy_hash(await core.base(sandbox_id)) == policy_hash(policy())
        assert await statuses(core, sandbox_id) == {first: "pending", second: "rejected", third: "pending"}


async def test_undo_refuses_rather_than_guess(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        await core.approve(sandbox_id, chunk_id)
        edited = await core.base(sandbox_id)
        (rule,) = edited.rules
        wider = dataclasses.replace(rule, binaries=(CURL, "/usr/bin/wget"))
        await core.set_policy(sandbox_id, dataclasses.replace(edited, rules=(wider,)))
        with pytest.raises(GatewayError, match=r"cannot take back chunk .* exactly") as caught:
            await core.inbox.undo(sandbox_id, chunk_id, "mtls:CN=alice")
        assert caught.value.code == "FAILED_PRECONDITION"
        assert "'allow_a_example_com_443'" in caught.value.message
        assert (await core.chunk(sandbox_id, chunk_id)).status == "approved"
        # An edit elsewhere does not stand in the way.
        await core.set_policy(sandbox_id, dataclasses.replace(edited, rules=(rule, raw("z.example.com"))))
        await core.inbox.undo(sandbox_id, chunk_id, "mtls:CN=alice")
        assert [one.key for one in (await core.base(sandbox_id)).rules] == ["allow_z_example_com_443"]


async def test_undo_needs_an_approval(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        with pytest.raises(GatewayError) as caught:
            await core.inbox.undo(sandbox_id, chunk_id, "x")
        refused(caught, "chunk status is 'pending', expected 'approved'")


async def test_edit_narrows_and_makes_a_new_token(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "PUT /**"))
        before = (await core.chunk(sandbox_id, chunk_id)).review_token
        narrower = policy_map.rule_to_proto(rest("a.example.com", "PUT /one"))
        await core.inbox.edit(sandbox_id, chunk_id, narrower, "mtls:CN=alice")
        after = (await core.chunk(sandbox_id, chunk_id)).review_token
        assert before != after
        with pytest.raises(GatewayError, match="review token does not match"):
            await core.inbox.approve(sandbox_id, chunk_id, before, "x")
        await core.approve(sandbox_id, chunk_id)
        (rule,) = (await core.base(sandbox_id)).rules
        assert [match.path for match in rule.endpoints[0].rules] == ["/one"]
        assert [kind for kind, _ in await kinds(core, sandbox_id, chunk_id)] == ["proposed", "edited", "approved"]
        with pytest.raises(GatewayError) as caught:
            await core.inbox.edit(sandbox_id, chunk_id, narrower, "x")
        refused(caught, "chunk status is 'approved', expected 'pending'")
        with pytest.raises(GatewayError) as caught:
            await core.inbox.edit(sandbox_id, chunk_id, None, "x")
        refused(caught, "proposed_rule is required", "INVALID_ARGUMENT")


async def test_an_edit_that_cannot_be_applied_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "PUT /x"))
        before = await core.chunk(sandbox_id, chunk_id)
        with pytest.raises(GatewayError, match="proposal is not applicable: "):
            await core.inbox.edit(sandbox_id, chunk_id, policy_map.rule_to_proto(raw("localhost")), "x")
        empty = sandbox_pb2.NetworkPolicyRule()
        with pytest.raises(GatewayError, match="at least one endpoint"):
            await core.inbox.edit(sandbox_id, chunk_id, empty, "x")
        assert await core.chunk(sandbox_id, chunk_id) == before


async def test_clear_drops_pending_only_and_wakes_who_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        kept, dropped = await core.propose(sandbox_id, rest("a.example.com", "GET /x"), rest("b.example.com", "GET /x"))
        await core.approve(sandbox_id, kept)
        with core.bus.subscribe(f"proposals:{sandbox_id}", "inbox") as heard:
            assert await core.inbox.clear(sandbox_id, "mtls:CN=alice") == 1
            state, card = (await anext(heard)).payload, (await anext(heard)).payload
        assert (state.chunk_id, state.status, state.rejection_reason) == (dropped, "rejected", "cleared")
        assert (card.chunk.id, card.chunk.status) == (dropped, "cleared")
        assert await statuses(core, sandbox_id) == {kept: "approved"}
        assert ("cleared", "mtls:CN=alice") in await kinds(core, sandbox_id, dropped)
        assert await core.inbox.clear(sandbox_id, "mtls:CN=alice") == 0


async def test_a_revision_that_does_not_load_shows_on_its_approval(tmp_path: Path) -> None:
    """Weakness 36 of the reference."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        version = await core.approve(sandbox_id, chunk_id)
        failed = openshell_pb2.POLICY_STATUS_FAILED
        with core.bus.subscribe(f"proposals:{sandbox_id}") as heard:
            await core.store.run(lambda tx: core.revisions.report(tx, sandbox_id, version, failed, "boom"))
            assert (await anext(heard)).payload.application_error == "policy version 2 failed to load: boom"
