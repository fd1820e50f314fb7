"""A private installation for tests and benchmarks: own XDG directories, own gateway, real sandboxes, real upstream."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pyopenshell.client import Gateway
from pyopenshell.client.registration import Places, resolve
from pyopenshell.client.values import Exit, Output, Sandbox
from tests.e2e.upstream import Upstream, serve

OPENSHELL = str(pathlib.Path(sys.executable).with_name("openshell"))
HOST = "api.e2e.test"
OTHER = "other.e2e.test"
RAW = "raw.e2e.test"

READ_ONLY = f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /dev/urandom, /etc, /var/log]
  read_write: [/tmp, /dev/null]
landlock:
  compatibility: best_effort
network_policies:
  api_readonly:
    endpoints:
      - host: {HOST}
        port: 443
        protocol: rest
        enforcement: enforce
        access: read-only
    binaries:
      - path: /usr/bin/curl
  raw_tunnel:
    endpoints:
      - host: {RAW}
        port: 443
        tls: skip
    binaries:
      - path: /usr/bin/curl
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclasses.dataclass(slots=True)
class House:
    """One installation. `cli` runs the real command; `client` opens the real client."""

    root: pathlib.Path
    upstream: Upstream
    env: dict[str, str]
    made_from: tuple[str, ...] = ()
    """Options of `sandbox create` that say what makes sandboxes."""

    def cli(self, *args: str, stdin: str = "", ok: bool = True, timeout: float = 60) -> Ran:
        """Run `openshell ARGS`; with `ok` a failure is an assertion error that shows both outputs."""
        done = subprocess.run(
            [OPENSHELL, *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not ok or done.returncode == 0, f"openshell {args} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Gateway]:
        registration = resolve(Places.of(self.env))
        async with await Gateway.open(registration) as gateway:
            yield gateway

    def create(self, name: str, policy: str = READ_ONLY, *args: str) -> None:
        file = self.root / f"{name}.yaml"
        file.write_text(policy)
        self.cli("sandbox", "create", "--name", name, "--policy", str(file), "--detach", *self.made_from, *args)

    def delete(self, name: str) -> None:
        self.cli("sandbox", "delete", name)

    def carry_in(self, sandbox_id: str, source: pathlib.Path) -> None:
        """Copy a file or tree of the host into the sandbox's /sandbox, as its own."""
        workspace = self.sandbox_dir(sandbox_id) / "workspace"
        target = workspace / source.name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        owner = workspace.stat()
        for path in (target, *target.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def sandbox_dir(self, sandbox_id: str) -> pathlib.Path:
        return next(self.root.glob(f"state/**/sandboxes/{sandbox_id}"))


async def run(gateway: Gateway, sandbox: str, *argv: str, timeout: float = 60) -> Ran:
    """Run a command inside; collects everything."""
    out, err, code = bytearray(), bytearray(), -1
    async for event in gateway.exec(sandbox, argv, timeout=timeout):
        match event:
            case Output(stream="stdout"):
                out += event.data
            case Output():
                err += event.data
            case Exit():
                code = event.code
    return Ran(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def sh(gateway: Gateway, sandbox: str, script: str, timeout: float = 60) -> Ran:
    return await run(gateway, sandbox, "/bin/bash", "-c", script, timeout=timeout)


async def shell_lines(gateway: Gateway, sandbox: str, script: str) -> AsyncIterator[str]:
    """Lines of a running script's stdout as they come."""
    rest = ""
    async for event in gateway.exec(sandbox, ["/bin/bash", "-c", script]):
        if isinstance(event, Output) and event.stream == "stdout":
            *lines, rest = (rest + event.data.decode()).split("\n")
            for line in lines:
                yield line


def connect_to(host: str, at: int, ca_file: pathlib.Path | None = None, port: int = 443) -> str:
    """Configuration that leads connections to `host:port` to the local port `at`."""
    trust = f'ca_file = "{ca_file}"\n' if ca_file else ""
    return f'[[openshell.gateway.connect_to]]\nhost = "{host}"\nport = {port}\naddress = "127.0.0.1:{at}"\n{trust}'


@contextlib.contextmanager
def house(*, extra_config: str = "", drivers: str = "", made_from: tuple[str, ...] = ()) -> Iterator[House]:
    """Start a gateway with connect-to overrides for the test hosts; end everything at exit."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="osh-e2e-"))
    try:
        with serve(root, [HOST, OTHER, RAW]) as upstream:
            config = root / "config" / "openshell"
            config.mkdir(parents=True)
            overrides = "".join(connect_to(name, upstream.port, upstream.ca_file) for name in (HOST, OTHER, RAW))
            (config / "gateway.toml").write_text(
                '[openshell]\nversion = 2\n[openshell.gateway]\nbind_address = "127.0.0.1:0"\n'
                + extra_config
                + overrides
                + drivers
            )
            env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENSHELL", "XDG_"))}
            env |= {
                "XDG_CONFIG_HOME": str(root / "config"),
                "XDG_STATE_HOME": str(root / "state"),
                "XDG_RUNTIME_DIR": str(root),
            }
            home = House(root, upstream, env, made_from)
            home.cli("gateway", "start")
            try:
                yield home
            finally:
                home.cli("sandbox", "delete", "--all", ok=False)
                home.cli("gateway", "stop", ok=False)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def within(seconds: float) -> contextlib.AbstractAsyncContextManager[Any]:
    """A deadline for an awaited event; the event decides, the deadline only ends a broken test."""
    return asyncio.timeout(seconds)


async def restarted(gateway: Gateway, name: str, times: int = 1) -> Sandbox:
    """The sandbox once it was started again by itself and is ready."""
    async with within(60):
        async for sandbox in gateway.watch_status(name):
            if sandbox.restarts >= times and sandbox.phase == "Ready":
                return sandbox
    raise AssertionError("the watch ended")


def background(name: str, command: str) -> str:
    """A script that leaves `command` running under the process name `name`, and ends once it does run."""
    quoted = shlex.quote(command)
    return (
        f"(exec -a {name} bash -c {quoted}) </dev/null >/dev/null 2>&1 & "
        f"until grep -qz -e '^{name}$' /proc/$!/cmdline; do :; done; disown"
    )
