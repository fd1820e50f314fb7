"""What a proposal would newly permit, as few exact regions, each with a confirmed witness request.

The one entry for reviewers, gates and the CLI. Works on two policies; has no evaluator of its own.
"""

from __future__ import annotations

import dataclasses

from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Policy
from pyopenshell.proof.addresses import address_regions
from pyopenshell.proof.diff import Diff
from pyopenshell.proof.regions import Region, regions, unknown_addresses
from pyopenshell.proof.work import STEPS, UndecidedError, Work


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """Everything that the second policy permits and the first does not. Uninspected regions first, then by breadth.

    `proven` False: some region could not be decided or confirmed, and stands in `regions` marked as such. A gate may
    rely on "nothing new" only when `empty`. `left` are the steps that remain for what derives from it.
    """

    regions: tuple[Region, ...]
    proven: bool
    left: int = dataclasses.field(default=STEPS, compare=False)

    @property
    def empty(self) -> bool:
        return self.proven and not self.regions

    def __str__(self) -> str:
        return "\n".join(region.text for region in self.regions) or "(nothing newly permitted)"


def delta(before: Policy, after: Policy, steps: int = STEPS) -> Delta:
    """The exact difference. Raises ValueError for a policy that `policy.validate` would refuse."""
    old = compile(before)
    return delta_of(old, compile(after, reuse=old), steps)


def delta_of(before: Engine, after: Engine, steps: int = STEPS) -> Delta:
    """`delta` for compiled policies; fastest when `after` was compiled with `reuse=before`.

    Costs at most `steps` steps of work (`proof.work`). Where that is not enough it is not `proven`, and a region says
    for what; it never raises for being hard.
    """
    work = Work(steps)
    diff = Diff(after, before, work)
    with work.keeping(steps // 5):
        found = regions(diff)
    with work.keeping(steps // 10):
        try:
            found += address_regions(diff)
        except UndecidedError:
            found += unknown_addresses(diff)
    found.sort(key=lambda r: (r.proven, not r.uninspected, -r.breadth, r.host, r.ports, r.text))
    return Delta(tuple(found), all(region.proven for region in found), max(0, work.left))
