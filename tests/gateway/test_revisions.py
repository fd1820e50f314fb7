"""Policy revisions: numbers, status, live changes, global policy, merge (contract/gateway.md 2, 3)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.revisions import MAX_POLICY_BYTES, decode, encode
from pyopenshell.gateway.store.schema import log_lines
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.model import (
    RESTRICTIVE_DEFAULT,
    Endpoint,
    FilesystemPolicy,
    LandlockPolicy,
    Policy,
    ProcessPolicy,
)
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2
from tests.policy.strategies import policies

from .core import ALICE, WORKSPACE, Core, as_sandbox, opened, policy, raw, rest

LOADED, FAILED = openshell_pb2.POLICY_STATUS_LOADED, openshell_pb2.POLICY_STATUS_FAILED


async def put(
    core: Core, new: Policy, *, everywhere: bool = False, **fields: object
) -> openshell_pb2.UpdateConfigResponse:
    request = openshell_pb2.UpdateConfigRequest(
        workspace_scope=WORKSPACE,
        sandbox="" if everywhere else "box",
        policy=policy_map.policy_to_proto(new),
        **fields,  # type: ignore[arg-type]
    )
    if everywhere:
        setattr(request, "global", True)
    return await core.policy.UpdateConfig(request, ALICE)


async def statuses(core: Core, sandbox_id: str) -> list[str]:
    return [f"{one.version} {one.status}" for one in reversed(await core.revisions.list(sandbox_id, 100))]


async def report(core: Core, sandbox_id: str, version: int, status: int, error: str = "") -> None:
    await core.store.run(lambda tx: core.revisions.report(tx, sandbox_id, version, status, error))


async def test_the_policy_of_creation_is_version_one_and_loaded(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(raw("a.example.com")))
        revision, active = await core.revisions.status(sandbox_id)
        assert (revision.version, revision.status, active) == (1, "loaded", 0)
        assert revision.policy.rules[0].endpoints[0].host == "a.example.com"


async def test_versions_grow_and_equal_policies_make_none(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        one, two = raw("a.example.com"), raw("b.example.com")
        first = await put(core, policy(one, two))
        again = await put(core, policy(two, one))
        assert (first.version, again.version) == (2, 2)
        assert first.policy_hash == again.policy_hash == policy_hash(policy(one, two))
        assert (await put(core, policy(one))).version == 3
        assert await statuses(core, sandbox_id) == ["1 loaded", "2 superseded", "3 pending"]


async def test_reports_move_the_status_and_the_active_version(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        for number in range(3):
            await put(core, policy(raw(f"{number}.example.com")))
        await report(core, sandbox_id, 3, LOADED)
        assert await statuses(core, sandbox_id) == ["1 superseded", "2 superseded", "3 loaded", "4 pending"]
        await report(core, sandbox_id, 4, LOADED)
        # A report that was overtaken says nothing about what runs now.
        await report(core, sandbox_id, 3, LOADED)
        assert await statuses(core, sandbox_id) == ["1 superseded", "2 superseded", "3 superseded", "4 loaded"]
        assert (await core.revisions.status(sandbox_id))[1] == 4
        await put(core, policy(raw("bad.example.com")))
        await report(core, sandbox_id, 5, FAILED, "no such thing")
        revision, active = await core.revisions.status(sandbox_id)
        assert (revision.status, revision.load_error, active) == ("failed", "no such thing", 4)


@pytest.mark.parametrize(
    ("version", "status", "code", "message"),
    [
        (1, openshell_pb2.POLICY_STATUS_PENDING, "INVALID_ARGUMENT", "status must be LOADED or FAILED"),
        (0, LOADED, "INVALID_ARGUMENT", "version is required"),
        (9, LOADED, "NOT_FOUND", "policy revision not found"),
    ],
)
async def test_bad_reports(tmp_path: Path, version: int, status: int, code: str, message: str) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        with pytest.raises(GatewayError) as caught:
            await report(core, sandbox_id, version, status)
        assert (caught.value.code, caught.value.message) == (code, message)


async def test_list_pages_newest_first_without_bodies(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox(policy=policy())
        for number in range(4):
            await put(core, policy(raw(f"{number}.example.com")))
        request = openshell_pb2.ListSandboxPoliciesRequest(workspace_scope=WORKSPACE, sandbox="box", page_size=2)
        seen = []
        while True:
            response = await core.policy.ListSandboxPolicies(request, ALICE)
            seen += [revision.version for revision in response.revisions]
            assert not any(revision.HasField("policy") for revision in response.revisions)
            if not response.next_page_token:
                break
            request.page_token = response.next_page_token
        assert seen == [5, 4, 3, 2, 1]
        status = await core.policy.GetSandboxPolicyStatus(
            openshell_pb2.GetSandboxPolicyStatusRequest(workspace_scope=WORKSPACE, sandbox="box", version=3), ALICE
        )
        assert "allow_1_example_com_443" in status.revision.policy.network_policies


# ---- static and dynamic parts ----------------------------------------------------------------------------------------

WALLS = Policy(
    filesystem=FilesystemPolicy(True, ("/usr", "/etc"), ("/tmp",)),
    landlock=LandlockPolicy("best_effort"),
    process=ProcessPolicy("sandbox", "sandbox"),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filesystem": None}, "filesystem policy cannot be removed on a live sandbox"),
        (
            {"filesystem": FilesystemPolicy(True, ("/usr",), ("/tmp",))},
            "filesystem read_only path '/etc' cannot be removed on a live sandbox",
        ),
        (
            {"filesystem": FilesystemPolicy(True, ("/usr", "/etc"), ())},
            "filesystem read_write path '/tmp' cannot be removed on a live sandbox",
        ),
        (
            {"filesystem": FilesystemPolicy(False, ("/usr", "/etc"), ("/tmp",))},
            "filesystem include_workdir cannot be changed on a live sandbox",
        ),
        (
            {"landlock": LandlockPolicy("hard_requirement")},
            "landlock policy cannot be changed on a live sandbox (applied at startup)",
        ),
        ({"process": None}, "process policy cannot be changed on a live sandbox (applied at startup)"),
    ],
)
async def test_static_parts_stay(tmp_path: Path, change: dict[str, object], message: str) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=WALLS)
        with pytest.raises(GatewayError) as caught:
            await put(core, dataclasses.replace(WALLS, **change))  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", message)
        assert await statuses(core, sandbox_id) == ["1 loaded"]


async def test_added_paths_and_new_rules_are_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox(policy=WALLS)
        wider = FilesystemPolicy(True, ("/usr", "/etc", "/opt"), ("/tmp", "/data"))
        response = await put(core, dataclasses.replace(WALLS, filesystem=wider, rules=(raw("a.example.com"),)))
        assert response.version == 2


async def test_sections_nobody_wrote_may_be_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=RESTRICTIVE_DEFAULT)
        await put(core, Policy(rules=(raw("a.example.com"),)))
        stored = await core.base(sandbox_id)
        assert (stored.filesystem, stored.landlock) == (RESTRICTIVE_DEFAULT.filesystem, RESTRICTIVE_DEFAULT.landlock)


# ---- refusals of UpdateConfig ----------------------------------------------------------------------------------------


async def test_unsafe_policies_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        bad = dataclasses.replace(raw("a.example.com"), endpoints=(Endpoint(host="*.com", ports=(443,)),))
        with pytest.raises(GatewayError, match="policy contains unsafe content: ") as caught:
            await put(core, policy(bad))
        assert caught.value.code == "INVALID_ARGUMENT"
        reserved = dataclasses.replace(raw("a.example.com"), key="_provider_x", name="")
        with pytest.raises(GatewayError, match="_provider_") as caught:
            await put(core, policy(reserved))
        assert caught.value.code == "INVALID_ARGUMENT"
        assert await statuses(core, sandbox_id) == ["1 loaded"]


async def test_a_huge_policy_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox(policy=policy())
        many = [raw(f"{'a' * 50}{number}.example.com") for number in range(1800)]
        with pytest.raises(GatewayError, match=f"larger than {MAX_POLICY_BYTES // 1024} KiB"):
            await put(core, policy(*many))


async def test_expected_resource_version(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        await core.sandbox(policy=policy())
        response = await put(core, policy(raw("a.example.com")), annotations={"why": "x"}, expected_resource_version=1)
        assert dict(response.annotations) == {"why": "x"}
        with pytest.raises(GatewayError, match=r"concurrent modification \(current resource_version: 2\)") as caught:
            await put(core, policy(raw("b.example.com")), expected_resource_version=1)
        assert caught.value.code == "ABORTED"


# ---- global policy ---------------------------------------------------------------------------------------------------


async def test_a_global_policy_replaces_and_blocks_until_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy(raw("own.example.com")))
        with core.bus.subscribe("config:*") as pushed:
            response = await put(core, policy(raw("everywhere.example.com")), everywhere=True)
            assert (await anext(pushed)).topic == "config:*"
        assert (response.version, response.settings_revision) == (1, 1)
        snapshot = await core.snapshots.sandbox_config(sandbox_id)
        assert snapshot.policy_source == sandbox_pb2.POLICY_SOURCE_GLOBAL
        assert (snapshot.version, snapshot.global_policy_version) == (1, 1)
        assert list(snapshot.policy.network_policies) == ["allow_everywhere_example_com_443"]
        message = "policy is managed globally; delete global policy before sandbox policy update"
        with pytest.raises(GatewayError) as caught:
            await put(core, policy())
        assert (caught.value.code, caught.value.message) == ("FAILED_PRECONDITION", message)
        request = openshell_pb2.UpdateConfigRequest(setting_key="policy", delete_setting=True)
        setattr(request, "global", True)
        assert (await core.policy.UpdateConfig(request, ALICE)).deleted
        assert not (await core.policy.UpdateConfig(request, ALICE)).deleted
        snapshot = await core.snapshots.sandbox_config(sandbox_id)
        assert list(snapshot.policy.network_policies) == ["allow_own_example_com_443"]
        # Version numbers are never used twice.
        assert (await put(core, policy(), everywhere=True)).version == 2


# ---- merge operations ------------------------------------------------------------------------------------------------


async def merge(core: Core, *operations: openshell_pb2.PolicyMergeOperation) -> openshell_pb2.UpdateConfigResponse:
    return await core.policy.UpdateConfig(
        openshell_pb2.UpdateConfigRequest(workspace_scope=WORKSPACE, sandbox="box", merge_operations=operations), ALICE
    )


def add(rule_name: str, rule: object) -> openshell_pb2.PolicyMergeOperation:
    return openshell_pb2.PolicyMergeOperation(
        add_rule=openshell_pb2.AddNetworkRule(rule_name=rule_name, rule=policy_map.rule_to_proto(rule))  # type: ignore[arg-type]
    )


async def test_merge_is_all_or_nothing_and_audited(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        sandbox_id = await core.sandbox(policy=policy())
        one = rest("a.example.com", "GET /x")
        remove = openshell_pb2.PolicyMergeOperation(
            remove_binary=openshell_pb2.RemoveNetworkBinary(rule_name="", binary_path="/x")
        )
        with pytest.raises(GatewayError) as caught:
            await merge(core, add("a", one), remove)
        assert caught.value.message == "merge_operations[1].remove_binary.rule_name is required"
        with pytest.raises(GatewayError) as caught:
            await merge(core, add("a", one), openshell_pb2.PolicyMergeOperation())
        assert caught.value.message == "merge_operations[1] is missing an operation"
        assert (await core.base(sandbox_id)).rules == ()
        response = await merge(core, add("a", one), add("b", raw("b.example.com")))
        assert response.version == 2
        assert [rule.key for rule in (await core.base(sandbox_id)).rules] == ["a", "b"]
        assert (await merge(core, add("a", one))).version == 2  # nothing new, no revision
        lines = await core.store.run(lambda tx: tx.scalars(sa.select(log_lines.c.message)).all())
        assert len(lines) == 2
        assert all(line.startswith("CONFIG:MERGED [INFO] gateway merged add-endpoint") for line in lines)


async def test_widening_by_merge_is_refused(tmp_path: Path) -> None:
    """Attack G-3: a binary added to a rule must not inherit hosts the operation did not declare."""
    async with opened(tmp_path / "a.db") as core:
        endpoints = (Endpoint(host="x.example.com", ports=(443,)), Endpoint(host="y.example.com", ports=(443,)))
        wide = dataclasses.replace(raw("x.example.com", name="both"), endpoints=endpoints)
        sandbox_id = await core.sandbox(policy=policy(wide))
        with pytest.raises(GatewayError) as caught:
            await merge(core, add("both", raw("x.example.com", name="both", binaries=("/usr/bin/wget",))))
        assert caught.value.code == "FAILED_PRECONDITION"
        assert (await core.base(sandbox_id)).rules == (wide,)


async def test_a_sandbox_reads_only_its_own_configuration(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as core:
        own, _other = await core.sandbox("own", policy()), await core.sandbox("other", policy())
        request = sandbox_pb2.GetSandboxConfigRequest(workspace_scope=WORKSPACE, name="own")
        assert (await core.policy.GetSandboxConfig(request, as_sandbox(own))).version == 1
        request.name = "other"
        with pytest.raises(GatewayError, match="sandbox not found or not owned by caller"):
            await core.policy.GetSandboxConfig(request, as_sandbox(own))


# ---- the stored form -------------------------------------------------------------------------------------------------


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(policies())
def test_the_stored_form_is_the_message_of_the_whole_policy(some: Policy) -> None:
    """It is put together from rules that were serialised before, and must not show it. protobuf's own deterministic
    form orders keys that begin with one another otherwise (longer first), so bytes are compared with themselves."""
    message = policy_map.policy_to_proto(some)
    stored = encode(some)
    assert sandbox_pb2.SandboxPolicy.FromString(stored) == message
    assert len(stored) == message.ByteSize()
    again = dataclasses.replace(some, rules=tuple(dataclasses.replace(rule) for rule in reversed(some.rules)))
    assert encode(again) == stored, "equal policies are equal bytes"
    assert decode(stored) == policy_map.policy_from_proto(message)


def test_rules_that_did_not_change_stay_the_same_objects_from_revision_to_revision() -> None:
    first = decode(encode(policy(*(raw(f"h{n}.example.com") for n in range(20)))))
    second = decode(encode(dataclasses.replace(first, rules=(raw("a.example.com"), *first.rules))))
    known = set(map(id, first.rules))
    assert sum(id(rule) in known for rule in second.rules) == 20
    assert decode(encode(first)) is decode(bytes(bytearray(encode(first))))
