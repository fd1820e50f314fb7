"""L4 denials become mechanistic proposals, L7 denials never do; /v1/denials; the feature switch."""

from __future__ import annotations

import json

import pytest

from pyopenshell.client import Gateway
from pyopenshell.client.values import Chunk
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, OTHER, House, sh, within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("denials")]

NO_NETWORK = """\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /etc, /proc]
  read_write: [/tmp, /dev/null]
"""


async def first_chunk(gateway: Gateway, sandbox: str, host: str, hits: int = 1) -> Chunk:
    """From the inbox stream: the chunk for `host` once it has at least `hits`."""
    async for event in gateway.watch_inbox(sandbox):
        chunk = event.chunk
        if chunk and chunk.rule.endpoints[0].host == host and chunk.hit_count >= hits:
            return chunk
    raise AssertionError("inbox ended")


async def test_mechanistic_smoke(home: House, gateway: Gateway) -> None:
    home.create("mech", NO_NETWORK)
    ran = await sh(gateway, "mech", "curl -sS https://blocked.invalid/")
    assert ran.code != 0
    async with within(10):
        chunk = await first_chunk(gateway, "mech", "blocked.invalid")
    assert (chunk.status, chunk.rule_name, chunk.binary) == ("pending", "allow_blocked_invalid_443", "/usr/bin/curl")
    assert chunk.rule.endpoints[0].ports == (443,)
    assert chunk.rule.endpoints[0].protocol == ""
    assert "blocked.invalid:443 [L4]" in home.cli("rule", "get", "mech", "--status", "pending").out


async def test_fifty_repeats_are_one_chunk_with_fifty_hits(home: House, gateway: Gateway) -> None:
    home.create("fifty", NO_NETWORK)
    await sh(gateway, "fifty", "for i in $(seq 50); do curl -sS https://again.invalid/; done 2>/dev/null")
    async with within(30):
        chunk = await first_chunk(gateway, "fifty", "again.invalid", hits=50)
    assert chunk.hit_count == 50
    assert len((await gateway.draft("fifty")).chunks) == 1
    assert "Hits: 50 (first seen " in home.cli("rule", "get", "fifty").out


async def test_denied_names_are_never_resolved_and_the_answer_is_structured(home: House, gateway: Gateway) -> None:
    home.create("connect", NO_NETWORK)
    ran = await sh(
        gateway,
        "connect",
        "exec 3<>/dev/tcp/10.200.0.1/3128; "
        "printf 'CONNECT x.invalid:443 HTTP/1.1\\r\\nHost: x.invalid:443\\r\\n\\r\\n' >&3; cat <&3",
    )
    head, body = ran.out.split("\n\n" if "\r" not in ran.out else "\r\n\r\n", 1)
    assert head.startswith("HTTP/1.1 403 Forbidden by OpenShell policy (denial d-")
    assert "X-OpenShell-Denial: d-" in head
    denial = json.loads(body)
    assert (denial["layer"], denial["rule_missing"]["type"], denial["host"]) == ("l4", "l4_allow", "x.invalid")
    assert denial["next_steps"] == []


async def test_l7_denials_never_become_proposals(advised: House, gateway: Gateway) -> None:
    advised.create("seven")
    for _ in range(3):
        assert (await sh(gateway, "seven", put("/denied?k=v"))).out.endswith("403")
    await sh(gateway, "seven", "curl -sS https://four.invalid/")
    async with within(10):
        # The L4 denial came later on the same path: once it is here, the L7 ones would be too.
        await first_chunk(gateway, "seven", "four.invalid")
    hosts = {c.rule.endpoints[0].host for c in (await gateway.draft("seven")).chunks}
    assert hosts == {"four.invalid"}
    (observed,) = await gateway.observed("seven")
    assert (observed.host, observed.method, observed.path, observed.count) == (HOST, "PUT", "/denied", 3)
    shown = advised.cli("rule", "get", "seven").out
    assert f"PUT {HOST}:443/denied" in shown or "PUT /denied" in shown


async def test_denials_route(advised: House, gateway: Gateway) -> None:
    advised.create("route")
    script = "; ".join(f"curl -sS -o /dev/null -X PUT -d x 'https://{HOST}/n{i}?secret=1'" for i in range(12))
    await sh(gateway, "route", script)

    async def denials(query: str) -> list[str]:
        ran = await sh(gateway, "route", f"curl -sS 'http://policy.local/v1/denials{query}'")
        body = json.loads(ran.out)
        assert body["log_available"] is True
        lines = body["denials"]
        assert isinstance(lines, list)
        return lines

    ten = await denials("")
    assert len(ten) == 10
    assert "/n11 " in ten[0]
    assert "/n2 " in ten[9]
    assert len(await denials("?last=3")) == 3
    assert len(await denials("?last=100000")) == 12
    assert len(await denials("?last=nonsense")) == 10
    assert len(await denials("?last=0")) == 1
    assert all("secret" not in line and "\n" not in line and " OCSF " in line for line in ten)


async def test_feature_off_then_on_then_off(home: House, gateway: Gateway) -> None:
    home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "false", "--yes")
    home.create("flip")
    try:
        for route in ("/v1/policy/current", "/v1/denials", "/v1/proposals/x", "/v1/proposals/x/wait", "/"):
            ran = await sh(gateway, "flip", f"curl -sS -w '\\n%{{http_code}}' http://policy.local{route}")
            body, status = ran.out.rsplit("\n", 1)
            assert (status, json.loads(body)["error"]) == ("404", "feature_disabled"), route
        denial = json.loads((await sh(gateway, "flip", put("/x"))).out.rsplit("\n", 1)[0])
        assert denial["next_steps"] == []
        assert "agent_guidance" not in denial
        assert (await sh(gateway, "flip", "ls /etc/openshell/skills")).code != 0
        assert (await sh(gateway, "flip", "cat /AGENTS.md")).code != 0

        home.cli("settings", "delete", "--global", "--key", "agent_policy_proposals_enabled", "--yes")
        home.cli("settings", "set", "flip", "--key", "agent_policy_proposals_enabled", "--value", "true")
        # The push overtakes a poll by far: the file is there as soon as the setting is loaded.
        await sh(gateway, "flip", "until [ -s /etc/openshell/skills/policy_advisor.md ]; do :; done", timeout=10)
        assert (await sh(gateway, "flip", "cat /etc/openshell/skills/policy_advisor.md /AGENTS.md")).code == 0
        assert (await sh(gateway, "flip", submit(put_rule("/x")))).out.startswith('{"')
        assert json.loads((await sh(gateway, "flip", put("/x"))).out.rsplit("\n", 1)[0])["next_steps"]
    finally:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")


async def test_mechanistic_noise_does_not_kill_the_agents_proposal(advised: House, gateway: Gateway) -> None:
    advised.create("noise")
    proposal = put_rule("/f", host=OTHER)
    chunk_id = json.loads((await sh(gateway, "noise", submit(proposal))).out)["accepted_chunk_ids"][0]
    await sh(gateway, "noise", f"curl -sS https://{OTHER}/f; curl -sS https://after.invalid/")
    async with within(10):
        await first_chunk(gateway, "noise", "after.invalid")
    status = {c.id: c.status for c in (await gateway.draft("noise")).chunks}
    assert status[chunk_id] == "pending"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "invalid_proposal"),
        ('{"operations":[]}', "at least one operation"),
        ('{"operations":[{"add_rule":{}}]}', "add_rule"),
        ('{"operations":[{"removeRule":{}}]}', "invalid_proposal"),
        ('{"surprise":1,"operations":[]}', "surprise"),
        ('{"operations":[],"operations":[]}', "operations"),
    ],
)
async def test_bad_proposals_say_what_is_wrong(advised: House, gateway: Gateway, body: str, says: str) -> None:
    names = set(advised.cli("sandbox", "list", "--names").out.split())
    if "bad" not in names:
        advised.create("bad")
    ran = await sh(gateway, "bad", f"curl -sS -w '\\n%{{http_code}}' http://policy.local/v1/proposals -d '{body}'")
    answer, status = ran.out.rsplit("\n", 1)
    assert status == "400"
    assert json.loads(answer)["error"] == "invalid_proposal"
    assert says in answer


async def test_an_oversized_body_is_refused_and_the_next_request_works(advised: House, gateway: Gateway) -> None:
    advised.create("big")
    ran = await sh(
        gateway,
        "big",
        "head -c 70000 /dev/zero | tr '\\0' x "
        "| curl -sS -w '\\n%{http_code}' http://policy.local/v1/proposals --data-binary @-; "
        "curl -sS -o /dev/null -w '\\n%{http_code}' http://policy.local/v1/policy/current",
    )
    lines = ran.out.splitlines()
    assert "413" in lines
    assert lines[-1] == "200"
