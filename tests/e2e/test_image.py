"""`sandbox create --from`: a root image as people use it."""

from __future__ import annotations

import pathlib

import pytest

from tests.drivers import rootfs
from tests.e2e.house import HOST, READ_ONLY, House

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


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("./no-such.tar", "there is no"),
        ("docker://debian:12", "docker save IMAGE -o image.tar"),
        ("debian", "registry"),
    ],
)
def test_what_is_no_image_is_said_with_the_way_to_one(home: House, source: str, word: str) -> None:
    ran = home.cli("sandbox", "create", "--detach", "--from", source, ok=False)
    assert ran.code == 1, ran
    assert word in " ".join(ran.err.split()), ran
