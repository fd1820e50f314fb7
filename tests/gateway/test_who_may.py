"""Every method of every service, by its descriptor: who may call it, and what a caller can say about somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pyopenshell.gateway.configuration import Rate
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.rates import Rates
from pyopenshell.gateway.store.schema import metadata
from pyopenshell.wire.gen import openshell_pb2
from pyopenshell.wire.service import Method, methods

from .serving import DEFAULT, Client, Served, channel, failure, sandbox_channel, serving

CODE = grpc.StatusCode
READS_EVERYTHING = True  # the tests compare whole tables (conftest)
_NAMES = frozenset({"sandbox", "name", "sandbox_id", "sandbox_name"})


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    text = "[openshell]\nversion = 2\n[openshell.gateway.rate_limit]\nper_second = 0\n"
    async with serving(tmp_path, text=text) as served:
        mine, other = await served.create(name="mine"), await served.create(name="other")
        made = Town(served, mine, other)
        yield made
        await made.close()


class Town:
    """A gateway with two sandboxes, and clients of every kind of caller."""

    def __init__(self, served: Served, mine: openshell_pb2.Sandbox, other: openshell_pb2.Sandbox) -> None:
        self.served, self.mine, self.other = served, mine, other
        access = served.supervisor(mine).workload.access
        foreign = served.supervisor(other).workload.access
        self.sandbox = Client(sandbox_channel(access), access.token)
        self.tokenless = Client(sandbox_channel(access))
        # Its own certificate with another's token: two halves of two identities.
        self.mixed = Client(sandbox_channel(access), foreign.token)
        bundle = served.gateway.bundle
        peer = bundle.authority.user("peer")
        self.dressed_up = Client(
            channel(f"127.0.0.1:{served.gateway.port}", bundle.authority.pem, peer.certificate, peer.key), access.token
        )
        self.person = served.client

    async def close(self) -> None:
        for client in (self.sandbox, self.tokenless, self.mixed, self.dressed_up):
            await client.channel.close()

    async def rows_of_other(self) -> dict[str, list[tuple[object, ...]]]:
        sandbox_id = self.other.metadata.id

        def read(tx: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
            found = {}
            for table in metadata.sorted_tables:
                column = next((table.c[name] for name in ("sandbox_id", "scope", "id") if name in table.c), None)
                if column is not None:
                    rows = tx.execute(sa.select(table).where(column == sandbox_id))
                    found[table.name] = sorted((tuple(row) for row in rows), key=repr)
            return found

        return await self.served.gateway.store.run(read)


def filled(method: Method, name: str, sandbox_id: str) -> Message:
    """A request that means the named sandbox wherever a field can say so."""
    request: Any = method.request()
    for field in method.request.DESCRIPTOR.fields:
        if field.name == "workspace_scope":
            request.workspace_scope.CopyFrom(DEFAULT)
        elif field.name in _NAMES and field.type == FieldDescriptor.TYPE_STRING:
            setattr(request, field.name, sandbox_id if field.name == "sandbox_id" else name)
    match method.name:
        case "ConnectSupervisor":
            request.hello.sandbox_id, request.hello.instance_id = sandbox_id, "x"
        case "UpdateConfig":
            request.policy.version = 1
        case "ReportPolicyStatus":
            request.version, request.status = 1, openshell_pb2.POLICY_STATUS_FAILED
        case "PushSandboxLogs":
            request.logs.add(message="not mine", level="INFO")
        case "SubmitPolicyAnalysis":
            request.proposed_chunks.add(rule_name="r")
    return request  # type: ignore[no-any-return]


async def outcome(client: Client, method: Method, request: Message) -> tuple[grpc.StatusCode, str]:
    stub = getattr(client, method.name)

    async def one() -> AsyncIterator[Message]:
        yield request

    call = stub(one() if method.client_streaming else request, timeout=60)
    try:
        return await failure(call)
    except AssertionError:
        return CODE.OK, ""


async def test_a_sandbox_calls_what_is_a_sandboxs_and_nothing_else(town: Town) -> None:
    for method in methods().values():
        if method.auth_mode not in ("sandbox", "dual", "unauthenticated"):
            code, text = await outcome(town.sandbox, method, filled(method, "mine", town.mine.metadata.id))
            assert code is CODE.PERMISSION_DENIED, (method.name, code, text)


async def test_a_sandbox_cannot_mean_another(town: Town) -> None:
    other = town.other.metadata.id
    before, about_others = await town.rows_of_other(), 0
    for method in methods().values():
        if method.auth_mode not in ("sandbox", "dual"):
            continue
        for name in ("other", other):
            request = filled(method, name, other)
            if not any(field.name in {*_NAMES, "hello"} for field, _ in request.ListFields()):
                continue  # such a method can only be about the caller
            about_others += 1
            code, text = await outcome(town.sandbox, method, request)
            assert code in (CODE.PERMISSION_DENIED, CODE.NOT_FOUND, CODE.UNIMPLEMENTED), (method.name, code, text)
    assert about_others >= 20
    await town.served.gateway.logs.flushed()
    assert await town.rows_of_other() == before


async def test_half_an_identity_is_none(town: Town) -> None:
    for method in methods().values():
        if method.auth_mode == "unauthenticated":
            continue
        request = filled(method, "mine", town.mine.metadata.id)
        for client in (town.tokenless, town.mixed, town.dressed_up):
            code, text = await outcome(client, method, request)
            assert code is CODE.UNAUTHENTICATED, (method.name, code, text)


async def test_a_person_is_no_sandbox_no_peer_and_no_operator(town: Town) -> None:
    for method in methods().values():
        if method.auth_mode in ("sandbox", "peer", "operator"):
            code, text = await outcome(town.person, method, filled(method, "mine", town.mine.metadata.id))
            assert code is CODE.PERMISSION_DENIED, (method.name, code, text)


# ---- how often -------------------------------------------------------------------------------------------------------


def test_a_flood_costs_its_author_alone() -> None:
    now = 0.0
    rates = Rates(Rate(per_second=10, burst=3), lambda: now)
    for _ in range(3):
        rates.take("a")
    with pytest.raises(GatewayError) as caught:
        rates.take("a")
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMIT")
    assert caught.value.retry_after == pytest.approx(0.1)
    rates.take("b")
    now = 0.1
    rates.take("a")
    with pytest.raises(GatewayError):
        rates.take("a")
    Rates(Rate(per_second=0, burst=1)).take("a")


def test_many_names_do_not_fill_the_memory() -> None:
    rates = Rates(Rate(burst=2), lambda: 0.0)
    for number in range(20_000):
        rates.take(str(number))
    assert len(rates._buckets) <= 8192


async def test_the_limit_is_told_on_the_wire(tmp_path: Path) -> None:
    text = "[openshell]\nversion = 2\n[openshell.gateway.rate_limit]\nper_second = 1\nburst = 5\n"
    async with serving(tmp_path, text=text) as served:
        request = openshell_pb2.ListSandboxesRequest(workspace_scope=DEFAULT)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await asyncio.gather(*(served.client.ListSandboxes(request) for _ in range(5)))
        code, message = await failure(served.client.ListSandboxes(request))
        assert (code, message) == (CODE.RESOURCE_EXHAUSTED, "gRPC rate limit exceeded")
