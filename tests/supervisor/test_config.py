"""What a pushed snapshot does: swap as a whole or not at all, and every outcome said."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pyopenshell.audit.events import Event
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.policy.decision import Connection, PolicyEngine
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.model import FilesystemPolicy, Policy
from pyopenshell.supervisor.config import Configuration, Outcome, Setting
from pyopenshell.supervisor.current import Current
from pyopenshell.wire.gen import sandbox_pb2
from tests.supervisor.snapshots import PUT, READ, policy, snapshot

CURL = Connection("api.test", 443, "/usr/bin/curl")


class House:
    """A configuration with everything recorded."""

    def __init__(self, first: Policy | None = None) -> None:
        self.lines: list[str] = []
        self.loads: list[bool] = []
        self.settings: list[Mapping[str, Setting]] = []
        self.compiled = 0
        self.broken = ""
        self.current = Current(compile_engine(first or policy()), version=1, policy_hash="hash-1")
        self.configuration = Configuration(
            self.current, self._compile, self, loaded=self.loads.append, settings_changed=self.settings.append
        )

    def emit(self, event: Event) -> None:
        self.lines.append(shorthand(event))

    def _compile(self, content: Policy, reuse: PolicyEngine | None) -> PolicyEngine:
        self.compiled += 1
        if self.broken and content.rules:
            raise ValueError(self.broken)
        return compile_engine(content)

    def allows(self, method: str, path: str) -> bool:
        return self.current.engine.decide(CURL, method, path).allowed


async def test_a_new_policy_is_in_force_when_apply_returns() -> None:
    house = House()
    assert not house.allows("PUT", "/x")
    applied = await house.configuration.apply(snapshot(policy(READ, PUT), version=2))
    assert (applied.outcome, applied.version, applied.error) == (Outcome.APPLIED, 2, "")
    assert house.allows("PUT", "/x")
    assert (house.current.version, house.current.policy_hash, house.current.generation) == (2, "hash-2", 2)
    assert house.loads == [True]
    assert house.lines == ["CONFIG:LOADED [INFO] Policy reloaded successfully [policy_hash:hash-2 version:2]"]


async def test_the_same_policy_under_a_new_version_disturbs_no_connection() -> None:
    house = House()
    applied = await house.configuration.apply(snapshot(policy(), version=7))
    assert applied.outcome is Outcome.APPLIED
    assert (house.current.version, house.current.generation, house.compiled) == (7, 1, 0)
    assert house.loads == [False]
    again = await house.configuration.apply(snapshot(policy(), version=7))
    assert again.outcome is Outcome.DUPLICATE
    assert house.loads == [False]


async def test_a_policy_that_does_not_compile_leaves_the_last_good_one() -> None:
    house = House()
    house.broken = "bad glob"
    applied = await house.configuration.apply(snapshot(policy(READ, PUT), version=2))
    assert (applied.outcome, applied.loaded) == (Outcome.RETAINED, False)
    assert "bad glob" in applied.error
    assert house.allows("GET", "/a")
    assert house.current.version == 1
    assert house.lines[0].startswith("CONFIG:RETAINED_PREVIOUS_POLICY [HIGH] Policy version 2 was not usable: ")


async def test_fail_closed_denies_everything_and_no_version_counts_as_loaded_until_it_is_repaired() -> None:
    house = House()
    bad = snapshot(policy(READ, PUT), version=2)
    bad.policy_validation_failure_mode = "fail_closed"
    house.broken = "bad glob"
    for _ in range(2):
        applied = await house.configuration.apply(bad)
        assert applied.outcome is Outcome.FAILED_CLOSED
    assert not house.allows("GET", "/a")
    assert house.current.version == 0
    assert house.loads == [True]
    house.broken = ""
    assert (await house.configuration.apply(snapshot(policy(), version=1))).outcome is Outcome.APPLIED
    assert house.allows("GET", "/a")


async def test_no_policy_means_no_network() -> None:
    house = House()
    await house.configuration.apply(snapshot(None, version=2))
    assert not house.allows("GET", "/a")


async def test_content_that_means_nothing_is_refused_not_raised() -> None:
    house = House()
    bad = snapshot(policy(), version=2)
    bad.policy.network_policies["api"].endpoints[0].access = 77  # type: ignore[assignment]
    applied = await house.configuration.apply(bad)
    assert applied.outcome is Outcome.RETAINED
    assert house.allows("GET", "/a")


async def test_settings_flip_the_feature_and_each_change_is_said_once() -> None:
    house = House()
    for value in (True, True, False):
        await house.configuration.apply(snapshot(policy(), agent_policy_proposals_enabled=value))
        assert house.current.proposals_enabled is value
    await house.configuration.apply(snapshot(policy()))
    assert [line.split(" [INFO] ")[0] for line in house.lines] == [
        "CONFIG:ENABLED",
        "CONFIG:UPDATED",
        "CONFIG:DISABLED",
    ]
    assert house.lines[1] == (
        "CONFIG:UPDATED [INFO] Setting changed [key:agent_policy_proposals_enabled old:true new:false]"
    )
    assert len(house.settings) == 3


@pytest.mark.parametrize("kind", ["string_value", "int_value"])
async def test_only_true_turns_the_feature_on(kind: str) -> None:
    house = House()
    message = snapshot(policy())
    setattr(message.settings["agent_policy_proposals_enabled"].value, kind, "true" if kind == "string_value" else 1)
    await house.configuration.apply(message)
    assert house.current.proposals_enabled is False


async def test_walls_do_not_move_under_a_running_sandbox_and_that_is_said() -> None:
    house = House()
    moved = Policy(rules=policy().rules, filesystem=FilesystemPolicy(read_write=("/home",)))
    await house.configuration.apply(snapshot(moved, version=2))
    assert house.lines[0].startswith("CONFIG:SKIPPED [LOW] filesystem: ")


async def test_a_global_policy_says_so() -> None:
    house = House()
    message = snapshot(policy(READ, PUT), version=2)
    message.policy_source = sandbox_pb2.POLICY_SOURCE_GLOBAL
    await house.configuration.apply(message)
    assert "Policy reloaded successfully (global) [policy_hash:" in house.lines[0]
