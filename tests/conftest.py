"""What holds for every test run.

In CI, run as root, nothing may be skipped for want of a privilege or a program: a skip there is a failure.
`--driver podman` runs the driver contract against Podman (make test-podman); without it Podman's own is left out.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from tests.podman.service import NoPodman, Service, service

# No test asserts on absolute time, property tests included: machines are noisy.
# An ordinary user runs some tests in a tree that is not theirs: then examples are not kept.
_KEPT = {} if os.access(".", os.W_OK) else {"database": None}
hypothesis.settings.register_profile("openshell", deadline=None, **_KEPT)
hypothesis.settings.load_profile("openshell")

DRIVERS = ("local", "podman")
"""Markers of the same names: tests of one driver only."""

MUST_RUN = os.environ.get("CI") == "true" and os.geteuid() == 0 and platform.machine() == "x86_64"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--driver", choices=DRIVERS, default=DRIVERS[0], help="what makes the sandboxes of driver tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others = [name for name in DRIVERS if name != config.getoption("--driver")]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in others)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def podman() -> Iterator[Service]:
    """Skips, with the reason, where no container can run."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(service())
        except NoPodman as error:
            pytest.skip(str(error))
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI has what it needs: {report.longrepr}"
    return report
