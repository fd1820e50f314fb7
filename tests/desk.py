"""A reviewer's desk: a real gateway with workloads of the test, the real client, and sandboxes that ask for things.

For every surface on which a person decides: what is proposed, judged, approved and pushed is the gateway's own doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pyopenshell.client import Gateway
from pyopenshell.client.live import Live
from pyopenshell.client.registration import Places, resolve
from pyopenshell.client.values import Chunk
from pyopenshell.gateway.configuration import Paths
from pyopenshell.policy.model import Rule
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.core import message, policy, rest
from tests.gateway.serving import Served, environ, serving

NOTES = "/repos/acme/notes/contents/"


@dataclasses.dataclass(slots=True)
class Desk:
    """`client` is a person's; `served` is the other side."""

    served: Served
    client: Gateway
    directory: Path

    async def sandbox(self, name: str = "box") -> str:
        """A running sandbox that may read api.github.com. Returns its id."""
        spec = openshell_pb2.SandboxSpec()
        read = rest("api.github.com", "GET /**", name="github_api_readonly")
        spec.policy.CopyFrom(policy_map.policy_to_proto(policy(read)))
        made = await self.served.create(name=name, spec=spec)
        sandbox_id: str = made.metadata.id
        return sandbox_id

    async def propose(
        self, sandbox_id: str, rule: Rule, *, rationale: str = "because", mode: str = "agent_authored", hits: int = 1
    ) -> str:
        """As the sandbox's supervisor would send it. Returns the chunk's id."""
        request = openshell_pb2.SubmitPolicyAnalysisRequest(
            analysis_mode=mode, proposed_chunks=[message(rule, hits, rationale)]
        )
        answer = await self.served.gateway.inbox.submit(sandbox_id, request)
        assert not answer.rejection_reasons, answer.rejection_reasons
        return answer.accepted_chunk_ids[0]

    async def put_notes(self, sandbox_id: str, path: str = NOTES + "**", rationale: str = "Save my notes") -> str:
        return await self.propose(
            sandbox_id, rest("api.github.com", f"PUT {path}", name="save_notes"), rationale=rationale
        )

    async def refuse(self, sandbox_id: str, method: str, path: str, *, host: str = "api.github.com") -> None:
        """A request that an inspected endpoint refused."""
        denial = openshell_pb2.DenialSummary(
            host=host,
            port=443,
            binary="/usr/bin/curl",
            denial_stage="l7",
            deny_reason=f"[policy:github_api_readonly] {method} {path} not permitted by policy",
        )
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        denial.first_seen_time.seconds = denial.last_seen_time.seconds = now
        denial.l7_request_samples.add(method=method, path=path, count=1)
        await self.served.gateway.inbox.submit(
            sandbox_id, openshell_pb2.SubmitPolicyAnalysisRequest(summaries=[denial])
        )

    async def chunk(self, sandbox: str, chunk_id: str) -> Chunk | None:
        return next((one for one in (await self.client.draft(sandbox)).chunks if one.id == chunk_id), None)

    async def status(self, sandbox: str, chunk_id: str) -> str:
        chunk = await self.chunk(sandbox, chunk_id)
        return chunk.status if chunk else "gone"


@contextlib.asynccontextmanager
async def desk(directory: Path) -> AsyncIterator[Desk]:
    async with serving(directory) as served, await open_client(directory) as client:
        yield Desk(served, client, directory)


async def open_client(directory: Path) -> Gateway:
    return await Gateway.open(resolve(Places.of(environ(directory))))


async def until(live: Live, holds: Callable[[], object], seconds: float = 10) -> None:
    """The picture changes until `holds`; the deadline only ends a broken test."""
    async with asyncio.timeout(seconds):
        async for _ in live.changes():
            if holds():
                return


def state_of(directory: Path) -> Path:
    return Paths.of(environ(directory)).state
