"""Our data plane alone, with the real engine and the supervisor's own log, for the relay benchmark.

python -m benchmarks.proxy.ours BACKEND_PORT BACKEND_CA.pem OWN_CA_OUT.pem LOG      prints its port
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
    rules = [Rule("bench", (_endpoint(HOST),), ("/usr/bin/lg",))]
    rules += [Rule(f"other{n}", (_endpoint(f"api{n}.example.com"),), ("/usr/bin/lg",)) for n in range(100)]
    return Policy(rules=tuple(rules))


def _endpoint(host: str) -> Endpoint:
    allow = (L7Match("GET", "/v1/**"), L7Match("POST", "/v1/**"))
    return Endpoint(host, (443,), protocol="rest", rules=allow, deny_rules=(L7Match("*", "/v1/admin/**"),))


async def main(port: str, ca: str, out: str, log: str) -> None:
    audit = AuditLog(Path(log), "bench")
    audit.open()
    authority = CertificateAuthority.create("OpenShell Sandbox CA")
    Path(out).write_text(authority.ca_pem)
    override = ConnectTo(HOST, 443, f"127.0.0.1:{port}", Path(ca).read_text())
    context = PlaneContext(
        current=Current(compile_policy(policy())),
        identifier=Owner(),
        audit=audit,
        denied=lambda _: None,
        authority=authority,
        local=Nobody(),
        connect_to={(HOST, 443): override},
    )
    plane = Plane(context)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await plane.serve(listener)
    gc.collect()
    gc.freeze()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
