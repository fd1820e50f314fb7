"""What this sandbox enforces right now: one plain object, read by every request, swapped in one step.

Knows nothing of where a policy came from. Single event loop: no locks.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyopenshell.policy.decision import PolicyEngine


@dataclasses.dataclass(slots=True)
class Current:
    """The live policy.

    `generation` counts swaps of the engine in this process; `version` and `policy_hash` are the gateway's. Decisions
    taken across an `await` compare generations and are taken again when it moved.
    """

    engine: PolicyEngine
    generation: int = 1
    version: int = 0
    policy_hash: str = ""
    proposals_enabled: bool = False

    def swap(self, engine: PolicyEngine, *, version: int, policy_hash: str) -> None:
        """Make `engine` the truth. The caller tells the plane afterwards (`Plane.policy_changed`)."""
        self.engine = engine
        self.version = version
        self.policy_hash = policy_hash
        self.generation += 1
