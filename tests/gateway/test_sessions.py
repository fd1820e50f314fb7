"""Supervisor sessions, pushes, logs and the watch stream, with real gRPC streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.sessions import Session
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2, sandbox_pb2
from tests.gateway.serving import DEFAULT, FakeDriver, FakeSupervisor, Served, failure, serving

CODE = grpc.StatusCode
Message = openshell_pb2.SupervisorMessage


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as running:
        yield running


def rule(host: str) -> sandbox_pb2.NetworkPolicyRule:
    return sandbox_pb2.NetworkPolicyRule(
        name="r",
        endpoints=[sandbox_pb2.NetworkEndpoint(host=host, port=443)],
        binaries=[sandbox_pb2.NetworkBinary(path="/usr/bin/curl")],
    )


async def propose(fake: FakeSupervisor, host: str) -> str:
    chunk = openshell_pb2.PolicyChunk(rule_name=f"allow_{host}".replace(".", "_"), proposed_rule=rule(host))
    request = openshell_pb2.SubmitPolicyAnalysisRequest(
        workspace_scope=DEFAULT, name=fake.workload.name, analysis_mode="agent_authored", proposed_chunks=[chunk]
    )
    answer = await fake.client.SubmitPolicyAnalysis(request)
    assert list(answer.rejection_reasons) == []
    return str(answer.accepted_chunk_ids[0])


async def approve(served: Served, name: str, chunk_id: str) -> openshell_pb2.ApproveDraftChunkResponse:
    draft = await served.client.GetDraftPolicy(
        openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox=name)
    )
    token = next(chunk.review_token for chunk in draft.chunks if chunk.id == chunk_id)
    request = openshell_pb2.ApproveDraftChunkRequest(
        workspace_scope=DEFAULT, sandbox=name, chunk_id=chunk_id, review_token=token
    )
    answer: openshell_pb2.ApproveDraftChunkResponse = await served.client.ApproveDraftChunk(request)
    return answer


async def setting(served: Served, value: bool, **fields: Any) -> None:
    await served.client.UpdateConfig(
        openshell_pb2.UpdateConfigRequest(
            setting_key="agent_policy_proposals_enabled",
            setting_value=sandbox_pb2.SettingValue(bool_value=value),
            **fields,
        )
    )


# ---- the session -------------------------------------------------------------------------------------------------


async def test_the_first_message_is_the_configuration(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    await fake.accepted.wait()
    accepted = (await fake.received.get()).session_accepted
    assert accepted.session_id
    assert accepted.config_push_enabled
    assert accepted.heartbeat_interval.seconds == 15
    assert accepted.bootstrap.sandbox_config.version == 1
    assert len(accepted.bootstrap.sandbox_config.policy_hash) == 64


async def test_an_approval_reaches_its_sandbox_and_no_other(served: Served) -> None:
    boxes = [served.supervisor(await served.create(name=f"box-{number}")) for number in range(3)]
    for fake in boxes:
        await fake.accepted.wait()
        await fake.received.get()
    chunk = await propose(boxes[1], "docs.test")
    answer = await approve(served, "box-1", chunk)
    update = await boxes[1].next_update()
    assert update.sandbox_config.version == answer.policy_version == 2
    assert update.sandbox_config.policy_hash == answer.policy_hash
    # What is global reaches everybody, and it is the first thing the others hear.
    await setting(served, True, **{"global": True})
    for fake in boxes:
        message = await fake.next_update()
        assert message.sandbox_config.settings["agent_policy_proposals_enabled"].value.bool_value
    assert [fake.received.qsize() for fake in boxes] == [0, 0, 0]


async def test_twenty_approvals_are_twenty_pushes_in_order(served: Served) -> None:
    """How fast is benchmarks/loop.py's question; here: none is lost, merged away or out of order."""
    fake = served.supervisor(await served.create(name="box"))
    await fake.accepted.wait()
    versions = []
    for number in range(20):
        chunk = await propose(fake, f"host-{number}.test")
        await approve(served, "box", chunk)
        versions.append((await fake.next_update()).sandbox_config.version)
    assert versions == list(range(2, 22))


async def test_the_result_of_an_update_marks_the_revision(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    await approve(served, "box", await propose(fake, "docs.test"))
    await fake.next_update()
    watch = openshell_pb2.WatchSandboxRequest(workspace_scope=DEFAULT, sandbox="box", follow_status=True)
    async for event in served.client.WatchSandbox(watch):
        if event.sandbox.status.current_policy_version == 2:
            break
    status = await served.client.GetSandboxPolicyStatus(
        openshell_pb2.GetSandboxPolicyStatusRequest(workspace_scope=DEFAULT, sandbox="box")
    )
    assert status.active_version == 2
    assert status.revision.status == openshell_pb2.POLICY_STATUS_LOADED


async def test_at_most_two_unanswered_and_then_the_newest(served: Served) -> None:
    fake = FakeSupervisor(served.supervisor(await served.create(name="box")).workload)
    fake.answers = False
    fake.connect()  # supersedes the first session
    await fake.accepted.wait()
    bootstrap = (await fake.received.get()).session_accepted.bootstrap
    for number in range(5):
        await approve(served, "box", await propose(fake, f"h{number}.test"))
    first = await fake.next_update()
    assert first.sandbox_config.version >= 2
    await asyncio.sleep(0)
    assert fake.received.empty()  # two are unanswered: the bootstrap and this one
    fake.answers = True
    await fake._answer(bootstrap)
    update = await fake.next_update()
    assert update.sandbox_config.version == 6
    await fake.close()


async def test_a_new_session_supersedes_and_the_sandbox_stays_ready(served: Served) -> None:
    sandbox = await served.create(name="box")
    first = served.supervisor(sandbox)
    second = FakeSupervisor(first.workload)
    second.connect()
    await second.accepted.wait()
    assert first._task is not None
    await asyncio.wait_for(first._task, 10)  # its stream ended
    assert (await served.get("box")).status.phase == openshell_pb2.SANDBOX_PHASE_READY
    await setting(served, True, **{"global": True})
    assert (await second.next_update()).sandbox_config.settings_revision == 1
    await second.close()


async def test_hello_is_checked(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    beat = Message(heartbeat=openshell_pb2.SupervisorHeartbeat())
    for requests in ([beat], []):
        assert await failure(fake.client.ConnectSupervisor(iter(requests))) == (
            CODE.INVALID_ARGUMENT,
            "expected SupervisorHello",
        )
    hello = Message(hello=openshell_pb2.SupervisorHello(sandbox_id=fake.workload.sandbox_id, instance_id="earlier"))
    found = await failure(fake.client.ConnectSupervisor(iter([hello])))
    assert found == (CODE.FAILED_PRECONDITION, "this instance of the sandbox was replaced")


async def test_a_supervisor_without_push_gets_no_updates(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    call = fake.client.ConnectSupervisor()
    hello = openshell_pb2.SupervisorHello(sandbox_id=fake.workload.sandbox_id, instance_id=fake.workload.instance_id)
    await call.write(Message(hello=hello))
    accepted = (await call.read()).session_accepted
    assert not accepted.config_push_enabled
    assert not accepted.HasField("bootstrap")
    call.cancel()


async def test_heartbeats_only_when_there_is_nothing_else() -> None:
    session = Session("box", "one", push=True)
    stream = session.outgoing(heartbeat=0.01)
    assert (await anext(stream)).HasField("heartbeat")
    session.send(openshell_pb2.ConfigUpdate(update_id="u"))
    assert (await anext(stream)).config_update.update_id == "u"
    session.close()
    assert [message async for message in stream] == []
    assert session.answered("u")
    assert not session.answered("u")


async def test_a_thousand_sessions_one_approval_one_awake() -> None:
    """Topics are per sandbox: a publication looks up one list, and no other subscriber's queue is touched."""
    bus = Bus()
    subscriptions = [bus.subscribe(f"config:{number}", "config:*", capacity=1) for number in range(1000)]
    bus.publish("config:7")
    awake = [number for number, subscription in enumerate(subscriptions) if subscription._wake.is_set()]
    assert awake == [7]


async def test_a_quiet_stream_says_at_once_that_it_listens(served: Served) -> None:
    """What is decided after the headers came is in the stream (the supervisor relies on it after a reconnect)."""
    fake = served.supervisor(await served.create(name="box"))
    chunk = await propose(fake, "docs.test")
    call = fake.client.WatchProposals(pyopenshell_pb2.WatchProposalsRequest())
    await asyncio.wait_for(call.initial_metadata(), 5)
    await approve(served, "box", chunk)
    states = aiter(call)
    while (state := await asyncio.wait_for(anext(states), 5)).status != "approved":
        assert state.chunk_id == chunk
    assert (state.chunk_id, state.policy_version) == (chunk, 2)
    call.cancel()


# ---- logs --------------------------------------------------------------------------------------------------------


def line(message: str, level: str = "INFO", **fields: Any) -> openshell_pb2.SandboxLogLine:
    return openshell_pb2.SandboxLogLine(level=level, target="t", message=message, **fields)


async def push(fake: FakeSupervisor, *lines: openshell_pb2.SandboxLogLine) -> None:
    batch = openshell_pb2.PushSandboxLogsRequest(sandbox_id=fake.workload.sandbox_id, logs=lines)
    await fake.client.PushSandboxLogs(iter([batch]))


def ask(**fields: Any) -> openshell_pb2.GetSandboxLogsRequest:
    return openshell_pb2.GetSandboxLogsRequest(workspace_scope=DEFAULT, sandbox="box", **fields)


async def test_logs_in_and_out(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    forged = line("a", source="gateway", sandbox_id="another", fields={"k": "v"})
    await push(fake, forged, line("b", "OCSF"), line("c", "ERROR"))
    await served.gateway.logs.flushed()
    answer = await served.client.GetSandboxLogs(ask())
    assert [(entry.message, entry.source, entry.level) for entry in answer.logs] == [
        ("a", "sandbox", "INFO"),
        ("b", "sandbox", "OCSF"),
        ("c", "sandbox", "ERROR"),
    ]
    assert answer.logs[0].sandbox_id == fake.workload.sandbox_id
    assert answer.logs[0].fields == {"k": "v"}
    assert answer.buffer_total == 3
    # The filter comes first, then the tail (contract/gateway.md 12.32).
    assert [entry.message for entry in (await served.client.GetSandboxLogs(ask(lines=1, min_level="info"))).logs] == [
        "c"
    ]
    assert [entry.message for entry in (await served.client.GetSandboxLogs(ask(lines=5, min_level="warn"))).logs] == [
        "c"
    ]
    assert len((await served.client.GetSandboxLogs(ask(sources=["gateway"]))).logs) == 0
    assert (await failure(served.client.GetSandboxLogs(ask(min_level="loud"))))[0] is CODE.INVALID_ARGUMENT


async def test_logs_are_bounded_and_the_newest_stay(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    for batch in range(30):
        await push(fake, *(line(f"{batch}-{number}") for number in range(100)))
        await served.gateway.logs.flushed()  # the queue never overflows: only the batch's own limit is tested
    await push(fake, *(line("too many") for _ in range(150)))
    await served.gateway.logs.flushed()
    answer = await served.client.GetSandboxLogs(ask())
    assert len(answer.logs) == 2000
    assert answer.buffer_total <= 2200
    messages = [entry.message for entry in answer.logs]
    assert messages[-1] == "50 log lines were dropped: they came faster than they could be stored"
    assert messages[-2] == "too many"
    assert messages.count("too many") == 100


async def test_a_log_stream_keeps_to_one_sandbox(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    requests = [openshell_pb2.PushSandboxLogsRequest(sandbox_id=name) for name in (fake.workload.sandbox_id, "other")]
    assert await failure(fake.client.PushSandboxLogs(iter(requests))) == (
        CODE.PERMISSION_DENIED,
        "log stream sandbox_id changed after validation",
    )


# ---- watching ----------------------------------------------------------------------------------------------------


def watch(**fields: Any) -> openshell_pb2.WatchSandboxRequest:
    return openshell_pb2.WatchSandboxRequest(workspace_scope=DEFAULT, sandbox="box", **fields)


async def test_watch_logs_live_and_resume_without_a_gap(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    await push(fake, line("one"), line("two"), line("three"))
    await served.gateway.logs.flushed()
    call = served.client.WatchSandbox(watch(follow_logs=True, log_tail_lines=2))
    assert (await call.read()).HasField("sandbox")
    events = [await call.read(), await call.read()]
    assert [event.log.message for event in events] == ["two", "three"]
    await push(fake, line("four"))
    assert (await call.read()).log.message == "four"
    call.cancel()
    cursor = events[0].cursor
    assert cursor < events[1].cursor
    await push(fake, line("five"))
    await served.gateway.logs.flushed()
    again = served.client.WatchSandbox(watch(follow_logs=True, resume_after_cursor=cursor))
    assert (await again.read()).HasField("sandbox")
    assert [(await again.read()).log.message for _ in range(3)] == ["three", "four", "five"]
    again.cancel()
    for bad, code in (("x", CODE.INVALID_ARGUMENT), ("9" * 20, CODE.OUT_OF_RANGE)):
        assert (await failure(served.client.WatchSandbox(watch(follow_logs=True, resume_after_cursor=bad))))[0] is code


async def test_watch_tells_of_new_proposals_and_of_the_end(served: Served) -> None:
    fake = served.supervisor(await served.create(name="box"))
    await fake.accepted.wait()
    call = served.client.WatchSandbox(watch(follow_status=True, follow_events=True))
    events = aiter(call)
    assert (await anext(events)).HasField("sandbox")
    await propose(fake, "docs.test")
    async for event in events:
        if event.HasField("draft_policy_update"):
            assert event.draft_policy_update.total_pending == 1
            break
    await served.client.DeleteSandbox(openshell_pb2.DeleteSandboxRequest(workspace_scope=DEFAULT, name="box"))
    phases = [event.sandbox.status.phase async for event in events if event.HasField("sandbox")]
    assert phases[-1:] in ([], [openshell_pb2.SANDBOX_PHASE_DELETING])
    assert await call.code() is CODE.OK


async def test_watch_ends_on_a_terminal_phase_when_asked(tmp_path: Path) -> None:
    driver = FakeDriver(connect=False)
    async with serving(tmp_path, driver) as served:
        request = openshell_pb2.CreateSandboxRequest(workspace_scope=DEFAULT, spec={}, name="box")
        sandbox = (await served.client.CreateSandbox(request, timeout=1.2)).sandbox
        events = aiter(served.client.WatchSandbox(watch(follow_status=True, stop_on_terminal=True)))
        assert (await anext(events)).sandbox.status.phase == openshell_pb2.SANDBOX_PHASE_PROVISIONING
        driver.running[sandbox.metadata.id].connect()
        phases = [event.sandbox.status.phase async for event in events]
        assert phases[-1] == openshell_pb2.SANDBOX_PHASE_READY
        # Nothing followed: what is there now, then the end.
        assert len([event async for event in served.client.WatchSandbox(watch())]) == 1
    await driver.end()
