"""gRPC server reflection: what this gateway serves, for grpcurl and the like. Answers anybody with a certificate.

Tells descriptors, which are public; knows no state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from pyopenshell.wire import gen
from pyopenshell.wire.service import methods

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""One protocol under two names: the messages are the same."""


def handlers() -> dict[str, Any]:
    """Path -> handler."""
    names = {method.service for method in methods().values()} | set(SERVICES)
    servicer = ReflectionServicer(names, pool=gen.pool())

    async def answer(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for response in servicer.ServerReflectionInfo(requests, context):
            yield response

    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {f"/{service}/ServerReflectionInfo": handler for service in SERVICES}
