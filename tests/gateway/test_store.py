"""The store: whole transactions or none, also under SIGKILL; private files; migrations."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from pyopenshell.gateway import store as store_package
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.store import HEAD, Store, forget_sandbox, schema, sqlite_path
from pyopenshell.gateway.store.schema import draft_chunks, log_lines, meta, metadata, policies, sandboxes, settings
from pyopenshell.wire.gen import openshell_pb2

from .core import opened, raw, rest


def put(key: str, value: str = "x") -> sa.Insert:
    return meta.insert().values(key=key, value=value)


async def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:{tmp_path / 'a.db'}")
    await store.open()

    def fails(tx: sa.Connection) -> None:
        tx.execute(put("half"))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await store.run(fails)
    assert await store.run(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(meta))) == 0
    await store.run(lambda tx: tx.execute(put("whole")))
    await store.close()
    with sqlite3.connect(tmp_path / "a.db") as raw:
        assert raw.execute("SELECT key FROM meta").fetchall() == [("whole",)]
    raw.close()


async def test_callbacks_run_after_the_commit_before_run_returns_in_commit_order(tmp_path: Path) -> None:
    store = Store(f"sqlite:{tmp_path / 'a.db'}")
    await store.open()
    seen: list[int] = []

    def write(number: int, *, fail: bool = False) -> Callable[[sa.Connection], None]:
        def fn(tx: sa.Connection) -> None:
            store.after_commit(lambda: seen.append(number))
            if fail:
                raise ValueError

        return fn

    await store.run(write(1))
    assert seen == [1]
    with pytest.raises(ValueError):
        await store.run(write(2, fail=True))
    await asyncio.gather(*(store.run(write(number)) for number in range(3, 40)))
    assert seen == [1, *range(3, 40)]
    await store.close()


async def test_a_cancelled_caller_does_not_undo_or_silence_a_transaction(tmp_path: Path) -> None:
    store = Store(f"sqlite:{tmp_path / 'a.db'}")
    await store.open()
    entered, told = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    go = threading.Event()

    def slow(tx: sa.Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        go.wait(10)
        tx.execute(put("kept"))
        store.after_commit(told.set)

    task = asyncio.create_task(store.run(slow))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.wait_for(told.wait(), 10)
    assert await store.run(lambda tx: tx.scalar(sa.select(meta.c.key))) == "kept"
    await store.close()


async def test_files_are_private_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "state" / "gateway" / "a.db"
    store = Store(f"sqlite:{path}")
    await store.open()
    await store.run(lambda tx: tx.execute(put("x")))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    for name, expected in pragmas.items():
        value = await store.run(lambda tx, name=name: tx.exec_driver_sql(f"PRAGMA {name}").scalar())  # type: ignore[misc]
        assert value == expected
    await store.close()


async def test_a_world_readable_database_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o644)
    path.chmod(0o644)
    store = Store(f"sqlite:{path}")
    await store.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:/a/b.db", "/a/b.db"),
        ("sqlite:///a/b.db", "/a/b.db"),
        ("sqlite:b.db", "b.db"),
        ("sqlite::memory:", ":memory:"),
    ],
)
def test_urls(url: str, path: str) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize("url", ["", "sqlite:", "/a/b.db", "mysql://h/d", "sqlite+aiosqlite:/x"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="unsupported database url"):
        Store(url)


async def test_an_unusable_place_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(f"sqlite:{tmp_path / 'file' / 'a.db'}")
    with pytest.raises(GatewayError, match="cannot open the database") as caught:
        await store.open()
    assert caught.value.code == "UNAVAILABLE"
    await store.close()


async def test_a_broken_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, it only has the length of one" * 100)
    store = Store(f"sqlite:{path}")
    with pytest.raises(GatewayError, match="database failed") as caught:
        await store.open()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STORE_FAILED")
    await store.close()


# ---- migrations ------------------------------------------------------------------------------------------------------


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(store_package.__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)


def test_head_is_the_newest_migration() -> None:
    assert _script().get_heads() == [HEAD]


async def test_migrations_build_exactly_the_schema(tmp_path: Path) -> None:
    store = Store(f"sqlite:{tmp_path / 'a.db'}")
    await store.open()

    indexes = sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :name AND sql IS NOT NULL")

    def shape(tx: sa.Connection) -> dict[str, object]:
        seen = sa.inspect(tx)
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in seen.get_columns(name)],
                seen.get_pk_constraint(name),
                sorted(tx.scalars(indexes, {"name": name})),
                sorted(seen.get_foreign_keys(name), key=str),
                sorted(seen.get_unique_constraints(name), key=str),
            )
            for name in seen.get_table_names()
            if name != "alembic_version"
        }

    fresh = sa.create_engine("sqlite://")
    with fresh.begin() as tx:
        metadata.create_all(tx)
        expected = shape(tx)
    fresh.dispose()
    found = await store.run(shape)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name]
    await store.close()


async def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    for round_number in range(2):
        store = Store(f"sqlite:{tmp_path / 'a.db'}")
        await store.open()
        assert await store.run(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(meta))) == round_number
        await store.run(lambda tx, n=round_number: tx.execute(put(str(n))))  # type: ignore[misc]
        await store.close()


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = Store(f"sqlite:{path}")
    await store.open()
    await store.run(lambda tx: tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    await store.close()
    again = Store(f"sqlite:{path}")
    with pytest.raises(GatewayError, match="'9999'") as caught:
        await again.open()
    assert caught.value.reason == "SCHEMA_UNKNOWN"
    await again.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    raw.close()


async def test_a_database_of_an_earlier_release_is_taken_up_whole(tmp_path: Path) -> None:
    """Written by the release with schema 0003: a sandbox with an approval, one for a day, a rejection, an observation
    and refused requests. All of it is there, and all of it goes on."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as raw_file:
        raw_file.executescript((Path(__file__).parent / "data" / "schema_0003.sql").read_text("utf-8"))
    raw_file.close()
    async with opened(path) as core:
        box = str(await core.scalar(sa.select(sandboxes.c.id)))
        by_host = {
            one.proposed_rule.endpoints[0].host: one for one in (await core.inbox.list(box, bodies=False)).chunks
        }
        assert {host: one.status for host, one in by_host.items()} == {
            "a.example.com": "approved",
            "b.example.com": "rejected",
            "c.example.com": "approved",
            "seen.example.com": "pending",
        }
        assert by_host["b.example.com"].rejection_reason == "no\nnot this"
        assert [rule.endpoints[0].host for rule in (await core.base(box)).rules] == [
            "a.example.com",
            "base.example.com",
            "c.example.com",
        ]
        denials = {(one.method, one.path): one.count for one in await core.inbox.observed(box)}
        assert denials == {("PUT", "/p"): 2, ("GET", "/q"): 5}
        # The same again counts on the rows that were there.
        summary = openshell_pb2.DenialSummary(host="api.example.com", port=443, binary="/usr/bin/curl")
        summary.l7_inspection_active, summary.deny_reason = True, "[policy:r] [denial:d-2] no rule allows it"
        summary.l7_request_samples.add(method="PUT", path="/p", count=1)
        await core.inbox.submit(box, openshell_pb2.SubmitPolicyAnalysisRequest(summaries=[summary]))
        assert {(one.method, one.path): one.count for one in await core.inbox.observed(box)}["PUT", "/p"] == 3
        # An agent's proposal still replaces the observation of the same destination, an approval can still be undone.
        await core.propose(box, raw("seen.example.com"))
        assert (await core.chunk(box, by_host["seen.example.com"].id)).status == "rejected"
        await core.inbox.undo(box, by_host["a.example.com"].id, "mtls:CN=alice")
        assert "a.example.com" not in {rule.endpoints[0].host for rule in (await core.base(box)).rules}


async def test_hot_queries_use_an_index(tmp_path: Path) -> None:
    """Weakness 23-26 of the reference: nothing that runs per call may scan a table."""
    store = Store(f"sqlite:{tmp_path / 'a.db'}")
    await store.open()
    queries = [
        sa.select(draft_chunks).where(draft_chunks.c.id == "x"),
        sa.select(draft_chunks).where(draft_chunks.c.sandbox_id == "x").order_by(draft_chunks.c.seq.desc()),
        sa.select(draft_chunks).where(draft_chunks.c.sandbox_id == "x", draft_chunks.c.dedup_key == "k"),
        sa.select(draft_chunks).where(draft_chunks.c.sandbox_id == "x", draft_chunks.c.status == "pending"),
        sa.select(draft_chunks).where(draft_chunks.c.status == "pending").order_by(draft_chunks.c.seq.desc()),
        sa.select(schema.chunk_targets).where(
            schema.chunk_targets.c.sandbox_id == "x",
            schema.chunk_targets.c.key == "k",
        ),
        sa.select(policies).where(policies.c.scope == "x").order_by(policies.c.version.desc()).limit(1),
        sa.select(settings).where(settings.c.scope == "x", settings.c.key == "k"),
        sa.select(log_lines).where(log_lines.c.sandbox_id == "x").order_by(log_lines.c.seq.desc()).limit(5),
        sa.select(sandboxes).where(
            sandboxes.c.workspace == "w", sandboxes.c.name == "n", sandboxes.c.deleted_ms.is_(None)
        ),
        sa.select(schema.chunk_events)
        .where(schema.chunk_events.c.sandbox_id == "x")
        .order_by(schema.chunk_events.c.seq),
    ]

    def plans(tx: sa.Connection) -> list[str]:
        found = []
        for query in queries:
            text = str(query.compile(tx.engine, compile_kwargs={"literal_binds": True}))
            found += [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        return found

    for plan in await store.run(plans):
        assert not plan.startswith("SCAN"), plan
        assert "TEMP B-TREE" not in plan
    await store.close()


async def test_forgetting_a_sandbox_takes_everything_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        gone, stays = await core.sandbox("gone"), await core.sandbox("stays")
        for sandbox_id in (gone, stays):
            (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
            await core.approve(sandbox_id, chunk_id)

        def counts(tx: sa.Connection, sandbox_id: str) -> list[int]:
            found = []
            for table in metadata.sorted_tables:
                column = next((table.c[name] for name in ("sandbox_id", "scope") if name in table.c), None)
                if column is not None:
                    query = sa.select(sa.func.count()).select_from(table).where(column == sandbox_id)
                    found.append(tx.scalar(query) or 0)
            return found

        before = await core.store.run(lambda tx: counts(tx, stays))
        assert sum(before) >= 8
        await core.store.run(lambda tx: forget_sandbox(tx, gone))
        assert sum(await core.store.run(lambda tx: counts(tx, gone))) == 0
        assert await core.store.run(lambda tx: counts(tx, stays)) == before


# ---- SIGKILL ---------------------------------------------------------------------------------------------------------

_VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.gateway.core import opened, rest

async def main(path, point):
    async with opened(Path(path)) as core:
        sandbox_id = await core.sandbox()
        print(sandbox_id, flush=True)
        real, steps = core.store._engine, 0
        import sqlalchemy as sa

        @sa.event.listens_for(real, "after_cursor_execute")
        def count(connection, cursor, statement, *rest):
            nonlocal steps
            if armed and not statement.startswith(("SELECT", "BEGIN")):
                steps += 1
                if steps == point:
                    print("now", flush=True)
                    sys.stdin.read()  # held in the middle of the transaction until killed
        armed = False
        (chunk_id,) = await core.propose(sandbox_id, rest("a.example.com", "GET /x"))
        armed = True
        await core.approve(sandbox_id, chunk_id)
        print("done", flush=True)
        sys.stdin.read()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("point", [*range(1, 12), 1000])
async def test_sigkill_inside_a_decision_leaves_all_of_it_or_nothing(tmp_path: Path, point: int) -> None:
    """Held after the n-th write of an approval, then killed: the ledger, the policy and the history still agree."""
    path = tmp_path / "a.db"
    root = Path(__file__).parents[2]
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(path), str(point)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")]),
        },
    )
    try:
        assert victim.stdout is not None
        sandbox_id = victim.stdout.readline().strip()
        word = victim.stdout.readline().strip()
        assert word in ("now", "done")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    async with opened(path) as core:
        (chunk,) = (await core.inbox.list(sandbox_id, bodies=False)).chunks
        rules = (await core.base(sandbox_id)).rules
        kinds = [event.type for event in await core.inbox.history(sandbox_id)]
        lines = await core.scalar(sa.select(sa.func.count()).select_from(log_lines))
        if word == "now":
            assert (chunk.status, rules, kinds, lines) == ("pending", (), ["proposed"], 0)
            # And the decision can simply be taken again.
            await core.approve(sandbox_id, chunk.id)
            (chunk,) = (await core.inbox.list(sandbox_id, bodies=False)).chunks
            rules = (await core.base(sandbox_id)).rules
            kinds = [event.type for event in await core.inbox.history(sandbox_id)]
        assert chunk.status == "approved"
        assert [rule.endpoints[0].host for rule in rules] == ["a.example.com"]
        assert kinds == ["proposed", "approved"]
