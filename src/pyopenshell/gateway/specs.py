"""What a CreateSandbox request may ask for: checked whole before anything is stored.

What this gateway cannot give is refused by name, never ignored. Must not know the store or the driver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format

from pyopenshell.drivers.base import Capabilities
from pyopenshell.gateway import limits, quantities
from pyopenshell.gateway.configuration import DRIVERS
from pyopenshell.gateway.errors import GatewayError, invalid, precondition, required
from pyopenshell.isolation.assurance import REQUIRABLE
from pyopenshell.policy.conflicts import conflicts
from pyopenshell.policy.model import RESTRICTIVE_DEFAULT, Policy
from pyopenshell.policy.problems import PolicyError
from pyopenshell.policy.validate import is_reserved, validate
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2

_COMMAND_BYTES: Final = 256 * 1024
_POLICY_BYTES: Final = 256 * 1024
_TEMPLATE_TEXT: Final = 1024
_WALLS: Final = ("require", "accept_weaker", "pids")


LOCAL: Final[Mapping[str, Capabilities]] = {"local": Capabilities(paths=True)}


def checked(
    request: openshell_pb2.CreateSandboxRequest, drivers: Mapping[str, Capabilities] = LOCAL
) -> tuple[Policy, Demands]:
    """The policy the sandbox starts with, and what it asks of its driver. `drivers` are those of this gateway.

    Raises GatewayError for anything that cannot be had.
    """
    if not request.HasField("spec"):
        raise required("spec")
    spec = request.spec
    if request.name:
        limits.routable_name(request.name, "sandbox")
    limits.labels(request.labels)
    limits.labels(request.annotations, "annotations")
    limits.environment(spec.environment, "spec.environment")
    limits.environment(spec.template.environment, "spec.template.environment")
    limits.command(spec.command, 256, _COMMAND_BYTES, _COMMAND_BYTES)
    if len(spec.providers) > 32:
        raise invalid("providers list exceeds maximum (32)", field="spec.providers")
    if spec.providers:
        raise precondition(f"provider '{spec.providers[0][:100]}' not found")
    _offered(request)
    return _policy(spec), _placed(demands(spec), drivers)


@dataclasses.dataclass(frozen=True, slots=True)
class Demands:
    """What a sandbox asks of its driver, of its walls (assurance), and its limits (bytes, CPUs, tasks)."""

    driver: str = ""
    image: str = ""
    require: str = ""
    accept_weaker: bool = False
    memory: int | None = None
    cpu: float | None = None
    pids: int | None = None


def demands(spec: openshell_pb2.SandboxSpec) -> Demands:
    """From `template.resources` {"limits": {"cpu", "memory"}} and `template.driver_config` {DRIVER: {...}}.

    The one driver named there is the one it wants. Raises GatewayError for anything else in them: what cannot be given
    is never ignored.
    """
    limits_field, driver_field = "spec.template.resources", "spec.template.driver_config"
    try:
        resources = json_format.MessageToDict(spec.template.resources)
        drivers = json_format.MessageToDict(spec.template.driver_config)
    except (ValueError, json_format.Error):  # numbers that JSON has not
        raise invalid("numbers must be finite", field=limits_field) from None
    given = _only(resources.pop("limits", {}), ("cpu", "memory"), f"{limits_field}.limits")
    _only(resources, (), limits_field)
    for name in drivers:
        if name not in DRIVERS:
            raise unsupported(f"{driver_field}.{name[:100]}", f"there are the drivers {', '.join(DRIVERS)}")
    if len(drivers) > 1:
        raise invalid(f"{driver_field} names more than one driver", field=driver_field)
    driver, found = next(iter(drivers.items()), ("", {}))
    field = f"{driver_field}.{driver}"
    wanted = _only(found, _WALLS, field)
    require = wanted.get("require", "")
    if require not in ("", *REQUIRABLE):
        raise invalid(f"require must be one of {', '.join(REQUIRABLE)}", field=f"{field}.require")
    weaker = wanted.get("accept_weaker", False)
    if not isinstance(weaker, bool):
        raise invalid("accept_weaker must be true or false", field=f"{field}.accept_weaker")
    try:
        cpu = None if "cpu" not in given else quantities.cpus(given["cpu"])
        memory = None if "memory" not in given else quantities.size(given["memory"])
        pids = None if "pids" not in wanted else quantities.tasks(wanted["pids"])
    except ValueError as error:
        raise invalid(str(error), field=limits_field) from None
    return Demands(driver, spec.template.image, require, weaker, memory, cpu, pids)


def _placed(wanted: Demands, drivers: Mapping[str, Capabilities]) -> Demands:
    """With its driver chosen: the one it names; else one that takes its image; else the gateway's first."""
    field, is_path = "spec.template.image", wanted.image.startswith("/")

    def takes(can: Capabilities) -> bool:
        return not wanted.image or (can.paths if is_path else can.images)

    name = wanted.driver or next((one for one, can in drivers.items() if takes(can)), next(iter(drivers)))
    if name not in drivers:
        have = ", ".join(drivers)
        raise unsupported(f"spec.template.driver_config.{name}", f"compute_drivers in gateway.toml has only: {have}")
    if not takes(drivers[name]):
        pulls = "it pulls from no registry; give it a path: docker save IMAGE -o image.tar, then --from ./image.tar"
        pulls += "; Podman takes a name: --driver podman" if any(can.images for can in drivers.values()) else ""
        why = (
            "it takes no path; load it there first (podman load, podman import) and give its name" if is_path else pulls
        )
        raise unsupported(field, why, name)
    if drivers[name].images and not wanted.image:
        raise invalid(f"the {name} driver needs an image (sandbox create --from IMAGE)", field=field)
    return dataclasses.replace(wanted, driver=name)


def remember_driver(spec: openshell_pb2.SandboxSpec, name: str) -> None:
    """Write a choice down that the gateway's configuration made: it may be another one when the sandbox is started."""
    if name != next(iter(LOCAL)) and name not in spec.template.driver_config:
        spec.template.driver_config.update({name: {}})


def _only(found: object, known: tuple[str, ...], field: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise invalid(f"{field} must be an object", field=field)
    for key in found:
        if key not in known:
            message = f"{field}.{key[:100]} is not supported"
            raise GatewayError("FAILED_PRECONDITION", message, "NOT_SUPPORTED", field=field)
    return found


def _offered(request: openshell_pb2.CreateSandboxRequest) -> None:
    spec, template = request.spec, request.spec.template
    if len(template.image) > _TEMPLATE_TEXT:
        raise invalid(f"spec.template.image is longer than {_TEMPLATE_TEXT} characters", field="spec.template.image")
    refused = {
        "spec.template.runtime_class_name": (template.runtime_class_name, "there are no runtime classes"),
        "spec.resource_requirements": (spec.resource_requirements.HasField("gpu"), "GPUs cannot be reserved"),
        "service_exposures": (request.service_exposures, "services cannot be exposed"),
        "spec.restart_policy": (
            spec.restart_policy > openshell_pb2.SANDBOX_RESTART_POLICY_NEVER,
            "a main process that ended is not run again; leave it out, or set NEVER",
        ),
        "await_main_process_attachment": (
            request.await_main_process_attachment,
            "a main process starts at once; use exec for one you talk to",
        ),
    }
    for field, (asked, why) in refused.items():
        if asked:
            raise unsupported(field, why)


def unsupported(field: str, why: str, driver: str = "") -> GatewayError:
    """What this gateway, or one driver of it, cannot give, and why."""
    message = f"{field} is not supported{f' by the {driver} driver' if driver else ''}: {why}"
    return GatewayError("FAILED_PRECONDITION", message, "NOT_SUPPORTED", field=field)


def _policy(spec: openshell_pb2.SandboxSpec) -> Policy:
    if not spec.HasField("policy"):
        # The default names a host's directories; an image has others, and its driver knows which.
        return dataclasses.replace(RESTRICTIVE_DEFAULT, filesystem=None) if spec.template.image else RESTRICTIVE_DEFAULT
    if spec.policy.ByteSize() > _POLICY_BYTES:
        raise invalid(f"policy is larger than {_POLICY_BYTES // 1024} KiB", field="spec.policy")
    for key in spec.policy.network_policies:
        if is_reserved(key):
            text = f"network_policies key '{key[:100]}' uses reserved '_provider_' prefix; choose another name"
            raise invalid(text, field="spec.policy")
    try:
        policy = policy_map.policy_from_proto(spec.policy)
        problems = validate(policy)
    except PolicyError as error:
        problems = list(error.problems)
    if problems:
        joined = "; ".join(problem.message for problem in problems[:20])
        raise invalid(f"policy contains unsafe content: {joined}", field="spec.policy")
    if ambiguous := conflicts(policy):
        joined = "\n".join(problem.message for problem in ambiguous[:20])
        raise precondition(f"network endpoint ambiguity validation failed:\n{joined}")
    return policy
