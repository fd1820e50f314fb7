"""One gRPC channel to one gateway: trust, connection, calls, and the mapping of gRPC's errors to ours.

Knows no method's meaning; `gateway.Gateway` does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc: its own log lines on stderr are not for people

import grpc
import grpc.aio
from google.protobuf.message import Message

from pyopenshell.client.errors import GatewayError, UnreachableError
from pyopenshell.client.registration import Registration, TlsFiles
from pyopenshell.wire import status
from pyopenshell.wire.service import Method, methods

M = TypeVar("M", bound=Message)
T = TypeVar("T")

OPENSHELL = "openshell.v1.OpenShell"
REVIEW = "pyopenshell.v1.Review"
CONSOLES = "pyopenshell.v1.Consoles"
CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and TLS together; a refused connection is reported at once."""
MESSAGE_LIMIT = 64 * 1024 * 1024


class Transport:
    """Use `Transport.open`; every call raises GatewayError."""

    def __init__(self, registration: Registration, channel: grpc.aio.Channel) -> None:
        self.registration = registration
        self._channel = channel

    @classmethod
    async def open(cls, registration: Registration, *, insecure: bool = False) -> Transport:
        """Connect now, so that "cannot reach" is never confused with "was refused". Raises UnreachableError."""
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0 if registration.loopback else 1),
        ]
        if not registration.secure:
            channel = grpc.aio.insecure_channel(registration.target, options=options)
        else:
            tls = registration.tls()
            if insecure:
                pinned, name = await asyncio.to_thread(_pin, registration)
                tls = TlsFiles(pinned, tls.certificate if tls else b"", tls.key if tls else b"")
                options.append(("grpc.ssl_target_name_override", name))
            credentials = grpc.ssl_channel_credentials(
                root_certificates=tls.authority if tls else None,
                private_key=(tls.key or None) if tls else None,
                certificate_chain=(tls.certificate or None) if tls else None,
            )
            channel = grpc.aio.secure_channel(registration.target, credentials, options=options)
        transport = cls(registration, channel)
        try:
            await transport._connect()
        except BaseException:
            await channel.close()
            raise
        return transport

    async def _connect(self) -> None:
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                        why = await _why(self.registration)
                        raise UnreachableError(self.registration.name, self.registration.endpoint, why)
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state()
        except TimeoutError:
            raise UnreachableError(
                self.registration.name, self.registration.endpoint, f"no answer in {CONNECT_TIMEOUT:.0f}s"
            ) from None

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, service: str, name: str, request: Message, kind: type[M], timeout: float | None = 30.0) -> M:
        """One request, one answer. `timeout` in seconds, None waits forever."""
        method = _method(service, name, kind)
        rpc = self._channel.unary_unary(
            method.path, request_serializer=_serialize, response_deserializer=method.response.FromString
        )
        answer: M = await _translate(rpc(request, timeout=timeout))
        return answer

    async def stream(
        self, service: str, name: str, request: Message, kind: type[M], timeout: float | None = None
    ) -> AsyncIterator[M]:
        """One request, many answers. Leaving the iteration (or cancelling it) ends the call."""
        method = _method(service, name, kind)
        rpc = self._channel.unary_stream(
            method.path, request_serializer=_serialize, response_deserializer=method.response.FromString
        )
        call = rpc(request, timeout=timeout)
        try:
            while (message := await _translate(call.read())) is not grpc.aio.EOF:
                yield message
        finally:
            call.cancel()

    async def converse(
        self, service: str, name: str, requests: AsyncIterator[Message], kind: type[M]
    ) -> AsyncIterator[M]:
        """Many requests, many answers."""
        method = _method(service, name, kind)
        rpc = self._channel.stream_stream(
            method.path, request_serializer=_serialize, response_deserializer=method.response.FromString
        )
        call = rpc(requests)
        try:
            while (message := await _translate(call.read())) is not grpc.aio.EOF:
                yield message
        finally:
            call.cancel()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _method(service: str, name: str, kind: type[Message]) -> Method:
    method = methods()[f"/{service}/{name}"]
    if method.response is not kind:
        raise TypeError(f"{method.path} answers {method.response.DESCRIPTOR.name}, not {kind.DESCRIPTOR.name}")
    return method


async def _translate(awaitable: Awaitable[T]) -> T:
    try:
        return await awaitable
    except grpc.aio.AioRpcError as error:
        raise _told(error) from None


def _told(error: grpc.aio.AioRpcError) -> GatewayError:
    blob = next((value for key, value in error.trailing_metadata() or () if key == status.KEY), b"")
    details = status.decode(blob) if isinstance(blob, bytes) else status.Details()
    return GatewayError(
        error.code().name,
        error.details() or "",
        details.reason,
        metadata=details.metadata,
        fields=tuple(name for name, _ in details.fields),
        retry_after=details.retry_after,
    )


async def _why(registration: Registration) -> str:
    """gRPC does not say why a connection failed: find out whether it was the network or the trust."""
    try:
        _, writer = await asyncio.open_connection(registration.host, registration.port)
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    writer.close()
    return (
        "the TLS handshake failed: wrong certificate authority or client certificate"
        if registration.secure
        else "it does not speak gRPC"
    )


def _pin(registration: Registration) -> tuple[bytes, str]:
    """`--gateway-insecure`: trust whatever certificate the server shows now. Returns it and a name it carries."""
    import ssl

    from cryptography import x509

    try:
        pem = ssl.get_server_certificate((registration.host, registration.port), timeout=CONNECT_TIMEOUT)
    except OSError as error:
        raise UnreachableError(registration.name, registration.endpoint, str(error)) from error
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        name = dns[0] if dns else str(names.get_values_for_type(x509.IPAddress)[0])
    except (x509.ExtensionNotFound, IndexError):
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        name = str(common[0].value) if common else registration.host
    return pem.encode(), name
