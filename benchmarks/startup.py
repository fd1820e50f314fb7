"""How long until a command runs: ours in the gateway and as a whole command line; beside bwrap, podman and docker.

Everything runs `true` (ours inside: `touch`), in one run and in random order, round by round. create() returns after
execve of the main process succeeded, so its duration is an upper bound; the change time of a file the command touches
(kernel clock, 4 ms steps) is the check from the other side. Budgets (design 6): create p50 <= 40 ms, exec <= 10 ms,
whole command <= 400 ms.

bwrap gets namespaces and mounts, no sockets, Landlock or seccomp; podman and docker run without a network, on a root
directory with busybox alone, so that nothing is unpacked. A peer that cannot run here is named with the reason.

On a machine with other work on it: chrt -r 1 python -m benchmarks.startup

Usage: python -m benchmarks.startup [rounds] [--fake]   (--fake: the test supervisor instead of the product's)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tests.drivers.sandboxes import Box
from tests.e2e.house import OPENSHELL, house

from benchmarks._sandbox import FAKE, REAL, running_box, summary
from pyopenshell.drivers.base import ExecRequest

Measure = Callable[[], Awaitable[float]]
BUDGETS = {"create() in the gateway": 40.0, "exec in the gateway": 10.0, "openshell sandbox create -- true": 400.0}


class Ours:
    """Inside the gateway's process: the driver's own calls."""

    def __init__(self, box: Box) -> None:
        self._box, self._number = box, 0
        self.first: list[float] = []

    async def create(self) -> float:
        self._number += 1
        name = f"s{self._number}"
        began, wall = time.perf_counter(), time.time()
        await self._box.create(name, command=("/usr/bin/touch", "/sandbox/stamp"))
        took = (time.perf_counter() - began) * 1e3
        while (await self._box.event("exited")).sandbox_id != name:
            pass
        stamp = Path(self._box.root(name), "workspace", "stamp").stat().st_ctime_ns / 1e9
        self.first.append((stamp - wall) * 1e3)
        await self._box.driver.delete(name)
        return took

    async def exec(self) -> float:
        began = time.perf_counter()
        process = await self._box.driver.exec("standing", ExecRequest(["/bin/true"]))
        await process.wait()
        took = (time.perf_counter() - began) * 1e3
        await process.aclose()
        return took


def command(*argv: str, env: dict[str, str] | None = None) -> Measure:
    """A whole command line, as a person would run it."""

    async def measure() -> float:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode == 0, f"{argv}: {said.decode(errors='replace')}"
        return (time.perf_counter() - began) * 1e3

    return measure


def root_directory(path: Path) -> Path:
    """busybox as /bin/true and what it needs."""
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "run"):
        (path / name).mkdir(parents=True)
    libraries = subprocess.run(["ldd", "/bin/busybox"], capture_output=True, text=True, check=False).stdout
    for file in ["/bin/busybox", *re.findall(r"/\S+", libraries)]:
        target = path / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (path / "bin" / "true").symlink_to("busybox")
    return path


def peers(directory: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Command lines of those that run here, and why the others do not."""
    merged = [part for name in ("bin", "lib", "lib64") for part in ("--symlink", f"usr/{name}", f"/{name}")]
    bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", *merged]
    bwrap += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"]
    podman = ["podman", "--root", f"{directory}/podman", "--runroot", f"{directory}/podman-run", "--runtime", "runc"]
    podman += ["--cgroup-manager=cgroupfs", "run", "--rm", "--network", "none", "--ulimit", "nproc=4096:4096"]
    podman += ["--ulimit", "nofile=20000:20000", "--rootfs", str(directory / "rootfs"), "/bin/true"]
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        # runc moves its process into a group of the cpu controller, and that takes no real-time process.
        podman = ["chrt", "--other", "0", *podman]
    docker = ["docker", "run", "--rm", "--network", "none", "openshell-benchmark", "/bin/true"]
    found: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for argv in (bwrap, podman, docker):
        name = next(one for one in ("bwrap", "podman", "docker") if one in argv)
        if shutil.which(name) is None:
            missing[name] = "not installed"
            continue
        if name == "docker":
            archive = subprocess.run(["tar", "-C", directory / "rootfs", "-c", "."], capture_output=True, check=True)
            imported = subprocess.run(
                ["docker", "import", "-", "openshell-benchmark"], input=archive.stdout, capture_output=True, check=False
            )
            if imported.returncode:
                missing[name] = imported.stderr.decode(errors="replace").strip().splitlines()[-1]
                continue
        tried = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if tried.returncode:
            missing[name] = (tried.stderr.strip().splitlines() or ["it failed"])[-1]
        else:
            how = " --unshare-all" if name == "bwrap" else " run, no network"
            found[name + how + (" (SCHED_OTHER)" if argv[0] == "chrt" else "")] = argv
    return found, missing


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="os-start-"))
    try:
        root_directory(path / "rootfs")
        yield path
    finally:
        if shutil.which("docker"):
            subprocess.run(["docker", "rmi", "-f", "openshell-benchmark"], capture_output=True, check=False)
        shutil.rmtree(path, ignore_errors=True)


async def main(rounds: int, supervisor: str) -> None:
    with house() as home, scratch() as directory:
        found, missing = peers(directory)
        home.create("standing")
        async with running_box(supervisor) as box:
            await box.create("standing")
            ours = Ours(box)
            number = 0

            async def whole() -> float:
                nonlocal number
                number += 1
                argv = [OPENSHELL, "sandbox", "create", "--name", f"w{number}", "--", "true"]
                took = await command(*argv, env=home.env)()
                await asyncio.to_thread(home.cli, "sandbox", "delete", f"w{number}")
                return took

            tests: dict[str, Measure] = {
                "create() in the gateway": ours.create,
                "exec in the gateway": ours.exec,
                "openshell sandbox create -- true": whole,
                "openshell sandbox exec true": command(
                    OPENSHELL, "sandbox", "exec", "-n", "standing", "true", env=home.env
                ),
                **{name: command(*argv, env=dict(os.environ)) for name, argv in found.items()},
            }
            took: dict[str, list[float]] = {name: [] for name in tests}
            for turn in range(rounds + 1):
                for name in random.sample(list(tests), len(tests)):
                    value = await tests[name]()
                    if turn:  # the first round warms up
                        took[name].append(value)
        took["first effect inside (file time, 4 ms steps)"] = ours.first[1:]
    for name, values in took.items():
        bound = BUDGETS.get(name)
        verdict = "" if bound is None else f"   p50 <= {bound:g} ms {'met' if _p50(values) <= bound else 'MISSED'}"
        print(f"{name:<44} {summary(values, 'ms')}{verdict}")
    for name, why in missing.items():
        print(f"{name}: not measured: {why}")


def _p50(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--fake"]
    asyncio.run(main(int(arguments[0]) if arguments else 30, FAKE if "--fake" in sys.argv else REAL))
