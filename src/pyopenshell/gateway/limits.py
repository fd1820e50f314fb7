"""What a request may contain: sizes, names, environment (contract/gateway.md 1.0). Pure checks, exact texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pyopenshell.gateway.errors import invalid

NAME: Final = 19
"""Characters of a routable name (sandbox, workspace)."""
ENVIRONMENT_ENTRIES: Final = 128
ENVIRONMENT_BYTES: Final = 256 * 1024
RESERVED_PREFIX: Final = "OPENSHELL_"
EXEC_EXCEPTION: Final = "OPENSHELL_PYFUNC_B64"
"""The SDK's exec_python hands its function over in it (contract/sdk.md 3)."""

_VALUE: Final = 8192
_EXEC_VALUE: Final = 128 * 1024 - 512  # the kernel's limit for one string is 128 KiB with "KEY=" and the final NUL
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_RESOURCE: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z")
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


def routable_name(name: str, what: str) -> None:
    """A DNS-1123 label of at most 19 characters without "--"."""
    if len(name) > NAME:
        raise invalid(f"{what} name must be at most {NAME} characters", field="name")
    if not _LABEL.match(name) or "--" in name:
        raise invalid(
            f"{what} name must be lower-case letters, digits and single '-', and start and end with a letter or digit",
            field="name",
        )


def resource_name(name: str, what: str) -> None:
    """Lower-case letters, digits, `-`, `.`, `_`; at most 253 characters."""
    if len(name) > 253 or not _RESOURCE.match(name):
        raise invalid(
            f"{what} name must be lower-case letters, digits, '-', '.' or '_', start and end with a letter or digit, "
            "and have at most 253 characters",
            field="name",
        )


def environment(values: Mapping[str, str], field: str, *, exec_call: bool = False) -> None:
    """Variables a user gives a sandbox or one command."""
    if len(values) > ENVIRONMENT_ENTRIES:
        raise invalid(f"{field} has more than {ENVIRONMENT_ENTRIES} entries", field=field)
    total = 0
    for key, value in values.items():
        if len(key) > 256 or not _KEY.match(key):
            raise invalid(f"{field} key {key[:64]!r} must match [A-Za-z_][A-Za-z0-9_]* and have at most 256 characters",
                          field=field)  # fmt: skip
        if key.startswith(RESERVED_PREFIX) and not (exec_call and key == EXEC_EXCEPTION):
            raise invalid(f"{field} key '{key}' uses the reserved prefix '{RESERVED_PREFIX}'", field=field)
        limit = _EXEC_VALUE if exec_call else _VALUE
        size = len(value.encode())
        if size > limit:
            raise invalid(f"{field} value of '{key}' is larger than {limit} bytes", field=field)
        if "\0" in value:
            raise invalid(f"{field} value of '{key}' contains a NUL byte", field=field)
        total += len(key) + size
    if total > ENVIRONMENT_BYTES:
        raise invalid(f"{field} is larger than {ENVIRONMENT_BYTES // 1024} KiB", field=field)


def command(argv: Sequence[str], arguments: int, each: int, total: int) -> None:
    """An argument vector: at most `arguments` of at most `each` bytes, `total` bytes together, no NUL."""
    if len(argv) > arguments:
        raise invalid(f"command has more than {arguments} arguments", field="command")
    sizes = [len(part.encode()) for part in argv]
    if any(size > each for size in sizes):
        raise invalid(f"a command argument is larger than {each // 1024} KiB", field="command")
    if sum(sizes) > total:
        raise invalid(f"command is larger than {total // 1024} KiB", field="command")
    if any("\0" in part for part in argv):
        raise invalid("command contains a NUL byte", field="command")


def labels(values: Mapping[str, str], field: str = "labels") -> None:
    """Kubernetes label syntax, at most 128 entries."""
    if len(values) > 128:
        raise invalid(f"{field} has more than 128 entries", field=field)
    for key, value in values.items():
        prefix, _, name = key.rpartition("/")
        if not _LABEL_NAME.match(name) or ("/" in key and not _LABEL_PREFIX.match(prefix)):
            raise invalid(f"{field} key {key[:64]!r} is not a valid label key", field=field)
        if field == "labels" and value and not _LABEL_NAME.match(value):
            raise invalid(f"label value of '{key}' is not a valid label value", field=field)
        if len(value) > 256 * 1024:
            raise invalid(f"{field} value of '{key}' is too large", field=field)


def selector(text: str) -> dict[str, str]:
    """`k=v,k2=v2`, exact matches that must all hold; at most 64."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator:
            raise invalid("label_selector must be a comma-separated list of key=value", field="label_selector")
        pairs[key.strip()] = value.strip()
    if len(pairs) > 64:
        raise invalid("label_selector has more than 64 pairs", field="label_selector")
    labels(pairs)
    return pairs
