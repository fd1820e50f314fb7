"""Approve against reject, undo, policy set, expiry and crash, in every order that a seed finds; replayed from the seed.

Afterwards the ledger, the policy, its revisions and what the sandbox enforces must tell one story.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.chunks import Chunk, select
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.revisions import Revision, hash_of
from pyopenshell.gateway.sessions import Session, Sessions
from pyopenshell.gateway.store.schema import draft_chunks
from pyopenshell.policy.compose import effective
from pyopenshell.policy.coverage import covers
from pyopenshell.policy.merge import AddRule, apply
from pyopenshell.policy.model import Policy
from pyopenshell.wire.gen import openshell_pb2

from .core import Core, policy, raw, rest
from .schedule import play

PEOPLE = tuple(f"mtls:CN={name}" for name in ("alice", "bob", "carol"))
CHUNKS, TURNS, STEPS = 6, 5, 6
_FINAL_EVENTS = {
    "pending": {"proposed", "undone", "edited"},
    "approved": {"approved", "renewed", "unlimited"},
    "rejected": {"rejected", "expired"},
}
_REFUSALS = {"FAILED_PRECONDITION", "NOT_FOUND"}

Story = Callable[[Core, random.Random], Coroutine[Any, Any, Any]]


class Sandbox:
    """A supervisor: takes every configuration that is pushed, enforces it, and reports it loaded."""

    def __init__(self, core: Core, sandbox_id: str) -> None:
        self.core, self.id = core, sandbox_id
        self.enforced = ""
        self._sessions = Sessions(core.bus, core.snapshots)

    async def run(self, connected: asyncio.Event | None = None) -> None:
        session = self._sessions.open(self.id, "instance", push=True)
        with self._sessions.changes(session) as changes:
            update = await self._sessions.update(session)
            session.sent(update)
            await self._load(session, update)
            follow = self._sessions.follow(session, changes, update.sandbox_config.config_revision)
            following = asyncio.create_task(follow)
            if connected is not None:
                connected.set()
            try:
                async for message in session.outgoing(heartbeat=1e9):
                    await self._load(session, message.config_update)
            finally:
                following.cancel()

    async def _load(self, session: Session, update: openshell_pb2.ConfigUpdate) -> None:
        self.enforced = update.sandbox_config.policy_hash
        version = update.sandbox_config.version
        loaded = openshell_pb2.POLICY_STATUS_LOADED
        await self.core.store.run(lambda tx: self.core.revisions.report(tx, self.id, version, loaded, ""))
        session.answered(update.update_id)


async def prepare(core: Core) -> tuple[str, list[str]]:
    sandbox_id = await core.sandbox(policy=policy())
    core.inbox.leases._now = lambda: core.clock() / 1000
    ids = [(await core.propose(sandbox_id, rest(f"{n % 2}.example.com", f"PUT /{n}")))[0] for n in range(CHUNKS)]
    return sandbox_id, ids


async def turn(core: Core, sandbox_id: str, ids: list[str], dice: random.Random, *, sets: bool) -> str:
    """One person, or time, does one thing. Being refused is fine; being half done is not."""
    chunk_id, who = dice.choice(ids), dice.choice(PEOPLE)
    what = dice.randrange(9 if sets else 8)
    try:
        match what:
            case 0 | 1 | 2:
                listed = (await core.inbox.list(sandbox_id, bodies=False)).chunks
                token = next(one.review_token for one in listed if one.id == chunk_id)
                lease = 1000 * dice.randrange(1, 9) if what == 2 else None
                await core.inbox.approve(sandbox_id, chunk_id, token, who, lease_ms=lease)
            case 3:
                await core.inbox.reject(sandbox_id, chunk_id, f"no, says {who}", who)
            case 4:
                await core.inbox.undo(sandbox_id, chunk_id, who)
            case 5 | 6:
                core.clock.now += dice.randrange(5000)
                await core.inbox.leases._work(core.inbox.refresh)
            case 7:
                listed = (await core.inbox.list(sandbox_id, "pending", bodies=False)).chunks
                pairs = [(one.id, one.review_token) for one in listed]
                chosen = dice.sample(pairs, (len(pairs) + 1) // 2)
                await core.inbox.approve_all(sandbox_id, chosen, who, include_flagged=True)
            case 8:
                rules = [raw(f"set{dice.randrange(3)}.example.org")]
                if dice.random() < 0.5:
                    rules.append(rest("0.example.com", "PUT /0", name="kept"))
                changed = policy(*rules)
                await core.store.run(
                    lambda tx: core.revisions.append(tx, sandbox_id, changed, origin="set", author=who)
                )
                await core.inbox.refresh(sandbox_id)
    except GatewayError as error:
        if error.code not in _REFUSALS:
            raise
        return f"{what} refused: {error.reason or error.code}"
    return f"{what} done"


def race(*, sets: bool) -> Story:
    async def story(core: Core, dice: random.Random) -> Any:
        sandbox_id, ids = await prepare(core)
        sandbox = Sandbox(core, sandbox_id)
        connected = asyncio.Event()
        supervising = asyncio.create_task(sandbox.run(connected))
        await connected.wait()
        trace: list[str] = []

        async def person(number: int) -> None:
            own = random.Random(dice.random())
            for _ in range(STEPS):
                outcome = await turn(core, sandbox_id, ids, own, sets=sets)
                trace.append(f"{number}: {outcome}")

        await asyncio.gather(*(person(number) for number in range(TURNS)))
        await settle(core, sandbox_id)
        supervising.cancel()
        await check(core, sandbox_id, sandbox.enforced, sets=sets)
        listed = (await core.inbox.list(sandbox_id, bodies=False)).chunks
        return trace, [one.status for one in listed], (await core.revisions.status(sandbox_id))[0].hash

    return story


async def settle(core: Core, sandbox_id: str) -> None:
    """Everything that is over has ended, and every push has arrived."""
    await core.inbox.leases._work(core.inbox.refresh)
    await core.inbox.refresh(sandbox_id)
    for _ in range(500):
        await asyncio.sleep(0)


async def check(core: Core, sandbox_id: str, enforced: str, *, sets: bool) -> None:
    base = await core.base(sandbox_id)
    assert enforced == hash_of(effective(None, base, {}))
    found = await core.store.run(lambda tx: select(tx, draft_chunks.c.sandbox_id == sandbox_id))
    history = await core.inbox.history(sandbox_id)
    last = {event.chunk_id: event.type for event in history}
    for chunk in found:
        assert last[chunk.id] in _FINAL_EVENTS[chunk.status], (chunk.status, last[chunk.id])
        assert chunk.expires_ms is None or chunk.expires_ms > core.clock()
        if not sets:
            assert covers(base, chunk.proposed) == (chunk.status == "approved")
        if chunk.status == "pending" and last[chunk.id] != "undone":  # what was taken back waits, covered or not
            assert not covers(base, chunk.proposed)
    revisions = list(reversed(await core.revisions.list(sandbox_id, 10_000)))
    assert [one.version for one in revisions] == list(range(1, len(revisions) + 1))
    assert revisions[-1].hash == hash_of(base)
    assert revisions[-1].status == "loaded"
    by_id = {chunk.id: chunk for chunk in found}
    made: dict[int, list[Chunk]] = {}
    for event in history:
        if event.type == "approved":
            made.setdefault(event.policy_version, []).append(by_id[event.chunk_id])
            assert revisions[event.policy_version - 1].author == event.actor
        if event.type in ("undone", "expired") or (event.type == "rejected" and event.after_hash):
            revision = revisions[event.policy_version - 1]
            assert revision.author == event.actor
            assert not covers(revision.policy, by_id[event.chunk_id].proposed) or sets
    for before, after in itertools.pairwise(revisions):
        assert explained(before, after, made.get(after.version, [])), (after.origin, after.version)


def explained(before: Revision, after: Revision, approved: list[Chunk]) -> bool:
    """Is `after` what the decision that made it says: the rules approved on top of `before`, or fewer, or a new one?"""
    if after.origin != "approve":
        return after.origin in ("undo", "reject", "lease", "set")
    merged: Policy = before.policy
    for chunk in approved:
        merged = apply(merged, [AddRule(chunk.rule_name, chunk.proposed)]).policy
    return bool(approved) and hash_of(merged) == after.hash


@pytest.mark.parametrize("sets", [False, True], ids=["decisions", "decisions-and-policy-sets"])
def test_every_order_of_decisions_leaves_one_story(tmp_path: Path, sets: bool) -> None:
    for seed in range(4):
        play(seed, tmp_path / f"{seed}.db", race(sets=sets))


def test_a_seed_is_a_replay(tmp_path: Path) -> None:
    one, two, other = (play(seed, tmp_path / f"{number}.db", race(sets=True)) for number, seed in enumerate((7, 7, 8)))
    assert one is not None
    assert one == two
    assert one != other


# ---- crashes ---------------------------------------------------------------------------------------------------------


async def after_crash(core: Core, dice: random.Random) -> None:
    """A new gateway over what is on the disk, and the supervisor that reconnects."""
    ids = await core.store.run(lambda tx: tx.scalars(sa.select(draft_chunks.c.sandbox_id).limit(1)).all())
    if not ids:
        return  # it was too early for anything to be there
    core.inbox.leases._now = lambda: core.clock() / 1000
    core.clock.now += 60_000
    await settle(core, ids[0])
    sandbox, connected = Sandbox(core, ids[0]), asyncio.Event()
    supervising = asyncio.create_task(sandbox.run(connected))
    await connected.wait()
    await settle(core, ids[0])
    await check(core, ids[0], sandbox.enforced, sets=True)
    supervising.cancel()


@pytest.mark.parametrize("kind", ["steps", "statements"])
def test_a_crash_at_any_moment_leaves_one_story(tmp_path: Path, kind: str) -> None:
    """Between two steps of any task, or in the middle of a transaction: what was committed is there, whole."""
    assert crashes(tmp_path, kind, range(6)) >= 3


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_hundreds_of_orders_and_crashes(tmp_path: Path) -> None:
    for seed in range(100, 300):
        play(seed, tmp_path / f"{seed}.db", race(sets=bool(seed % 2)))
    assert crashes(tmp_path, "steps", range(1000, 1200)) + crashes(tmp_path, "statements", range(2000, 2200)) > 250


def crashes(directory: Path, kind: str, seeds: range) -> int:
    """How many of the stories that were to crash did, before they were told to their end."""
    crashed = 0
    for seed in seeds:
        path, moment = directory / f"{kind}-{seed}.db", random.Random(seed).randrange(20, 1200)
        crashed += play(seed, path, race(sets=True), **{kind: moment}) is None
        play(seed, path, after_crash)
    return crashed
