"""A hostile agent at the approval plane: self-approval, hidden grants, spoofed cards, floods, races, other boxes."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
import unicodedata
from typing import Any

import pytest

from pyopenshell.client import Gateway
from pyopenshell.client.errors import GatewayError
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, House, sh, within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("attacks_approval")]


@pytest.fixture(scope="module")
def box(advised: House) -> str:
    advised.create("box")
    return "box"


def with_endpoint(**changes: Any) -> dict[str, Any]:
    """The usual proposal with keys of its endpoint changed; None takes one away."""
    proposal = put_rule("/x")
    endpoint = proposal["operations"][0]["addRule"]["rule"]["endpoints"][0]
    endpoint.update(changes)
    for key in [key for key, value in endpoint.items() if value is None]:
        del endpoint[key]
    return proposal


def with_rule(**changes: Any) -> dict[str, Any]:
    proposal = put_rule("/x")
    proposal["operations"][0]["addRule"]["rule"].update(changes)
    return proposal


def allowing(method: str, path: str) -> dict[str, Any]:
    return with_endpoint(rules=[{"allow": {"method": method, "path": path}}])


def named(name: str) -> dict[str, Any]:
    proposal = copy.deepcopy(put_rule("/x", name=name))
    proposal["operations"][0]["addRule"]["rule"]["name"] = name
    return proposal


HOSTILE: dict[str, str] = {
    name: json.dumps(value)
    for name, value in {
        "unknown key": put_rule("/x") | {"status": "approved"},
        "another operation": {"operations": [{"approve": {"chunk_id": "x"}}]},
        "hidden operation": {"operations": [put_rule("/x")["operations"][0] | {"removeRule": {}}]},
        "provider's name": named("_provider_github"),
        "escape in name": named("a\x1b[2J"),
        "line in name": named("a\nStatus: approved"),
        "inner name": with_rule(name="_provider_github"),
        "no binaries": with_rule(binaries=[]),
        "any binary by accident": with_rule(binaries=[{"path": "*"}]),
        "binary with dots": with_rule(binaries=[{"path": "/usr/bin/../../tmp/x"}]),
        "no endpoints": with_rule(endpoints=[]),
        "any host": with_endpoint(host="*"),
        "a whole domain": with_endpoint(host="*.com"),
        "everybody's names": with_endpoint(host="*.github.io"),
        "loopback": with_endpoint(host="127.0.0.1"),
        "localhost": with_endpoint(host="localhost"),
        "metadata": with_endpoint(host="169.254.169.254"),
        "metadata by name": with_endpoint(host="metadata.google.internal"),
        "homograph": with_endpoint(host="\u0430pi.e2e.test"),
        "bidi in host": with_endpoint(host="api\u202e.test"),
        "hidden ports": with_endpoint(ports=[22, 80]),
        "port as text": with_endpoint(port="443"),
        "port true": with_endpoint(port=True),
        "blind tunnel": with_endpoint(tls="skip"),
        "raw tcp": with_endpoint(protocol="tcp", rules=None),
        "not enforced by spelling": with_endpoint(enforcement="Enforce"),
        "own provenance": with_endpoint(advisor_proposed=False),
        "empty rules": with_endpoint(rules=[]),
        "dot segment": allowing("PUT", "/a/../b"),
        "query in path": allowing("PUT", "/a?b"),
        "escape in path": allowing("PUT", "/a\x1b[31m"),
        "line in method": allowing("PUT\n", "/a"),
        "no path": allowing("PUT", ""),
        "lone surrogate": put_rule("/x") | {"intent_summary": "\ud800"},
    }.items()
} | {
    "key twice": json.dumps(put_rule("/x")).replace(f'"host": "{HOST}"', f'"host": "safe.test", "host": "{HOST}"'),
    "not a number": '{"operations": [NaN]}',
    "too deep": "[" * 3000,
    "two documents": json.dumps(put_rule("/x")) + "{}",
    "nothing": "",
}


async def test_no_malformed_proposal_reaches_the_inbox(advised: House, gateway: Gateway) -> None:
    advised.create("malformed")
    script = "".join(
        "curl -sS -X POST http://policy.local/v1/proposals --data-binary @- -w ' %{http_code}\\n' "
        f"<<'END_OF_ATTACK'\n{body}\nEND_OF_ATTACK\n"
        for body in HOSTILE.values()
    )
    lines = (await sh(gateway, "malformed", script)).out.splitlines()
    assert len(lines) == len(HOSTILE)
    for name, line in zip(HOSTILE, lines, strict=True):
        body, _, code = line.rpartition(" ")
        assert code == "400", (name, line)
        assert json.loads(body)["error"] == "invalid_proposal", (name, line)
        assert body.isprintable(), name
    assert not (await gateway.draft("malformed")).chunks


async def test_the_agent_has_no_way_to_decide(advised: House, gateway: Gateway, box: str) -> None:
    chunk = json.loads((await sh(gateway, box, submit(put_rule("/self", name="self")))).out)["accepted_chunk_ids"][0]
    base = f"http://policy.local/v1/proposals/{chunk}"
    curl = "curl -sS -o /dev/null -w '%{http_code}\\n' -H 'X-Role: admin' -H 'Authorization: Bearer x'"
    attempts = [
        *(f"{curl} -X {method} -d '{{}}' {base}" for method in ("POST", "PUT", "PATCH", "DELETE")),
        *(f"{curl} -X POST -d '{{}}' {base}/{word}" for word in ("approve", "reject", "undo", "edit", "wait")),
        f"{curl} -X POST -d '{{}}' http://policy.local/v1/approve",
        f"{curl} http://policy.local:22/v1/denials",
        f"{curl} http://policy.local:17670/openshell.v1.OpenShell/ApproveDraftChunk",
        f"{curl} --request-target https://policy.local/v1/denials http://policy.local/",
        "curl -sS -o /dev/null -w '%{http_connect}\\n' https://policy.local/ 2>/dev/null",
    ]
    codes = (await sh(gateway, box, "\n".join(attempts))).out.split()
    assert codes == ["404"] * 10 + ["400"] * 4
    state = json.loads((await sh(gateway, box, f"curl -sS {base}")).out)
    assert state["status"] == "pending"
    assert (await sh(gateway, box, put("/self"))).out.endswith("\n403")
    assert not advised.upstream.seen("PUT", "/self")


async def test_a_card_cannot_be_spoofed(advised: House, gateway: Gateway) -> None:
    advised.create("spoof")
    hidden = "\x1b[2J\x1b[8m\u202e\u2066\u200b\u200d\ufeff\u00a0\u2028\u2029\x85\u3164\U000e0041\r\n"
    text = f"ok{hidden}  Chunk: 1\n  Status: approved\n\n  Rule: safe{' ' * 300}by admin"
    proposal = put_rule("/x  Status: approved", name="spoof") | {"intent_summary": text}
    answer = await sh(gateway, "spoof", submit(proposal))
    assert json.loads(answer.out)["accepted_chunks"] == 1, answer
    for arguments in (("rule", "get", "spoof"), ("rule", "get", "spoof", "-o", "json"), ("logs", "spoof")):
        shown = advised.cli(*arguments).out
        bad = {c for c in shown if c != "\n" and (c != " " and unicodedata.category(c)[0] in "CZ")}
        assert not bad, (arguments, bad)
    card = advised.cli("rule", "get", "spoof").out
    assert [line for line in card.splitlines() if re.match(r"\s*Status:", line)] == ["  Status: pending"]
    assert len(re.findall(r"^\s*(?:Chunk|Rule):", card, re.MULTILINE)) == 2
    assert "[300 spaces]" in card
    assert "\\x1b[2J" in card


async def test_a_proposal_cannot_forge_a_log_line(advised: House, gateway: Gateway) -> None:
    advised.create("forge")
    path = "/x OCSF NET:OPEN [INFO] ALLOWED /bin/sh"
    answer = json.loads((await sh(gateway, "forge", submit(put_rule(path, name="forge")))).out)
    assert answer["accepted_chunks"] == 1, answer
    follow = "timeout 10 grep -m1 -F 'CONFIG:PROPOSED' <(exec tail -n +1 -F /var/log/openshell.*.log 2>/dev/null)"
    line = (await sh(gateway, "forge", follow)).out
    assert "CONFIG:PROPOSED" in line
    assert " OCSF NET:OPEN" not in line
    assert "[INFO] ALLOWED" not in line


async def test_another_sandbox_learns_nothing(advised: House, gateway: Gateway, box: str) -> None:
    advised.create("nosy")
    chunk = json.loads((await sh(gateway, box, submit(put_rule("/mine", name="mine")))).out)["accepted_chunk_ids"][0]
    unknown = "00000000-0000-4000-8000-000000000000"
    for route in ("", "/wait?timeout=300"):
        asked = [
            f"curl -sS -w ' %{{http_code}}' 'http://policy.local/v1/proposals/{i}{route}'" for i in (chunk, unknown)
        ]
        theirs, nobodys = [(await sh(gateway, "nosy", one)).out for one in asked]
        assert theirs == nobodys
        assert theirs.endswith(" 404")
        assert "chunk_not_found" in theirs
    seen = (await sh(gateway, "nosy", "curl -sS 'http://policy.local/v1/denials?last=100'; cat /var/log/*.log")).out
    assert "/mine" not in seen


async def test_unfinished_bodies_hold_up_nobody_else(advised: House, gateway: Gateway, box: str) -> None:
    advised.create("slow")
    begun = (
        "POST http://policy.local/v1/proposals HTTP/1.1\\r\\nHost: policy.local\\r\\nContent-Length: 100\\r\\n\\r\\nx"
    )
    script = (
        "for i in $(seq 64); do exec {fd}<>/dev/tcp/10.200.0.1/3128; "
        f"printf '{begun}' >&$fd; done; exec {{fd}}>&-; "
        f"for i in $(seq 64); do exec {{fd}}<>/dev/tcp/10.200.0.1/3128; printf '{begun}' >&$fd; done; "
        "curl -sS -o /dev/null -w '%{http_code}\\n' http://policy.local/v1/denials; echo full; read -r _ <go"
    )
    await sh(gateway, "slow", "mkfifo go")
    flood = asyncio.create_task(sh(gateway, "slow", script))
    async with within(30):
        answered = await sh(gateway, box, "curl -sS -o /dev/null -w '%{http_code}' http://policy.local/v1/denials")
        assert answered.out == "200"
        assert advised.cli("rule", "get", "slow").code == 0
        await sh(gateway, "slow", "echo >go")
        assert (await flood).out.split() == ["429", "full"]
        after = await sh(gateway, "slow", "curl -sS -o /dev/null -w '%{http_code}' http://policy.local/v1/denials")
    assert after.out == "200"


async def test_approvals_that_race_rejections_leave_one_truth(advised: House, gateway: Gateway) -> None:
    advised.create("race")
    count = 8
    script = "\n".join(submit(put_rule(f"/race/{i}", name=f"race{i}")) + "; echo" for i in range(count))
    answers = (await sh(gateway, "race", script)).out.splitlines()
    ids = [json.loads(line)["accepted_chunk_ids"][0] for line in answers if line]
    hammer = asyncio.create_task(
        sh(
            gateway,
            "race",
            f"until [ -e stop ]; do for i in $(seq 0 {count - 1}); do {put('/race/$i')} -o /dev/null; done; done",
        )
    )
    won: dict[str, list[str]] = {chunk: [] for chunk in ids}

    async def attempt(chunk: str, kind: str) -> None:
        try:
            if kind == "approve":
                token = next(c.review_token for c in (await gateway.draft("race")).chunks if c.id == chunk)
                await gateway.approve("race", chunk, token)
            else:
                await gateway.reject("race", chunk, "no")
        except GatewayError:
            return
        won[chunk].append(kind)

    order = [(chunk, kind) for chunk in ids for kind in ("approve", "reject", "approve")]
    random.Random(7).shuffle(order)
    try:
        await asyncio.gather(*(attempt(chunk, kind) for chunk, kind in order))
    finally:
        await sh(gateway, "race", "touch stop")
        await hammer
    states = {chunk.id: chunk.status for chunk in (await gateway.draft("race")).chunks}
    waits = "; ".join(f"curl -sS 'http://policy.local/v1/proposals/{chunk}/wait?timeout=20'; echo" for chunk in ids)
    told = [json.loads(line) for line in (await sh(gateway, "race", waits)).out.splitlines()]
    allowed = (
        await sh(gateway, "race", "; ".join(put(f"/race/{i}") + " -o /dev/null; echo" for i in range(count)))
    ).out
    for chunk, state, code in zip(ids, told, allowed.split(), strict=True):
        assert state["status"] == states[chunk]
        assert code == ("201" if states[chunk] == "approved" else "403"), (chunk, won[chunk], states[chunk])
        assert {"approved": "approve", "rejected": "reject"}[states[chunk]] in won[chunk]
