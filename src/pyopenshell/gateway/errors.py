"""The one error type of the gateway and its form on the wire (status, message, google.rpc details).

Decides how a refusal looks to a client; must not know who asked or why it was refused.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

DOMAIN: Final = "openshell.v1"
"""`google.rpc.ErrorInfo.domain` of every error of this gateway."""

DETAILS_KEY: Final = "grpc-status-details-bin"
_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."


class GatewayError(Exception):
    """A call was refused. The caller must act, except for INTERNAL and UNAVAILABLE.

    `code` is the name of a gRPC status ("NOT_FOUND"); `message` is one sentence that says what to do; `reason` is a
    stable UPPER_SNAKE code for programs (`google.rpc.ErrorInfo.reason`) with string `metadata`; `field` names the
    request field that was wrong (`google.rpc.BadRequest`); `retry_after` says in how many seconds the same call may
    succeed (`google.rpc.RetryInfo`).
    """

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        *,
        field: str = "",
        retry_after: float | None = None,
    ) -> None:
        if code not in grpc.StatusCode.__members__ or code == "OK":
            raise ValueError(f"{code!r} is not the name of a gRPC error status")
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field = field
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"GatewayError({self.code}: {self.message})"

    @property
    def status(self) -> grpc.StatusCode:
        return grpc.StatusCode[self.code]

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The `grpc-status-details-bin` trailer, or nothing when there is no detail to give."""
        reason = self.reason or ("INVALID_ARGUMENT" if self.code == "INVALID_ARGUMENT" else "")
        if not (reason or self.field or self.retry_after is not None):
            return ()
        types = _rpc_types()
        status = types["Status"](code=self.status.value[0], message=self.message)
        if self.field:
            violation = types["FieldViolation"](field=self.field, description=self.message)
            _attach(status, "BadRequest", types["BadRequest"](field_violations=[violation]))
        if reason:
            info = types["ErrorInfo"](reason=reason, domain=DOMAIN, metadata=self.metadata)
            _attach(status, "ErrorInfo", info)
        if self.retry_after is not None:
            retry = types["RetryInfo"]()
            retry.retry_delay.seconds, retry.retry_delay.nanos = _split(self.retry_after)
            _attach(status, "RetryInfo", retry)
        return ((DETAILS_KEY, status.SerializeToString()),)


def invalid(message: str, field: str = "", reason: str = "") -> GatewayError:
    """INVALID_ARGUMENT, with the field at fault if there is one."""
    return GatewayError("INVALID_ARGUMENT", message, reason, field=field)


def required(field: str) -> GatewayError:
    """INVALID_ARGUMENT "`<field>` is required" (contract/gateway.md 1.0)."""
    return GatewayError("INVALID_ARGUMENT", f"{field} is required", field=field)


def not_found(message: str) -> GatewayError:
    return GatewayError("NOT_FOUND", message)


def precondition(message: str, reason: str = "") -> GatewayError:
    return GatewayError("FAILED_PRECONDITION", message, reason)


def denied(message: str, reason: str = "") -> GatewayError:
    return GatewayError("PERMISSION_DENIED", message, reason)


def exhausted(message: str, reason: str = "", *, retry_after: float | None = None) -> GatewayError:
    """RESOURCE_EXHAUSTED, and when to come again."""
    return GatewayError("RESOURCE_EXHAUSTED", message, reason, retry_after=retry_after)


def unauthenticated(message: str) -> GatewayError:
    return GatewayError("UNAUTHENTICATED", message)


def exists(message: str) -> GatewayError:
    return GatewayError("ALREADY_EXISTS", message)


def conflict(operation: str, current_resource_version: int) -> GatewayError:
    """ABORTED with the current version, so that a client can refresh and try again (contract/gateway.md 1.0)."""
    return GatewayError(
        "ABORTED",
        f"{operation} failed due to concurrent modification (current resource_version: {current_resource_version})",
        "RESOURCE_VERSION_CONFLICT",
        {"recovery": "REFRESH_STATE", "current_resource_version": str(current_resource_version)},
    )


def _split(seconds: float) -> tuple[int, int]:
    return int(seconds), int(seconds % 1 * 1_000_000_000)


def _attach(status: Any, name: str, detail: Any) -> None:
    status.details.add(type_url=_TYPE_PREFIX + name, value=detail.SerializeToString())


@functools.cache
def _rpc_types() -> dict[str, Any]:
    """google.rpc messages, described here in a pool of their own: no other package's copy can clash with them."""
    proto = descriptor_pb2.FileDescriptorProto(name="pyopenshell/google_rpc.proto", package="google.rpc")
    proto.syntax = "proto3"
    proto.dependency.append("google/protobuf/any.proto")
    kind = descriptor_pb2.FieldDescriptorProto
    one, many = kind.LABEL_OPTIONAL, kind.LABEL_REPEATED
    string, message = kind.TYPE_STRING, kind.TYPE_MESSAGE

    status = proto.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=kind.TYPE_INT32, label=one)
    status.field.add(name="message", number=2, type=string, label=one)
    status.field.add(name="details", number=3, type=message, label=many, type_name=".google.protobuf.Any")

    bad_request = proto.message_type.add(name="BadRequest")
    violation = bad_request.nested_type.add(name="FieldViolation")
    violation.field.add(name="field", number=1, type=string, label=one)
    violation.field.add(name="description", number=2, type=string, label=one)
    bad_request.field.add(
        name="field_violations",
        number=1,
        type=message,
        label=many,
        type_name=".google.rpc.BadRequest.FieldViolation",
    )

    info = proto.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=string, label=one)
    info.field.add(name="domain", number=2, type=string, label=one)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=string, label=one)
    entry.field.add(name="value", number=2, type=string, label=one)
    info.field.add(name="metadata", number=3, type=message, label=many, type_name=".google.rpc.ErrorInfo.MetadataEntry")

    retry = proto.message_type.add(name="RetryInfo")
    retry.field.add(name="retry_delay", number=1, type=message, label=one, type_name=".google.protobuf.Duration")
    proto.dependency.append("google/protobuf/duration.proto")

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(proto.SerializeToString())
    names = {name: f"google.rpc.{name}" for name in ("Status", "BadRequest", "ErrorInfo", "RetryInfo")}
    names["FieldViolation"] = "google.rpc.BadRequest.FieldViolation"
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(full)) for name, full in names.items()}
