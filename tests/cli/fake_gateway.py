"""A gateway with canned answers, over real gRPC, built from the same descriptors: layouts are pinned against it."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from pyopenshell.wire.service import Method, methods

Answer = Callable[[Any], Any]


class RefusalError(Exception):
    """Raise it in an answer to end the call with a gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class FakeGateway:
    """`answers` maps a method name to a function of the request; streams return an iterable. `calls` records."""

    def __init__(self, config: pathlib.Path, name: str = "fake") -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, Message]] = []
        self.config, self.name = config, name
        self._server = grpc.server(ThreadPoolExecutor(8))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        for service in {method.service for method in methods().values()}:
            handlers = {one.name: self._handler(one) for one in methods().values() if one.service == service}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def register(self, endpoint: str = "") -> None:
        """Write the registration files that the CLI reads."""
        folder = self.config / "openshell" / "gateways" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {"gateway_endpoint": endpoint or f"http://127.0.0.1:{self.port}", "auth_mode": "plaintext"}
        (folder / "metadata.json").write_text(json.dumps(metadata))
        (self.config / "openshell" / "active_gateway").write_text(self.name + "\n")

    def __enter__(self) -> Self:
        self._server.start()
        self.register()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()

    def requests(self, name: str) -> list[Any]:
        return [request for called, request in self.calls if called == name]

    def _answer(self, method: Method, request: Any, context: grpc.ServicerContext) -> Any:
        answer = self.answers.get(method.name)
        try:
            if answer is None:
                raise RefusalError(grpc.StatusCode.UNIMPLEMENTED, f"{method.name} has no canned answer")
            return answer(request)
        except RefusalError as refusal:
            context.abort(refusal.code, refusal.message)

    def _handler(self, method: Method) -> Any:
        def one(request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append((method.name, request))
            return self._answer(method, request, context)

        def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self.calls.append((method.name, request))
            yield from self._answer(method, request, context)

        def talk(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            def recorded() -> Iterator[Any]:
                for request in requests:
                    self.calls.append((method.name, request))
                    yield request

            yield from self._answer(method, recorded(), context)

        codec = {
            "request_deserializer": method.request.FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(talk, **codec)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(many, **codec)
        return grpc.unary_unary_rpc_method_handler(one, **codec)


def environment(root: pathlib.Path) -> dict[str, str | None]:
    """XDG directories of the test's own, and nothing of the developer's."""
    ours: dict[str, str | None] = {key: None for key in os.environ if key.startswith("OPENSHELL_")}
    return ours | {
        "XDG_CONFIG_HOME": str(root / "config"),
        "XDG_STATE_HOME": str(root / "state"),
        "OPENSHELL_SYSTEM_GATEWAY_DIR": str(root / "system"),
        "HOME": str(root),
        "NO_COLOR": "1",
    }
