"""docs/policy-reference.md knows every field, value, preset, condition and error."""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pyopenshell.policy import examples, lint, load
from pyopenshell.policy.codes import TEST_CODES, TEXT_CODES, VALUE_CODES
from pyopenshell.policy.decision import Condition
from pyopenshell.policy.engine import compile
from pyopenshell.policy.records import PRESETS
from pyopenshell.policy.schema import ACCESS, ENDPOINT_KEYS, ENFORCEMENT, MATCH_KEYS, PATH_CASES, PROTOCOLS, TLS
from pyopenshell.proof import lint as proof_lint

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "policy-reference.md").read_text()
SOURCES = sorted((ROOT / "src" / "pyopenshell" / "policy").glob("*.py"))
CALLS = {"problem": 0, "refuse": 0, "HostProblem": 0, "Problem": 3, "_add": 2, "_stop": 2}
ELSEWHERE = {"ambiguous", "too_long"}
"""`ambiguous` is a finding, listed with those of lint; `too_long` is about proposals, which are not files."""


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_policy_docs", ROOT / "tools" / "generate_policy_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def used_codes() -> Iterator[str]:
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                position = CALLS.get(name, 99)
                if len(node.args) > position and isinstance(node.args[position], ast.Constant):
                    yield str(node.args[position].value)  # type: ignore[attr-defined]
            elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and source.name == "validate.py":
                first = node.value.elts[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value)


def test_the_page_is_what_the_generator_writes() -> None:
    assert generator().reference() == TEXT, "run tools/generate_policy_docs.py"


def test_every_code_is_documented_and_used() -> None:
    documented = {*TEXT_CODES, *VALUE_CODES, *TEST_CODES}
    assert set(used_codes()) - ELSEWHERE == documented
    for code in (*documented, *lint.CODES, *proof_lint.CODES):
        assert f"| `{code}` |" in TEXT, code


@pytest.mark.parametrize("word", [*ENDPOINT_KEYS, *MATCH_KEYS])
def test_every_field_is_documented(word: str) -> None:
    assert f"| `{word}` |" in TEXT


@pytest.mark.parametrize("word", [*PROTOCOLS, *ACCESS, *ENFORCEMENT, *TLS, *PATH_CASES, *PRESETS])
def test_every_value_is_documented(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_condition_is_documented() -> None:
    for condition in Condition:
        assert condition is Condition.NONE or f"| `{condition.value}` |" in TEXT


def test_the_examples_of_the_page_are_true() -> None:
    policy_text, suite = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    results = examples.run(compile(load(policy_text)), examples.load_examples(suite))
    assert len(results) == 5
    assert [result.complaint for result in results] == [""] * len(results)
    python = re.search(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert python is not None
    scope: dict[str, Any] = {}
    exec(compile_python(python[1]), scope)
    from pyopenshell.pytest_plugin import PolicyCheck

    scope["test_the_agent_cannot_write"](PolicyCheck.loads(policy_text))


def compile_python(text: str) -> Any:
    import builtins

    return builtins.compile(text, "policy-reference.md", "exec")
