"""The gateway's calls as async Python, for our own front ends and for users' code. Speaks to it over the wire only.

Light at import: gRPC and protobuf load with `Gateway`, not before.
"""

from __future__ import annotations

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
    from pyopenshell.client.gateway import Gateway

__all__ = [
    "Gateway",
    "GatewayError",
    "NoGatewayError",
    "Places",
    "Registration",
    "RegistrationError",
    "UnknownGatewayError",
    "UnreachableError",
    "resolve",
    "stamp",
    "visible",
    "visible_lines",
]


def __getattr__(name: str) -> Any:
    if name == "Gateway":
        from pyopenshell.client.gateway import Gateway

        return Gateway
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
