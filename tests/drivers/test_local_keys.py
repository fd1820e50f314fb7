"""What a supervisor inherits from the driver host: nothing of another sandbox (attacks.md H-7)."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest

from pyopenshell.drivers.base import GatewayAccess
from tests.drivers import sandboxes
from tests.drivers.sandboxes import Box

pytestmark = pytest.mark.e2e


def memory(pid: int) -> bytes:
    """Everything writable of a process, at once."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if area is not None:
                begin, end = (int(one, 16) for one in area.groups())
                with contextlib.suppress(OSError, OverflowError):
                    file.seek(begin)
                    found.append(file.read(end - begin))
    return b"".join(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="a supervisor lets nobody but root read its memory")
async def test_a_supervisor_has_its_own_key_and_nobody_elses(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {name: f"{name}-{os.urandom(300).hex()}" for name in ("first", "second", "third")}
    for name, key in keys.items():
        monkeypatch.setattr(sandboxes, "ACCESS", GatewayAccess("127.0.0.1:1", f"token-{key}", "ca", "cert", key))
        await box.create(name)
    for name in keys:
        seen = memory(int((box.root(name) / "supervisor.pid").read_text()))
        assert [one for one, key in keys.items() if key[50:300].encode() in seen] == [name]
