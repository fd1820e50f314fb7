"""What the operator decided: gateway.toml, OPENSHELL_* variables, and where files live (contract/gateway.md 10).

Absent means the safe default; anything unknown or of the wrong type is refused with its line. Light to import: the
CLI reads the paths before every command.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from pyopenshell.drivers.base import ConnectTo

DEFAULT_PORT: Final = 17670
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
DEFAULT_TOKEN_LIFETIME: Final = 86400
"""Seconds. Upstream's default is "never" (contract/gateway.md 12.34); supervisors renew at 80 % of the lifetime."""
DEFAULT_TUNNEL_IDLE: Final = 86400
_LONGEST_IDLE: Final = 365 * 86400

QUOTAS: Final[Mapping[str, int]] = {
    "per_minute": 60_000,
    "burst": 10_000,
    "pending_proposals": 10_000,
    "pending_observations": 10_000,
    "pending_bytes": 2 * 1024 * 1024,
}
"""The most that each key of [openshell.gateway.proposal_quotas] may be."""

DEFAULT_KEPT_LINES: Final = 2000
DEFAULT_KEPT_HISTORY: Final = 5000
_KEPT_RANGE: Final = (100, 10_000_000)

DRIVERS: Final = ("local", "podman")
_LOG_LEVELS: Final = ("debug", "info", "warn", "error")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")


class ConfigurationError(Exception):
    """The operator must act. The text names file, line and the fix."""


@dataclasses.dataclass(frozen=True, slots=True)
class Paths:
    """Where this user's gateway keeps its files (XDG base directories)."""

    config: Path
    """`$XDG_CONFIG_HOME/openshell`: gateway.toml, active_gateway, gateways/."""
    state: Path
    """`$XDG_STATE_HOME/openshell`: gateway/, tls/, sandboxes/."""
    tls: Path

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Paths:
        home = Path(environ.get("HOME") or "~").expanduser()
        config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "openshell"
        state = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "openshell"
        return cls(config, state, Path(environ.get("OPENSHELL_LOCAL_TLS_DIR") or state / "tls"))

    @property
    def run(self) -> Path:
        """Lock, log and database of the gateway process."""
        return self.state / "gateway"

    @property
    def log(self) -> Path:
        return self.run / "gateway.log"


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """`burst` calls at once, then `per_second`. `per_second` 0 is no limit."""

    per_second: float = 200.0
    burst: int = 1000


_RATE: Final = Rate()


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """One gateway's configuration, complete and checked. `port` 0 means any free one."""

    paths: Paths
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    name: str = "local"
    """Name of the registration that clients find it under."""
    gateway_id: str = "openshell"
    log_level: str = "info"
    server_names: tuple[str, ...] = LOOPBACK_NAMES
    token_lifetime: int = DEFAULT_TOKEN_LIFETIME
    database: str = ""
    connect_to: tuple[ConnectTo, ...] = ()
    probes_host: str = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are told; "" is nowhere. `probes_port` 0 means any free one."""
    probes_port: int = 0
    quotas: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What one sandbox may put before people, where it differs from the defaults (`submission.Limits`)."""
    tunnel_idle_seconds: int = DEFAULT_TUNNEL_IDLE
    """After which a raw tunnel or WebSocket of a sandbox ends when nothing was said; 0: never."""
    compute_drivers: tuple[str, ...] = DRIVERS
    """What makes sandboxes; the first does where nobody asks for another."""
    podman_socket: str = ""
    """Of Podman's service; "" where Podman has it by default."""
    podman_pull: bool = True
    """Whether an image that is not here is fetched."""
    source: Path | None = None

    rate: Rate = _RATE
    """How many calls each caller may make."""
    kept_lines: int = DEFAULT_KEPT_LINES
    kept_history: int = DEFAULT_KEPT_HISTORY
    """Log lines and history entries kept of each sandbox."""
    advertise: tuple[str, int] | None = None
    """One address for several gateways, where it is not the one this gateway listens on."""

    @property
    def advertised_port(self) -> int:
        """Where sandboxes and clients dial; 0: the port that this gateway listens on."""
        return self.advertise[1] if self.advertise is not None else 0

    @property
    def advertised_host(self) -> str:
        """What sandboxes and clients dial: the configured name, or the bind address (loopback when it is all)."""
        if self.advertise is not None:
            return self.advertise[0]
        address = ipaddress.ip_address(self.host)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
        return self.host


def load(
    environ: Mapping[str, str] = os.environ,
    *,
    file: Path | None = None,
    bind: str | None = None,
    port: int | None = None,
) -> Configuration:
    """Flag > OPENSHELL_* variable > gateway.toml > default. Raises ConfigurationError.

    `file`: --config; else $OPENSHELL_GATEWAY_CONFIG; else gateway.toml in the configuration directory if it exists.
    """
    paths = Paths.of(environ)
    named = file or (Path(environ["OPENSHELL_GATEWAY_CONFIG"]) if environ.get("OPENSHELL_GATEWAY_CONFIG") else None)
    source = named or paths.config / "gateway.toml"
    try:
        text = source.read_text("utf-8")
    except FileNotFoundError:
        if named is not None:
            raise ConfigurationError(f"{source}: no such file") from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from None
    document = _Document(source, text)
    settings = document.gateway()

    address = bind or environ.get("OPENSHELL_BIND_ADDRESS") or settings.get("bind_address") or "127.0.0.1"
    host, file_port = _address(address, document)
    chosen = port if port is not None else _port(environ.get("OPENSHELL_SERVER_PORT"), file_port)
    probes = settings.get("health_bind_address", "127.0.0.1:0")
    probes_host, probes_port = ("", 0) if probes == "off" else _address(probes, document, "health_bind_address", 0)
    probes_port = _port(environ.get("OPENSHELL_HEALTH_PORT"), probes_port, "OPENSHELL_HEALTH_PORT")
    names = (*LOOPBACK_NAMES, *settings.get("server_sans", ()), *_split(environ.get("OPENSHELL_SERVER_SAN")))
    advertise = settings.get("advertise_address")
    if advertise is not None:
        names = (*names, advertise[0])
    if host not in names and not ipaddress.ip_address(host).is_unspecified:
        names = (*names, host)
    drivers = _split(environ.get("OPENSHELL_DRIVERS")) or settings.get("compute_drivers", DRIVERS)
    if problem := _wrong_drivers(drivers):
        raise ConfigurationError(f"OPENSHELL_DRIVERS={','.join(drivers)} {problem}")
    return Configuration(
        paths=paths,
        host=host,
        port=chosen,
        name=settings.get("name", "local"),
        gateway_id=settings.get("gateway_id", "openshell"),
        log_level=environ.get("OPENSHELL_LOG_LEVEL") or settings.get("log_level", "info"),
        server_names=tuple(dict.fromkeys(names)),
        token_lifetime=settings.get("ttl_secs", DEFAULT_TOKEN_LIFETIME),
        database=environ.get("OPENSHELL_DB_URL") or f"sqlite:{paths.run / 'openshell.db'}",
        connect_to=settings.get("connect_to", ()),
        quotas=settings.get("quotas", {}),
        advertise=advertise,
        rate=Rate(float(settings.get("per_second", _RATE.per_second)), settings.get("burst", _RATE.burst)),
        kept_lines=settings.get("log_lines", DEFAULT_KEPT_LINES),
        kept_history=settings.get("history", DEFAULT_KEPT_HISTORY),
        probes_host=probes_host,
        probes_port=probes_port,
        tunnel_idle_seconds=settings.get("tunnel_idle_secs", DEFAULT_TUNNEL_IDLE),
        compute_drivers=drivers,
        podman_socket=settings.get("podman_socket", ""),
        podman_pull=settings.get("podman_pull", True),
        source=source if text else None,
    )


class _Document:
    """One TOML file, read key by key against the table of what exists."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, _key_lines(text)
        try:
            self._root: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path}: not valid TOML: {error}") from None

    def gateway(self) -> dict[str, Any]:
        """The checked values of [openshell.gateway] and its sub-tables, flat."""
        self._known((), self._root, {"openshell"})
        top = self._table((), self._root, "openshell")
        self._known(("openshell",), top, {"version", "gateway", "drivers"})
        if top and (type(top.get("version")) is not int or top["version"] not in (1, 2)):
            self._fail(("openshell", "version"), "version must be 1 or 2")
        where = ("openshell", "gateway")
        table = self._table(("openshell",), top, "gateway")
        self._known(
            where,
            table,
            {
                "bind_address",
                "name",
                "log_level",
                "server_sans",
                "compute_drivers",
                "gateway_jwt",
                "connect_to",
                "health_bind_address",
                "proposal_quotas",
                "tunnel_idle_secs",
                "advertise_address",
                "rate_limit",
                "retention",
            },
        )
        found: dict[str, Any] = {}
        for key in ("bind_address", "health_bind_address", "name", "log_level"):
            if key in table:
                found[key] = self._value(where, table, key, str)
        if "advertise_address" in table:
            found["advertise_address"] = self._advertise(where, table)
        if not _NAME.match(found.get("name", "local")):
            self._fail((*where, "name"), "name must be lower-case letters, digits, '.', '_' or '-'")
        if found.get("log_level", "info") not in _LOG_LEVELS:
            self._fail((*where, "log_level"), f"log_level must be one of {', '.join(_LOG_LEVELS)}")
        if "server_sans" in table:
            found["server_sans"] = self._strings(where, table, "server_sans")
        if "compute_drivers" in table:
            found["compute_drivers"] = self._strings(where, table, "compute_drivers")
            if problem := _wrong_drivers(found["compute_drivers"]):
                self._fail((*where, "compute_drivers"), f"compute_drivers {problem}")
        found |= self._driver_settings(top)
        found |= self._token_settings(where, table)
        if "proposal_quotas" in table:
            found["quotas"] = self._quotas(where, table)
        if "tunnel_idle_secs" in table:
            found["tunnel_idle_secs"] = self._value(where, table, "tunnel_idle_secs", int)
            if found["tunnel_idle_secs"] and not 60 <= found["tunnel_idle_secs"] <= _LONGEST_IDLE:
                self._fail((*where, "tunnel_idle_secs"), f"tunnel_idle_secs must be 0 (never) or 60 to {_LONGEST_IDLE}")
        found |= self._limits(where, table)
        if "connect_to" in table:
            found["connect_to"] = self._connect_to(where, table)
        return found

    def _advertise(self, where: tuple[str, ...], table: dict[str, Any]) -> tuple[str, int]:
        host, _, port = self._value(where, table, "advertise_address", str).rpartition(":")
        host = host.removeprefix("[").removesuffix("]").lower()
        name = re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", host)
        if not (_is_address(host) or name) or not port.isdecimal() or not 1 <= int(port) <= 65535:
            self._fail((*where, "advertise_address"), 'advertise_address must be "HOST:PORT"')
        return host, int(port)

    def _driver_settings(self, top: dict[str, Any]) -> dict[str, Any]:
        where = ("openshell", "drivers")
        drivers = self._table(("openshell",), top, "drivers")
        self._known(where, drivers, {"podman"})
        podman, inside = self._table(where, drivers, "podman"), (*where, "podman")
        self._known(inside, podman, {"socket_path", "pull"})
        found: dict[str, Any] = {}
        if "socket_path" in podman:
            found["podman_socket"] = self._value(inside, podman, "socket_path", str)
            if not found["podman_socket"].startswith("/"):
                self._fail((*inside, "socket_path"), "socket_path must be the absolute path of a unix socket")
        if "pull" in podman:
            text = self._value(inside, podman, "pull", str)
            if text not in ("missing", "never"):
                self._fail((*inside, "pull"), "pull must be missing or never")
            found["podman_pull"] = text == "missing"
        return found

    def _token_settings(self, where: tuple[str, ...], table: dict[str, Any]) -> dict[str, Any]:
        jwt = self._table(where, table, "gateway_jwt")
        inside = (*where, "gateway_jwt")
        self._known(inside, jwt, {"gateway_id", "ttl_secs"})
        found: dict[str, Any] = {}
        if "gateway_id" in jwt:
            found["gateway_id"] = self._value(inside, jwt, "gateway_id", str)
            if not _NAME.match(found["gateway_id"]):
                self._fail((*inside, "gateway_id"), "gateway_id must be lower-case letters, digits, '.', '_' or '-'")
        if "ttl_secs" in jwt:
            found["ttl_secs"] = self._value(inside, jwt, "ttl_secs", int)
            if found["ttl_secs"] and found["ttl_secs"] < 60:
                self._fail((*inside, "ttl_secs"), "ttl_secs must be 0 (never expires) or at least 60")
        return found

    def _quotas(self, where: tuple[str, ...], table: dict[str, Any]) -> dict[str, int]:
        quotas, inside = self._table(where, table, "proposal_quotas"), (*where, "proposal_quotas")
        self._known(
            inside, quotas, {"per_minute", "burst", "pending_proposals", "pending_observations", "pending_bytes"}
        )
        found = {}
        for key in quotas:
            found[key] = self._value(inside, quotas, key, int)
            if not 1 <= found[key] <= QUOTAS[key]:
                self._fail((*inside, key), f"{key} must be in 1..{QUOTAS[key]}")
        return found

    def _limits(self, where: tuple[str, ...], table: dict[str, Any]) -> dict[str, int]:
        rate = self._table(where, table, "rate_limit")
        self._known((*where, "rate_limit"), rate, {"per_second", "burst"})
        kept = self._table(where, table, "retention")
        self._known((*where, "retention"), kept, {"log_lines", "history"})
        found: dict[str, int] = {}
        for section, name, key, least, most in (
            (rate, "rate_limit", "per_second", 0, 100_000),
            (rate, "rate_limit", "burst", 1, 1_000_000),
            (kept, "retention", "log_lines", *_KEPT_RANGE),
            (kept, "retention", "history", *_KEPT_RANGE),
        ):
            if key in section:
                found[key] = self._value((*where, name), section, key, int)
                if not least <= found[key] <= most:
                    self._fail((*where, name, key), f"{key} must be between {least} and {most}")
        return found

    def _connect_to(self, where: tuple[str, ...], table: dict[str, Any]) -> tuple[ConnectTo, ...]:
        entries = table["connect_to"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._fail((*where, "connect_to"), "connect_to must be written as [[openshell.gateway.connect_to]] tables")
        found: dict[tuple[str, int], ConnectTo] = {}
        for number, entry in enumerate(entries):
            inside = (*where, f"connect_to[{number}]")
            self._known(inside, entry, {"host", "port", "address", "ca_file"})
            for key in ("host", "port", "address"):
                if key not in entry:
                    self._fail(inside, f"{key} is missing")
            host = self._value(inside, entry, "host", str).lower().rstrip(".")
            port = self._value(inside, entry, "port", int)
            if not re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", host) or _is_address(host):
                self._fail((*inside, "host"), "host must be one DNS name, without wildcards")
            if not 1 <= port <= 65535:
                self._fail((*inside, "port"), "port must be in 1..65535")
            if (host, port) in found:
                self._fail(inside, f"{host}:{port} is overridden twice")
            address = self._dial_address(inside, entry)
            ca_pem = self._authority(inside, entry) if "ca_file" in entry else ""
            found[host, port] = ConnectTo(host, port, address, ca_pem)
        return tuple(found.values())

    def _dial_address(self, inside: tuple[str, ...], entry: dict[str, Any]) -> str:
        address: str = self._value(inside, entry, "address", str)
        host, separator, port = address.rpartition(":")
        literal = host.removeprefix("[").removesuffix("]")
        if not separator or not _is_address(literal) or not port.isdecimal() or not 1 <= int(port) <= 65535:
            self._fail((*inside, "address"), 'address must be a literal IP and port, for example "127.0.0.1:8443"')
        return address

    def _authority(self, inside: tuple[str, ...], entry: dict[str, Any]) -> str:
        name: str = self._value(inside, entry, "ca_file", str)
        path = self._path.parent / name
        try:
            pem: str = path.read_text("ascii")
            ssl.create_default_context(cadata=pem)
        except (OSError, ValueError, ssl.SSLError) as error:
            self._fail((*inside, "ca_file"), f"{path} is not a readable PEM certificate: {error}")
        return pem

    def _table(self, where: tuple[str, ...], parent: dict[str, Any], key: str) -> dict[str, Any]:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            self._fail((*where, key), f"{key} must be a table")
        return value

    def _value(self, where: tuple[str, ...], table: dict[str, Any], key: str, kind: type) -> Any:
        value = table[key]
        if type(value) is not kind or value == "":
            self._fail((*where, key), f"{key} must be a non-empty {'string' if kind is str else 'integer'}")
        return value

    def _strings(self, where: tuple[str, ...], table: dict[str, Any], key: str) -> tuple[str, ...]:
        value = table[key]
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self._fail((*where, key), f"{key} must be a list of strings")
        return tuple(value)

    def _known(self, where: tuple[str, ...], table: dict[str, Any], keys: set[str]) -> None:
        for key in table:
            if key not in keys:
                self._fail((*where, key), f"unknown key '{key}'; known here: {', '.join(sorted(keys))}")

    def _fail(self, key: Sequence[str], message: str) -> NoReturn:
        line = next((self._lines[tuple(key[:n])] for n in range(len(key), 0, -1) if tuple(key[:n]) in self._lines), 1)
        raise ConfigurationError(f"{self._path}:{line}: {message}")


_HEADER: Final = re.compile(r"\s*\[(\[?)\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_\-.\"']+)\s*=")


def _key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line of each table header and key; tomllib keeps none. Array tables are "name[0]", "name[1]", …"""
    found: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(part.strip(" \"'") for part in header[2].split("."))
            if header[1]:
                index = counts.get(table, 0)
                counts[table] = index + 1
                table = (*table[:-1], f"{table[-1]}[{index}]")
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)
    return found


def _address(text: str, document: _Document, key: str = "bind_address", default: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of "127.0.0.1", "127.0.0.1:17670", "::1" or "[::1]:17670"; the port defaults."""
    host, port = text, str(default)
    if not _is_address(text):
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
    if not _is_address(host) or not port.isdecimal() or int(port) > 65535:
        document._fail(
            ("openshell", "gateway", key),
            f"{key.replace('_', ' ')} {text!r} must be a literal IP address, with or without a port",
        )
    return host, int(port)


def _port(text: str | None, default: int, variable: str = "OPENSHELL_SERVER_PORT") -> int:
    if not text:
        return default
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigurationError(f"{variable}={text!r} must be a port number in 0..65535")
    return int(text)


def _wrong_drivers(names: Sequence[str]) -> str:
    """What is wrong with a list of drivers, or ""."""
    if names and len(set(names)) == len(names) and set(names) <= set(DRIVERS):
        return ""
    return f"must name one or more of {', '.join(DRIVERS)}, each once"


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
