"""The shared backend: one PostgreSQL database of several gateways, with LISTEN/NOTIFY between them.

Imported only by a gateway whose database URL asks for it. One advisory lock, taken first in every transaction and
freed by the server with it, gives all replicas what SQLite's one writer gives an embedded gateway: what a transaction
read stays true until it commits, and commits, revisions and announcements have one order (decision 0013).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store.notices import Notices, pack

CHANNEL: Final = "openshell"
_LOCK: Final = 0x6F70656E7368656C  # "openshel": any number that nothing else in this database uses
_CONNECT_SECONDS: Final = 10
_LOCK_WAIT: Final = "15s"
"""A gateway that cannot get its turn says so instead of hanging."""
_IDLE_IN_TRANSACTION: Final = "30s"
"""A gateway that stopped in the middle of a decision (suspended, cut off) must not stop the others for ever."""
_RETRY_FIRST, _RETRY_LAST = 0.1, 5.0  # seconds between attempts to listen again
_OLDEST: Final = 130000

_log = logging.getLogger(__name__)


class PostgresBackend:
    """A database by libpq URL (docs/gateway.md). The URL may hold a password: it is never shown."""

    shared: Final = True

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that libpq cannot read."""
        self._url = url
        try:
            self._parts = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error as error:
            raise ValueError(f"the database url cannot be read: {str(error).splitlines()[0][:200]}") from None

    def __repr__(self) -> str:
        parts = self._parts
        return f"postgresql://{parts.get('host', '')}:{parts.get('port', '')}/{parts.get('dbname', '')}"

    def prepare(self) -> None:
        """Nothing to make: the operator made the database and said who may open it."""

    def engine(self) -> sa.Engine:
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=sa.pool.QueuePool,
            pool_size=1,
            max_overflow=1,
            pool_pre_ping=True,  # a server that was restarted costs one round trip, not one failed decision
        )

        @sa.event.listens_for(engine, "begin")
        def _(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

        return engine

    def announce(self, tx: sa.Connection, topic: str, payload: Any) -> None:
        """Tell every gateway, this one included, once `tx` has committed; in commit order."""
        for text in pack(topic, payload):
            tx.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, text))

    async def listen(self, bus: Bus) -> asyncio.Task[None]:
        """Publish on `bus` what any gateway announces from now on, until the task is cancelled.

        Raises GatewayError UNAVAILABLE when the first connection fails; later ones are tried again for ever, and
        whoever subscribed is told that it may have missed something.
        """
        try:
            connection = await self._listening()
        except psycopg.Error as error:
            raise _unavailable(error) from error
        task = asyncio.create_task(self._follow(bus, connection), name="announcements of the database")
        await asyncio.sleep(0)  # begun: from now on its end closes the connection, also when it is cancelled at once
        return task

    async def _follow(self, bus: Bus, connection: psycopg.AsyncConnection[Any]) -> None:
        pause = _RETRY_FIRST
        while True:
            try:
                notices = Notices()
                async with contextlib.aclosing(connection.notifies()) as arriving:
                    async for notice in arriving:
                        pause = _RETRY_FIRST
                        for topic, payload in notices.feed(notice.payload):
                            bus.publish(topic, payload)
            except psycopg.Error as error:
                _log.error("announcements of the database are interrupted: %s", _first_line(error))
            finally:
                with contextlib.suppress(psycopg.Error):
                    await connection.close()
            while True:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_LAST)
                try:
                    connection = await self._listening()
                except psycopg.Error as error:
                    _log.warning("the database cannot be listened to: %s", _first_line(error))
                else:
                    break
            bus.missed()

    async def _listening(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name=_name("announcements")
        )
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            await connection.close()
            raise
        return connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            self._url, connect_timeout=_CONNECT_SECONDS, application_name=_name("transactions"), autocommit=True
        )
        try:
            if connection.info.server_version < _OLDEST:
                raise GatewayError("FAILED_PRECONDITION", "the gateway needs PostgreSQL 13 or newer", "STORE_TOO_OLD")
            connection.execute(
                # Somebody's server-wide default must not take back that a decision is on disk when it is acknowledged.
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            )
            connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
            connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION}'")
            connection.execute("SET default_transaction_isolation = 'read committed'")
            connection.execute("SET client_encoding = 'UTF8'")
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection


def _name(what: str) -> str:
    return f"openshell-gateway {os.getpid()} {what}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _unavailable(error: psycopg.Error) -> GatewayError:
    return GatewayError("UNAVAILABLE", f"the gateway's database failed: {_first_line(error)}", "STORE_FAILED")
