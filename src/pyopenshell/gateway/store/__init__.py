"""Where the gateway keeps what it decided: SQL transactions, one at a time, on one worker thread.

Decides nothing. `Store.run(fn)` is the only door: `fn` gets a connection inside one transaction and either all of it
is on disk when `run` returns, or none of it ever is. No `await` can happen inside, so no decision is ever half taken.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import schema
from pyopenshell.gateway.store.schema import GLOBAL_SCOPE, forget_sandbox

__all__ = ["GLOBAL_SCOPE", "HEAD", "Store", "forget_sandbox", "schema"]

HEAD = "0005"
"""The schema version this code reads and writes. A test holds it equal to the newest migration."""

_BUSY_MS = 5000

T = TypeVar("T")


def sqlite_path(url: str) -> str:
    """The file of `sqlite:<path>`, `sqlite:///<path>` or `sqlite::memory:`. Raises ValueError for anything else."""
    scheme, colon, rest = url.partition(":")
    if scheme != "sqlite" or not colon or not rest:
        raise ValueError(f"unsupported database url scheme '{scheme}': use sqlite:<path>")
    if rest.startswith("///"):
        rest = rest[2:]
    if rest in ("/:memory:", ":memory:"):
        return ":memory:"
    return rest


class Store:
    """One database. `await open()` before anything else; every call from the event loop that opened it."""

    def __init__(self, url: str) -> None:
        self.path = sqlite_path(url)
        # One thread: SQLite has one writer anyway, and a single queue gives every commit a place in one order.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "store")
        self._engine = _engine(self.path)
        self._after: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Store sqlite:{self.path}>"

    async def open(self) -> None:
        """Create or migrate the database. Raises GatewayError when it cannot be used."""
        self._loop = asyncio.get_running_loop()
        await self._submit(self._prepare)

    async def close(self) -> None:
        """Waits for transactions already handed in. Idempotent."""
        with contextlib.suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=True)

    async def run(self, fn: Callable[[sa.Connection], T]) -> T:
        """`fn(tx)` as one transaction. Whatever `fn` raises rolls everything back and is raised here.

        A caller that is cancelled while it waits does not undo the transaction: it commits and its `after_commit`
        callbacks run. Raises GatewayError UNAVAILABLE when the database itself fails (disk full, file gone).
        """
        return await self._submit(functools.partial(self._transaction, fn))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """From inside `fn`: call this on the event loop after the commit, before `run` returns; never if it fails.

        Callbacks of all transactions run in commit order.
        """
        self._after.append(callback)

    async def _submit(self, call: Callable[[], T]) -> T:
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("the store was not opened on this event loop")
        return await asyncio.wrap_future(self._thread.submit(call))

    def _transaction(self, fn: Callable[[sa.Connection], T]) -> T:
        self._after = []
        with _storage_errors(), self._engine.begin() as tx:
            result = fn(tx)
        assert self._loop is not None
        for callback in self._after:
            self._loop.call_soon_threadsafe(callback)
        return result

    def _prepare(self) -> None:
        if self.path != ":memory:":
            _private_file(Path(self.path))
        with _storage_errors(), self._engine.begin() as tx:
            _migrate(tx)


def _private_file(path: Path) -> None:
    """The database holds policies and settings of every sandbox: readable by its owner alone, from the first byte."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise GatewayError("UNAVAILABLE", f"cannot open the database {path}: {error.strerror}") from error


def _engine(path: str) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(path, isolation_level=None, check_same_thread=False),
        poolclass=sa.pool.StaticPool,
    )

    @sa.event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        # IMMEDIATE: what a transaction read stays true until it commits, whoever else has the file open.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _migrate(tx: sa.Connection) -> None:
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
def _storage_errors() -> Iterator[None]:
    """Failures of the database itself, as opposed to a rule it enforced for us, are the operator's to repair."""
    try:
        yield
    except sa.exc.OperationalError as error:
        raise GatewayError("UNAVAILABLE", f"the gateway's database failed: {error.orig}", "STORE_FAILED") from error
    except sa.exc.DatabaseError as error:
        if isinstance(error, sa.exc.IntegrityError):
            raise
        raise GatewayError("UNAVAILABLE", f"the gateway's database failed: {error.orig}", "STORE_FAILED") from error
