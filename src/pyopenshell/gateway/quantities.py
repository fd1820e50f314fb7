"""Amounts as Kubernetes writes them: `512Mi`, `4Gi`, `8G` of memory; `2`, `0.5`, `500m` CPUs. Pure.

Each function raises ValueError with what was given and what is possible.
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final[dict[str, int]] = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate(("K", "M", "G", "T"), 1)},
}
_SIZE: Final = re.compile(r"([0-9]{1,15})(|k|M|G|T|Ki|Mi|Gi|Ti)", re.ASCII)
_CPUS: Final = re.compile(r"([0-9]{1,6})m|([0-9]{1,4}(?:\.[0-9]{1,3})?)", re.ASCII)
LEAST_MEMORY: Final = 16 << 20
"""A sandbox's own first process and one small program."""
LEAST_TASKS: Final = 4
MOST_TASKS: Final = 4_194_304
"""The kernel's own limit on process numbers."""


def size(value: object) -> int:
    """Bytes."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"memory {_shown(value)} is not an amount: write 512Mi, 4Gi or 8G")
    amount: int = int(found[1]) * _UNITS[found[2]]
    if amount < LEAST_MEMORY:
        raise ValueError(f"memory {_shown(value)} is too little: at least {LEAST_MEMORY >> 20}Mi")
    if amount >= 1 << 62:
        raise ValueError(f"memory {_shown(value)} is more than there can be")
    return amount


def cpus(value: object) -> float:
    """CPUs, at least a hundredth."""
    found = _CPUS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"cpu {_shown(value)} is not an amount: write 2, 0.5 or 500m")
    amount = int(found[1]) / 1000 if found[1] else float(found[2])
    if amount < 0.01:
        raise ValueError(f"cpu {_shown(value)} is too little: at least 10m")
    return amount


def tasks(value: object) -> int:
    """Processes and threads; JSON's numbers arrive as floats."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise ValueError(f"pids {_shown(value)} is not a whole number")
    if not LEAST_TASKS <= value <= MOST_TASKS:
        raise ValueError(f"pids {value:g} must be between {LEAST_TASKS} and {MOST_TASKS}")
    return int(value)


def _shown(value: object) -> str:
    return repr(value)[:60]
