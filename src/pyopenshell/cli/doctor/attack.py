"""The self-attack: one real sandbox in a private installation, an attacker inside, and what the outside saw of it.

An attack holds when the attacker was refused *and*, where the proxy or the fence refused it, the log says so. Only
loopback, documentation addresses and the metadata address are named, and no packet may leave the sandbox for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.resources
import json
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pyopenshell import policy as language
from pyopenshell.cli.app import CliError
from pyopenshell.client.values import Exit, LogLine, Output

if TYPE_CHECKING:
    from pyopenshell.cli.demo.house import ConnectTo, House
    from pyopenshell.client.gateway import Gateway

SECONDS: Final = 120.0
TASKS: Final = 256
"""What the attacked sandbox may have, so that the fork bomb costs the machine nothing."""
_RECORD_SECONDS: Final = 10.0
PYTHON: Final = "/usr/bin/python3"

TITLES: Final = {
    "direct_tcp4": "TCP past the proxy, IPv4",
    "direct_tcp6": "TCP past the proxy, IPv6",
    "direct_udp": "UDP and QUIC past the proxy",
    "other_sockets": "raw, packet, netlink, vsock, alg, xdp, mptcp sockets",
    "names": "names as a way out",
    "metadata": "the cloud's metadata address",
    "host_loopback": "a server on the host's loopback",
    "gateway": "the gateway's port",
    "abstract_socket": "an abstract unix socket of the host",
    "self_approval": "approving its own proposal",
    "privileges": "keeping a capability",
    "namespaces": "unshare, clone, clone3, setns",
    "mounts": "mount, pivot_root, chroot, fsopen",
    "kernel_doors": "io_uring, bpf, userfaultfd, perf, keyrings, modules",
    "memfd_exec": "running from memory",
    "foreign_abi": "the same calls by another ABI",
    "guard": "tracing, reading or killing PID 1",
    "other_processes": "seeing processes of the host",
    "secrets": "the authority's key, the host's secret files",
    "read_only_paths": "writing what is read-only",
    "set_uid": "set-uid programs",
    "fork_bomb": "a fork bomb",
}
POLICY: Final = """\
version: 1
network_policies:
  # Somebody allowed the host's loopback by mistake: the destination guard must refuse it all the same.
  mistake:
    endpoints:
      - {{host: localhost, port: {decoy}, tls: skip}}
    binaries:
      - {{path: "/**"}}
"""
RECORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "direct_tcp4": ("DENIED", "192.0.2.1"),
    "direct_tcp6": ("DENIED", "2001:db8::1"),
    "direct_udp": ("DENIED", "192.0.2.1:443/udp"),
    "names": ("DENIED", "secret.exfiltration.invalid"),
    "metadata": ("DENIED", "169.254.169.254"),
    "host_loopback": ("DENIED", "localhost:{decoy}", "engine:ssrf"),
    "gateway": ("DENIED", "127.0.0.1:{gateway}"),
    "other_sockets": ("KERNEL:INVOKE", "DENIED", "socket(AF_VSOCK)"),
    "namespaces": ("KERNEL:INVOKE", "DENIED", "unshare() into a new namespace"),
    "mounts": ("KERNEL:INVOKE", "DENIED", "-> mount "),
    "kernel_doors": ("KERNEL:INVOKE", "DENIED", "io_uring_setup"),
    "memfd_exec": ("KERNEL:INVOKE", "DENIED", "memfd_create"),
    "foreign_abi": ("KERNEL:INVOKE", "DENIED", "another ABI"),
    "guard": ("KERNEL:INVOKE", "DENIED", "ptrace"),
}
"""Words that one line of the log must have. Files and signals are refused by the kernel alone, which tells nobody."""
UNLOGGED: Final[Mapping[str, frozenset[str]]] = {"B": frozenset({"direct_udp"})}
"""Attacks that are refused, but not logged, in a lower tier."""
_SHELL_ASKS_NOBODY: Final = frozenset({"guard"})
"""What a shell can try of this is refused by file modes and signals."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """`saw` are the attacker's words: show them through `visible`. `record` is a log line, "" where none is kept."""

    key: str
    title: str
    held: bool
    saw: str
    record: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """`with_shell`: the host has no Python, so only what a shell can try was tried. `left`: what stayed behind."""

    attacks: tuple[Attack, ...]
    with_shell: bool
    left: tuple[str, ...]
    tier: str

    @property
    def held(self) -> bool:
        return bool(self.attacks) and all(one.held for one in self.attacks) and not self.left


async def perform() -> Outcome:
    """Raises CliError or GatewayError when there is no sandbox to attack."""
    from pyopenshell.client.gateway import Gateway

    async with private_house() as house, await Gateway.open(house.registration) as gateway:
        attacks, with_shell, tier = await _attack(gateway, house.gateway.endpoint)
    return Outcome(tuple(attacks), with_shell, tuple(house.left), tier)


@contextlib.asynccontextmanager
async def private_house(override: ConnectTo | None = None) -> AsyncIterator[House]:
    """An installation of the doctor's own, gone at the end also when interrupted."""
    from pyopenshell.cli.demo.house import open_house

    closing = contextlib.ExitStack()
    opening = asyncio.ensure_future(asyncio.to_thread(closing.enter_context, open_house(override, "doctor")))
    try:
        yield await asyncio.shield(opening)
    finally:
        await asyncio.wait({opening})
        await asyncio.shield(asyncio.to_thread(closing.close))


@contextlib.contextmanager
def _decoys() -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """Servers of the host that nobody from inside may reach: (loopback TCP, abstract unix, its name)."""
    name = f"openshell-doctor-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind("\0" + name)
        for decoy in (tcp, unix):
            decoy.listen()
            decoy.setblocking(False)
        yield tcp, unix, name


def _reached(decoy: socket.socket) -> bool:
    try:
        decoy.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def _attack(gateway: Gateway, endpoint: str) -> tuple[list[Attack], bool, str]:
    from pyopenshell.client.gateway import FAILED_PHASES

    await gateway.set_setting("agent_policy_proposals_enabled", True)
    with_shell = shutil.which(PYTHON) is None
    with _decoys() as (tcp, unix, abstract):
        ports = {"gateway": int(endpoint.rpartition(":")[2]), "decoy": tcp.getsockname()[1]}
        policy = language.load(POLICY.format(**ports), "doctor.yaml")
        sandbox = await gateway.wait_for(
            await gateway.create(policy=policy, pids=TASKS, accept_weaker=True), "Ready", FAILED_PHASES
        )
        before = await gateway.config(sandbox.name)
        attacks = await _inside(gateway, sandbox.name, ports, abstract, with_shell=with_shell)
        touched = {"host_loopback": _reached(tcp), "abstract_socket": _reached(unix)}
    unlogged = UNLOGGED.get(sandbox.tier, frozenset()) | (_SHELL_ASKS_NOBODY if with_shell else frozenset())
    lines = await _records(gateway, sandbox.name, [one.key for one in attacks if one.key not in unlogged], ports)
    attacks = [judged(one, lines.get(one.key), reached=touched.get(one.key, False)) for one in attacks]
    after, now = await gateway.config(sandbox.name), await gateway.get(sandbox.name)
    approved = (await gateway.draft(sandbox.name, "approved")).chunks
    await gateway.delete(sandbox.name)
    stands = now.phase == "Ready" and after.version == before.version and not approved
    return (
        [
            *attacks,
            Attack("afterwards", "after all of it", stands, _afterwards(now.phase, after.version)),
        ],
        with_shell,
        sandbox.tier,
    )


def _afterwards(phase: str, version: int) -> str:
    return f"the sandbox is {phase}, the gateway answers, the policy is still version {version}"


async def _inside(
    gateway: Gateway, sandbox: str, ports: Mapping[str, int], abstract: str, *, with_shell: bool
) -> list[Attack]:
    def script(name: str) -> str:
        return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

    if with_shell:
        command: tuple[str, ...] = (
            "/bin/bash",
            "-c",
            script("inside.sh"),
            "attacker",
            str(ports["gateway"]),
            str(ports["decoy"]),
        )
    else:
        order = json.dumps({**ports, "abstract": abstract, "proxy": ["10.200.0.1", 3128]})
        command = (PYTHON, "-I", "-c", script("inside.py"), order)
    said, errors, code = bytearray(), bytearray(), -1
    async for event in gateway.exec(sandbox, command, timeout=SECONDS):
        if isinstance(event, Exit):
            code = event.code
        elif isinstance(event, Output):
            (said if event.stream == "stdout" else errors).extend(event.data)
    attacks = list(heard(said.decode("utf-8", "replace")))
    missed = [] if with_shell else sorted(TITLES.keys() - {one.key for one in attacks})
    if code or missed or not attacks:
        last = errors.decode("utf-8", "replace").strip()[-500:]
        raise CliError(f"the attacker did not finish (exit code {code}, not tried: {', '.join(missed)})\n{last}")
    return attacks


def heard(text: str) -> Iterator[Attack]:
    """The attacker's lines; what is none of its own is left out. Pure."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
            key = str(said["key"])
            yield Attack(key, TITLES[key], said["held"] is True, str(said["saw"])[:2000])
        except (ValueError, KeyError, TypeError):
            continue


def judged(attack: Attack, record: str | None, *, reached: bool) -> Attack:
    """The attacker's word against what was seen from outside. `record` None: none is kept of this; "": none came."""
    if reached:
        return dataclasses.replace(attack, held=False, saw=f"{attack.saw}; a server of the host was reached")
    if record == "":
        return dataclasses.replace(attack, held=False, saw=f"{attack.saw}; refused, but the log does not say so")
    return dataclasses.replace(attack, record=record or "")


async def _records(gateway: Gateway, sandbox: str, keys: Sequence[str], ports: Mapping[str, int]) -> dict[str, str]:
    """The first log line of each attack that must have one, "" where none came in time."""
    wanted = {key: tuple(word.format(**ports) for word in RECORDS[key]) for key in keys if key in RECORDS}
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(_RECORD_SECONDS):
            async for line in gateway.tail(sandbox, lines=10_000):
                if isinstance(line, LogLine):
                    for key in [key for key, words in wanted.items() if all(word in line.message for word in words)]:
                        found.setdefault(key, line.message)
                if found.keys() >= wanted.keys():
                    break
    except TimeoutError:
        pass  # what is missing is said by `judged`
    return {key: found.get(key, "") for key in wanted}
