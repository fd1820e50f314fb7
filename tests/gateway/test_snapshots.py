"""Snapshots: same inputs, same bytes; every input that matters changes the fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

from .core import ALICE, WORKSPACE, opened, policy, raw, rest


async def test_equal_inputs_give_equal_bytes_in_any_order_of_writing(tmp_path: Path) -> None:
    rules = [rest("a.example.com", "GET /x", "PUT /y"), raw("b.example.com"), raw("c.example.com", port=8443)]
    seen = []
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        async with opened(tmp_path / f"{number}.db") as core:
            sandbox_id = await core.sandbox(policy=policy(*(rules[index] for index in order)))
            first = await core.snapshots.sandbox_config(sandbox_id)
            again = await core.snapshots.sandbox_config(sandbox_id)
            assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
            seen.append((first.policy_hash, first.config_revision))
    assert seen[0] == seen[1]
    assert seen[0][0] == policy_hash(policy(*rules))


async def test_every_change_that_matters_changes_the_fingerprint(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        seen = [(await core.snapshots.sandbox_config(sandbox_id)).config_revision]

        async def look() -> None:
            seen.append((await core.snapshots.sandbox_config(sandbox_id)).config_revision)

        await core.set_policy(sandbox_id, policy(raw("a.example.com")))
        await look()
        value = sandbox_pb2.SettingValue(bool_value=True)
        await core.store.run(lambda tx: core.settings.put(tx, sandbox_id, "ocsf_json_enabled", value))
        await look()
        await core.store.run(lambda tx: core.settings.put(tx, "__global__", "ocsf_json_enabled", value))
        await look()
        await core.store.run(lambda tx: core.revisions.set_global(tx, policy(), author="x"))
        await look()
        await core.store.run(core.revisions.delete_global)
        # Back to an earlier content under a new version: the sandbox must report it again.
        await core.set_policy(sandbox_id, policy())
        await look()
        await core.set_policy(sandbox_id, policy(raw("a.example.com")))
        await look()
        assert len(set(seen)) == len(seen)
        assert all(0 < revision < 2**64 for revision in seen)


async def test_without_any_policy_there_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox()
        snapshot = await core.snapshots.sandbox_config(sandbox_id)
        assert (snapshot.HasField("policy"), snapshot.version, snapshot.policy_hash) == (False, 0, "")
        assert snapshot.workspace == "default"
        assert snapshot.policy_validation_failure_mode == "fail_closed"


async def test_the_read_rpc_shows_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(raw("a.example.com")))
        snapshot = await core.snapshots.sandbox_config(sandbox_id)
        response = await core.policy.GetSandboxConfig(
            sandbox_pb2.GetSandboxConfigRequest(workspace_scope=WORKSPACE, name="box"), ALICE
        )
        for field in sandbox_pb2.SandboxConfigSnapshot.DESCRIPTOR.fields:
            assert getattr(response, field.name) == getattr(snapshot, field.name), field.name


async def test_what_has_no_field_on_the_wire_survives_the_store(tmp_path: Path) -> None:
    """`path_case` travels as an unknown field: storing, composing and copying must not lose it."""
    import dataclasses

    rule = rest("a.example.com", "GET /x")
    endpoint = dataclasses.replace(rule.endpoints[0], path_case="insensitive")
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(dataclasses.replace(rule, endpoints=(endpoint,))))
        snapshot = await core.snapshots.sandbox_config(sandbox_id)
        sent = sandbox_pb2.SandboxConfigSnapshot.FromString(snapshot.SerializeToString())
        assert policy_map.policy_from_proto(sent.policy).rules[0].endpoints[0].path_case == "insensitive"


async def test_an_unknown_sandbox_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        with pytest.raises(GatewayError, match="sandbox not found"):
            await core.snapshots.sandbox_config("nobody")
        with pytest.raises(GatewayError, match="policy revision not found"):
            await core.policy.GetSandboxPolicyStatus(
                openshell_pb2.GetSandboxPolicyStatusRequest(
                    workspace_scope=WORKSPACE, sandbox=(await _named(core)), version=7
                ),
                ALICE,
            )


async def _named(core: object) -> str:
    await core.sandbox("box")  # type: ignore[attr-defined]
    return "box"
