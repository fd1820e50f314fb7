"""What only a shared database has: a server that goes away and comes back, other gateways, other people's texts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.notices import Notices, pack
from pyopenshell.gateway.store.postgres import CHANNEL
from pyopenshell.gateway.store.schema import meta
from pyopenshell.wire.gen import pyopenshell_pb2

from .cluster import Cluster, running

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
WAIT = 120


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server that the test may stop."""
    with running() as server:
        yield server


async def told(store: Store, topic: str) -> None:
    await store.run(lambda tx: store.announce(topic))


async def test_every_gateway_hears_and_a_foreign_notification_harms_nobody(postgres: str) -> None:
    one, two = Store(postgres), Store(postgres)
    await one.open()
    await two.open()
    with one.bus.subscribe("config:*", "inbox") as here, two.bus.subscribe("config:*", "inbox") as there:
        with psycopg.connect(postgres, autocommit=True) as other:
            for text in (
                "",
                "x",
                "k 1/1 inbox no.Such -",
                "k 1/x inbox - -",
                "k 2/2 inbox - QQ==",
                "k 1/1 inbox - \u20ac",
            ):
                other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, text))
        await told(two, "config:*")
        for heard in (here, there):
            assert (await asyncio.wait_for(anext(heard), WAIT)).topic == "config:*"
    await one.close()
    await two.close()


async def test_a_server_that_comes_back_is_used_again_and_readers_look_anew(own: Cluster) -> None:
    store = Store(own.fresh())
    await store.open()
    await store.run(lambda tx: tx.execute(meta.insert().values(key="before", value="x")))
    with store.bus.subscribe("inbox") as heard:
        await asyncio.to_thread(own.stop)
        with pytest.raises(GatewayError, match="database failed") as caught:
            await store.run(lambda tx: tx.scalar(sa.select(meta.c.key)))
        assert caught.value.code == "UNAVAILABLE"
        await asyncio.to_thread(own.start)
        assert await store.run(lambda tx: tx.scalar(sa.select(meta.c.key))) == "before"
        assert (await asyncio.wait_for(anext(heard), WAIT)).dropped == 1
        await told(store, "inbox")
        assert await asyncio.wait_for(anext(heard), WAIT)
    await store.close()


async def test_no_server_is_said_in_one_line_without_the_password(own: Cluster) -> None:
    url = own.url("postgres").replace("?", "?password=hunter2&")
    own.stop()
    store = Store(url)
    assert "hunter2" not in repr(store)
    with pytest.raises(GatewayError) as caught:
        await store.open()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STORE_FAILED")
    assert "hunter2" not in caught.value.message
    assert "\n" not in caught.value.message
    await store.close()
    own.start()


async def test_a_server_wide_default_does_not_take_durability_back(postgres: str, cluster: Cluster) -> None:
    name = postgres.removeprefix("postgresql:///").partition("?")[0]
    cluster.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = Store(postgres)
    await store.open()
    assert await store.run(lambda tx: tx.exec_driver_sql("SHOW synchronous_commit").scalar()) == "on"
    await store.close()


async def test_a_gateway_that_froze_in_a_decision_does_not_hold_the_others(postgres: str) -> None:
    """The server ends a transaction that goes on doing nothing, and the lock with it."""
    store = Store(postgres)
    await store.open()
    with contextlib.closing(psycopg.connect(postgres)) as frozen:
        frozen.execute("SET idle_in_transaction_session_timeout = '200ms'")
        frozen.commit()
        lock = await store.run(
            lambda tx: tx.exec_driver_sql(
                "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
            ).scalar_one()
        )
        frozen.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        assert await store.run(lambda tx: tx.scalar(sa.select(sa.literal(1)))) == 1
    idle = await store.run(lambda tx: tx.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar())
    assert idle == "30s"
    await store.close()


@pytest.mark.parametrize("url", ["postgresql://[", "postgres://h/d?no_such_word=1"])
def test_a_url_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="database url cannot be read"):
        Store(url)


def test_parts_of_several_announcements_may_be_mixed() -> None:
    event = pyopenshell_pb2.InboxEvent(sandbox_name="x" * 20_000)
    first, second = pack("inbox", event), pack("inbox", event)
    assert len(first) == 4
    assert max(map(len, first)) < 8000
    notices = Notices()
    found = [one for pair in zip(first, second, strict=True) for text in pair for one in notices.feed(text)]
    assert found == [("inbox", event), ("inbox", event)]


def test_parts_that_were_lost_give_nothing() -> None:
    texts = pack("inbox", pyopenshell_pb2.InboxEvent(sandbox_name="x" * 20_000))
    notices = Notices()
    assert [one for text in texts[1:] for one in notices.feed(text)] == []
    with pytest.raises(TypeError):
        pack("inbox", pyopenshell_pb2.Lease())
