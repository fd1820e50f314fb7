"""Message classes built at import from descriptors.binpb (see tools/generate_wire.py).

They live in a descriptor pool of their own: the official `openshell` SDK registers the same names in the
default pool, and both must be importable in one process.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool that holds our files and the well-known types they import."""
    raw = importlib.resources.files(__name__).joinpath("descriptors.binpb").read_bytes()
    private = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
        private.AddSerializedFile(file.SerializeToString())
    return private


def build(filename: str, namespace: dict[str, Any]) -> None:
    """Fill a `*_pb2` module's namespace with the messages, enums and services of `filename`."""
    descriptor = pool().FindFileByName(filename)
    namespace["DESCRIPTOR"] = descriptor
    builder.BuildMessageAndEnumDescriptors(descriptor, namespace)
    builder.BuildTopDescriptorsAndMessages(descriptor, namespace["__name__"], namespace)
