"""The gRPC surface: every RPC of the wire tables, behind one gate, over mutual TLS (contract/gateway.md 1.0, 9.1).

Decides nothing about sandboxes or policies: finds the servicer's method by name, lets the gate decide who may call
it, and turns errors into statuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from pyopenshell.drivers.base import DriverError
from pyopenshell.gateway import admissions, reflection
from pyopenshell.gateway.admissions import Admissions
from pyopenshell.gateway.auth import Gate
from pyopenshell.gateway.certificates import Bundle
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.metrics import Metrics
from pyopenshell.gateway.principals import Caller
from pyopenshell.wire.service import Method, methods

MAX_REQUEST: Final = 1024 * 1024
"""Bytes (contract/gateway.md 1.0)."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second gateway on one port must fail, not share it
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),  # contract/gateway.md 1.6
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),  # supervisors ping too; pings are no reason to drop a session
)

_log = logging.getLogger(__name__)

Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class BindError(Exception):
    """The address cannot be listened on. `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message, self.fix = message, fix


class Server:
    """One listening gRPC server. Build, `bind`, `start`, `stop`."""

    def __init__(self, gate: Gate, servicers: Sequence[object], admissions: Admissions, metrics: Metrics) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(gate, servicers, admissions, metrics),))

    def bind(self, host: str, port: int, bundle: Bundle) -> int:
        """Listen with mutual TLS: no handshake without a certificate of our authority. Returns the port (0 = any).

        Raises BindError.
        """
        credentials = grpc.ssl_server_credentials(
            [(bundle.server.key, bundle.server.certificate)],
            root_certificates=bundle.authority.pem,
            require_client_auth=True,
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise BindError(
                f"cannot listen on {address}: the address is in use or not this machine's",
                "Stop the program that uses it, or take any free port with: openshell gateway start --port 0",
            )
        return int(bound)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give running ones `grace` seconds, end them."""
        await self._server.stop(grace)


_WHY_NOT: Final = {
    "Peer": "gateways that work together share a database",
    "RelayStream": "the driver runs commands itself, without a relay",
    "SshSession": "`openshell sandbox ssh-config` needs no session: each connection has the rights of who opens it",
    "IssueSandboxToken": "the driver hands each supervisor its first token",
    "Service": "services inside sandboxes cannot be exposed",
    "RootfsTar": "its sandboxes show the host's own programs and take no images",
    "Provider": "credentials are not injected into requests yet",
    "ReportEndpointStatus": "a policy says by itself which endpoints it has",
}
"""Part of a method's name -> why there is none here; the first that fits."""


def why_not(name: str) -> str:
    """Half a sentence; "" for a method that is there."""
    return next((why for part, why in _WHY_NOT.items() if part in name), "")


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Path -> handler."""

    def __init__(self, gate: Gate, servicers: Sequence[object], admissions: Admissions, metrics: Metrics) -> None:
        self._gate, self._admissions, self._metrics = gate, admissions, metrics
        self._handlers = {path: self._handler(method, servicers) for path, method in methods().items()}
        self._handlers |= reflection.handlers()
        services = sorted({method.service for method in methods().values()})
        self._unknown = grpc.stream_stream_rpc_method_handler(_refuse(f"unknown method; served: {', '.join(services)}"))

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method, self._unknown)

    def _handler(self, method: Method, servicers: Sequence[object]) -> Any:
        found = [getattr(servicer, method.name) for servicer in servicers if hasattr(servicer, method.name)]
        if len(found) > 1:
            raise TypeError(f"{method.path} has {len(found)} servicers")
        function = found[0] if found else None
        codec = {"request_deserializer": method.request.FromString, "response_serializer": _serialize}
        match method.client_streaming, method.server_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._one(method, function), **codec)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(self._many(method, function), **codec)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self._one(method, function), **codec)
            case _:
                return grpc.stream_stream_rpc_method_handler(self._many(method, function), **codec)

    def _one(self, method: Method, function: Callable[[Any, Caller], Awaitable[Any]] | None) -> Any:
        async def call(request: Any, context: Context) -> Any:
            began = time.perf_counter()
            try:
                caller = await self._admit(method, context)
                if function is None:
                    raise _missing(method)
                if admissions.wanted(request):
                    response = await self._once(method, function, request, caller, context)
                else:
                    response = await function(request, caller)
            except Exception as error:  # noqa: BLE001 - the rim: every failure becomes a status
                failure = _failure(method, error)
            else:
                self._metrics.called(method.name, "OK", time.perf_counter() - began)
                return response
            self._metrics.called(method.name, failure.code, time.perf_counter() - began)
            return await _abort(context, failure)

        return call

    async def _once(
        self,
        method: Method,
        function: Callable[[Any, Caller], Awaitable[Any]],
        request: Any,
        caller: Caller,
        context: Context,
    ) -> Any:
        async def work() -> Any:
            try:
                return await function(request, caller)
            except Exception as error:
                raise _failure(method, error) from error

        response, replayed = await self._admissions.once(request, caller, method.response, work)
        if replayed:
            told = ((admissions.REPLAYED, "true"),)
            await context.send_initial_metadata(told)
            context.set_trailing_metadata(told)
        return response

    def _many(self, method: Method, function: Callable[[Any, Caller], AsyncIterator[Any]] | None) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            caller: Caller | None = None
            told = False
            self._metrics.stream(method.name, 1)
            try:
                caller = await self._admit(method, context)
                if function is None:
                    raise _missing(method)
                if admissions.wanted(request):
                    await self._admissions.begin(request, caller)
                async with _Closing(function(request, caller)) as responses:
                    response = await _first(responses, context)
                    while response is not _END:
                        told = True
                        yield response
                        response = await anext(responses, _END)
            except Exception as error:  # noqa: BLE001 - the rim: every failure becomes a status
                failure = _failure(method, error, gone=context.done())
            else:
                self._metrics.called(method.name, "OK", None)
                return
            finally:
                self._metrics.stream(method.name, -1)
            self._metrics.called(method.name, failure.code, None)
            if caller is not None and admissions.wanted(request) and not told:
                await self._forget(request, caller, failure)
            await _abort(context, failure)

        return call

    async def _forget(self, request: Any, caller: Caller, failure: GatewayError) -> None:
        """A stream that was refused before it began may be asked for again under its id."""
        if failure.code not in admissions.UNCERTAIN and not failure.reason.startswith("REQUEST_"):
            with contextlib.suppress(GatewayError):
                await self._admissions.forget(request, caller)

    async def _admit(self, method: Method, context: Context) -> Caller:
        evidence: Mapping[str, Sequence[bytes]] = context.auth_context()
        certificate = next(iter(evidence.get("x509_pem_cert", ())), None)
        principal = await self._gate.admit(method, certificate, context.invocation_metadata() or ())
        return Caller(principal, method.name, context.peer(), context.time_remaining())


_END: Final = object()


async def _first(responses: AsyncIterator[Any], context: Context) -> Any:
    """The first message, or _END. When it does not come at once, the headers go ahead of it.

    So a client that got the headers of a quiet stream knows that the method has begun to listen: nothing that
    happens from then on is missing from the stream.
    """

    async def step() -> Any:
        return await anext(responses, _END)

    task = asyncio.create_task(step())
    try:
        await asyncio.sleep(0)  # lets the method run up to its first wait
        if not task.done():
            await context.send_initial_metadata(())
        return await task
    finally:
        if not task.done():
            # The client left. Whoever closes `responses` next must not find it running.
            task.cancel()
            await asyncio.wait([task])


class _Closing:
    """`contextlib.aclosing` for what is declared an AsyncIterator but is a generator."""

    def __init__(self, responses: AsyncIterator[Any]) -> None:
        self._responses = responses

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self._responses

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._responses, "aclose", None)
        if close is not None:
            await close()


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _missing(method: Method) -> GatewayError:
    text = f"{method.name} is part of {method.service} but this gateway does not offer it"
    return GatewayError("UNIMPLEMENTED", f"{text}: {why}" if (why := why_not(method.name)) else text)


def _refuse(sentence: str) -> Any:
    async def call(requests: Any, context: Context) -> None:
        await _abort(context, GatewayError("UNIMPLEMENTED", sentence))

    return call


def _failure(method: Method, error: Exception, *, gone: bool = False) -> GatewayError:
    """`gone`: the client ended the call, and what gRPC raised because of that is nobody's fault."""
    match error:
        case GatewayError():
            return error
        case _ if gone:
            return GatewayError("CANCELLED", "the client ended the call")
        case DriverError():
            message = f"{error.message}\n{error.fix}" if error.fix else error.message
            return GatewayError("FAILED_PRECONDITION", message, error.reason)
        case _:
            reference = uuid.uuid4().hex[:12]
            _log.error("%s failed (%s)", method.path, reference, exc_info=error)
            return GatewayError("INTERNAL", f"internal error {reference}; the gateway's log has the details")


async def _abort(context: Context, failure: GatewayError) -> NoReturn:
    # Raises, and is called outside of any `except`: the caller's traceback would only repeat what the client is told.
    await context.abort(failure.status, failure.message, failure.trailing_metadata())
    raise AssertionError("abort returns never")
