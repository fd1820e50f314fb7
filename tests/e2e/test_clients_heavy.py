"""Programs that need a compiler or a database: Go, Java, PostgreSQL (make test-clients)."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.clients import SOURCES, Program, Web, resolved, web, works_and_is_refused_readably
from tests.e2e.house import House

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.xdist_group("clients_heavy"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def town() -> Iterator[Web]:
    with web() as found:
        yield found


@pytest.fixture(scope="module")
def home(town: Web) -> House:
    return town.home


async def test_go(town: Web, gateway: Gateway, tmp_path: pathlib.Path) -> None:
    """A static binary of Go's own HTTP and TLS: it reads the proxy variables and SSL_CERT_FILE, and no libc."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOCACHE": str(tmp_path / "cache"), "GOPROXY": "off"}
    built = tmp_path / "fetch"
    subprocess.run(["go", "build", "-o", built, SOURCES / "fetch.go"], env=environment, check=True)
    # Only what lies where no agent may write is named in a policy; the name is enough for a test.
    await town.box(gateway, "go", "/sandbox/fetch")
    town.home.carry_in((await gateway.get("go")).id, built)
    shows = r"Forbidden by OpenShell policy \(denial d-[0-9a-f]{16}\)"
    program = Program("go", "/sandbox/fetch", "./fetch $METHOD $URL", (22, 1), shows, shows)
    await works_and_is_refused_readably(gateway, "go", program)


async def test_java(town: Web, gateway: Gateway, tmp_path: pathlib.Path) -> None:
    """It reads no variable: its proxy is told, its trust store is the one that the sandbox replaces."""
    subprocess.run(["javac", "-d", tmp_path, SOURCES / "Fetch.java"], check=True)
    java = resolved("java")
    await town.box(gateway, "java", java)
    town.home.carry_in((await gateway.get("java")).id, tmp_path / "Fetch.class")
    program = Program("java", java, "java Fetch $METHOD $URL proxy", (22, 1), "Tunnel failed, got: 403")
    await works_and_is_refused_readably(gateway, "java", program)
