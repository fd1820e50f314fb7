"""A supervisor that only answers: who made this connection? Stands in for the real one in driver tests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from pathlib import Path

from pyopenshell.isolation import channel, nft
from pyopenshell.isolation.identity import CallRefused, ConnectionIdentity, IdentityError
from pyopenshell.isolation.walls import CAPTURE_PORT
from pyopenshell.supervisor.spec import SupervisorSpec


def main(spec: SupervisorSpec, control: socket.socket) -> int:
    if spec.name == "fails":
        channel.send(control, {"op": "failed", "reason": "TestFailure", "message": "asked to fail"})
        return 1
    if spec.name == "dies":
        return 7
    return asyncio.run(_run(spec, control))


async def _run(spec: SupervisorSpec, control: socket.socket) -> int:
    message, fds = channel.receive(control)
    assert message is not None
    sockets = dict(zip(message["names"], fds, strict=True))
    root = Path(spec.root)
    for name in ("openshell-ca.pem", "ca-bundle.pem"):
        (root / "tls" / name).write_text("certificate\n")
    (root / "log" / "openshell.log").write_text("log\n")
    records = socket.socket(fileno=sockets["identity"])
    calls = (root / "calls").open("a", buffering=1)

    def refused_call(refused: CallRefused) -> None:
        calls.write(f"{refused.exe} {refused.count} {refused.call}\n")

    diag = socket.socket(fileno=sockets["diag"])
    # Named "scan" it does as if the kernel had no notifications; the watcher's stream stays open but unread.
    identity = ConnectionIdentity(diag, None if spec.name == "scan" else records, sockets["proc"], refused_call)
    identity.start()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    lifeline = socket.socket(fileno=sockets["lifeline"])
    loop.add_reader(lifeline.fileno(), over.set)
    loop.add_reader(control.fileno(), over.set)
    refused = (root / "refused").open("a", buffering=1)
    if "nflog" in sockets:
        nflog = socket.socket(fileno=sockets["nflog"])
        nflog.setblocking(False)

        def packet() -> None:
            for seen in nft.parse_nflog(nflog.recv(65536)):
                refused.write(f"{seen.protocol} {seen.target} {seen.port}\n")

        loop.add_reader(nflog.fileno(), packet)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            raw = writer.get_extra_info("socket")
            target = identity.destination(raw) if raw.getsockname()[1] == CAPTURE_PORT else None
            try:
                who = await identity.identify(raw)
                answer = {**dataclasses.asdict(who), "target": target}
            except IdentityError as error:
                answer = {"error": str(error), "code": error.code}
            with (root / "seen").open("a") as seen:
                seen.write(json.dumps(answer) + "\n")
            body = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

    doors = [name for name in ("proxy", "capture", "capture6") if name in sockets]
    servers = [await asyncio.start_server(serve, sock=socket.socket(fileno=sockets[name])) for name in doors]
    (root / "supervisor.pid").write_text(str(os.getpid()))
    channel.send(control, {"op": "ready"})
    await over.wait()
    for server in servers:
        server.close()
    return 0
