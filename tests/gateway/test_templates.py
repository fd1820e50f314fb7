"""Workload templates and workspace members as raw clients see them; the SDK's view is in test_sdk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from pyopenshell.gateway import templates, workspaces
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2
from tests.gateway.core import opened
from tests.gateway.serving import DEFAULT, failure, serving

USER, ADMIN = openshell_pb2.WORKSPACE_ROLE_USER, openshell_pb2.WORKSPACE_ROLE_ADMIN


def template(name: str = "kind", **workload: Any) -> openshell_pb2.SandboxWorkloadTemplate:
    return openshell_pb2.SandboxWorkloadTemplate(
        metadata=datamodel_pb2.ObjectMeta(name=name),
        spec=openshell_pb2.SandboxWorkloadTemplateSpec(workload=openshell_pb2.SandboxWorkloadConfig(**workload)),
    )


async def test_a_sandbox_has_what_its_template_says_unless_the_request_says_otherwise(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        kind = template(
            environment={"A": "t", "B": "t"}, resources=openshell_pb2.SandboxResources(cpu="2", memory="1Gi")
        )
        kind.spec.driver_config.update({"local": {"pids": 100}})
        made = (
            await served.client.CreateSandboxTemplate(
                openshell_pb2.CreateSandboxTemplateRequest(workspace_scope=DEFAULT, template=kind)
            )
        ).template
        assert (made.metadata.workspace, made.metadata.resource_version, bool(made.metadata.id)) == ("default", 1, True)
        spec = openshell_pb2.SandboxSpec(environment={"B": "mine"})
        spec.template.resources.update({"limits": {"cpu": "1"}})
        sandbox = await served.create(name="box", spec=spec, workload_template="kind")
        (workload,) = served.driver.created
        assert dict(workload.environment) == {"A": "t", "B": "mine"}
        assert (workload.cpu, workload.memory, workload.pids) == (1.0, 2**30, 100)
        provenance = sandbox.created_from_workload_template
        assert (provenance.name, provenance.resource_version) == ("kind", "1")
        gone = openshell_pb2.DeleteSandboxTemplateRequest(workspace_scope=DEFAULT, name="kind")
        await served.client.DeleteSandboxTemplate(gone)
        assert (await served.get("box")).created_from_workload_template.name == "kind"
        assert (await failure(served.client.DeleteSandboxTemplate(gone)))[0] is grpc.StatusCode.NOT_FOUND
        assert (await served.create(name="plain")).created_from_workload_template.name == ""


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (template(""), "INVALID_ARGUMENT"),
        (template("Not A Name"), "INVALID_ARGUMENT"),
        (template(environment={"1": "x"}), "INVALID_ARGUMENT"),
        (template(environment={"OPENSHELL_X": "x"}), "INVALID_ARGUMENT"),
        (template(resources=openshell_pb2.SandboxResources(memory="lots")), "INVALID_ARGUMENT"),
        (template(image="ubuntu"), "FAILED_PRECONDITION"),
        (template(resources=openshell_pb2.SandboxResources(gpu=openshell_pb2.GpuResourceRequirements())),
         "FAILED_PRECONDITION"),
    ],
)  # fmt: skip
async def test_a_template_no_sandbox_could_be_created_from_is_refused_at_once(
    tmp_path: Path, bad: openshell_pb2.SandboxWorkloadTemplate, code: str
) -> None:
    async with opened(tmp_path / "a.db") as core:
        with pytest.raises(GatewayError) as caught:
            await templates.Templates(core.store, core.clock).create("default", bad)
        assert caught.value.code == code


async def test_members_come_go_and_change_their_role(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        held = workspaces.Workspaces(core.store, core.clock)
        await held.open()
        await held.create("team", {})
        for number, name in enumerate(("ann", "bob", "cem")):
            core.clock.now += number
            await held.add_member("team", name, USER)
        changed = await held.add_member("team", "bob", ADMIN)
        assert (changed.role, changed.metadata.resource_version) == (ADMIN, 2)
        assert (await held.add_member("team", "bob", ADMIN)).metadata.resource_version == 2
        found, cursor = await held.members("team", 2, None)
        assert [one.principal_subject for one in found] == ["ann", "bob"]
        rest, end = await held.members("team", 2, cursor)
        assert ([one.principal_subject for one in rest], end) == (["cem"], None)
        assert await held.remove_member("team", "ann")
        assert not await held.remove_member("team", "ann")
        for subject, role, text in (("", USER, "is required"), ("x\n", USER, "printable"), ("x", 0, "role must be")):
            with pytest.raises(GatewayError, match=text):
                await held.add_member("team", subject, role)
        with pytest.raises(GatewayError, match="workspace not found"):
            await held.add_member("nowhere", "ann", USER)
        assert await held.delete("team")  # members go with it
        await held.create("team", {})
        assert (await held.members("team", 10, None))[0] == []
