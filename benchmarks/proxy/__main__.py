"""Inspected HTTPS through us and through mitmproxy, and directly, alternating in one run (design 6).

    python -m benchmarks.proxy [--rounds 5] [--json FILE] [--without-mitmproxy]

Medians of all rounds, 64 different targets in turn. The proxy under test has CPU 0, load generator and backend CPU 1.
Two more targets show what the machine costs: "split" is direct with the backend on CPU 0, "nginx" relays the same TLS
both ways natively and judges nothing (installed, or taken from Debian by root; else left out). Added latency is against
"direct", so it contains the wake-ups across CPUs that any relay pays. mitmproxy comes from PyPI into an environment of
its own that is removed again. The load generator is `lg.c`, compiled when gcc and OpenSSL's
headers are there; else `load.py`, which is slower and says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = {"throughput_vs_mitmproxy": 25.0, "added_latency_us": 80.0, "new_connections_vs_mitmproxy": 9.0}
TESTS = {
    "keep-alive, 1 connection": ["--conns", "1", "--secs", "1.5", "--warm", "0.3"],
    "keep-alive, 16 connections": ["--conns", "16", "--secs", "1.5", "--warm", "0.3"],
    "new connections, 16 at a time": ["--conns", "16", "--secs", "1.5", "--warm", "0.3", "--new"],
}


def certificates(directory: Path) -> tuple[Path, Path]:
    """(CA, leaf chain with key) of the backend, for localhost."""
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("bench CA", "localhost")]
    made: list[bytes] = []
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
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority, leaf = directory / "ca.pem", directory / "leaf.pem"
    authority.write_bytes(made[0])
    leaf.write_bytes(key + made[1])
    return authority, leaf


def generator(directory: Path) -> list[str]:
    """Command of the load generator."""
    binary = directory / "lg"
    source = ROOT / "benchmarks/proxy/lg.c"
    compiler = shutil.which("gcc")
    if compiler is not None:
        done = subprocess.run([compiler, "-O2", "-w", "-o", str(binary), str(source), "-lssl", "-lcrypto"], check=False)
        if done.returncode == 0:
            return [str(binary)]
    print("no C load generator (gcc and libssl-dev are needed): Python's is slower, so ratios come out too low")
    return [sys.executable, "-m", "benchmarks.proxy.load"]


@contextlib.contextmanager
def process(command: list[str], cpu: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        preexec_fn=lambda: _pin(cpu),
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _pin(cpu: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[min(cpu, len(cpus) - 1)]})


def port_of(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.strip().isdigit():
        raise SystemExit(f"{child.args!r} did not start: {line!r}")
    return int(line)


@contextlib.contextmanager
def mitmproxy(directory: Path, backend_ca: Path) -> Iterator[tuple[int, Path]]:
    """(port, CA file) of a running mitmdump in its own environment."""
    place = directory / "mitm-venv"
    print("installing mitmproxy into an environment of its own ...", flush=True)
    venv.create(place, with_pip=True)
    subprocess.run([place / "bin/pip", "install", "-q", "mitmproxy"], check=True, stderr=subprocess.DEVNULL)
    port = free_port()
    home = directory / "mitm-home"
    home.mkdir()
    options = {
        "confdir": home,
        "ssl_verify_upstream_trusted_ca": backend_ca,
        "http2": "false",
        "termlog_verbosity": "warn",
    }
    command = [str(place / "bin/mitmdump"), "-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    command += ["-s", str(ROOT / "benchmarks/proxy/mitm_addon.py")]
    for key, value in options.items():
        command += ["--set", f"{key}={value}"]
    with process(command, 0, RELAY_LOG=str(directory / "mitm.log"), PYTHONPATH="") as child:
        listening(child, port, "mitmproxy")
        yield port, home / "mitmproxy-ca-cert.pem"


def native(directory: Path) -> str:
    """The nginx program; "" when there is none to be had. Nothing is installed: Debian's package is only unpacked."""
    found = shutil.which("nginx")
    if found is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        place = directory / "nginx-package"
        place.mkdir()
        quiet: dict[str, Any] = {
            "cwd": place,
            "check": False,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        subprocess.run(["apt-get", "download", "nginx"], **quiet)
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, place], **quiet)
        binary = place / "usr/sbin/nginx"
        if binary.exists() and subprocess.run([binary, "-v"], **quiet).returncode == 0:
            return str(binary)
    print("no nginx here, and none to be had from Debian: the report has no native relay to compare with")
    return ""


NGINX = """daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error warn; {user}
events {{ worker_connections 4096; }}
http {{
  access_log {place}/access combined buffer=64k flush=1s; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d;
  scgi_temp_path {place}/e; proxy_buffering off; proxy_request_buffering off;
  upstream api {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
  proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024; ssl_certificate {leaf}; ssl_certificate_key {leaf};
    location /v1/ {{ proxy_pass https://api; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(directory: Path, binary: str, backend: int, authority: Path, leaf: Path) -> Iterator[int]:
    """Port of a running nginx that terminates TLS, and speaks TLS to the backend."""
    place = directory / "nginx"
    place.mkdir()
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(place=place, user=user, backend=backend, authority=authority, leaf=leaf, port=port)
    (place / "conf").write_text(text)
    with process([binary, "-p", str(place), "-c", str(place / "conf")], 0) as child:
        listening(child, port, "nginx")
        yield port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def listening(child: subprocess.Popen[str], port: int, name: str) -> None:
    """Return once a peer that cannot report readiness accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start") from None
            time.sleep(0.1)


def run(command: list[str], target: list[str], test: list[str]) -> dict[str, Any]:
    arguments = [*command, *target, "--tls", "--sni", "localhost", "--path", "/v1/messages", "--vary", *test]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, preexec_fn=lambda: _pin(1)
    )
    if done.returncode:
        raise SystemExit(f"load generator failed: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["bad"] or not result["reqs"] or result["errs"] > result["reqs"] / 100:
        raise SystemExit(f"{target}: {result}")
    return result


def measure(rounds: int, *, peer: bool) -> dict[str, dict[str, dict[str, float]]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openshell-relay-")))
        authority, leaf = certificates(directory)
        command = generator(directory)
        serve = [sys.executable, "-m", "benchmarks.proxy.backend", str(leaf)]
        backend, across = (port_of(stack.enter_context(process(serve, cpu))) for cpu in (1, 0))
        ours_ca = directory / "ours.pem"
        ours = port_of(
            stack.enter_context(
                process(
                    [
                        sys.executable,
                        "-m",
                        "benchmarks.proxy.ours",
                        str(backend),
                        str(authority),
                        str(ours_ca),
                        str(directory / "log"),
                    ],
                    0,
                )
            )
        )
        through = ["--connect", "localhost:443", "--host", "localhost"]
        straight = ["--ca", str(authority), "--host", "localhost"]
        targets = {
            "direct": ["--addr", f"127.0.0.1:{backend}", *straight],
            "split": ["--addr", f"127.0.0.1:{across}", *straight],
            "ours": ["--addr", f"127.0.0.1:{ours}", "--ca", str(ours_ca), *through],
        }
        binary = native(directory)
        if binary:
            port = stack.enter_context(nginx(directory, binary, backend, authority, leaf))
            targets["nginx"] = ["--addr", f"127.0.0.1:{port}", *straight]
        if peer:
            port, peer_ca = stack.enter_context(mitmproxy(directory, authority))
            through = ["--connect", f"localhost:{backend}", "--host", f"localhost:{backend}"]
            targets["mitmproxy"] = ["--addr", f"127.0.0.1:{port}", "--ca", str(peer_ca), *through]
        found: dict[str, dict[str, list[dict[str, Any]]]] = {test: {name: [] for name in targets} for test in TESTS}
        for number in range(rounds):
            for test, options in TESTS.items():
                for name, target in targets.items():
                    found[test][name].append(run(command, target, options))
            print(f"round {number + 1} of {rounds}", flush=True)
    return {
        test: {
            name: {key: statistics.median(result[key] for result in results) for key in ("rps", "p50", "p99")}
            for name, results in by_name.items()
        }
        for test, by_name in found.items()
    }


def verdicts(medians: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    one, many, new = (medians[test] for test in TESTS)
    found = {"added_latency_us": one["ours"]["p50"] - one["direct"]["p50"]}
    if "mitmproxy" in many:
        found["throughput_vs_mitmproxy"] = many["ours"]["rps"] / many["mitmproxy"]["rps"]
        found["new_connections_vs_mitmproxy"] = new["ours"]["rps"] / new["mitmproxy"]["rps"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-mitmproxy", action="store_true")
    arguments = parser.parse_args()
    medians = measure(arguments.rounds, peer=not arguments.without_mitmproxy)
    for test, by_name in medians.items():
        print(f"\n{test}")
        for name, values in by_name.items():
            print(f"  {name:10} {values['rps']:10,.0f} /s   p50 {values['p50']:8.1f} us   p99 {values['p99']:9.1f} us")
    found = verdicts(medians)
    print()
    for name, value in found.items():
        budget = BUDGETS[name]
        met = value <= budget if name.endswith("_us") else value >= budget
        sign = "<=" if name.endswith("_us") else ">="
        print(f"{name:32} {value:8.1f}   budget {sign} {budget:g}   {'met' if met else 'MISSED'}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"medians": medians, "verdicts": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
