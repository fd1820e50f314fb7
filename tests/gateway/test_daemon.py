"""The gateway as a process: start, readiness, status, stop, kill -9, and every clear refusal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyopenshell.gateway import daemon
from pyopenshell.gateway.configuration import Paths
from pyopenshell.gateway.daemon import DaemonError, Lock, Running
from pyopenshell.wire.gen import openshell_pb2
from tests.gateway.serving import Client, channel, environ


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A private home whose gateway is gone at the end."""
    variables = environ(tmp_path) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    yield variables
    daemon.stop(environ=variables)


def health(variables: dict[str, str], running: Running) -> openshell_pb2.HealthResponse:
    """Asked as a client would: with nothing but the registration files."""
    directory = Paths.of(variables).config / "gateways" / "local"
    metadata = json.loads((directory / "metadata.json").read_text())
    assert metadata["gateway_endpoint"] == running.endpoint
    ca, certificate, key = ((directory / "mtls" / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))

    async def ask() -> openshell_pb2.HealthResponse:
        link = channel(f"127.0.0.1:{running.port}", ca, certificate, key)
        try:
            answer: openshell_pb2.HealthResponse = await Client(link).Health(openshell_pb2.HealthRequest(), timeout=10)
            return answer
        finally:
            await link.close()

    return asyncio.run(ask())


def test_start_status_stop(home: dict[str, str]) -> None:
    assert daemon.status(home) is None
    assert daemon.stop(environ=home) is False
    running = daemon.start(port=0, environ=home)
    assert running.port > 0
    assert daemon.status(home) == running
    assert health(home, running).version == running.version
    assert daemon.start(port=0, environ=home) == running  # the one that runs
    assert os.getsid(running.pid) == running.pid  # detached: it outlives the terminal
    assert daemon.stop(environ=home) is True
    assert daemon.status(home) is None
    assert not Path(f"/proc/{running.pid}").exists() or "Z" in Path(f"/proc/{running.pid}/stat").read_text()
    again = daemon.start(port=0, environ=home)
    assert again.pid != running.pid
    assert again.port == running.port


def test_several_starters_start_one(home: dict[str, str]) -> None:
    script = (
        "from pyopenshell.gateway import daemon; import dataclasses, json\n"
        "print(json.dumps(dataclasses.asdict(daemon.start(port=0))))"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", script], env=home, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = {starter.communicate(timeout=60)[0] for starter in starters}
    assert len(answers) == 1
    assert json.loads(answers.pop())["pid"] == daemon.status(home).pid  # type: ignore[union-attr]


def test_kill_9_leaves_nothing_that_hinders_the_next_start(home: dict[str, str]) -> None:
    running = daemon.start(port=0, environ=home)
    os.kill(running.pid, signal.SIGKILL)  # and start at once, while the kernel still tears it down
    again = daemon.start(port=0, environ=home)
    assert again.pid != running.pid
    assert again.port == running.port
    assert health(home, again).status == openshell_pb2.SERVICE_STATUS_HEALTHY


def test_a_port_in_use_is_said_with_the_fix(home: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DaemonError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            daemon.start(port=port, environ=home)
    assert "--port 0" in caught.value.fix
    assert daemon.status(home) is None


def test_a_bad_configuration_is_said_with_its_line(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[openshell]\nversion = 1\n[openshell.gateway]\nbind = 1\n")
    with pytest.raises(DaemonError, match=r"gateway.toml:4: unknown key 'bind'"):
        daemon.start(config=file, environ=home)


def test_foreground_says_what_is_wrong_on_stderr_and_exits_1(home: dict[str, str]) -> None:
    running = daemon.start(port=0, environ=home)
    second = subprocess.run(
        [sys.executable, "-m", "pyopenshell.gateway", "--foreground"],
        env=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"already runs for {Paths.of(home).state} (pid {running.pid})" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_database_of_another_kind_is_an_error(home: dict[str, str]) -> None:
    with pytest.raises(DaemonError, match="unsupported database url"):
        daemon.start(port=0, environ=home | {"OPENSHELL_DB_URL": "mysql://x"})


def test_asking_does_not_disturb_a_start(tmp_path: Path) -> None:
    """`status` must not hold the lock even for a moment: a gateway that starts just then would give up."""
    run = Paths.of(environ(tmp_path)).run
    lock = Lock.acquire(run)
    assert daemon.status(environ(tmp_path)) is None  # it runs but does not answer yet
    lock.publish(Running(os.getpid(), "local", "https://127.0.0.1:1", "1", 2.0))
    found = daemon.status(environ(tmp_path))
    assert found is not None
    assert (found.pid, found.port) == (os.getpid(), 1)
    with pytest.raises(DaemonError, match="already runs"):
        Lock.acquire(run)
    lock.release()
    assert daemon.status(environ(tmp_path)) is None
    Lock.acquire(run).release()


def test_files_are_private(home: dict[str, str]) -> None:
    daemon.start(port=0, environ=home)
    paths = Paths.of(home)
    for root in (paths.run, paths.tls, paths.config):
        for path in root.rglob("*"):
            if path.is_file():
                assert path.stat().st_mode & 0o077 == 0, path


def test_the_daemon_module_stays_light() -> None:
    script = (
        "import sys, pyopenshell.gateway.daemon\n"
        "print(*(name for name in ('grpc', 'sqlalchemy', 'cryptography') if name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""
