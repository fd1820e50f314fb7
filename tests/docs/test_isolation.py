"""docs/isolation.md and podman.md: why a sandbox is not made or ends, with the fix; the walls' own numbers."""

from __future__ import annotations

import ast
import re

import pytest

from pyopenshell.cli.doctor import command
from pyopenshell.drivers.local.sandbox import BUILD_SECONDS
from pyopenshell.isolation import assurance, walls
from pyopenshell.isolation.environment import BASE
from pyopenshell.isolation.mounts import _HOST_READ_ONLY
from tests.docs.code import argument, arguments, calls, modules, page

TEXT, CONTAINERS = page("isolation.md"), page("podman.md")
ROOMS = ("drivers", "isolation", "supervisor")
_REASON = re.compile(r"(?:[A-Z][a-z]+)+")
_ERRORS = ("DriverError", "WallError", "StartError")
_ENDINGS = ("kill", "terminate", "_ending")


def reasons() -> set[str]:
    """First arguments of the errors and endings, `reason` entries of messages, first items of `why` pairs."""
    found = set()
    for room in ROOMS:
        for one in calls(*_ERRORS, *_ENDINGS, "wall", room=room):
            value = argument(one, "reason", 0) if not any(isinstance(a, ast.Starred) for a in one.call.args) else None
            found |= _constants(value)
        for _, tree in modules(room):
            for node in ast.walk(tree):
                if isinstance(node, ast.Dict):
                    for key, value in zip(node.keys, node.values, strict=True):
                        if isinstance(key, ast.Constant) and key.value == "reason":
                            found |= _constants(value)
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).rpartition(".")[2] in (
                    "why",
                    "_why",
                ):
                    found |= _constants(node.value.elts[0]) if isinstance(node.value, ast.Tuple) else set()
    return found


def _constants(value: ast.expr | None) -> set[str]:
    if isinstance(value, ast.IfExp):
        return _constants(value.body) | _constants(value.orelse)
    text = value.value if isinstance(value, ast.Constant) else None
    return {text} if isinstance(text, str) and _REASON.fullmatch(text) else set()


def fixes() -> set[str]:
    """Literal fixes; those with values in them cannot be compared."""
    found = set(walls.FIXES.values())
    for room in ROOMS:
        for one in calls("DriverError", "WallError", room=room):
            value = None if any(isinstance(a, ast.Starred) for a in one.call.args) else argument(one, "fix", 2)
            if isinstance(value, ast.Constant) and value.value:
                found.add(str(value.value))
    return found


def test_the_lists_are_not_empty() -> None:
    assert {"UserNamespacesUnavailable", "SupervisorDied", "HostDied", "Degraded", "SupervisorFailed"} <= reasons()
    assert "reinstall pyopenshell" in fixes()


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_every_reason_has_a_row(reason: str) -> None:
    assert re.search(rf"^\| [^|]*`{reason}`", TEXT + CONTAINERS, re.MULTILINE)


@pytest.mark.parametrize("code", sorted(arguments("IdentityError", keyword="code", position=0)))
def test_every_reason_without_an_identity_has_a_row(code: str) -> None:
    assert f"| `{code}` |" in TEXT


@pytest.mark.parametrize("fix", sorted(fixes()))
def test_every_fix_is_given(fix: str) -> None:
    assert fix in TEXT + CONTAINERS


def test_every_wall_has_its_fix_in_its_row() -> None:
    for reason, fix in walls.FIXES.items():
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{reason}` |"))
        assert fix in row


def test_the_numbers_are_those_of_the_code() -> None:
    plain = walls.Walls(1, 1, "", "", (), (), ())
    assert f"{plain.processes} processes, {plain.open_files} open files" in TEXT
    assert f"private `/tmp` ({plain.tmp_megabytes // 1024} GiB)" in TEXT
    assert f"user `sandbox` ({walls.UID})" in TEXT
    assert "`http://{}:{}`".format(*walls.PROXY) in TEXT
    assert f"not ready within {BUILD_SECONDS:g} s" in TEXT
    assert f"`HOME={BASE['HOME']}`" in TEXT


def test_every_host_directory_that_is_visible_is_named() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| `/usr`"))
    for path in _HOST_READ_ONLY:
        assert f"`{path}`" in row or (path.startswith("/lib") and "`/lib*`" in row), path


def test_every_level_and_tier_is_explained() -> None:
    assert set(command.LEVELS) == set(assurance.LEVELS)
    for level in assurance.LEVELS:
        assert f"| `{level}` |" in TEXT
    for tier in assurance.TIERS:
        assert f"| {tier} |" in TEXT
