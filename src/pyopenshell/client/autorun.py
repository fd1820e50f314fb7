"""Files that programs of the host run by themselves: what an agent leaves in a tree for whoever opens it later.

Knows names and a few keys of git's configuration; never runs, imports or changes anything.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Final

MOST: Final = 100
"""Findings told; more are counted only."""
_CONFIG_BYTES: Final = 1 << 20
_RUNS: Final = re.compile(
    r"^\s*(fsmonitor|hookspath|sshcommand|gitproxy|askpass|editor|pager|external|textconv|driver|clean|smudge|process"
    r"|helper|command|path)\s*=\s*\S|^\s*\[\s*(alias|include|includeif|filter|diff|merge|credential|pager)\b",
    re.IGNORECASE | re.MULTILINE,
)
_BY_PATH: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(^|/)(\.git|[^/]+\.git)/(modules/.*/)?hooks/(?!.*\.sample$)[^/]+$", "git runs it"),
        (r"(^|/)\.husky/[^/]+$", "git runs it"),
        (r"(^|/)\.pre-commit-config\.yaml$", "pre-commit runs what it names"),
        (r"(^|/)\.vscode/(tasks|settings|launch|extensions)\.json$", "VS Code runs what it names"),
        (r"(^|/)\.devcontainer(/|\.json$)", "editors build and run what it names"),
        (r"(^|/)\.idea/(workspace\.xml|runConfigurations/.*)$", "JetBrains IDEs run what it names"),
        (r"(^|/)\.(claude|cursor|codex|gemini)/(settings.*\.json|mcp\.json|config\.toml|hooks/.*|commands/.*)$",
         "a coding agent runs what it names"),
        (r"(^|/)(\.mcp\.json|\.cursorrules)$", "a coding agent runs or obeys it"),
        (r"(^|/)\.envrc$", "direnv runs it"),
        (r"(^|/)pyvenv\.cfg$", "python takes its paths from it"),
        (r"(^|/)(sitecustomize|usercustomize)\.py$|\.pth$", "python runs it at its start"),
        (r"(^|/)\.(bashrc|bash_profile|bash_login|profile|bash_logout|zshrc|zshenv|zprofile|zlogin|inputrc)$",
         "a shell runs it"),
        (r"(^|/)\.(vimrc|exrc|nvimrc|gdbinit|lldbinit)$|(^|/)\.dir-locals\.el$", "an editor or debugger runs it"),
        (r"(^|/)\.(npmrc|yarnrc|yarnrc\.yml|pnpmfile\.cjs)$", "npm, yarn or pnpm take programs from it"),
        (r"(^|/)\.cargo/config(\.toml)?$", "cargo runs what it names"),
        (r"(^|/)\.ssh/(config|rc|authorized_keys)$", "ssh runs what it names"),
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Trap:
    """`path` below the tree (an agent's word: show it through `visible`), and `why` it matters."""

    path: str
    why: str


def find(tree: Path) -> list[Trap]:
    """Everything of the kind in a file or a tree, in order; links are not followed."""
    if not tree.is_dir() or tree.is_symlink():
        return [trap] if (trap := _judge(tree, tree.name)) else []
    found = []
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if trap := _judge(path, str(path.relative_to(tree.parent))):
                found.append(trap)
    return found


def _judge(path: Path, name: str) -> Trap | None:
    for pattern, why in _BY_PATH:
        if pattern.search(name):
            return Trap(name, why)
    if re.search(r"(^|/)(\.git|[^/]+\.git)/(modules/.*/)?config(\.worktree)?$", name) and _runs_something(path):
        return Trap(name, "git runs what it names")
    return None


def _runs_something(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return True
        with path.open("rb") as file:
            text = file.read(_CONFIG_BYTES + 1)
    except OSError:
        return True
    return len(text) > _CONFIG_BYTES or _RUNS.search(text.decode("utf-8", "replace")) is not None
