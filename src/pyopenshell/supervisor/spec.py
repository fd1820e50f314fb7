"""What one supervisor is told when it is forked: plain values, no handles.

Written here and not taken from `drivers.base`, because a supervisor must not know which driver started it.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """How to reach the gateway as exactly this sandbox. PEM texts and a JWT; never written to disk, never logged.

    `address` is `host:port`. An empty address means there is no gateway: the supervisor enforces its first
    configuration and answers proposals with 503.
    """

    address: str
    token: str = dataclasses.field(repr=False)
    ca_pem: str = dataclasses.field(repr=False)
    cert_pem: str = dataclasses.field(repr=False)
    key_pem: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectTo:
    """Operator's override: dial `address` (literal `ip:port`) for `host:port` and trust `ca_pem` for that host only."""

    host: str
    port: int
    address: str
    ca_pem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """Everything a supervisor needs besides its sockets, which come over the control socket (see `process`).

    `config` is a serialized `openshell.sandbox.v1.SandboxConfigSnapshot`, enforced before the sandbox runs anything.
    `root` is the sandbox's directory on the host (`<state>/sandboxes/<id>`); the supervisor writes below
    `root/tls`, `root/log` and `root/openshell` only, and creates them where they are missing.
    """

    sandbox_id: str
    name: str
    workspace: str
    instance_id: str
    config: bytes
    access: Access
    root: str
    init_pid: int = 0
    connect_to: tuple[ConnectTo, ...] = ()
    tunnel_idle_seconds: int = 86400
    """After which a raw tunnel or WebSocket ends when nothing was said; 0: never."""
