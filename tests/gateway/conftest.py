"""Everything that decides runs over both databases: SQLite always, PostgreSQL in `make test-clients`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.sqlite import SqliteBackend

from . import core, plans
from .cluster import Cluster, running

_OVER_BOTH = frozenset(
    f"tests.gateway.{name}"
    for name in (
        "test_inbox",
        "test_inbox_bulk",
        "test_inbox_races",
        "test_leases",
        "test_logs",
        "test_overview",
        "test_revisions",
        "test_settings",
        "test_snapshots",
        "test_store_contract",
    )
)
_TEMPLATE = "openshell_template"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in _OVER_BOTH:
        metafunc.fixturenames.append("database")
        backends = [
            "sqlite",
            pytest.param("postgresql", marks=(pytest.mark.heavy, pytest.mark.xdist_group("postgresql"))),
        ]
        metafunc.parametrize("database", backends, indirect=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server for all tests of this process, with a database that is migrated already to copy from."""
    with running() as server:
        server.execute(f"CREATE DATABASE {_TEMPLATE}")
        with concurrent.futures.ThreadPoolExecutor(1) as aside:  # a test that asks for us may have an event loop
            aside.submit(lambda: asyncio.run(_migrate(server.url(_TEMPLATE)))).result()
        yield server


@pytest.fixture
def postgres(cluster: Cluster) -> str:
    """The URL of an empty, migrated database."""
    return cluster.fresh(_TEMPLATE)


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which database `core.opened` opens in this test."""
    kind: str = request.param
    if kind == "postgresql":
        server: Cluster = request.getfixturevalue("cluster")
        made: dict[str, str] = {}

        def url_of(path: object) -> str:
            if str(path) not in made:
                made[str(path)] = server.fresh(_TEMPLATE)
            return made[str(path)]

        monkeypatch.setattr(core, "url_of", url_of)
    return kind


async def _migrate(url: str) -> None:
    store = Store(url)
    await store.open()
    await store.close()


# ---- every query of every test here has an index ---------------------------------------------------------------------

_WALKED: dict[str, list[str]] = {}
"""Statements looked at before, and what each would walk through."""


@pytest.fixture(autouse=True)
def _indexed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test whose gateway asked SQLite to walk through a table that grows."""
    asked: dict[str, None] = {}
    make = SqliteBackend.engine

    def engine(backend: SqliteBackend) -> sa.Engine:
        made = make(backend)

        @sa.event.listens_for(made, "before_cursor_execute")
        def _(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            asked[statement] = None

        return made

    monkeypatch.setattr(SqliteBackend, "engine", engine)
    yield
    if getattr(request.module, "READS_EVERYTHING", False):
        return
    for statement in asked:
        if statement not in _WALKED:
            _WALKED[statement] = plans.walked(statement)
    bad = [f"{step}: {statement}" for statement in asked for step in _WALKED[statement]]
    assert not bad, "\n".join(bad)
