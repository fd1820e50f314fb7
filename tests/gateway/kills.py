"""Kill what decides at random moments, again and again, and look whether what it acknowledged is there, whole, once.

    python -m tests.gateway.kills DATABASE_URL ROUNDS SEED

Each round is a process that opens the database, runs several people and agents at once, and says what was acknowledged
the moment it was; it is killed with SIGKILL after a random number of acknowledgements and a random part of a moment.
Then another process opens the same database and compares. This process has no threads: it only forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import inbox as inbox_module
from pyopenshell.gateway.clock import system_clock
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store.schema import log_lines, policies
from pyopenshell.gateway.submission import Limits
from pyopenshell.policy.canonical import policy_hash

from . import core as core_module
from .agreement import agree
from .core import Core, opened, policy, rest

_PEOPLE: Final = 4
_BOXES: Final = 2
_DEADLINE: Final = 120.0
"""Seconds until a round that says nothing is given up as stuck."""


async def live(say: Any, seed: int, round_number: int) -> None:
    """Several at once, until killed."""
    async with opened(Path("unused"), Limits(burst=10**9, per_minute=10**9, pending_authored=10**6)) as core:
        core.clock.now = system_clock()
        boxes = [await core.sandbox(f"r{round_number}-{number}", policy()) for number in range(_BOXES)]
        say({"boxes": boxes})
        numbers = itertools.count()
        known: dict[str, list[str]] = {box: [] for box in boxes}

        async def person(dice: random.Random) -> None:
            while True:
                box = dice.choice(boxes)
                core.clock.now += 1
                with contextlib.suppress(GatewayError):
                    await act(core, box, known[box], dice, numbers, say)

        await asyncio.gather(*(person(random.Random(f"{seed}.{round_number}.{one}")) for one in range(_PEOPLE)))


async def act(
    core: Core, box: str, known: list[str], dice: random.Random, numbers: itertools.count[int], say: Any
) -> None:
    """One thing that somebody does, and its acknowledgement."""
    kind = dice.choice(("propose", "propose", "approve", "approve", "approve", "reject", "undo", "lease", "observe"))
    actor = f"mtls:CN=p{dice.randrange(3)}"
    if kind in ("propose", "observe") or not known:
        host = f"h{next(numbers)}.example.com"
        rule = rest(host, "GET /x")
        mode = "agent_authored" if kind != "observe" else "mechanistic"
        (chunk_id,) = await core.propose(box, rule, mode=mode)
        known.append(chunk_id)
        say({"box": box, "chunk": chunk_id, "did": "proposed"})
        return
    chunk_id = dice.choice(known)
    if kind in ("approve", "lease"):
        token = (await core.chunk(box, chunk_id)).review_token
        lease = 3_600_000 if kind == "lease" else None
        applied = await core.inbox.approve(box, chunk_id, token, actor, lease_ms=lease)
        if kind == "approve":
            say({"box": box, "chunk": chunk_id, "did": "approved", "version": applied.version, "hash": applied.hash})
    elif kind == "reject":
        await core.inbox.reject(box, chunk_id, "no", actor)
        say({"box": box, "chunk": chunk_id, "did": "rejected"})
    else:
        await core.inbox.undo(box, chunk_id, actor)
        say({"box": box, "chunk": chunk_id, "did": "undone"})


async def check(boxes: list[str], acknowledged: list[dict[str, Any]]) -> None:
    """Raises AssertionError."""
    async with opened(Path("unused")) as core:
        for box in boxes:
            await agree(core, box)
            history = await core.inbox.history(box)
            for ack in (one for one in acknowledged if one["box"] == box):
                found = [event for event in history if (event.chunk_id, event.type) == (ack["chunk"], ack["did"])]
                if "version" in ack:
                    found = [event for event in found if event.policy_version == ack["version"]]
                    assert len(found) == 1, (ack, found)
                    revision, _ = await core.revisions.status(box, ack["version"])
                    assert revision.hash == ack["hash"], ack
                assert found, ack
            rows = await core.store.run(
                lambda tx, box=box: tx.execute(  # type: ignore[misc]
                    sa.select(policies).where(policies.c.scope == box).order_by(policies.c.version)
                ).all()
            )
            assert [row.version for row in rows] == list(range(1, len(rows) + 1))
            approvals = sum(event.type == "approved" for event in history)
            lines = await core.store.run(
                lambda tx, box=box: tx.scalars(  # type: ignore[misc]
                    sa.select(log_lines.c.message).where(log_lines.c.sandbox_id == box)
                ).all()
            )
            assert sum("CONFIG:APPROVED" in line for line in lines) == approvals
            newest, _ = await core.revisions.status(box)
            assert newest.hash == policy_hash(await core.base(box))
            # And it goes on from there.
            (chunk_id,) = await core.propose(box, rest("after.example.com", "GET /x"))
            await core.approve(box, chunk_id)


def one_round(dice: random.Random, seed: int, number: int) -> tuple[int, int]:
    """Returns how much was acknowledged, and the exit code of the comparison."""
    reader, writer = os.pipe()
    victim = os.fork()
    if victim == 0:
        os.close(reader)
        _run(live(lambda said: os.write(writer, json.dumps(said).encode() + b"\n"), seed, number))
    os.close(writer)
    said: list[dict[str, Any]] = []
    text = b""
    enough, moment = dice.randrange(1, 40), dice.random() * 0.03
    with os.fdopen(reader, "rb", buffering=0) as lines:
        while len(said) < enough:
            if not select.select([lines], [], [], _DEADLINE)[0] or not (part := lines.read(65536)):
                break
            *whole, text = (text + part).split(b"\n")
            said += [json.loads(line) for line in whole]
        time.sleep(moment)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        while part := lines.read(65536):
            text += part
    said += [json.loads(line) for line in text.split(b"\n")[:-1]]
    if not said or "boxes" not in said[0]:
        return 0, 0 if enough else 1
    checker = os.fork()
    if checker == 0:
        _run(check(said[0]["boxes"], said[1:]))
    return len(said) - 1, os.waitstatus_to_exitcode(os.waitpid(checker, 0)[1])


def _run(work: Any) -> None:
    code = 1
    try:
        asyncio.run(work)
        code = 0
    except BaseException:  # noqa: BLE001 - the exit code tells, and the reason is printed
        sys.stderr.write("".join(traceback.format_exc().splitlines(keepends=True)[-3:]))
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(url: str, rounds: int, seed: int) -> int:
    core_module.url_of = lambda path: url
    inbox_module.REFRESH_MILLISECONDS = 50  # type: ignore[misc]
    dice = random.Random(seed)
    acknowledged, bad = 0, 0
    for number in range(rounds):
        count, code = one_round(dice, seed, number)
        acknowledged += count
        if code:
            bad += 1
            print(f"round {number} of seed {seed}: not whole", flush=True)
    print(json.dumps({"rounds": rounds, "acknowledged": acknowledged, "bad": bad}), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
