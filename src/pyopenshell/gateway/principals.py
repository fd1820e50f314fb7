"""Who is calling, what they may touch, and which workspace a request means.

Decides nothing about how an identity was proven (auth.py does) and knows no RPC by name.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from pyopenshell.gateway.errors import GatewayError, denied, invalid
from pyopenshell.wire.gen import datamodel_pb2

USER_ROLE: Final = "openshell-user"
ADMIN_ROLE: Final = "openshell-admin"
ALL_SCOPES: Final = "openshell:all"
DEFAULT_WORKSPACE: Final = "default"


@dataclasses.dataclass(frozen=True, slots=True)
class UserPrincipal:
    """A person or their tool. `subject` is recorded with every decision ("mtls:CN=openshell-user")."""

    subject: str
    display_name: str
    provider: str
    roles: frozenset[str]
    scopes: frozenset[str] = frozenset({ALL_SCOPES})


@dataclasses.dataclass(frozen=True, slots=True)
class SandboxPrincipal:
    """Exactly one sandbox, proven by certificate and token together. `expires` is unix seconds, 0 = never."""

    sandbox_id: str
    token_id: str = ""
    epoch: int = 0
    expires: int = 0


class Actor(str):
    """Who did it, as recorded with every decision; `via` is from where: method and address."""

    via: str

    def __new__(cls, subject: str, via: str = "") -> Actor:
        actor = super().__new__(cls, subject)
        actor.via = via
        return actor


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated call. `principal` is None only for RPCs that need no identity.

    `deadline` is the client's, in seconds from when the call arrived; None when it gave none.
    """

    principal: UserPrincipal | SandboxPrincipal | None
    method: str = ""
    peer: str = ""
    deadline: float | None = None

    @property
    def subject(self) -> str:
        """What is recorded as the actor: "mtls:CN=…" for people, "sandbox:<id>" for a sandbox."""
        match self.principal:
            case UserPrincipal(subject=subject):
                return subject
            case SandboxPrincipal(sandbox_id=sandbox_id):
                return f"sandbox:{sandbox_id}"
            case _:
                return "anonymous"

    @property
    def actor(self) -> Actor:
        """`subject` and from where; PERMISSION_DENIED for a sandbox."""
        return Actor(self.user.subject, f"{self.method} {_address(self.peer)}".strip())

    @property
    def is_sandbox(self) -> bool:
        return isinstance(self.principal, SandboxPrincipal)

    @property
    def is_admin(self) -> bool:
        return isinstance(self.principal, UserPrincipal) and ADMIN_ROLE in self.principal.roles

    @property
    def user(self) -> UserPrincipal:
        """The person calling; PERMISSION_DENIED for a sandbox."""
        if not isinstance(self.principal, UserPrincipal):
            raise denied("sandbox principals may not call this method")
        return self.principal

    @property
    def sandbox(self) -> SandboxPrincipal:
        """The sandbox calling; PERMISSION_DENIED for a person."""
        if not isinstance(self.principal, SandboxPrincipal):
            raise denied("this method requires a sandbox principal")
        return self.principal

    @property
    def sandbox_id(self) -> str:
        """Id of the sandbox calling; PERMISSION_DENIED for a person."""
        return self.sandbox.sandbox_id

    def require_sandbox(self, sandbox_id: str) -> None:
        """Refuse a sandbox that names another one. People pass: their rights are by workspace (`require_workspace`)."""
        if isinstance(self.principal, SandboxPrincipal) and self.principal.sandbox_id != sandbox_id:
            raise denied("cross-sandbox access denied: principal does not own this sandbox")

    def require_platform_admin(self) -> None:
        if not self.is_admin:
            raise denied("platform admin role required for cross-workspace operations")


def _address(peer: str) -> str:
    """gRPC's `ipv4:127.0.0.1:53422` without the port, which says nothing; `unix:` sockets as they are."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def workspace_of(scope: datamodel_pb2.WorkspaceSelector) -> str:
    """The one workspace a request means. INVALID_ARGUMENT when it names none or all."""
    match scope.WhichOneof("selection"):
        case "workspace":
            if not scope.workspace:
                raise invalid("workspace_scope is required", field="workspace_scope")
            return scope.workspace
        case "all_workspaces":
            raise invalid("this method needs exactly one workspace", field="workspace_scope")
        case _:
            raise invalid("workspace_scope is required", field="workspace_scope")


def workspaces_of(scope: datamodel_pb2.WorkspaceSelector, caller: Caller) -> str | None:
    """The workspace a listing means, or None for all of them, which needs the platform admin role."""
    if scope.WhichOneof("selection") == "all_workspaces":
        caller.require_platform_admin()
        return None
    return workspace_of(scope)


__all__ = [
    "ADMIN_ROLE",
    "ALL_SCOPES",
    "DEFAULT_WORKSPACE",
    "USER_ROLE",
    "Actor",
    "Caller",
    "GatewayError",
    "SandboxPrincipal",
    "UserPrincipal",
    "workspace_of",
    "workspaces_of",
]
