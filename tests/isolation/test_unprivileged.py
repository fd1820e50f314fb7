"""As root: everything in tests/drivers and tests/isolation again, as an ordinary user with another interpreter path."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.drivers.sandboxes import repository

USER = 2000


def open_to_others(path: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def interpreter() -> str | None:
    """A python of this version that another user may run: ours, or the distribution's."""
    version = f"python3.{sys.version_info.minor}"
    for candidate in (Path(sys.executable).resolve(), Path("/usr/bin", version)):
        if candidate.exists() and open_to_others(candidate):
            return str(candidate)
    return None


@pytest.mark.e2e
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="this run is the ordinary user's")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux")
def test_an_ordinary_user_gets_the_same_walls() -> None:
    python = interpreter()
    packages = Path(pytest.__file__).resolve().parents[1]
    if python is None or not open_to_others(packages) or not open_to_others(Path(repository())):
        pytest.skip("no interpreter and source tree that an ordinary user may read")
    with tempfile.TemporaryDirectory(prefix="os-user-") as home:
        os.chown(home, USER, USER)
        environment = {
            "HOME": home,
            "TMPDIR": home,
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{packages}:{repository()}/src",
        }
        options = [
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            "-q",
            "-x",
            "-k",
            "not races",
            "tests/drivers",
            "tests/isolation",
            "--ignore=tests/isolation/test_ladder.py",  # it has its run in tests/e2e/test_unprivileged.py
        ]
        ran = subprocess.run(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", python, "-m", "pytest", *options],
            cwd=repository(),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
