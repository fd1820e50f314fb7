"""Real programs that were told of no proxy: captured, they work and are refused in a way that they can show."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyopenshell.client import Gateway
from tests.e2e.clients import DENIED, GIT, HASTE, SITE, WS, Web, git_helper, log, resolved, rule, web
from tests.e2e.house import House, connect_to, sh
from tests.e2e.test_clients import SSH, ssh_server
from tests.e2e.test_doors import BARE

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("captured"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def town() -> Iterator[Web]:
    with ssh_server() as port, web(connect_to(SSH, port, port=22)) as found:
        yield found


@pytest.fixture(scope="module")
def home(town: Web) -> House:
    return town.home


async def test_git_clones_and_says_why_it_may_not(town: Web, gateway: Gateway, tmp_path: Path) -> None:
    repositories, work = town.site.repositories, tmp_path / "work"
    assert repositories is not None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "init", "-q", "-b", "main", work], check=True)
    work.joinpath("hello.txt").write_text("from git\n")
    subprocess.run([*git, "-C", work, "add", "."], check=True)
    subprocess.run([*git, "-C", work, "commit", "-q", "-m", "one"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, repositories / "bare.git"], check=True)
    await town.box(
        gateway,
        "git",
        resolved("curl"),
        rules=rule("git", f"host: {GIT}, port: 443, protocol: rest, access: full", git_helper()),
    )
    ran = await sh(
        gateway, "git", f"cd /sandbox && {BARE} timeout {HASTE} git clone -q https://{GIT}/git/bare.git r; cat r/*"
    )
    assert (ran.out, ran.err) == ("from git\n", ""), ran
    ran = await sh(gateway, "git", f"cd /sandbox && {BARE} timeout {HASTE} git clone -q https://{SITE}/git/bare.git s")
    assert ran.code == 128, ran
    assert "DENIED" in await log(gateway, "git")
    ran = await sh(
        gateway, "git", f"cd /sandbox && {BARE} timeout {HASTE} git clone -q https://{DENIED}/git/bare.git s"
    )
    assert (ran.code, "Could not resolve host" in ran.err) == (128, True), ran


async def test_nodes_own_fetch_and_ws_without_an_agent(town: Web, gateway: Gateway) -> None:
    node = resolved("node")
    socket = rule("ws", f"host: {WS}, port: 443, protocol: websocket, access: full", node)
    await town.box(gateway, "node", node, rules=socket)
    go = f"cd /sandbox && {BARE} timeout {HASTE} node"
    ran = await sh(gateway, "node", f"{go} via_fetch.mjs GET https://{SITE}/by-fetch")
    assert (ran.code, ran.out, ran.err) == (0, "ok\n", ""), ran
    ran = await sh(gateway, "node", f"{go} via_fetch.mjs DELETE https://{SITE}/by-fetch")
    assert (ran.code, '"error": "policy_denied"' in ran.out) == (22, True), ran
    ran = await sh(gateway, "node", f"{go} via_fetch.mjs GET https://{DENIED}/by-fetch")
    assert (ran.code, "ENOTFOUND" in ran.err) == (1, True), ran
    ran = await sh(gateway, "node", f"{go} ws_client.cjs wss://{WS}/captured direct")
    assert (ran.code, ran.out) == (0, "hello\n"), ran
    assert "open /captured" in town.sockets
    ran = await sh(gateway, "node", f"{go} ws_client.cjs wss://{DENIED}/captured direct")
    assert (ran.code, "ENOTFOUND" in ran.err) == (3, True), ran


async def test_dig_nc_and_busybox(town: Web, gateway: Gateway) -> None:
    nc, busybox = resolved("nc"), "/bin/busybox"
    rules = rule("ssh", f"host: {SSH}, port: 22, protocol: tcp", nc, str(Path(busybox).resolve()))
    await town.box(gateway, "small", resolved("curl"), rules=rules)
    dig = "timeout 20 dig +tries=1"
    ran = await sh(gateway, "small", f"{dig} +short {SSH}; {dig} {DENIED}; {dig} @192.0.2.53 +tcp +short {SSH}")
    first, *_, last = ran.out.split()
    assert first == last, ran
    assert first.startswith("198.18."), ran
    assert "status: NXDOMAIN" in ran.out, ran
    assert "not allowed by the sandbox's policy; denial d-" in ran.out, ran
    for program in ("nc", "busybox nc"):
        ran = await sh(gateway, "small", f"{BARE} timeout {HASTE} {program} {SSH} 22 </dev/null | head -1")
        assert ran.out.strip() == "SSH-2.0-E2E", (program, ran)
    # A link of another name is still busybox, and busybox has no rule for this host.
    ran = await sh(gateway, "small", f"ln -s {busybox} /tmp/nc; echo hi | {BARE} timeout {HASTE} /tmp/nc {SITE} 443")
    assert not ran.out, ran
    text = await log(gateway, "small")
    who = rf"{re.escape(str(Path(busybox).resolve()))}\(\d+\)"
    assert re.search(rf"ALLOWED {who} -> {SSH}:22 ", text), text
    assert re.search(rf"DENIED {who} -> {SITE}:443 \[policy:- ", text), text
