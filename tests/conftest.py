"""In CI, run as root, nothing may be skipped for want of a privilege or a program: a skip there is a failure."""

from __future__ import annotations

import os
import platform
from collections.abc import Generator

import hypothesis
import pytest

# No test asserts on absolute time, property tests included: machines are noisy.
# An ordinary user runs some tests in a tree that is not theirs: then examples are not kept.
_KEPT = {} if os.access(".", os.W_OK) else {"database": None}
hypothesis.settings.register_profile("openshell", deadline=None, **_KEPT)
hypothesis.settings.load_profile("openshell")

MUST_RUN = os.environ.get("CI") == "true" and os.geteuid() == 0 and platform.machine() == "x86_64"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI has what it needs: {report.longrepr}"
    return report
