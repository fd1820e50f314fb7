"""The one gate every RPC passes: who is calling (certificate, token) and whether the method is theirs to call.

Decides from the method's own options (wire.service); must not know what a method does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from pyopenshell.gateway.certificates import SANDBOX_UNIT, USER_UNIT, Identity, identity_of
from pyopenshell.gateway.configuration import Rate
from pyopenshell.gateway.errors import GatewayError, denied, unauthenticated
from pyopenshell.gateway.principals import ADMIN_ROLE, ALL_SCOPES, USER_ROLE, Caller, SandboxPrincipal, UserPrincipal
from pyopenshell.gateway.rates import Rates
from pyopenshell.gateway.tokens import RENEWAL_GRACE, TokenError, Tokens
from pyopenshell.wire.service import Method

Principal = UserPrincipal | SandboxPrincipal

_RENEWAL: Final = "/openshell.v1.OpenShell/RefreshSandboxToken"
"""The only method an expired token may still call, within the grace period."""

_ROLE_FOR: Final = {"user": USER_ROLE, "admin": ADMIN_ROLE, "platform_admin": ADMIN_ROLE}


class Gate:
    """Authentication and authorisation of one gateway.

    `await epoch_of(sandbox_id)` is the token epoch a live sandbox accepts, None when there is no such sandbox.
    """

    def __init__(
        self, tokens: Tokens, epoch_of: Callable[[str], Awaitable[int | None]], rates: Rates | None = None
    ) -> None:
        self._tokens, self._epoch_of, self._rates = tokens, epoch_of, rates or Rates(Rate())

    async def admit(
        self, method: Method, certificate: bytes | None, metadata: Iterable[tuple[str, str | bytes]]
    ) -> Principal | None:
        """The caller, or GatewayError. None only for methods that need no identity."""
        if method.auth_mode == "unauthenticated":
            return None
        principal = await self._identify(method, certificate, metadata)
        self._rates.take(Caller(principal).subject)
        _authorise(method, principal)
        return principal

    async def _identify(
        self, method: Method, certificate: bytes | None, metadata: Iterable[tuple[str, str | bytes]]
    ) -> Principal:
        if certificate is None:
            raise unauthenticated("this gateway needs a client certificate")
        try:
            identity = identity_of(certificate)
        except ValueError:
            raise unauthenticated("the client certificate names no single CN and OU") from None
        headers = [value for key, value in metadata if key == "authorization"]
        match identity.units:
            case (unit,) if unit == USER_UNIT:
                if headers:
                    raise unauthenticated("this gateway takes no bearer token together with a user certificate")
                return _user(identity)
            case (unit,) if unit == SANDBOX_UNIT:
                return await self._sandbox(method, identity, headers)
            case _:
                raise unauthenticated("the client certificate is neither a user's nor a sandbox's")

    async def _sandbox(self, method: Method, identity: Identity, headers: list[str | bytes]) -> SandboxPrincipal:
        if not headers:
            raise unauthenticated("missing authorization header")
        if len(headers) > 1 or not isinstance(headers[0], str):
            raise unauthenticated("exactly one authorization header is accepted")
        scheme, _, text = headers[0].partition(" ")
        if scheme.lower() != "bearer":
            raise unauthenticated("the authorization header is not a bearer token")
        try:
            claims = self._tokens.verify(text.strip(), grace=RENEWAL_GRACE if method.path == _RENEWAL else 0)
        except TokenError as error:
            raise unauthenticated(f"invalid sandbox token: {error}") from None
        if claims.sandbox_id != identity.sandbox_id:
            raise unauthenticated("invalid sandbox token: it belongs to another sandbox than the certificate")
        if await self._epoch_of(claims.sandbox_id) != claims.epoch:
            raise unauthenticated("invalid sandbox token: it was revoked")
        return SandboxPrincipal(claims.sandbox_id, claims.token_id, claims.epoch, claims.expires)


def _user(identity: Identity) -> UserPrincipal:
    # An embedded gateway serves the one person who owns its files: holding the key is being the administrator.
    return UserPrincipal(
        subject=f"mtls:CN={identity.common_name}",
        display_name=identity.common_name,
        provider="mtls",
        roles=frozenset({USER_ROLE, ADMIN_ROLE}),
        scopes=frozenset({ALL_SCOPES}),
    )


def _authorise(method: Method, principal: Principal) -> None:
    is_sandbox = isinstance(principal, SandboxPrincipal)
    match method.auth_mode:
        case "bearer" if is_sandbox:
            raise denied("sandbox principals may not call this method")
        case "sandbox" if not is_sandbox:
            raise denied("this method requires a sandbox principal")
        case "operator":
            raise denied("this method requires an operator certificate")
        case "peer":
            raise denied("this method requires a peer gateway")
        case "bearer" | "sandbox" | "dual":
            pass
        case other:  # a method whose options say nothing is nobody's
            raise GatewayError("INTERNAL", f"{method.path} has unknown auth_mode {other!r}")
    if isinstance(principal, UserPrincipal):
        for role in filter(None, (method.workspace_role, method.global_role)):
            if _ROLE_FOR.get(role) not in principal.roles:
                raise denied(f"role '{_ROLE_FOR.get(role, role)}' required")
        if method.scope and not principal.scopes & {method.scope, ALL_SCOPES}:
            raise denied(f"scope '{method.scope}' required")
