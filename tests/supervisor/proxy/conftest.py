"""The proxy runs on uvloop in the product, so it is tested on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.supervisor.proxy.rig import Upstream


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def tls_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start("api.test")
    yield upstream
    await upstream.stop()


@pytest.fixture
async def plain_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start(None)
    yield upstream
    await upstream.stop()


@pytest.fixture(autouse=True)
async def _stop_upstreams() -> AsyncIterator[None]:
    yield
    for upstream in list(Upstream.running):
        await upstream.stop()
