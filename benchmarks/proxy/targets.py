"""The origin and everything that is measured: how each is started, and where the load generator finds it.

The program under test has CPU 0; load generator and origin have CPU 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.proxy import programs

ROOT = Path(__file__).resolve().parents[2]
CONF = Path(__file__).with_name("conf")
ANSWER = '{"id":"msg_0123456789","type":"message","content":"' + "x" * 300 + '"}'
GIB = 1 << 30
SQUID_USER = "proxy"
"""Squid refuses to be root; Debian has this one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """`arguments` by kind of traffic: https, sse, deny, forward, tunnel; a kind that is missing is not measured."""

    name: str
    arguments: dict[str, list[str]]
    pid: int = 0
    """First process of the program; 0: nothing between generator and origin."""


@dataclasses.dataclass(slots=True)
class World:
    """Files and ports that all targets share."""

    place: Path
    authority: Path
    leaf: Path
    leaf_ca: Path
    origin: int = 0
    plain: int = 0
    sse: int = 0
    origin_pid: int = 0

    def configuration(self, name: str, **more: object) -> Path:
        """The file `conf/NAME` filled in."""
        root = os.geteuid() == 0
        words: dict[str, object] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        words |= {"packages": programs.PACKAGES, "answer": ANSWER, "web": self.place / "web"}
        words["user"] = "user root;" if root else ""
        words["user_name"] = SQUID_USER if root else pwd.getpwuid(os.getuid())[0]
        path = self.place / name
        path.write_text((CONF / name).read_text().format_map(words | more))
        return path


def pin(cpu: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[min(cpu, len(cpus) - 1)]})


@contextlib.contextmanager
def process(command: list[str], cpu: int, place: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; its output goes to a file of its name."""
    with (place / f"{Path(command[0]).name}.out").open("a") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log if command[0] != sys.executable else subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
            preexec_fn=lambda: pin(cpu),
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def port_of(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.strip().isdigit():
        raise SystemExit(f"{child.args!r} did not start: {line!r}")
    return int(line)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def listening(child: subprocess.Popen[str], port: int, place: Path) -> None:
    """Return once a program that cannot report readiness accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                name = Path(str(child.args[0])).name  # type: ignore[index]
                raise SystemExit(f"{name} did not start: {(place / f'{name}.out').read_text()[-2000:]}") from None
            time.sleep(0.05)


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """(CA, CA with key, leaf with key) for localhost."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("bench CA", "localhost")]
    pems = []
    for index in range(2):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[index])
            .issuer_name(names[0])
            .public_key(keys[index].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        key = keys[index].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pems.append((key, builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)))
    paths = directory / "ca.pem", directory / "ca-key.pem", directory / "leaf.pem"
    paths[0].write_bytes(pems[0][1])
    paths[1].write_bytes(pems[0][0] + pems[0][1])
    paths[2].write_bytes(pems[1][0] + pems[1][1])
    return paths


@contextlib.contextmanager
def world(place: Path) -> Iterator[World]:
    """The origin: nginx for answers and bulk, a small Python server for events."""
    authority, leaf_ca, leaf = certificates(place)
    (place / "web").mkdir()
    with (place / "web/1g.bin").open("wb") as file:
        file.truncate(GIB)
    (place / "hosts").write_text("127.0.0.1 localhost\n")
    found = World(place, authority, leaf, leaf_ca)
    found.origin, found.plain = free_ports(2)
    with contextlib.ExitStack() as stack:
        command = [programs.binary("nginx"), "-p", str(place), "-c", str(found.configuration("origin.conf"))]
        origin = stack.enter_context(process(command, 1, place))
        listening(origin, found.plain, place)
        found.origin_pid = origin.pid
        events = [sys.executable, "-m", "benchmarks.proxy.sse", str(leaf)]
        found.sse = port_of(stack.enter_context(process(events, 1, place)))
        yield found


def _tls(ca: Path) -> list[str]:
    return ["--tls", "--sni", "localhost", "--ca", str(ca)]


def _through(port: int, ca: Path, ports: dict[str, int], tunnel: int = 0) -> dict[str, list[str]]:
    """A forward proxy: `ports` says under which port of localhost it knows each kind of traffic."""
    address = ["--addr", f"127.0.0.1:{port}"]

    def connect(kind: str, port: int) -> list[str]:
        host = "localhost" if port == 443 else f"localhost:{port}"
        return [*address, "--connect", f"localhost:{port}", "--host", host, *_tls(ca)]

    plain = "localhost" if ports["forward"] == 80 else f"localhost:{ports['forward']}"
    other = ["--addr", f"127.0.0.1:{tunnel or port}"]
    return {
        "https": connect("https", ports["https"]),
        "deny": [*connect("https", ports["https"]), "--path", "/nope"],
        "sse": connect("sse", ports["sse"]),
        "forward": [*other, "--abs", "--host", plain],
        "tunnel": [*other, "--connect", f"localhost:{ports['tunnel']}", "--host", "localhost"],
    }


@contextlib.contextmanager
def direct(w: World) -> Iterator[Target]:
    def to(port: int) -> list[str]:
        return ["--addr", f"127.0.0.1:{port}", "--host", "localhost"]

    tls = _tls(w.authority)
    arguments = {
        "https": [*to(w.origin), *tls],
        "sse": [*to(w.sse), *tls],
        "forward": to(w.plain),
        "tunnel": to(w.plain),
    }
    yield Target("direct", arguments)


def _reverse(w: World, port: int) -> dict[str, list[str]]:
    https = ["--addr", f"127.0.0.1:{port}", "--host", "localhost", *_tls(w.authority)]
    return {"https": https, "deny": [*https, "--path", "/v1/admin/x"], "sse": https}


@contextlib.contextmanager
def nginx(w: World) -> Iterator[Target]:
    (port,) = free_ports(1)
    command = [programs.binary("nginx"), "-p", str(w.place), "-c", str(w.configuration("nginx.conf", port=port))]
    with process(command, 0, w.place) as child:
        listening(child, port, w.place)
        yield Target("nginx", _reverse(w, port), child.pid)


@contextlib.contextmanager
def haproxy(w: World) -> Iterator[Target]:
    port, tunnel = free_ports(2)
    file = w.configuration("haproxy.cfg", port=port, tunnel=tunnel)
    command = [programs.binary("haproxy"), "-f", str(file)]
    with process(command, 0, w.place, **programs.environment()) as child:
        listening(child, port, w.place)
        blind = ["--addr", f"127.0.0.1:{tunnel}", "--host", "localhost"]
        yield Target("haproxy", _reverse(w, port) | {"tunnel": blind}, child.pid)


@contextlib.contextmanager
def squid(w: World) -> Iterator[Target]:
    port, tunnel = free_ports(2)
    file = w.configuration("squid.conf", port=port, tunnel=tunnel)
    variables = programs.environment()
    folder = w.place / "squid"
    if not folder.exists():
        folder.mkdir()
        w.place.chmod(0o755)
        maker = programs.PACKAGES / "usr/lib/squid/security_file_certgen"
        create = [str(maker), "-c", "-s", str(folder / "ssl_db"), "-M", "4MB"]
        subprocess.run(create, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL)
        for path in (folder, *folder.rglob("*")) if os.geteuid() == 0 else ():
            shutil.chown(path, SQUID_USER)
    name = f"bench{os.getpid()}"  # of its shared memory
    with process([programs.binary("squid"), "-N", "-n", name, "-f", str(file)], 0, w.place, **variables) as child:
        listening(child, port, w.place)
        ports = {"https": w.origin, "sse": w.sse, "forward": w.plain, "tunnel": w.plain}
        yield Target("squid", _through(port, w.leaf_ca, ports, tunnel), child.pid)


@contextlib.contextmanager
def mitmproxy(w: World) -> Iterator[Target]:
    (port,) = free_ports(1)
    home = w.place / "mitmproxy-home"
    home.mkdir(exist_ok=True)
    options = {
        "confdir": home,
        "ssl_verify_upstream_trusted_ca": w.authority,
        "http2": "false",
        "termlog_verbosity": "warn",
    }
    command = [programs.binary("mitmproxy"), "-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    command += ["--ignore-hosts", f"localhost:{w.plain}$", "-s", str(Path(__file__).with_name("mitm_addon.py"))]
    for key, value in options.items():
        command += ["--set", f"{key}={value}"]
    with process(command, 0, w.place, RELAY_LOG=str(w.place / "mitm.log"), PYTHONPATH="") as child:
        listening(child, port, w.place)
        ports = {"https": w.origin, "sse": w.sse, "forward": w.plain, "tunnel": w.plain}
        yield Target("mitmproxy", _through(port, home / "mitmproxy-ca-cert.pem", ports), child.pid)


@contextlib.contextmanager
def ours(w: World) -> Iterator[Target]:
    ca = w.place / "ours.pem"
    command = [sys.executable, "-m", "benchmarks.proxy.ours", *(str(port) for port in (w.origin, w.plain, w.sse))]
    with process([*command, str(w.authority), str(ca), str(w.place / "ours.log")], 0, w.place) as child:
        ports = {"https": 443, "sse": 8443, "forward": 80, "tunnel": 5000}
        yield Target("ours", _through(port_of(child), ca, ports), child.pid)


TARGETS: dict[str, Callable[[World], contextlib.AbstractContextManager[Target]]] = {
    "direct": direct,
    "nginx": nginx,
    "haproxy": haproxy,
    "squid": squid,
    "mitmproxy": mitmproxy,
    "ours": ours,
}


def children(pid: int) -> list[int]:
    """A process and all its descendants."""
    by_parent: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                by_parent.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += by_parent.get(one, [])
    return found


@contextlib.contextmanager
def moved(pid: int, cpu: int) -> Iterator[None]:
    """A process and all its descendants on another CPU until the block ends."""
    cpus = sorted(os.sched_getaffinity(0))
    for one in children(pid):
        os.sched_setaffinity(one, {cpus[min(cpu, len(cpus) - 1)]})
    try:
        yield
    finally:
        for one in children(pid):
            os.sched_setaffinity(one, {cpus[min(1, len(cpus) - 1)]})


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for one in children(pid):
        with contextlib.suppress(OSError):
            fields: list[Any] = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    kib = 0
    for one in children(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{one}/status").read_text()
            kib += int(text.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in text else 0
    return kib / 1024
