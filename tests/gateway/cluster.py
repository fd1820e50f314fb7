"""A PostgreSQL server of the test run's own: a temporary directory, a unix socket, an unprivileged user, no service."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

_USER: Final = "openshell"


class Cluster:
    """One running server. Databases are made and dropped by name."""

    def __init__(self, place: Path, *, durable: bool = False) -> None:
        self._place, self._programs = place, _programs()
        self._as: dict[str, Any] = {"cwd": "/", "check": True}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            account = _unprivileged()
            shutil.chown(place, account.pw_uid, account.pw_gid)
            self._as |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._numbers = itertools.count()
        data = str(place / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C", "--no-sync")
        options = [f"-k {place}", "-c listen_addresses=", "-c max_connections=60"]
        self._options = " ".join(options if durable else [*options, "-c fsync=off"])
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self._place}&user={_USER}"

    def fresh(self, template: str = "template0") -> str:
        """A new database. Returns its URL."""
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        self._run(
            "pg_ctl", "-D", str(self._place / "data"), "-s", "-w", "-t", "60",
            "-l", str(self._place / "log"), "-o", self._options, "start",
        )  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self._place / "data"), "-s", "-w", "-t", "60", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([str(self._programs / program), *arguments], stdout=subprocess.DEVNULL, **self._as)


@contextlib.contextmanager
def running(*, durable: bool = False) -> Iterator[Cluster]:
    """`durable`: with fsync, as a server that keeps what it promised."""
    # Not below pytest's directory: that one is root's, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="osh-pg-", dir="/tmp") as place:
        cluster = Cluster(Path(place), durable=durable)
        try:
            yield cluster
        finally:
            cluster.stop()


def _programs() -> Path:
    """Debian keeps the server's programs out of PATH; `make test-clients` installs them."""
    debian = Path("/usr/lib/postgresql")
    if debian.is_dir():
        versions = sorted((one for one in debian.iterdir() if (one / "bin" / "initdb").exists()), key=_version)
        if versions:
            return versions[-1] / "bin"
    found = shutil.which("initdb")
    if found is None:
        raise FileNotFoundError("no PostgreSQL server here: make .venv/.heavy installs it")
    return Path(found).resolve().parent


def _version(place: Path) -> int:
    return int(place.name) if place.name.isdecimal() else 0


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
