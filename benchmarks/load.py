"""A gateway under the load of a team: many connected sandboxes, a flood of proposals, single approvals.

    python -m benchmarks.load [--sandboxes N] [--seconds S] [--database URL]

The gateway is a process of its own (real mutual TLS and gRPC, tests/gateway/replica.py); this process plays all
supervisors with light clients (grpclib, as real ones do) and the people. Budgets (issue 6): 1,000 connected; 500
proposals/s sustained on SQLite; one approval reaches its sandbox p95 <= 150 ms and wakes nobody else; 100,000 stored
chunks, page of 100 <= 20 ms; idle CPU near 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import ssl
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod
from tests.gateway.core import message, policy, rest
from tests.gateway.replica import Replica
from tests.gateway.serving import DEFAULT, Client

from pyopenshell.gateway import certificates
from pyopenshell.gateway.chunks import rule_bytes
from pyopenshell.gateway.clock import system_clock
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks, sandboxes
from pyopenshell.gateway.tokens import Tokens
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2

clock = time.perf_counter
_CONNECTING = 16
_STORED = 100_000
_TOML = "[openshell]\nversion = 2\n[openshell.gateway.rate_limit]\nper_second = 0\n"
_SERVICE = "/openshell.v1.OpenShell/"


class Box:
    """One supervisor's end: its stream, what reached it and when."""

    def __init__(self, number: int, context: ssl.SSLContext) -> None:
        self.number, self.id, self.instance = number, str(uuid.uuid4()), str(uuid.uuid4())
        self.name = f"box-{number}"
        self.context, self.token = context, ""
        self.updates: asyncio.Queue[tuple[float, int]] = asyncio.Queue()
        self.woken = 0
        self.ready = asyncio.Event()
        self._channel: Channel | None = None

    @property
    def metadata(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def run(self, port: int) -> None:
        self._channel = Channel("127.0.0.1", port, ssl=self.context)
        method: Any = StreamStreamMethod(
            self._channel, f"{_SERVICE}ConnectSupervisor", openshell_pb2.SupervisorMessage, openshell_pb2.GatewayMessage
        )
        hello = openshell_pb2.SupervisorHello(sandbox_id=self.id, instance_id=self.instance, supports_config_push=True)
        async with method.open(metadata=self.metadata) as stream:
            await stream.send_message(openshell_pb2.SupervisorMessage(hello=hello))
            while (said := await stream.recv_message()) is not None:
                update = None
                if said.HasField("session_accepted"):
                    update = said.session_accepted.bootstrap
                    self.ready.set()
                elif said.HasField("config_update"):
                    update = said.config_update
                    self.woken += 1
                    self.updates.put_nowait((clock(), update.sandbox_config.version))
                if update is not None:
                    load = openshell_pb2.PolicyLoadResult(version=update.sandbox_config.version, loaded=True)
                    result = openshell_pb2.ConfigUpdateResult(
                        update_id=update.update_id, outcome=openshell_pb2.CONFIG_APPLY_OUTCOME_APPLIED, policy_load=load
                    )
                    await stream.send_message(openshell_pb2.SupervisorMessage(config_update_result=result))

    async def propose(self, *hosts: str) -> list[str]:
        assert self._channel is not None
        method: Any = UnaryUnaryMethod(
            self._channel,
            f"{_SERVICE}SubmitPolicyAnalysis",
            openshell_pb2.SubmitPolicyAnalysisRequest,
            openshell_pb2.SubmitPolicyAnalysisResponse,
        )
        request = openshell_pb2.SubmitPolicyAnalysisRequest(
            workspace_scope=DEFAULT, name=self.name, analysis_mode="agent_authored",
            proposed_chunks=[message(rest(host, "GET /x", f"POST /{host}/*")) for host in hosts],
        )  # fmt: skip
        answer = await method(request, metadata=self.metadata)
        return list(answer.accepted_chunk_ids)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


async def prepared(directory: Path, url: str, count: int) -> list[Box]:
    """A database with as many sandboxes, and for each what its supervisor needs."""
    tls = directory / "state" / "openshell" / "tls"
    bundle = certificates.load_or_create(tls, ("localhost", "127.0.0.1", "::1"))
    tokens = Tokens.load_or_create(tls / "jwt", "openshell", 86400)
    boxes = []
    for number in range(count):
        box = Box(number, ssl.create_default_context(cadata=bundle.authority.pem.decode()))
        pair = bundle.authority.sandbox(box.id)
        pem = directory / "pem"
        pem.write_bytes(pair.certificate + pair.key)
        box.context.load_cert_chain(pem)
        box.context.set_alpn_protocols(["h2"])
        box.context.check_hostname = False
        box.token = tokens.issue(box.id, 1).text
        boxes.append(box)
    spec = openshell_pb2.SandboxSpec(policy=policy_map.policy_to_proto(policy())).SerializeToString()
    store = Store(url)
    await store.open()
    rows = [
        {
            "id": box.id, "name": box.name, "workspace": "default", "phase": 1, "desired": "running", "spec": spec,
            "status": b"", "created_ms": system_clock(), "instance_id": box.instance, "token_epoch": 1,
        }
        for box in boxes
    ]  # fmt: skip
    await store.run(lambda tx: tx.execute(sandboxes.insert(), rows))
    await store.close()
    (directory / "running.json").write_text(json.dumps({box.id: box.instance for box in boxes}))
    return boxes


async def stored(url: str, boxes: list[Box]) -> None:
    """100,000 decided chunks, spread over the sandboxes, as years of work would leave them."""
    rule, now = rule_bytes(rest("old.example.com", "GET /x")), system_clock()
    store = Store(url)
    await store.open()
    for start in range(0, _STORED, 10_000):
        rows = [
            {
                "id": str(uuid.uuid4()), "sandbox_id": boxes[number % len(boxes)].id, "draft_version": 1,
                "mode": "agent_authored", "status": "rejected", "rejected_as": "person", "rule_name": "old",
                "rule": rule, "first_seen_ms": now, "last_seen_ms": now, "created_ms": now,
            }
            for number in range(start, start + 10_000)
        ]  # fmt: skip
        await store.run(lambda tx, rows=rows: tx.execute(sa.insert(draft_chunks), rows))  # type: ignore[misc]
    await store.close()


def cpu(pid: int) -> float:
    """Seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) // 1024
    return 0


def told(what: str, seconds: list[float], budget: str) -> None:
    ordered = sorted(seconds)
    p50, p95 = statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.95)] * 1000
    print(f"{what:<52} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms   n={len(ordered):<5} budget {budget}", flush=True)


async def approvals(boxes: list[Box], person: Client, rounds: int, when: str) -> None:
    times, others = [], 0
    for number in range(rounds):
        box = random.Random(number).choice(boxes)
        (chunk_id,) = await box.propose(f"{when}{number}.example.com")
        draft = await person.GetDraftPolicy(
            openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox=box.name, status_filter="pending")
        )
        token = next(chunk.review_token for chunk in draft.chunks if chunk.id == chunk_id)
        before = sum(one.woken for one in boxes)
        request = openshell_pb2.ApproveDraftChunkRequest(
            workspace_scope=DEFAULT, sandbox=box.name, chunk_id=chunk_id, review_token=token
        )
        started = clock()
        version = (await person.ApproveDraftChunk(request)).policy_version
        while (arrived := await asyncio.wait_for(box.updates.get(), 60))[1] < version:
            pass
        times.append(arrived[0] - started)
        others += sum(one.woken for one in boxes) - before - 1
    told("one approval to its sandbox", times, "p95 150 ms")
    print(f"{'sandboxes woken besides':<52} {others}", flush=True)


async def flood(boxes: list[Box], seconds: float, per_call: int, at_once: int) -> None:
    numbers: Iterator[int] = iter(range(10**9))
    accepted, until = 0, clock() + seconds
    times: list[float] = []

    async def agent(mine: list[Box]) -> None:
        nonlocal accepted
        for box in _forever(mine):
            if clock() > until:
                return
            hosts = [f"f{next(numbers)}.example.com" for _ in range(per_call)]
            started = clock()
            taken = len(await box.propose(*hosts))
            accepted += taken
            times.append(clock() - started)

    started = clock()
    await asyncio.gather(*(agent(boxes[place::at_once]) for place in range(at_once)))
    rate = accepted / (clock() - started)
    print(f"{f'proposals, {per_call} a call, {at_once} agents at once':<52} {rate:8.0f} /s   budget 500 /s", flush=True)
    told("  each call", times, "-")


def _forever(boxes: list[Box]) -> Iterator[Box]:
    while True:
        yield from boxes


async def main(count: int, seconds: float, database: str) -> None:
    with tempfile.TemporaryDirectory(prefix="openshell-load-", dir="/var/tmp") as place:
        directory = Path(place)
        url = database or f"sqlite:{directory / 'load.db'}"
        boxes = await prepared(directory, url, count)
        await stored(url, boxes)
        gateway = Replica(directory, {"OPENSHELL_DB_URL": url}, _TOML)
        began = clock()
        await gateway.start()
        print(f"{'gateway started':<52} {clock() - began:8.1f} s   {memory(gateway.pid)} MiB", flush=True)
        person = gateway.client()
        turn = asyncio.Semaphore(_CONNECTING)
        streams = []

        async def connect(box: Box) -> None:
            async with turn:
                streams.append(asyncio.create_task(box.run(gateway.port)))
                await asyncio.wait_for(box.ready.wait(), 120)

        try:
            began = clock()
            await asyncio.gather(*(connect(box) for box in boxes))
            print(
                f"{f'{count} supervisors connected':<52} {clock() - began:8.1f} s   {memory(gateway.pid)} MiB",
                flush=True,
            )
            await _measure(boxes, person, gateway, seconds)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
            for box in boxes:
                box.close()
            await person.channel.close()
            await gateway.kill()


async def _measure(boxes: list[Box], person: Client, gateway: Replica, seconds: float) -> None:
    await asyncio.sleep(5)  # what the connections caused has settled
    used, began = cpu(gateway.pid), clock()
    await asyncio.sleep(20)  # more than one heartbeat of every session
    print(f"{'gateway idle':<52} {(cpu(gateway.pid) - used) / (clock() - began) * 100:8.2f} % of a CPU", flush=True)
    times = []
    for number in range(50):
        request = openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox=boxes[number % len(boxes)].name)
        started = clock()
        answer = await person.GetDraftPolicy(request)
        times.append(clock() - started)
    told(f"page of {len(answer.chunks)} of {_STORED} stored chunks, over gRPC", times, "20 ms")
    await approvals(boxes, person, 100, "before")
    for per_call, at_once in ((1, 64), (8, 32)):
        await flood(boxes, seconds, per_call, at_once)
    await approvals(boxes, person, 30, "after")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sandboxes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--database", default="", help="another than a fresh SQLite file")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(given.sandboxes, given.seconds, given.database))
