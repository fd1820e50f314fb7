"""A backup is one moment of a gateway that goes on working, and brings either database back to it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.backup import backup, restore
from pyopenshell.gateway.store.schema import chunk_events, meta, metadata

from . import core as core_module
from .agreement import agree
from .cluster import Cluster
from .core import Core, opened, policy, raw, rest

READS_EVERYTHING = True  # whole tables: that is what a backup is (conftest)
MOVES = [
    ("sqlite", "sqlite"),
    pytest.param("sqlite", "postgresql", marks=pytest.mark.heavy),
    pytest.param("postgresql", "sqlite", marks=pytest.mark.heavy),
    pytest.param("postgresql", "postgresql", marks=pytest.mark.heavy),
]


def url_for(kind: str, place: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:{place}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.fresh()


async def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    def read(tx: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: sorted((tuple(row) for row in tx.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }

    return await store.run(read)


async def filled(core: Core) -> str:
    box = await core.sandbox("box", policy(rest("base.example.com", "GET /x")))
    a, b = await core.propose(box, rest("a.example.com", "GET /x"), raw("b.example.com"))
    await core.approve(box, a)
    await core.inbox.reject(box, b, "no\x00\x1a", "mtls:CN=alice")
    await core.store.run(lambda tx: tx.execute(meta.insert().values(key="k", value="\x00")))
    return box


@pytest.mark.parametrize(("source", "target"), MOVES)
async def test_everything_comes_back_in_either_database_and_goes_on(
    tmp_path: Path, source: str, target: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"from": url_for(source, tmp_path / "a.db", request), "to": url_for(target, tmp_path / "b.db", request)}
    monkeypatch.setattr(core_module, "url_of", lambda path: urls[str(path)])
    async with opened(Path("from")) as core:
        box = await filled(core)
        file = tmp_path / "backup"
        assert await asyncio.to_thread(backup, urls["from"], file) > 0  # while it runs
        before = await everything(core.store)
        last = await core.store.run(lambda tx: tx.scalar(sa.select(sa.func.max(chunk_events.c.seq))))
        await core.propose(box, rest("later.example.com", "GET /x"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with opened(Path("to")) as core:
        await core.sandbox("what is there is replaced")
    kept = await asyncio.to_thread(restore, urls["to"], file)
    assert bool(kept) == (target == "sqlite")
    async with opened(Path("to")) as core:
        assert await everything(core.store) == before
        await agree_after(core, box, last)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


async def agree_after(core: Core, box: str, last: int | None) -> None:
    """It goes on from there, with numbers that were never used before."""
    (chunk_id,) = await core.propose(box, rest("after.example.com", "GET /x"))
    await core.approve(box, chunk_id)
    assert last is not None
    assert min(event.seq for event in await core.inbox.history(box) if event.chunk_id == chunk_id) > last
    (decided,) = [event for event in await core.inbox.history(box) if event.type == "rejected"]
    assert decided.reason == "no\x00\x1a"


async def test_a_backup_is_one_moment_whatever_happens_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        box = await core.sandbox("box", policy())
        running = True

        async def work() -> None:
            number = 0
            while running:
                number += 1
                core.clock.now += 10_000
                (chunk_id,) = await core.propose(box, rest(f"h{number}.example.com", "GET /x"))
                await core.approve(box, chunk_id)

        working = asyncio.create_task(work())
        files = [tmp_path / f"backup{number}" for number in range(5)]
        for file in files:
            await asyncio.to_thread(backup, f"sqlite:{tmp_path / 'a.db'}", file)
        running = False
        await working
    for file in files:
        async with opened(file) as core:
            await agree(core, box)


def test_what_is_no_backup_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    target, url = tmp_path / "a.db", f"sqlite:{tmp_path / 'a.db'}"
    with pytest.raises(GatewayError, match="no database at"):
        backup(url, tmp_path / "none")
    asyncio.run(_made(url))
    good = tmp_path / "good"
    backup(url, good)
    with pytest.raises(GatewayError, match="is there already"):
        backup(url, good)
    backup(url, good, replace=True)
    before = target.read_bytes()
    text, torn, newer = tmp_path / "text", tmp_path / "torn", tmp_path / "newer"
    text.write_text("x" * 5000)
    torn.write_bytes(good.read_bytes()[:-8192])
    newer.write_bytes(good.read_bytes())
    raw_file = sqlite3.connect(newer)
    raw_file.execute("UPDATE alembic_version SET version_num = '9999'")
    raw_file.commit()
    raw_file.close()
    for file, message in ((text, "not a backup"), (torn, "not a backup"), (newer, "newer version")):
        with pytest.raises(GatewayError, match=message):
            restore(url, file)
    assert target.read_bytes() == before


@pytest.mark.heavy
async def test_a_backup_of_an_earlier_release_goes_into_postgresql_while_no_gateway_uses_it(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old"
    with sqlite3.connect(file) as old:
        old.executescript((Path(__file__).parent / "data" / "schema_0003.sql").read_text("utf-8"))
    old.close()
    monkeypatch.setattr(core_module, "url_of", lambda path: postgres)
    async with opened(tmp_path) as core:
        await core.sandbox("other")
        with pytest.raises(GatewayError, match="a gateway uses this database"):
            await asyncio.to_thread(restore, postgres, file)
    await asyncio.to_thread(restore, postgres, file)
    async with opened(tmp_path) as core:
        assert len(await core.store.run(lambda tx: tx.execute(sa.text("SELECT id FROM draft_chunks")).all())) == 4


async def _made(url: str) -> None:
    store = Store(url)
    await store.open()
    await store.close()
