"""Where two sequences differ: the one stretch between what they share at the start and at the end. Decides nothing."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def window(old: Sequence[T], new: Sequence[T]) -> tuple[int, int, int]:
    """(start, end in old, end in new) of the only stretch that changed; start equals both ends where nothing did.

    By identity first, which costs next to nothing, then by value inside what is left.
    """
    start, old_end, new_end = identical(old, new)
    if start in (old_end, new_end):
        return start, old_end, new_end
    first, last_old, last_new = _stretch(old[start:old_end], new[start:new_end], operator.ne)
    return start + first, start + last_old, start + last_new


def identical(old: Sequence[T], new: Sequence[T]) -> tuple[int, int, int]:
    """`window` by identity alone."""
    return _stretch(old, new, operator.is_not)


def _stretch(old: Sequence[T], new: Sequence[T], differ: object) -> tuple[int, int, int]:
    assert callable(differ)
    shorter = min(len(old), len(new))
    start = next(itertools.compress(itertools.count(), map(differ, old, new)), shorter)
    ends = itertools.compress(itertools.count(), map(differ, reversed(old), reversed(new)))
    same = min(next(ends, shorter), shorter - start)
    return start, len(old) - same, len(new) - same
