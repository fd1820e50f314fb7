"""Continuation tokens of list calls: opaque, bound to the method and its filters (contract/gateway.md 1.0).

Knows nothing about what is listed; a cursor is a short list of strings and integers that the caller orders by.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway.errors import invalid

DEFAULT_SIZE: Final = 100
MAXIMUM_SIZE: Final = 1000

Cursor = tuple[str | int, ...]


def page_size(requested: int) -> int:
    """Rows per page: 0 means the default, more than the maximum is cut to it, negative is refused."""
    if requested < 0:
        raise invalid("page_size must not be negative", field="page_size")
    return min(requested or DEFAULT_SIZE, MAXIMUM_SIZE)


def encode(method: str, filters: Sequence[str], cursor: Cursor) -> str:
    """Token that continues `method` after the row `cursor` names, for exactly these filters."""
    raw = json.dumps([_fingerprint(method, filters), *cursor], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(token: str, method: str, filters: Sequence[str], types: Sequence[type]) -> Cursor | None:
    """The cursor of a token, None for the first page. `types` is what each part of the cursor must be."""
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise invalid("page_token is malformed", field="page_token") from None
    if not isinstance(parts, list) or not parts or not isinstance(parts[0], str):
        raise invalid("page_token is malformed", field="page_token")
    if parts[0] != _fingerprint(method, filters):
        raise invalid("page_token does not match this list request", field="page_token")
    cursor = parts[1:]
    if len(cursor) != len(types) or any(type(part) is not kind for part, kind in zip(cursor, types, strict=True)):
        raise invalid("page_token has the wrong cursor type", field="page_token")
    return tuple(cursor)


def read(
    tx: sa.Connection, query: sa.Select[Any], order: Sequence[sa.Column[Any]], size: int, after: Cursor | None
) -> tuple[Sequence[sa.Row[Any]], Cursor | None]:
    """At most `size` rows after a cursor, and the cursor of the next page if there is one. `order` must be unique."""
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(*(sa.literal(part) for part in after)))
    rows = tx.execute(query.order_by(*order).limit(size + 1)).all()
    if len(rows) <= size:
        return rows, None
    last = rows[size - 1]
    return rows[:size], tuple(getattr(last, column.name) for column in order)


def _fingerprint(method: str, filters: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([method, *filters]).encode()).hexdigest()[:32]
