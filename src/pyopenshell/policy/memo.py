"""Remembers what was computed from an immutable value, for as long as that very object lives. Decides nothing.

A change touches one rule of a thousand; the others are the same objects before and after, so that what was found out
about them need not be found out again. By identity, because comparing values costs as much as computing anew.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def per_object(fn: Callable[[K], V]) -> Callable[[K], V]:
    """`fn`, called once per object. Objects must be immutable and weakly referable (`Rule`, `Policy`).

    Safe from several threads: at worst two of them compute the same result. An error is not remembered.
    """
    known: dict[int, tuple[weakref.ref[K], V]] = {}

    @functools.wraps(fn)
    def remembered(value: K) -> V:
        key = id(value)
        found = known.get(key)
        if found is not None and found[0]() is value:
            return found[1]
        result = fn(value)

        def forget(gone: weakref.ref[K]) -> None:
            entry = known.get(key)
            if entry is not None and entry[0] is gone:
                del known[key]

        known[key] = (weakref.ref(value, forget), result)
        return result

    return remembered
