"""The well-known message types of our own descriptor pool (see `wire.gen`).

`google.protobuf.timestamp_pb2.Timestamp` belongs to the default pool and cannot be put into our messages; these can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.struct_pb2 import Struct
    from google.protobuf.timestamp_pb2 import Timestamp
else:
    from google.protobuf import message_factory

    from pyopenshell.wire import gen

    def _class(name: str) -> Any:
        return message_factory.GetMessageClass(gen.pool().FindMessageTypeByName(f"google.protobuf.{name}"))

    Duration = _class("Duration")
    Struct = _class("Struct")
    Timestamp = _class("Timestamp")

__all__ = ["Duration", "Struct", "Timestamp"]
