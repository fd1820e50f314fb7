"""How many names were asked for under each wildcard rule: the labels are the agent's choice, and DNS carries them out.

Every new name under `*.example.com` reaches the name servers of example.com, whoever they belong to. Their
number is what a leak needs, so it is bounded, for as long as the supervisor lives. Pure bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable

TOTAL = 8192
"""Under all rules together: what may be remembered, about 2 MB."""


class Wildcards:
    """`admit` before a name is resolved that only a wildcard covers. Names are canonical."""

    def __init__(self, crowded: Callable[[str, int, int], None], *, capacity: int, total: int = TOTAL) -> None:
        """`crowded` is told (rule, names so far, capacity) once for each rule: at half of it."""
        self._crowded = crowded
        self._capacity, self._left = capacity, total
        self._names: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<{sum(map(len, self._names.values()))} names under {len(self._names)} wildcard rules>"

    def admit(self, rule: str, name: str) -> bool:
        """Whether the name may be asked for: it was before, or there is room."""
        names = self._names.setdefault(rule, set())
        if name in names:
            return True
        if len(names) >= self._capacity or not self._left:
            return False
        names.add(name)
        self._left -= 1
        if len(names) == self._capacity // 2:
            self._crowded(rule, len(names), self._capacity)
        return True
