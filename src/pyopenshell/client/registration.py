"""Which gateway is meant and what proves it: the registration files of contract/cli.md 1 and contract/sdk.md 2.

Reads and writes small files under the user's configuration directory. Knows no gRPC and starts nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")


class RegistrationError(Exception):
    """No gateway can be chosen; the text says what the person can do (fixed by the contract)."""


class NoGatewayError(RegistrationError):
    """Nothing is registered or selected: the one case in which a local gateway may be started."""

    def __init__(self) -> None:
        super().__init__(
            "No active gateway.\n"
            "Set one with: openshell gateway select <name>\n"
            "Or register one with: openshell gateway add <endpoint>"
        )


class UnknownGatewayError(RegistrationError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"Unknown gateway '{name}'.\n"
            f"Register it first: openshell gateway add <endpoint> --name {name}\n"
            "Or list available gateways: openshell gateway select"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM. `certificate` and `key` are both there or both empty."""

    authority: bytes
    certificate: bytes = b""
    key: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """One known gateway. `source` is "user", "system" or "flag" (an endpoint nobody registered)."""

    name: str
    endpoint: str
    auth_mode: str = ""
    is_remote: bool = False
    remote_host: str = ""
    resolved_host: str = ""
    source: str = "user"
    directory: Path | None = None

    @property
    def secure(self) -> bool:
        return urlsplit(self.endpoint).scheme != "http"

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.endpoint).port or (443 if self.secure else 80)

    @property
    def target(self) -> str:
        """What gRPC dials: host:port, brackets around an IPv6 literal."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def kind(self) -> str:
        """`local`, `remote` (reached through SSH) or `cloud`, as `gateway list` prints it."""
        if self.is_remote:
            return "remote"
        return "local" if self.loopback or not self.secure else "cloud"

    @property
    def auth(self) -> str:
        return self.auth_mode or ("mtls" if self.secure else "plaintext")

    def tls(self) -> TlsFiles | None:
        """Certificate authority and client certificate, as far as there are any (contract/sdk.md 2.2)."""
        if self.directory is None:
            return None
        folder = self.directory / "mtls"
        authority = _read(folder / "ca.crt")
        if not authority:
            return None
        certificate, key = _read(folder / "tls.crt"), _read(folder / "tls.key")
        if not certificate or not key:
            return TlsFiles(authority)
        return TlsFiles(authority, certificate, key)


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where the files are. `environ` decides, so tests and the demo can have their own."""

    config: Path
    state: Path
    system: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Places:
        home = Path(environ.get("HOME") or "~").expanduser()
        config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "openshell"
        state = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "openshell"
        return cls(config, state, Path(environ.get("OPENSHELL_SYSTEM_GATEWAY_DIR") or "/etc/openshell"))

    def registered(self) -> list[Registration]:
        """All gateways, by name; a user's entry shadows the system's."""
        found: dict[str, Registration] = {}
        for source, root in (("system", self.system), ("user", self.config)):
            folder = root / "gateways"
            if not folder.is_dir():
                continue
            for entry in folder.iterdir():
                one = _load(entry, source)
                if one is not None:
                    found[one.name] = one
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> Registration | None:
        if not _NAME.match(name):
            return None
        return _load(self.config / "gateways" / name, "user") or _load(self.system / "gateways" / name, "system")

    def active(self) -> str:
        """Name in `active_gateway`, "" when there is none."""
        return _read(self.config / "active_gateway").decode("utf-8", "replace").strip()

    def activate(self, name: str) -> None:
        write_atomically(self.config / "active_gateway", name + "\n")

    def add(self, registration: Registration) -> Path:
        """Write `metadata.json`; certificates are the caller's."""
        folder = self.config / "gateways" / registration.name
        metadata: dict[str, Any] = {
            "name": registration.name,
            "gateway_endpoint": registration.endpoint,
            "gateway_port": registration.port,
            "is_remote": registration.is_remote,
            "auth_mode": registration.auth,
        }
        write_atomically(folder / "metadata.json", json.dumps(metadata, indent=2) + "\n")
        return folder

    def remove(self, name: str) -> None:
        """Delete a user's registration, and the choice of it if it was the active one."""
        if not _NAME.match(name):
            return
        shutil.rmtree(self.config / "gateways" / name, ignore_errors=True)
        if self.active() == name:
            (self.config / "active_gateway").unlink(missing_ok=True)

    def last_sandbox(self, gateway: str, workspace: str) -> str:
        """The sandbox used last with this gateway and workspace, "" when none."""
        return _read(self._last(gateway, workspace)).decode("utf-8", "replace").strip()

    def remember_sandbox(self, gateway: str, workspace: str, name: str) -> None:
        """A convenience only: a disk that cannot be written must not fail the command."""
        with contextlib.suppress(OSError):
            write_atomically(self._last(gateway, workspace), name + "\n")

    def forget_sandbox(self, gateway: str, workspace: str, name: str) -> None:
        if self.last_sandbox(gateway, workspace) == name:
            with contextlib.suppress(OSError):
                self._last(gateway, workspace).unlink()

    def _last(self, gateway: str, workspace: str) -> Path:
        return self.state / "last_sandbox" / quote(gateway, safe="") / quote(workspace, safe="")


def resolve(places: Places, *, gateway: str = "", endpoint: str = "") -> Registration:
    """The order of contract/cli.md 1: endpoint, then name, then the active gateway.

    Raises NoGatewayError, UnknownGatewayError or RegistrationError.
    """
    gateway = gateway.strip()
    if endpoint:
        return _by_endpoint(places, gateway, endpoint)
    name = gateway or places.active()
    if not name:
        raise NoGatewayError
    found = places.find(name)
    if found is None:
        raise UnknownGatewayError(name)
    return found


def _by_endpoint(places: Places, gateway: str, endpoint: str) -> Registration:
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise RegistrationError(
            f"'{endpoint}' is not a gateway endpoint; expected http://host:port or https://host:port"
        )
    url = parts.geturl()
    stored = places.find(gateway) if gateway else None
    if stored is None and not gateway:
        stored = next((one for one in places.registered() if one.endpoint.rstrip("/") == url.rstrip("/")), None)
    if stored is not None:
        return dataclasses.replace(stored, endpoint=url)
    return Registration(name=gateway or url, endpoint=url, source="flag")


def _load(folder: Path, source: str) -> Registration | None:
    raw = _read(folder / "metadata.json")
    if not raw:
        return None
    try:
        data = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("gateway_endpoint"), str):
        return None

    def text(key: str) -> str:
        value = data.get(key)
        return value if isinstance(value, str) else ""

    return Registration(
        name=folder.name,
        endpoint=data["gateway_endpoint"],
        auth_mode=text("auth_mode"),
        is_remote=data.get("is_remote") is True,
        remote_host=text("remote_host"),
        resolved_host=text("resolved_host"),
        source=source,
        directory=folder,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old or the new file, never half of one; mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
