"""C-4: a wildcard as a channel. Labels are the agent's choice; how many of them leave is not."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from pyopenshell.supervisor.proxy.context import Limits
from pyopenshell.supervisor.proxy.names import OPEN_ENDED
from pyopenshell.supervisor.proxy.wildcards import Wildcards
from tests.supervisor.proxy.rig import Client, Rig, Upstream, raw, rig, rule

WILD = rule("wild", raw("*.data.test", 80), raw("exact.data.test", 80))
OTHER = rule("other", raw("*.more.test", 80))


def ask(door: str, host: str, r: Rig) -> bytes:
    """Through a door, to its last word or its first bytes of a tunnel."""
    if door == "capture":
        r.going_to(host, 80)
    with Client(r.captured if door == "capture" else r.address) as client:
        if door == "connect":
            client.send(f"CONNECT {host}:80 HTTP/1.1\nHost: {host}\n\n")
        elif door == "forward":
            client.send(f"GET http://{host}/ HTTP/1.1\nHost: {host}\nConnection: close\n\n")
        elif door == "socks":
            client.send(b"\5\1\0")
            client.read(2)
            client.send(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + b"\0\x50")
        else:
            client.send(f"GET / HTTP/1.1\nHost: {host}\nConnection: close\n\n")
        return client.receive()


def refused(door: str, answer: bytes) -> bool:
    return answer[:2] == b"\5\2" if door == "socks" else b'"wildcard_exhausted"' in answer or b" 403 " in answer[:20]


@pytest.mark.parametrize("door", ["connect", "forward", "socks", "capture"])
async def test_names_under_a_wildcard_are_counted_at_every_door(door: str) -> None:
    limits = dataclasses.replace(Limits(linger_seconds=0.1), wildcard_names=4)
    async with rig(WILD, OTHER, limits=limits) as r:

        async def talk(host: str) -> bytes:
            return await asyncio.to_thread(ask, door, host, r)

        for n in range(4):
            for _ in range(2):
                assert not refused(door, await talk(f"secret{n}.data.test")), n
            assert len(r.log.findings()) == (n >= 1)
        finding = r.log.findings()[0]
        assert finding.uid == "openshell.dns.wildcard_names"
        assert finding.evidence == (("policy", "wild"), ("names", "2"), ("limit", "4"))
        r.resolved.clear()
        assert refused(door, await talk("secret4.data.test"))
        assert r.resolved == [], "nobody was asked about it"
        denial = r.denials[-1]
        assert (denial.condition, denial.host, denial.policy) == ("wildcard_exhausted", "secret4.data.test", "wild")
        assert not denial.proposable, "a draft for each name would be the next flood"
        assert sum(denial.id in line for line in r.log.lines()) == 1
        # What was asked before, what a person named, and other rules go on.
        for host in ("secret0.data.test", "exact.data.test", "x.more.test"):
            assert not refused(door, await talk(host)), host
            assert r.resolved.pop() == host


async def test_the_denial_is_an_envelope(plain_upstream: Upstream) -> None:
    limits = dataclasses.replace(Limits(linger_seconds=0.1), wildcard_names=0)
    async with rig(WILD, limits=limits) as r:
        answer = await r.run(lambda client: client.connect("a.data.test:80"))
        body = answer.json
        assert (answer.status, body["error"], body["failed_condition"]) == (403, "policy_denied", "wildcard_exhausted")
        assert body["rule_missing"]["type"] == "none"
        assert answer.headers["x-openshell-denial"] == r.denials[0].id
        assert "name this host exactly" in body["reason"]


def test_all_rules_together_are_bounded_and_the_warning_comes_once() -> None:
    told: list[tuple[str, int, int]] = []
    wildcards = Wildcards(lambda *fact: told.append(fact), capacity=4, total=6)
    assert [wildcards.admit("a", f"{n}") for n in range(6)] == [True] * 4 + [False] * 2
    assert [wildcards.admit("b", f"{n}") for n in range(3)] == [True, True, False]
    assert wildcards.admit("a", "0")
    assert told == [("a", 2, 4), ("b", 2, 4)]


def test_the_limit_is_that_of_policy_dns() -> None:
    assert Limits().wildcard_names == OPEN_ENDED
