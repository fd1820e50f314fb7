"""A whole database as one file, and back. The file is an SQLite database of the gateway's own schema.

So a backup of either database can be restored into either: this is also how a gateway moves to PostgreSQL. Taken from
one snapshot while gateways work; restored while none does.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import HEAD, backend_of, migrate, storage_errors
from pyopenshell.gateway.store.schema import metadata
from pyopenshell.gateway.store.sqlite import SqliteBackend

_ROWS: Final = 500
"""Rows in memory at a time."""
_GATEWAYS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name LIKE 'openshell-gateway %%'"
)


def backup(url: str, file: Path, *, replace: bool = False) -> int:
    """Write everything that `url` holds now into `file` (mode 0600). Returns the number of bytes.

    Raises GatewayError: the file is there already (unless `replace`), cannot be written, or the database fails.
    """
    if file.exists() and not replace:
        raise GatewayError("ALREADY_EXISTS", f"{file} is there already")
    backend = backend_of(url)
    with _beside(file) as partial, storage_errors():
        if isinstance(backend, SqliteBackend):
            if not Path(backend.path).is_file():
                raise GatewayError("NOT_FOUND", f"there is no database at {backend.path} yet")
            with contextlib.closing(sqlite3.connect(f"file:{backend.path}?mode=ro", uri=True)) as source:
                try:
                    source.execute("VACUUM INTO ?", (str(partial),))
                except sqlite3.Error as error:
                    raise GatewayError("UNAVAILABLE", f"the backup cannot be written: {error}") from error
        else:
            engine = backend.engine()
            try:
                with engine.connect().execution_options(isolation_level="REPEATABLE READ") as source_tx:
                    _require_head(source_tx)
                    _fill(partial, source_tx)
            finally:
                engine.dispose()
    return file.stat().st_size


def restore(url: str, file: Path) -> str:
    """Make the database at `url` what `file` says. No gateway may use it meanwhile (the caller sees to SQLite's).

    Returns where what was there before is kept; "" for PostgreSQL, where one transaction replaces all rows or none.
    Raises GatewayError.
    """
    version = _checked(file)
    backend = backend_of(url)
    with storage_errors():
        if isinstance(backend, SqliteBackend):
            backend.prepare()
            path = Path(backend.path)
            with _beside(path, keep=True) as partial:
                _copy(file, partial)
                kept = path.with_name(f"{path.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
                with contextlib.closing(sqlite3.connect(path)) as old:
                    old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                os.replace(path, kept)  # noqa: PTH105
                for suffix in ("-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
            return str(kept)
        with _beside(file.with_name(f"{file.name}.upgraded"), keep=False) as partial:
            _copy(file, partial)
            if version != HEAD:
                _upgrade(partial)
            engine = backend.engine()
            try:
                with engine.begin() as tx:
                    if tx.exec_driver_sql(_GATEWAYS).scalar_one():
                        raise GatewayError(
                            "FAILED_PRECONDITION", "a gateway uses this database; stop all of them first"
                        )
                    migrate(tx)
                    _replace_rows(tx, partial)
            finally:
                engine.dispose()
    return ""


def _require_head(tx: sa.Connection) -> None:
    if not sa.inspect(tx).has_table("alembic_version"):
        raise GatewayError("NOT_FOUND", "no gateway has used this database yet")
    present = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if present != HEAD:
        raise GatewayError(
            "FAILED_PRECONDITION", f"the database has schema version '{present}', this openshell writes '{HEAD}'"
        )


def _checked(file: Path) -> str:
    """The schema version of a backup. Raises GatewayError for a file that is none, or of a newer version."""
    problem = f"{file} is not a backup of a gateway"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
            (sound,) = database.execute("PRAGMA integrity_check").fetchone()
            broken = database.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        raise GatewayError("INVALID_ARGUMENT", f"{problem}: {error}") from error
    if sound != "ok" or broken is not None:
        raise GatewayError("INVALID_ARGUMENT", f"{problem}: it is damaged")
    if not (isinstance(version, str) and version <= HEAD):
        raise GatewayError("FAILED_PRECONDITION", f"{file} was written by a newer version of openshell")
    return version


def _fill(file: Path, source: sa.Connection) -> None:
    engine = SqliteBackend(str(file)).engine()
    try:
        with engine.begin() as tx:
            migrate(tx)
            for table in metadata.sorted_tables:
                _copy_rows(source, tx, table)
                if (counter := _counter(table)) is not None:
                    query = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s, %s)::regclass), 0)"
                    last = source.exec_driver_sql(query, (table.name, counter)).scalar_one()
                    tx.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
                    tx.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (table.name, last))
    finally:
        engine.dispose()
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # one file, whole


def _replace_rows(tx: sa.Connection, file: Path) -> None:
    engine = SqliteBackend(str(file)).engine()
    try:
        with engine.begin() as source:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())
            for table in metadata.sorted_tables:
                _copy_rows(source, tx, table)
                if (counter := _counter(table)) is not None:
                    last = source.exec_driver_sql(
                        "SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)
                    ).scalar()
                    if last:
                        tx.exec_driver_sql(
                            "SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (table.name, counter, last)
                        )
    finally:
        engine.dispose()


def _copy_rows(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
    found = source.execution_options(yield_per=_ROWS).execute(sa.select(table))
    for rows in found.mappings().partitions(_ROWS):
        target.execute(table.insert(), [dict(row) for row in rows])


def _counter(table: sa.Table) -> str | None:
    column = table.autoincrement_column
    return column.name if column is not None and table.dialect_options["sqlite"]["autoincrement"] else None


def _upgrade(file: Path) -> None:
    engine = SqliteBackend(str(file)).engine()
    try:
        with engine.begin() as tx:
            migrate(tx)
    finally:
        engine.dispose()


def _copy(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database:
        database.execute("VACUUM INTO ?", (str(target),))


@contextlib.contextmanager
def _beside(file: Path, *, keep: bool = True) -> Iterator[Path]:
    """A private path next to `file` that becomes `file` at the end, whole and on the disk, or goes away."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    mask = os.umask(0o077)
    try:
        yield partial
        if keep:
            _to_disk(partial)
            os.replace(partial, file)  # noqa: PTH105
            _to_disk(file.parent)
    except OSError as error:
        raise GatewayError("UNAVAILABLE", f"{file} cannot be written: {error.strerror}") from error
    finally:
        os.umask(mask)
        for suffix in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


__all__ = ["backup", "restore"]
