"""What Podman is asked for, without a Podman."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from pyopenshell.drivers.base import GatewayAccess, Workload
from pyopenshell.drivers.podman import container, runtime
from pyopenshell.drivers.podman.container import Image, Place
from pyopenshell.isolation import cgroups
from pyopenshell.isolation.cgroups import Limits
from pyopenshell.isolation.walls import WallError

ACCESS = GatewayAccess("127.0.0.1:1", "secret-token", "ca", "cert", "secret-key")
WORKLOAD = Workload(
    "3f9c", "box", "default", "8d21", b"", ACCESS, command=("secret-command",), environment={"A": "secret-value"},
    memory=1 << 28, cpu=1.5, pids=64, image="localhost/x",
)  # fmt: skip
IMAGE = Image("sha", ("PATH=/opt/bin:/bin", "HTTPS_PROXY=http://evil.test", "OPENSHELL_SANDBOX=0", "A=b=c", "=odd"))
PLACE = Place(1000, ({"source": "/s", "target": "/sandbox", "writable": True},), "/s/log", "owner")


def test_the_container_is_closed_and_carries_no_secret() -> None:
    made = container.specification(WORKLOAD, IMAGE, PLACE, [], container.settings_here())
    assert "secret" not in json.dumps(made)
    assert made["cap_drop"] == ["all"]
    assert made["cap_add"] == ["NET_ADMIN", "SETPCAP"]
    assert (made["no_new_privileges"], made["privileged"], made["read_only_filesystem"]) == (True, False, True)
    assert made["netns"] == {"nsmode": "none"}
    assert made["healthconfig"] == {"Test": ["NONE"]}
    assert made["image_volume_mode"] == "ignore"
    assert made["resource_limits"] == {
        "memory": {"limit": 1 << 28, "swap": 1 << 28},
        "cpu": {"period": 100_000, "quota": 150_000},
        "pids": {"limit": 64},
    }
    assert made["sysctl"]["net.ipv4.tcp_fwmark_accept"] == "1"
    writable = {mount["destination"] for mount in made["mounts"] if "rw" in mount["options"]}
    assert writable == {"/sandbox", "/tmp", "/run"}


def test_ids_of_a_rootful_and_of_a_rootless_container() -> None:
    assert container.mapping(0x70000000 + 998, []) == [{"container_id": 0, "host_id": 0x70000000, "size": 65536}]
    found = container.mapping(1001, [{"container_id": 0, "host_id": 1001, "size": 1},
                                     {"container_id": 1, "host_id": 100000, "size": 65536}])  # fmt: skip
    assert [(one["container_id"], one["host_id"], one["size"]) for one in found] == [
        (0, 1, 998), (998, 0, 1), (999, 999, 65536 - 999),
    ]  # fmt: skip
    hosts = [range(one["host_id"], one["host_id"] + one["size"]) for one in found]
    assert sum(len(one) for one in hosts) == len({number for one in hosts for number in one}), "each id once"


def test_an_image_cannot_lead_commands_elsewhere() -> None:
    assert container.environment(IMAGE) == {"PATH": "/opt/bin:/bin", "A": "b=c"}


def test_what_is_laid_over_an_image() -> None:
    with tarfile.open(fileobj=io.BytesIO(container.additions())) as archive:
        links = {entry.name: entry.linkname for entry in archive if entry.issym()}
        directories = {entry.name: entry.mode for entry in archive if entry.isdir()}
    assert links["etc/ssl/certs/ca-certificates.crt"] == "/etc/openshell-tls/ca-bundle.pem"
    assert links["AGENTS.md"] == "etc/openshell/AGENTS.md"
    assert directories == {"tmp": 0o1777, "run": 0o1777}


def test_the_copy_of_python_is_made_once_and_replaced_with_the_version(tmp_path: Path) -> None:
    (tmp_path / "runtime-000000000000").mkdir()
    first = Path(runtime.install(str(tmp_path)))
    assert [one.name for one in tmp_path.iterdir()] == [first.name]
    stamp = first.stat().st_mtime_ns
    assert Path(runtime.install(str(tmp_path))) == first
    assert first.stat().st_mtime_ns == stamp
    for path in (first, *first.rglob("*")):
        assert path.stat().st_mode & 0o005, f"{path} is not for the sandbox's user"
        assert not path.is_symlink()
    assert not list(first.rglob("grpc*"))


def test_an_interpreter_that_cannot_be_copied_is_an_error_with_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(WallError) as caught:
        runtime.install(str(tmp_path))
    assert caught.value.reason == "RuntimeNotCopied"
    assert caught.value.fix


def test_a_limit_counts_only_where_the_kernel_has_it(tmp_path: Path) -> None:
    import os

    assert cgroups.held(os.getpid(), Limits(memory=1 << 20, pids=1)) == {}
    assert cgroups.held(2**22 + 1, Limits(pids=1)) == {}
    assert cgroups.held(os.getpid(), Limits()) == {}
