"""The gateway's calls as async Python, for our own front ends and for users' code. Speaks to it over the wire only.

Light at import: gRPC and protobuf load with `Gateway`, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyopenshell.client.errors import GatewayError, UnreachableError
from pyopenshell.client.registration import (
    NoGatewayError,
    Places,
    Registration,
    RegistrationError,
    UnknownGatewayError,
    resolve,
)
from pyopenshell.client.visible import stamp, visible, visible_lines

if TYPE_CHECKING:
    from pyopenshell.client.decide import StaleError
    from pyopenshell.client.gateway import Gateway
    from pyopenshell.client.inbox import Applied, Inbox, Item

__all__ = [
    "Applied",
    "Gateway",
    "GatewayError",
    "Inbox",
    "Item",
    "NoGatewayError",
    "Places",
    "Registration",
    "RegistrationError",
    "StaleError",
    "UnknownGatewayError",
    "UnreachableError",
    "resolve",
    "stamp",
    "visible",
    "visible_lines",
]


_LATER = {"Gateway": "gateway", "StaleError": "decide", "Applied": "inbox", "Inbox": "inbox", "Item": "inbox"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"pyopenshell.client.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
