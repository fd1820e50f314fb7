"""kill -9 of gateway or supervisor at moments drawn from a seed, under load: closed, not open; no decision lost.

Inside, one script asks for allowed and refused things and submits proposals without pause; outside, a reviewer decides
whatever the inbox pushes. The kill comes after a drawn number of decisions plus a drawn delay, so it lands inside
transactions, pushes, reloads and relays alike. `OPENSHELL_KILL_SEED` and `OPENSHELL_KILL_ROUNDS` repeat or lengthen it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal

import pytest

from pyopenshell import policy as language
from pyopenshell.client import Gateway
from pyopenshell.client.errors import GatewayError, UnreachableError
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, House, house, restarted, sh, within
from tests.e2e.test_crash import by_name, ended, supervisors

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("random-kills")]

SEED = int(os.environ.get("OPENSHELL_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
ROUNDS = int(os.environ.get("OPENSHELL_KILL_ROUNDS", "8"))
PROPOSALS = 12
GONE = (GatewayError, UnreachableError)


@dataclasses.dataclass(slots=True)
class Reviewer:
    """Decides everything pending in one sandbox, alternately yes and no. `said` holds only what was acknowledged."""

    gateway: Gateway
    sandbox: str
    kill_after: int
    said: dict[str, str] = dataclasses.field(default_factory=dict)
    reached: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def work(self) -> None:
        if not self.kill_after:
            self.reached.set()
        asked: set[str] = set()
        async for event in self.gateway.watch_inbox(self.sandbox):
            chunk = event.chunk
            if chunk is None or chunk.status != "pending" or chunk.review_token in asked:
                continue
            asked.add(chunk.review_token)
            with contextlib.suppress(GatewayError):  # a token that another decision made stale: it is pushed again
                if len(self.said) % 2:
                    await self.gateway.reject(self.sandbox, chunk.id, "no")
                    self.said[chunk.id] = "rejected"
                else:
                    await self.gateway.approve(self.sandbox, chunk.id, chunk.review_token)
                    self.said[chunk.id] = "approved"
            if len(self.said) >= self.kill_after:
                self.reached.set()


def load_script(round_: int) -> str:
    """Runs in the background until it is killed: refused PUTs, allowed GETs, then proposals one after the other."""
    submits = "\n".join(
        submit(put_rule(f"/kill/{round_}/{number}", name=f"kill_{round_}_{number}")) + " >/dev/null 2>&1"
        for number in range(PROPOSALS)
    )
    return (
        "(exec -a random-kill-load bash -c 'while :; do "
        f'timeout 10 curl -sS -o /dev/null -w "%{{http_code}}\\n" -X PUT -d x https://{HOST}/never; '
        f"timeout 10 curl -sS -o /dev/null https://{HOST}/a; done' >> /sandbox/codes 2>/dev/null) >/dev/null 2>&1 &\n"
        f"({submits}) >/dev/null 2>&1 &\ndisown -a"
    )


async def run_until_kill(home: House, sandbox: str, round_: int, dice: random.Random, victim: int) -> dict[str, str]:
    """Load, review, kill `victim`. Returns the acknowledged decisions."""
    async with home.client() as gateway:
        reviewer = Reviewer(gateway, sandbox, dice.randrange(6))
        await sh(gateway, sandbox, load_script(round_))
        working = asyncio.create_task(reviewer.work())
        try:
            async with within(60):
                await asyncio.wait({working, reached := asyncio.create_task(reviewer.reached.wait())},
                                   return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            assert reached.done(), working
            kill = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(dice.random() * 0.04, kill.set_result, None)
            await kill
            os.kill(victim, signal.SIGKILL)
            assert ended(victim)
        finally:
            working.cancel()
            (result,) = await asyncio.gather(working, return_exceptions=True)
            assert result is None or isinstance(result, (asyncio.CancelledError, *GONE)), result
        return dict(reviewer.said)


async def ledger_agrees(gateway: Gateway, sandbox: str, said: dict[str, str]) -> list[str]:
    """Every acknowledged decision stands; approved and enforced are the same set. Returns the approved paths."""
    config = await gateway.config(sandbox)
    assert config.policy is not None
    cell = language.compile(config.policy).connect(language.Connection(HOST, 443, "/usr/bin/curl"))
    chunks = {chunk.id: chunk for chunk in (await gateway.draft(sandbox)).chunks if "kill_" in chunk.rule_name}
    assert {chunk: chunks[chunk].status for chunk in said} == said
    paths = []
    for chunk in chunks.values():
        (allow,) = chunk.rule.endpoints[0].rules
        path = str(allow.path)
        enforced = cell.decide("PUT", path).allowed
        assert enforced == (chunk.status == "approved"), f"{chunk.status}, but the policy says {enforced} for {path}"
        if enforced:
            paths.append(path)
    revisions = [revision.version for revision in await gateway.policies(sandbox, 1000)]
    assert len(set(revisions)) == len(revisions)
    return paths


async def test_gateway_killed_at_random_moments() -> None:
    print(f"OPENSHELL_KILL_SEED={SEED}")
    dice = random.Random(SEED)
    with house() as home:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
        said: dict[str, str] = {}
        home.create("survivor")
        for round_ in range(ROUNDS):
            pid = json.loads(home.cli("gateway", "status", "-o", "json").out)["pid"]
            said |= await run_until_kill(home, "survivor", round_, dice, pid)
            home.cli("gateway", "start")
            async with home.client() as gateway:
                async with within(30):
                    await gateway.wait_for(await gateway.get("survivor"), "Ready", failed=("Error",))
                for path in (await ledger_agrees(gateway, "survivor", said))[-2:]:
                    # Ready is said once the link is back; the version pushed last may still be on its way.
                    async with within(30):
                        while not (await sh(gateway, "survivor", put(path))).out.endswith("201"):
                            pass
                await sh(gateway, "survivor", "pkill -f random-kill-load")
                codes = (await sh(gateway, "survivor", "sort -u /sandbox/codes")).out.split()
            assert set(codes) == {"403"}, "open, or dead, while the gateway was gone"
            assert not home.upstream.seen("PUT", "/never")
        assert said, "no decision was ever made: the rounds tested nothing"


async def test_supervisor_killed_at_random_moments() -> None:
    print(f"OPENSHELL_KILL_SEED={SEED}")
    dice = random.Random(SEED + 1)
    with house() as home:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
        for round_ in range(ROUNDS):
            name = f"victim-{round_}"
            before = supervisors(home.root)
            home.create(name)
            (pid,) = supervisors(home.root) - before
            said = await run_until_kill(home, name, round_, dice, pid)
            async with home.client() as gateway:
                await restarted(gateway, name)
                await ledger_agrees(gateway, name, said)
            for inside in by_name("random-kill-load"):
                assert ended(inside), "a process outlived its supervisor"
            assert not home.upstream.seen("PUT", "/never")
