"""What a sandbox's filesystem policy means to Landlock on the kernel at hand, and what that kernel cannot do of it."""

from __future__ import annotations

from pyopenshell.isolation import landlock, mounts
from pyopenshell.isolation.assurance import FILES, Loss
from pyopenshell.isolation.walls import BASE_READ, BASE_WRITE, FIXES, WallError, Walls, wall


def ruleset(walls: Walls, version: int) -> tuple[landlock.Ruleset | None, list[Loss]]:
    """(rules, what could not be done); `version` is `landlock.abi()`. Raises WallError.

    With `walls.landlock_required` anything missing is an error.
    """
    if not version:
        text = "Landlock is unavailable: filesystem_policy is not enforced beyond the mounts"
        return None, _lost(walls, [Loss(FILES, text)], "LandlockUnavailable")
    with wall("LandlockUnavailable"):
        rules = landlock.Ruleset(version)
        # Without this `ls /` and `ls /dev` fail, and programs that walk up from the workdir with them.
        rules.allow("/", landlock.LIST)
        for path in BASE_READ:
            rules.allow(path, landlock.READ)
        for path in BASE_WRITE:
            rules.allow(path, landlock.WRITE)
        missing = [path for path in walls.read_only if not _allow(rules, path, landlock.READ)]
        missing += [path for path in walls.read_write if not _allow(rules, path, landlock.WRITE)]
    # Such a path is not opened to anybody: said, but nothing is weaker for it.
    gone = [Loss("", f"filesystem_policy names {path}, which does not exist in the sandbox") for path in missing]
    losses = _lost(walls, gone, "FilesystemPolicyPath")
    if version < landlock.TRUNCATE_ABI:
        text = f"Landlock ABI {version} does not confine truncation: a file that may only be read can be emptied"
        losses += _lost(walls, [Loss(FILES, text)], "LandlockUnavailable")
    if version < landlock.RENAME_ABI:
        losses.append(Loss("", f"Landlock ABI {version}: nothing can be renamed from one directory into another"))
    return rules, losses


def _lost(walls: Walls, losses: list[Loss], reason: str) -> list[Loss]:
    if losses and walls.landlock_required:
        raise WallError(reason, "; ".join(loss.text for loss in losses), FIXES[reason])
    return losses


def _allow(rules: landlock.Ruleset, path: str, rights: int) -> bool:
    """Also where /etc is a farm of symbolic links: the rule belongs to what they lead to."""
    if path == "/etc" or path.startswith("/etc/"):
        for part in (mounts.INJECTED_ETC, mounts.HOST_ETC):
            rules.allow(part + path.removeprefix("/etc"), rights)
    return rules.allow(path, rights)
