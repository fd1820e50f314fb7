"""Private files: written whole or not at all, readable by their owner only. Knows nothing about their content."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def private_directory(path: Path) -> Path:
    """`path`, made with mode 0700 if it is not there, and its parents too. What exists keeps its mode."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for path in reversed(missing):  # `parents=True` would make them with the umask's mode
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def write_private(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, mode 0600, atomically: a reader or a crash sees the old file or the new one.

    What is there already is not written again: a full disk must not stop a gateway that has nothing new to say.
    """
    private_directory(path.parent)
    data = data.encode() if isinstance(data, str) else data
    if read_private(path) == data:
        return
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp: mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_private(path: Path) -> bytes | None:
    """Content of a secret file, None when it is not there. Rights of others are taken away first (attacks H-7)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
        return file.read()
