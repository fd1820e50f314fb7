"""Long property runs that are bounded, can be resumed, and say how much they have seen.

`campaign` runs a check over seeds 0, 1, 2, … up to a target and writes down how far it came in `.deep/`, so that the
next run goes on there. Progress counts only for the code it was made with: a change in the rooms under test starts
anew.

    DEEP_SECONDS=60 make test-deep     at most a minute per suite, then again for the next piece
    python -m tests.deep               what has been seen so far
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".deep"
CODE = ("src/pyopenshell/policy", "src/pyopenshell/proof", "tests/policy", "tests/proof")
PROXY = ("src/pyopenshell/supervisor/proxy", "src/pyopenshell/policy", "tests/supervisor/proxy")
"""Of the suites whose names begin with `proxy-`."""


@functools.cache
def fingerprint(name: str) -> str:
    """What a suite runs on: a digest of the sources of the rooms under test and of the tests."""
    digest = hashlib.sha256()
    for folder in PROXY if name.startswith("proxy-") else CODE:
        for file in sorted(ROOT.joinpath(folder).glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass
class Progress:
    """`seed` is the next one, `seen` counts what the checks reported."""

    code: str
    seed: int = 0
    seconds: float = 0.0
    target: int = 0
    seen: Counter[str] = dataclasses.field(default_factory=Counter)

    def __str__(self) -> str:
        seen = ", ".join(f"{count:,} {what}" for what, count in self.seen.items())
        return f"{self.seed:,} of {self.target:,} seeds, {seen}, {self.seconds:,.0f} s"


def load(name: str) -> Progress:
    try:
        found = json.loads((FOLDER / f"{name}.json").read_text())
    except FileNotFoundError:
        return Progress(fingerprint(name))
    if found["code"] != fingerprint(name):
        return Progress(fingerprint(name))
    return Progress(**{**found, "seen": Counter(found["seen"])})


def save(name: str, progress: Progress) -> None:
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.json"
    file.with_suffix(".new").write_text(json.dumps({**vars(progress), "seen": dict(progress.seen)}))
    file.with_suffix(".new").replace(file)


def campaign(name: str, check: Callable[[int], Counter[str]], seeds: int) -> Progress:
    """Run `check` on the seeds that are left, for at most DEEP_SECONDS (without it: to the end).

    `check` raises AssertionError for a seed that breaks the law, and says what it has looked at.
    """
    progress = load(name)
    progress.target = seeds
    limit = float(os.environ.get("DEEP_SECONDS") or "inf")
    start = last = time.monotonic()
    while progress.seed < seeds and last - start < limit:
        try:
            progress.seen.update(check(progress.seed))
        except Exception as error:
            raise AssertionError(f"{name}: seed {progress.seed} breaks the law") from error
        progress.seed += 1
        now = time.monotonic()
        progress.seconds += now - last
        last = now
        if progress.seed % 200 == 0:
            save(name, progress)
    save(name, progress)
    print(f"{name}: {progress}")
    return progress


def balanced(progress: Progress, part: str, whole: str, least: float = 0.02) -> None:
    """A law that is only ever asked where the answer is plain proves nothing: both answers must be frequent."""
    share = progress.seen[part] / max(progress.seen[whole], 1)
    assert least <= share <= 1 - least, f"{share:.1%} of {whole} are {part}"


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.json")):
        found = load(file.stem)
        print(f"{file.stem:<24} {found if found.seed else 'nothing with the code as it is'}")
