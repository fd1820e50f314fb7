"""What the gateway tells, as plain immutable values: nothing in here knows protobuf or gRPC."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyopenshell.policy.model import Policy, Rule

Time = datetime.datetime
"""Always in UTC."""


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str
    since: Time | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Sandbox:
    """`phase` is one word as people read it: Provisioning, Ready, Error, Stopped ..."""

    id: str
    name: str
    workspace: str
    phase: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resource_version: int
    created: Time | None
    policy_version: int
    exit_code: int | None
    conditions: tuple[Condition, ...]
    restarts: int = 0
    """How often it was started again by itself."""

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)

    @property
    def assurance(self) -> str:
        """What its walls are worth as built: "full", "network", "files", "none"; "" where nobody said."""
        found = self.condition("Assurance")
        return found.reason.lower() if found else ""

    @property
    def tier(self) -> str:
        """Rung of the local driver's ladder that it was built on, "" where nobody said."""
        found = self.condition("Assurance")
        return found.message[5] if found and found.message.startswith("tier ") else "A" if found else ""

    @property
    def trouble(self) -> str:
        """`reason: message` of the first condition that is not met, "" when all are."""
        for one in self.conditions:
            if one.status != "True" and one.type not in ("Assurance", "Limits"):
                return ": ".join(part for part in (one.reason, one.message) if part)
        return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """One proposal in the inbox. Every text may come from an agent: show it through `visible`."""

    id: str
    status: str
    rule_name: str
    rule: Rule
    binary: str
    confidence: float
    rationale: str
    security_notes: str
    validation_result: str
    application_error: str
    rejection_reason: str
    review_token: str
    current_hash: str
    candidate_hash: str
    hit_count: int
    stage: str
    supersedes: str
    created: Time | None
    decided: Time | None
    first_seen: Time | None
    last_seen: Time | None


class Reviewed(Protocol):
    """What a bulk approval needs of each proposal: which, and as what it was seen."""

    @property
    def id(self) -> str: ...
    @property
    def review_token(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """One maximal set of requests that a proposal would newly permit, with a witness inside it."""

    text: str
    reason: str
    witness: str
    uninspected: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """An approval that ends by itself, at `expires`."""

    duration: datetime.timedelta
    expires: Time


@dataclasses.dataclass(frozen=True, slots=True)
class Review:
    """The proof and authorship of one chunk. `lease` is set while its approval stands for a limited time."""

    chunk_id: str
    mode: str
    newly_permits: tuple[Region, ...]
    proven: bool
    decided_by: str
    superseded_by: str
    lease: Lease | None = None
    review_token: str = ""
    """Of the chunk that this proof is about; a chunk with another token has another proof."""


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """Requests an inspected endpoint refused: counted and shown, never a proposal by itself."""

    host: str
    port: int
    binary: str
    method: str
    path: str
    policy: str
    reason: str
    count: int
    first_seen: Time | None
    last_seen: Time | None
    denial_id: str = ""
    """The latest refusal, as its client and the log have it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """The inbox of one sandbox at one moment."""

    version: int
    chunks: tuple[Chunk, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class InboxEvent:
    """Exactly one of the fields from `chunk` to `restart` is set; `state` only in an overview.

    `gone`: the sandbox and all of its proposals. `restart`: what follows, up to `synced`, is everything anew.
    """

    sandbox: str
    workspace: str
    sandbox_id: str = ""
    chunk: Chunk | None = None
    observed: Observed | None = None
    synced: bool = False
    state: Sandbox | None = None
    gone: bool = False
    restart: bool = False
    cursor: str = ""
    """Where a reader goes on after this event; "" where there is no such place."""


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryEntry:
    time: Time | None
    event: str
    chunk_id: str
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """One thing that happened to a proposal, as recorded when it was done.

    `event`: proposed, approved, rejected, undone, renewed, unlimited, expired, edited, cleared. `actor` is who
    ("mtls:CN=…", "sandbox:<id>", "gateway:auto", …), `via` from where (method and address). Hashes are of the sandbox's
    own policy, "" where it did not change.
    """

    time: Time | None
    event: str
    chunk_id: str
    actor: str
    via: str
    description: str
    reason: str
    before_hash: str
    after_hash: str
    policy_version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """`phase` is Active or Terminating."""

    name: str
    phase: str
    labels: Mapping[str, str]
    created: Time | None


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """`role` is "user" or "admin"."""

    subject: str
    role: str
    added: Time | None


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """What sandboxes of one kind have in common. Amounts as Kubernetes writes them, "" for no limit."""

    name: str
    workspace: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    cpu: str
    memory: str
    version: int
    created: Time | None


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """`value` is None when unset; `scope` is "global", "sandbox" or "unset"."""

    value: str | None
    scope: str


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """What a sandbox must enforce now. `policy` is None where nobody gave one."""

    policy: Policy | None
    version: int
    policy_hash: str
    source: str
    settings: Mapping[str, Setting]
    revision: int
    global_version: int


@dataclasses.dataclass(frozen=True, slots=True)
class GlobalSettings:
    settings: Mapping[str, Setting]
    revision: int


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """`status` is pending, loaded, failed or superseded."""

    version: int
    policy_hash: str
    status: str
    load_error: str
    created: Time | None
    loaded: Time | None
    policy: Policy | None
    provenance: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """Answer to a change of policy or settings."""

    version: int
    policy_hash: str
    settings_revision: int
    deleted: bool


@dataclasses.dataclass(frozen=True, slots=True)
class LogLine:
    time: Time | None
    source: str
    level: str
    target: str
    message: str
    fields: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectTo:
    host: str
    port: int
    address: str
    has_ca: bool


@dataclasses.dataclass(frozen=True, slots=True)
class OperatorStatus:
    connect_to: tuple[ConnectTo, ...]
    state_dir: str
    sandboxes_connected: int


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    status: str
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A piece of a command's output. `stream` is "stdout" or "stderr"."""

    stream: str
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Attached:
    """To a console. `resumed`: it ran already, and its recent output follows."""

    resumed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    code: int
