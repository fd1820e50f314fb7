"""Amounts of memory, CPUs and tasks: what is written is what is meant, and nothing else is taken."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.drivers.base import Capabilities
from pyopenshell.gateway import quantities
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.specs import checked, demands, remember_driver
from pyopenshell.wire.gen import openshell_pb2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512Mi", 512 << 20), ("4Gi", 4 << 30), ("8G", 8 * 10**9), ("20000000", 20_000_000), ("1Ti", 1 << 40)],
)
def test_memory(text: str, expected: int) -> None:
    assert quantities.size(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("2", 2.0), ("0.5", 0.5), ("500m", 0.5), ("1.25", 1.25), ("10m", 0.01)])
def test_cpus(text: str, expected: float) -> None:
    assert quantities.cpus(text) == expected


BAD: list[object] = [
    "",
    " 1",
    "1 Gi",
    "-1",
    "+1",
    "1e3",
    "0x10",
    "1_0",
    "inf",
    "nan",
    "\u0661",
    "5Mi\n",
    "1mi",
    "1.5Gi",
    "512MB",
    None,
    5,
    True,
    [],
]


@pytest.mark.parametrize("value", [*BAD, "15Mi", "0", "999999999999999Ti"], ids=repr)
def test_what_is_no_memory(value: object) -> None:
    with pytest.raises(ValueError, match="memory"):
        quantities.size(value)


@pytest.mark.parametrize("value", [*BAD, "0", "9m", "0.001", "1.", ".5", "1.5m"], ids=repr)
def test_what_are_no_cpus(value: object) -> None:
    with pytest.raises(ValueError, match="cpu"):
        quantities.cpus(value)


@pytest.mark.parametrize("value", [0, 3, 1.5, -1, 1e9, math.inf, math.nan, "5", True, None], ids=repr)
def test_what_are_no_tasks(value: object) -> None:
    with pytest.raises(ValueError, match="pids"):
        quantities.tasks(value)


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_a_clear_error(text: str) -> None:
    for read in (quantities.size, quantities.cpus):
        with contextlib.suppress(ValueError):
            assert read(text) > 0


def spec(resources: Any = None, driver_config: Any = None) -> openshell_pb2.SandboxSpec:
    made = openshell_pb2.SandboxSpec()
    if resources is not None:
        made.template.resources.update(resources)
    if driver_config is not None:
        made.template.driver_config.update(driver_config)
    return made


def test_demands_are_read_from_the_template() -> None:
    found = demands(spec({"limits": {"cpu": "500m", "memory": "64Mi"}}, {"local": {"require": "network", "pids": 100}}))
    assert (found.require, found.memory, found.cpu, found.pids) == ("network", 64 << 20, 0.5, 100)
    assert demands(spec()) == demands(spec({}, {}))


@pytest.mark.parametrize(
    ("resources", "driver_config", "code"),
    [
        ({"requests": {"cpu": "1"}}, None, "FAILED_PRECONDITION"),
        ({"limits": {"gpu": "1"}}, None, "FAILED_PRECONDITION"),
        ({"limits": "1"}, None, "INVALID_ARGUMENT"),
        ({"limits": {"memory": 5}}, None, "INVALID_ARGUMENT"),
        (None, {"kubernetes": {}}, "FAILED_PRECONDITION"),
        (None, {"podman": {}, "local": {}}, "INVALID_ARGUMENT"),
        (None, {"podman": {"privileged": True}}, "FAILED_PRECONDITION"),
        (None, {"local": {"privileged": True}}, "FAILED_PRECONDITION"),
        (None, {"local": {"require": "most"}}, "INVALID_ARGUMENT"),
        (None, {"local": {"require": 1}}, "INVALID_ARGUMENT"),
        (None, {"local": {"require": ["full"]}}, "INVALID_ARGUMENT"),
        (None, {"local": {"pids": "many"}}, "INVALID_ARGUMENT"),
        (None, {"local": {"pids": math.inf}}, "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(resources: object, driver_config: object, code: str) -> None:
    with pytest.raises(GatewayError) as refused:
        demands(spec(resources, driver_config))
    assert refused.value.code == code


BOTH = {"local": Capabilities(paths=True), "podman": Capabilities(images=True)}


@pytest.mark.parametrize(
    ("image", "driver_config", "drivers", "chosen"),
    [
        ("", None, BOTH, "local"),
        ("x", None, BOTH, "podman"),
        ("/x", None, dict(reversed(BOTH.items())), "local"),
        ("x", {"podman": {"pids": 9}}, BOTH, "podman"),
        ("", {"local": {}}, dict(reversed(BOTH.items())), "local"),
        ("x", None, {"podman": Capabilities(images=True)}, "podman"),
    ],
)
def test_a_driver_is_chosen(image: str, driver_config: object, drivers: dict[str, Capabilities], chosen: str) -> None:
    made = spec(None, driver_config)
    made.template.image = image
    _, found = checked(openshell_pb2.CreateSandboxRequest(spec=made), drivers)
    assert (found.driver, found.image) == (chosen, image)
    remember_driver(made, chosen)
    assert demands(made).driver in (chosen, ""), "what the gateway chose is not forgotten with its configuration"


@pytest.mark.parametrize(
    ("image", "driver_config", "drivers", "code", "text"),
    [
        ("", {"podman": {}}, BOTH, "INVALID_ARGUMENT", "--from IMAGE"),
        ("x", {"local": {}}, BOTH, "FAILED_PRECONDITION", "not supported by the local driver"),
        ("/x", {"podman": {}}, BOTH, "FAILED_PRECONDITION", "not supported by the podman driver"),
        ("", {"podman": {}}, {"local": Capabilities()}, "FAILED_PRECONDITION", "compute_drivers in gateway.toml"),
        ("x", None, {"local": Capabilities()}, "FAILED_PRECONDITION", "spec.template.image is not supported"),
    ],
)
def test_a_driver_that_cannot_is_said(
    image: str, driver_config: object, drivers: dict[str, Capabilities], code: str, text: str
) -> None:
    made = spec(None, driver_config)
    made.template.image = image
    with pytest.raises(GatewayError) as refused:
        checked(openshell_pb2.CreateSandboxRequest(spec=made), drivers)
    assert refused.value.code == code
    assert text in refused.value.message
