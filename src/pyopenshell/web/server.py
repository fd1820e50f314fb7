"""`openshell web`: the web inbox on a loopback port of this machine, never on any other address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import uvicorn

from pyopenshell.client.live import Live
from pyopenshell.web.app import Pages
from pyopenshell.web.guard import Session

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it: here one thing ends the server, the cancellation of `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(gateway: Gateway, port: int, announce: Callable[[str], None]) -> None:
    """Until cancelled; no task and no connection is left then. `announce` gets the link with its one-time token.
    Raises OSError for a port in use, GatewayError when the gateway refuses to be watched."""
    with socket.create_server((LOOPBACK, port)) as listener:
        bound: int = listener.getsockname()[1]
        session, live = Session(bound), Live(gateway)
        pages = Pages(live)
        # No access log: the first path in it would be the login token.
        config = uvicorn.Config(
            pages.app(session, bound),
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        following = asyncio.create_task(live.follow())
        announce(f"http://{LOOPBACK}:{bound}/login?token={session.login_token}")
        try:
            await asyncio.wait((serving, following), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()  # the gateway refuses to be watched
        finally:
            pages.end()
            server.should_exit = True
            following.cancel()
            await asyncio.gather(serving, following, return_exceptions=True)
