"""The host's directories are seen and read, but nothing of the host listens in them (attacks.md E-3).

Hosts with mounts below /usr and /etc, or where overlayfs refuses, are made in mount namespaces of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.sandboxes import Box, repository
from tests.isolation.test_filesystem_policy import config

pytestmark = pytest.mark.e2e

PLACE = Path("/usr/local/src")
"""Empty on every Debian and Ubuntu; the mounts over it are private to the test."""
BELOW_OWN_NAMESPACE = ("-Um", "--map-user=1000", "--map-group=1000", "--keep-caps")
USERS = [
    pytest.param(("-m",), id="root", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root")),
    pytest.param(BELOW_OWN_NAMESPACE, id="user"),
]

PROBE = """
import errno, os, socket
for name in ('s', 'a/s'):
    try:
        socket.socket(socket.AF_UNIX).connect('PLACE/' + name)
        print('REACHED')
    except OSError as error:
        print(errno.errorcode[error.errno])
try:
    os.open('PLACE/fifo', os.O_WRONLY | os.O_NONBLOCK)
    print('REACHED')
except OSError as error:
    print(errno.errorcode[error.errno])
for path in ('PLACE/file', 'PLACE/a/file'):
    try:
        print(open(path).read())
    except OSError as error:
        print(errno.errorcode[error.errno])
print(open('/etc/hostname').read().strip(), 'sandbox' in open('/etc/passwd').read(), os.path.exists('/usr/local/bin'))
""".replace("PLACE", str(PLACE))

HOST = """
import asyncio, json, os, socket, sys
from pathlib import Path
from tests.drivers.sandboxes import Box

async def main():
    place = Path(sys.argv[2])
    listeners = []
    for directory in (place, place / 'a'):
        if directory.is_dir() and os.access(directory, os.W_OK):
            (directory / 'file').write_text('seen')
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(directory / 's'))
            os.chmod(directory / 's', 0o777)
            listener.listen()
            listeners.append(listener)
    os.mkfifo(place / 'fifo', 0o666)
    os.chmod(place / 'fifo', 0o666)
    reader = os.open(place / 'fifo', os.O_RDONLY | os.O_NONBLOCK)
    box = Box(Path(sys.argv[1]), 'tests.drivers.fake_supervisor:main')
    try:
        await box.create(accept_weaker=True)
        running = await box.event('running')
        ran = await box.python(sys.argv[3])
        asked = await box.ask()
        print(json.dumps({'lines': ran.lines, 'err': ran.err, 'message': running.message, 'exe': asked['exe']}))
    finally:
        await box.close()

asyncio.run(main())
"""


def on_a_host_with(mounts: str, namespace: tuple[str, ...], state: Path) -> dict[str, object]:
    """What a sandbox finds on a host where the shell commands `mounts` were run."""
    ran = subprocess.run(
        [
            *("unshare", *namespace, "/bin/sh", "-ec", mounts + '\nexec "$@"', "sh"),
            *(sys.executable, "-c", HOST, str(state), str(PLACE), PROBE),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{repository()}:{repository()}/src:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert ran.returncode == 0, ran
    found: dict[str, object] = json.loads(ran.stdout)
    return found


needs_a_place = pytest.mark.skipif(
    shutil.which("unshare") is None or not PLACE.is_dir(), reason="needs util-linux and /usr/local/src"
)


@needs_a_place
@pytest.mark.parametrize("namespace", USERS)
def test_mounts_below_the_hosts_trees_do_not_open_them(state: Path, namespace: tuple[str, ...]) -> None:
    mounts = (
        f"mount -t tmpfs none {PLACE}; mkdir {PLACE}/a; mount -t tmpfs none {PLACE}/a; "
        "mount --bind /etc/hostname /etc/hostname"
    )
    found = on_a_host_with(mounts, namespace, state)
    # The directory that had to be split does not show what is not a file; the others show it, and nobody listens.
    assert found["lines"] == ["ENOENT", "ECONNREFUSED", "ENOENT", "seen", "seen", "sandbox True True"], found
    assert found["message"] == "", found
    assert found["exe"] == str(Path("/usr/bin/curl").resolve())


@needs_a_place
@pytest.mark.parametrize("namespace", USERS)
def test_where_overlayfs_refuses_the_sandbox_says_what_is_open(state: Path, namespace: tuple[str, ...]) -> None:
    # Overlays stack two deep, so the sandbox's own would be the third.
    layers = state / "layers"
    layers.mkdir()
    mounts = f"""mount -t tmpfs none {layers}; cd {layers}; mkdir u w x y l m
mount -t overlay -o lowerdir=m,upperdir=u,workdir=w,userxattr none l
mount -t overlay -o lowerdir=l,upperdir=x,workdir=y,userxattr none {PLACE}; cd /"""
    found = on_a_host_with(mounts, namespace, state)
    assert f"{PLACE} is a plain bind mount" in str(found["message"]), found
    assert "sockets" in str(found["message"])
    assert found["lines"] == ["REACHED", "ENOENT", "EACCES", "seen", "ENOENT", "sandbox True True"], found


async def test_overlays_leave_programs_what_they_are(box: Box) -> None:
    await box.create()
    ran = await box.python(
        "import os, hashlib\n"
        "for n in ('/usr/bin/env', '/etc/ld.so.cache'):\n"
        " print(hashlib.sha256(open(n, 'rb').read()).hexdigest(), os.stat(n).st_size, os.stat(n).st_mtime_ns)\n"
        "print(open('/proc/self/mountinfo').read())"
    )
    for line, name in zip(ran.lines, ("/usr/bin/env", "/etc/ld.so.cache"), strict=False):
        info, digest = os.stat(name), subprocess.run(["sha256sum", name], capture_output=True, text=True, check=True)
        assert line == f"{digest.stdout.split()[0]} {info.st_size} {info.st_mtime_ns}"
    kinds = {line.split()[4]: line.partition(" - ")[2] for line in ran.lines[2:] if line}
    assert kinds["/usr"].startswith("overlay ")
    assert str(box.state) not in kinds["/usr"] + kinds["/etc"]


OUT_OF_MEMORY = """
import os
def score(): return open('/proc/self/oom_score_adj').read().strip()
print(score(), open('/proc/1/oom_score_adj').read().strip())
for value in ('0', '-1000', '999'):
    try:
        open('/proc/self/oom_score_adj', 'w').write(value)
    except OSError:
        pass
print(score())
"""


async def test_a_sandbox_is_the_first_to_go_when_memory_runs_out(box: Box) -> None:
    await box.create()
    assert (await box.python(OUT_OF_MEMORY)).lines == ["1000 1000", "1000"]
    assert (await box.sh("cat /proc/self/oom_score_adj")).out == "1000\n"
    supervisor = int((box.root() / "supervisor.pid").read_text())
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{supervisor}/oom_score_adj").read_text()) == ours < 1000


async def test_the_score_holds_even_with_a_writable_proc(box: Box) -> None:
    await box.create(config=config(("/usr", "/lib", "/etc"), ("/proc",)))
    assert (await box.python(OUT_OF_MEMORY)).lines == ["1000 1000", "1000"]
