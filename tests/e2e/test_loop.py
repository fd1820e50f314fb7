"""The loop: denied, proposed, decided outside, loaded by push, retried. Real namespaces, TLS and curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from pyopenshell.client import Gateway
from pyopenshell.client.values import Chunk
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, RAW, House, sh, shell_lines, within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("loop")]


async def pending(gateway: Gateway, sandbox: str, chunk_id: str) -> Chunk:
    draft = await gateway.draft(sandbox)
    return next(c for c in draft.chunks if c.id == chunk_id)


async def approve(gateway: Gateway, sandbox: str, chunk_id: str) -> None:
    chunk = await pending(gateway, sandbox, chunk_id)
    await gateway.approve(sandbox, chunk_id, chunk.review_token)


async def test_deny_is_structured_and_points_at_the_next_steps(advised: House, gateway: Gateway) -> None:
    advised.create("structured")
    ran = await sh(gateway, "structured", put("/notes/a.md"))
    body, status = ran.out.rsplit("\n", 1)
    denial = json.loads(body)
    assert status == "403"
    assert denial["error"] == "policy_denied"
    assert (denial["layer"], denial["host"], denial["port"]) == ("l7", HOST, 443)
    assert (denial["method"], denial["path"], denial["binary"]) == ("PUT", "/notes/a.md", "/usr/bin/curl")
    assert denial["rule_missing"]["type"] == "rest_allow"
    assert [step["action"] for step in denial["next_steps"]] == [
        "read_skill",
        "inspect_policy",
        "inspect_recent_denials",
        "submit_proposal",
    ]
    assert "agent_guidance" in denial
    assert not advised.upstream.seen("PUT", "/notes/a.md")
    skill = await sh(gateway, "structured", "cat /etc/openshell/skills/policy_advisor.md /AGENTS.md")
    assert skill.code == 0
    assert "policy.local/v1/proposals" in skill.out


async def test_wait_smoke_and_the_very_next_retry_succeeds_100_times(advised: House, gateway: Gateway) -> None:
    advised.create("hundred")
    for number in range(100):
        path = f"/files/{number}.txt"
        answer = json.loads((await sh(gateway, "hundred", submit(put_rule(path, name=f"put_{number}")))).out)
        assert answer["status"] == "submitted", answer
        chunk_id = answer["accepted_chunk_ids"][0]
        script = (
            f"echo waiting; curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'; echo; "
            f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -X PUT https://{HOST}{path} -d x"
        )
        lines = shell_lines(gateway, "hundred", script)
        async with within(40):
            assert await anext(lines) == "waiting"
            await approve(gateway, "hundred", chunk_id)
            state = json.loads(await anext(lines))
            assert (state["status"], state["rejection_reason"], state["policy_reloaded"]) == ("approved", "", True)
            assert await anext(lines) == "201", f"retry {number} was not allowed"
        assert advised.upstream.seen("PUT", path) == 1


async def test_wait_answers_pending_after_its_timeout(advised: House, gateway: Gateway) -> None:
    advised.create("patience")
    answer = json.loads((await sh(gateway, "patience", submit(put_rule("/p")))).out)
    chunk_id = answer["accepted_chunk_ids"][0]
    state = json.loads(
        (await sh(gateway, "patience", f"curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=1'")).out
    )
    assert (state["status"], state["timed_out"]) == ("pending", True)
    assert "policy_reloaded" not in state


@pytest.mark.parametrize("reason", ["only docs/, please: 'x' \"y\" <z> & ü 世界", "", "line one\nline two\ttab"])
async def test_rejection_text_arrives_byte_for_byte(advised: House, gateway: Gateway, reason: str) -> None:
    name = f"reject-{len(reason)}"
    advised.create(name)
    answer = json.loads((await sh(gateway, name, submit(put_rule("/r")))).out)
    chunk_id = answer["accepted_chunk_ids"][0]
    lines = shell_lines(
        gateway, name, f"echo waiting; curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'; echo"
    )
    async with within(40):
        assert await anext(lines) == "waiting"
        await gateway.reject(name, chunk_id, reason)
        state = json.loads(await anext(lines))
    assert state["status"] == "rejected"
    assert state["rejection_reason"] == reason


async def test_two_agent_proposals_for_one_endpoint_are_two_chunks(advised: House, gateway: Gateway) -> None:
    advised.create("twice")
    ids = [
        json.loads((await sh(gateway, "twice", submit(put_rule("/same")))).out)["accepted_chunk_ids"][0]
        for _ in range(2)
    ]
    assert len(set(ids)) == 2
    await gateway.reject("twice", ids[0], "the first")
    status = {c.id: c.status for c in (await gateway.draft("twice")).chunks}
    assert status[ids[0]] == "rejected"
    assert status[ids[1]] == "pending"


async def test_chunk_carries_proof_of_exactly_what_it_permits(advised: House, gateway: Gateway) -> None:
    advised.create("proof")
    answer = json.loads((await sh(gateway, "proof", submit(put_rule("/only/this.md")))).out)
    chunk_id = answer["accepted_chunk_ids"][0]
    review = (await gateway.reviews("proof", [chunk_id]))[chunk_id]
    assert review.mode == "agent_authored"
    assert review.proven
    (region,) = review.newly_permits
    assert "PUT" in region.text
    assert "/only/this.md" in region.text
    assert "exactly 1 path" in region.text
    assert region.witness.startswith("PUT ")


async def test_approval_by_hand_with_an_id_prefix(advised: House, gateway: Gateway) -> None:
    advised.create("byhand")
    chunk_id = json.loads((await sh(gateway, "byhand", submit(put_rule("/hand")))).out)["accepted_chunk_ids"][0]
    listed = advised.cli("rule", "get", "byhand", "--status", "pending").out
    assert f"Chunk: {chunk_id}" in listed
    assert f"Endpoints: {HOST}:443 [L7 rest, allow PUT /hand]" in listed
    assert "OK Chunk approved. Policy version: 2, hash: " in advised.cli("rule", "approve", "byhand", chunk_id[:8]).out
    async with within(10):
        async for line in shell_lines(
            gateway, "byhand", f"curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'; echo"
        ):
            assert json.loads(line)["policy_reloaded"] is True
    assert (await sh(gateway, "byhand", put("/hand"))).out.endswith("201")


async def test_trace_has_the_contract_lines(advised: House, gateway: Gateway) -> None:
    advised.create("trace")
    await sh(gateway, "trace", put("/t?token=secret"))
    chunk_id = json.loads((await sh(gateway, "trace", submit(put_rule("/t")))).out)["accepted_chunk_ids"][0]
    await approve(gateway, "trace", chunk_id)
    wait = f"curl -sS -o /dev/null 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'"
    await sh(gateway, "trace", f"{wait}; {put('/t?token=secret')}")
    log = (await sh(gateway, "trace", "cat /var/log/openshell.*.log")).out
    expected = [
        "NET:OPEN [INFO] ALLOWED /usr/bin/curl(",
        f"HTTP:PUT [MED] DENIED PUT http://{HOST}:443/t [policy:api_readonly engine:l7] [reason:L7_REQUEST deny PUT ",
        f"CONFIG:PROPOSED [INFO] agent_authored proposal chunk:{chunk_id} on {HOST}:443 PUT /t by /usr/bin/curl",
        "CONFIG:LOADED [INFO] Policy reloaded successfully [policy_hash:",
        f"CONFIG:APPROVED [INFO] chunk:{chunk_id} approved on {HOST}:443 PUT /t by /usr/bin/curl",
        f"HTTP:PUT [INFO] ALLOWED PUT http://{HOST}:443/t [policy:put_one_file engine:l7]",
    ]
    position = 0
    for text in expected:
        found = log.find(text, position if "CONFIG:LOADED" not in text else 0)
        assert found >= 0, f"{text!r} not in order in:\n{log}"
    assert "secret" not in log


async def test_keepalive_closes_at_the_boundary_and_streams_survive(advised: House, gateway: Gateway) -> None:
    advised.create("keep")
    chunk_id = json.loads((await sh(gateway, "keep", submit(put_rule("/after")))).out)["accepted_chunk_ids"][0]
    stream = shell_lines(gateway, "keep", f"curl -sSN https://{HOST}/stream; echo end:$?")
    tunnel = shell_lines(gateway, "keep", f"curl -sSNk https://{RAW}/stream; echo end:$?")
    async with within(60):
        assert await anext(stream) == await anext(tunnel) == "data: open"
        await approve(gateway, "keep", chunk_id)
        wait = await sh(gateway, "keep", f"curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'")
        assert json.loads(wait.out)["policy_reloaded"] is True
        assert (await sh(gateway, "keep", put("/after"))).out.endswith("201")
        advised.upstream.step(b"data: two\n\n")
        for lines in (stream, tunnel):
            assert await _until(lines, "data: two")
        advised.upstream.finish()
        for lines in (stream, tunnel):
            assert await _until(lines, "end:0")


async def _until(lines: AsyncIterator[str], wanted: str) -> bool:
    async for line in lines:
        if line == wanted:
            return True
    return False


async def test_an_idle_keepalive_connection_sees_the_new_policy(advised: House, gateway: Gateway) -> None:
    """One curl process, one connection: refused first, allowed after the approval came in between."""
    advised.create("idle")
    chunk_id = json.loads((await sh(gateway, "idle", submit(put_rule("/idle")))).out)["accepted_chunk_ids"][0]
    # stderr is not buffered, so each line is seen when its transfer has ended.
    script = (
        f"curl -sS -o /dev/null -w '%{{stderr}}%{{http_code}} %{{num_connects}}\\n' https://{HOST}/one "
        f"--next -sS -o /dev/null -w '%{{stderr}}%{{http_code}}\\n' "
        f"'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30' "
        f"--next -sS -o /dev/null -w '%{{stderr}}%{{http_code}} %{{num_connects}}\\n' "
        f"-X PUT -d x https://{HOST}/idle 2>&1"
    )
    lines = shell_lines(gateway, "idle", script)
    async with within(60):
        assert await anext(lines) == "200 1"
        await approve(gateway, "idle", chunk_id)
        assert await anext(lines) == "200"
        status, connects = (await anext(lines)).split()
    assert status == "201"
    assert connects == "1", "the old connection must not be reused across a reload"


async def test_unknown_and_foreign_chunk_ids_are_not_found(advised: House, gateway: Gateway) -> None:
    advised.create("mine")
    advised.create("theirs")
    foreign = json.loads((await sh(gateway, "theirs", submit(put_rule("/x")))).out)["accepted_chunk_ids"][0]
    for chunk_id in (foreign, "00000000-0000-4000-8000-000000000000", "nonsense"):
        for route in ("", "/wait?timeout=1"):
            ran = await sh(
                gateway, "mine", f"curl -sS -w '\\n%{{http_code}}' 'http://policy.local/v1/proposals/{chunk_id}{route}'"
            )
            body, status = ran.out.rsplit("\n", 1)
            assert (status, json.loads(body)["error"]) == ("404", "chunk_not_found")


async def test_inbox_stream_shows_a_new_proposal(advised: House, gateway: Gateway) -> None:
    advised.create("stream")
    async with within(20), contextlib.aclosing(gateway.watch_inbox("stream")) as inbox:
        async for event in inbox:
            if event.synced:
                break
        submitted = asyncio.ensure_future(sh(gateway, "stream", submit(put_rule("/inbox"))))
        async for event in inbox:
            if event.chunk is not None:
                assert event.chunk.status == "pending"
                break
        await submitted
