"""The gate and the surface, with real gRPC clients over real mutual TLS (attacks G-1, G-12, H-7)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pyopenshell.gateway.admissions import Admissions
from pyopenshell.gateway.auth import Gate
from pyopenshell.gateway.certificates import Authority
from pyopenshell.gateway.clock import system_clock
from pyopenshell.gateway.errors import DETAILS_KEY, DOMAIN, conflict
from pyopenshell.gateway.server import BindError, Server
from pyopenshell.gateway.tokens import Tokens
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2, pyopenshell_pb2
from pyopenshell.wire.service import methods
from tests.gateway.serving import (
    DEFAULT,
    Client,
    FakeSupervisor,
    Served,
    channel,
    failure,
    sandbox_channel,
    serving,
)

CODE = grpc.StatusCode
LOADED = openshell_pb2.POLICY_STATUS_LOADED
LIST = openshell_pb2.ListSandboxesRequest(workspace_scope=DEFAULT)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as running:
        yield running


async def supervisor(served: Served, name: str = "box") -> FakeSupervisor:
    return served.supervisor(await served.create(name=name))


@contextlib.asynccontextmanager
async def with_certificate(served: Served, certificate: bytes | None, key: bytes | None) -> AsyncIterator[Client]:
    link = channel(f"127.0.0.1:{served.gateway.port}", served.gateway.bundle.authority.pem, certificate, key)
    try:
        yield Client(link)
    finally:
        await link.close()


# ---- the certificate ---------------------------------------------------------------------------------------------


async def test_no_certificate_no_handshake(served: Served) -> None:
    async with with_certificate(served, None, None) as client:
        assert (await failure(client.Health(openshell_pb2.HealthRequest(), timeout=5)))[0] is CODE.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_no_certificate(served: Served) -> None:
    pair = Authority.create("openshell-gateway-ca").user("root")
    async with with_certificate(served, pair.certificate, pair.key) as client:
        assert (await failure(client.Health(openshell_pb2.HealthRequest(), timeout=5)))[0] is CODE.UNAVAILABLE


async def test_plaintext_is_refused(served: Served) -> None:
    link = grpc.aio.insecure_channel(f"127.0.0.1:{served.gateway.port}")
    try:
        assert (await failure(Client(link).Health(openshell_pb2.HealthRequest(), timeout=5)))[0] is CODE.UNAVAILABLE
    finally:
        await link.close()


async def test_the_server_certificate_serves_no_client(served: Served) -> None:
    pair = served.gateway.bundle.server
    async with with_certificate(served, pair.certificate, pair.key) as client:
        code, _ = await failure(client.ListSandboxes(LIST, timeout=5))
        assert code in (CODE.UNAVAILABLE, CODE.UNAUTHENTICATED)


async def test_a_user_certificate_is_an_administrator(served: Served) -> None:
    me = await served.client.GetCurrentUser(openshell_pb2.GetCurrentUserRequest())
    assert me.subject.startswith("mtls:CN=")
    assert list(me.roles) == ["openshell-admin", "openshell-user"]
    assert me.identity_provider == "mtls"
    info = await served.client.GetGatewayInfo(openshell_pb2.GetGatewayInfoRequest())
    assert info.compute_drivers[0].name == "local"
    assert info.gateway_version


# ---- sandbox principals ------------------------------------------------------------------------------------------


async def test_sandbox_on_user_rpc_and_user_on_sandbox_rpc(served: Served) -> None:
    fake = await supervisor(served)
    denied = (CODE.PERMISSION_DENIED, "sandbox principals may not call this method")
    assert await failure(fake.client.ListSandboxes(LIST)) == denied
    approval = openshell_pb2.ApproveDraftChunkRequest(workspace_scope=DEFAULT, sandbox="box", chunk_id="x")
    assert await failure(fake.client.ApproveDraftChunk(approval)) == denied
    exec_request = openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, sandbox="box", command=["id"])
    assert await failure(fake.client.ExecSandbox(exec_request)) == denied
    needs_sandbox = (CODE.PERMISSION_DENIED, "this method requires a sandbox principal")
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id="x", version=1)
    assert await failure(served.client.ReportPolicyStatus(report)) == needs_sandbox
    assert await failure(served.client.RefreshSandboxToken(openshell_pb2.RefreshSandboxTokenRequest())) == needs_sandbox
    assert await failure(served.client.WatchProposals(pyopenshell_pb2.WatchProposalsRequest())) == needs_sandbox


async def test_every_user_rpc_refuses_a_sandbox_and_every_sandbox_rpc_a_user(served: Served) -> None:
    fake = await supervisor(served)
    for method in methods().values():
        if method.client_streaming:
            continue  # the same gate; their streams are exercised elsewhere
        if method.auth_mode in ("bearer", "operator", "peer"):
            code, message = await failure(getattr(fake.client, method.name)(method.request(), timeout=5))
            assert code is CODE.PERMISSION_DENIED, method.path
            if method.auth_mode == "bearer":
                assert message == "sandbox principals may not call this method", method.path
        elif method.auth_mode == "sandbox":
            code, message = await failure(getattr(served.client, method.name)(method.request(), timeout=5))
            assert (code, message) == (CODE.PERMISSION_DENIED, "this method requires a sandbox principal"), method.path


async def test_a_sandbox_certificate_alone_is_nobody(served: Served) -> None:
    fake = await supervisor(served)
    bare = Client(fake.channel)
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=fake.workload.sandbox_id, version=1)
    assert await failure(bare.ReportPolicyStatus(report)) == (CODE.UNAUTHENTICATED, "missing authorization header")
    assert await failure(bare.ListSandboxes(LIST)) == (CODE.UNAUTHENTICATED, "missing authorization header")


async def test_a_user_certificate_with_a_sandbox_token_is_refused(served: Served) -> None:
    fake = await supervisor(served)
    client = Client(served.client.channel, fake.workload.access.token)
    code, message = await failure(client.ListSandboxes(LIST))
    assert (code, message) == (
        CODE.UNAUTHENTICATED,
        "this gateway takes no bearer token together with a user certificate",
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic abc", "the authorization header is not a bearer token"),
        ("Bearer ", "invalid sandbox token: the token is malformed"),
        ("Bearer a.b.c", "invalid sandbox token: the token is malformed"),
        ("Bearer " + "x" * 5000, "invalid sandbox token: the token is malformed"),
    ],
)
async def test_malformed_headers(served: Served, header: str, expected: str) -> None:
    fake = await supervisor(served)
    client = Client(fake.channel)
    client.metadata = (("authorization", header),)
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=fake.workload.sandbox_id, version=1)
    assert await failure(client.ReportPolicyStatus(report)) == (CODE.UNAUTHENTICATED, expected)


async def test_two_authorization_headers_are_ambiguous(served: Served) -> None:
    fake = await supervisor(served)
    client = Client(fake.channel)
    client.metadata = (("authorization", f"Bearer {fake.workload.access.token}"),) * 2
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=fake.workload.sandbox_id, version=1)
    code, message = await failure(client.ReportPolicyStatus(report))
    assert code is CODE.UNAUTHENTICATED
    # gRPC may join repeated headers with a comma; either way nobody is let in.
    assert message.startswith(("exactly one authorization header", "invalid sandbox token"))


async def test_forged_expired_and_foreign_tokens(served: Served) -> None:
    one, two = await supervisor(served, "one"), await supervisor(served, "two")
    me, now = one.workload.sandbox_id, [2_000_000_000.0]
    ours = served.gateway.tokens
    old = Tokens(ours._key, "openshell", 60, lambda: now[0] - 3_000_000_000)
    attempts = {
        Tokens(Ed25519PrivateKey.generate(), "openshell", 60).issue(me, 1).text: "signed by another key",
        Tokens(ours._key, "other", 60).issue(me, 1).text: "another gateway",
        old.issue(me, 1).text: "expired",
        two.workload.access.token: "another sandbox than the certificate",
        ours.issue(two.workload.sandbox_id, 1).text: "another sandbox than the certificate",
        ours.issue(me, 0).text: "revoked",
        ours.issue(me, 2).text: "revoked",
    }
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=me, version=1, status=LOADED)
    for token, reason in attempts.items():
        code, message = await failure(Client(one.channel, token).ReportPolicyStatus(report))
        assert code is CODE.UNAUTHENTICATED
        assert message.startswith("invalid sandbox token: ")
        assert reason in message
        assert token not in message
    await one.client.ReportPolicyStatus(report)  # its own works


async def test_an_expired_token_may_be_exchanged_but_nothing_else(served: Served) -> None:
    fake = await supervisor(served)
    me = fake.workload.sandbox_id
    yesterday = Tokens(served.gateway.tokens._key, "openshell", 60, lambda: __import__("time").time() - 86400)
    client = Client(fake.channel, yesterday.issue(me, 1).text)
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=me, version=1, status=LOADED)
    assert (await failure(client.ReportPolicyStatus(report)))[0] is CODE.UNAUTHENTICATED
    fresh = await client.RefreshSandboxToken(openshell_pb2.RefreshSandboxTokenRequest())
    assert fresh.token == fresh.sandbox_token
    assert fresh.credential_epoch == 1
    assert fresh.expiration_time.seconds > 0
    await Client(fake.channel, fresh.token).ReportPolicyStatus(report)


async def test_a_sandbox_names_only_itself(served: Served) -> None:
    one, two = await supervisor(served, "one"), await supervisor(served, "two")
    crossing = (CODE.PERMISSION_DENIED, "cross-sandbox access denied: principal does not own this sandbox")
    other = two.workload.sandbox_id
    client = one.client
    report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=other, version=1, status=LOADED)
    assert await failure(client.ReportPolicyStatus(report)) == crossing
    ended = openshell_pb2.ReportMainProcessExitRequest(sandbox_id=other, exit_code=0)
    assert await failure(client.ReportMainProcessExit(ended)) == crossing
    environment = openshell_pb2.GetSandboxProviderEnvironmentRequest(sandbox_id=other)
    assert await failure(client.GetSandboxProviderEnvironment(environment)) == crossing
    lines = iter([openshell_pb2.PushSandboxLogsRequest(sandbox_id=other)])
    assert await failure(client.PushSandboxLogs(lines)) == crossing
    hello = openshell_pb2.SupervisorMessage(hello=openshell_pb2.SupervisorHello(sandbox_id=other))
    assert await failure(client.ConnectSupervisor(iter([hello]))) == crossing
    analysis = openshell_pb2.SubmitPolicyAnalysisRequest(workspace_scope=DEFAULT, name="two")
    assert (await failure(client.SubmitPolicyAnalysis(analysis)))[0] is CODE.NOT_FOUND
    draft = openshell_pb2.GetDraftPolicyRequest(workspace_scope=DEFAULT, sandbox="two")
    assert (await failure(client.GetDraftPolicy(draft)))[0] is CODE.NOT_FOUND


async def test_a_deleted_sandbox_is_nobody(served: Served) -> None:
    fake = await supervisor(served)
    token = fake.workload.access.token
    link = sandbox_channel(fake.workload.access)
    try:
        report = openshell_pb2.ReportPolicyStatusRequest(sandbox_id=fake.workload.sandbox_id, version=1, status=LOADED)
        await Client(link, token).ReportPolicyStatus(report)
        await served.client.DeleteSandbox(openshell_pb2.DeleteSandboxRequest(workspace_scope=DEFAULT, name="box"))
        code, message = await failure(Client(link, token).ReportPolicyStatus(report))
        assert (code, message) == (CODE.UNAUTHENTICATED, "invalid sandbox token: it was revoked")
    finally:
        await link.close()


# ---- the surface -------------------------------------------------------------------------------------------------


async def test_unknown_and_unoffered_methods_say_so(served: Served) -> None:
    unknown = served.client.channel.unary_unary("/openshell.v1.OpenShell/Nothing")
    code, message = await failure(unknown(b""))
    assert code is CODE.UNIMPLEMENTED
    served_ = "openshell.v1.OpenShell, pyopenshell.v1.Consoles, pyopenshell.v1.Proposals, pyopenshell.v1.Review"
    assert message == f"unknown method; served: {served_}"
    code, message = await failure(served.client.ListProviders(openshell_pb2.ListProvidersRequest()))
    assert code is CODE.UNIMPLEMENTED
    assert message == (
        "ListProviders is part of openshell.v1.OpenShell but this gateway does not offer it: "
        "credentials are not injected into requests yet"
    )


async def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    request = openshell_pb2.CreateSandboxRequest(workspace_scope=DEFAULT, annotations={"a": "x" * (1024 * 1024)})
    assert (await failure(served.client.CreateSandbox(request)))[0] is CODE.RESOURCE_EXHAUSTED


async def test_workspace_scope_is_required_with_the_field_in_the_details(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.client.ListSandboxes(openshell_pb2.ListSandboxesRequest())
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert caught.value.details() == "workspace_scope is required"
    raw = dict(caught.value.trailing_metadata() or ())[DETAILS_KEY]
    assert isinstance(raw, bytes)
    assert b"google.rpc.BadRequest" in raw
    assert b"workspace_scope" in raw


def test_error_details_are_google_rpc_status() -> None:
    """Decoded with descriptors written independently of errors.py, as a client library would have them."""
    (_, raw), = conflict("UpdateConfig", 7).trailing_metadata()  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="status.proto", package="google.rpc", syntax="proto3")
    status = file.message_type.add(name="Status")
    for number, (name, kind) in enumerate((("code", 5), ("message", 9)), 1):
        status.field.add(name=name, number=number, type=kind, label=1)
    pool.AddSerializedFile(file.SerializeToString())
    decoded = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status")).FromString(raw)
    assert decoded.code == CODE.ABORTED.value[0]  # type: ignore[attr-defined]
    assert decoded.message == "UpdateConfig failed due to concurrent modification (current resource_version: 7)"  # type: ignore[attr-defined]
    assert b"RESOURCE_VERSION_CONFLICT" in raw
    assert DOMAIN.encode() in raw
    assert b"REFRESH_STATE" in raw


async def test_an_unexpected_failure_tells_nothing_of_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(*_: object) -> None:
        raise RuntimeError("secret /etc/path")

    monkeypatch.setattr(type(served.gateway.workspaces), "get", explode)
    code, message = await failure(served.client.GetWorkspace(openshell_pb2.GetWorkspaceRequest(name="x")))
    assert code is CODE.INTERNAL
    assert "secret" not in message
    assert message.startswith("internal error ")


async def test_a_port_in_use_is_an_error_with_the_fix(served: Served) -> None:
    gateway, bundle = served.gateway, served.gateway.bundle

    def server() -> Server:
        return Server(
            Gate(gateway.tokens, gateway.sandboxes.epoch_of),
            (),
            Admissions(gateway.store, system_clock),
            gateway.metrics,
        )

    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(BindError, match="in use") as caught:
            server().bind("127.0.0.1", taken.getsockname()[1], bundle)
        assert "--port 0" in caught.value.fix
    with pytest.raises(BindError):
        server().bind("127.0.0.1", served.gateway.port, bundle)


async def test_operator_status_shows_the_overrides(tmp_path: Path) -> None:
    text = (
        '[openshell]\nversion = 1\n[[openshell.gateway.connect_to]]\nhost = "api.test"\nport = 443\n'
        'address = "127.0.0.1:9"\n'
    )
    async with serving(tmp_path, text=text) as running:
        await running.create()
        status = await running.client.GetOperatorStatus(pyopenshell_pb2.GetOperatorStatusRequest())
        assert [(entry.host, entry.port, entry.address, entry.has_ca) for entry in status.connect_to] == [
            ("api.test", 443, "127.0.0.1:9", False)
        ]
        assert status.sandboxes_connected == 1
        assert status.state_dir == str(tmp_path / "state" / "openshell")
        assert running.driver.created[0].connect_to == running.gateway.configuration.connect_to
        assert running.driver.created[0].tunnel_idle_seconds == 86400


# ---- workspaces --------------------------------------------------------------------------------------------------


async def test_workspaces(served: Served) -> None:
    client = served.client
    made = await client.CreateWorkspace(openshell_pb2.CreateWorkspaceRequest(name="team", labels={"a": "b"}))
    assert made.workspace.status.phase == datamodel_pb2.WORKSPACE_PHASE_ACTIVE
    again = client.CreateWorkspace(openshell_pb2.CreateWorkspaceRequest(name="team"))
    assert await failure(again) == (CODE.ALREADY_EXISTS, "workspace 'team' already exists")
    first = await client.ListWorkspaces(openshell_pb2.ListWorkspacesRequest(page_size=1))
    second = await client.ListWorkspaces(
        openshell_pb2.ListWorkspacesRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [first.workspaces[0].metadata.name, second.workspaces[0].metadata.name] == ["default", "team"]
    assert second.next_page_token == ""
    labelled = await client.ListWorkspaces(openshell_pb2.ListWorkspacesRequest(label_selector="a=b"))
    assert [found.metadata.name for found in labelled.workspaces] == ["team"]
    in_team = openshell_pb2.CreateSandboxRequest(
        workspace_scope=datamodel_pb2.WorkspaceSelector(workspace="team"), spec=openshell_pb2.SandboxSpec(), name="box"
    )
    await client.CreateSandbox(in_team)
    delete = openshell_pb2.DeleteWorkspaceRequest(name="team")
    assert await failure(client.DeleteWorkspace(delete)) == (
        CODE.FAILED_PRECONDITION,
        "workspace 'team' still contains resources: sandbox",
    )
    await client.DeleteSandbox(openshell_pb2.DeleteSandboxRequest(workspace_scope=in_team.workspace_scope, name="box"))
    assert (await client.DeleteWorkspace(delete)).outcome == openshell_pb2.DELETION_OUTCOME_COMPLETED
    assert (await failure(client.DeleteWorkspace(delete)))[0] is CODE.NOT_FOUND
    delete.allow_missing = True
    assert (await client.DeleteWorkspace(delete)).outcome == openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT
    default = openshell_pb2.DeleteWorkspaceRequest(name="default")
    assert await failure(client.DeleteWorkspace(default)) == (
        CODE.FAILED_PRECONDITION,
        "the default workspace cannot be deleted",
    )
    unknown = openshell_pb2.CreateSandboxRequest(workspace_scope=in_team.workspace_scope, spec=in_team.spec)
    assert (await failure(client.CreateSandbox(unknown)))[0] is CODE.NOT_FOUND


async def test_many_calls_at_once(served: Served) -> None:
    answers = await asyncio.gather(*(served.client.Health(openshell_pb2.HealthRequest()) for _ in range(200)))
    assert all(answer.status == openshell_pb2.SERVICE_STATUS_HEALTHY for answer in answers)
