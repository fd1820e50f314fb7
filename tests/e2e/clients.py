"""What the tests of real programs share: a site to talk to, sandboxes with programs in them, what the log must say."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator

from pyopenshell.client import Gateway
from tests.e2e.house import House, Ran, connect_to, house, sh
from tests.e2e.site import Site, serve_site
from tests.e2e.upstream import authority

SITE, GIT, DENIED, WS = "site.e2e.test", "git.e2e.test", "denied.e2e.test", "ws.e2e.test"
SOURCES = pathlib.Path(__file__).parent / "programs"
INSTALLED = pathlib.Path(__file__).parents[2] / ".venv" / "programs"
"""Python packages and Node modules that `make` put there from the lock files."""
HASTE = 30
"""Seconds after which `timeout` ends a program that hangs, with exit code 124."""


@dataclasses.dataclass(frozen=True, slots=True)
class Web:
    """An installation whose sandboxes find SITE, GIT and DENIED at one real HTTPS server."""

    home: House
    site: Site
    sockets: list[str]
    """What the WebSocket server behind WS printed: `open TARGET`, `message TEXT`."""

    async def box(self, gateway: Gateway, name: str, *binaries: str, rules: str = "") -> None:
        """A sandbox in which these executables may read SITE; `rules`: further entries of network_policies."""
        self.home.create(name, policy(*binaries) + rules)
        sandbox = await gateway.get(name)
        for source in (*SOURCES.iterdir(), *INSTALLED.iterdir()):
            self.home.carry_in(sandbox.id, source)


def policy(*binaries: str) -> str:
    return f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /etc, /proc, /dev/urandom, /var/log]
  read_write: [/tmp, /dev/null]
network_policies:
  site_readable:
    endpoints: [{{host: {SITE}, port: 443, protocol: rest, access: read-only}}]
    binaries: [{listed(*binaries)}]
"""


def rule(name: str, endpoint: str, *binaries: str) -> str:
    """One more entry of network_policies: `endpoint` is the inside of a flow mapping."""
    return f"  {name}:\n    endpoints: [{{{endpoint}}}]\n    binaries: [{listed(*binaries)}]\n"


def listed(*binaries: str) -> str:
    return ", ".join(f"{{path: {binary}}}" for binary in binaries)


def resolved(name: str) -> str:
    """The executable the kernel will report: symbolic links followed."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    assert found, f"{name} is needed for this test and is not installed (make test installs it as root)"
    return str(pathlib.Path(found).resolve())


def git_helper() -> str:
    """The program in which git speaks HTTP."""
    folder = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    return str(pathlib.Path(folder, "git-remote-http").resolve())


@contextlib.contextmanager
def web(extra: str = "") -> Iterator[Web]:
    """`extra`: more of gateway.toml; its certificates are for SITE, GIT, DENIED and WS."""
    with tempfile.TemporaryDirectory(prefix="osh-site-") as place:
        ca_file, certificate, key = authority(pathlib.Path(place), [SITE, GIT, DENIED, WS])
        with serve_site(certificate, key) as site:
            site.repositories = pathlib.Path(place, "repositories")
            site.repositories.mkdir()
            with _sockets(certificate, key) as (port, lines):
                config = "".join(connect_to(host, site.port, ca_file) for host in (SITE, GIT, DENIED))
                config += connect_to(WS, port, ca_file)
                with house(extra_config=config + extra) as home:
                    yield Web(home, site, lines)


@contextlib.contextmanager
def _sockets(certificate: pathlib.Path, key: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """The server of Node's `ws` on a port of its own."""
    script = SOURCES / "ws_server.cjs"
    lines: list[str] = []
    with subprocess.Popen(
        ["node", str(script), str(certificate), str(key)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NODE_PATH": str(INSTALLED / "node_modules")},
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        reader = threading.Thread(target=lambda: lines.extend(line.strip() for line in server.stdout or ()))
        reader.start()
        try:
            yield port, lines
        finally:
            server.terminate()
            reader.join(10)


async def log(gateway: Gateway, sandbox: str) -> str:
    return (await sh(gateway, sandbox, "cat /var/log/openshell.*.log")).out


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """How a user makes one program do a request, and what they see when it is refused."""

    name: str
    binary: str
    """The executable as the kernel names it."""
    command: str
    """Shell: does METHOD on URL (variables) and prints the body."""
    codes: tuple[int, int]
    """Its exit codes for a refused request and a refused host."""
    host_refused: str = r"403 Forbidden by OpenShell policy \(denial d-[0-9a-f]{16}\)"
    """What it shows, besides other things, when the host is refused."""
    request_refused: str = '"error": "policy_denied"'
    quiet: bool = True
    """Whether it writes nothing to stderr when all is well."""


async def works_and_is_refused_readably(gateway: Gateway, sandbox: str, program: Program) -> None:
    """The three things that can happen to it, each seen by the program, its user and the log."""
    path = f"/{program.name}"

    async def run(method: str, host: str) -> Ran:
        script = f"cd /sandbox; export METHOD={method} URL=https://{host}{path}; timeout {HASTE} {program.command}"
        return await sh(gateway, sandbox, script)

    allowed = await run("GET", SITE)
    assert (allowed.code, allowed.out) == (0, "ok\n"), allowed
    assert not (program.quiet and allowed.err), allowed.err
    request = await run("DELETE", SITE)
    assert request.code == program.codes[0], request
    assert re.search(program.request_refused, request.out + request.err), request
    host = await run("GET", DENIED)
    assert host.code == program.codes[1], host
    assert re.search(program.host_refused, host.out + host.err), host
    lines = (await log(gateway, sandbox)).splitlines()
    who = rf"{re.escape(program.binary)}\(\d+\)"
    for expected in (
        rf"NET:OPEN \[INFO\] ALLOWED {who} -> {SITE}:443",
        rf"HTTP:GET \[INFO\] ALLOWED GET http://{SITE}:443{path} ",
        rf"HTTP:DELETE \[MED\] DENIED DELETE http://{SITE}:443{path} .*\[denial:d-",
        rf"NET:OPEN \[MED\] DENIED {who} -> {DENIED}:443",
    ):
        assert any(re.search(expected, line) for line in lines), f"{expected}\n" + "\n".join(lines)
