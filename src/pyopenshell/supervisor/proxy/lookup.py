"""Asking the host's resolver, within bounds: a name server that is slow or silent holds up nobody else.

Every lookup has a thread of its own, because the loop's pool runs two at a time and would wait for both. Equal
questions share one; the number under way and the time anyone waits are limited. The sandbox's own /etc/hosts is never
read: this is the supervisor's process, outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable

Ask = Callable[[str], list[str]]


def ask_host(host: str) -> list[str]:
    """Addresses of a name, by getaddrinfo. Blocks. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(errno.EINVAL, "not a name that can be looked up") from None
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Lookups:
    """A `context.Resolver`."""

    def __init__(self, limit: int, seconds: float, ask: Ask = ask_host) -> None:
        self._limit = limit
        self._seconds = seconds
        self._ask = ask
        self._running: dict[str, asyncio.Future[list[str]]] = {}

    def __repr__(self) -> str:
        return f"<{len(self._running)} of at most {self._limit} lookups under way>"

    async def __call__(self, host: str, port: int) -> list[str]:
        """Addresses of `host`; the port makes no difference. Raises OSError, also for want of time or room."""
        answer = self._running.get(host) or self._start(host)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(answer)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"no answer within {self._seconds:g} s") from None

    def _start(self, host: str) -> asyncio.Future[list[str]]:
        if len(self._running) >= self._limit:
            raise OSError(errno.EAGAIN, f"{self._limit} name lookups are under way and unanswered")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        self._running[host] = answer

        def settle(found: list[str] | OSError) -> None:
            # Only now is the thread free: the limit counts threads, not waiters.
            del self._running[host]
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
                answer.exception()  # nobody may be waiting any more
            else:
                answer.set_result(found)

        def work() -> None:
            found: list[str] | OSError
            try:
                found = self._ask(host)
            except OSError as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, found)

        try:
            threading.Thread(target=work, name="name lookup", daemon=True).start()
        except RuntimeError:
            # The machine has no thread left to give: no reason to count one that never was, for ever.
            del self._running[host]
            raise OSError(errno.EAGAIN, "no thread is left for a name lookup") from None
        return answer
