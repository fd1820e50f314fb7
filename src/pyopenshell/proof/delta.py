"""What a proposal would newly permit, as few exact regions, each with a confirmed witness request.

The one entry for reviewers, gates and the CLI. Works on two policies; has no evaluator of its own.
"""

from __future__ import annotations

import dataclasses

from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Policy
from pyopenshell.proof.addresses import address_regions
from pyopenshell.proof.diff import Diff
from pyopenshell.proof.regions import Region, regions


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """Everything that the second policy permits and the first does not. Uninspected regions first, then by breadth.

    `proven` False: some region could not be decided or confirmed, and stands in `regions` marked as such. A gate may
    rely on "nothing new" only when `empty`.
    """

    regions: tuple[Region, ...]
    proven: bool

    @property
    def empty(self) -> bool:
        return self.proven and not self.regions

    def __str__(self) -> str:
        return "\n".join(region.text for region in self.regions) or "(nothing newly permitted)"


def delta(before: Policy, after: Policy) -> Delta:
    """The exact difference. Raises ValueError for a policy that `policy.validate` would refuse."""
    old = compile(before)
    return delta_of(old, compile(after, reuse=old))


def delta_of(before: Engine, after: Engine) -> Delta:
    """`delta` for compiled policies; fastest when `after` was compiled with `reuse=before`."""
    diff = Diff(after, before)
    found = [*regions(diff), *address_regions(diff)]
    found.sort(key=lambda r: (r.proven, not r.uninspected, -r.breadth, r.host, r.ports, r.text))
    return Delta(tuple(found), all(region.proven for region in found))
