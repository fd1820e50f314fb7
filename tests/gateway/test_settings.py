"""Settings: registry, exact refusals, precedence, revisions, push (contract/gateway.md 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.principals import Caller, UserPrincipal
from pyopenshell.gateway.settings import REGISTRY
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

from .core import ALICE, WORKSPACE, Core, as_sandbox, opened, policy, raw

PROPOSALS, MODE = "agent_policy_proposals_enabled", "proposal_approval_mode"


def on(value: bool = True) -> sandbox_pb2.SettingValue:
    return sandbox_pb2.SettingValue(bool_value=value)


def text(value: str) -> sandbox_pb2.SettingValue:
    return sandbox_pb2.SettingValue(string_value=value)


async def update(
    core: Core, *, everywhere: bool = False, caller: Caller = ALICE, **fields: object
) -> openshell_pb2.UpdateConfigResponse:
    request = openshell_pb2.UpdateConfigRequest(workspace_scope=WORKSPACE, **fields)  # type: ignore[arg-type]
    if everywhere:
        setattr(request, "global", True)
    else:
        request.sandbox = "box"
    return await core.policy.UpdateConfig(request, caller)


async def effective(core: Core, key: str) -> tuple[object, int]:
    config = await core.policy.GetSandboxConfig(
        sandbox_pb2.GetSandboxConfigRequest(workspace_scope=WORKSPACE, name="box"), ALICE
    )
    assert sorted(config.settings) == sorted(REGISTRY)
    entry = config.settings[key]
    which = entry.value.WhichOneof("value")
    return (getattr(entry.value, which) if which else None), entry.scope


async def test_global_wins_over_sandbox_wins_over_unset(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox()
        assert await effective(core, PROPOSALS) == (None, sandbox_pb2.SETTING_SCOPE_UNSPECIFIED)
        assert (await update(core, setting_key=PROPOSALS, setting_value=on())).settings_revision == 1
        assert await effective(core, PROPOSALS) == (True, sandbox_pb2.SETTING_SCOPE_SANDBOX)
        await update(core, everywhere=True, setting_key=PROPOSALS, setting_value=on(False))
        assert await effective(core, PROPOSALS) == (False, sandbox_pb2.SETTING_SCOPE_GLOBAL)
        for fields, message in (
            (
                {"setting_value": on()},
                f"setting '{PROPOSALS}' is managed globally; delete the global setting before sandbox update",
            ),
            ({"delete_setting": True}, f"setting '{PROPOSALS}' is managed globally; delete the global setting first"),
        ):
            with pytest.raises(GatewayError) as caught:
                await update(core, setting_key=PROPOSALS, **fields)
            assert (caught.value.code, caught.value.message) == ("FAILED_PRECONDITION", message)
        response = await update(core, everywhere=True, setting_key=PROPOSALS, delete_setting=True)
        assert (response.deleted, response.settings_revision) == (True, 2)
        assert await effective(core, PROPOSALS) == (True, sandbox_pb2.SETTING_SCOPE_SANDBOX)
        assert (await update(core, setting_key=PROPOSALS, delete_setting=True)).deleted
        assert not (await update(core, setting_key=PROPOSALS, delete_setting=True)).deleted
        assert await effective(core, PROPOSALS) == (None, sandbox_pb2.SETTING_SCOPE_UNSPECIFIED)


async def test_the_revision_and_the_push_follow_changes_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        with core.bus.subscribe(f"config:{sandbox_id}", "config:*") as pushed:
            revisions = [
                (await update(core, setting_key=MODE, setting_value=text(value))).settings_revision
                for value in ("auto", "auto", "manual")
            ]
            assert revisions == [1, 1, 2]
            await update(core, everywhere=True, setting_key=MODE, setting_value=text("auto"))
            await update(core, everywhere=True, setting_key="ocsf_json_enabled", delete_setting=True)
            topics = [(await anext(pushed)).topic for _ in range(3)]
            assert topics == [f"config:{sandbox_id}", f"config:{sandbox_id}", "config:*"]
            pushed.close()
            with pytest.raises(StopAsyncIteration):
                await anext(pushed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"setting_key": "agent_policy_proposal_enabled", "setting_value": on()},
            "unknown setting key 'agent_policy_proposal_enabled'. Allowed keys: agent_policy_proposals_enabled, "
            "ocsf_json_enabled, proposal_approval_mode, providers_v2_enabled",
        ),
        ({"setting_key": PROPOSALS, "setting_value": text("true")}, f"setting '{PROPOSALS}' expects bool value"),
        ({"setting_key": MODE, "setting_value": on()}, f"setting '{MODE}' expects string value"),
        (
            {"setting_key": MODE, "setting_value": text("autom")},
            f"setting '{MODE}' expects one of [manual, auto]; got 'autom'",
        ),
        (
            {"setting_key": MODE, "setting_value": text("AUTO")},
            f"setting '{MODE}' expects one of [manual, auto]; got 'AUTO'",
        ),
        ({"setting_key": MODE}, "setting_value is required"),
        ({"setting_key": MODE, "setting_value": sandbox_pb2.SettingValue()}, "setting_value is required"),
        (
            {"setting_key": "policy", "setting_value": text("x")},
            "reserved key 'policy' must be set via the policy field",
        ),
        (
            {"setting_key": "policy", "delete_setting": True},
            "reserved key 'policy' must be deleted via policy commands",
        ),
        ({}, "one of policy, setting_key, or merge_operations must be provided"),
        (
            {"setting_key": MODE, "policy": sandbox_pb2.SandboxPolicy(version=1)},
            "policy, setting_key, and merge_operations are mutually exclusive",
        ),
    ],
)
async def test_bad_requests(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox()
        with pytest.raises(GatewayError) as caught:
            await update(core, **fields)
        assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", message)
        assert await core.store.run(lambda tx: core.settings.revision(tx, "box")) == 0


async def test_gateway_config_lists_every_key(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await update(core, everywhere=True, setting_key=MODE, setting_value=text("auto"))
        config = await core.policy.GetGatewayConfig(sandbox_pb2.GetGatewayConfigRequest(), ALICE)
        assert sorted(config.settings) == sorted(REGISTRY)
        assert config.settings[MODE].string_value == "auto"
        assert config.settings[PROPOSALS].WhichOneof("value") is None
        assert config.settings_revision == 1


async def test_who_may_change_what(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        plain = Caller(UserPrincipal("mtls:CN=bob", "bob", "mtls", frozenset({"openshell-user"})))
        with pytest.raises(GatewayError, match="platform admin role required for cross-workspace operations"):
            await update(core, everywhere=True, caller=plain, setting_key=MODE, setting_value=text("auto"))
        inside = as_sandbox(sandbox_id)
        cases: list[tuple[bool, dict[str, object], str]] = [
            (False, {"setting_key": MODE, "setting_value": text("auto")}, "may only perform sandbox policy sync"),
            (False, {"setting_key": MODE, "delete_setting": True}, "cannot delete settings"),
            (True, {"setting_key": MODE, "setting_value": text("auto")}, "cannot mutate global config"),
        ]
        for everywhere, fields, message in cases:
            with pytest.raises(GatewayError, match=message) as caught:
                await update(core, everywhere=everywhere, caller=inside, **fields)
            assert caught.value.code == "PERMISSION_DENIED"


async def test_a_sandbox_cannot_grant_itself_network_access(tmp_path: Path) -> None:
    """Attack G-1: policy sync is for what the image brought, before anybody decided anything."""
    from pyopenshell.wire import policy_map

    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        open_policy = policy_map.policy_to_proto(policy(raw("evil.example.com")))
        with pytest.raises(GatewayError, match="cannot change its own network policy") as caught:
            await update(core, caller=as_sandbox(sandbox_id), policy=open_policy)
        assert caught.value.code == "PERMISSION_DENIED"
        assert (await core.base(sandbox_id)).rules == ()
        walls = policy_map.policy_to_proto(policy())
        assert (await update(core, caller=as_sandbox(sandbox_id), policy=walls)).version == 1
        with pytest.raises(GatewayError, match="cannot change its own network policy"):
            await update(core, caller=as_sandbox(sandbox_id), policy=walls)
