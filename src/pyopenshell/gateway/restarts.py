"""When a sandbox that lost its supervisor is started again by itself, how often, and what people are told.

Decides the bound and the words; the starting is `sandboxes`. Its files are kept, its processes are not: whatever ran
inside ended with the supervisor, because nothing may run unguarded.
"""

from __future__ import annotations

import dataclasses
from typing import Final

LIMIT: Final = 5
"""Restarts within WINDOW_MS; then a person must look."""
WINDOW_MS: Final = 10 * 60 * 1000
_FIRST_PAUSE: Final = 0.1
"""Seconds before the first restart, doubled with each further one in the window: 0.1 to 1.6."""

MACHINE: Final = ("MachineRestarted", "the machine was started anew: processes ended with it, files were kept")
LOST: Final = ("WorkloadLost", "it did not run any more when the gateway started; files were kept")


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A restart that is coming."""

    reason: str
    message: str
    number: int
    """Which one within the window, from 1."""
    pause: float
    """Seconds from now."""
    due_ms: int


@dataclasses.dataclass(slots=True)
class Restarts:
    """Of one sandbox. `count` is since it was created; the window starts anew with a start by a person."""

    allowed: bool = True
    count: int = 0
    reason: str = ""
    message: str = ""
    pending: Pending | None = None
    _recent: list[int] = dataclasses.field(default_factory=list)

    def fail(self, reason: str, message: str, now_ms: int) -> Pending | None:
        """It ended by itself. The restart that follows, or None: not wanted, or too many lately."""
        self._recent = [moment for moment in self._recent if now_ms - moment < WINDOW_MS]
        self.pending = None
        if self.allowed and len(self._recent) < LIMIT:
            pause = _FIRST_PAUSE * 2 ** len(self._recent)
            self.pending = Pending(reason, message, len(self._recent) + 1, pause, now_ms + int(pause * 1000))
        return self.pending

    def began(self, now_ms: int) -> None:
        """The pending restart is being carried out."""
        if self.pending is not None:
            self._recent.append(now_ms)
            self.note(self.pending.reason, self.pending.message)

    def note(self, reason: str, message: str) -> None:
        """It was started again, for a reason."""
        self.count += 1
        self.reason, self.message = reason, message

    def forgive(self) -> None:
        """A person stopped or started it: nothing is pending, and the window starts anew."""
        self.pending = None
        self._recent.clear()

    @property
    def coming(self) -> str:
        """What is told while a restart is pending."""
        if self.pending is None:
            return ""
        bound = f"restart {self.pending.number} of at most {LIMIT} in {WINDOW_MS // 60_000} minutes"
        return f"{self.pending.reason}: {self.pending.message}; {bound}"

    def given_up(self, message: str) -> str:
        """`message`, and why nothing more happens by itself."""
        if not self.allowed:
            return message
        minutes = WINDOW_MS // 60_000
        return f"{message}; restarted {LIMIT} times in {minutes} minutes, not again: stop the sandbox, then start it"
