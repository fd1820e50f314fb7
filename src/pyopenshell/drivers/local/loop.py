"""A minimal event loop for the driver host: descriptors, timers, message links. Decides nothing.

Not asyncio: the host forks supervisors that start an event loop of their own, and must give them a clean process.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from pyopenshell.isolation import channel, syscalls
from pyopenshell.isolation.channel import Message

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def own_signals() -> None:
    """In a fork: the host's handlers are not ours, and its wake-up pipe may be closed."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGHUP, *END_SIGNALS):
        signal.signal(number, signal.SIG_DFL)


class Timer:
    """A pending call; `cancel()` is idempotent."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._poll = select.epoll()
        self._readers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False

    def add(self, fd: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `fd` is readable or broken."""
        self._readers[fd] = callback
        self._poll.register(fd, select.EPOLLIN)

    def want_write(self, fd: int, wanted: bool) -> None:
        self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def remove(self, fd: int) -> None:
        """Before closing the descriptor."""
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self._clock() + seconds, next(self._order), timer))
        return timer

    def on_signals(self, numbers: Sequence[int], callback: Callable[[], None]) -> None:
        """Call `callback` from the loop, never between two instructions of another callback, when one arrives."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in numbers:
            signal.signal(number, lambda *_: None)

        def arrived(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                if not set(os.read(reader, 4096)).isdisjoint(numbers):
                    callback()

        self.add(reader, arrived)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            for fd, events in self._poll.poll(self._timeout()):
                callback = self._readers.get(fd)
                if callback is not None:
                    callback(events)
            while self._timers and self._timers[0][0] <= self._clock():
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    timer.callback()

    def _timeout(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1
        # epoll counts milliseconds: round up, or the last one would be spent spinning.
        return math.ceil(max(0.0, self._timers[0][0] - self._clock()) * 1000) / 1000


class Link:
    """One message channel on the loop. Never blocks; what does not fit waits in order, up to a bound."""

    MAX_WAITING = 1024

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[Message, list[int]], None],
        closed: Callable[[], None],
    ) -> None:
        """`received` owns the descriptors. `closed` is called once, when the peer ends or breaks the framing."""
        self._loop, self._sock, self._received, self._closed = loop, sock, received, closed
        self._waiting: collections.deque[tuple[Message, list[int]]] = collections.deque()
        self.open = True
        sock.setblocking(False)
        loop.add(sock.fileno(), self._ready)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Descriptors are duplicated; the caller keeps its own. A dead peer is reported through `closed`."""
        if not self.open:
            return
        if self._waiting:
            self._queue(message, fds)
            return
        try:
            channel.send(self._sock, message, fds)
        except BlockingIOError:
            self._queue(message, fds)
            self._loop.want_write(self._sock.fileno(), True)
        except OSError:
            self._loop.after(0, self._broken)

    def close(self) -> None:
        """Our side lets go; `closed` is not called."""
        if not self.open:
            return
        self.open = False
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        for _, fds in self._waiting:
            channel.close_all(fds)
        self._waiting.clear()

    def drain(self) -> None:
        """Deliver what has already arrived; after the peer's death is known by other means."""
        while self.open:
            try:
                message, fds = channel.receive(self._sock)
            except (OSError, channel.ChannelError):
                return
            if message is None:
                return
            self._received(message, fds)

    def _broken(self) -> None:
        """The peer takes nothing any more; what it said before that is still worth hearing."""
        self.drain()
        if self.open:
            self._end()

    def _queue(self, message: Message, fds: Sequence[int]) -> None:
        if len(self._waiting) >= self.MAX_WAITING:
            self._loop.after(0, self._end)  # a peer that does not read is a dead peer
            return
        self._waiting.append((message, [os.dup(fd) for fd in fds]))

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if self.open and events & ~select.EPOLLOUT:
            self._read()

    def _flush(self) -> None:
        while self._waiting:
            message, fds = self._waiting[0]
            try:
                channel.send(self._sock, message, fds)
            except BlockingIOError:
                return
            except OSError:
                self._broken()
                return
            self._waiting.popleft()
            channel.close_all(fds)
        self._loop.want_write(self._sock.fileno(), False)

    def _read(self) -> None:
        try:
            message, fds = channel.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, channel.ChannelError):
            message, fds = None, []
        if message is None:
            self._end()
        else:
            self._received(message, fds)

    def _end(self) -> None:
        if self.open:
            self.close()
            self._closed()


class Watch:
    """Calls `ended(wait status or None)` once when the process behind a pidfd ends; takes the pidfd over."""

    def __init__(self, loop: Loop, pidfd: int, child: int | None, ended: Callable[[int | None], None]) -> None:
        """`child`: our own child's pid, to be reaped; None for somebody else's."""
        self._loop, self._child, self._ended = loop, child, ended
        self.pidfd = pidfd
        self.alive = True
        loop.add(pidfd, self._ready)

    def kill(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                syscalls.pidfd_kill(self.pidfd, number)

    def _ready(self, _events: int) -> None:
        status = None
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                status = os.waitpid(self._child, os.WNOHANG)[1]
        self.alive = False
        self._loop.remove(self.pidfd)
        os.close(self.pidfd)
        self._ended(status)
