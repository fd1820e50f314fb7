"""The supervisor process of one sandbox: puts the parts together and lives exactly as long as its sandbox.

Called in a freshly forked child of the driver host, which has no threads and no event loop. Decides nothing itself.

Control socket (SOCK_SEQPACKET, one JSON object per packet):

* host -> supervisor `{"op": "sockets", "names": [...]}` with as many descriptors (SCM_RIGHTS), once. Names: `proxy`
  (listening TCP socket in the sandbox's network namespace), `diag` (NETLINK_SOCK_DIAG there), `lifeline`
  (its peer is held by the sandbox's init), `proc` (directory of the sandbox's procfs) and, where there is one, `root`
  (the sandbox's root directory), `identity` (SOCK_SEQPACKET from the connect watcher), `nflog`, and what the namespace
  redirects here: `capture` (listening), `dns` (UDP), `dns-tcp` (listening), and each with a `6` behind it for IPv6.
* supervisor -> host `{"op": "ready"}` once everything is enforced, or
  `{"op": "failed", "reason": CamelCase, "message": text}`, after which it exits with code 1.
* host -> supervisor `{"op": "stop"}`, or closing the socket: end now, orderly.

The supervisor ends (code 0) when the lifeline or the control socket reaches its end, on SIGTERM and on SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from pyopenshell import policy as language
from pyopenshell.audit.events import ConfigEvent, LifecycleEvent, Severity
from pyopenshell.isolation import channel, syscalls
from pyopenshell.isolation.identity import ConnectionIdentity
from pyopenshell.policy.decision import PolicyEngine
from pyopenshell.policy.engine import Engine
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.model import Policy
from pyopenshell.supervisor import bypass, rehearsal, skills
from pyopenshell.supervisor.config import (
    OCSF_ENABLED,
    PROPOSALS_ENABLED,
    Configuration,
    Setting,
    policy_of,
    settings_of,
)
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.denial import SKILL_PATH
from pyopenshell.supervisor.denials.reporter import DenialReporter
from pyopenshell.supervisor.link import Link
from pyopenshell.supervisor.logs import AuditLog
from pyopenshell.supervisor.policy_local import PolicyLocal
from pyopenshell.supervisor.programs import ProgramNames
from pyopenshell.supervisor.proposals import Proposals
from pyopenshell.supervisor.proxy.context import Limits, PlaneContext
from pyopenshell.supervisor.proxy.names import Names
from pyopenshell.supervisor.proxy.nameserver import NameServer, Refusals
from pyopenshell.supervisor.proxy.plane import Plane
from pyopenshell.supervisor.proxy.policy_dns import PolicyDns
from pyopenshell.supervisor.proxy.tls import CertificateAuthority
from pyopenshell.supervisor.spec import SupervisorSpec
from pyopenshell.supervisor.tasks import cancel, spawn
from pyopenshell.supervisor.truststore import keystore
from pyopenshell.wire.gen import sandbox_pb2

SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep the system's certificate bundle (contract/sandbox.md 12); the first that exists counts."""
CA_NAME = "OpenShell Sandbox CA"
THREADS = 8
"""Of the loop's pool: name resolution, compiling a policy."""
_REQUIRED = ("proxy", "diag", "lifeline", "proc")


class StartError(Exception):
    """The supervisor cannot enforce. `reason` is CamelCase, for the driver."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def main(spec: SupervisorSpec, control: socket.socket) -> int:
    """Run the supervisor until its sandbox is gone; returns the exit code. Call `os._exit()` with it."""
    _harden()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(spec, control))


def rehearse() -> None:
    """Called once in the driver host, before it forks any supervisor."""
    rehearsal.rehearse()


def _harden() -> None:
    """This process holds keys: no core dumps, no reading of its memory by others of the same user."""
    syscalls.set_process_name("openshell-super")
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)


async def _run(spec: SupervisorSpec, control: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "pool"))
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    supervisor = Supervisor(spec)
    wire = _Control(control, ending)
    try:
        try:
            supervisor.prepare()
            sockets = await wire.sockets()
            if sockets is None:
                return 0
            await supervisor.start(sockets)
            supervisor.watch_lifeline(ending)
        except StartError as error:
            wire.send({"op": "failed", "reason": error.reason, "message": error.message})
            return 1
        except Exception as error:  # noqa: BLE001 - the driver must hear of any failure, not only of expected ones
            wire.send({"op": "failed", "reason": "SupervisorFailed", "message": f"{type(error).__name__}: {error}"})
            return 1
        wire.send({"op": "ready"})
        syscalls.give_back_memory()  # starting took more than running does
        await ending.wait()
        return 0
    finally:
        await supervisor.close()
        wire.close()


class _Control:
    """The host's end of the line, see the module."""

    def __init__(self, control: socket.socket, ending: asyncio.Event) -> None:
        self._socket = control
        self._ending = ending
        self._sockets: asyncio.Future[dict[str, int] | None] = asyncio.get_running_loop().create_future()
        control.setblocking(False)
        asyncio.get_running_loop().add_reader(control.fileno(), self._readable)

    async def sockets(self) -> dict[str, int] | None:
        """Descriptors by name; None when the host wants us to end instead. Raises StartError."""
        return await self._sockets

    def send(self, message: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # a host that is gone needs no answer
            channel.send(self._socket, message)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        try:
            message, descriptors = channel.receive(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except (channel.ChannelError, OSError):
            message, descriptors = None, []
        if message is None or message.get("op") == "stop":
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._ending.set()
            if not self._sockets.done():
                self._sockets.set_result(None)
            return
        names = message.get("names")
        if message.get("op") != "sockets" or self._sockets.done() or not isinstance(names, list):
            channel.close_all(descriptors)
            return
        missing = [name for name in _REQUIRED if name not in names]
        if missing or len(names) != len(descriptors):
            channel.close_all(descriptors)
            text = f"{len(descriptors)} descriptors for {names}, missing: {missing}"
            self._sockets.set_exception(StartError("BadSockets", text))
            return
        self._sockets.set_result(dict(zip(names, descriptors, strict=True)))


class Supervisor:
    """All parts of one supervisor. `prepare` needs no sockets and may run while the sandbox is still being built."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self._spec = spec
        self._root = Path(spec.root)
        self._audit = AuditLog(self._root / "log", spec.sandbox_id)
        self._proposals = Proposals(self._audit)
        self._hosts = Names()
        self._nameserver: NameServer | None = None
        self._plane: Plane | None = None
        self._identity: ConnectionIdentity | None = None
        self._names = ProgramNames()
        self._tasks: list[asyncio.Task[None]] = []
        self._open: list[socket.socket] = []
        self._last: list[Callable[[], None]] = []
        """To be called when the supervisor closes."""

    def __repr__(self) -> str:
        return f"<Supervisor of {self._spec.name} ({self._spec.sandbox_id})>"

    def prepare(self) -> None:
        """Compile the first policy, make the certificate authority, open the log. Raises StartError."""
        self._audit.open()
        try:
            snapshot = sandbox_pb2.SandboxConfigSnapshot.FromString(self._spec.config)
            engine = self._compile(policy_of(snapshot), None)
        except Exception as error:
            raise StartError("PolicyInvalid", f"the sandbox's policy cannot be enforced: {error}") from error
        settings = settings_of(snapshot)
        self._current = Current(
            engine=engine,
            version=snapshot.version,
            policy_hash=snapshot.policy_hash,
            proposals_enabled=settings.get(PROPOSALS_ENABLED) is True,
        )
        self._configuration = Configuration(
            self._current,
            self._compile,
            self._audit,
            loaded=self._policy_loaded,
            settings_changed=self._settings_changed,
            settings=settings,
        )
        self._last.append(self._configuration.close)
        self._authority = CertificateAuthority.create(CA_NAME)
        try:
            _write_certificates(self._root / "tls", self._authority.ca_pem)
            (self._root / "openshell").mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError("StateUnwritable", str(error)) from error
        self._settings_changed(settings)

    async def start(self, sockets: Mapping[str, int]) -> None:
        """Open the doors, then the line to the gateway. Raises StartError."""
        spec = self._spec
        taken = {name: socket.socket(fileno=fd) for name, fd in sockets.items() if name not in ("proc", "root")}
        self._lifeline = taken["lifeline"]
        self._open = [taken[name] for name in ("lifeline", "nflog") if name in taken]
        refused = functools.partial(bypass.call_refused, self._audit)
        self._identity = ConnectionIdentity(taken["diag"], taken.get("identity"), sockets["proc"], refused)
        self._identity.start()
        if "root" in sockets:
            self._names.open(sockets["root"], sockets["proc"])
        link = Link(spec, self._configuration, self._proposals, self._audit)
        reporter = DenialReporter(
            sandbox_id=spec.sandbox_id,
            name=spec.name,
            workspace=spec.workspace,
            submit=link.submit,
            online=link.wait_online,
            audit=self._audit,
        )
        local = PolicyLocal(
            name=spec.name,
            workspace=spec.workspace,
            current=self._current,
            gateway=link,
            proposals=self._proposals,
            audit=self._audit,
            dump=language.dump,
        )
        self._plane = Plane(
            PlaneContext(
                current=self._current,
                identifier=self._identity,
                audit=self._audit,
                denied=reporter.add,
                authority=self._authority,
                local=local,
                connect_to={(canonical_host(c.host), c.port): c for c in spec.connect_to},
                blocked=_gateway_address(spec.access.address),
                names=self._names,
                hosts=self._hosts,
                original_destination=self._identity.destination,
                limits=Limits(tunnel_seconds=spec.tunnel_idle_seconds),
            )
        )
        asyncio.get_running_loop().set_exception_handler(self._plane.defects.unexpected)
        self._audit.forward_to(link.log)
        fields = (("policy_hash", self._current.policy_hash), ("version", str(self._current.version)))
        self._audit.emit(ConfigEvent("LOADED", "Policy loaded at start", fields=fields))
        await self._plane.serve(taken["proxy"])
        await self._serve_captured(self._plane, taken)
        self._audit.emit(LifecycleEvent("START", "openshell-supervisor"))
        if "nflog" in taken:
            bypass.watch(taken["nflog"], self._audit, self._hosts.name)
        self._tasks = [spawn(link.run(), name="link"), spawn(reporter.run(), name="denials")]

    def _compile(self, policy: Policy, reuse: PolicyEngine | None) -> PolicyEngine:
        self._names.learn({binary for rule in policy.rules for binary in rule.binaries})
        return compile_engine(policy, reuse if isinstance(reuse, Engine) else None)

    async def _serve_captured(self, plane: Plane, taken: Mapping[str, socket.socket]) -> None:
        """The doors of programs that know no proxy."""

        def any_policy() -> bool:
            return bool(self._current.engine.policy.rules)

        def full(name: str) -> None:
            refusals.full(name, repr(self._hosts))

        refusals = Refusals(plane.record, plane.clock, plane.after, any_policy=any_policy)

        dns = PolicyDns(self._current, self._hosts, ipv6="capture6" in taken, refused=refusals.add, full=full)
        self._nameserver = NameServer(dns)
        for suffix in ("", "6"):
            if "capture" + suffix in taken:
                await plane.capture(taken["capture" + suffix])
                self._nameserver.serve_datagrams(taken["dns" + suffix])
                await self._nameserver.serve_streams(taken["dns-tcp" + suffix])

    def watch_lifeline(self, ending: asyncio.Event) -> None:
        """Set `ending` when the sandbox's init is gone."""
        loop = asyncio.get_running_loop()
        lifeline = self._lifeline
        lifeline.setblocking(False)

        def readable() -> None:
            try:
                alive = bool(lifeline.recv(64))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                alive = False
            if not alive:
                loop.remove_reader(lifeline.fileno())
                ending.set()

        loop.add_reader(lifeline.fileno(), readable)

    async def close(self) -> None:
        """Shut the doors first, then deliver what the disk can still take. Idempotent."""
        if self._nameserver:
            self._nameserver.close()
        if self._plane:
            await self._plane.close()
        await cancel(*self._tasks)
        while self._last:
            self._last.pop()()
        if self._identity:
            self._identity.close()
        for sock in self._open:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._open = []
        await self._audit.close()

    def _policy_loaded(self, swapped: bool) -> None:
        if swapped and self._plane:
            self._plane.policy_changed()
        self._proposals.bell.ring()

    def _settings_changed(self, settings: Mapping[str, Setting]) -> None:
        self._audit.enable_ocsf(settings.get(OCSF_ENABLED) is True)
        if self._current.proposals_enabled:
            try:
                # Here and now: the very next refusal already tells the agent to read it.
                if skills.install(self._root / "openshell"):
                    self._audit.emit(ConfigEvent("INSTALLED", f"Agent instructions at {SKILL_PATH}"))
            except OSError as error:
                self._audit.emit(
                    ConfigEvent("DEGRADED", f"Agent instructions could not be installed: {error}", Severity.MEDIUM)
                )
        self._proposals.bell.ring()


def _gateway_address(address: str) -> frozenset[tuple[str, int]]:
    host, _, port = address.rpartition(":")
    return frozenset({(host.strip("[]"), int(port))}) if host else frozenset()


def _write_certificates(directory: Path, ca_pem: str) -> None:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o755)
    roots = b""
    for path in SYSTEM_ROOTS:
        with contextlib.suppress(OSError):
            roots = Path(path).read_bytes().rstrip() + b"\n"
            break
    _replace(directory / "openshell-ca.pem", ca_pem.encode())
    _replace(directory / "ca-bundle.pem", roots + ca_pem.encode())
    try:
        store = keystore(roots.decode("utf-8", "replace") + ca_pem)
    except ValueError:  # the system's bundle is damaged: at least what the proxy signs is trusted
        store = keystore(ca_pem)
    _replace(directory / "cacerts.jks", store)


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)
    os.replace(temporary, path)
