"""HTTPS server of the relay benchmark: answers every request with the same small response, as cheaply as Python can.

python -m benchmarks.proxy.backend CERTIFICATE_AND_KEY.pem      prints its port
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import uvloop

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    + b'{"id":"msg_1","ok":true}\r\n\n'
)


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(ANSWER * data.count(b"\r\n\r\n"))


async def main(pem: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
