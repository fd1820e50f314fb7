"""Real programs, unmodified, through the inspected proxy: they trust its CA, find it, and get what policy allows."""

from __future__ import annotations

import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, House, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients")]


def policy(*binaries: str) -> str:
    listed = "".join(f"      - path: {binary}\n" for binary in binaries)
    return f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /etc, /proc, /dev/urandom, /var/log]
  read_write: [/tmp, /dev/null]
network_policies:
  everything_readable:
    endpoints:
      - host: {HOST}
        port: 443
        protocol: rest
        access: read-only
    binaries:
{listed}"""


def resolved(name: str) -> str:
    """The executable the kernel will report: symbolic links followed."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    assert found, f"{name} is needed for this test and is not installed (make test installs it as root)"
    return str(pathlib.Path(found).resolve())


def publish_repository(home: House, tmp: pathlib.Path) -> None:
    """A bare repository as static files: git's dumb HTTP protocol."""
    work, bare = tmp / "work", tmp / "repo.git"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "init", "-q", "-b", "main", str(work)], check=True)
    (work / "hello.txt").write_text("from git\n")
    subprocess.run([*git, "-C", str(work), "add", "."], check=True)
    subprocess.run([*git, "-C", str(work), "commit", "-q", "-m", "one"], check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run([*git, "-C", str(bare), "update-server-info"], check=True)
    for file in bare.rglob("*"):
        if file.is_file():
            home.upstream.files[f"/repo.git/{file.relative_to(bare)}"] = file.read_bytes()


def publish_wheel(home: House) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as wheel:
        wheel.writestr("tiny_e2e.py", "ANSWER = 42\n")
        wheel.writestr("tiny_e2e-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-e2e\nVersion: 1.0\n")
        wheel.writestr("tiny_e2e-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            "tiny_e2e-1.0.dist-info/RECORD",
            "tiny_e2e.py,,\ntiny_e2e-1.0.dist-info/METADATA,,\ntiny_e2e-1.0.dist-info/WHEEL,,\n"
            "tiny_e2e-1.0.dist-info/RECORD,,\n",
        )
    name = "tiny_e2e-1.0-py3-none-any.whl"
    home.upstream.files[f"/simple/tiny-e2e/{name}"] = raw.getvalue()
    home.upstream.files["/simple/tiny-e2e/"] = f'<!DOCTYPE html><a href="{name}">{name}</a>'.encode()


def publish_npm(home: House) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, text in (
            ("package/package.json", '{"name":"tiny-e2e","version":"1.0.0","main":"index.js"}'),
            ("package/index.js", "module.exports = 42\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    home.upstream.files["/npm/tiny-e2e-1.0.0.tgz"] = raw.getvalue()
    version = {"name": "tiny-e2e", "version": "1.0.0", "dist": {"tarball": f"https://{HOST}/npm/tiny-e2e-1.0.0.tgz"}}
    document = {"name": "tiny-e2e", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    home.upstream.files["/npm/tiny-e2e"] = json.dumps(document).encode()


async def test_curl_and_its_exit_code(home: House, gateway: Gateway) -> None:
    home.create("curl", policy(resolved("curl")))
    ran = await sh(gateway, "curl", f"curl -sSf https://{HOST}/hello && curl -sSf -X DELETE https://{HOST}/hello")
    assert ran.out == "ok\n"
    assert (ran.code, "403" in ran.err) == (22, True)


async def test_git_clone(home: House, gateway: Gateway, tmp_path: pathlib.Path) -> None:
    publish_repository(home, tmp_path)
    helper = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    home.create("git", policy(str(pathlib.Path(helper, "git-remote-http").resolve())))
    ran = await sh(gateway, "git", f"git clone -q https://{HOST}/repo.git /sandbox/r && cat /sandbox/r/hello.txt")
    assert ran.out == "from git\n", ran


async def test_python_standard_library(home: House, gateway: Gateway) -> None:
    home.create("python", policy(resolved("python3")))
    script = f"import urllib.request as u; print(u.urlopen('https://{HOST}/py').status)"
    ran = await sh(gateway, "python", f'python3 -c "{script}"')
    assert ran.out == "200\n", ran


async def test_pip_install(home: House, gateway: Gateway) -> None:
    publish_wheel(home)
    home.create("pip", policy(resolved("python3")))
    ran = await sh(
        gateway,
        "pip",
        "PIP_CONFIG_FILE=/dev/null python3 -m pip install -q --no-cache-dir --break-system-packages "
        f"--target /sandbox/site --index-url https://{HOST}/simple/ tiny-e2e && "
        "PYTHONPATH=/sandbox/site python3 -c 'import tiny_e2e; print(tiny_e2e.ANSWER)'",
    )
    assert ran.out.strip().endswith("42"), ran


async def test_node_and_npm(home: House, gateway: Gateway) -> None:
    publish_npm(home)
    home.create("node", policy(resolved("node")))
    ran = await sh(
        gateway,
        "node",
        "cd /sandbox && npm install --silent --no-audit --no-fund --cache /tmp/npm "
        f"--registry https://{HOST}/npm/ tiny-e2e && node -e \"console.log(require('tiny-e2e'))\"",
    )
    assert ran.out.strip().endswith("42"), ran


async def test_a_program_that_ignores_the_proxy_fails_fast_and_is_reported(home: House, gateway: Gateway) -> None:
    home.create("ignorant", policy(resolved("python3")))
    script = "import socket; socket.create_connection(('192.0.2.7', 443), 5)"
    ran = await sh(gateway, "ignorant", f'python3 -c "{script}" 2>&1 | tail -1')
    assert "timed out" not in ran.out
    assert "refused" in ran.out or "unreachable" in ran.out, ran
    log = await sh(gateway, "ignorant", "cat /var/log/openshell.*.log")
    assert "192.0.2.7:443" in log.out, "the attempt must be visible in the log"
