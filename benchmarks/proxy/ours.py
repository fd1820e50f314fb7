"""Our data plane alone, with the real engine and the supervisor's own log, for the proxy benchmark.

python -m benchmarks.proxy.ours ORIGIN PLAIN SSE BACKEND_CA.pem OWN_CA_OUT.pem LOG      prints its port

ORIGIN, PLAIN, SSE: local ports behind localhost:443, :80 and :8443, all inspected; PLAIN also behind :5000, raw.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import uvloop

from pyopenshell.drivers.base import ConnectTo
from pyopenshell.isolation.identity import Identity
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.logs import AuditLog
from pyopenshell.supervisor.proxy import CertificateAuthority, LocalResponse, Plane, PlaneContext

HOST = "localhost"


class Owner:
    async def identify(self, _: socket.socket) -> Identity:
        return Identity(64, "/usr/bin/lg", ("/usr/bin/bash",), "0" * 64)


class Nobody:
    async def handle(self, method: str, path_and_query: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        return LocalResponse(404, b"{}")


def policy() -> Policy:
    endpoints = (*(_endpoint(HOST, port) for port in (443, 80, 8443)), Endpoint(HOST, (5000,)))
    rules = [Rule("bench", endpoints, ("/usr/bin/lg",))]
    rules += [Rule(f"other{n}", (_endpoint(f"api{n}.example.com", 443),), ("/usr/bin/lg",)) for n in range(100)]
    return Policy(rules=tuple(rules))


def _endpoint(host: str, port: int) -> Endpoint:
    allow = tuple(L7Match(method, path) for method in ("GET", "POST") for path in ("/v1/**", "/big/**", "/sse"))
    return Endpoint(host, (port,), protocol="rest", rules=allow, deny_rules=(L7Match("*", "/v1/admin/**"),))


async def main(origin: str, plain: str, sse: str, ca: str, out: str, log: str) -> None:
    audit = AuditLog(Path(log), "bench")
    audit.open()
    authority = CertificateAuthority.create("OpenShell Sandbox CA")
    Path(out).write_text(authority.ca_pem)
    ports = {443: origin, 8443: sse, 80: plain, 5000: plain}
    pem = Path(ca).read_text()
    overrides = {(HOST, port): ConnectTo(HOST, port, f"127.0.0.1:{at}", pem) for port, at in ports.items()}
    context = PlaneContext(
        current=Current(compile_policy(policy())),
        identifier=Owner(),
        audit=audit,
        denied=lambda _: None,
        authority=authority,
        local=Nobody(),
        connect_to=overrides,
    )
    plane = Plane(context)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await plane.serve(listener)
    gc.collect()
    gc.freeze()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:7]))
