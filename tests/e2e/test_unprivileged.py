"""As root: the attacks on the walls from inside a sandbox again, with everything of it an ordinary user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.drivers.sandboxes import repository
from tests.isolation.test_unprivileged import USER, interpreter, open_to_others

WALLS = ("e2e/test_walls.py", "e2e/test_attacks_kernel.py", "isolation/test_ladder.py")
DOORS = tuple(
    f"e2e/test_{name}.py"
    for name in ("attacks_network", "attacks_doors", "attacks_approval", "files", "crash", "doors")
)
"""With WALLS: attacks.md A to F, H-7, I and J; G is the gateway's, whoever runs it."""


@pytest.mark.e2e
@pytest.mark.deep  # two minutes; tests/isolation/test_unprivileged.py is the short form that every change runs
@pytest.mark.parametrize("files", [pytest.param(WALLS, id="walls"), pytest.param(DOORS, id="doors")])
@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="this run is the ordinary user's")
def test_the_same_attacks_fail_where_an_ordinary_user_runs_it_all(files: tuple[str, ...]) -> None:
    python = interpreter()
    packages = Path(pytest.__file__).resolve().parents[1]
    if python is None or not open_to_others(packages) or not open_to_others(Path(repository())):
        pytest.skip("no interpreter and source tree that an ordinary user may read")
    with tempfile.TemporaryDirectory(prefix="os-user-") as home:
        # The tests look for the command beside the interpreter.
        beside = Path(home) / "python"
        beside.symlink_to(python)
        command = Path(home) / "openshell"
        command.write_text(f'#!/bin/sh\nexec {beside} -m pyopenshell.cli.main "$@"\n')
        command.chmod(0o755)
        os.chown(home, USER, USER)
        environment = {
            "HOME": home,
            "TMPDIR": home,
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{packages}:{repository()}/src",
        }
        options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q", "-m", "not heavy and not deep"]
        options += ["-k", "not ssh and not scp"]  # OpenSSH's programs refuse a user without a name
        ran = subprocess.run(
            [
                *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", str(beside), "-m", "pytest"),
                *options,
                *(f"tests/{name}" for name in files),
            ],
            cwd=repository(),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout


def test_what_it_needs_is_there() -> None:
    assert shutil.which("setpriv"), "util-linux"
