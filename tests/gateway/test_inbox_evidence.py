"""What a review depends on, and what a refusal answers from then on."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from pyopenshell.gateway import evaluation, submission
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.principals import Actor
from pyopenshell.gateway.revisions import hash_of
from pyopenshell.gateway.store.schema import draft_chunks
from pyopenshell.policy.model import Rule
from pyopenshell.wire.gen import openshell_pb2

from .core import CURL, MECHANISTIC, Core, kinds, message, opened, policy, raw, rest, statuses

# ---- tokens ----------------------------------------------------------------------------------------------------------


async def token(core: Core, sandbox_id: str, chunk_id: str) -> str:
    return (await core.chunk(sandbox_id, chunk_id)).review_token


async def test_an_approval_elsewhere_leaves_a_review_as_it_is_and_wakes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        ids = [(await core.propose(sandbox_id, rest(f"{n}.example.com", "GET /x")))[0] for n in range(40)]
        seen = {chunk_id: await token(core, sandbox_id, chunk_id) for chunk_id in ids}
        judged = []
        monkeypatch.setattr(evaluation, "evaluate", lambda on, made: judged.append(made))
        with core.bus.subscribe("inbox") as heard:
            for chunk_id in ids:  # all looked at before the first was decided; also more than are refreshed at a time
                await core.inbox.approve(sandbox_id, chunk_id, seen[chunk_id], "mtls:CN=alice")
                event = await asyncio.wait_for(anext(heard), 10)
                assert (event.payload.chunk.id, event.payload.chunk.status) == (chunk_id, "approved")
            assert judged == []
        assert len((await core.base(sandbox_id)).rules) == 40


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (rest("b.example.com", "GET /x"), True),
        (rest("a.example.com", "GET /y"), False),  # the same host: what is newly permitted may be another
        (rest("a.example.com", "GET /y", binaries=("/usr/bin/wget",), name="theirs"), False),
        (rest("*.example.com", "GET /y", name="wild"), False),
        (rest("**.com.example.org", "GET /y", name="wild"), True),
        (rest("b.example.com", "GET /x", name="allow_a_example_com_443"), False),  # the name it would be merged under
    ],
)
async def test_a_review_stands_exactly_while_nothing_it_depends_on_changed(
    tmp_path: Path, change: Rule, kept: bool
) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        before = await token(core, sandbox_id, chunk_id)
        await core.set_policy(sandbox_id, policy(change))
        assert (await token(core, sandbox_id, chunk_id) == before) is kept
        assert (await core.chunk(sandbox_id, chunk_id)).current_effective_policy_hash == hash_of(
            await core.base(sandbox_id)
        )


# ---- a refused class -------------------------------------------------------------------------------------------------


async def ask(core: Core, sandbox_id: str, rule: Rule, why: str) -> str:
    request = openshell_pb2.SubmitPolicyAnalysisRequest(
        analysis_mode="agent_authored", proposed_chunks=[message(rule, rationale=why)]
    )
    (chunk_id,) = (await core.inbox.submit(sandbox_id, request)).accepted_chunk_ids
    return chunk_id


async def test_what_was_refused_is_answered_at_once_with_the_recorded_reason(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        rule = rest("a.example.com", "PUT /x", "GET /y")
        refused = await ask(core, sandbox_id, rule, "I need it")
        await core.inbox.reject(sandbox_id, refused, "use the staging host", "mtls:CN=alice")
        with core.bus.subscribe("inbox") as heard:
            # The same in another order, under another name, in the same words.
            again = rest("a.example.com", "GET /y", "PUT /x", name="please")
            assert await ask(core, sandbox_id, again, "  i NEED\n it ") == refused
            other = await ask(core, sandbox_id, rest("b.example.com", "GET /x"), "I need it")
            assert (await anext(heard)).payload.chunk.id == other  # of the repetition nobody heard
        state = await core.inbox.state(sandbox_id, refused)
        assert (state.status, state.rejection_reason) == ("rejected", "use the staging host")
        assert (await core.chunk(sandbox_id, refused)).hit_count == 2
        assert [kind for kind, _ in await kinds(core, sandbox_id, refused)] == ["proposed", "rejected"]


async def test_other_words_are_heard_a_few_times_and_another_policy_always(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        rule, chunk_id = rest("a.example.com", "PUT /x"), ""
        for number in range(submission.LAST_WORDS):
            fresh = await ask(core, sandbox_id, rule, f"reason {number}")
            assert fresh != chunk_id
            chunk_id = fresh
            await core.inbox.reject(sandbox_id, chunk_id, f"no {number}", "mtls:CN=alice")
        assert await ask(core, sandbox_id, rule, "yet other words") == chunk_id
        await core.set_policy(sandbox_id, policy(raw("elsewhere.example.org")))
        assert await ask(core, sandbox_id, rule, "and others") == chunk_id
        await core.set_policy(sandbox_id, policy(rest("a.example.com", "GET /x", name="theirs")))
        assert await ask(core, sandbox_id, rule, "and others") != chunk_id


async def test_a_revoked_approval_is_a_refusal_and_a_person_may_still_approve_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        chunk_id = await ask(core, sandbox_id, rest("a.example.com", "PUT /x"), "why")
        await core.approve(sandbox_id, chunk_id)
        await core.inbox.reject(sandbox_id, chunk_id, "not any more", "mtls:CN=alice")
        assert await ask(core, sandbox_id, rest("a.example.com", "PUT /x"), "why") == chunk_id
        await core.approve(sandbox_id, chunk_id)
        assert (await statuses(core, sandbox_id))[chunk_id] == "approved"


async def test_another_sandbox_and_another_rule_are_other_classes(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        one, two = await core.sandbox("one"), await core.sandbox("two")
        rule = rest("a.example.com", "PUT /x")
        refused = await ask(core, one, rule, "why")
        await core.inbox.reject(one, refused, "no", "mtls:CN=alice")
        assert await ask(core, two, rule, "why") != refused
        narrower = dataclasses.replace(rule, binaries=(CURL, "/usr/bin/wget"))
        assert await ask(core, one, narrower, "why") != refused


async def test_a_refused_observation_is_news_again_only_under_another_policy_for_its_host(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (seen,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
        await core.inbox.reject(sandbox_id, seen, "no", "mtls:CN=alice")

        async def flushed() -> str:
            (same,) = await core.propose(sandbox_id, raw("a.example.com"), mode=MECHANISTIC)
            assert same == seen
            return (await statuses(core, sandbox_id))[seen]

        assert await flushed() == "rejected"
        await core.set_policy(sandbox_id, policy(raw("b.example.com")))
        assert await flushed() == "rejected"
        wget = rest("a.example.com", "GET /x", name="theirs", binaries=("/usr/bin/wget",))
        await core.set_policy(sandbox_id, policy(wget))
        assert await flushed() == "pending"


# ---- who, from where, what it was and became -------------------------------------------------------------------------


async def test_history_says_who_from_where_and_what_the_policy_was_and_became(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        before = hash_of(await core.base(sandbox_id))
        seen = await token(core, sandbox_id, chunk_id)
        alice = Actor("mtls:CN=alice", "ApproveDraftChunk ipv4:127.0.0.1")
        await core.inbox.approve(sandbox_id, chunk_id, seen, alice)
        after = hash_of(await core.base(sandbox_id))
        await core.inbox.undo(sandbox_id, chunk_id, Actor("mtls:CN=bob", "UndoDraftChunk ipv4:127.0.0.1"))
        told = [
            (one.type, one.actor, one.via, one.before_hash, one.after_hash)
            for one in await core.inbox.history(sandbox_id)
        ]
        assert told == [
            ("proposed", f"sandbox:{sandbox_id}", "", "", ""),
            ("approved", "mtls:CN=alice", "ApproveDraftChunk ipv4:127.0.0.1", before, after),
            ("undone", "mtls:CN=bob", "UndoDraftChunk ipv4:127.0.0.1", after, before),
        ]


async def test_a_stale_evaluation_of_an_older_version_is_made_anew(tmp_path: Path) -> None:
    """Tokens of version 1 stood for whole policies: after an update every pending proposal is looked at once more."""
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        old = "ab" * 32

        def age(tx: object) -> None:
            table = draft_chunks
            tx.execute(table.update().where(table.c.id == chunk_id).values(review_token=old))  # type: ignore[attr-defined]

        await core.store.run(age)
        with pytest.raises(GatewayError, match="evaluation refreshed, refetch and review again"):
            await core.inbox.approve(sandbox_id, chunk_id, old, "mtls:CN=alice")
        await core.approve(sandbox_id, chunk_id)
