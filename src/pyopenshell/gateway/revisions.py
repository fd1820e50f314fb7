"""The append-only list of policies a sandbox (or the whole gateway) has had, and how each fared.

Decides version numbers, status and what may change on a live sandbox; must not know proposals. Methods that take `tx`
run inside `Store.run`. (contract/gateway.md 2)
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import presence
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.clock import Clock, system_clock, to_timestamp
from pyopenshell.gateway.errors import invalid, not_found
from pyopenshell.gateway.settings import POLICY_KEY
from pyopenshell.gateway.store import GLOBAL_SCOPE, Store
from pyopenshell.gateway.store.schema import policies, sandboxes, setting_scopes, settings
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.memo import per_object
from pyopenshell.policy.model import RESTRICTIVE_DEFAULT, Policy, Rule
from pyopenshell.policy.problems import PolicyError
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

MAX_POLICY_BYTES: Final = 256 * 1024
"""contract/gateway.md 1.0."""
_MAX_LOAD_ERROR: Final = 4096

LoadFailed = Callable[[sa.Connection, str, int, str], None]

_STATUS: Final = {
    "pending": openshell_pb2.POLICY_STATUS_PENDING,
    "loaded": openshell_pb2.POLICY_STATUS_LOADED,
    "failed": openshell_pb2.POLICY_STATUS_FAILED,
    "superseded": openshell_pb2.POLICY_STATUS_SUPERSEDED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """One stored policy. `status` is pending, loaded, failed or superseded; times in ms; `origin` says what made it."""

    scope: str
    version: int
    hash: str
    payload: bytes
    status: str
    load_error: str
    created_ms: int
    loaded_ms: int | None
    provenance: Mapping[str, str]
    origin: str
    author: str

    @property
    def policy(self) -> Policy:
        return decode(self.payload)

    def to_proto(self, *, body: bool) -> openshell_pb2.SandboxPolicyRevision:
        return openshell_pb2.SandboxPolicyRevision(
            version=self.version,
            policy_hash=self.hash,
            status=_STATUS[self.status],
            load_error=self.load_error,
            created_time=to_timestamp(self.created_ms),
            loaded_time=to_timestamp(self.loaded_ms),
            policy=sandbox_pb2.SandboxPolicy.FromString(self.payload) if body else None,
            provenance=self.provenance,
        )


@per_object
def encode(policy: Policy) -> bytes:
    """The stored form of a policy: deterministic, so equal policies are equal bytes.

    A serialised message is the concatenation of its parts, so every rule is serialised once in its life. What is
    written will be read: the result is put where `decode` finds it.
    """
    rules = {rule.key: rule for rule in policy.rules}
    head = policy_map.policy_to_proto(dataclasses.replace(policy, rules=(), middlewares=()))
    tail = policy_map.policy_to_proto(Policy(version=0, middlewares=policy.middlewares))
    parts = [head.SerializeToString(deterministic=True)]
    parts += [_rule_entry(rules[key]) for key in sorted(rules)]
    parts.append(tail.SerializeToString(deterministic=True))
    payload = b"".join(parts)
    with contextlib.suppress(PolicyError):  # then `decode` says so, to whoever wants to read it
        rest = policy_map.policy_from_proto(sandbox_pb2.SandboxPolicy.FromString(parts[0] + parts[-1]))
        _decoded.put(payload, dataclasses.replace(rest, rules=tuple(_as_read(rules[key]) for key in sorted(rules))))
    return payload


@per_object
def _rule_entry(rule: Rule) -> bytes:
    """A policy message with nothing but this rule."""
    message = sandbox_pb2.SandboxPolicy()
    message.network_policies[rule.key].CopyFrom(policy_map.rule_to_proto(rule))
    return message.SerializeToString(deterministic=True)


@per_object
def _as_read(rule: Rule) -> Rule:
    """The rule as `decode` reads it: the same object where it reads the same."""
    (read,) = policy_map.policy_from_proto(sandbox_pb2.SandboxPolicy.FromString(_rule_entry(rule))).rules
    return rule if read == rule else read


class _Decoded:
    """The policies of the last payloads. Keeps rules the same objects from one revision to the next."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[bytes, Policy] = {}
        self._lock = threading.Lock()

    def get(self, payload: bytes) -> Policy | None:
        with self._lock:
            found = self._known.pop(payload, None)
            if found is not None:
                self._known[payload] = found
            return found

    def put(self, payload: bytes, policy: Policy) -> Policy:
        with self._lock:
            policy = self._known.setdefault(payload, policy)
            while len(self._known) > self._size:
                del self._known[next(iter(self._known))]
            return policy


_decoded: Final = _Decoded(64)


def decode(payload: bytes) -> Policy:
    """The policy of a stored form; the same object for the same bytes while it is remembered."""
    found = _decoded.get(payload)
    if found is not None:
        return found
    return _decoded.put(payload, policy_map.policy_from_proto(sandbox_pb2.SandboxPolicy.FromString(payload)))


def to_message(policy: Policy) -> sandbox_pb2.SandboxPolicy:
    """The policy as it travels."""
    return sandbox_pb2.SandboxPolicy.FromString(encode(policy))


hash_of: Final[Callable[[Policy], str]] = policy_hash
"""`policy.canonical.policy_hash`, computed once per object."""


class Revisions:
    """Policies of all sandboxes and of the gateway, over one store."""

    def __init__(self, store: Store, bus: Bus, clock: Clock = system_clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self.failed: LoadFailed = lambda tx, sandbox_id, version, error: None
        """Called inside the transaction that records that a sandbox could not load a revision."""

    # ---- inside a transaction ------------------------------------------------------------------------------------

    def latest(self, tx: sa.Connection, sandbox_id: str) -> Revision | None:
        """The newest revision of a sandbox. The policy it was created with becomes version 1 when first asked for."""
        found = self._newest(tx, sandbox_id)
        if found is not None:
            return found
        blob = tx.scalar(sa.select(sandboxes.c.spec).where(sandboxes.c.id == sandbox_id))
        if blob is None:
            return None
        spec = openshell_pb2.SandboxSpec.FromString(blob)
        if not spec.HasField("policy"):
            return None
        policy = policy_map.policy_from_proto(spec.policy)
        return self._insert(tx, sandbox_id, 1, policy, "initial", "", {}, status="loaded")

    def base(self, tx: sa.Connection, sandbox_id: str) -> Policy:
        """What proposals are merged into: the newest revision, or the restrictive default where nobody gave any."""
        latest = self.latest(tx, sandbox_id)
        return latest.policy if latest is not None else RESTRICTIVE_DEFAULT

    def global_policy(self, tx: sa.Connection) -> Revision | None:
        """The policy that replaces every sandbox's own, while there is one."""
        version = tx.scalar(
            sa.select(settings.c.value).where(settings.c.scope == GLOBAL_SCOPE, settings.c.key == POLICY_KEY)
        )
        return self.get(tx, GLOBAL_SCOPE, int(version)) if version is not None else None

    def get(self, tx: sa.Connection, scope: str, version: int) -> Revision | None:
        row = tx.execute(sa.select(policies).where(policies.c.scope == scope, policies.c.version == version)).first()
        return _revision(row) if row is not None else None

    def reviewed(self, tx: sa.Connection, sandbox_id: str) -> Policy:
        """The newest base policy a person had a hand in: what automatic approvals are judged against, in total.

        An approval that ended by itself is no longer part of it. Where a machine's approvals lie between, its policy
        cannot be told apart from theirs, and everything is judged anew.
        """
        self.latest(tx, sandbox_id)
        rows = tx.execute(
            sa.select(policies.c.version, policies.c.origin)
            .where(policies.c.scope == sandbox_id)
            .order_by(policies.c.version.desc())
        )
        ended = 0
        for version, origin in rows:
            if origin == "lease":
                ended = ended or version
            elif origin != "auto":
                found = self.get(tx, sandbox_id, ended or version)
                return found.policy if found is not None else RESTRICTIVE_DEFAULT
            elif ended:
                break
        return RESTRICTIVE_DEFAULT

    def append(
        self,
        tx: sa.Connection,
        sandbox_id: str,
        policy: Policy,
        *,
        origin: str,
        author: str,
        provenance: Mapping[str, str] | None = None,
    ) -> Revision:
        """A new revision, announced after the commit; or the newest one when it is the same policy already.

        `origin` is set, merge, sync, approve, auto, undo, reject or lease. Raises GatewayError for one that is too big.
        """
        latest = self.latest(tx, sandbox_id)
        provenance = dict(provenance or {})
        if (
            latest is not None
            and latest.hash == hash_of(policy)
            and (not provenance or provenance == latest.provenance)
        ):
            return latest
        version = latest.version + 1 if latest is not None else 1
        tx.execute(
            policies.update()
            .where(policies.c.scope == sandbox_id, policies.c.status == "pending")
            .values(status="superseded")
        )
        revision = self._insert(tx, sandbox_id, version, policy, origin, author, provenance)
        self._store.announce(f"config:{sandbox_id}")
        return revision

    def set_global(self, tx: sa.Connection, policy: Policy, *, author: str) -> Revision:
        """Make `policy` replace every sandbox's own, now."""
        newest = self._newest(tx, GLOBAL_SCOPE)
        active = self.global_policy(tx)
        if active is not None and active.hash == hash_of(policy):
            return active
        tx.execute(
            policies.update()
            .where(policies.c.scope == GLOBAL_SCOPE, policies.c.status != "superseded")
            .values(status="superseded")
        )
        version = newest.version + 1 if newest is not None else 1
        revision = self._insert(tx, GLOBAL_SCOPE, version, policy, "set", author, {}, status="loaded")
        self._forget_global(tx)
        tx.execute(settings.insert().values(scope=GLOBAL_SCOPE, key=POLICY_KEY, type="policy", value=str(version)))
        self._global_changed(tx)
        return revision

    def delete_global(self, tx: sa.Connection) -> bool:
        """Lift the global policy; every sandbox has its own again. Returns whether there was one."""
        if not self._forget_global(tx):
            return False
        tx.execute(
            policies.update()
            .where(policies.c.scope == GLOBAL_SCOPE, policies.c.status != "superseded")
            .values(status="superseded")
        )
        self._global_changed(tx)
        return True

    def report(self, tx: sa.Connection, sandbox_id: str, version: int, status: int, load_error: str) -> Revision:
        """What the supervisor says became of a revision. Returns it as it is now."""
        if status not in (openshell_pb2.POLICY_STATUS_LOADED, openshell_pb2.POLICY_STATUS_FAILED):
            raise invalid("status must be LOADED or FAILED", "status")
        if version <= 0:
            raise invalid("version is required", "version")
        found = self.get(tx, sandbox_id, version)
        if found is None:
            raise not_found("policy revision not found")
        this = policies.update().where(policies.c.scope == sandbox_id, policies.c.version == version)
        if status == openshell_pb2.POLICY_STATUS_FAILED:
            tx.execute(this.values(status="failed", load_error=load_error[:_MAX_LOAD_ERROR]))
            self.failed(tx, sandbox_id, version, load_error[:_MAX_LOAD_ERROR])
        else:
            self._loaded(tx, sandbox_id, version, this)
        presence.announce(tx, self._store, self._bus, sandbox_id)
        self._store.announce(f"sandbox:{sandbox_id}")
        reported = self.get(tx, sandbox_id, version)
        assert reported is not None
        return reported

    # ---- for RPC classes ------------------------------------------------------------------------------------------

    async def status(self, scope: str, version: int = 0) -> tuple[Revision, int]:
        """A revision (0 = newest) and the version in force. Raises GatewayError NOT_FOUND."""

        def read(tx: sa.Connection) -> tuple[Revision, int]:
            newest = self._newest(tx, scope) if scope == GLOBAL_SCOPE else self.latest(tx, scope)
            found = self.get(tx, scope, version) if version else newest
            if found is None:
                raise not_found("policy revision not found")
            if scope == GLOBAL_SCOPE:
                active = self.global_policy(tx)
                return found, active.version if active is not None else 0
            return found, current_version(tx, scope)

        return await self._store.run(read)

    async def list(self, scope: str, limit: int, before: int = 0) -> Sequence[Revision]:
        """Newest first, at most `limit`, only versions below `before` (0 = all)."""

        def read(tx: sa.Connection) -> Sequence[Revision]:
            if scope != GLOBAL_SCOPE:
                self.latest(tx, scope)
            query = sa.select(policies).where(policies.c.scope == scope)
            if before:
                query = query.where(policies.c.version < before)
            return [_revision(row) for row in tx.execute(query.order_by(policies.c.version.desc()).limit(limit))]

        return await self._store.run(read)

    # ---- rows -----------------------------------------------------------------------------------------------------

    def _newest(self, tx: sa.Connection, scope: str) -> Revision | None:
        row = tx.execute(
            sa.select(policies).where(policies.c.scope == scope).order_by(policies.c.version.desc()).limit(1)
        ).first()
        return _revision(row) if row is not None else None

    def _insert(
        self,
        tx: sa.Connection,
        scope: str,
        version: int,
        policy: Policy,
        origin: str,
        author: str,
        provenance: Mapping[str, str],
        status: str = "pending",
    ) -> Revision:
        payload = encode(policy)
        if len(payload) > MAX_POLICY_BYTES:
            raise invalid(f"policy is larger than {MAX_POLICY_BYTES // 1024} KiB", "policy")
        now = self._clock()
        revision = Revision(
            scope=scope,
            version=version,
            hash=hash_of(policy),
            payload=payload,
            status=status,
            load_error="",
            created_ms=now,
            loaded_ms=now if status == "loaded" else None,
            provenance=dict(provenance),
            origin=origin,
            author=author,
        )
        tx.execute(policies.insert().values(dataclasses.asdict(revision)))
        return revision

    def _loaded(self, tx: sa.Connection, sandbox_id: str, version: int, this: sa.Update) -> None:
        newer = sa.select(sa.func.count()).where(
            policies.c.scope == sandbox_id, policies.c.version > version, policies.c.status == "loaded"
        )
        if tx.scalar(newer):
            return  # a report that was overtaken: what it loaded is no longer what runs
        tx.execute(this.values(status="loaded", load_error="", loaded_ms=self._clock()))
        tx.execute(
            policies.update()
            .where(
                policies.c.scope == sandbox_id,
                policies.c.version < version,
                policies.c.status.in_(("pending", "loaded")),
            )
            .values(status="superseded")
        )
        row = tx.execute(
            sa.select(sandboxes.c.status, sandboxes.c.resource_version).where(sandboxes.c.id == sandbox_id)
        ).one()
        state = openshell_pb2.SandboxStatus.FromString(row.status)
        if state.current_policy_version != version:
            state.current_policy_version = version
            tx.execute(
                sandboxes.update()
                .where(sandboxes.c.id == sandbox_id)
                .values(status=state.SerializeToString(), resource_version=row.resource_version + 1)
            )

    def _forget_global(self, tx: sa.Connection) -> bool:
        gone = tx.execute(settings.delete().where(settings.c.scope == GLOBAL_SCOPE, settings.c.key == POLICY_KEY))
        return bool(gone.rowcount)

    def _global_changed(self, tx: sa.Connection) -> None:
        revision = tx.scalar(sa.select(setting_scopes.c.revision).where(setting_scopes.c.scope == GLOBAL_SCOPE)) or 0
        tx.execute(setting_scopes.delete().where(setting_scopes.c.scope == GLOBAL_SCOPE))
        tx.execute(setting_scopes.insert().values(scope=GLOBAL_SCOPE, revision=revision + 1))
        self._store.announce("config:*")


def current_version(tx: sa.Connection, sandbox_id: str) -> int:
    """The version the sandbox last reported loaded; 0 when none."""
    blob = tx.scalar(sa.select(sandboxes.c.status).where(sandboxes.c.id == sandbox_id))
    return openshell_pb2.SandboxStatus.FromString(blob).current_policy_version if blob is not None else 0


def live_update(baseline: Policy | None, candidate: Policy) -> Policy:
    """`candidate` as it may be stored on a live sandbox, or GatewayError INVALID_ARGUMENT (contract/gateway.md 2.5).

    A section the candidate leaves out and nobody ever wrote (it came from the restrictive default) is carried over.
    """
    if baseline is None:
        return candidate
    default = RESTRICTIVE_DEFAULT
    if candidate.filesystem is None and baseline.filesystem == default.filesystem:
        candidate = dataclasses.replace(candidate, filesystem=baseline.filesystem)
    if candidate.landlock is None and baseline.landlock == default.landlock:
        candidate = dataclasses.replace(candidate, landlock=baseline.landlock)
    was, wanted = baseline.filesystem, candidate.filesystem
    if was is not None and wanted is None:
        raise invalid("filesystem policy cannot be removed on a live sandbox", "policy")
    if was is not None and wanted is not None:
        for section in ("read_only", "read_write"):
            for path in getattr(was, section):
                if path not in getattr(wanted, section):
                    raise invalid(f"filesystem {section} path '{path}' cannot be removed on a live sandbox", "policy")
        if was.include_workdir != wanted.include_workdir:
            raise invalid("filesystem include_workdir cannot be changed on a live sandbox", "policy")
    for section in ("landlock", "process"):
        if getattr(baseline, section) != getattr(candidate, section):
            raise invalid(f"{section} policy cannot be changed on a live sandbox (applied at startup)", "policy")
    return candidate


def _revision(row: sa.Row[Any]) -> Revision:
    return Revision(**row._mapping)
