"""The line to the gateway, against a real gRPC server with mutual TLS: push, acknowledgement, loss and return."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from pyopenshell.audit.events import ConfigEvent, Event
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.model import Policy
from pyopenshell.supervisor.config import Configuration
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.link import Link, Outbox, renewal_due
from pyopenshell.supervisor.proposals import Proposals, State
from pyopenshell.supervisor.rpc import GatewayChannel, LinkError
from pyopenshell.supervisor.spec import SupervisorSpec
from pyopenshell.wire.gen import openshell_pb2 as pb
from tests.supervisor.gateway_double import Gateway
from tests.supervisor.pki import pki
from tests.supervisor.snapshots import PUT, READ, policy, snapshot


class Box:
    """A supervisor without doors: link, configuration, proposals."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self.events: list[Event] = []
        self.heard = asyncio.Condition()
        self.current = Current(compile_engine(Policy()), version=0)
        self.configuration = Configuration(
            self.current,
            lambda content, reuse: compile_engine(content),
            self,
            loaded=lambda swapped: self.proposals.bell.ring(),
            settings_changed=lambda settings: None,
        )
        self.proposals = Proposals(self)
        self.link = Link(spec, self.configuration, self.proposals, self)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [shorthand(event) for event in self.events]


@contextlib.asynccontextmanager
async def running(gateway: Gateway, spec: SupervisorSpec | None = None) -> AsyncIterator[Box]:
    box = Box(spec or gateway.spec)
    task = asyncio.ensure_future(box.link.run())
    try:
        yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_bootstrap_is_applied_and_answered_and_the_status_reported() -> None:
    async with Gateway() as gateway:
        gateway.bootstrap = snapshot(policy(READ, PUT), version=3)
        async with running(gateway) as box:
            session = await gateway.session()
            assert (session.hello.sandbox_id, session.hello.instance_id) == ("sb-1", "inst-1")
            assert session.hello.supports_config_push
            result = await session.result()
            assert (result.update_id, result.outcome) == ("bootstrap", pb.CONFIG_APPLY_OUTCOME_APPLIED)
            assert (result.policy_load.version, result.policy_load.loaded) == (3, True)
            assert result.admission.state == pb.CONFIGURATION_ADMISSION_STATE_ACCEPTED
            status = await gateway.received("ReportPolicyStatus")
            assert (status.sandbox_id, status.version, status.status) == ("sb-1", 3, pb.POLICY_STATUS_LOADED)
            assert box.current.version == 3
            assert set(gateway.tokens) == {"Bearer first-token"}


async def test_updates_are_applied_in_order_and_a_bad_one_is_reported_as_failed() -> None:
    async with Gateway() as gateway, running(gateway) as box:
        session = await gateway.session()
        bad = snapshot(policy(), version=2)
        bad.policy.network_policies["api"].endpoints[0].access = 77  # type: ignore[assignment]
        session.push(snapshot(policy(), version=1), "one")
        session.push(bad, "two")
        session.push(snapshot(policy(READ, PUT), version=3), "three")
        results = [await session.result() for _ in range(3)]
        assert [r.update_id for r in results] == ["one", "two", "three"]
        assert [r.policy_load.loaded for r in results] == [True, False, True]
        assert results[1].outcome == pb.CONFIG_APPLY_OUTCOME_FAILED_RETAINED_LAST_KNOWN_GOOD
        assert results[1].failure.code == "policy_not_usable"
        reports = [await gateway.received("ReportPolicyStatus") for _ in range(3)]
        assert [(r.version, r.status) for r in reports] == [
            (1, pb.POLICY_STATUS_LOADED),
            (2, pb.POLICY_STATUS_FAILED),
            (3, pb.POLICY_STATUS_LOADED),
        ]
        assert box.current.version == 3


async def test_heartbeats_flow_while_nothing_happens() -> None:
    async with Gateway(heartbeat=0.05) as gateway, running(gateway):
        session = await gateway.session()
        message = await asyncio.wait_for(session.received.get(), 5)
        assert message.WhichOneof("payload") == "heartbeat"


async def test_a_gateway_that_falls_silent_is_left_and_met_again() -> None:
    async with Gateway(heartbeat=0.05) as gateway, running(gateway):
        first = await gateway.session()
        second = await gateway.session()
        assert second.hello.connection_epoch == first.hello.connection_epoch + 1


async def test_an_ended_session_is_reopened_and_said_once() -> None:
    async with Gateway() as gateway, running(gateway) as box:
        (await gateway.session()).end()
        await gateway.session()
        await box.link.wait_online()
        (line,) = [line for line in box.lines if line.startswith("NET:FAIL")]
        assert line.startswith("NET:FAIL [LOW] [msg:gateway link lost, enforcement goes on: the gateway ended the ")


async def test_a_mistake_while_a_policy_takes_effect_ends_one_session_and_not_the_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Gateway() as gateway, running(gateway) as box:
        session = await gateway.session()

        async def apply(*_: object) -> None:
            raise ValueError("a mistake of ours")

        with monkeypatch.context() as mistaken:
            mistaken.setattr(box.configuration, "apply", apply)
            session.push(snapshot(policy(READ, PUT), version=2))
            second = await gateway.session()
        second.push(snapshot(policy(), version=3))
        while (await second.result()).policy_load.version != 3:
            pass
        assert box.current.version == 3
        assert "enforcement goes on: ValueError: a mistake of ours" in "".join(box.lines)
        assert "Traceback" in capsys.readouterr().err


async def test_a_gateway_restart_loses_no_log_line_and_no_status() -> None:
    gateway = Gateway()
    await gateway.start()
    async with running(gateway) as box:
        session = await gateway.session()
        await gateway.stop()
        await session.ended.wait()
        for number in range(120):
            box.link.log(1000 + number, ConfigEvent("TEST", ""), f"line {number}")
        await gateway.start()
        seen: list[str] = []
        while len(seen) < 120:
            batch = await gateway.received("PushSandboxLogs")
            assert len(batch.logs) <= 50
            seen += [line.message for line in batch.logs]
        assert seen == [f"line {n}" for n in range(120)]
        assert box.link.log_lines_dropped == 0
    await gateway.stop()


async def test_a_log_line_carries_what_the_gateway_shows() -> None:
    async with Gateway() as gateway, running(gateway) as box:
        box.link.log(1_700_000_000_123, ConfigEvent("LOADED", "x"), "CONFIG:LOADED [INFO] x")
        (line,) = (await gateway.received("PushSandboxLogs")).logs
        assert (line.sandbox_id, line.level, line.message, line.source) == (
            "sb-1",
            "OCSF",
            "CONFIG:LOADED [INFO] x",
            "sandbox",
        )
        assert line.event_time.ToMilliseconds() == 1_700_000_000_123


async def test_a_full_outbox_drops_the_oldest_and_counts() -> None:
    sent: list[int] = []
    gate, started, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(batch: Any) -> None:
        started.set()
        await gate.wait()
        sent.extend(batch)
        if len(sent) == 5:
            done.set()

    async def online() -> None:
        return

    box: Outbox[int] = Outbox(send, limit=5, batch=2)
    for number in range(3):
        box.put(number)
    task = asyncio.ensure_future(box.run(online))
    await started.wait()
    for number in range(3, 10):
        box.put(number)
    gate.set()
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    assert sent == [0, 1, 7, 8, 9], "what is under way is not dropped, what is newest is kept"
    assert box.dropped == 5


async def test_what_the_gateway_refuses_for_good_does_not_block_the_rest() -> None:
    sent: list[int] = []
    done = asyncio.Event()

    async def send(batch: Any) -> None:
        if batch == [1]:
            raise LinkError("INVALID_ARGUMENT", "no", transient=False)
        sent.extend(batch)
        if len(sent) == 2:
            done.set()

    async def online() -> None:
        return

    box: Outbox[int] = Outbox(send, limit=5, batch=1)
    for number in range(3):
        box.put(number)
    task = asyncio.ensure_future(box.run(online))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    assert (sent, box.dropped) == ([0, 2], 1)


async def test_decisions_arrive_by_push() -> None:
    async with Gateway() as gateway, running(gateway) as box:
        await asyncio.wait_for(gateway.watching.wait(), 10)
        waiting = asyncio.ensure_future(_until(box, lambda: box.proposals.get("c1") is not None))
        gateway.decide(State(chunk_id="c1", status="approved", policy_version=2, summary="a.test:443"))
        await asyncio.wait_for(waiting, 10)
        assert "CONFIG:APPROVED [INFO] chunk:c1 approved on a.test:443" in box.lines


async def _until(box: Box, true: Any) -> None:
    while not true():
        await box.proposals.bell.wait(10)


async def test_errors_come_in_kinds_a_caller_can_act_on() -> None:
    async with Gateway() as gateway, running(gateway) as box:
        await gateway.session()

        async def refuse(request: Any) -> Any:
            raise RuntimeError("bug in the gateway")

        gateway.answers["SubmitPolicyAnalysis"] = refuse
        with pytest.raises(LinkError) as caught:
            await box.link.submit(pb.SubmitPolicyAnalysisRequest(name="box"))
        assert (caught.value.status, caught.value.transient) == ("UNKNOWN", False)
    with pytest.raises(LinkError) as caught:
        await box.link.submit(pb.SubmitPolicyAnalysisRequest(name="box"))
    assert (caught.value.status, caught.value.transient) == ("", True)


async def test_without_a_gateway_the_link_says_so_and_rests() -> None:
    spec = SupervisorSpec(
        "sb", "box", "default", "i", b"", dataclasses.replace(Gateway().spec.access, address=""), "/x"
    )
    box = Box(spec)
    await asyncio.wait_for(box.link.run(), 5)
    with pytest.raises(LinkError) as caught:
        await box.link.proposal("c1")
    assert caught.value.status == "UNCONFIGURED"


async def test_a_gateway_with_another_authority_is_not_talked_to() -> None:
    async with Gateway() as gateway:
        import tests.supervisor.pki as module

        foreign = module.pki.__wrapped__()
        access = dataclasses.replace(gateway.spec.access, ca_pem=foreign.authority)
        channel = GatewayChannel(access)
        with pytest.raises(LinkError) as caught:
            await channel.call("ReportPolicyStatus", pb.ReportPolicyStatusRequest())
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.message
        assert gateway.tokens == [], "the token must not have left"
        channel.close()


async def test_a_relay_is_refused_at_once() -> None:
    async with Gateway() as gateway, running(gateway):
        session = await gateway.session()
        session.outgoing.put_nowait(pb.GatewayMessage(relay_open=pb.RelayOpen(channel_id="ch-1")))
        while not (message := await asyncio.wait_for(session.received.get(), 10)).HasField("relay_open_result"):
            pass
        assert (message.relay_open_result.channel_id, message.relay_open_result.success) == ("ch-1", False)


def jwt(issued: float, expires: float) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'EdDSA'})}.{part({'iat': issued, 'exp': expires})}.c2ln"


async def test_the_token_is_renewed_at_four_fifths_of_its_life() -> None:
    assert renewal_due(jwt(1000, 2000)) == 1800
    assert renewal_due(jwt(1000, 0)) is None
    for nonsense in ("", "a.b", "a.b.c", "a.!!.c", "a.W10.c"):
        assert renewal_due(nonsense) is None
    async with Gateway() as gateway:

        async def renew(request: Any) -> Any:
            return pb.RefreshSandboxTokenResponse(token="second-token")

        gateway.answers["RefreshSandboxToken"] = renew
        spec = gateway.spec
        old = dataclasses.replace(spec, access=dataclasses.replace(spec.access, token=jwt(1000, 2000)))
        async with running(gateway, old) as box:
            await gateway.received("RefreshSandboxToken")
            await gateway.session()
            box.link.log(1, ConfigEvent("TEST", ""), "x")
            await gateway.received("PushSandboxLogs")
            assert gateway.tokens[-1] == "Bearer second-token"


def test_secrets_do_not_show_in_representations() -> None:
    keys = pki()
    spec = Gateway().spec
    for text in (repr(spec), repr(GatewayChannel(spec.access))):
        assert "first-token" not in text
        assert keys.client.key.splitlines()[1] not in text


def test_the_supervisor_never_imports_grpcio() -> None:
    script = "import sys, pyopenshell.supervisor.process as p; assert 'grpc' not in sys.modules, 'grpcio was imported'"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert grpc.__name__ == "grpc", "the double itself does use it"
