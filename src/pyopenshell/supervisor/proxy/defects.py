"""What becomes of an exception that nobody expected: the client hears of it, the log says where, and nothing hangs.

Knows no sockets. Says the kind and the place of an exception, never its text: that may hold anything.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyopenshell.audit.events import FindingEvent, Severity
from pyopenshell.supervisor.proxy.admission import Failure
from pyopenshell.supervisor.proxy.transport import reset_on_close

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.proxy.quota import Quota
    from pyopenshell.supervisor.proxy.records import Recorder


class Defects:
    """One for a plane. `quota` bounds how many are written down one by one."""

    def __init__(self, record: Recorder, quota: Quota) -> None:
        self._record = record
        self._quota = quota

    def failure(self, error: Exception) -> Failure:
        """Record it; what the client is told instead of an answer."""
        self.found(error)
        detail = "internal error in the proxy; the supervisor's log says where"
        return Failure("proxy", "internal_error", detail, "proxy_internal_error")

    def found(self, error: Exception) -> None:
        """Record it: a finding in the log, the whole of it on stderr."""
        if not self._quota.take():
            return
        traceback.print_exception(error, file=sys.stderr)
        self._record.emit(
            FindingEvent(
                "openshell.proxy.defect",
                "A defect of the proxy ended a connection or a request",
                Severity.HIGH,
                evidence=(("exception", type(error).__name__), ("place", _place(error))),
                confidence="high",
            )
        )

    def guarded(self, call: Callable[[], None], end: Callable[[], None]) -> None:
        """`call`, and `end` where that fails."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - see the module
            self.found(error)
            end()

    def unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handler of the event loop. A protocol's callback that fails ends its connection; this says so, and makes
        that end one that nobody takes for the end of a message."""
        error = context.get("exception")
        if not isinstance(error, Exception) or isinstance(error, OSError):
            loop.default_exception_handler(context)
            return
        transport = context.get("transport")
        if transport is not None:
            reset_on_close(transport)
        self.found(error)


def _place(error: Exception) -> str:
    """File and line where it was raised, or as near to that as our own code gets."""
    ours = "pyopenshell"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if ours in path.parts:
            return f"{'/'.join(path.parts[-2:])}:{frame.lineno}"
    return "unknown"
