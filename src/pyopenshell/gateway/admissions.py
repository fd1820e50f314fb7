"""`request_id`: the same request, sent again, has the effect of one (contract/gateway.md 1.0).

Decides whether a request is new, is answered from the record, or is refused; must not know what any method does. What
was admitted survives a restart; it is forgotten after 24 hours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from pyopenshell.gateway.clock import Clock
from pyopenshell.gateway.errors import GatewayError, denied, exhausted, invalid, precondition
from pyopenshell.gateway.principals import Caller, UserPrincipal
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import request_admissions
from pyopenshell.gateway.tasks import Tasks

KEPT_MS: Final = 24 * 3600 * 1000
PER_CALLER: Final = 1000
"""Admissions of one caller that are remembered at a time."""
AT_ONCE: Final = 64
REPLAYED: Final = "openshell-replayed"
"""Response metadata of an answer that comes from the record: "true"."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_WORKSPACE: Final = 253
_NIL: Final = "00000000-0000-0000-0000-000000000000"
UNCERTAIN: Final = frozenset({"INTERNAL", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED"})
"""After these nobody knows whether the request took effect."""

M = TypeVar("M", bound=Message)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Key:
    caller: str
    method: str
    workspace: str
    request_id: str

    def row(self) -> sa.ColumnElement[bool]:
        table = request_admissions.c
        return sa.and_(*(table[name] == value for name, value in dataclasses.asdict(self).items()))


class Admissions:
    """Every request with an id that this gateway was asked for, over one store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._tasks = Tasks()
        self._under_way: set[_Key] = set()

    async def close(self) -> None:
        """What is under way is left as it is: its outcome is uncertain from now on."""
        await self._tasks.close()

    async def once(
        self, request: Message, caller: Caller, answer: type[M], work: Callable[[], Awaitable[M]]
    ) -> tuple[M, bool]:
        """The answer of `work`, now or from the record (then True). Raises GatewayError.

        A caller that hangs up does not stop the work: who asks again gets what came of it.
        """
        key, digest = _identity(request, caller)
        if (stored := await self._admitted(key, digest, "REQUEST_REPLAY_UNAVAILABLE", answer)) is not None:
            return stored, True
        return await asyncio.shield(self._tasks.spawn(self._run(key, work), f"{key.method} {key.request_id}")), False

    async def begin(self, request: Message, caller: Caller) -> None:
        """Admit a request whose answer is a stream and cannot be kept: it runs once and never again."""
        key, digest = _identity(request, caller)
        await self._admitted(key, digest, "REQUEST_STREAM_UNAVAILABLE", None)
        self._under_way.discard(key)

    async def forget(self, request: Message, caller: Caller) -> None:
        """The request was refused: it took no effect and may be made again."""
        key, _ = _identity(request, caller)
        await self._store.run(lambda tx: tx.execute(request_admissions.delete().where(key.row())))

    async def _run(self, key: _Key, work: Callable[[], Awaitable[M]]) -> M:
        try:
            try:
                response = await work()
            except GatewayError as error:
                if error.code not in UNCERTAIN:
                    await self._store.run(lambda tx: tx.execute(request_admissions.delete().where(key.row())))
                raise
            blob = response.SerializeToString()
            await self._store.run(
                lambda tx: tx.execute(request_admissions.update().where(key.row()).values(response=blob))
            )
            return response
        finally:
            self._under_way.discard(key)

    async def _admitted(self, key: _Key, digest: str, unavailable: str, answer: type[M] | None) -> M | None:
        """The recorded answer; None when the request was admitted just now."""
        if len(self._under_way) >= AT_ONCE:
            raise exhausted(f"{AT_ONCE} requests with a request_id are under way; try again", retry_after=1)
        running = key in self._under_way

        def admit(tx: sa.Connection) -> M | None:
            now = self._clock()
            tx.execute(request_admissions.delete().where(request_admissions.c.created_ms <= now - KEPT_MS))
            row = tx.execute(sa.select(request_admissions).where(key.row())).first()
            if row is not None:
                return _outcome(row, digest, running, unavailable, answer)
            mine = sa.select(sa.func.count()).where(request_admissions.c.caller == key.caller)
            if (tx.scalar(mine) or 0) >= PER_CALLER:
                text = f"{PER_CALLER} requests with a request_id are remembered for this caller; leave it out or wait"
                raise exhausted(text, retry_after=60)
            tx.execute(request_admissions.insert().values(digest=digest, created_ms=now, **dataclasses.asdict(key)))
            return None

        self._under_way.add(key)
        try:
            found = await self._store.run(admit)
        except BaseException:
            if not running:
                self._under_way.discard(key)
            raise
        if found is None:
            self._under_way.add(key)  # the one that ran before us may have taken it away with itself
        elif not running:
            self._under_way.discard(key)
        return found


def wanted(request: Any) -> bool:
    """Does the request carry an id?"""
    return bool(getattr(request, "request_id", ""))


def _identity(request: Any, caller: Caller) -> tuple[_Key, str]:
    if not isinstance(caller.principal, UserPrincipal):
        raise denied("sandbox principals may not use request_id")
    request_id: str = request.request_id
    if not _UUID.match(request_id) or request_id == _NIL:
        raise invalid("request_id must be a nonzero hyphenated UUID (36 characters)", field="request_id")
    plain = type(request)()
    plain.CopyFrom(request)
    plain.ClearField("request_id")
    digest = hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()
    scope = getattr(request, "workspace_scope", None)
    workspace = scope.workspace if scope is not None else ""
    if len(workspace) > _WORKSPACE:  # names none, and an index holds it
        raise invalid("workspace_scope names no workspace", field="workspace_scope")
    who = f"{caller.principal.provider}\n{caller.principal.subject}"
    return _Key(who, caller.method, workspace, request_id.lower()), digest


def _outcome(row: sa.Row[Any], digest: str, running: bool, unavailable: str, answer: type[M] | None) -> M:
    if row.digest != digest:
        raise precondition("request_id was used for another request before", "REQUEST_ID_PAYLOAD_MISMATCH")
    if answer is None:
        text = "this command was started before with this request_id; its output cannot be replayed"
        raise precondition(text, unavailable)
    if row.response is None:
        # Another gateway of the same database may be at it; or one was killed.
        interrupted = "nobody here knows how the request with this request_id ended; look before you repeat it"
        text = "the request with this request_id is under way" if running else interrupted
        raise GatewayError("FAILED_PRECONDITION", text, "REQUEST_OUTCOME_UNCERTAIN", retry_after=1 if running else None)
    return answer.FromString(row.response)
