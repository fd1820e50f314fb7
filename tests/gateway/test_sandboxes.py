"""The life of sandboxes over a fake driver: phases, refusals, commands, and what a crash leaves behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pyopenshell.drivers.base import DriverError, WorkloadStatus
from pyopenshell.gateway import restarts
from pyopenshell.gateway.app import Gateway
from pyopenshell.gateway.configuration import load
from pyopenshell.policy.model import RESTRICTIVE_DEFAULT
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2, sandbox_pb2
from pyopenshell.wire.policy_map import policy_from_proto
from tests.gateway.serving import (
    DEFAULT,
    Client,
    FakeDriver,
    Served,
    environ,
    failure,
    serving,
    user_channel,
)

CODE = grpc.StatusCode
READY = openshell_pb2.SANDBOX_PHASE_READY
PROVISIONING = openshell_pb2.SANDBOX_PHASE_PROVISIONING
STOPPED = openshell_pb2.SANDBOX_PHASE_STOPPED
LOADED = openshell_pb2.POLICY_STATUS_LOADED
ERROR = openshell_pb2.SANDBOX_PHASE_ERROR
COMPLETED = openshell_pb2.SANDBOX_PHASE_COMPLETED


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as running:
        yield running


def create(**fields: Any) -> openshell_pb2.CreateSandboxRequest:
    fields.setdefault("spec", openshell_pb2.SandboxSpec())
    return openshell_pb2.CreateSandboxRequest(workspace_scope=DEFAULT, **fields)


def named(kind: Any, name: str = "box", **fields: Any) -> Any:
    return kind(workspace_scope=DEFAULT, name=name, **fields)


async def until(served: Served, phase: int, name: str = "box") -> openshell_pb2.Sandbox:
    """The sandbox once it is in `phase`: told by the watch stream, not by asking again."""
    request = openshell_pb2.WatchSandboxRequest(workspace_scope=DEFAULT, sandbox=name, follow_status=True)
    async with asyncio.timeout(10):
        async for event in served.client.WatchSandbox(request):
            if event.HasField("sandbox") and event.sandbox.status.phase == phase:
                found: openshell_pb2.Sandbox = event.sandbox
                return found
    raise AssertionError("the watch ended")


def condition(sandbox: openshell_pb2.Sandbox) -> tuple[str, str, str]:
    (found,) = sandbox.status.conditions
    return found.status, found.reason, found.message


# ---- create ------------------------------------------------------------------------------------------------------


async def test_create_answers_ready_with_everything_set(served: Served) -> None:
    spec = openshell_pb2.SandboxSpec(environment={"A": "1"}, command=["/bin/sh", "-c", "x"], tty=True)
    sandbox = await served.create(spec=spec, labels={"team": "a"}, annotations={"note": "any text: ✓"})
    assert sandbox.status.phase == READY
    assert condition(sandbox) == ("True", "DependenciesReady", "Supervisor session connected")
    meta = sandbox.metadata
    assert meta.id
    assert 0 < len(meta.name) <= 19
    assert meta.resource_version >= 1
    assert meta.created_time.seconds > 0
    assert (meta.workspace, dict(meta.labels), dict(meta.annotations)) == (
        "default",
        {"team": "a"},
        {"note": "any text: ✓"},
    )
    (workload,) = served.driver.created
    assert (workload.command, workload.tty, workload.environment) == (("/bin/sh", "-c", "x"), True, {"A": "1"})
    assert (workload.sandbox_id, workload.name, workload.labels) == (meta.id, meta.name, {"team": "a"})
    assert workload.access.address == f"127.0.0.1:{served.gateway.port}"


async def test_without_a_policy_it_gets_the_restrictive_default(served: Served) -> None:
    await served.create()
    snapshot = sandbox_pb2.SandboxConfigSnapshot.FromString(served.driver.created[0].config)
    assert policy_from_proto(snapshot.policy) == RESTRICTIVE_DEFAULT
    assert snapshot.version == 1
    assert not snapshot.policy.network_policies


async def test_the_given_policy_is_in_the_first_configuration(served: Served) -> None:
    rule = sandbox_pb2.NetworkPolicyRule(
        name="docs",
        endpoints=[sandbox_pb2.NetworkEndpoint(host="docs.test", port=443)],
        binaries=[sandbox_pb2.NetworkBinary(path="/usr/bin/curl")],
    )
    policy = sandbox_pb2.SandboxPolicy(version=1, network_policies={"docs": rule})
    await served.create(spec=openshell_pb2.SandboxSpec(policy=policy))
    snapshot = sandbox_pb2.SandboxConfigSnapshot.FromString(served.driver.created[0].config)
    assert list(snapshot.policy.network_policies) == ["docs"]
    assert (snapshot.version, len(snapshot.policy_hash)) == (1, 64)


BAD = sandbox_pb2.NetworkPolicyRule(
    name="r", endpoints=[sandbox_pb2.NetworkEndpoint(host="*.com", port=443)], binaries=[{"path": "/x"}]
)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (openshell_pb2.CreateSandboxRequest(workspace_scope=DEFAULT), CODE.INVALID_ARGUMENT, "spec is required"),
        (openshell_pb2.CreateSandboxRequest(spec={}), CODE.INVALID_ARGUMENT, "workspace_scope is required"),
        (create(name="A"), CODE.INVALID_ARGUMENT, "sandbox name must be lower-case"),
        (create(name="a--b"), CODE.INVALID_ARGUMENT, "sandbox name must be lower-case"),
        (create(name="a" * 20), CODE.INVALID_ARGUMENT, "at most 19 characters"),
        (create(labels={"-": "x"}), CODE.INVALID_ARGUMENT, "not a valid label key"),
        (create(spec={"environment": {"1A": "x"}}), CODE.INVALID_ARGUMENT, "must match"),
        (create(spec={"environment": {"OPENSHELL_X": "x"}}), CODE.INVALID_ARGUMENT, "reserved prefix"),
        (create(spec={"environment": {"A": "x" * 8193}}), CODE.INVALID_ARGUMENT, "larger than 8192"),
        (create(spec={"environment": {"A": "a\0b"}}), CODE.INVALID_ARGUMENT, "NUL"),
        (create(spec={"command": ["x"] * 257}), CODE.INVALID_ARGUMENT, "more than 256 arguments"),
        (create(spec={"providers": ["gh"]}), CODE.FAILED_PRECONDITION, "provider 'gh' not found"),
        (
            create(spec={"template": {"image": "python"}}),
            CODE.FAILED_PRECONDITION,
            "spec.template.image is not supported",
        ),
        (create(workload_template="t"), CODE.NOT_FOUND, "sandbox template 't' not found"),
        (
            create(spec={"policy": {"network_policies": {"r": BAD}}}),
            CODE.INVALID_ARGUMENT,
            "policy contains unsafe content: ",
        ),
        (
            create(spec={"policy": {"network_policies": {"_provider_x": BAD}}}),
            CODE.INVALID_ARGUMENT,
            "reserved '_provider_' prefix",
        ),
    ],
)
async def test_what_cannot_be_had_is_refused_and_nothing_is_left(
    served: Served, request_: openshell_pb2.CreateSandboxRequest, code: grpc.StatusCode, message: str
) -> None:
    found = await failure(served.client.CreateSandbox(request_))
    assert found[0] is code
    assert message in found[1]
    assert not served.driver.calls
    listed = await served.client.ListSandboxes(openshell_pb2.ListSandboxesRequest(workspace_scope=DEFAULT))
    assert not listed.sandboxes


async def test_a_name_is_taken_once_per_workspace(served: Served) -> None:
    await served.create(name="box")
    assert await failure(served.client.CreateSandbox(create(name="box"))) == (
        CODE.ALREADY_EXISTS,
        "sandbox 'box' already exists",
    )


async def test_fifty_at_once_all_have_names_and_are_ready(served: Served) -> None:
    made = await asyncio.gather(*(served.create() for _ in range(50)))
    assert len({sandbox.metadata.name for sandbox in made}) == 50
    assert {sandbox.status.phase for sandbox in made} == {READY}


async def test_a_driver_that_refuses_says_why_and_how_to_fix_it_and_leaves_nothing(served: Served) -> None:
    served.driver.fail = DriverError("UserNamespacesDenied", "no user namespaces", "sysctl kernel.x=1")
    found = await failure(served.client.CreateSandbox(create(name="box")))
    assert found == (CODE.FAILED_PRECONDITION, "no user namespaces\nsysctl kernel.x=1")
    served.driver.fail = None
    assert (await served.create(name="box")).status.phase == READY


async def test_a_driver_that_cannot_start_does_not_stop_the_gateway_and_is_tried_again(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.fail_start = DriverError("HostFailed", "no host process", "look at the log")
    async with serving(tmp_path, driver) as served:
        assert (await served.client.Health(openshell_pb2.HealthRequest())).status == 1
        assert (await failure(served.client.CreateSandbox(create())))[1] == "no host process\nlook at the log"
        driver.fail_start = None
        assert (await served.create()).status.phase == READY
    await driver.end()


async def test_a_client_that_hangs_up_does_not_leave_half_a_sandbox(served: Served) -> None:
    served.driver.gate.clear()
    call = served.client.CreateSandbox(create(name="box"), timeout=0.5)
    assert (await failure(call))[0] is CODE.DEADLINE_EXCEEDED
    served.driver.gate.set()
    assert (await until(served, READY)).metadata.name == "box"


async def test_a_supervisor_that_never_connects_leaves_it_provisioning(tmp_path: Path) -> None:
    driver = FakeDriver(connect=False)
    async with serving(tmp_path, driver) as served:
        sandbox = (await served.client.CreateSandbox(create(name="box"), timeout=1.5)).sandbox
        assert sandbox.status.phase == PROVISIONING
        assert condition(sandbox) == ("False", "DependenciesNotReady", "Supervisor session disconnected")
        command = openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, sandbox="box", command=["true"])
        assert await failure(served.client.ExecSandbox(command)) == (CODE.FAILED_PRECONDITION, "sandbox is not ready")
        held = asyncio.ensure_future(served.get("box"))
        driver.running[sandbox.metadata.id].connect()
        assert (await held).status.phase == READY
    await driver.end()


# ---- reading -----------------------------------------------------------------------------------------------------


async def test_get_and_list(served: Served) -> None:
    for number in range(5):
        await served.create(name=f"box-{number}", labels={"parity": str(number % 2)})
    ask = openshell_pb2.ListSandboxesRequest
    pages, token = [], ""
    while True:
        answer = await served.client.ListSandboxes(ask(workspace_scope=DEFAULT, page_size=2, page_token=token))
        pages.append([sandbox.metadata.name for sandbox in answer.sandboxes])
        token = answer.next_page_token
        if not token:
            break
    assert pages == [["box-0", "box-1"], ["box-2", "box-3"], ["box-4"]]
    odd = await served.client.ListSandboxes(ask(workspace_scope=DEFAULT, label_selector="parity=1"))
    assert [sandbox.metadata.name for sandbox in odd.sandboxes] == ["box-1", "box-3"]
    everywhere = datamodel_pb2.WorkspaceSelector(all_workspaces=datamodel_pb2.AllWorkspaces())
    assert len((await served.client.ListSandboxes(ask(workspace_scope=everywhere))).sandboxes) == 5
    first = await served.client.ListSandboxes(ask(workspace_scope=DEFAULT, page_size=2))
    for request, message in (
        (ask(workspace_scope=DEFAULT, page_size=-1), "page_size must not be negative"),
        (ask(workspace_scope=DEFAULT, page_token="%%%"), "page_token is malformed"),
        (
            ask(workspace_scope=everywhere, page_token=first.next_page_token),
            "page_token does not match this list request",
        ),
        (
            ask(workspace_scope=DEFAULT, label_selector="x"),
            "label_selector must be a comma-separated list of key=value",
        ),
    ):
        assert await failure(served.client.ListSandboxes(request)) == (CODE.INVALID_ARGUMENT, message)
    missing = served.client.GetSandbox(named(openshell_pb2.GetSandboxRequest, "none"))
    assert await failure(missing) == (CODE.NOT_FOUND, "sandbox not found")
    assert await failure(served.client.GetSandbox(named(openshell_pb2.GetSandboxRequest, ""))) == (
        CODE.INVALID_ARGUMENT,
        "name is required",
    )


# ---- stop, start, delete -----------------------------------------------------------------------------------------


async def test_stop_and_start(served: Served) -> None:
    first = await served.create(name="box")
    old_access = served.driver.created[0].access
    stopped = (await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))).sandbox
    assert stopped.status.phase == STOPPED
    again = served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    assert await failure(again) == (
        CODE.FAILED_PRECONDITION,
        "sandbox must be Ready to stop (current phase: Stopped)",
    )
    started = (await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))).sandbox
    assert started.status.phase == READY
    assert started.metadata.id == first.metadata.id
    assert started.status.main_process_instance_id != first.status.main_process_instance_id
    running = served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))
    assert await failure(running) == (
        CODE.FAILED_PRECONDITION,
        "sandbox must be Stopped to start (current phase: Ready)",
    )
    # The token of the earlier life is void.
    stale = Client(served.supervisor(started).channel, old_access.token)
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=first.metadata.id, version=1, status=LOADED)
    assert (await failure(stale.ReportPolicyStatus(report)))[0] is CODE.UNAUTHENTICATED


async def test_delete(served: Served) -> None:
    sandbox = await served.create(name="box")
    request = named(openshell_pb2.DeleteSandboxRequest)
    answer = await served.client.DeleteSandbox(request)
    assert (answer.outcome, answer.sandbox_id) == (openshell_pb2.DELETION_OUTCOME_COMPLETED, sandbox.metadata.id)
    assert await failure(served.client.DeleteSandbox(request)) == (CODE.NOT_FOUND, "sandbox not found")
    request.allow_missing = True
    absent = await served.client.DeleteSandbox(request)
    assert absent.outcome == openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT
    assert (await served.create(name="box")).metadata.id != sandbox.metadata.id


async def test_delete_while_it_is_being_created(served: Served) -> None:
    served.driver.gate.clear()
    creating = asyncio.ensure_future(failure(served.client.CreateSandbox(create(name="box"))))
    await served.driver.entered.wait()
    deleting = asyncio.ensure_future(served.client.DeleteSandbox(named(openshell_pb2.DeleteSandboxRequest)))
    await until(served, openshell_pb2.SANDBOX_PHASE_DELETING)
    served.driver.gate.set()
    assert (await deleting).outcome == openshell_pb2.DELETION_OUTCOME_COMPLETED
    await creating
    assert not served.driver.running
    assert (await failure(served.client.GetSandbox(named(openshell_pb2.GetSandboxRequest))))[0] is CODE.NOT_FOUND


async def test_a_delete_that_fails_can_be_repeated(served: Served) -> None:
    await served.create(name="box")
    served.driver.fail = DriverError("Busy", "a mount is busy")
    request = named(openshell_pb2.DeleteSandboxRequest)
    assert (await failure(served.client.DeleteSandbox(request)))[0] is CODE.FAILED_PRECONDITION
    served.driver.fail = None
    assert (await served.client.DeleteSandbox(request)).outcome == openshell_pb2.DELETION_OUTCOME_COMPLETED


# ---- what happens on its own -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "phase"), [(0, COMPLETED), (3, ERROR)])
async def test_the_main_process_exits(served: Served, code: int, phase: int) -> None:
    sandbox = await served.create(name="box")
    instance = sandbox.status.main_process_instance_id
    served.driver.report(WorkloadStatus(sandbox.metadata.id, "an earlier instance", "exited", 9))
    served.driver.report(WorkloadStatus(sandbox.metadata.id, instance, "exited", code))
    ended = await until(served, phase)
    assert ended.status.exit_code == code
    assert condition(ended)[1] == "MainProcessExited"


async def die(served: Served, sandbox: openshell_pb2.Sandbox) -> None:
    """What the driver says when the guard of a sandbox ended by itself."""
    await served.driver.running.pop(sandbox.metadata.id).close()
    served.driver.report(
        WorkloadStatus(
            sandbox.metadata.id, sandbox.status.main_process_instance_id, "gone", None, "SupervisorDied", "it died"
        )
    )


async def another(served: Served, before: openshell_pb2.Sandbox) -> openshell_pb2.Sandbox:
    """The sandbox once it is ready as another instance."""
    request = openshell_pb2.WatchSandboxRequest(workspace_scope=DEFAULT, sandbox="box", follow_status=True)
    async with asyncio.timeout(60):
        async for event in served.client.WatchSandbox(request):
            found: openshell_pb2.Sandbox = event.sandbox
            new = found.status.main_process_instance_id != before.status.main_process_instance_id
            if found.status.phase == READY and new:
                return found
    raise AssertionError("the watch ended")


async def test_a_sandbox_that_lost_its_supervisor_is_started_again_and_says_so(served: Served) -> None:
    before = await served.create(name="box")
    await die(served, before)
    after = await another(served, before)
    assert after.status.restart_count == 1
    assert not after.status.HasField("next_restart_time")
    (restarted,) = [one for one in after.status.conditions if one.type == "Restarted"]
    assert (restarted.reason, restarted.message) == ("SupervisorDied", "it died")
    assert [workload.sandbox_id for workload in served.driver.created] == [before.metadata.id] * 2


async def test_while_a_restart_is_pending_phase_reason_and_time_are_told_and_a_stop_cancels_it(served: Served) -> None:
    before = await served.create(name="box")
    served.driver.gate.clear()
    await die(served, before)
    waiting = await until(served, openshell_pb2.SANDBOX_PHASE_STARTING)
    status, reason, message = next((c.status, c.reason, c.message) for c in waiting.status.conditions)
    assert (status, reason) == ("False", "Restarting")
    assert message == "SupervisorDied: it died; restart 1 of at most 5 in 10 minutes"
    assert waiting.status.HasField("next_restart_time")
    served.driver.gate.set()
    await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    assert (await served.get("box")).status.phase == STOPPED


async def test_restarts_are_bounded_and_a_person_may_start_it_again(served: Served) -> None:
    sandbox = await served.create(name="box")
    for _ in range(restarts.LIMIT):
        before = sandbox
        await die(served, before)
        sandbox = await another(served, before)
    await die(served, sandbox)
    given_up = await until(served, ERROR)
    assert given_up.status.restart_count == restarts.LIMIT
    (ready,) = [one for one in given_up.status.conditions if one.type == "Ready"]
    assert ready.reason == "SupervisorDied"
    assert ready.message == "it died; restarted 5 times in 10 minutes, not again: stop the sandbox, then start it"
    await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    started = (await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))).sandbox
    assert started.status.phase == READY
    await die(served, started)
    await another(served, started)


async def test_a_restart_that_fails_is_tried_again_until_the_bound(served: Served) -> None:
    sandbox = await served.create(name="box")
    served.driver.fail = DriverError("HostResources", "no space left on device", "free disk space")
    await die(served, sandbox)
    given_up = await until(served, ERROR)
    (ready,) = [one for one in given_up.status.conditions if one.type == "Ready"]
    assert ready.reason == "HostResources"
    assert "no space left on device" in ready.message
    assert len([call for call in served.driver.calls if call[0] == "create"]) == 1 + restarts.LIMIT
    served.driver.fail = None


async def test_a_stop_that_fails_can_be_repeated(served: Served) -> None:
    await served.create(name="box")
    served.driver.fail_stop = DriverError("Busy", "the host does not answer")
    assert (await failure(served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))))[1].startswith("the host")
    assert (await served.get("box")).status.phase == READY
    served.driver.fail_stop = None
    stopped = await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    assert stopped.sandbox.status.phase == STOPPED


async def test_a_sandbox_whose_driver_died_while_it_was_stopped_is_stopped(served: Served) -> None:
    sandbox = await served.create(name="box")
    served.driver.fail_stop = DriverError("HostDied", "the driver host ended unexpectedly")
    served.driver.stopping = lambda: served.driver.report(
        WorkloadStatus(sandbox.metadata.id, sandbox.status.main_process_instance_id, "stopped", None, "HostDied", "x")
    )
    await failure(served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest)))
    assert (await until(served, STOPPED)).status.phase == STOPPED
    served.driver.fail_stop = None
    started = (await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))).sandbox
    assert started.status.phase == READY


async def test_a_main_process_that_ended_is_not_run_again(served: Served) -> None:
    sandbox = await served.create(name="box")
    instance = sandbox.status.main_process_instance_id
    served.driver.report(WorkloadStatus(sandbox.metadata.id, instance, "exited", 0))
    await until(served, COMPLETED)
    await die(served, sandbox)
    assert (await until(served, ERROR)).status.restart_count == 0
    assert len(served.driver.created) == 1


@pytest.mark.parametrize("new_boot", [True, False])
async def test_a_machine_that_was_started_anew_is_told_from_a_driver_that_died(tmp_path: Path, new_boot: bool) -> None:
    driver = FakeDriver()
    async with serving(tmp_path, driver) as served:
        await served.create(name="box")
        memory = served.gateway.configuration.paths.run / "boot-id"
    for fake in driver.running.values():
        await fake.close()
    driver.running.clear()
    if new_boot:
        memory.write_text("another boot")
    async with serving(tmp_path, driver) as served:
        after = await until(served, READY)
        (restarted,) = [one for one in after.status.conditions if one.type == "Restarted"]
        assert restarted.reason == ("MachineRestarted" if new_boot else "WorkloadLost")
        assert "files were kept" in restarted.message
        assert after.status.restart_count == 1
        assert memory.read_text() != "another boot"
    await driver.end()


async def test_the_workload_dies_and_can_be_run_again(served: Served) -> None:
    never = openshell_pb2.SandboxSpec(restart_policy=openshell_pb2.SANDBOX_RESTART_POLICY_NEVER)
    await die(served, await served.create(name="box", spec=never))
    assert condition(await until(served, ERROR)) == ("False", "SupervisorDied", "it died")
    await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    started = (await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))).sandbox
    assert started.status.phase == READY


async def test_a_lost_session_shows_at_once_and_a_new_one_too(served: Served) -> None:
    sandbox = await served.create(name="box")
    fake = served.supervisor(sandbox)
    await fake.close()
    lost = await until(served, PROVISIONING)
    assert condition(lost) == ("False", "DependenciesNotReady", "Supervisor session disconnected")
    fake.__init__(fake.workload)  # type: ignore[misc]
    fake.connect()
    assert condition(await until(served, READY))[0] == "True"


# ---- commands ----------------------------------------------------------------------------------------------------


async def run(served: Served, *command: str, **fields: Any) -> tuple[bytes, bytes, list[int]]:
    request = openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, sandbox="box", command=command, **fields)
    out, err, codes = b"", b"", []
    async for event in served.client.ExecSandbox(request):
        out, err = out + event.stdout.data, err + event.stderr.data
        codes += [event.exit.exit_code] if event.HasField("exit") else []
    return out, err, codes


async def test_exec(served: Served) -> None:
    await served.create(name="box")
    assert await run(served, "sh", "-c", "cat; echo no >&2; exit 7", stdin=b"hello") == (b"hello", b"no\n", [7])
    assert await run(served, "sh", "-c", "echo $A; pwd", environment={"A": "x y"}, workdir="/tmp") == (
        b"x y\n/tmp\n",
        b"",
        [0],
    )
    assert await run(served, "printenv", "OPENSHELL_PYFUNC_B64", environment={"OPENSHELL_PYFUNC_B64": "Zg=="}) == (
        b"Zg==\n",
        b"",
        [0],
    )
    assert await run(served, "no-such-command") == (b"", b"openshell: no-such-command: command not found\n", [127])
    big = b"0123456789abcdef" * 100_000
    assert (await run(served, "sh", "-c", "head -c 1600000 /dev/zero | tr '\\0' x"))[0] == b"x" * len(big)
    assert await run(served, "sh", "-c", "kill -9 $$") == (b"", b"", [137])


async def test_exec_time_limit_ends_the_whole_group(served: Served) -> None:
    await served.create(name="box")
    request = {"execution_timeout": {"nanos": 200_000_000}}
    assert await run(served, "sh", "-c", "echo a; sleep 60 & sleep 60", **request) == (b"a\n", b"", [124])
    group = served.driver.processes[-1]._process.pid
    states = [
        fields[0]
        for stat in Path("/proc").glob("[0-9]*/stat")
        if int((fields := stat.read_text().rpartition(")")[2].split())[2]) == group
    ]
    assert set(states) <= {"Z"}  # whoever adopts the orphans may not have looked yet


async def test_a_client_that_leaves_ends_its_command(served: Served) -> None:
    await served.create(name="box")
    request = openshell_pb2.ExecSandboxRequest(
        workspace_scope=DEFAULT, sandbox="box", command=["sh", "-c", "echo up; exec sleep 60"]
    )
    call = served.client.ExecSandbox(request)
    first = await call.read()
    assert first.stdout.data == b"up\n"
    call.cancel()
    process = served.driver.processes[-1]._process
    assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sandbox": "", "command": ["x"]}, "sandbox is required"),
        ({"sandbox": "box"}, "command is required"),
        ({"sandbox": "box", "command": ["x"] * 1025}, "more than 1024 arguments"),
        ({"sandbox": "box", "command": ["x" * 32769]}, "larger than 32 KiB"),
        ({"sandbox": "box", "command": ["a\0b"]}, "NUL"),
        ({"sandbox": "box", "command": ["x"], "workdir": "/" * 4097}, "workdir"),
        ({"sandbox": "box", "command": ["x"], "environment": {"OPENSHELL_SANDBOX": "0"}}, "reserved prefix"),
        ({"sandbox": "box", "command": ["x"], "execution_timeout": {"seconds": -1}}, "execution_timeout"),
    ],
)
async def test_exec_refusals(served: Served, fields: dict[str, Any], message: str) -> None:
    found = await failure(
        served.client.ExecSandbox(openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, **fields))
    )
    assert found[0] is CODE.INVALID_ARGUMENT
    assert message in found[1]


async def test_interactive_exec(served: Served) -> None:
    await served.create(name="box")
    message = openshell_pb2.ExecSandboxInput
    start = openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, sandbox="box", command=["cat"])
    call = served.client.ExecSandboxInteractive()
    await call.write(message(start=start))
    await call.write(message(stdin=b"one"))
    assert (await call.read()).stdout.data == b"one"
    await call.write(message(resize=openshell_pb2.ExecSandboxWindowResize(cols=100, rows=30)))
    await call.write(message(stdin=b"two"))
    assert (await call.read()).stdout.data == b"two"
    await call.done_writing()
    assert (await call.read()).exit.exit_code == 0
    assert served.driver.processes[-1].resized == [(100, 30)]
    wrong = served.client.ExecSandboxInteractive(iter([message(stdin=b"x")]))
    assert await failure(wrong) == (CODE.INVALID_ARGUMENT, "first message must be a start payload")


# ---- restart of the gateway --------------------------------------------------------------------------------------


async def test_a_restart_takes_up_what_runs_and_runs_what_should(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with serving(tmp_path, driver) as served:
        kept, lost = await served.create(name="kept"), await served.create(name="lost")
        halted = await served.create(name="halted")
        await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest, "halted"))
        port = served.gateway.port
    await driver.running.pop(lost.metadata.id).close()
    driver.calls.clear()
    fake = driver.running[kept.metadata.id]
    async with serving(tmp_path, driver) as served:
        assert served.gateway.port == port  # --port 0 keeps its port: running supervisors find the gateway again
        fake.connect()
        assert (await until(served, READY, "kept")).metadata.id == kept.metadata.id
        revived = await until(served, READY, "lost")
        assert revived.status.main_process_instance_id != lost.status.main_process_instance_id
        assert (await served.get("halted")).status.phase == STOPPED
        assert driver.calls == [("stop", halted.metadata.id), ("create", lost.metadata.id)] or driver.calls == [
            ("create", lost.metadata.id),
            ("stop", halted.metadata.id),
        ]
    await driver.end()


async def test_a_crash_in_the_middle_of_everything(tmp_path: Path) -> None:
    """The process ends between a commit and what should follow: no `stop()`, only what the store holds."""
    driver = FakeDriver()
    first = Gateway(load(environ(tmp_path), port=0), driver)
    await first.start()
    link = user_channel(first)
    served = Served(first, driver, Client(link))
    await served.create(name="deleted")
    await served.create(name="stopped")
    driver.gate.clear()
    driver.entered.clear()
    creating = asyncio.ensure_future(failure(served.client.CreateSandbox(create(name="created"))))
    await driver.entered.wait()
    driver.fail = DriverError("Busy", "busy")
    assert (await failure(served.client.DeleteSandbox(named(openshell_pb2.DeleteSandboxRequest, "deleted"))))[0]
    driver.fail = None
    # The crash: no life-cycle code runs any more, then everything of the process is gone.
    first.sandboxes.let_go()
    for task in list(first.sandboxes._tasks._running):
        task.cancel()
    await first._server.stop(0)
    await first._probes.close()
    await creating
    await first.store.close()
    await link.close()
    driver.gate.set()
    for fake in driver.running.values():
        await fake.close()
    driver.running = {key: fake for key, fake in driver.running.items() if fake.workload.name != "deleted"}
    async with serving(tmp_path, driver) as served:
        assert (await until(served, READY, "created")).metadata.name == "created"
        deleted = served.client.GetSandbox(named(openshell_pb2.GetSandboxRequest, "deleted"))
        assert (await failure(deleted))[0] is CODE.NOT_FOUND
    await driver.end()


async def test_a_workload_nobody_knows_is_stopped_but_not_deleted(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with serving(tmp_path / "a", driver) as served:
        stray = await served.create()
    driver.calls.clear()
    async with serving(tmp_path / "b", driver):
        pass
    assert driver.calls == [("stop", stray.metadata.id)]
    await driver.end()


# ---- what the walls are worth ------------------------------------------------------------------------------------


def conditions(sandbox: openshell_pb2.Sandbox) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in sandbox.status.conditions}


async def test_what_the_driver_says_of_the_walls_is_recorded_and_survives_a_restart(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.standing = {"assurance": "network", "losses": ("no Landlock",), "limits": {"cpu": "not held"}}
    async with serving(tmp_path, driver) as served:
        made = await served.create(name="box")
        found = conditions(made)
        assert found["Ready"][0] == "True"
        assert found["Assurance"] == ("False", "Network", "no Landlock")
        assert found["Limits"] == ("False", "Degraded", "cpu: not held")
    async with serving(tmp_path, driver) as served:
        assert conditions(await served.get("box"))["Assurance"] == ("False", "Network", "no Landlock")
        driver.standing = {"assurance": "full"}
        await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
        await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))
        assert conditions(await until(served, READY))["Assurance"] == ("True", "Full", ""), "the next start says anew"


async def test_what_a_sandbox_asks_of_its_walls_reaches_the_driver_at_every_start(served: Served) -> None:
    spec = openshell_pb2.SandboxSpec()
    spec.template.resources.update({"limits": {"memory": "64Mi", "cpu": "500m"}})
    spec.template.driver_config.update({"local": {"require": "full", "pids": 100}})
    await served.create(name="box", spec=spec)
    await served.client.StopSandbox(named(openshell_pb2.StopSandboxRequest))
    await served.client.StartSandbox(named(openshell_pb2.StartSandboxRequest))
    for workload in served.driver.created:
        assert (workload.require, workload.memory, workload.cpu, workload.pids) == ("full", 64 << 20, 0.5, 100)
    assert len(served.driver.created) == 2


async def test_a_requirement_that_is_not_met_leaves_no_sandbox(served: Served) -> None:
    served.driver.fail = DriverError("AssuranceTooLow", "worth `files`", "run `openshell doctor`")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.create(name="box")
    assert refused.value.code() == CODE.FAILED_PRECONDITION
    assert "worth `files`\nrun `openshell doctor`" in str(refused.value.details())
