"""What the walls around a sandbox are worth: two properties, and one word for which of them hold. Pure.

`network`: nothing leaves but through the policy proxy, and which program opened each connection is known exactly.
`files`: commands read and write only what the filesystem policy names. `full` is both, `none` is neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

NETWORK, FILES = "network", "files"
LEVELS: Final = ("full", "network", "files", "none")
REQUIRABLE: Final = LEVELS[:3]
"""What `sandbox create --require` takes."""
TIERS: Final = {
    "A": "user namespaces and nftables",
    "B": "user namespaces, no nftables: refused UDP and ICMP are not logged",
    "C": "namespaces for root only, no user namespaces: the sandbox is a user of its own on the host",
    "D": "no namespaces, but Landlock and seccomp notification",
    "E": "nothing to build walls from",
}
"""The ladder (docs/isolation.md). Everything below A is entered only with the user's word."""
BUILT: Final = "ABC"
"""Tiers the local driver builds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """Something that is not as it should be. `part` is NETWORK, FILES, or "" where nothing is weaker for it."""

    part: str
    text: str

    def as_message(self) -> dict[str, str]:
        return {"part": self.part, "text": self.text}


def level(losses: Iterable[Loss]) -> str:
    """One of LEVELS, for walls that stand with these losses."""
    lost = {loss.part for loss in losses}
    return {(True, True): "full", (True, False): NETWORK, (False, True): FILES, (False, False): "none"}[
        NETWORK not in lost, FILES not in lost
    ]


def meets(found: str, required: str) -> bool:
    """Whether walls of level `found` are what `required` asks for; "" asks for nothing."""
    return required in ("", found) or found == "full"
