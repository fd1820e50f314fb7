"""`sandbox create --from`: a root image as people use it."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.drivers import rootfs
from tests.e2e.house import HOST, READ_ONLY, House, house

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("image")]

POLICY = f"""\
version: 1
network_policies:
  api:
    endpoints:
      - {{host: {HOST}, port: 80, protocol: rest, access: read-only}}
    binaries:
      - path: /bin/busybox
"""


def test_a_command_in_an_image_comes_back_with_its_output_and_goes_through_the_proxy(
    home: House, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "image.tar").write_bytes(rootfs.tar(rootfs.system()))
    (tmp_path / "policy.yaml").write_text(POLICY)
    create = ("sandbox", "create", "--no-keep", "--policy", str(tmp_path / "policy.yaml"), "--from")
    image = str(tmp_path / "image.tar")
    ran = home.cli(*create, image, "--", "/bin/sh", "-c", "cat /etc/image-release; exit 7", ok=False)
    assert (ran.code, ran.out) == (7, "a small one\n"), ran
    ran = home.cli("sandbox", "create", "--no-keep", "--from", image, "--", "/bin/cat", "/etc/image-release")
    assert ran.out == "a small one\n", "without a policy everything of the image can be read"
    ran = home.cli(*create, image, "--", "/bin/wget", "-q", "-O", "-", "http://evil.test/", ok=False)
    assert ran.code != 0
    assert "403" in ran.err, ran


def test_a_program_of_an_image_trusts_the_sandboxs_authority_by_its_own_bundle(
    home: House, tmp_path: pathlib.Path
) -> None:
    """No variable tells it where, only the place that the image's /etc has for it; and it knows no proxy."""
    bundle = rootfs.entry("etc/ssl/certs/ca-certificates.crt", b"somebody else's\n")
    members = [one for one in rootfs.system() if one[0].name != "etc/ssl"]
    (tmp_path / "image.tar").write_bytes(rootfs.tar([*members, *rootfs.program("/usr/bin/curl"), bundle]))
    (tmp_path / "policy.yaml").write_text(READ_ONLY.replace("read_only: [", "read_only: [/bin, /lib64, "))
    ran = home.cli(
        *("sandbox", "create", "--no-keep", "--from", str(tmp_path / "image.tar")),
        *("--policy", str(tmp_path / "policy.yaml"), "--"),
        *("/bin/env", "-i", "/usr/bin/curl", "-sS", "-m", "20", f"https://{HOST}/"),
    )
    assert ran.out == "ok\n", ran


def test_ssh_has_a_shell_where_the_image_has_no_bash(home: House, tmp_path: pathlib.Path) -> None:
    (tmp_path / "image.tar").write_bytes(rootfs.tar(rootfs.system()))
    home.cli("sandbox", "create", "--name", "bare", "--detach", "--from", str(tmp_path / "image.tar"))
    try:
        (tmp_path / "config").write_text(home.cli("sandbox", "ssh-config", "bare").out)
        ssh = ("ssh", "-F", str(tmp_path / "config"), "openshell-bare.default")
        for command, given in ((("echo \"$0 'it'\"; exit 7",), ""), ((), "echo \"$0 'it'\"; exit 7\n")):
            ran = subprocess.run(
                [*ssh, *command], env=home.env, input=given, capture_output=True, text=True, timeout=60, check=False
            )
            assert (ran.returncode, ran.stdout) == (7, "/bin/sh 'it'\n"), ran
    finally:
        home.delete("bare")


def test_what_is_no_image_is_said_with_the_way_to_one(tmp_path: pathlib.Path) -> None:
    """Both ways: the path that the local driver takes, and the Podman that takes a name."""
    no_podman = tmp_path / "no.sock"  # else a machine with Podman would ask a registry
    with house(drivers=f'[openshell.drivers.podman]\nsocket_path = "{no_podman}"\n') as home:
        assert "there is no" in refused(home, "./no-such.tar")
        for name in ("docker://debian:12", "debian"):
            for driver in ((), ("--driver", "podman")):
                said = refused(home, name, *driver)
                assert f"'{name}' names an image of a registry, which takes Podman" in said
                assert f"no Podman answers at {no_podman}" in said
                assert "systemctl --user enable --now podman.socket" in said
                assert "docker save IMAGE -o image.tar, then --from ./image.tar" in said
            said = refused(home, name, "--driver", "local")
            assert "docker save IMAGE -o image.tar, then --from ./image.tar" in said
            assert "--driver podman" in said


def refused(home: House, source: str, *options: str) -> str:
    ran = home.cli("sandbox", "create", "--detach", "--from", source, *options, ok=False)
    assert ran.code == 1, ran
    return " ".join(ran.err.split())
