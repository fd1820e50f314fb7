"""`request_id`: repeating a request does not repeat its effect, also after a restart and after a crash."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from pyopenshell.gateway import admissions
from pyopenshell.gateway.admissions import Admissions
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.principals import Caller
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.core import ALICE, as_sandbox, opened
from tests.gateway.serving import DEFAULT, Served, failure, serving

ID = "6c1f0d0a-58f1-4a4e-9b0a-0f3a35f0a001"


def request(name: str = "box", request_id: str = ID) -> openshell_pb2.CreateSandboxRequest:
    return openshell_pb2.CreateSandboxRequest(
        workspace_scope=DEFAULT, spec=openshell_pb2.SandboxSpec(), name=name, request_id=request_id
    )


async def call(served: Served, message: openshell_pb2.CreateSandboxRequest) -> tuple[openshell_pb2.Sandbox, bool]:
    answer = served.client.CreateSandbox(message)
    sandbox = (await answer).sandbox
    headers = dict(await answer.initial_metadata())
    return sandbox, headers.get("openshell-replayed") == "true"


async def test_the_same_request_again_is_answered_from_the_record_also_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        made, replayed = await call(served, request())
        assert not replayed
        assert await call(served, request()) == (made, True)
        assert len(served.driver.created) == 1
        assert await failure(served.client.CreateSandbox(request("other"))) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "request_id was used for another request before",
        )
    async with serving(tmp_path, served.driver) as again:
        assert (await call(again, request()))[1]
        assert len(again.driver.created) <= 2  # the sandbox that was taken up, at most; not a second one
        listed = await again.client.ListSandboxes(openshell_pb2.ListSandboxesRequest(workspace_scope=DEFAULT))
        assert [one.metadata.id for one in listed.sandboxes] == [made.metadata.id]
    await served.driver.end()


async def test_a_refused_request_may_be_made_again_under_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await call(served, request("box", str(uuid.uuid4())))
        assert (await failure(served.client.CreateSandbox(request())))[0] is grpc.StatusCode.ALREADY_EXISTS
        await served.client.DeleteSandbox(openshell_pb2.DeleteSandboxRequest(workspace_scope=DEFAULT, name="box"))
        assert not (await call(served, request()))[1]


async def test_a_client_that_hangs_up_finds_the_outcome_under_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.driver.gate.clear()
        first = asyncio.ensure_future(served.client.CreateSandbox(request()))
        await served.driver.entered.wait()
        assert await failure(served.client.CreateSandbox(request())) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "the request with this request_id is under way",
        )
        first.cancel()
        served.driver.gate.set()
        while True:
            try:
                made, replayed = await call(served, request())
                break
            except grpc.aio.AioRpcError as error:
                assert "under way" in (error.details() or "")  # noqa: PT017 - anything else fails the test
                await asyncio.sleep(0.01)
        assert (made.metadata.name, replayed, len(served.driver.created)) == ("box", True, 1)


@pytest.mark.parametrize("text", ["x", ID[:-1], "00000000-0000-0000-0000-000000000000", ID.replace("-", "") + "0000"])
async def test_an_id_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    async with serving(tmp_path) as served:
        assert await failure(served.client.CreateSandbox(request(request_id=text))) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "request_id must be a nonzero hyphenated UUID (36 characters)",
        )


async def test_a_command_runs_once_under_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.create(name="box")
        note = tmp_path / "note"
        run = openshell_pb2.ExecSandboxRequest(
            workspace_scope=DEFAULT, sandbox="box", command=["sh", "-c", f"echo x >> {note}"], request_id=ID
        )
        assert [event.exit.exit_code async for event in served.client.ExecSandbox(run)] == [0]
        status, text = await failure(served.client.ExecSandbox(run))
        assert (status, "cannot be replayed" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        assert note.read_text() == "x\n"
        missing = openshell_pb2.ExecSandboxRequest(
            workspace_scope=DEFAULT, sandbox="none", command=["true"], request_id=str(uuid.uuid4())
        )
        for _ in range(2):  # refused before it began: not used up
            assert (await failure(served.client.ExecSandbox(missing)))[0] is grpc.StatusCode.NOT_FOUND


# ---- without a server ------------------------------------------------------------------------------------------------

CREATE = Caller(ALICE.principal, "CreateWorkspace")


async def answer(name: str) -> openshell_pb2.CreateWorkspaceResponse:
    response = openshell_pb2.CreateWorkspaceResponse()
    response.workspace.metadata.name = name
    return response


def asked(request_id: str = ID) -> openshell_pb2.CreateWorkspaceRequest:
    return openshell_pb2.CreateWorkspaceRequest(name="team", request_id=request_id)


async def test_a_crash_leaves_the_outcome_uncertain_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        before = Admissions(core.store, core.clock)

        async def never() -> Any:
            await asyncio.Event().wait()

        hanging = asyncio.ensure_future(before.once(asked(), CREATE, openshell_pb2.CreateWorkspaceResponse, never))
        await asyncio.sleep(0)
        await core.store.run(lambda tx: None)
        await before.close()
        hanging.cancel()
        after = Admissions(core.store, core.clock)
        with pytest.raises(GatewayError, match="nobody here knows how the request") as caught:
            await after.once(asked(), CREATE, openshell_pb2.CreateWorkspaceResponse, lambda: answer("x"))
        assert (caught.value.reason, caught.value.retry_after) == ("REQUEST_OUTCOME_UNCERTAIN", None)
        core.clock.now += admissions.KEPT_MS
        fresh, replayed = await after.once(asked(), CREATE, openshell_pb2.CreateWorkspaceResponse, lambda: answer("y"))
        assert (fresh.workspace.metadata.name, replayed) == ("y", False)


async def test_ids_belong_to_their_caller_method_and_workspace_and_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "PER_CALLER", 20)
    async with opened(tmp_path / "a.db") as core:
        held = Admissions(core.store, core.clock)
        kind = openshell_pb2.CreateWorkspaceResponse
        assert not (await held.once(asked(), CREATE, kind, lambda: answer("a")))[1]
        elsewhere = Caller(ALICE.principal, "DeleteWorkspace")
        assert not (await held.once(asked(), elsewhere, kind, lambda: answer("b")))[1]
        for number in range(admissions.PER_CALLER - 2):
            await held.once(asked(str(uuid.UUID(int=number + 1))), CREATE, kind, lambda: answer("c"))
        with pytest.raises(GatewayError, match="are remembered for this caller") as caught:
            await held.once(asked(str(uuid.uuid4())), CREATE, kind, lambda: answer("d"))
        assert caught.value.retry_after == 60
        with pytest.raises(GatewayError, match="sandbox principals may not use request_id"):
            await held.once(asked(), as_sandbox("x"), kind, lambda: answer("e"))
