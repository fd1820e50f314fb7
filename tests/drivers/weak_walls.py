"""Run where a wall is weaker than it should be: what the driver builds, and what it refuses. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pyopenshell.drivers.base import DriverError
from tests.drivers.conftest import FAKE
from tests.drivers.sandboxes import Box


async def main(state: Path) -> dict[str, Any]:
    box = Box(state, FAKE)
    found: dict[str, Any] = {}
    try:
        for require in ("full", "network", "files", "", "accept"):
            asked: dict[str, Any] = {"accept_weaker": True} if require == "accept" else {"require": require}
            try:
                await box.create(f"box-{require}", command=("/bin/sleep", "60"), **asked)
                status = box.status
                found[require] = [status.assurance, list(status.losses), status.tier]
            except DriverError as error:
                left = (state / "sandboxes" / f"box-{require}").exists()
                found[require] = [error.reason, error.message, error.fix, left]
    finally:
        await box.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
