"""Which ancestors count: a program lends its rights to what it started itself, not to what was there before it.

A process may start a child and *then* execute an allowed program, which makes that program the child's parent. The
watcher is told of every execve before it runs; this module decides which of them leave an image that must not count
(docs/decisions/0008). Exact, because the caller is frozen meanwhile: with one thread and no child nobody is left who
could later pass for a descendant. Anything else is doubt, and doubt counts for nothing.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Callable
from typing import NamedTuple

from pyopenshell.isolation.processes import Image, has_children, read_image, read_stat, read_status

_LIMIT = 1 << 16
"""Processes remembered. Dead ones are swept as new ones come, so only as many living ones could fill it."""
_SWEPT = 2
"""Old entries looked at for each new one: more than one, so that the dead go faster than they come."""


class _Predecessors(NamedTuple):
    start: int
    """With the process id: which process."""
    images: set[bytes]
    """Digests of what it was when it executed something although it had children or threads."""


def _digest(image: Image) -> bytes:
    """In place of the image: its path may have 4 KiB, and there may be as many as processes."""
    return hashlib.blake2b(repr(image).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Lineage:
    """Of one sandbox. `proc` shows the pids that are passed in."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._doubtful: dict[int, _Predecessors] = {}

    def __len__(self) -> int:
        return len(self._doubtful)

    def executing(self, thread: int, waits: Callable[[], bool]) -> None:
        """A thread is about to execute another program, and waits. Raises OSError: then it must not.

        `waits` says whether it still does: else its id may have passed to somebody else while it was looked at.
        """
        status = read_status(thread, self._proc)
        if status.threads == 1 and not self._parent(thread):
            # Nobody can be born of the old image any more, whatever happened before.
            if waits():
                self._doubtful.pop(status.group, None)
            return
        start, image = read_stat(status.group, self._proc).start, read_image(status.group, self._proc)
        known = self._doubtful.pop(status.group, None)
        images = known.images if known is not None and known.start == start else set()
        self._sweep()
        if len(self._doubtful) >= _LIMIT:
            raise OSError(errno.EAGAIN, "too many processes changed their program while they had children")
        images.add(_digest(image))  # a second image is enough for doubt; more than two add nothing
        while len(images) > 2:
            images.pop()
        self._doubtful[status.group] = _Predecessors(start, images)

    def counts(self, pid: int, start: int, image: Image) -> bool:
        """Whether an ancestor that runs `image` now ran it too when it started its descendants.

        False also when that cannot be told. Raises OSError when the process ended meanwhile.
        """
        known = self._doubtful.get(pid)
        if known is None or known.start != start:
            return True
        # Read a second time: the execve was let go and may take effect between the parts of the first reading.
        return known.images == {_digest(image)} and read_image(pid, self._proc) == image

    def _parent(self, pid: int) -> bool:
        try:
            return has_children(pid, self._proc)
        except FileNotFoundError:
            os.stat(f"{self._proc}/{pid}")  # gone: raises again
            return True  # a kernel that cannot say

    def _sweep(self) -> None:
        for pid in list(itertools.islice(self._doubtful, _SWEPT)):
            entry = self._doubtful.pop(pid)
            try:
                alive = read_stat(pid, self._proc).start == entry.start
            except (FileNotFoundError, ProcessLookupError):
                alive = False
            except OSError:  # nothing is known: then it must not be forgotten
                alive = True
            if alive:
                self._doubtful[pid] = entry
