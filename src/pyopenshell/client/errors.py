"""What can go wrong between a person's tool and the gateway, grouped by who must act."""

from __future__ import annotations

from collections.abc import Mapping


class GatewayError(Exception):
    """The gateway refused or failed. `code` is the gRPC status name ("NOT_FOUND"), `message` the server's text.

    `reason` is a stable code for programs ("PROPOSAL_INPUTS_CHANGED") with `metadata`, `fields` the request's fields
    at fault, `retry_after` the seconds after which the same call may succeed; empty where nothing was said.
    """

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        fields: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message or code)
        self.code, self.message, self.reason = code, message, reason
        self.metadata, self.fields, self.retry_after = dict(metadata or {}), fields, retry_after


class UnreachableError(Exception):
    """No connection to the gateway could be made: nothing was sent, so starting one and trying again is safe."""

    def __init__(self, name: str, endpoint: str, why: str = "") -> None:
        super().__init__(
            f"failed to connect to gateway '{name}' at {endpoint}{f' ({why})' if why else ''}. "
            "Start a local gateway with `openshell gateway start`, or register a different endpoint with "
            "`openshell gateway add <endpoint>`."
        )
        self.name, self.endpoint, self.why = name, endpoint, why
