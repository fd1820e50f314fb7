"""Several gateways on one PostgreSQL behind one address: a supervisor here, a reviewer there, either of them killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

from .core import message, rest
from .replica import Balancer, Replica, Supervisor, retried
from .serving import DEFAULT, Client, failure

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


class Town:
    """Two gateways, the address before them, and one sandbox of the first."""

    def __init__(self, a: Replica, b: Replica, address: Balancer, supervisor: Supervisor, sandbox_id: str) -> None:
        self.a, self.b, self.address, self.supervisor, self.sandbox_id = a, b, address, supervisor, sandbox_id
        self.numbers = iter(range(1000))

    async def propose(self) -> str:
        """The sandbox asks, wherever its calls are answered now. Returns the chunk's id."""
        rule = rest(f"h{next(self.numbers)}.example.com", "GET /x")
        request = openshell_pb2.SubmitPolicyAnalysisRequest(
            workspace_scope=DEFAULT, name="box", analysis_mode="agent_authored", proposed_chunks=[message(rule)]
        )
        response = await retried(lambda: self.supervisor.client.SubmitPolicyAnalysis(request))
        (chunk_id,) = response.accepted_chunk_ids
        return str(chunk_id)

    async def approve(self, client: Client, chunk_id: str) -> int:
        """Look, then approve. Returns the version of the policy."""
        draft = await client.GetDraftPolicy(openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox="box"))
        token = next(chunk.review_token for chunk in draft.chunks if chunk.id == chunk_id)
        response = await client.ApproveDraftChunk(
            openshell_pb2.ApproveDraftChunkRequest(
                workspace_scope=DEFAULT, sandbox="box", chunk_id=chunk_id, review_token=token
            )
        )
        return int(response.policy_version)

    async def phase(self, client: Client, wanted: int) -> None:
        """Returns once `client`'s gateway says so."""
        async with asyncio.timeout(120):
            while True:
                got = await client.GetSandbox(
                    openshell_pb2.GetSandboxRequest(workspace_scope=DEFAULT, name="box"), timeout=30
                )
                if got.sandbox.status.phase == wanted:
                    return
                await asyncio.sleep(0.05)


READY = openshell_pb2.SANDBOX_PHASE_READY


@pytest.fixture
async def town(postgres: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(Balancer())
        variables = {"OPENSHELL_DB_URL": postgres, "OPENSHELL_LOCAL_TLS_DIR": str(tmp_path / "tls")}
        toml = f'[openshell]\nversion = 2\n[openshell.gateway]\nadvertise_address = "127.0.0.1:{address.port}"\n'
        a, b = (Replica(tmp_path / name, variables, toml) for name in "ab")
        for replica in (a, b):
            stack.push_async_callback(replica.kill)
            await replica.start()
        address.ports = [b.port, a.port]
        client = a.client()
        request = openshell_pb2.CreateSandboxRequest(
            workspace_scope=DEFAULT, name="box", spec=openshell_pb2.SandboxSpec()
        )
        creating = asyncio.ensure_future(client.CreateSandbox(request))
        supervisor = Supervisor(await a.workload())
        stack.push_async_callback(supervisor.close)
        supervisor.connect()  # by the one address: at gateway B
        created = await creating
        assert created.sandbox.status.phase == READY
        try:
            yield Town(a, b, address, supervisor, created.sandbox.metadata.id)
        finally:
            await client.channel.close()


async def test_a_decision_at_one_gateway_reaches_a_sandbox_at_the_other(town: Town) -> None:
    there, here = town.a.client(), town.b.client()
    await town.phase(there, READY)
    await town.phase(here, READY)
    inbox = there.WatchInbox(pyopenshell_pb2.WatchInboxRequest(workspace_scope=DEFAULT))
    events = aiter(inbox)
    while not (await asyncio.wait_for(anext(events), 120)).synced:
        pass
    waiting = town.supervisor.client.WatchProposals(pyopenshell_pb2.WatchProposalsRequest())
    await waiting.initial_metadata()
    chunk_id = await town.propose()
    # Seen at A although it was said at B, approved at A, heard at B: with the policy, and by whoever waits for it.
    assert (await asyncio.wait_for(anext(events), 120)).chunk.id == chunk_id
    version = await town.approve(there, chunk_id)
    await town.supervisor.until(version)
    states = aiter(waiting)
    while (state := await asyncio.wait_for(anext(states), 120)).status != "approved":
        assert state.chunk_id == chunk_id
    assert (state.chunk_id, state.policy_version) == (chunk_id, version)
    inbox.cancel()
    waiting.cancel()
    # What B has no host for, it says.
    stop = openshell_pb2.StopSandboxRequest(workspace_scope=DEFAULT, name="box")
    code, text = await failure(here.StopSandbox(stop))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "runs on the host of another gateway" in text
    # The owner ends it, and with it the session at the other one; its token is void there at once.
    connections = town.supervisor.connections
    await there.StopSandbox(stop)
    await town.phase(here, openshell_pb2.SANDBOX_PHASE_STOPPED)
    request = openshell_pb2.SubmitPolicyAnalysisRequest(workspace_scope=DEFAULT, name="box")
    code, _ = await failure(town.supervisor.client.SubmitPolicyAnalysis(request))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    async with asyncio.timeout(120):
        while town.supervisor.connections == connections:
            await asyncio.sleep(0.02)
    for client in (there, here):
        await client.channel.close()


async def test_either_gateway_may_be_killed_at_any_time(town: Town) -> None:
    acknowledged: dict[str, int] = {}
    for gateway, other in ((town.b, town.a), (town.a, town.b)):
        survivor = other.client()
        chunk_id = await town.propose()
        dying = gateway.client()
        deciding = asyncio.ensure_future(town.approve(dying, chunk_id))
        await asyncio.sleep(0)
        await gateway.kill()
        # Whether that decision was taken or not: it is whole, and the other gateway goes on.
        with contextlib.suppress(grpc.aio.AioRpcError, StopIteration):
            acknowledged[chunk_id] = await deciding
        await dying.channel.close()
        town.address.ports = [other.port]
        following = await town.propose()
        acknowledged[following] = await town.approve(survivor, following)
        await town.supervisor.until(acknowledged[following])
        await gateway.start()
        town.address.ports = [gateway.port, other.port]
        await survivor.channel.close()
    for replica in (town.a, town.b):
        client = replica.client()
        await town.phase(client, READY)
        draft = await client.GetDraftPolicy(openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox="box"))
        status = await client.GetSandboxPolicyStatus(
            openshell_pb2.GetSandboxPolicyStatusRequest(workspace_scope=DEFAULT, sandbox="box")
        )
        granted = {rule.endpoints[0].host for rule in policy_map.policy_from_proto(status.revision.policy).rules}
        for chunk in draft.chunks:
            assert (chunk.status == "approved") == (chunk.proposed_rule.endpoints[0].host in granted)
            assert chunk.status == "approved" or chunk.id not in acknowledged
        assert len(draft.chunks) == 4
        await client.channel.close()
