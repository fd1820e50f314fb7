"""Putting the agent's instructions into the sandbox, live, when the proposals feature is on.

Decides where they lie; the texts are in `skills_text/`. Nothing is removed when the feature is turned off again: the
instructions themselves say what `feature_disabled` means.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

DESCRIPTION = (
    "What to do when a network request is refused in this sandbox (403 policy_denied, CONNECT tunnel failed, proxy "
    "error): read the refusal, propose the narrowest rule at http://policy.local, wait for the decision, retry once."
)


def _read() -> Mapping[str, str]:
    folder = importlib.resources.files(__package__).joinpath("skills_text")
    skill = folder.joinpath("policy_advisor.md").read_text(encoding="utf-8")
    front = f"---\nname: policy-advisor\ndescription: >-\n  {DESCRIPTION}\n---\n\n"
    return {
        "skills/policy_advisor.md": skill,
        "skills/policy-advisor/SKILL.md": front + skill,
        "AGENTS.md": folder.joinpath("AGENTS.md").read_text(encoding="utf-8"),
    }


TEXTS = _read()
"""Path below `/etc/openshell` -> content; `AGENTS.md` is where `/AGENTS.md` points to. Read once, before the fork."""


def install(directory: Path) -> bool:
    """Write or refresh the files below `directory`, the host side of `/etc/openshell`. True when something changed.

    Each file appears complete or not at all, mode 0444; folders are 0755. Raises OSError.
    """
    changed = False
    for name, text in TEXTS.items():
        changed = _place(directory / name, text.encode(), top=directory) or changed
    return changed


def _place(path: Path, content: bytes, *, top: Path) -> bool:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    for folder in (path.parent, *path.parent.parents):
        if not folder.is_relative_to(top):
            break
        folder.chmod(0o755)  # whatever our umask is, the sandbox's user must be able to read
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o444)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True
