"""How a command that runs until it is told otherwise is ended from outside: by a signal, or by its terminal going away.

The exit code is the one a shell reports for a program that a signal ended: 128 and the number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

from pyopenshell.cli.app import CliError

HUNG_UP = 128 + signal.SIGHUP


@contextlib.contextmanager
def ended_by_signals(*more: signal.Signals) -> Iterator[None]:
    """SIGTERM, SIGHUP and `more` cancel the running task, which cleans up; then raises a silent CliError.

    A signal that was ignored when the command started (`nohup`) stays ignored.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        if len(received) == 1:  # the next must not interrupt the cleaning up
            task.cancel()

    taken = [one for one in (signal.SIGTERM, signal.SIGHUP, *more) if signal.getsignal(one) != signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
    if received:
        raise CliError("", 128 + received[0])


def end_without_terminal(terminal: int) -> None:
    """Ends the process at once when the terminal behind this descriptor is gone, with or without a SIGHUP.

    Nobody is left to show anything to, and whatever writes to the terminal may already be stuck: nothing is cleaned
    up that the kernel does not clean up. A thread of its own, asleep until then, because the event loop may be what
    is stuck.
    """

    def wait() -> None:
        gone = select.poll()
        gone.register(terminal, 0)  # hang-up and error are always reported, input never
        gone.poll()
        os._exit(HUNG_UP)

    threading.Thread(target=wait, name="terminal", daemon=True).start()
