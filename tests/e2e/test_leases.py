"""Approvals for a time, for real: they end in the running sandbox, with or without a gateway, connections with them."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from pyopenshell.client import Gateway
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, READ_ONLY, House, background, house, sh, shell_lines, within
from tests.e2e.test_crash import by_name, ended

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("leases")]


def until_refused(path: str) -> str:
    """A script that PUTs until the answer is not 201, and prints that answer's status."""
    code = f"$(curl -sS -o /dev/null -w '%{{http_code}}' -X PUT -d x https://{HOST}{path})"
    return f"while code={code}; [ $code = 201 ]; do :; done; echo $code"


async def proposed(gateway: Gateway, sandbox: str, path: str) -> str:
    answer = json.loads((await sh(gateway, sandbox, submit(put_rule(path)))).out)
    return str(answer["accepted_chunk_ids"][0])


async def test_it_ends_in_the_running_sandbox_and_the_agent_is_told(advised: House, gateway: Gateway) -> None:
    advised.create("for-a-time")
    chunk = await proposed(gateway, "for-a-time", "/timed")
    said = advised.cli("rule", "approve", "for-a-time", chunk[:8], "--for", "3s")
    assert "Chunk approved for 3s." in said.out
    card = advised.cli("rule", "get", "for-a-time").out
    assert re.search(r"Ends: in [123]s \(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC; approved for 3s\)", card), card
    wait = json.loads(
        (await sh(gateway, "for-a-time", f"curl -sS http://policy.local/v1/proposals/{chunk}/wait?timeout=30")).out
    )
    assert (wait["status"], wait["policy_reloaded"]) == ("approved", True)
    assert wait["expires_at"].endswith("Z")
    assert (await sh(gateway, "for-a-time", put("/timed"))).out.endswith("201")
    async with within(30):
        assert (await sh(gateway, "for-a-time", until_refused("/timed"))).out == "403\n"
    state = json.loads((await sh(gateway, "for-a-time", f"curl -sS http://policy.local/v1/proposals/{chunk}")).out)
    assert state["status"] == "rejected"
    assert state["rejection_reason"].startswith("the approval was for 3s and has ended")
    assert "expires_at" not in state
    assert "expired" in advised.cli("rule", "history", "for-a-time").out
    log = advised.cli("logs", "for-a-time").out
    assert "CONFIG:EXPIRED" in log
    assert "lease:3s" in log


async def test_an_open_connection_ends_with_its_grant(advised: House, gateway: Gateway) -> None:
    """A download that the limited approval alone allowed is cut at the limit, not when the server is done."""
    advised.create("cut-off", READ_ONLY[: READ_ONLY.index("network_policies:")])
    rule = put_rule("/unused")
    endpoint = rule["operations"][0]["addRule"]["rule"]["endpoints"][0]
    endpoint["rules"] = [{"allow": {"method": "GET", "path": "/stream"}}]
    answer = json.loads((await sh(gateway, "cut-off", submit(rule))).out)
    advised.cli("rule", "approve", "cut-off", answer["accepted_chunk_ids"][0], "--for", "2s")
    script = f"curl -sSN https://{HOST}/stream; echo ended $?"
    lines = shell_lines(gateway, "cut-off", script)
    async with within(30):
        assert await anext(lines) == "data: open"
        heard = [line async for line in lines]
    assert heard[-1].startswith("ended ")
    assert heard[-1] != "ended 0", "the client must notice that the answer is not whole"
    advised.upstream.finish()


async def test_it_ends_without_a_gateway() -> None:
    with house() as home:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
        home.create("alone")
        code = f"$(curl -sS -o /dev/null -w '%{{http_code}}' -X PUT -d x https://{HOST}/timed)"
        script = (
            f"until [ {code} = 201 ]; do :; done; echo open >> /sandbox/said; "
            f"{until_refused('/timed')} >> /sandbox/said"
        )
        async with home.client() as gateway:
            chunk = await proposed(gateway, "alone", "/timed")
            await sh(gateway, "alone", background("until-it-ends", script))
        trying = by_name("until-it-ends")
        assert trying
        home.cli("rule", "approve", "alone", chunk, "--for", "3s")
        pid = json.loads(home.cli("gateway", "status", "-o", "json").out)["pid"]
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)
        for one in trying:
            assert ended(one, 30), "the grant did not end while the gateway was dead"
        said = next(home.root.glob("state/**/sandboxes/*/workspace")) / "said"
        assert said.read_text() == "open\n403\n"
        home.cli("gateway", "start")
        async with home.client() as gateway:
            async with within(30):
                await gateway.wait_for(await gateway.get("alone"), "Ready", failed=("Error",))
                async for event in gateway.watch_inbox("alone"):
                    if event.synced or (event.chunk is not None and event.chunk.status == "rejected"):
                        break
            (again,) = (await gateway.draft("alone", "rejected")).chunks
            assert again.id == chunk
            assert (await sh(gateway, "alone", put("/timed"))).out.endswith("403")
