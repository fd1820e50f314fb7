"""How a sandbox comes to be: the interface every driver implements (contract/gateway.md 11).

The gateway knows sandboxes only through this file. A driver builds the walls, starts the supervisor, starts the main
process, and reports. It decides nothing about policy and stores nothing that the gateway must survive with.

What whoever writes another driver promises, beside each method's own text:

* The walls are those of docs/isolation.md, or `WorkloadStatus.assurance` and `losses` say which are not;
  `Workload.require` ends a creation whose walls are worth less, before any instruction of the agent ran.
* The supervisor (`supervisor.process`) runs outside what the agent can touch, with `Workload.access`, which no command,
  no file inside and no metadata of an engine ever shows. It is enforcing before the main process starts.
* Nothing leaves but through that supervisor: one that ends takes its sandbox with it, or closes its network.
* A workload is known by `sandbox_id` (its files) and `instance_id` (one run of it). Re-creation with a new instance
  replaces the old one and finds the files as they were left.
* Reasons of a `DriverError` are stable CamelCase codes, listed in docs/isolation.md.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol


class DriverError(Exception):
    """A workload could not be made. `reason` is a stable CamelCase code, `fix` what the operator can do, one line."""

    def __init__(self, reason: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.fix = reason, message, fix


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectTo:
    """Operator-owned override: dial `address` (host:port, literal IP) for `host:port` and trust `ca_pem` for it.

    The only way past the destination guard; comes from the gateway's own configuration, never from a policy or
    a proposal.
    """

    host: str
    port: int
    address: str
    ca_pem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayAccess:
    """What a supervisor needs to reach the gateway as exactly one sandbox (PEM, JWT). Never enters the sandbox."""

    address: str  # host:port
    token: str
    ca_pem: str
    cert_pem: str
    key_pem: str


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can be asked for."""

    images: bool = False
    """Its sandboxes are made from an image that `Workload.image` refers to, and which it needs."""
    paths: bool = False
    """It takes an image from a path of the gateway's machine, and none at all for the host's own programs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """Everything a driver needs to create one sandbox."""

    sandbox_id: str
    name: str
    workspace: str
    instance_id: str
    config: bytes
    """Serialized `openshell.sandbox.v1.SandboxConfigSnapshot`: enforced before the first instruction runs."""
    access: GatewayAccess
    command: tuple[str, ...] = ()
    """Main process; empty means none: the sandbox idles until exec."""
    tty: bool = False
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    connect_to: tuple[ConnectTo, ...] = ()
    tunnel_idle_seconds: int = 86400
    """After which a raw tunnel or WebSocket ends when nothing was said; 0: never."""
    require: str = ""
    """Assurance it must have ("full" | "network" | "files"), or "": whatever can be built. Refused before any
    instruction runs when the walls are worth less."""
    accept_weaker: bool = False
    """The user's word that a lower tier of the driver, or walls that do not hold the network, will do."""
    memory: int | None = None
    """Bytes for everything inside together, None without limit; `cpu` in CPUs, `pids` in tasks, likewise."""
    cpu: float | None = None
    pids: int | None = None
    driver: str = ""
    """Name of the driver that is asked for, "" for the gateway's first."""
    image: str = ""
    """Where its programs come from: a reference, an absolute path (as the driver's capabilities say), or ""."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """One report. `phase` is "running", "stopped", "exited" (main process ended, walls stand) or "gone"."""

    sandbox_id: str
    instance_id: str
    phase: str
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    assurance: str = ""
    """What the walls are worth as built: "full", "network", "files" or "none"; "" where nobody says."""
    tier: str = ""
    """Rung of the driver's ladder ("A" is the best), "" where it has none."""
    losses: tuple[str, ...] = ()
    """What is not as it should be, one sentence each."""
    limits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """How each limit that was asked for holds ("memory" -> "cgroup v2")."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExecRequest:
    """`argv` is executed as is (no shell). `workdir` "" means the sandbox's own. Sizes in characters."""

    argv: Sequence[str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    workdir: str = ""
    tty: bool = False
    columns: int = 80
    rows: int = 24


class Process(Protocol):
    """A command running in a sandbox."""

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """("stdout" | "stderr", data) until both ends closed or the command is over. With a tty all is "stdout"."""

    async def write(self, data: bytes) -> None:
        """Feed stdin; waits for room."""

    def close_stdin(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    def signal(self, number: int) -> None:
        """To the command's process group."""

    async def wait(self) -> int:
        """Exit code; 128 + n when signal n ended it."""

    async def aclose(self) -> None:
        """Kill what is left and release everything. Idempotent."""


class Driver(Protocol):
    """Every call is idempotent and safe to repeat after a gateway restart."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        """By the name a workload asks for it with (`Workload.driver`); the default first."""

    async def start(self) -> Sequence[WorkloadStatus]:
        """Connect to (or start) what the driver needs; returns the workloads that already run."""

    async def create(self, workload: Workload) -> WorkloadStatus:
        """Build the walls, start supervisor and main process. Returns when the main process (if any) was started.

        Raises DriverError; then nothing of the workload is left.
        """

    async def stop(self, sandbox_id: str) -> None:
        """End every process; files stay. No error when it does not run."""

    async def delete(self, sandbox_id: str) -> None:
        """End every process and remove every trace. No error when there is none."""

    async def exec(self, sandbox_id: str, request: ExecRequest) -> Process:
        """Start a command. Raises DriverError("NotRunning" | "CommandNotFound" | ...)."""

    async def dial(self, sandbox_id: str, port: int) -> socket.socket:
        """A TCP connection to what listens on `port` of the sandbox's own loopback. Non-blocking; the caller closes it.

        For people outside who reach a server inside; nothing inside can ask for one. Raises DriverError("NotRunning" |
        "NotListening" | ...).
        """

    def events(self) -> AsyncIterator[WorkloadStatus]:
        """Status changes as they happen; one consumer."""

    async def close(self) -> None:
        """Let go without ending workloads that can go on."""
