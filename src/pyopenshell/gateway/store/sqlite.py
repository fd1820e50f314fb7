"""The embedded backend: one SQLite file of one gateway, WAL, every commit on disk before it counts."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError

MEMORY: Final = ":memory:"
_BUSY_MS: Final = 5000


class SqliteBackend:
    """A file; what is announced is announced in this process alone."""

    shared: Final = False

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"sqlite:{self.path}"

    def prepare(self) -> None:
        """The database holds policies and settings of every sandbox: readable by its owner alone, from the first byte.

        Raises GatewayError UNAVAILABLE.
        """
        if self.path == MEMORY:
            return
        path = Path(self.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
        except OSError as error:
            raise GatewayError("UNAVAILABLE", f"cannot open the database {path}: {error.strerror}") from error

    def engine(self) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://",
            creator=lambda: sqlite3.connect(self.path, isolation_level=None, check_same_thread=False),
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
