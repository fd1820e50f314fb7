"""What an agent leaves for the programs of whoever takes its files home (attacks.md I-1, I-2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyopenshell.client.autorun import find

PLAIN = '[core]\n\trepositoryformatversion = 0\n\tbare = false\n[remote "origin"]\n\turl = https://x.test/y\n'


def put(root: Path, name: str, text: str = "x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        ".git/hooks/pre-commit",
        "deep/er/.git/hooks/post-checkout",
        ".git/modules/sub/hooks/pre-push",
        ".husky/pre-commit",
        ".vscode/tasks.json",
        ".claude/settings.local.json",
        ".mcp.json",
        ".envrc",
        "venv/pyvenv.cfg",
        "venv/lib/python3/site-packages/a.pth",
        "sitecustomize.py",
        ".bashrc",
        ".devcontainer/devcontainer.json",
        ".cargo/config.toml",
    ],
)
def test_what_runs_by_itself_is_found(tmp_path: Path, name: str) -> None:
    put(tmp_path / "tree", name)
    put(tmp_path / "tree", "README.md")
    (trap,) = find(tmp_path / "tree")
    assert trap.path == f"tree/{name}"
    assert trap.why


def test_ordinary_trees_are_left_in_peace(tmp_path: Path) -> None:
    for name in (".git/hooks/pre-commit.sample", ".gitignore", "src/main.py", "Makefile", "hooks/x", "config"):
        put(tmp_path / "tree", name)
    put(tmp_path / "tree", ".git/config", PLAIN)
    assert find(tmp_path / "tree") == []
    put(tmp_path, "one.txt")
    assert find(tmp_path / "one.txt") == []


@pytest.mark.parametrize(
    "line",
    [
        "[core]\n\tfsmonitor = ./x",
        "[core]\n  hooksPath=evil",
        '[filter "lfs"]\n\tclean = ./x',
        "[include]\n\tpath = ../evil",
        "[alias]\n\tst = !./x",
        "[CORE]\n\tSSHCommand = x",
    ],
)
def test_what_gits_configuration_runs_is_found(tmp_path: Path, line: str) -> None:
    put(tmp_path / "tree", ".git/config", PLAIN + line + "\n")
    assert [trap.path for trap in find(tmp_path / "tree")] == ["tree/.git/config"]


def test_a_link_in_a_configurations_place_is_suspect_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/.bashrc")
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    (tmp_path / "tree" / ".git" / "config").symlink_to(tmp_path / "elsewhere" / ".bashrc")
    (tmp_path / "tree" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [trap.path for trap in find(tmp_path / "tree")] == ["tree/.git/config"]
