"""What the engine is asked and what it answers: the one vocabulary of proxy, proof, tests and users."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from pyopenshell.policy.model import Policy
    from pyopenshell.policy.operations import Operation


class Condition(enum.StrEnum):
    """The first condition that failed. Stable codes: they stand in denials; docs/agent-loop.md says what each means."""

    NONE = "none"
    IDENTITY = "identity_unknown"
    NO_POLICY = "no_network_policy"
    HOST = "host_not_allowed"
    PORT = "port_not_allowed"
    BINARY = "binary_not_allowed"
    ENDPOINT_PATH = "endpoint_path_not_matched"
    PROTOCOL = "protocol_not_supported"
    REQUEST_TARGET = "invalid_request_target"
    DENY_RULE = "blocked_by_deny_rule"
    METHOD = "method_not_allowed"
    PATH = "path_not_allowed"
    QUERY = "query_not_allowed"
    CONTENT = "invalid_request_content"
    OPERATION = "operation_not_allowed"


# Both values are named tuples and not dataclasses: one of each is made per connection or per request, a frozen
# dataclass takes three times as long to make, and a connection serves as a key.


class Connection(NamedTuple):
    """Who wants to reach what. `host` as the client wrote it; the engine canonicalises.

    `binary` is the kernel-resolved executable, "" when it could not be established (then everything is denied);
    `ancestors` are executables of the parent chain, nearest first; `aliases` further names of any of them (symbolic
    links in the sandbox that lead to them).
    """

    host: str
    port: int
    binary: str
    ancestors: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Decision(NamedTuple):
    """One verdict. `rule` is the map key that decided or would have ("-" when none came close).

    `audit` means: refused by the rules, forwarded because the endpoint only audits; callers must log it as such and
    never show it as allowed. `path` is the canonical path without query ("" at L4) and `target` what must be sent
    upstream: canonical path plus the query bytes unchanged.
    """

    allowed: bool
    rule: str = "-"
    reason: str = ""
    condition: Condition = Condition.NONE
    audit: bool = False
    path: str = ""
    target: str = ""
    nearest: str = ""
    """The nearest miss for people and agents, for example "binary /usr/bin/wget, allowed: /usr/bin/curl"."""

    def __bool__(self) -> bool:
        return self.allowed


_new = tuple.__new__
_NONE = Condition.NONE


def permitted(rule: str, path: str, target: str) -> Decision:
    """`Decision(True, rule, path=path, target=target)`, in a third of the time."""
    return _new(Decision, (True, rule, "", _NONE, False, path, target, ""))


class Cell(Protocol):
    """All endpoints that apply to one (binary chain, host, port): resolved once per connection, then asked per request.

    Shared and immutable. Obtained from `Engine.connect`.
    """

    @property
    def decision(self) -> Decision:
        """The L4 verdict. When it is not allowed nothing else may be asked."""

    @property
    def inspected(self) -> bool:
        """True where requests must be parsed; False where bytes are relayed raw."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """Distinct protocols of the inspected endpoints, for example ("rest",)."""

    @property
    def tls_skip(self) -> bool:
        """True where `tls: skip` forbids termination."""

    @property
    def allowed_ips(self) -> tuple[str, ...]:
        """Union of the matching endpoints' `allowed_ips`."""

    @property
    def host_declared(self) -> bool:
        """True where a user (no proposal, no wildcard) named exactly this host: private addresses may be dialled."""

    @property
    def key(self) -> object:
        """Hashable and equal for two connections with the same grant: pools may share only within one key."""

    def decide(self, method: str, target: str) -> Decision:
        """Judge one request by its head. `target` is origin-form (`/path?query`) exactly as the client sent it.

        Denies (`protocol_not_supported`) where an endpoint judges what requests carry: ask `content_limit` first.
        """

    def content_limit(self, target: str) -> int:
        """Bytes of body that a request to `target` may have, all of which `decide_content` must see; 0 where the head
        decides alone."""

    def content_protocol(self, target: str) -> str:
        """The one protocol that judges requests to `target`; "" where it is not one."""

    def read_content(self, method: str, target: str, content_type: str, body: bytes) -> Sequence[Operation] | Decision:
        """What the whole, decoded body carries, for `decide_operations`; or the verdict where nothing can be read."""

    def decide_content(self, method: str, target: str, content_type: str, body: bytes) -> Decision:
        """Judge a request and every operation that its whole, decoded body carries. What cannot be read is denied."""

    def decide_operations(self, method: str, target: str, found: Sequence[Operation]) -> Decision:
        """`decide_content` for a body that was read already. All must be allowed; none at all is denied."""

    def decide_upgrade(self, target: str) -> Decision:
        """Judge a WebSocket handshake: a GET request that is a complete, valid upgrade and asks for nothing else."""

    def decide_message(self, target: str, message: str | bytes) -> Decision:
        """Judge one message that the client sends on a connection upgraded at `target`.

        `message` is whole: reassembled, decompressed, valid UTF-8. Text is `str`; `bytes` is a binary message, which
        needs the same right as text and is refused where text is judged as GraphQL.
        """


class PolicyEngine(Protocol):
    """A compiled policy. Immutable; safe to share between tasks and to swap atomically."""

    @property
    def policy(self) -> Policy: ...

    def connect(self, connection: Connection) -> Cell:
        """Resolve a connection to its cell; never raises: a name that cannot be canonicalised is a denial."""

    def names(self, host: str) -> Literal["exact", "pattern"] | None:
        """Could this policy allow canonical `host` to anybody, on any port? "exact" when a rule names the very host,
        "pattern" when only a wildcard (or a rule without a host) covers it. What policy DNS asks; allows nothing."""

    def decide(self, connection: Connection, method: str = "", target: str = "") -> Decision:
        """`connect` and, for inspected cells with a method, `Cell.decide` in one call (tests, proof, replay)."""
