"""What can be logged: one immutable class per kind of event. Formatting is `audit.shorthand` and `audit.ocsf`.

Texts in events are raw: both formatters escape and shorten, so no caller has to. Query strings and secrets must not
be put into an event at all.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple, Protocol


class Severity(enum.IntEnum):
    """OCSF severity ids."""

    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5
    FATAL = 6

    __hash__ = int.__hash__


class Action(enum.Enum):
    """OCSF action: (id, word). NONE prints nothing."""

    NONE = (0, "")
    ALLOWED = (1, "ALLOWED")
    DENIED = (2, "DENIED")
    OBSERVED = (3, "OBSERVED")
    MODIFIED = (4, "MODIFIED")
    OTHER = (99, "OTHER")

    # An enum's own is Python code, and whoever formats lines looks up by these.
    __hash__ = object.__hash__

    @property
    def id(self) -> int:
        return self.value[0]

    @property
    def word(self) -> str:
        return self.value[1]


@dataclasses.dataclass(frozen=True, slots=True)
class Actor:
    """The program behind an event."""

    exe: str
    pid: int
    ancestors: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkEvent:
    """NET: a connection. `activity` is OPEN, CLOSE, RESET, FAIL, REFUSE, TRAFFIC, LISTEN or OTHER."""

    activity: str
    severity: Severity
    action: Action = Action.NONE
    host: str = ""
    port: int = 0
    protocol: str = ""
    actor: Actor | None = None
    policy: str = ""
    """Rule name; "-" where none; "" omits the bracket."""
    engine: str = ""
    reason: str = ""
    message: str = ""
    denial_id: str = ""


class HttpEvent(NamedTuple):
    """HTTP: one request was judged. `path` is canonical and without query.

    A named tuple, because there is one for every request: a frozen dataclass takes five times as long to make.
    """

    method: str
    severity: Severity
    action: Action
    scheme: str
    host: str
    port: int
    path: str
    actor: Actor | None = None
    policy: str = "-"
    engine: str = "l7"
    reason: str = ""
    message: str = ""
    status_code: int = 0
    audit: bool = False
    """Refused by the rules, forwarded by `enforcement: audit`."""
    denial_id: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigEvent:
    """CONFIG: policy, settings, proposals. `state` is upper case: LOADED, PROPOSED, APPROVED, REJECTED ..."""

    state: str
    message: str
    severity: Severity = Severity.INFO
    fields: tuple[tuple[str, str], ...] = ()
    """Bracketed `key:value` pairs in the order given."""


@dataclasses.dataclass(frozen=True, slots=True)
class FindingEvent:
    """FINDING: something a security person should look at."""

    uid: str
    title: str
    severity: Severity
    disposition: str = "CREATE"
    description: str = ""
    evidence: tuple[tuple[str, str], ...] = ()
    confidence: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessEvent:
    """PROC: `activity` is LAUNCH or TERMINATE."""

    activity: str
    name: str
    pid: int
    severity: Severity = Severity.INFO
    exit_code: int | None = None
    command: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class KernelEvent:
    """KERNEL: a system call that no command may make; `call` is its name, with the argument that matters."""

    call: str
    severity: Severity
    action: Action
    actor: Actor
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """LIFECYCLE: `activity` is INSTALL, REMOVE, START or STOP."""

    activity: str
    app: str
    status: str = "Success"
    severity: Severity = Severity.INFO
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SshEvent:
    """SSH: `activity` as for NET."""

    activity: str
    severity: Severity
    action: Action = Action.NONE
    peer: str = ""
    auth: str = ""
    message: str = ""


Event = NetworkEvent | HttpEvent | ConfigEvent | FindingEvent | ProcessEvent | KernelEvent | LifecycleEvent | SshEvent


class AuditSink(Protocol):
    """Where events go. Never blocks, never raises."""

    def emit(self, event: Event) -> None: ...
