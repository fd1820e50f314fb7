"""Where control groups may lie, read from what real systems say of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.isolation.cgroups import hierarchies

V2 = "35 25 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "34 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)
USER = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "old", "new"),
    [
        (V2, f"0::{USER}\n", {}, [f"/sys/fs/cgroup{USER}", f"/sys/fs/cgroup{USER.rpartition('/')[0]}"]),
        (V2, "0::/\n", {}, ["/sys/fs/cgroup"]),
        (
            V1,
            "4:memory:/a/b\n2:cpu,cpuacct:/\n",
            {
                "memory": "/sys/fs/cgroup/memory/a/b",
                "cpu": "/sys/fs/cgroup/cpu,cpuacct",
                "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
            },
            [],
        ),
        # A container that shares the host's cgroup namespace: the mount shows its own part only.
        (V1.replace("0:31 / ", "0:31 /docker/1 "), "4:memory:/docker/1\n", {"memory": "/sys/fs/cgroup/memory"}, []),
        ("", "0::/x\n", {}, []),
        (V2, "", {}, []),
    ],
)
def test_where_our_own_group_lies(mountinfo: str, membership: str, old: dict[str, str], new: list[str]) -> None:
    found_old, found_new = hierarchies(mountinfo, membership)
    assert found_old == old
    assert found_new[: len(new)] == new
    assert all(path.startswith("/sys/fs/cgroup") for path in found_new), "never above the mount"


@given(st.text(max_size=80), st.text(max_size=80))
def test_odd_tables_are_no_error(mountinfo: str, membership: str) -> None:
    hierarchies(mountinfo, membership)
    for path in hierarchies(V2, membership)[1]:
        assert path == "/sys/fs/cgroup" or path.startswith("/sys/fs/cgroup/")
