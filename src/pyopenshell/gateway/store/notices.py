"""Announcements as texts that fit into a database notification, and back. Pure.

A text is `<id> <part>/<parts> <topic> <type> <base64 of a piece>`; the parts of one announcement follow each other
among those of the same connection, and `id` keeps those of several connections apart.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

_PIECE: Final = 5400
"""Bytes of a message in one text: 7,200 in base64, below the 7,999 that PostgreSQL takes."""
_UNFINISHED: Final = 64
"""Announcements whose parts are still coming, at most; more means that parts were lost."""
_NOTHING: Final = "-"

_KINDS: Final[dict[str, type[Message]]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (pyopenshell_pb2.InboxEvent, pyopenshell_pb2.ProposalState, openshell_pb2.DraftPolicyUpdate)
}


def pack(topic: str, payload: Any) -> Sequence[str]:
    """`payload` is None or a message that the bus carries. Raises TypeError for anything else."""
    name, data = _NOTHING, b""
    if payload is not None:
        name, data = payload.DESCRIPTOR.full_name, payload.SerializeToString()
        if name not in _KINDS:
            raise TypeError(f"{name} is not announced between gateways")
    key = uuid.uuid4().hex
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)] or [b""]
    return [
        f"{key} {number}/{len(pieces)} {topic} {name} {base64.b64encode(piece).decode()}"
        for number, piece in enumerate(pieces, 1)
    ]


class Notices:
    """Puts the texts of one connection together again."""

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {}

    def feed(self, text: str) -> Iterator[tuple[str, Any]]:
        """The announcement that `text` completes, if it does. What nobody here wrote is left out."""
        try:
            key, place, topic, name, piece = text.split(" ")
            number, _, count = (int(part) if part.isdecimal() else part for part in place.partition("/"))
            kind = None if name == _NOTHING else _KINDS[name]
        except (ValueError, KeyError):
            return
        pieces = self._parts.setdefault(key, [])
        pieces.append(piece)
        if number != len(pieces):
            del self._parts[key]
        elif number == count:
            del self._parts[key]
            try:
                data = b"".join(base64.b64decode(part, validate=True) for part in pieces)
                payload = kind.FromString(data) if kind is not None else None
            except (ValueError, DecodeError):
                return
            yield topic, payload
        while len(self._parts) > _UNFINISHED:
            del self._parts[next(iter(self._parts))]
