"""The gRPC services as data: methods, their message classes, and what each demands of its caller.

Both ends are built from here, so no generated stub code exists that could drift from the descriptors.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import Message

from pyopenshell.wire import gen
from pyopenshell.wire.gen import openshell_pb2, options_pb2, pyopenshell_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `auth_mode` is unauthenticated, bearer, dual, sandbox, operator or peer."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    auth_mode: str
    scope: str
    workspace_role: str
    global_role: str

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


@functools.cache
def methods() -> dict[str, Method]:
    """Every RPC of openshell.v1 and pyopenshell.v1 by path ("/openshell.v1.OpenShell/Health")."""
    options_class: Any = message_factory.GetMessageClass(
        gen.pool().FindMessageTypeByName("google.protobuf.MethodOptions")
    )
    found: dict[str, Method] = {}
    for file in (openshell_pb2.DESCRIPTOR, pyopenshell_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods:
                options = options_class.FromString(method.GetOptions().SerializeToString())
                rule = options.Extensions[options_pb2.authorization]
                entry = Method(
                    service=service.full_name,
                    name=method.name,
                    request=message_factory.GetMessageClass(method.input_type),
                    response=message_factory.GetMessageClass(method.output_type),
                    client_streaming=method.client_streaming,
                    server_streaming=method.server_streaming,
                    auth_mode=rule.auth_mode,
                    scope=rule.scope,
                    workspace_role=rule.workspace_role,
                    global_role=rule.global_role,
                )
                found[entry.path] = entry
    return found
