"""Tells every overview that a sandbox changed or is gone, with the sandbox as it is then. Decides nothing."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from pyopenshell.gateway import order, records
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import Store
from pyopenshell.wire.gen import pyopenshell_pb2

TOPIC: Final = "sandboxes"


def announce(tx: sa.Connection, store: Store, bus: Bus, sandbox_id: str, *, gone: bool = False) -> None:
    """After the commit; with `gone`, before the row is deleted. A sandbox that does not exist is not announced."""
    try:
        record = records.by_id(tx, sandbox_id)
    except GatewayError:
        return
    told = named(record) if gone else event(record)
    if gone:
        told.gone = True
        order.sandbox_gone(tx, told)
    # That a sandbox is gone concerns every reader of the inbox: its proposals are gone with it.
    store.announce("inbox" if gone else TOPIC, told)


def named(record: records.Record) -> pyopenshell_pb2.InboxEvent:
    """An event that names its sandbox and has no payload yet."""
    return pyopenshell_pb2.InboxEvent(sandbox_id=record.id, sandbox_name=record.name, workspace=record.workspace)


def event(record: records.Record) -> pyopenshell_pb2.InboxEvent:
    """The sandbox as it is, without its spec: environment variables may hold secrets, and screens do not show them."""
    told = named(record)
    told.sandbox.CopyFrom(record.to_proto())
    told.sandbox.ClearField("spec")
    return told
