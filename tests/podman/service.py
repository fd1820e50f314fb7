"""A Podman of the tests' own: storage, socket and images in a private directory, nothing of the user's touched."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.podman import image

RUNTIMES = ("crun", "runc")


class NoPodman(Exception):  # noqa: N818 - says why tests are skipped
    """No container runs here, and why."""


@dataclasses.dataclass(slots=True)
class Service:
    """One `podman system service`. `debian` and `bare` are references of its images."""

    root: Path
    base: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    debian: str = "localhost/openshell-test:latest"
    bare: str = "localhost/openshell-bare:latest"

    @property
    def socket(self) -> str:
        return str(self.root / "podman.sock")

    def podman(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            [*self.base, *arguments],
            env=self.environment, cwd="/", capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if ok and done.returncode:
            raise NoPodman(f"podman {arguments[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def start(self) -> None:
        """Returns when it answers."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        log = open(self.root / "service.log", "ab")  # noqa: SIM115 - the service keeps it
        with log:
            self.process = subprocess.Popen(
                [*self.base, "system", "service", "--time", "0", f"unix://{self.socket}"],
                env=self.environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        for _ in range(6000):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.socket)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)  # a service says nothing when it is ready
        raise NoPodman(f"podman system service: {(self.root / 'service.log').read_text()[-500:]}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def containers(self) -> list[str]:
        return self.podman("ps", "--all", "--format", "{{.Names}}").split()


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """Started, with its images. Raises NoPodman."""
    if shutil.which("podman") is None:
        raise NoPodman("podman is not installed (make test-podman installs it)")
    root = Path(tempfile.mkdtemp(prefix="os-podman-"))
    made: Service | None = None
    try:
        made = _usable(root)
        for reference, build in ((made.debian, image.debian), (made.bare, image.bare)):
            archive = root / "image.tar"
            try:
                build(archive)
            except image.NoDebian as error:
                raise NoPodman(str(error)) from error
            changes = [f"--change=ENV {name}={value}" for name, value in image.ENVIRONMENT.items()]
            made.podman("import", *changes, str(archive), reference)
            archive.unlink()
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop()
            made.podman("rm", "--all", "--force", "--time", "0", ok=False)
            made.podman("rmi", "--all", "--force", ok=False)
            made.podman("unshare", "rm", "-rf", str(root / "store"), ok=False)
            made.podman("system", "migrate", ok=False)  # ends the process that keeps a rootless Podman's namespaces
        shutil.rmtree(root, ignore_errors=True)


def _usable(root: Path) -> Service:
    """With the first runtime that runs a container. Crun refuses a machine with both versions of control groups."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "CONTAINER"))}
    environment["XDG_RUNTIME_DIR"] = str(root)
    probe = root / "probe.tar"
    image.bare(probe)
    reasons = []
    for runtime in RUNTIMES:
        if shutil.which(runtime) is None:
            continue
        places = ("--root", str(root / "store"), "--runroot", str(root / "run"), "--tmpdir", str(root / "tmp"))
        options = ("--runtime", runtime, "--cgroup-manager", "cgroupfs", "--events-backend", "file")
        made = Service(root, ["podman", *places, *options], environment)
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
        try:
            made.podman("import", str(probe), "localhost/probe:latest")
            made.podman("run", "--rm", "--network", "none", *limits, "localhost/probe", "/bin/id")
        except NoPodman as error:
            reasons.append(f"{runtime}: {error}")
            continue
        probe.unlink()
        return made
    raise NoPodman("no container runs here: " + ("; ".join(reasons) or "neither crun nor runc is installed"))
