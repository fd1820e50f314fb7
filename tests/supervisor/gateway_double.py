"""A small real gateway for the supervisor's side of the line: grpc.aio, mutual TLS, every message recorded.

It keeps no rules of its own: a test says what it answers, and waits for what it received.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from pyopenshell.supervisor.spec import Access, SupervisorSpec
from pyopenshell.wire import service
from pyopenshell.wire.gen import openshell_pb2 as pb
from pyopenshell.wire.gen import pyopenshell_pb2 as ours
from pyopenshell.wire.gen import sandbox_pb2
from tests.supervisor.pki import pki

Answer = Callable[[Any], Awaitable[Any]]


class Session:
    """One ConnectSupervisor stream: what came (`received`), and a way to push."""

    def __init__(self, hello: pb.SupervisorHello, gateway: Gateway) -> None:
        self.hello = hello
        self._gateway = gateway
        self.received: asyncio.Queue[pb.SupervisorMessage] = asyncio.Queue()
        self.outgoing: asyncio.Queue[pb.GatewayMessage | None] = asyncio.Queue()
        self.ended = asyncio.Event()

    def push(self, snapshot: sandbox_pb2.SandboxConfigSnapshot, update_id: str = "u") -> None:
        self._gateway.pushed.append(snapshot.version)
        update = pb.ConfigUpdate(update_id=update_id, sandbox_config=snapshot)
        self.outgoing.put_nowait(pb.GatewayMessage(config_update=update))

    def end(self) -> None:
        self.outgoing.put_nowait(None)

    async def result(self) -> pb.ConfigUpdateResult:
        """The next config_update_result; heartbeats before it are skipped."""
        while True:
            message = await asyncio.wait_for(self.received.get(), 10)
            if message.HasField("config_update_result"):
                return message.config_update_result


class Gateway:
    """`async with Gateway() as gateway`. Queues hold what arrived; `answers` overrides replies by method name."""

    def __init__(self, *, heartbeat: float = 15.0) -> None:
        self.heartbeat = heartbeat
        self.bootstrap: sandbox_pb2.SandboxConfigSnapshot | None = None
        self.sessions: asyncio.Queue[Session] = asyncio.Queue()
        self.calls: dict[str, asyncio.Queue[Any]] = {}
        self.tokens: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.limits = ours.GetLeasesResponse()
        """What GetLeases says, with the version of each push in its turn."""
        self.pushed: deque[int] = deque()
        self.watchers: set[asyncio.Queue[ours.ProposalState]] = set()
        self.watching = asyncio.Event()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def spec(self) -> SupervisorSpec:
        keys = pki()
        access = Access(
            f"127.0.0.1:{self.port}", "first-token", keys.authority, keys.client.certificate, keys.client.key
        )
        return SupervisorSpec("sb-1", "box", "default", "inst-1", b"", access, root="/nonexistent")

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        keys = pki()
        credentials = grpc.ssl_server_credentials(
            [(keys.server.key.encode(), keys.server.certificate.encode())],
            root_certificates=keys.authority.encode(),
            require_client_auth=True,
        )
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handler(),))
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(None)
            self._server = None

    def queue(self, name: str) -> asyncio.Queue[Any]:
        return self.calls.setdefault(name, asyncio.Queue())

    async def session(self) -> Session:
        return await asyncio.wait_for(self.sessions.get(), 10)

    async def received(self, name: str) -> Any:
        return await asyncio.wait_for(self.queue(name).get(), 10)

    def decide(self, state: ours.ProposalState) -> None:
        for queue in self.watchers:
            queue.put_nowait(state)

    def _handler(self) -> Any:
        by_service: dict[str, dict[str, Any]] = {}
        for method in service.methods().values():
            arguments = {
                "request_deserializer": method.request.FromString,
                "response_serializer": method.response.SerializeToString,
            }
            if method.name == "ConnectSupervisor":
                handler = grpc.stream_stream_rpc_method_handler(self._connect, **arguments)
            elif method.name == "WatchProposals":
                handler = grpc.unary_stream_rpc_method_handler(self._watch, **arguments)
            elif method.client_streaming and not method.server_streaming:
                handler = grpc.stream_unary_rpc_method_handler(self._collect(method), **arguments)
            elif not method.client_streaming and not method.server_streaming:
                handler = grpc.unary_unary_rpc_method_handler(self._unary(method), **arguments)
            else:
                continue
            by_service.setdefault(method.service, {})[method.name] = handler
        handlers = [grpc.method_handlers_generic_handler(name, found) for name, found in by_service.items()]

        class Every(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, details: Any) -> Any:
                return next((found for h in handlers if (found := h.service(details))), None)

        return Every()

    def _note(self, context: Any) -> None:
        self.tokens += [value for key, value in context.invocation_metadata() if key == "authorization"]

    def _unary(self, method: service.Method) -> Any:
        async def call(request: Any, context: Any) -> Any:
            self._note(context)
            return await self._reply(method, request)

        return call

    def _collect(self, method: service.Method) -> Any:
        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            self._note(context)
            merged = method.request()
            async for request in requests:
                merged.MergeFrom(request)
            return await self._reply(method, merged)

        return call

    async def _reply(self, method: service.Method, request: Any) -> Any:
        answer = self.answers.get(method.name)
        reply = await answer(request) if answer else method.response()
        if method.name == "GetLeases" and not answer:
            if self.pushed:
                self.limits.policy_version = self.pushed.popleft()
            reply = self.limits
        # Recorded after the answer was made: a test that received it may rely on both.
        self.queue(method.name).put_nowait(request)
        return reply

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[ours.ProposalState]:
        self._note(context)
        queue: asyncio.Queue[ours.ProposalState] = asyncio.Queue()
        self.watchers.add(queue)
        try:
            await context.send_initial_metadata(())
            self.watching.set()
            while True:
                yield await queue.get()
        finally:
            self.watchers.discard(queue)

    async def _connect(self, requests: AsyncIterator[pb.SupervisorMessage], context: Any) -> AsyncIterator[Any]:
        self._note(context)
        first = await anext(requests)
        session = Session(first.hello, self)
        accepted = pb.SessionAccepted(session_id="s", config_push_enabled=True)
        accepted.heartbeat_interval.FromMilliseconds(int(self.heartbeat * 1000))
        if self.bootstrap is not None:
            accepted.bootstrap.update_id = "bootstrap"
            accepted.bootstrap.sandbox_config.CopyFrom(self.bootstrap)
            self.pushed.append(self.bootstrap.version)
        yield pb.GatewayMessage(session_accepted=accepted)
        self.sessions.put_nowait(session)

        async def read() -> None:
            async for message in requests:
                session.received.put_nowait(message)

        reader = asyncio.ensure_future(read())
        try:
            while (message := await session.outgoing.get()) is not None:
                yield message
        finally:
            reader.cancel()
            session.ended.set()
