"""Limits of approvals in the sandbox itself: they hold without a gateway, and nothing moves them back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyopenshell.audit.events import Event
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.policy.decision import Connection, PolicyEngine
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.model import Policy
from pyopenshell.supervisor.config import Configuration, Outcome
from pyopenshell.supervisor.current import Current
from pyopenshell.wire.gen import pyopenshell_pb2
from pyopenshell.wire.policy_map import policy_to_proto
from tests.supervisor.gateway_double import Gateway
from tests.supervisor.snapshots import PUT, READ, policy, snapshot
from tests.supervisor.test_link import running

CURL = Connection("api.test", 443, "/usr/bin/curl")


class Machine:
    """A clock that moves when told, and alarms that ring when it passes their time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._alarms: list[tuple[Callable[[], None], list[float | None]]] = []

    def alarm(self, ring: Callable[[], None]) -> Machine.Alarm:
        made = Machine.Alarm(self)
        self._alarms.append((ring, made.deadline))
        return made

    class Alarm:
        def __init__(self, machine: Machine) -> None:
            self.machine = machine
            self.deadline: list[float | None] = [None]

        def set(self, deadline: float | None) -> None:
            self.deadline[0] = deadline

        def close(self) -> None:
            self.set(None)

    def forward(self, seconds: float) -> None:
        self.now += seconds
        for ring, deadline in self._alarms:
            if deadline[0] is not None and deadline[0] <= self.now:
                deadline[0] = None
                ring()


class House:
    def __init__(self) -> None:
        self.machine = Machine()
        self.lines: list[str] = []
        self.loads: list[bool] = []
        self.broken = False
        self.current = Current(compile_engine(policy()), version=1, policy_hash="hash-1")
        self.configuration = Configuration(
            self.current, self._compile, self, loaded=self.loads.append, settings_changed=lambda _: None,
            alarm=self.machine.alarm, now=lambda: self.machine.now,
        )  # fmt: skip

    def emit(self, event: Event) -> None:
        self.lines.append(shorthand(event))

    def _compile(self, content: Policy, reuse: PolicyEngine | None) -> PolicyEngine:
        if self.broken and content.rules:
            raise ValueError("cannot be enforced")
        return compile_engine(content)

    def writes(self) -> bool:
        return self.current.engine.decide(CURL, "PUT", "/x").allowed

    def reads(self) -> bool:
        return self.current.engine.decide(CURL, "GET", "/x").allowed

    async def later(self, seconds: float) -> None:
        self.machine.forward(seconds)
        if self.configuration._ending is not None:
            await self.configuration._ending


def limits(seconds: float, *, version: int = 2, lease: str = "c1@1", after: Policy | None = None) -> (
    pyopenshell_pb2.GetLeasesResponse
):  # fmt: skip
    message = pyopenshell_pb2.GetLeasesResponse(policy_version=version)
    one = message.fallbacks.add(lease_id=lease, chunk_id="c1", policy_hash="hash-after", summary="api.test:443 PUT /x")
    one.policy.CopyFrom(policy_to_proto(after or policy()))
    one.remaining.FromMilliseconds(int(seconds * 1000))
    return message


async def test_the_approval_ends_on_time_without_a_gateway() -> None:
    house = House()
    applied = await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(60))
    assert applied.loaded
    await house.later(59.9)
    assert house.writes()
    await house.later(0.1)
    assert not house.writes()
    assert house.reads(), "what was there before is there after"
    assert house.loads == [True, True], "open connections are judged again"
    assert house.current.policy_hash == "hash-after"
    assert house.lines[-1] == (
        "CONFIG:EXPIRED [INFO] chunk:c1 approval ended on api.test:443 PUT /x [policy_hash:hash-after]"
    )


async def test_a_limit_that_was_heard_of_is_never_moved_back() -> None:
    house = House()
    granted = snapshot(policy(READ, PUT), version=2)
    await house.configuration.apply(granted, limits(60))
    await house.later(50)
    # The gateway restarts with its clock set back and says that an hour is left.
    assert (await house.configuration.apply(granted, limits(3600))).outcome is Outcome.DUPLICATE
    await house.later(10)
    assert not house.writes()


async def test_a_renewal_is_another_lease() -> None:
    house = House()
    granted = snapshot(policy(READ, PUT), version=2)
    await house.configuration.apply(granted, limits(60))
    await house.later(50)
    await house.configuration.apply(granted, limits(60, lease="c1@2"))
    await house.later(30)
    assert house.writes()
    await house.later(30)
    assert not house.writes()


async def test_a_policy_without_limits_forgets_them() -> None:
    house = House()
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(60))
    await house.configuration.apply(
        snapshot(policy(READ, PUT), version=3), pyopenshell_pb2.GetLeasesResponse(policy_version=3)
    )
    await house.later(3600)
    assert house.writes(), "the person made it permanent"


async def test_a_limit_that_has_passed_already_ends_at_once() -> None:
    house = House()
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(0))
    await house.later(0)
    assert not house.writes()


async def test_limits_of_another_version_leave_everything_as_it_is() -> None:
    house = House()
    applied = await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(60, version=3))
    assert (applied.outcome, applied.loaded) == (Outcome.STALE, False)
    assert not house.writes()
    assert house.current.version == 1


async def test_what_is_over_does_not_come_back_with_a_snapshot_that_still_has_it() -> None:
    """A gateway that was away sends what it has stored before it ends what is over: not for a moment is it enforced."""
    house = House()
    granted = snapshot(policy(READ, PUT), version=2)
    await house.configuration.apply(granted, limits(60))
    await house.later(60)
    generation = house.current.generation
    for _ in range(2):
        assert (await house.configuration.apply(granted, limits(30))).loaded
        assert not house.writes()
    assert house.current.generation == generation, "nothing was swapped, not even for a moment"
    assert house.reads()


async def test_two_limits_end_one_after_the_other() -> None:
    house = House()
    both = limits(60)
    second = limits(90, lease="c2@1", after=Policy()).fallbacks[0]
    both.fallbacks.append(second)
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), both)
    await house.later(60)
    assert (house.writes(), house.reads()) == (False, True)
    await house.later(30)
    assert not house.reads()


async def test_limits_that_passed_while_the_machine_slept_end_in_one_step() -> None:
    house = House()
    both = limits(60)
    both.fallbacks.append(limits(90, lease="c2@1", after=Policy()).fallbacks[0])
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), both)
    await house.later(8 * 3600)
    assert not house.reads()
    assert house.loads == [True, True]
    assert [line.split()[0] for line in house.lines[-2:]] == ["CONFIG:EXPIRED", "CONFIG:EXPIRED"]


async def test_a_fallback_that_cannot_be_enforced_denies_everything() -> None:
    house = House()
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(60))
    house.broken = True
    await house.later(60)
    assert not house.writes()
    assert not house.reads()
    assert any(line.startswith("CONFIG:FAIL_CLOSED [HIGH]") for line in house.lines)
    house.broken = False
    assert (await house.configuration.apply(snapshot(policy(), version=3))).loaded
    assert house.reads()


@contextlib.contextmanager
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a thread left: what a fork bomb in any sandbox may do to its supervisor."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        yield


async def test_an_approval_ends_on_a_machine_without_a_thread_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2), limits(60))
    with no_threads(monkeypatch):
        await house.later(60)
    assert not house.writes()
    assert house.reads()
    assert house.loads == [True, True]


async def test_a_revocation_takes_effect_on_a_machine_without_a_thread_to_spare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    await house.configuration.apply(snapshot(policy(READ, PUT), version=2))
    with no_threads(monkeypatch):
        assert (await house.configuration.apply(snapshot(policy(), version=3))).loaded
    assert not house.writes()


async def test_a_fallback_that_means_nothing_refuses_the_whole_update() -> None:
    house = House()
    bad = limits(60)
    bad.fallbacks[0].policy.network_policies["x"].endpoints.add(host="a.test", port=443, enforcement=77)
    applied = await house.configuration.apply(snapshot(policy(READ, PUT), version=2), bad)
    assert applied.error
    assert not house.writes()


async def test_nothing_is_enforced_before_its_limits_are_known() -> None:
    """The link asks first; while the gateway cannot say, the old policy stays."""
    async with Gateway() as gateway:
        asked = 0

        async def refuse(request: object) -> pyopenshell_pb2.GetLeasesResponse:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise RuntimeError("not now")
            return limits(3600, version=2)

        gateway.answers["GetLeases"] = refuse
        gateway.bootstrap = snapshot(policy(READ, PUT), version=2)
        async with running(gateway) as box:
            await gateway.session()
            assert not box.current.engine.decide(CURL, "PUT", "/x").allowed
            session = await gateway.session()
            result = await session.result()
            assert result.policy_load.loaded
            assert asked == 2
            assert box.current.engine.decide(CURL, "PUT", "/x").allowed
