"""Root images: the four forms of them make the same sandbox, and a hostile one gets nowhere (attacks.md I-3)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tarfile
from pathlib import Path

import pytest

from pyopenshell.drivers.base import DriverError
from pyopenshell.drivers.local.images import cache
from pyopenshell.drivers.local.images.archive import Tree
from pyopenshell.isolation.walls import WallError
from tests.drivers import rootfs
from tests.drivers.rootfs import directory, entry, link
from tests.drivers.sandboxes import Box
from tests.isolation.test_filesystem_policy import config

UPPER = [
    entry("usr/share/who", b"upper\n"),
    entry("srv/.wh.gone"),
    directory("opaque"),
    entry("opaque/.wh..wh..opq"),
    entry("opaque/new", b"new\n"),
]
LOWER = [entry("srv/gone", b"x"), directory("opaque"), entry("opaque/old", b"old\n")]


@pytest.fixture
def place(state: Path) -> Path:
    """Beside the state directory, readable for a sandbox's id."""
    path = state / "images-of-the-test"
    path.mkdir(mode=0o755)
    return path


def forms(place: Path) -> dict[str, Path]:
    system = rootfs.system()
    plain = place / "plain.tar"
    plain.write_bytes(rootfs.tar(system))
    packed = place / "packed.tar.xz"
    with tarfile.open(packed, "w:xz", preset=0) as archive:
        for info, data in system:
            archive.addfile(info, io.BytesIO(data))
    layers = (rootfs.tar([*system, *LOWER]), rootfs.tar(UPPER))
    layout = rootfs.layout(place / "layout", *layers, environment=["FROM_IMAGE=yes", "HTTP_PROXY=http://evil.test"])
    archive_of = place / "layout.tar"
    with tarfile.open(archive_of, "w") as archive:
        archive.add(layout, ".")
    saved = rootfs.saved(place / "saved.tar", *layers)
    folder = place / "folder"
    folder.mkdir(mode=0o755)
    tree = Tree(str(folder))
    tree.unpack(io.BytesIO(rootfs.tar(system)), layer=False)
    tree.close()
    return {"plain": plain, "xz": packed, "layout": layout, "archive": archive_of, "saved": saved, "folder": folder}


@pytest.mark.e2e
async def test_every_form_of_an_image_is_a_sandbox(box: Box, place: Path) -> None:
    for form, path in forms(place).items():
        await box.create(form, image=str(path))
        assert (box.status.assurance, box.status.tier) == ("full", "A"), (form, box.status)
        layered = form in ("layout", "archive", "saved")
        ran = await box.run(
            "/bin/sh",
            "-c",
            "cat /etc/image-release /usr/share/who /var/lib/kept; ls /; id -un; /start.sh; cat /etc/resolv.conf;"
            "cat /etc/ssl/certs/ca-certificates.crt; cat /etc/shadow; grep sandbox /etc/passwd;"
            "for d in / /bin /etc /usr /var/lib /sandbox /tmp; do touch $d/x 2>/dev/null && echo wrote $d; done;"
            "echo $FROM_IMAGE $HTTP_PROXY; ls /srv /opaque; stat -c %a /bin/busybox; grep ' /bin ' /proc/self/mounts",
            box=form,
        )
        lines = ran.lines
        who = "upper" if layered else "lower"
        assert lines[:3] == ["a small one", who, "kept"], (form, ran)
        listed = {"bin", "etc", "usr", "var", "srv", "start.sh", "sandbox", "tmp", "proc", "dev", "run", "AGENTS.md"}
        assert listed <= set(lines), (form, ran)
        assert not {"home", "root", "boot"} & set(lines[3:20])
        assert {"started", "nameserver 10.200.0.1", "sandbox:x:998:998:sandbox:/sandbox:/bin/sh"} <= set(lines), ran
        assert [line for line in lines if line.startswith("wrote")] == ["wrote /sandbox", "wrote /tmp"], ran
        assert ("yes http://10.200.0.1:3128" in lines) is layered, ran
        assert ("new" in lines, "old" in lines, "gone" in lines) == (layered, False, False), ran
        assert "certificate" in lines, "our authority in the image's own bundle"
        assert {"755"} <= set(lines), "no set-user-id bit is kept"
        assert "nosuid" in lines[-1], ran
        if os.geteuid() == 0:
            assert "secret of the image" not in ran.out
        assert (box.state / "images").is_dir()


@pytest.mark.e2e
async def test_an_image_is_unpacked_once_and_a_sandbox_keeps_its_own(box: Box, place: Path) -> None:
    path = place / "image.tar"
    path.write_bytes(rootfs.tar(rootfs.system()))
    await box.create("one", image=str(path))
    (known,) = (box.state / "images").iterdir()
    stamp = (known / "root" / "bin").stat().st_ctime_ns
    await box.create("two", image=str(path))
    assert [one.name for one in (box.state / "images").iterdir()] == [known.name]
    assert (known / "root" / "bin").stat().st_ctime_ns == stamp
    await box.driver.stop("one")
    path.write_bytes(rootfs.tar([*rootfs.system(), entry("usr/share/who", b"changed\n")]))
    await box.create("one", image=str(path), instance_id="i2")
    assert (await box.run("/bin/cat", "/usr/share/who")).out == "lower\n", "what it was made from"
    await box.create("three", image=str(path))
    assert (await box.run("/bin/cat", "/usr/share/who", box="three")).out == "changed\n"
    path.unlink()
    await box.driver.stop("one")
    await box.create("one", image=str(path), instance_id="i3")
    assert (await box.run("/bin/cat", "/usr/share/who")).out == "lower\n"


@pytest.mark.e2e
async def test_policy_holds_in_an_image_as_on_the_host(box: Box, place: Path) -> None:
    path = place / "image.tar"
    path.write_bytes(rootfs.tar([*rootfs.system(), entry("srv/private", b"private\n")]))
    policy = config(("/bin", "/lib", "/lib64", "/usr", "/etc", "/proc"), ("/tmp",))
    await box.create(image=str(path), config=policy)
    ran = await box.run("/bin/sh", "-c", "cat /usr/share/who; cat /srv/private; echo x > /sandbox/x && echo wrote")
    assert ran.lines == ["lower", "wrote"], ran


@pytest.mark.e2e
async def test_links_and_sockets_of_a_directory_lead_nowhere(box: Box, place: Path) -> None:
    """A directory is used where it lies: what somebody puts into it must not lead out, nor to who listens there."""
    folder = place / "folder"
    folder.mkdir()
    tree = Tree(str(folder))
    tree.unpack(io.BytesIO(rootfs.tar(rootfs.system())), layer=False)
    tree.close()
    outside = place / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder / "opt").symlink_to(outside)
    for name in ("etc", "var"):
        (folder / name).rename(folder / f"old-{name}")
        (folder / name).symlink_to(outside)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        with contextlib.chdir(folder):  # the path may be longer than a socket address
            listener.bind("usr/share/socket")
        (folder / "usr/share/socket").chmod(0o777)
        listener.listen()
        listener.setblocking(False)
        await box.create(image=str(folder))
        ran = await box.run(
            "/bin/sh", "-c", "ls -d /pipe; cat /opt/secret /etc/secret /var/secret; readlink /opt; ls /etc"
        )
        assert "secret" not in ran.out.replace(str(outside), ""), ran
        assert str(outside) in ran.out
        assert "resolv.conf" in ran.out
        # busybox has no client for unix sockets here: what the file is says enough, and nobody must have come.
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.e2e
async def test_what_is_no_image_is_said_and_nothing_is_left(box: Box, place: Path) -> None:
    garbage, empty, halved = place / "garbage", place / "empty.tar", place / "halved.tar.gz"
    garbage.write_bytes(b"no tar at all" * 1000)
    empty.write_bytes(rootfs.tar([]))
    import gzip

    packed = gzip.compress(rootfs.tar(rootfs.system()))
    halved.write_bytes(packed[: len(packed) // 2])
    (place / "nothing").mkdir()
    for reference, word, reason in (
        ("docker://debian:12", "pulls from no registry", "ImageUnavailable"),
        ("debian:12", "docker save", "ImageUnavailable"),
        (str(place / "none"), "No such file", "ImageUnavailable"),
        ("/dev/null", "neither a directory nor a file", "ImageUnavailable"),
        (str(garbage), "not a tar", "ImageInvalid"),
        (str(empty), "no root file system", "ImageInvalid"),
        (str(halved), "damaged", "ImageInvalid"),
        (str(place / "nothing"), "neither a root file system", "ImageInvalid"),
    ):
        with pytest.raises(DriverError) as caught:
            await box.create(image=reference)
        assert caught.value.reason == reason, reference
        assert word in f"{caught.value.message} {caught.value.fix}", (reference, caught.value.message)
        assert caught.value.fix
        assert not box.root().exists()
        assert list((box.state / "images").iterdir()) == []


# -- what an author may try; without a sandbox ------------------------------------------------------------------------


def unpacked(place: Path, *layers: list[rootfs.Member], **limits: int) -> Path:
    root = place / "root"
    root.mkdir()
    tree = Tree(str(root), **limits)
    try:
        for layer in layers:
            tree.unpack(io.BytesIO(rootfs.tar(layer)), layer=True)
    finally:
        tree.close()
    return root


def outside(place: Path) -> Path:
    path = place / "outside"
    path.mkdir()
    (path / "keep").write_text("mine")
    return path


@pytest.mark.parametrize(
    "members",
    [
        [entry("../outside/keep", b"evil")],
        [entry("a/../../outside/keep", b"evil")],
        [directory("a"), entry("a/../outside/keep", b"evil")],
        [entry("hard", kind=tarfile.LNKTYPE, link="../outside/keep"), entry("hard", b"evil")],
        [link("d", "/etc"), entry("hard", kind=tarfile.LNKTYPE, link="d")],
        [directory("d"), entry("hard", kind=tarfile.LNKTYPE, link="d")],
        [entry("hard", kind=tarfile.LNKTYPE, link="")],
    ],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, members: list[rootfs.Member]) -> None:
    path = outside(tmp_path)
    with pytest.raises(WallError) as caught:
        unpacked(tmp_path, members)
    assert caught.value.reason == "ImageInvalid"
    assert caught.value.fix
    assert (path / "keep").read_text() == "mine"
    assert [one.name for one in path.iterdir()] == ["keep"]


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    path = outside(tmp_path)
    root = unpacked(
        tmp_path,
        [link("up", "../outside"), directory("outside"), link("usr-lib", "usr/lib"), directory("usr/lib")],
        [entry("up/evil", b"1"), entry("usr-lib/fine", b"3")],
    )
    assert (root / "outside" / "evil").read_text() == "1"
    assert (root / "usr" / "lib" / "fine").read_text() == "3"
    assert [one.name for one in path.iterdir()] == ["keep"]


@pytest.mark.parametrize("name", ["abs/evil", "abs/.wh.keep", "abs/.wh..wh..opq"])
def test_a_link_to_what_only_the_host_has_leads_nowhere(tmp_path: Path, name: str) -> None:
    path = outside(tmp_path)
    with pytest.raises(WallError, match="no directory of the image"):
        unpacked(tmp_path, [link("abs", str(path))], [entry(name, b"2")])
    assert [one.name for one in path.iterdir()] == ["keep"]


def test_whiteouts_take_links_away_and_not_what_they_lead_to(tmp_path: Path) -> None:
    path = outside(tmp_path)
    root = unpacked(tmp_path, [link("abs", str(path)), directory("d"), link("d/l", str(path))], [entry(".wh..wh..opq")])
    assert list(root.iterdir()) == []
    assert [one.name for one in path.iterdir()] == ["keep"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    with pytest.raises(WallError) as caught:
        unpacked(tmp_path, [link("a", "b"), link("b", "a"), entry("a/x", b"")])
    assert caught.value.reason == "ImageInvalid"


def test_owners_devices_and_set_id_bits_are_left_out(tmp_path: Path) -> None:
    device, fifo = entry("null", kind=tarfile.CHRTYPE), entry("pipe", kind=tarfile.FIFOTYPE)
    owned, data = entry("su", b"x", mode=0o6755)
    owned.uid = owned.gid = 4711
    owned.pax_headers = {"SCHILY.xattr.security.capability": "x" * 20, "SCHILY.xattr.user.a": "b"}
    root = unpacked(tmp_path, [device, fifo, (owned, data), entry("closed", b"", kind=tarfile.DIRTYPE, mode=0)])
    assert sorted(one.name for one in root.iterdir()) == ["closed", "su"]
    assert (root / "su").stat().st_mode & 0o7777 == 0o755
    assert (root / "su").stat().st_uid == os.geteuid()
    assert os.listxattr(root / "su") == []
    assert (root / "closed").stat().st_mode & 0o700 == 0o700, "the cache can be removed again"


def test_an_image_is_bounded(tmp_path: Path) -> None:
    for number, (members, limits) in enumerate(
        (
            ([entry(f"f{n}") for n in range(20)], {"max_entries": 10}),
            ([entry("big", b"x" * 5000)], {"max_bytes": 4096}),
        )
    ):
        where = tmp_path / str(number)
        where.mkdir()
        with pytest.raises(WallError) as caught:
            unpacked(where, members, **limits)
        assert caught.value.reason == "ImageTooLarge"


def test_hard_links_and_replacements(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        [entry("a", b"1"), entry("b", kind=tarfile.LNKTYPE, link="a"), directory("d/e"), entry("d/e/f", b"2")],
        [entry("d", b"a file in a directory's place"), entry("b", kind=tarfile.LNKTYPE, link="a")],
    )
    assert (root / "a").samefile(root / "b")
    assert (root / "d").read_text() == "a file in a directory's place"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("layer", "digest"),
        ("manifest", "digest"),
        ("missing", "No such file"),
        ("platform", "exactly one"),
        ("escape", "no SHA-256 digest"),
        ("json", "not JSON"),
    ],
)
def test_a_layout_that_is_not_what_it_says_is_refused(tmp_path: Path, change: str, word: str) -> None:
    path = rootfs.layout(tmp_path / "layout", rootfs.tar(rootfs.system()))
    index = json.loads((path / "index.json").read_text())
    manifest = path / "blobs" / "sha256" / index["manifests"][1]["digest"].partition(":")[2]
    layer = path / "blobs" / "sha256" / json.loads(manifest.read_text())["layers"][0]["digest"].partition(":")[2]
    if change == "layer":
        import gzip

        layer.write_bytes(gzip.compress(rootfs.tar([*rootfs.system(), entry("evil", b"x")])))
    elif change == "manifest":
        manifest.write_text(manifest.read_text() + " ")
    elif change == "missing":
        layer.unlink()
    elif change == "platform":
        index["manifests"].pop()
        (path / "index.json").write_text(json.dumps(index))
    elif change == "escape":
        index["manifests"][1]["digest"] = "sha256:../../etc/passwd"
        (path / "index.json").write_text(json.dumps(index))
    else:
        (path / "index.json").write_text("{" * 100)
    images = tmp_path / "images"
    images.mkdir()
    with pytest.raises(WallError) as caught:
        cache.prepare(str(images), str(path))
    assert caught.value.reason == "ImageInvalid"
    assert word in caught.value.message
    assert list(images.iterdir()) == []
