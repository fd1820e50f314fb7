"""Archives from a hostile sandbox: nothing is written outside, nothing half is left, and each trick is named."""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.client.transfer import TransferError, _Count, _pack, _unignored, stays_inside, unpack

LIMIT = 1 << 20


def archive(*members: tuple[str, bytes | None, Callable[[tarfile.TarInfo], None] | None]) -> io.BytesIO:
    """A tar stream; content None makes a directory unless the callback makes it something else."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, change in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size, info.mode = len(content or b""), 0o755
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    out.seek(0)
    return out


def link(target: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = tarfile.SYMTYPE, target, 0

    return change


def kind(value: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = value, "t/a"

    return change


def test_a_sound_tree(tmp_path: pathlib.Path) -> None:
    data = archive(
        ("./t", None, None),
        ("./t/d", None, None),
        ("./t/d/a", b"hello", None),
        ("./t/d/up", None, link("../d/a")),
        ("./t/dangling", None, link("nowhere")),
    )
    report = unpack(data, tmp_path, limit=LIMIT)
    assert (report.files, report.size) == (1, 5)
    assert (tmp_path / "t/d/up").read_bytes() == b"hello"
    assert os.readlink(tmp_path / "t/dangling") == "nowhere"
    assert (tmp_path / "t/d/a").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        [("../x", b"x", None)],
        [("t/../../x", b"x", None)],
        [("/t/x", b"x", None)],
        [("..", None, None)],
        [(".", None, None)],
        [("t", None, None), ("u/x", b"x", None)],
        [("t", None, None), ("t/l", None, link("/etc/passwd"))],
        [("t", None, None), ("t/l", None, link("../x"))],
        [("t", None, link(".."))],
        [("t", None, None), ("t/l", None, link(".")), ("t/m", None, link("l/../.."))],
        [("t", None, None), ("t/l", None, link("a")), ("t/l", None, None)],
        [("t", None, None), ("t/l", None, None), ("t/l", None, link("a"))],
        [("t", None, None), ("t/l", None, link(".")), ("t/m", None, link("l/.."))],
        [("t", None, None), ("t/l", None, link("/tmp")), ("t/l/x", b"x", None)],
        [("t", None, None), ("t/l", None, link("d")), ("t/l/x", b"x", None)],
        [("t", None, None), ("t/a", b"x", None), ("t/a", b"y", None)],
        [("t", None, None), ("t/a", b"x", None), ("t/a", None, link("b"))],
        [("t", None, None), ("t/l", None, link("a")), ("t/l", None, link("b"))],
        [("t", None, None), ("t/h", b"", kind(tarfile.LNKTYPE))],
        [("t", None, None), ("t/f", b"", kind(tarfile.FIFOTYPE))],
        [("t", None, None), ("t/c", b"", kind(tarfile.CHRTYPE))],
        [("t", None, None), ("t/b", b"", kind(tarfile.BLKTYPE))],
        [("t", None, None), ("t/a", b"x" * (LIMIT + 1), None)],
        [("t", None, None), ("t/" + "a" * 300, b"x", None)],
        [],
    ],
)
def test_tricks_are_refused_and_write_nothing_outside(tmp_path: pathlib.Path, members: list[object]) -> None:
    inside = tmp_path / "fresh"
    inside.mkdir()
    with pytest.raises(TransferError):
        unpack(archive(*members), inside, limit=LIMIT)  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["fresh"]
    for found in inside.rglob("*"):
        assert not found.is_symlink(), "links are made only when all is well"


class Endless(io.RawIOBase):
    """A stream that never ends by itself; counts what was taken of it."""

    def __init__(self, piece: Callable[[int], bytes], most: int) -> None:
        self._piece, self._most, self.taken = piece, most, 0

    def read(self, size: int = -1) -> bytes:
        assert self.taken < self._most, "it is read on and on"
        data = self._piece(size)
        self.taken += len(data)
        return data


def test_a_header_that_claims_to_be_endless_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    """tarfile keeps such a header in memory, whole."""
    for kind_of in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        info = tarfile.TarInfo("t")
        info.type, info.size = kind_of, 4 * 1024**3
        head = info.tobuf(tarfile.GNU_FORMAT)
        stream = Endless(lambda size, head=head: head.ljust(max(size, 512), b"x"), 1024**2)  # type: ignore[misc]
        with pytest.raises(TransferError, match="header"):
            unpack(stream, tmp_path, limit=LIMIT)  # type: ignore[arg-type]


def test_a_tree_of_endless_nothings_ends(tmp_path: pathlib.Path) -> None:
    """Empty files and directories weigh nothing by their content, but fill a disk's table and our memory."""
    count = 0

    def piece(size: int) -> bytes:
        nonlocal count
        out = b""
        while len(out) < size:
            count += 1
            info = tarfile.TarInfo(f"t/{count}" if count > 1 else "t")
            info.type = tarfile.REGTYPE if count > 1 else tarfile.DIRTYPE
            out += info.tobuf(tarfile.USTAR_FORMAT)
        return out[:size]

    with pytest.raises(TransferError, match=f"more than {LIMIT} bytes"):
        unpack(Endless(piece, 64 * 1024**2), tmp_path, limit=LIMIT)  # type: ignore[arg-type]


def test_set_id_bits_are_not_taken_over(tmp_path: pathlib.Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.mode = 0o7777

    unpack(archive(("t", b"x", change)), tmp_path, limit=LIMIT)
    assert (tmp_path / "t").stat().st_mode & 0o7777 == 0o755


@given(st.binary(max_size=2048))
def test_noise_is_an_error_or_nothing(noise: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.raises(TransferError):
        unpack(io.BytesIO(noise), pathlib.Path(folder), limit=LIMIT)


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=5).map("/".join)


@given(st.dictionaries(st.sampled_from(["t/a", "t/b", "t/d/a", "t/d/e/b"]), NAMES, min_size=1))
def test_links_that_are_let_through_never_lead_out(links: dict[str, str]) -> None:
    """Against the kernel: all links that are accepted, together, resolve to nothing outside the tree."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder) / "t"
        (top / "d/e").mkdir(parents=True)
        made = []
        for name, target in links.items():
            if stays_inside(name, target):
                path = pathlib.Path(folder) / name
                path.symlink_to(target)
                made.append(path)
        for path in made:
            try:
                path.stat()
            except FileNotFoundError:
                pass  # dangling: where it would lead counts
            except OSError:
                continue  # a loop leads nowhere
            real = pathlib.Path(os.path.realpath(path))
            assert real == top.resolve() or top.resolve() in real.parents, (links, path)


def test_what_git_ignores_stays_behind(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "proj"
    (source / "src").mkdir(parents=True)
    (source / "out").mkdir()
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / ".gitignore").write_text("out\n*.log\n")
    (source / "src/a.py").write_text("a")
    (source / "src/b.log").write_text("b")
    (source / "out/c").write_text("c")
    (source / "src/link").symlink_to("a.py")
    names = _unignored(source)
    assert names is not None
    assert sorted(names) == [".gitignore", "src/a.py", "src/link"]
    out, count = io.BytesIO(), _Count()
    with tarfile.open(fileobj=out, mode="w") as tar:
        _pack(tar, source, names, count)
    out.seek(0)
    target = tmp_path / "copy"
    target.mkdir()
    unpack(out, target, limit=LIMIT)
    copied = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
    assert copied == ["proj", "proj/.gitignore", "proj/src", "proj/src/a.py", "proj/src/link"]
    assert _unignored(tmp_path) is None, "no repository: nothing to say"
