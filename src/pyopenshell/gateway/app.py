"""One gateway, put together: which part gets which, in which order they start and end. Decides nothing else."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyopenshell.drivers.base import Driver, GatewayAccess
from pyopenshell.gateway import certificates, gauges
from pyopenshell.gateway.admissions import Admissions
from pyopenshell.gateway.auth import Gate
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.clock import Clock, system_clock
from pyopenshell.gateway.configuration import Configuration
from pyopenshell.gateway.consoles import Consoles
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.files import private_directory, write_private
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.logs import Logs
from pyopenshell.gateway.metrics import Metrics
from pyopenshell.gateway.probes import Probes
from pyopenshell.gateway.rates import Rates
from pyopenshell.gateway.registration import endpoint_of, register
from pyopenshell.gateway.revisions import Revisions
from pyopenshell.gateway.rpc.console import ConsoleService
from pyopenshell.gateway.rpc.drafts import DraftService
from pyopenshell.gateway.rpc.exec import ExecService
from pyopenshell.gateway.rpc.forward import ForwardService
from pyopenshell.gateway.rpc.health import VERSION, Health
from pyopenshell.gateway.rpc.logs import LogService
from pyopenshell.gateway.rpc.policy import PolicyService
from pyopenshell.gateway.rpc.proposals import ProposalService
from pyopenshell.gateway.rpc.review import ReviewService
from pyopenshell.gateway.rpc.sandbox import SandboxService
from pyopenshell.gateway.rpc.supervisor import SupervisorService
from pyopenshell.gateway.rpc.templates import TemplateService
from pyopenshell.gateway.rpc.workspace import WorkspaceService
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.gateway.server import BindError, Server
from pyopenshell.gateway.sessions import Sessions
from pyopenshell.gateway.settings import Settings
from pyopenshell.gateway.snapshots import Snapshots
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.submission import Limits
from pyopenshell.gateway.tasks import Tasks
from pyopenshell.gateway.templates import Templates
from pyopenshell.gateway.tokens import Tokens
from pyopenshell.gateway.trail import Trail
from pyopenshell.gateway.workspaces import Workspaces
from pyopenshell.isolation.boottime import boot_id
from pyopenshell.wire.gen import pyopenshell_pb2

_STOP_GRACE: Final = 0.5
"""Seconds running calls get when the gateway stops. Streams have nothing to finish; decisions take milliseconds."""

_log = logging.getLogger(__name__)


def driver_of(configuration: Configuration) -> Driver:
    """The configured drivers as one. Each is imported only by a gateway that has it."""
    from pyopenshell.drivers.several import Several

    state = configuration.paths.state
    members: list[Driver] = []
    for name in configuration.compute_drivers:
        if name == "local":
            from pyopenshell.drivers.local.driver import LocalDriver

            members.append(LocalDriver(state))
        else:
            from pyopenshell.drivers.podman.driver import PodmanDriver

            members.append(PodmanDriver(state / name, configuration.podman_socket, pull=configuration.podman_pull))
    return Several(members)


class Gateway:
    """A running control plane. `await start()`, then `await stop()`."""

    def __init__(self, configuration: Configuration, driver: Driver, clock: Clock = system_clock) -> None:
        self.configuration, self.driver, self._clock = configuration, driver, clock
        self.port = self.probes_port = 0
        self.metrics = Metrics(VERSION)
        self.bus = Bus()
        self.store = Store(configuration.database, self.bus)
        self.settings = Settings(self.store, self.bus)
        self.revisions = Revisions(self.store, self.bus, clock)
        self.snapshots = Snapshots(self.store, self.revisions, self.settings)
        limits = Limits.of(configuration.quotas)
        self.inbox = Inbox(
            self.store, self.bus, self.revisions, self.settings, clock, limits, configuration.kept_history
        )
        self.trail = Trail(self.store, self.bus, clock)
        self.workspaces = Workspaces(self.store, clock)
        self.logs = Logs(self.store, self.bus, clock, configuration.kept_lines)
        self.sessions = Sessions(self.bus, self.snapshots)
        self.bundle = certificates.load_or_create(configuration.paths.tls, configuration.server_names)
        self.tokens = Tokens.load_or_create(
            configuration.paths.tls / "jwt", configuration.gateway_id, configuration.token_lifetime
        )
        self.sandboxes = Sandboxes(
            self.store,
            self.bus,
            self.revisions,
            self.snapshots,
            self.sessions,
            driver,
            self._access,
            configuration.connect_to,
            configuration.tunnel_idle_seconds,
            clock,
            owner=_own_name(configuration.paths.run / "replica"),
            new_boot=self._is_new_boot(),
        )
        self.consoles = Consoles()
        self._tasks = Tasks()
        self._admissions = Admissions(self.store, clock)
        gate = Gate(self.tokens, self.sandboxes.epoch_of, Rates(configuration.rate))
        self._server = Server(gate, self._servicers(), self._admissions, self.metrics)
        self._gauges = gauges.Gauges(self.store, self.metrics, lambda: len(self.sessions))
        self._probes = Probes(self.metrics, self._trouble, self._gauges.read)
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Gateway {self.endpoint if self.port else 'not started'}, {len(self.sessions)} supervisors>"

    @property
    def endpoint(self) -> str:
        return endpoint_of(self.configuration.advertised_host, self.port)

    @property
    def probes(self) -> str:
        """Base URL of /healthz, /readyz and /metrics; "" when they are switched off."""
        host = self.configuration.probes_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.probes_port}" if self.probes_port else ""

    async def start(self) -> None:
        """Open the store, listen, take up the sandboxes, register. Raises BindError, GatewayError, OSError.

        Listens before it takes up sandboxes: a supervisor that is started then finds the gateway at once.
        """
        await self.store.open()
        await self.workspaces.open()
        self.port = self._bind()
        await self.sandboxes.load()
        await self._server.start()
        await self._listen_for_probes()
        try:
            await self._serve()
        except BaseException:
            await self._probes.close()  # a gateway that did not start must not go on saying that it lives
            raise
        _log.info("gateway answers at %s", self.endpoint)

    async def _serve(self) -> None:
        self._tasks.spawn(self.inbox.leases.run(self.inbox.refresh), "leases")
        await self.sandboxes.take_up()
        self._remember_boot()
        register(
            self.configuration.paths.config,
            self.configuration.name,
            self.configuration.advertised_host,
            self.configuration.advertised_port or self.port,
            self.bundle,
        )

    async def stop(self) -> None:
        """End calls and let go of everything. Sandboxes go on; supervisors reconnect to the next gateway."""
        self._stopping = True
        self.sandboxes.let_go()
        self.sessions.close_all()
        await self._server.stop(_STOP_GRACE)
        await self._admissions.close()
        await self.consoles.close()
        await self.sandboxes.close()
        await self._tasks.close()
        await self.logs.flushed()
        await self._probes.close()
        await self.store.close()

    @property
    def _boot_memory(self) -> Path:
        return private_directory(self.configuration.paths.run) / "boot-id"

    def _remember_boot(self) -> None:
        """A disk that is full keeps nobody from using the gateway: then the next reason is only less exact."""
        try:
            write_private(self._boot_memory, boot_id())
        except OSError as error:
            _log.warning("cannot remember this run of the machine: %s", error)

    def _is_new_boot(self) -> bool:
        """Whether the machine was started anew since a gateway last ran on this state directory."""
        try:
            return self._boot_memory.read_text("ascii") != boot_id()
        except (OSError, UnicodeDecodeError):
            return False

    def _bind(self) -> int:
        """The configured port; where any will do, the one of last time, so that running supervisors find us again."""
        host, port = self.configuration.host, self.configuration.port
        if port:
            return self._server.bind(host, port, self.bundle)
        memory = private_directory(self.configuration.paths.run) / "port"
        try:
            return self._server.bind(host, int(memory.read_text()), self.bundle)
        except (FileNotFoundError, ValueError, BindError):
            bound = self._server.bind(host, 0, self.bundle)
            write_private(memory, str(bound))
            return bound

    async def _listen_for_probes(self) -> None:
        """The configured port; where any will do, the one of last time if it is free, so that scrapers find it again.

        Raises BindError: an operator who asked for a port wants to know.
        """
        host, port = self.configuration.probes_host, self.configuration.probes_port
        if not host:
            return
        memory = private_directory(self.configuration.paths.run) / "health-port"
        for wanted in (port,) if port else (_remembered(memory), 0):
            try:
                self.probes_port = await self._probes.listen(host, wanted)
            except OSError as error:
                if wanted or port:
                    continue
                raise BindError(f"cannot listen on {host} for health checks: {error.strerror}", "") from None
            write_private(memory, str(self.probes_port))
            return
        raise BindError(
            f"cannot listen on {host}:{port} for health checks: the address is in use or not this machine's",
            "Take another health_bind_address in gateway.toml, or none: OPENSHELL_HEALTH_PORT=0 takes any free port",
        )

    async def _trouble(self) -> list[str]:
        """What keeps this gateway from serving."""
        found = ["the gateway is stopping"] if self._stopping else []
        try:
            await self.store.run(lambda tx: tx.exec_driver_sql("SELECT 1"))
        except GatewayError as error:
            found.append(error.message)
        if self.sandboxes.driver_trouble:
            found.append(f"driver {self.driver.name}: {self.sandboxes.driver_trouble}")
        return found

    def _access(self, sandbox_id: str, epoch: int) -> GatewayAccess:
        pair = self.bundle.authority.sandbox(sandbox_id)
        host, port = self.configuration.advertised_host, self.configuration.advertised_port or self.port
        return GatewayAccess(
            address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            token=self.tokens.issue(sandbox_id, epoch).text,
            ca_pem=self.bundle.authority.pem.decode(),
            cert_pem=pair.certificate.decode(),
            key_pem=pair.key.decode(),
        )

    def _servicers(self) -> Sequence[object]:
        return (
            Health(self.driver),
            SandboxService(self.sandboxes),
            ExecService(self.sandboxes, self.driver),
            ForwardService(self.sandboxes, self.driver),
            ConsoleService(self.sandboxes, self.driver, self.consoles),
            LogService(self.logs, self.bus, self.sandboxes),
            SupervisorService(self.store, self.revisions, self.sandboxes, self.sessions, self.tokens),
            WorkspaceService(self.workspaces),
            TemplateService(Templates(self.store, self._clock, self.driver.capabilities)),
            PolicyService(self.store, self.revisions, self.settings, self.snapshots, self.inbox, self.trail),
            DraftService(self.store, self.inbox),
            ProposalService(self.bus, self.inbox),
            ReviewService(self.store, self.bus, self.inbox, self._operator_status),
        )

    def _operator_status(self) -> pyopenshell_pb2.GetOperatorStatusResponse:
        overrides = [
            pyopenshell_pb2.ConnectTo(
                host=override.host, port=override.port, address=override.address, has_ca=bool(override.ca_pem)
            )
            for override in self.configuration.connect_to
        ]
        return pyopenshell_pb2.GetOperatorStatusResponse(
            connect_to=overrides,
            state_dir=str(self.configuration.paths.state),
            sandboxes_connected=len(self.sessions),
        )


def _own_name(memory: Path) -> str:
    """What this gateway is called among those that share its database: the host, and what makes it another one."""
    try:
        return memory.read_text()
    except FileNotFoundError:
        name = f"{socket.gethostname()[:40]}-{uuid.uuid4().hex[:8]}"
        write_private(private_directory(memory.parent) / memory.name, name)
        return name


def _remembered(memory: Path) -> int:
    try:
        return int(memory.read_text())
    except (FileNotFoundError, ValueError):
        return 0
