"""Where the gateway keeps what it decided: SQL transactions, one at a time, on one worker thread.

Decides nothing. `Store.run(fn)` is the only door: `fn` gets a connection inside one transaction and either all of it
is on disk when `run` returns, or none of it ever is. No `await` can happen inside, so no decision is ever half taken.
Transactions that wait at the same time share one commit, each in a savepoint of its own: reaching the disk is most of
what a transaction costs (decision 0005).
Which database it is (`sqlite.py`, `postgres.py`) nobody outside this package knows.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import schema
from pyopenshell.gateway.store.schema import GLOBAL_SCOPE, forget_sandbox
from pyopenshell.gateway.store.sqlite import MEMORY, SqliteBackend

if TYPE_CHECKING:
    from pyopenshell.gateway.store.postgres import PostgresBackend

__all__ = ["GLOBAL_SCOPE", "HEAD", "Store", "backend_of", "forget_sandbox", "migrate", "schema", "storage_errors"]

HEAD = "0007"
"""The schema version this code reads and writes. A test holds it equal to the newest migration."""

T = TypeVar("T")

_TOGETHER: Final = 64
_TOGETHER_SECONDS: Final = 0.02
"""So many transactions, begun within so long, share one commit at most: the first of them waits for the last."""


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """One transaction that waits for its turn."""

    fn: Callable[[sa.Connection], Any]
    future: asyncio.Future[Any]
    after: list[Callable[[], None]] = dataclasses.field(default_factory=list)


_Done = tuple[_Job, Callable[[asyncio.Future[Any]], None]]


def sqlite_path(url: str) -> str:
    """The file of `sqlite:<path>`, `sqlite:///<path>` or `sqlite::memory:`. Raises ValueError for anything else."""
    scheme, colon, rest = url.partition(":")
    if scheme != "sqlite" or not colon or not rest:
        raise ValueError(f"unsupported database url scheme '{scheme}': use sqlite:<path> or postgresql://...")
    if rest.startswith("///"):
        rest = rest[2:]
    if rest in (f"/{MEMORY}", MEMORY):
        return MEMORY
    return rest


def backend_of(url: str) -> SqliteBackend | PostgresBackend:
    """What `url` means: `sqlite:<path>`, `postgresql://...` or `postgres://...`. Raises ValueError."""
    if url.partition(":")[0] in ("postgresql", "postgres"):
        from pyopenshell.gateway.store.postgres import PostgresBackend  # 60 ms that an embedded gateway does not pay

        return PostgresBackend(url)
    return SqliteBackend(sqlite_path(url))


class Store:
    """One database. `await open()` before anything else; every call from the event loop that opened it.

    `bus` hears what transactions announce.
    """

    def __init__(self, url: str, bus: Bus | None = None) -> None:
        self._backend = backend_of(url)
        self.bus = bus if bus is not None else Bus()
        # One thread: there is one writer anyway, and a single queue gives every commit a place in one order.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "store")
        self._engine = self._backend.engine()
        self._waiting: collections.deque[_Job] = collections.deque()
        self._after: list[Callable[[], None]] = []
        self._announced: list[tuple[str, Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Store {self._backend!r}>"

    @property
    def shared(self) -> bool:
        """Whether other gateways may work on the same database."""
        return self._backend.shared

    async def open(self) -> None:
        """Create or migrate the database. Raises GatewayError when it cannot be used."""
        self._loop = asyncio.get_running_loop()
        await self._submit(self._prepare)
        if not isinstance(self._backend, SqliteBackend):
            self._listening = await self._backend.listen(self.bus)

    async def close(self) -> None:
        """Waits for transactions already handed in. Idempotent."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None
        with contextlib.suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=True)

    async def run(self, fn: Callable[[sa.Connection], T]) -> T:
        """`fn(tx)` as one transaction. Whatever `fn` raises rolls everything back and is raised here.

        A caller that is cancelled while it waits does not undo the transaction: it commits and its `after_commit`
        callbacks run. Raises GatewayError UNAVAILABLE when the database itself fails (disk full, file gone).
        """
        loop = self._on_loop()
        job = _Job(fn, loop.create_future())
        self._waiting.append(job)
        self._thread.submit(self._work)
        result: T = await asyncio.shield(job.future)
        return result

    def after_commit(self, callback: Callable[[], None]) -> None:
        """From inside `fn`: call this on the event loop after the commit, before `run` returns; never if it fails.

        Callbacks of all transactions run in commit order. For what only this process must know; what others must hear
        of is announced.
        """
        self._after.append(callback)

    def announce(self, topic: str, payload: Any = None) -> None:
        """From inside `fn`: publish on the bus of every gateway of this database after the commit, in commit order."""
        self._announced.append((topic, payload))

    async def _submit(self, call: Callable[[], T]) -> T:
        self._on_loop()
        return await asyncio.wrap_future(self._thread.submit(call))

    def _on_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            raise RuntimeError("the store was not opened on this event loop")
        return loop

    # ---- on the store's thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Take what waits, commit it, and only then tell anybody."""
        if not self._waiting:
            return  # an earlier turn took it along
        done = [self._alone(self._waiting.popleft())] if len(self._waiting) == 1 else self._together()
        assert self._loop is not None
        for job, outcome in done:
            for callback in job.after:
                self._loop.call_soon_threadsafe(callback)
            outcome(job.future)

    def _alone(self, job: _Job) -> _Done:
        try:
            with storage_errors(), self._engine.begin() as tx:
                result = self._one(tx, job)
        except BaseException as error:  # noqa: BLE001 - raised where `run` was called
            job.after.clear()
            return job, functools.partial(_set_exception, error=error)
        return job, functools.partial(_set_result, result=result)

    def _together(self) -> list[_Done]:
        done: list[_Done] = []
        taken: list[_Job] = []
        until = time.monotonic() + _TOGETHER_SECONDS
        try:
            with storage_errors(), self._engine.begin() as tx:
                while self._waiting and len(taken) < _TOGETHER and time.monotonic() < until:
                    job = self._waiting.popleft()
                    taken.append(job)
                    try:
                        with tx.begin_nested():
                            result = self._one(tx, job)
                    except sa.exc.DatabaseError as error:
                        if not isinstance(error, sa.exc.IntegrityError):
                            raise  # the database may have given up the others' work as well: nobody's counts
                        job.after.clear()
                        done.append((job, functools.partial(_set_exception, error=error)))
                    except BaseException as error:  # noqa: BLE001 - raised where `run` was called
                        job.after.clear()
                        done.append((job, functools.partial(_set_exception, error=error)))
                    else:
                        done.append((job, functools.partial(_set_result, result=result)))
        except BaseException as error:  # noqa: BLE001 - raised where `run` was called
            for job in taken:
                job.after.clear()
            if not self.shared and isinstance(error, GatewayError):
                # A full disk refuses who writes; who only reads, or makes room, must not fail with them. All of it was
                # rolled back: only for a server that went away during the commit nobody could know that.
                return [self._alone(job) for job in taken]
            return [(job, functools.partial(_set_exception, error=error)) for job in taken]
        return done

    def _one(self, tx: sa.Connection, job: _Job) -> Any:
        self._after, self._announced = job.after, []
        result = job.fn(tx)
        for topic, payload in self._announced:
            if isinstance(self._backend, SqliteBackend):
                job.after.append(functools.partial(self.bus.publish, topic, payload))
            else:
                self._backend.announce(tx, topic, payload)
        return result

    def _prepare(self) -> None:
        self._backend.prepare()
        with storage_errors(), self._engine.begin() as tx:
            migrate(tx)


def migrate(tx: sa.Connection) -> None:
    """Bring the tables to `HEAD`. Raises GatewayError for a database of a newer version."""
    present = sa.inspect(tx).has_table("alembic_version") and tx.scalar(
        sa.text("SELECT version_num FROM alembic_version")
    )
    if present == HEAD:
        return
    # Imported only when there is something to do: it costs more than the rest of a gateway start.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = tx
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise GatewayError(
            "FAILED_PRECONDITION",
            f"the database has schema version '{present}', which this version of openshell does not know; "
            "use the version that wrote it",
            "SCHEMA_UNKNOWN",
        ) from error


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Failures of the database itself, as opposed to a rule it enforced for us, are the operator's to repair."""
    try:
        yield
    except sa.exc.OperationalError as error:
        raise _failed(error) from error
    except sa.exc.DatabaseError as error:
        if isinstance(error, sa.exc.IntegrityError):
            raise
        raise _failed(error) from error


_FIXES: Final = {
    "disk is full": "free disk space in the gateway's state directory, for example with: openshell sandbox delete",
    "readonly database": "make the gateway's state directory writable for the user who runs it",
}


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    _settle(future, lambda: future.set_result(result))


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    def fail() -> None:
        future.set_exception(error)
        future.exception()  # a caller that was cancelled does not come for it

    _settle(future, fail)


def _settle(future: asyncio.Future[Any], step: Callable[[], None]) -> None:
    """On the future's event loop, in the order of the calls."""
    future.get_loop().call_soon_threadsafe(lambda: None if future.done() else step())


def _failed(error: sa.exc.DatabaseError) -> GatewayError:
    # The first line says what failed; PostgreSQL's further ones may repeat values.
    reason = (str(error.orig).splitlines() or [type(error.orig).__name__])[0][:300]
    fix = next((f"\n{text}" for sign, text in _FIXES.items() if sign in reason), "")
    return GatewayError("UNAVAILABLE", f"the gateway's database failed: {reason}{fix}", "STORE_FAILED")
