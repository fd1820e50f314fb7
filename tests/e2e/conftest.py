"""One private installation per test module; one sandbox per test where a test needs its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.attacks import Seen, plain_server
from tests.e2e.house import House, house
from tests.podman.service import Service


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with plain_server() as running:
        yield running


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest) -> Iterator[House]:
    """With --driver podman every sandbox is a container."""
    if request.config.getoption("--driver") != "podman":
        with house() as installation:
            yield installation
        return
    engine: Service = request.getfixturevalue("podman")
    config = f'[openshell.drivers.podman]\nsocket_path = "{engine.socket}"\npull = "never"\n'
    with house(drivers=config, made_from=("--from", engine.debian)) as installation:
        yield installation


@pytest.fixture(scope="module")
def advised(home: House) -> House:
    """The installation with agent proposals switched on for everyone."""
    home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
    return home


@pytest.fixture
async def gateway(home: House) -> AsyncIterator[Gateway]:
    async with home.client() as client:
        yield client
