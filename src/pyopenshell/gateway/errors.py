"""The one error type of the gateway and its form on the wire (status, message, google.rpc details).

Decides how a refusal looks to a client; must not know who asked or why it was refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc

from pyopenshell.wire import status as rpc_status

DOMAIN: Final = "openshell.v1"
"""`google.rpc.ErrorInfo.domain` of every error of this gateway."""

DETAILS_KEY: Final = rpc_status.KEY


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
        code: int = self.status.value[0]
        blob = rpc_status.encode(
            code,
            self.message,
            rpc_status.Details(
                reason=reason,
                domain=DOMAIN,
                metadata=self.metadata,
                fields=((self.field, self.message),) if self.field else (),
                retry_after=self.retry_after,
            ),
        )
        return ((DETAILS_KEY, blob),)


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
