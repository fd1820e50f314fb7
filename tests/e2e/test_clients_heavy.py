"""Programs that need a compiler or a database: Go, Java, PostgreSQL (make test-clients)."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.clients import (
    DENIED,
    SITE,
    SOURCES,
    Program,
    Web,
    log,
    resolved,
    rule,
    web,
    works_and_is_refused_readably,
)
from tests.e2e.house import House, connect_to, house, sh
from tests.e2e.test_doors import BARE, DATABASE

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


async def test_java_that_was_told_of_no_proxy(town: Web, gateway: Gateway, tmp_path: pathlib.Path) -> None:
    """D-2: the plain JVM knows nothing of proxies; captured, it gets what policy allows and reads what it refuses."""
    subprocess.run(["javac", "-d", tmp_path, SOURCES / "Fetch.java"], check=True)
    java = resolved("java")
    await town.box(gateway, "plain-java", java)
    town.home.carry_in((await gateway.get("plain-java")).id, tmp_path / "Fetch.class")
    go = f"cd /sandbox && {BARE} timeout 60 java Fetch"
    ran = await sh(gateway, "plain-java", f"{go} GET https://{SITE}/plain-java")
    assert (ran.code, ran.out) == (0, "ok\n"), ran
    ran = await sh(gateway, "plain-java", f"{go} DELETE https://{SITE}/plain-java")
    assert (ran.code, '"error": "policy_denied"' in ran.out) == (22, True), ran
    ran = await sh(gateway, "plain-java", f"{go} GET https://{DENIED}/plain-java")
    assert (ran.code, "UnresolvedAddressException" in ran.err or "ConnectException" in ran.err) == (1, True), ran
    assert f"{DENIED}/dns [policy:- engine:dns]" in await log(gateway, "plain-java")


@pytest.fixture
def postgres(tmp_path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """A database of its own: (port, the client's real executable, behind Debian's wrapper)."""
    programs = max(pathlib.Path("/usr/lib/postgresql").iterdir()) / "bin"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="osh-pg-", dir="/tmp") as place:
        data = pathlib.Path(place, "data")
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(place, "postgres", "postgres")
        make = [*user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"]
        subprocess.run(make, check=True, cwd="/", stdout=subprocess.DEVNULL)
        control = [*user, str(programs / "pg_ctl"), "-D", str(data), "-s"]
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "-w", "-l", f"{place}/log", "-o", options, "start"], check=True, cwd="/")
        try:
            yield port, str(programs / "psql")
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")


async def test_psql_over_raw_tcp_without_a_proxy(postgres: tuple[int, str]) -> None:
    port, psql = postgres
    policy = f"version: 1\nnetwork_policies:\n{rule('db', f'host: {DATABASE}, port: 5432, protocol: tcp', psql)}"
    files = (
        "filesystem_policy: {read_only: [/usr, /lib, /etc, /proc, /var/log], read_write: [/tmp, /dev/null, /sandbox]}\n"
    )
    with house(extra_config=connect_to(DATABASE, port, port=5432)) as home:
        home.create("db", policy + files)
        async with home.client() as gateway:
            ask = f"timeout 60 {psql} -h {DATABASE} -U postgres -At postgres"
            script = "create table t as select generate_series(1, 200000) n; select sum(n), count(*) from t"
            ran = await sh(gateway, "db", f"{ask} -q -c '{script}'; {ask} -c 'copy t to stdout' | wc -l")
            assert ran.out == "20000100000|200000\n200000\n", ran
            ran = await sh(gateway, "db", f"timeout 60 {psql} -h other.e2e.test -U postgres -c 'select 1' postgres")
            assert (ran.code, "could not translate host name" in ran.err) == (2, True), ran
            ran = await sh(gateway, "db", f"timeout 60 {psql} -h {DATABASE} -p 5433 -U postgres -c 'select 1' postgres")
            assert ran.code == 2, ran
            text = await log(gateway, "db")
            assert f"ALLOWED {psql}(" in text
            assert f"-> {DATABASE}:5433 [policy:- engine:opa]" in text
