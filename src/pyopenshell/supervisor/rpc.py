"""The gateway as a supervisor sees it: one TLS channel, calls by name, two kinds of failure.

grpclib and not grpcio, because this process was forked and grpcio neither survives a fork nor fits the memory budget.
Knows nothing of what the calls mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import Message
from grpclib.client import Channel, Stream
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from pyopenshell.supervisor.spec import Access
from pyopenshell.wire import service

CALL_TIMEOUT = 10.0
"""Seconds for a unary call and for opening a stream (contract/sandbox.md 10: connect 10 s)."""

_SERVICES = ("openshell.v1.OpenShell", "pyopenshell.v1.Proposals")
_TRANSIENT = frozenset(
    {Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED, Status.ABORTED, Status.RESOURCE_EXHAUSTED}
)


class LinkError(Exception):
    """A call did not succeed. `transient` says whether the same call may succeed later; `status` is a gRPC name.

    `status` is "" where no gateway answered at all, and "UNCONFIGURED" where there is none to ask.
    """

    def __init__(self, status: str, message: str, *, transient: bool) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status, self.message, self.transient = status, message, transient


class Call:
    """An open streaming call. Errors surface as LinkError at the end of the `GatewayChannel.open` block."""

    def __init__(self, stream: Stream[Any, Any]) -> None:
        self._stream = stream
        self._ended = False

    async def send(self, message: Message) -> None:
        await self._stream.send_message(message)

    async def send_last(self, message: Message) -> None:
        """The request of a call that only the gateway streams."""
        await self._stream.send_message(message, end=True)

    async def receive(self) -> Any:
        """The next message, or None at the orderly end."""
        message = await self._stream.recv_message()
        if message is None:
            self._ended = True
            with contextlib.suppress(ProtocolError, StreamTerminatedError, H2Error):
                await self._stream.end()
            await self._stream.recv_trailing_metadata()
        return message

    async def established(self) -> None:
        """Return when the gateway has accepted the call (its headers came)."""
        await self._stream.recv_initial_metadata()

    async def leave(self) -> None:
        """Do not wait for the trailers of a server that still streams."""
        if not self._ended:
            with contextlib.suppress(ProtocolError, StreamTerminatedError, H2Error, OSError):
                await self._stream.cancel()


class GatewayChannel:
    """One connection to the gateway, opened on first use and again after a loss. Belongs to the running event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.token = access.token
        """Goes with every call; replaced when it is renewed."""
        self._methods = {method.name: method for method in service.methods().values() if method.service in _SERVICES}
        self._channel: Channel | None = None

    def __repr__(self) -> str:
        return f"<GatewayChannel {self._access.address or 'unconfigured'}>"

    async def call(self, name: str, request: Message, *, timeout: float = CALL_TIMEOUT) -> Any:
        """A unary call, or a client stream of exactly this one message. Raises LinkError."""
        with _mapped():
            async with self._stream(name, timeout) as stream:
                await stream.send_message(request, end=True)
                reply = await stream.recv_message()
        if reply is None:
            raise LinkError("", f"{name}: the gateway closed the call without an answer", transient=True)
        return reply

    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Call]:
        """A streaming call without a deadline. Raises LinkError, also from inside the block."""
        with _mapped():
            async with self._stream(name, None) as stream:
                async with asyncio.timeout(CALL_TIMEOUT):
                    await stream.send_request()
                call = Call(stream)
                yield call
                await call.leave()

    def close(self) -> None:
        """Drop the connection; running calls fail. The next call opens a new one."""
        if self._channel:
            self._channel.close()
            self._channel = None

    def _stream(self, name: str, timeout: float | None) -> Stream[Any, Any]:
        method = self._methods[name]
        if self._channel is None:
            host, _, port = self._access.address.rpartition(":")
            if not host:
                raise LinkError("UNCONFIGURED", "this sandbox has no gateway", transient=False)
            self._channel = Channel(host.strip("[]"), int(port), ssl=client_context(self._access))
        return self._channel.request(
            method.path,
            _CARDINALITY[method.client_streaming, method.server_streaming],
            method.request,
            method.response,
            timeout=timeout,
            metadata={"authorization": f"Bearer {self.token}"},
        )


_CARDINALITY = {
    (False, False): Cardinality.UNARY_UNARY,
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}


def client_context(access: Access) -> ssl.SSLContext:
    """TLS 1.2+ with this sandbox's certificate, trusting the gateway's own authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=access.ca_pem)
    context.set_alpn_protocols(["h2"])
    if access.cert_pem:
        # `ssl` reads key material from paths only; an anonymous memory file keeps the key off every disk.
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(f"{access.cert_pem}\n{access.key_pem}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """grpclib's, h2's and the system's errors as LinkError."""
    try:
        yield
    except GRPCError as error:
        message = error.message or "no message"
        raise LinkError(error.status.name, message, transient=error.status in _TRANSIENT) from error
    except TimeoutError as error:
        raise LinkError("DEADLINE_EXCEEDED", "the gateway did not answer in time", transient=True) from error
    except StreamTerminatedError as error:
        raise LinkError("", f"the gateway ended the call: {error}", transient=True) from error
    except (ProtocolError, H2Error, OSError) as error:
        raise LinkError("", f"{type(error).__name__}: {error}", transient=True) from error
