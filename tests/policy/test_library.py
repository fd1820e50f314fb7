"""docs/policy-library.md: its examples run, and what it says of imports and names is so."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from pyopenshell import policy

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "policy-library.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

SHOW = """
import json, sys
before = set(sys.modules)
exec(sys.argv[1])
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
rooms = sorted({".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("pyopenshell.")})
asyncio = sorted(name for name in ("asyncio", "socket", "ssl", "http.client", "threading") if name in sys.modules)
print(json.dumps([sorted(new), rooms, asyncio, "pyopenshell.policy.engine" in sys.modules]))
"""


def imported(code: str) -> list[Any]:
    done = subprocess.run([sys.executable, "-I", "-c", SHOW, code], capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    assert len(BLOCKS) == 4
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"policy-library.md, example {number + 1}", "exec"), scope)
    assert "✗ method" in capsys.readouterr().out


def test_the_language_alone_brings_nothing_heavy() -> None:
    third, rooms, io, engine = imported("import pyopenshell.policy")
    assert third == ["pyopenshell", "ruamel"]
    assert rooms == ["pyopenshell.policy"]
    assert not {"asyncio", "socket", "ssl", "http.client"} & set(io)
    assert not engine


def test_the_proof_needs_the_language_and_nothing_else() -> None:
    third, rooms, io, _ = imported("import pyopenshell.proof.delta, pyopenshell.proof.findings, pyopenshell.proof.lint")
    assert third == ["pyopenshell", "ruamel"]
    assert rooms == ["pyopenshell.policy", "pyopenshell.proof"]
    assert not {"asyncio", "ssl", "http.client"} & set(io)


def test_everything_public_is_there_and_says_what_it_is() -> None:
    assert policy.__all__ == sorted(policy.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in policy.__all__:
        value = getattr(policy, name)
        assert name.isupper() or (value.__doc__ and "(" not in value.__doc__[: len(name) + 1]), name


@pytest.mark.parametrize("name", ["load", "dump", "compile", "covers", "effective", "validate", "policy_hash"])
def test_functions_are_on_the_page(name: str) -> None:
    assert name in policy.__all__
    assert name in TEXT
