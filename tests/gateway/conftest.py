"""Everything that decides runs over both databases: SQLite always, PostgreSQL in `make test-clients`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pyopenshell.gateway.store import Store

from . import core
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
        asyncio.run(_migrate(server.url(_TEMPLATE)))
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
