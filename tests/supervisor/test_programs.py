"""Links among a policy's binaries are followed in the sandbox's root, never through what can be written there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyopenshell.isolation.identity import Identity
from pyopenshell.supervisor.programs import ProgramNames, resolve


class Tree:
    """A root directory; parts of it can be declared writable, all else is read-only as far as `fstatvfs` says."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.writable = path, set[str]()
        self.root = os.open(path, os.O_PATH | os.O_DIRECTORY)
        real = os.fstatvfs

        def fstatvfs(fd: int) -> os.statvfs_result:
            below = "/" + str(Path(os.readlink(f"/proc/self/fd/{fd}")).relative_to(path))
            values = list(real(fd))
            values[8] = 0 if any(below.startswith(part) for part in self.writable) else os.ST_RDONLY
            return os.statvfs_result(values)

        monkeypatch.setattr(os, "fstatvfs", fstatvfs)

    def file(self, name: str) -> None:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

    def link(self, name: str, target: str) -> None:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    tree = Tree(tmp_path, monkeypatch)
    tree.file("usr/bin/python3.11")
    tree.link("usr/bin/python3", "python3.11")
    tree.link("usr/bin/python", "/usr/bin/python3")
    tree.link("bin", "usr/bin")
    tree.link("outside", "../../../../usr/bin/python3.11")
    tree.link("loop", "/loop")
    tree.link("sandbox/bin", "/usr/bin")
    tree.link("usr/bin/detour", "/sandbox/python")
    tree.link("sandbox/python", "/usr/bin/python3.11")
    tree.link("gone", "/usr/bin/gone")
    tree.writable.add("/sandbox")
    yield tree
    os.close(tree.root)


@pytest.mark.parametrize(
    "path", ["/usr/bin/python3", "/usr/bin/python", "/bin/python", "/bin/../bin/./python3", "/outside"]
)
def test_links_are_followed_inside_the_root(tree: Tree, path: str) -> None:
    assert resolve(tree.root, path) == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    "path", ["/loop", "/gone", "/nowhere", "/sandbox/python", "/sandbox/bin/python3", "/usr/bin/detour"]
)
def test_a_way_that_ends_nowhere_or_can_be_re_aimed_names_nothing(tree: Tree, path: str) -> None:
    assert resolve(tree.root, path) is None


def test_a_program_has_the_names_that_policies_use(tree: Tree) -> None:
    names = ProgramNames()
    names.learn({"/usr/bin/python3", "/usr/bin/python3*", "/sandbox/python"})
    identity = Identity(1, "/usr/bin/python3.11")
    assert names.aliases(identity) == ()
    names.open(tree.root, -1)
    names.learn({"/bin/python", "/usr/bin/python3.11"})
    assert names.aliases(identity) == ("/usr/bin/python3", "/bin/python")
    assert names.aliases(Identity(1, "/usr/bin/curl", ("/usr/bin/python3.11",))) == ("/usr/bin/python3", "/bin/python")
    assert names.aliases(Identity(1, "/usr/bin/curl")) == ()


@pytest.fixture
def named(tmp_path: Path) -> Iterator[tuple[ProgramNames, Path]]:
    names = ProgramNames()
    root, proc = os.open("/", os.O_PATH), os.open("/proc", os.O_RDONLY)
    names.open(root, proc)
    yield names, tmp_path
    os.close(root)
    os.close(proc)


def run(*argv: str, executable: str | None = None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, executable=executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_script_is_explained(named: tuple[ProgramNames, Path]) -> None:
    names, directory = named
    script = directory / "tool\n.py"
    script.write_text("import sys\nprint(flush=True)\nsys.stdin.read()\n")
    with run(sys.executable, "-I", str(script)) as process:
        exe = os.readlink(f"/proc/{process.pid}/exe")
        said = names.explain(Identity(process.pid, exe))
        other = names.explain(Identity(process.pid, "/usr/bin/python3"))
    assert said.startswith(f"the connecting program is {exe} running {directory}/tool\\n.py; a rule for a script")
    assert other == "", "another process has the id by now"


def test_a_program_of_many_names_is_explained(named: tuple[ProgramNames, Path]) -> None:
    names, directory = named
    busybox = directory / "busybox"
    busybox.write_bytes(Path("/bin/cat").read_bytes())
    busybox.chmod(0o755)
    process = subprocess.Popen(["wget"], executable=str(busybox), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"up\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"up\n", "only now /proc surely shows its arguments"
        assert "called as wget; a rule for that name" in names.explain(Identity(process.pid, str(busybox)))


def test_an_ancestor_that_does_not_count_is_explained() -> None:
    said = ProgramNames().explain(Identity(1, "/usr/bin/x", doubtful=("/usr/bin/git",)))
    assert said.startswith("ancestor /usr/bin/git does not count")
