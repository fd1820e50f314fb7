"""The outer edge of a served gateway: reflection, details of errors, health and metrics, clients that leave early."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from pyopenshell.gateway.app import Gateway
from pyopenshell.gateway.configuration import load
from pyopenshell.gateway.errors import DETAILS_KEY, GatewayError, exhausted
from pyopenshell.wire import status
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2
from pyopenshell.wire.service import methods
from tests.gateway.serving import DEFAULT, Client, FakeDriver, environ, failure, serving, user_channel

# ---- reflection ------------------------------------------------------------------------------------------------------


async def reflected(channel: grpc.aio.Channel, service: str, *requests: Any) -> list[Any]:
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter(requests))
    return [response async for response in call]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_every_service_and_enough_to_call_it(tmp_path: Path, version: str) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    async with serving(tmp_path) as served:
        service = f"grpc.reflection.{version}.ServerReflection"
        listed, files, unknown = await reflected(
            served.client.channel,
            service,
            ask(list_services=""),
            ask(file_containing_symbol="openshell.v1.OpenShell"),
            ask(file_containing_symbol="no.such.Thing"),
        )
    names = {one.name for one in listed.list_services_response.service}
    assert {method.service for method in methods().values()} < names
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    found = {}
    for blob in files.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(blob)
        found[file.name] = file
    assert all(dependency in found for file in found.values() for dependency in file.dependency)
    (main,) = [file for file in found.values() if file.service]
    assert {method.name for method in main.service[0].method} >= {"CreateSandbox", "ApproveDraftChunk"}


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_details_say_the_field_the_reason_and_when_to_come_again() -> None:
    ((key, blob),) = GatewayError("INVALID_ARGUMENT", "name is required", field="name").trailing_metadata()
    found = status.decode(blob)
    assert key == DETAILS_KEY
    assert (found.fields, found.reason, found.domain) == (
        (("name", "name is required"),), "INVALID_ARGUMENT", "openshell.v1",
    )  # fmt: skip
    ((_, blob),) = exhausted("later", retry_after=1.5).trailing_metadata()
    assert status.decode(blob) == status.Details(retry_after=1.5)
    assert status.decode(b"\xff") == status.Details()
    assert GatewayError("NOT_FOUND", "x").trailing_metadata() == ()


async def test_what_this_gateway_does_not_have_is_said_in_a_sentence(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        code, text = await failure(served.client.ExposeService(openshell_pb2.ExposeServiceRequest()))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert text.startswith("ExposeService is part of openshell.v1.OpenShell but this gateway does not offer it")
        call = served.client.channel.unary_unary("/no.such.Service/Method")
        code, text = await failure(call(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert text.startswith("unknown method; served: ")


# ---- clients that leave ----------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_at_any_moment_leaves_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to be logged as "aclose(): asynchronous generator is already running"."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    caplog.set_level(logging.WARNING)
    inbox = pyopenshell_pb2.WatchInboxRequest(workspace_scope=DEFAULT)
    watch = openshell_pb2.WatchSandboxRequest(
        workspace_scope=DEFAULT, sandbox="box", follow_status=True, follow_logs=True
    )
    sleep = openshell_pb2.ExecSandboxRequest(workspace_scope=DEFAULT, sandbox="box", command=["sleep", "60"])
    async with serving(tmp_path) as served:
        await served.create(name="box")
        for turn in range(24):
            for name, request in (("WatchInbox", inbox), ("WatchSandbox", watch), ("ExecSandbox", sleep)):
                call = getattr(served.client, name)(request)
                for _ in range(turn):
                    await asyncio.sleep(0.0004)
                call.cancel()
        link = user_channel(served.gateway)
        waiting = [Client(link).WatchInbox(inbox) for _ in range(10)]
        for call in waiting:
            await call.read()
        await link.close()
        while served.gateway.bus.subscribers("inbox"):
            await asyncio.sleep(0.01)
    gc.collect()
    assert complaints == []
    assert [record.getMessage() for record in caplog.records] == []


# ---- health and metrics ----------------------------------------------------------------------------------------------


async def fetch(port: int, path: str, *, host: str = "localhost", method: str = "GET") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        port = served.gateway.probes_port
        assert served.gateway.probes == f"http://127.0.0.1:{port}"
        await served.create(name="secret-name")
        assert await fetch(port, "/healthz") == (200, "ok\n")
        assert await fetch(port, "/readyz") == (200, "ready\n")
        assert await fetch(port, "/readyz", method="HEAD") == (200, "")
        code, text = await fetch(port, "/metrics")
        assert code == 200
        assert 'openshell_sandboxes{phase="ready"} 1.0' in text
        assert "openshell_supervisors_connected 1.0" in text
        assert 'openshell_grpc_calls_total{code="OK",method="CreateSandbox"} 1.0' in text
        assert 'openshell_grpc_streams{method="ConnectSupervisor"} 1.0' in text
        assert "process_resident_memory_bytes" in text
        assert "secret-name" not in text
        served.gateway.sandboxes.driver_trouble = "no namespaces here"
        assert await fetch(port, "/readyz") == (503, "driver fake: no namespaces here\n")
        assert (await fetch(port, "/"))[0] == 404
        assert (await fetch(port, "/healthz", method="POST"))[0] == 405
        # A page in a browser that rebinds its own name to this address.
        assert (await fetch(port, "/metrics", host="evil.test"))[0] == 421
        assert (await fetch(port, "/metrics", host=f"127.0.0.1:{port}"))[0] == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")
        assert (await reader.read(12)).endswith(b"400")
        writer.close()
    with pytest.raises(OSError):
        await fetch(port, "/healthz")


async def test_the_listener_keeps_its_port_and_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        port = served.gateway.probes_port
    async with serving(tmp_path) as served:
        assert served.gateway.probes_port == port
    off = '[openshell]\nversion = 2\n[openshell.gateway]\nhealth_bind_address = "off"\n'
    async with serving(tmp_path, text=off) as served:
        assert served.gateway.probes == ""


async def test_a_gateway_that_failed_to_start_does_not_say_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyopenshell.gateway.app.register", full)
    driver = FakeDriver()
    gateway = Gateway(load(environ(tmp_path), port=0), driver)
    try:
        with pytest.raises(OSError, match="No space"):
            await gateway.start()
        assert gateway.probes_port
        with pytest.raises(ConnectionRefusedError):
            await fetch(gateway.probes_port, "/healthz")
    finally:
        await gateway.stop()
        await driver.end()
