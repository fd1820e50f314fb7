"""Where the peers come from: unpacked beside the repository, never installed, so that no service can be started.

    python -m benchmarks.proxy.programs      (make bench-peers)

mitmproxy and regorus (Rego, for `benchmarks.engine`) from PyPI, each into an environment of its own; nginx, HAProxy and
Squid (with OpenSSL) as Debian packages, unpacked with the libraries that the machine lacks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".bench"
PACKAGES = HOME / "debian"
MITMPROXY = HOME / "mitmproxy"
REGO = HOME / "rego"
DEBIAN = ("nginx", "haproxy", "squid-openssl")
GENERATOR = HOME / "lg"
_BINARIES = {"nginx": "usr/sbin/nginx", "haproxy": "usr/sbin/haproxy", "squid": "usr/sbin/squid"}


def binary(name: str) -> str:
    """Path of a peer's program. Raises SystemExit when `make bench-peers` has not brought it."""
    path = MITMPROXY / "bin/mitmdump" if name == "mitmproxy" else PACKAGES / _BINARIES[name]
    if not path.exists():
        raise SystemExit(f"{path} is missing: run `make bench-peers`, or leave it out with --without {name}")
    return str(path)


def environment() -> dict[str, str]:
    """What unpacked programs need to find their libraries."""
    folders = sorted({str(file.parent) for file in PACKAGES.glob("usr/lib/**/*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(folders)}


def versions() -> dict[str, str]:
    """One line for each program."""
    asked = {
        "nginx": ([binary("nginx"), "-v"], r"nginx/(\S+)"),
        "haproxy": ([binary("haproxy"), "-v"], r"version (\S+)"),
        "squid": ([binary("squid"), "-v"], r"Version (\S+)"),
        "mitmproxy": ([binary("mitmproxy"), "--version"], r"Mitmproxy: (\S+)"),
    }
    found = {}
    for name, (command, pattern) in asked.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment())
        match = re.search(pattern, done.stdout + done.stderr)
        found[name] = match[1] if match else "?"
    return found


def _debian() -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed: the peers are Debian packages")
    plan = subprocess.run(
        ["apt-get", "-s", "install", "--no-install-recommends", *DEBIAN], capture_output=True, text=True, check=True
    ).stdout
    # "Inst NAME [installed version] ..." is an upgrade: the machine's own will do.
    wanted = re.findall(r"^Inst (\S+) \(", plan, re.MULTILINE) or list(DEBIAN)
    debs = HOME / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir(parents=True)
    subprocess.run(["apt-get", "download", "-qq", *wanted], cwd=debs, check=True, stderr=subprocess.DEVNULL)
    shutil.rmtree(PACKAGES, ignore_errors=True)
    for package in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, PACKAGES], check=True)
    shutil.rmtree(debs)


def _from_pypi(home: Path, *requirements: str) -> None:
    if not (home / "bin/pip").exists():
        venv.create(home, with_pip=True)
    subprocess.run([home / "bin/pip", "-q", "--disable-pip-version-check", "install", *requirements], check=True)


def rego() -> Path:
    """An interpreter that has `regorus`, brought on first use. microsoft/regorus, which upstream enforces with, has no
    wheels of its own on PyPI; this repackages one of its releases."""
    python = REGO / "bin/python"
    if not (REGO / "ready").exists():
        _from_pypi(REGO, "--only-binary=:all:", "celine-regorus==0.9.1.post20260227075446")
        (REGO / "ready").touch()
    return python


def _generator() -> None:
    source = Path(__file__).with_name("lg.c")
    subprocess.run(["gcc", "-O2", "-w", "-o", GENERATOR, source, "-lssl", "-lcrypto"], check=True)


def main() -> None:
    HOME.mkdir(exist_ok=True)
    _generator()
    _debian()
    _from_pypi(MITMPROXY, "mitmproxy")
    rego()
    for name, version in versions().items():
        print(f"{name} {version}")


if __name__ == "__main__":
    main()
