"""`google.rpc.Status` with its details, as it travels in `grpc-status-details-bin`: written and read in one place."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import DecodeError

KEY: Final = "grpc-status-details-bin"
_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """What a status says beyond its code and message.

    `reason`, `domain` and `metadata` are ErrorInfo's; `fields` BadRequest's (field, what is wrong with it);
    `retry_after` RetryInfo's, in seconds.
    """

    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fields: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None


def encode(code: int, message: str, details: Details) -> bytes:
    types = _types()
    status = types["Status"](code=code, message=message)
    if details.fields:
        violations = [types["FieldViolation"](field=name, description=text) for name, text in details.fields]
        _attach(status, "BadRequest", types["BadRequest"](field_violations=violations))
    if details.reason:
        info = types["ErrorInfo"](reason=details.reason, domain=details.domain, metadata=details.metadata)
        _attach(status, "ErrorInfo", info)
    if details.retry_after is not None:
        retry = types["RetryInfo"]()
        retry.retry_delay.seconds = int(details.retry_after)
        retry.retry_delay.nanos = int(details.retry_after % 1 * 1_000_000_000)
        _attach(status, "RetryInfo", retry)
    blob: bytes = status.SerializeToString()
    return blob


def decode(blob: bytes) -> Details:
    """What this module knows of it; empty for what cannot be read."""
    types = _types()
    try:
        found = {
            name: types[name].FromString(detail.value)
            for detail in types["Status"].FromString(blob).details
            if (name := detail.type_url.removeprefix(_TYPE_PREFIX)) in types
        }
    except DecodeError:
        return Details()
    info, bad, retry = (found.get(name) for name in ("ErrorInfo", "BadRequest", "RetryInfo"))
    return Details(
        reason=info.reason if info else "",
        domain=info.domain if info else "",
        metadata=dict(info.metadata) if info else {},
        fields=tuple((one.field, one.description) for one in bad.field_violations) if bad else (),
        retry_after=retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry else None,
    )


def _attach(status: Any, name: str, detail: Any) -> None:
    status.details.add(type_url=_TYPE_PREFIX + name, value=detail.SerializeToString())


@functools.cache
def _types() -> dict[str, Any]:
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
