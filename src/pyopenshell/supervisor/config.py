"""Turning what the gateway pushes into what this sandbox enforces: compile aside, swap at once, say what happened.

Knows no sockets: snapshots come in as messages, consequences go out through the callbacks it was given.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

from pyopenshell.audit.events import AuditSink, ConfigEvent, Severity
from pyopenshell.audit.text import visible
from pyopenshell.isolation.boottime import Alarm, TimerAlarm, boottime
from pyopenshell.policy.decision import PolicyEngine
from pyopenshell.policy.model import Policy
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.leases import Fallback, Schedule
from pyopenshell.supervisor.tasks import spawn
from pyopenshell.wire.gen import pyopenshell_pb2, sandbox_pb2
from pyopenshell.wire.policy_map import policy_from_proto

PROPOSALS_ENABLED = "agent_policy_proposals_enabled"
OCSF_ENABLED = "ocsf_json_enabled"

Compile = Callable[[Policy, PolicyEngine | None], PolicyEngine]
Setting = str | bool | int | bytes


class Outcome(enum.Enum):
    """What became of one snapshot."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    """Overtaken: a newer one is on its way."""
    RETAINED = "retained"
    """Not usable; the last good policy stays in force."""
    FAILED_CLOSED = "failed_closed"
    """Not usable, and the gateway asked for deny-everything in that case."""


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """Report about one snapshot. `version` is the one the snapshot carried; `error` is empty when it is in force."""

    outcome: Outcome
    version: int
    policy_hash: str
    config_revision: int
    error: str = ""

    @property
    def loaded(self) -> bool:
        return not self.error and self.outcome is not Outcome.STALE


def policy_of(snapshot: sandbox_pb2.SandboxConfigSnapshot) -> Policy:
    """The policy of a snapshot; no policy means that nothing is allowed. Raises ValueError when it means nothing."""
    return policy_from_proto(snapshot.policy) if snapshot.HasField("policy") else Policy()


def settings_of(snapshot: sandbox_pb2.SandboxConfigSnapshot) -> dict[str, Setting]:
    """Effective settings; a value without content counts as not set."""
    found: dict[str, Setting] = {}
    for key, effective in snapshot.settings.items():
        kind = effective.value.WhichOneof("value")
        if kind:
            found[key] = getattr(effective.value, kind)
    return found


class Configuration:
    """Owner of `Current`. Snapshots are applied one after the other, in the order of the calls.

    Approvals with a limit end here by themselves, whether or not the gateway can be reached at that moment.

    `loaded(swapped)` is called after each change of `Current`'s policy; `swapped` says whether the engine is a new one
    or only its version number. `settings` are those already in effect.
    """

    def __init__(
        self,
        current: Current,
        compile_policy: Compile,
        audit: AuditSink,
        *,
        loaded: Callable[[bool], None],
        settings_changed: Callable[[Mapping[str, Setting]], None],
        settings: dict[str, Setting] | None = None,
        alarm: Callable[[Callable[[], None]], Alarm] = TimerAlarm,
        now: Callable[[], float] = boottime,
    ) -> None:
        self._current = current
        self._compile = compile_policy
        self._audit = audit
        self._loaded = loaded
        self._settings_changed = settings_changed
        self._settings = settings or {}
        self._lock = asyncio.Lock()
        self._closed_by_failure = False
        self._alarm, self._now = alarm, now
        self._schedule: Schedule | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def settings(self) -> Mapping[str, Setting]:
        return self._settings

    async def apply(
        self, snapshot: sandbox_pb2.SandboxConfigSnapshot, limits: pyopenshell_pb2.GetLeasesResponse | None = None
    ) -> Applied:
        """Enforce `snapshot`, or keep what is enforced and say why. Never raises for bad content.

        `limits` say what it becomes as approvals in it end; those of another version mean that a newer snapshot is
        on its way, and this one is not enforced.
        """
        async with self._lock:
            # Settings first: when `/wait` wakes after a swap, the feature switch already has its value.
            self.apply_settings(settings_of(snapshot))
            if limits is not None and limits.policy_version != snapshot.version:
                return Applied(Outcome.STALE, snapshot.version, snapshot.policy_hash, snapshot.config_revision)
            return await self._apply_policy(snapshot, limits or pyopenshell_pb2.GetLeasesResponse())

    def close(self) -> None:
        """Stop watching limits; the process is about to end."""
        if self._schedule is not None:
            self._schedule.close()
        if self._ending is not None:
            self._ending.cancel()

    def _limit_passed(self) -> None:
        self._ending = spawn(self._end_due(), name="limit passed")

    async def _end_due(self) -> None:
        """Fall back to the policy without what is over."""
        async with self._lock:
            over = self._schedule.due() if self._schedule is not None else []
            if not over:
                return
            last = over[-1]
            try:
                engine = await self._compiled(last.policy, self._current.engine)
            except Exception as error:  # noqa: BLE001 - a limit holds even if the policy after it cannot be enforced
                engine = await self._compiled(Policy(), None)
                self._closed_by_failure = True
                self._audit.emit(ConfigEvent("FAIL_CLOSED", f"Policy after an approval ended: {error}", Severity.HIGH))
            self._current.swap(engine, version=self._current.version, policy_hash=last.policy_hash)
            for one in over:
                text = f"chunk:{visible(one.chunk_id)} approval ended on {visible(one.summary)}"
                self._audit.emit(ConfigEvent("EXPIRED", text, fields=(("policy_hash", one.policy_hash),)))
            self._loaded(True)

    async def _compiled(self, policy: Policy, reuse: PolicyEngine | None) -> PolicyEngine:
        """Aside, so that requests go on meanwhile; here and now where the machine has no thread left to give.

        Else a sandbox that uses up the machine's processes would keep what was revoked, or is over.
        """
        try:
            aside = asyncio.get_running_loop().run_in_executor(None, self._compile, policy, reuse)
        except RuntimeError:
            return self._compile(policy, reuse)
        return await aside

    def _set_limits(self, limits: Sequence[Fallback]) -> None:
        if limits or self._schedule is not None:
            self._schedules().replace(limits)

    def _schedules(self) -> Schedule:
        if self._schedule is None:
            self._schedule = Schedule(self._alarm, self._limit_passed, self._now)
        return self._schedule

    def apply_settings(self, settings: dict[str, Setting]) -> None:
        """Take over effective settings; tells the audit log and the callback about differences."""
        before, self._settings = self._settings, settings
        for key in sorted({*before, *settings}):
            old, new = before.get(key), settings.get(key)
            if old != new:
                state = "ENABLED" if key not in before else "DISABLED" if key not in settings else "UPDATED"
                fields = (("key", key), ("old", _word(old)), ("new", _word(new)))
                self._audit.emit(ConfigEvent(state, "Setting changed", fields=fields))
        enabled = settings.get(PROPOSALS_ENABLED) is True
        if before != settings or enabled != self._current.proposals_enabled:
            self._current.proposals_enabled = enabled
            self._settings_changed(settings)

    async def _apply_policy(
        self, snapshot: sandbox_pb2.SandboxConfigSnapshot, message: pyopenshell_pb2.GetLeasesResponse
    ) -> Applied:
        current = self._current
        report = Applied(Outcome.APPLIED, snapshot.version, snapshot.policy_hash, snapshot.config_revision)
        try:
            policy = policy_of(snapshot)
            limits = self._schedules().read(message) if message.fallbacks else []
            policy_hash = snapshot.policy_hash
            if limits and (over := self._schedules().passed(limits)) is not None:
                # The gateway has not ended it yet (it was away, say): it must not come back for as long as that takes.
                policy, policy_hash = over.policy, over.policy_hash
            if policy == current.engine.policy and not self._closed_by_failure:
                self._set_limits(limits)
                same = (current.version, current.policy_hash) == (snapshot.version, policy_hash)
                current.version, current.policy_hash = snapshot.version, policy_hash
                if not same:
                    self._loaded(False)
                return dataclasses.replace(report, outcome=Outcome.DUPLICATE if same else Outcome.APPLIED)
            # Aside: requests go on under the old engine while a large policy compiles.
            engine = await self._compiled(policy, current.engine)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a candidate, the sandbox must stay guarded
            return await self._refuse(snapshot, f"{type(error).__name__}: {error}", report)
        self._note_static_changes(current.engine.policy, policy)
        self._closed_by_failure = False
        # The limits first: from the swap on, each of them counts.
        self._set_limits(limits)
        current.swap(engine, version=snapshot.version, policy_hash=policy_hash)
        self._audit.emit(
            ConfigEvent(
                "LOADED",
                "Policy reloaded successfully" + (" (global)" if _is_global(snapshot) else ""),
                fields=(("policy_hash", policy_hash), ("version", str(snapshot.version))),
            )
        )
        self._loaded(True)
        return report

    async def _refuse(self, snapshot: sandbox_pb2.SandboxConfigSnapshot, error: str, report: Applied) -> Applied:
        closed = snapshot.policy_validation_failure_mode == "fail_closed"
        if closed and not self._closed_by_failure:
            engine = await self._compiled(Policy(), None)
            self._closed_by_failure = True
            self._set_limits(())
            # No version at all: nobody who waits for a rule may believe that it is in force.
            self._current.swap(engine, version=0, policy_hash="")
            self._loaded(True)
        self._audit.emit(
            ConfigEvent(
                "FAIL_CLOSED" if closed else "RETAINED_PREVIOUS_POLICY",
                f"Policy version {snapshot.version} was not usable: {error}",
                Severity.HIGH,
                fields=(("policy_hash", snapshot.policy_hash), ("version", str(snapshot.version))),
            )
        )
        outcome = Outcome.FAILED_CLOSED if closed else Outcome.RETAINED
        return dataclasses.replace(report, outcome=outcome, error=error)

    def _note_static_changes(self, before: Policy, after: Policy) -> None:
        changed = [
            name for name in ("filesystem", "landlock", "process") if getattr(before, name) != getattr(after, name)
        ]
        if changed and not self._closed_by_failure:
            self._audit.emit(
                ConfigEvent(
                    "SKIPPED",
                    f"{', '.join(changed)}: walls of a running sandbox do not move; applied at its next start",
                    Severity.LOW,
                )
            )


def _is_global(snapshot: sandbox_pb2.SandboxConfigSnapshot) -> bool:
    return snapshot.policy_source == sandbox_pb2.POLICY_SOURCE_GLOBAL


def _word(value: Setting | None) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return value.hex() if isinstance(value, bytes) else str(value)
