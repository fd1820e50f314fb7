"""docs/performance.md lists every benchmark, and of the proxy's every test, target and budget."""

from __future__ import annotations

import pathlib

from benchmarks.proxy.measure import MEMORY, TESTS
from benchmarks.proxy.report import BUDGETS
from benchmarks.proxy.targets import TARGETS

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text()


def test_every_benchmark_is_listed_with_its_command() -> None:
    names = [path.stem for path in (ROOT / "benchmarks").glob("[a-z]*") if path.suffix == ".py" or path.is_dir()]
    assert len(names) > 5
    assert [name for name in names if f"`python -m benchmarks.{name}`" not in PAGE] == []


def test_the_table_of_the_proxy_is_of_a_whole_run() -> None:
    lines = PAGE.splitlines()
    header = next(line for line in lines if line.startswith("| | direct |"))
    assert [cell.strip() for cell in header.strip("|").split("|")][1:] == list(TARGETS)
    for title in (*(test.title for test in TESTS.values()), *(f"RSS, {title}" for title in MEMORY.values())):
        assert any(line.startswith(f"| {title}") for line in lines), title


def test_every_budget_has_its_verdict() -> None:
    for budget in BUDGETS:
        line = next((line for line in PAGE.splitlines() if line.startswith(f"| {budget.text} |")), "")
        assert line.rstrip(" |").endswith(("met", "MISSED")), budget.text
