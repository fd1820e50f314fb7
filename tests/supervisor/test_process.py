"""The whole supervisor as its driver sees it: a process with a control socket. Real doors, real gateway line.

The listener is on this machine's loopback instead of a sandbox's, and owners are found by scanning /proc, so no
namespaces are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pickle
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pyopenshell.isolation import channel
from pyopenshell.supervisor.process import _write_certificates
from pyopenshell.supervisor.proposals import State
from pyopenshell.supervisor.proxy.tls import CertificateAuthority
from pyopenshell.supervisor.spec import SupervisorSpec
from pyopenshell.supervisor.truststore import keystore
from pyopenshell.wire.gen import openshell_pb2 as pb
from tests.supervisor.gateway_double import Gateway
from tests.supervisor.snapshots import PUT, READ, policy, snapshot
from tests.supervisor.test_policy_local import proposal

NETLINK_SOCK_DIAG = 4


class Child:
    """A running supervisor and the host's side of its sockets."""

    def __init__(self, spec: SupervisorSpec, tmp: Path) -> None:
        file = tmp / "spec.pickle"
        file.write_bytes(pickle.dumps(spec))
        self.control, theirs = channel.pair()
        self.lifeline, self._their_lifeline = channel.pair()
        self.root = Path(spec.root)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.supervisor.child", str(file), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            cwd=Path(__file__).parents[2],
        )
        theirs.close()
        self.port = 0

    def give_sockets(self, *, without: str = "") -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        sockets = {
            "proxy": listener.fileno(),
            "diag": diag.fileno(),
            "lifeline": self._their_lifeline.fileno(),
            "proc": proc,
        }
        sockets.pop(without, None)
        channel.send(self.control, {"op": "sockets", "names": list(sockets)}, list(sockets.values()))
        os.close(proc)
        for sock in (listener, diag, self._their_lifeline):
            sock.close()

    async def said(self) -> dict[str, Any] | None:
        """The next message of the supervisor; None at the end."""
        message, _ = await asyncio.wait_for(asyncio.to_thread(channel.receive, self.control), 30)
        return message

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), 30)

    async def local(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        return await self.request(method, f"http://policy.local{path}", body)

    async def request(self, method: str, url: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        host = url.split("/")[2]
        head = f"{method} {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        raw = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        head_bytes, _, answer = raw.partition(b"\r\n\r\n")
        return int(head_bytes.split()[1]), json.loads(answer)

    def log(self) -> str:
        return "".join(f.read_text() for f in sorted((self.root / "log").glob("openshell.*.log")))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.lifeline.close()
        with contextlib.suppress(OSError):
            self._their_lifeline.close()


def spec(tmp: Path, config: bytes, base: SupervisorSpec | None = None) -> SupervisorSpec:
    made = base or dataclasses.replace(Gateway().spec, access=dataclasses.replace(Gateway().spec.access, address=""))
    return dataclasses.replace(made, config=config, root=str(tmp / "root"))


@contextlib.asynccontextmanager
async def started(tmp: Path, made: SupervisorSpec) -> AsyncIterator[Child]:
    child = Child(made, tmp)
    try:
        child.give_sockets()
        assert await child.said() == {"op": "ready"}
        yield child
    finally:
        child.close()


OFF = snapshot(policy()).SerializeToString()
ON = snapshot(policy(), agent_policy_proposals_enabled=True).SerializeToString()


async def test_ready_means_enforcing_and_everything_is_in_place(tmp_path: Path) -> None:
    async with started(tmp_path, spec(tmp_path, OFF)) as child:
        status, denial = await child.request("GET", "http://blocked.invalid/x?secret=1")
        assert (status, denial["error"], denial["host"]) == (403, "policy_denied", "blocked.invalid")
        assert (denial["layer"], denial["next_steps"]) == ("l4", [])
        assert denial["binary"] == os.path.realpath(sys.executable)
        assert (await child.local("GET", "/v1/denials"))[1]["error"] == "feature_disabled"
        tls = child.root / "tls"
        assert (tls / "openshell-ca.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
        assert (tls / "ca-bundle.pem").read_text().endswith((tls / "openshell-ca.pem").read_text())
        for path in tls.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
            assert b"PRIVATE KEY" not in path.read_bytes()
        assert (tls / "cacerts.jks").read_bytes() == keystore((tls / "ca-bundle.pem").read_text())
        assert not (child.root / "openshell" / "skills").exists(), "no skill while the feature never was on"
        assert not (child.root / "openshell" / "AGENTS.md").exists()
        child.lifeline.close()
        assert await child.ended() == 0
        assert " OCSF NET:LISTEN [INFO]" in child.log()
        assert "CONFIG:LOADED [INFO] Policy loaded at start [policy_hash:hash-1 version:1]" in child.log()
        assert "secret" not in child.log()


async def test_the_skill_is_there_before_the_sandbox_starts_when_the_feature_is_on(tmp_path: Path) -> None:
    async with started(tmp_path, spec(tmp_path, ON)) as child:
        assert (child.root / "openshell" / "skills" / "policy_advisor.md").exists()
        assert (child.root / "openshell" / "AGENTS.md").exists()
        await child.request("GET", "http://blocked.invalid/x")
        status, body = await child.local("GET", "/v1/denials?last=1")
        assert (status, body["log_available"]) == (200, True)
        assert "blocked.invalid:80" in body["denials"][0]
        status, body = await child.local("POST", "/v1/proposals", proposal())
        assert (status, body["error"]) == (503, "gateway_unavailable")


@pytest.mark.parametrize("how", ["stop", "hang up", "sigterm"])
async def test_it_ends_orderly_when_told_to(tmp_path: Path, how: str) -> None:
    async with started(tmp_path, spec(tmp_path, OFF)) as child:
        if how == "stop":
            channel.send(child.control, {"op": "stop"})
        elif how == "hang up":
            child.control.close()
        else:
            child.process.terminate()
        assert await child.ended() == 0


async def test_a_policy_that_means_nothing_stops_the_start_with_a_reason(tmp_path: Path) -> None:
    for config in (b"\xff\xff\xff", _unusable()):
        child = Child(spec(tmp_path, config), tmp_path)
        try:
            child.give_sockets()
            said = await child.said()
            assert said is not None
            assert (said["op"], said["reason"]) == ("failed", "PolicyInvalid")
            assert said["message"]
            assert await child.ended() == 1
        finally:
            child.close()


def _unusable() -> bytes:
    bad = snapshot(policy())
    bad.policy.network_policies["api"].endpoints[0].access = 77  # type: ignore[assignment]
    return bad.SerializeToString()


async def test_missing_sockets_and_an_unwritable_root_are_failures(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, OFF), tmp_path)
    child.give_sockets(without="diag")
    said = await child.said()
    assert said is not None
    assert (said["reason"], "diag" in said["message"]) == ("BadSockets", True)
    child.close()
    (tmp_path / "root").rename(tmp_path / "old")
    (tmp_path / "root").write_text("a file")
    child = Child(spec(tmp_path, OFF), tmp_path)
    said = await child.said()
    assert said is not None
    assert said["reason"] == "StateUnwritable"
    child.close()


async def test_the_feature_reaches_a_running_sandbox_by_push_and_leaves_by_push(tmp_path: Path) -> None:
    async with Gateway() as gateway:
        gateway.bootstrap = snapshot(policy())
        async with started(tmp_path, spec(tmp_path, OFF, gateway.spec)) as child:
            session = await gateway.session()
            await session.result()
            assert (await child.local("GET", "/v1/denials"))[1]["error"] == "feature_disabled"
            session.push(snapshot(policy(), agent_policy_proposals_enabled=True))
            await session.result()
            assert (child.root / "openshell" / "skills" / "policy_advisor.md").exists()
            assert (await child.local("GET", "/v1/policy/current"))[0] == 200
            session.push(snapshot(policy(), agent_policy_proposals_enabled=False))
            await session.result()
            assert (await child.local("GET", "/v1/policy/current"))[0] == 404
            assert (child.root / "openshell" / "skills" / "policy_advisor.md").exists()


async def test_the_loop_from_refusal_to_reload(tmp_path: Path) -> None:
    async with Gateway() as gateway:
        gateway.bootstrap = snapshot(policy(), agent_policy_proposals_enabled=True)
        state = State(chunk_id="c1", status="pending", rule_name="put_x")

        async def accept(request: pb.SubmitPolicyAnalysisRequest) -> Any:
            if request.analysis_mode == "mechanistic":
                return pb.SubmitPolicyAnalysisResponse()
            return pb.SubmitPolicyAnalysisResponse(accepted_chunks=1, accepted_chunk_ids=["c1"])

        async def look(request: Any) -> Any:
            return state

        gateway.answers |= {"SubmitPolicyAnalysis": accept, "GetProposal": look}
        async with started(tmp_path, spec(tmp_path, ON, gateway.spec)) as child:
            session = await gateway.session()
            await session.result()
            await asyncio.wait_for(gateway.watching.wait(), 10)
            await child.request("GET", "http://blocked.invalid/x")
            mechanistic = await gateway.received("SubmitPolicyAnalysis")
            assert mechanistic.proposed_chunks[0].rule_name == "allow_blocked_invalid_80"
            status, body = await child.local("POST", "/v1/proposals", proposal())
            assert (status, body["accepted_chunk_ids"]) == (202, ["c1"])
            waiting = asyncio.ensure_future(child.local("GET", "/v1/proposals/c1/wait?timeout=60"))
            await gateway.received("GetProposal")
            gateway.decide(State(chunk_id="c1", status="approved", policy_version=2))
            session.push(snapshot(policy(READ, PUT), version=2, agent_policy_proposals_enabled=True))
            _, body = await asyncio.wait_for(waiting, 10)
            assert (body["status"], body["policy_reloaded"]) == ("approved", True)
            assert "/x" in (await child.local("GET", "/v1/policy/current"))[1]["policy_yaml"]
            missing = {
                "CONFIG:PROPOSED",
                "CONFIG:APPROVED",
                "CONFIG:LOADED [INFO] Policy reloaded successfully [policy_",
            }
            while missing:
                pushed = [line.message for line in (await gateway.received("PushSandboxLogs")).logs]
                missing = {text for text in missing if not any(line.startswith(text) for line in pushed)}


async def test_without_its_gateway_it_goes_on_enforcing_and_returns_to_it(tmp_path: Path) -> None:
    gateway = Gateway()
    gateway.bootstrap = snapshot(policy(), version=5)
    await gateway.start()
    async with started(tmp_path, spec(tmp_path, OFF, gateway.spec)) as child:
        await (await gateway.session()).result()
        await gateway.stop()
        assert (await child.request("GET", "http://blocked.invalid/x"))[0] == 403
        await gateway.start()
        session = await gateway.session()
        assert session.hello.connection_epoch > 1
        await session.result()
    await gateway.stop()


def test_the_bundle_works_without_a_system_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyopenshell.supervisor.process.SYSTEM_ROOTS", ("/nonexistent",))
    _write_certificates(tmp_path / "tls", "CA\n")
    assert (tmp_path / "tls" / "ca-bundle.pem").read_text() == "CA\n"


def test_a_damaged_system_bundle_leaves_java_with_our_own_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "roots.pem"
    damaged.write_text("# \u00e4 comment\n-----BEGIN CERTIFICATE-----\n!!A\n-----END CERTIFICATE-----\n")
    monkeypatch.setattr("pyopenshell.supervisor.process.SYSTEM_ROOTS", (str(damaged),))
    own = CertificateAuthority.create("ours").ca_pem
    _write_certificates(tmp_path / "tls", own)
    assert (tmp_path / "tls" / "cacerts.jks").read_bytes() == keystore(own)
