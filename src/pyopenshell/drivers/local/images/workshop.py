"""Prepares images beside the driver host's loop: one process per request, gone when it answered."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from pyopenshell.drivers.local.images import cache
from pyopenshell.drivers.local.images.cache import Prepared
from pyopenshell.drivers.local.loop import Loop, Watch, own_signals
from pyopenshell.isolation import syscalls, zygote
from pyopenshell.isolation.walls import WallError

Answer = Callable[[Prepared | WallError], None]


def prepare(loop: Loop, directory: str, reference: str, answer: Answer) -> None:
    """`answer` follows on the loop, once. Raises OSError when there can be no such process now."""
    result = os.memfd_create("image", os.MFD_CLOEXEC)
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _work(directory, reference, result, parent)
    except OSError:
        os.close(result)
        raise

    def ended(_status: int | None) -> None:
        with os.fdopen(result, "rb") as file:
            file.seek(0)
            text = file.read()
        answer(_heard(text, reference))

    Watch(loop, os.pidfd_open(pid), pid, ended)


def _heard(text: bytes, reference: str) -> Prepared | WallError:
    if not text:
        return WallError("ImageInvalid", f"{reference} could not be unpacked", "see host.log; it may be damaged")
    message = json.loads(text)
    return WallError.from_message(message["failed"]) if "failed" in message else Prepared(**message)


def _work(directory: str, reference: str, result: int, parent: int) -> NoReturn:
    code = 1
    try:
        zygote.die_with(parent)
        syscalls.close_except(result)
        own_signals()
        syscalls.set_process_name("openshell-image")
        cache.confine(directory)
        try:
            message = cache.prepare(directory, reference).as_message()
        except WallError as error:
            message = {"failed": error.as_message()}
        os.write(result, json.dumps(message).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not run the host's loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
