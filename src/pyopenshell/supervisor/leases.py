"""Limits of approvals, kept here as well: what this sandbox must enforce from which moment on.

Decides when, not what: the policies come from the gateway, in advance. Time is `isolation.boottime`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from pyopenshell.isolation.boottime import Alarm, boottime
from pyopenshell.policy.model import Policy
from pyopenshell.wire.gen import pyopenshell_pb2
from pyopenshell.wire.policy_map import policy_from_proto


@dataclasses.dataclass(frozen=True, slots=True)
class Fallback:
    """The effective policy once the approval `chunk_id` is over. `deadline` in seconds of the boot clock."""

    lease_id: str
    deadline: float
    policy: Policy
    policy_hash: str
    chunk_id: str
    summary: str


class Schedule:
    """The limits of the policy in force. A limit once heard of is never moved back, only replaced by another lease."""

    def __init__(self, alarm: Callable[[Callable[[], None]], Alarm], ring: Callable[[], None],
                 now: Callable[[], float] = boottime) -> None:  # fmt: skip
        self._now = now
        self._deadlines: dict[str, float] = {}
        self._fallbacks: list[Fallback] = []
        self._alarm = alarm(ring)

    def __repr__(self) -> str:
        left = f", next in {self._fallbacks[0].deadline - self._now():.1f} s" if self._fallbacks else ""
        return f"<Schedule {len(self._fallbacks)} limits{left}>"

    def read(self, message: pyopenshell_pb2.GetLeasesResponse) -> list[Fallback]:
        """What the gateway sent, with its limits on our clock. Raises ValueError for a policy that means nothing."""
        now, found = self._now(), []
        for one in message.fallbacks:
            deadline = now + one.remaining.ToMilliseconds() / 1000
            deadline = min(deadline, self._deadlines.get(one.lease_id, deadline))
            policy = policy_from_proto(one.policy)
            found.append(Fallback(one.lease_id, deadline, policy, one.policy_hash, one.chunk_id, one.summary))
        return found

    def replace(self, fallbacks: Sequence[Fallback]) -> None:
        """These are the limits of what is enforced from now on, in the order in which they end.

        Those that have passed already are remembered, so that hearing of them again does not revive them.
        """
        now = self._now()
        self._fallbacks = [one for one in fallbacks if one.deadline > now]
        self._deadlines = {one.lease_id: one.deadline for one in fallbacks}
        self._alarm.set(self._fallbacks[0].deadline if self._fallbacks else None)

    def passed(self, fallbacks: Sequence[Fallback]) -> Fallback | None:
        """The last of these that is over already: what must be enforced instead of the policy they belong to."""
        now = self._now()
        return next((one for one in reversed(fallbacks) if one.deadline <= now), None)

    def due(self) -> list[Fallback]:
        """The limits that have passed, in order; they are not told again."""
        now = self._now()
        count = next((n for n, one in enumerate(self._fallbacks) if one.deadline > now), len(self._fallbacks))
        over, self._fallbacks = self._fallbacks[:count], self._fallbacks[count:]
        self._alarm.set(self._fallbacks[0].deadline if self._fallbacks else None)
        return over

    def close(self) -> None:
        self._alarm.close()
