"""`python -m pyopenshell.gateway`: run one gateway until SIGTERM or SIGINT.

Exit codes: 0 stopped, 1 could not start (reason and fix on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pyopenshell.gateway import daemon
from pyopenshell.gateway.configuration import Configuration, ConfigurationError, load
from pyopenshell.gateway.daemon import DaemonError, Lock, Running

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    ready: int | None = options.ready_fd
    if ready is not None:
        os.set_inheritable(ready, False)  # nobody started by us may keep the starter waiting
    lock: Lock | None = None
    try:
        configuration = load(file=options.config, bind=options.bind_address, port=options.port)
        lock = Lock.acquire(configuration.paths.run)
        logging.basicConfig(
            level=_LEVELS[configuration.log_level],
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        logging.getLogger("alembic").setLevel(logging.WARNING)
        asyncio.run(_serve(configuration, lock, ready))
    except (ConfigurationError, DaemonError, _StartError) as error:
        message, fix = getattr(error, "message", str(error)), getattr(error, "fix", "")
        sys.stderr.write(f"error: {message}\n{fix}\n" if fix else f"error: {message}\n")
        if ready is not None:
            daemon.report_failure(ready, message, fix)
        return 1
    finally:
        if lock is not None:
            lock.release()
    return 0


class _StartError(Exception):
    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message, self.fix = message, fix


async def _serve(configuration: Configuration, lock: Lock, ready: int | None) -> None:
    # Imported here: a wrong option or a running gateway is said at once, not after a second of imports.
    from pyopenshell.gateway.app import Gateway, driver_of
    from pyopenshell.gateway.errors import GatewayError
    from pyopenshell.gateway.rpc.health import VERSION
    from pyopenshell.gateway.server import BindError

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        gateway = Gateway(configuration, driver_of(configuration))
        await gateway.start()
    except BindError as error:
        raise _StartError(error.message, error.fix) from error
    except GatewayError as error:
        raise _StartError(error.message) from error
    except (OSError, ValueError) as error:
        raise _StartError(f"cannot start: {error}", f"Look at the files below {configuration.paths.state}") from error
    running = Running(os.getpid(), configuration.name, gateway.endpoint, VERSION, time.time(), gateway.probes)
    lock.publish(running)
    if ready is not None:
        daemon.report_ready(ready, running)
    try:
        await stopping.wait()
    finally:
        await gateway.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pyopenshell.gateway", description=__doc__)
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground (always so here)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes any free one")
    parser.add_argument("--bind-address", help="literal IP address to listen on, optionally with :port")
    parser.add_argument("--config", type=Path, help="gateway.toml to read")
    parser.add_argument(daemon.READY_FD_OPTION, dest="ready_fd", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
