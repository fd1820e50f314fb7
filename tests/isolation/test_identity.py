"""Who made this connection? (attacks.md F, isolation.md 4): right under races, denied in doubt."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
from pathlib import Path

import pytest

from pyopenshell.isolation.identity import ConnectionIdentity, IdentityError
from tests.drivers.sandboxes import Box

pytestmark = pytest.mark.e2e

CURL = str(Path("/usr/bin/curl").resolve())
PYTHON = str(Path("/usr/bin/python3").resolve())
ASK = ("-s", "http://example.com/")


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


async def test_the_executable_its_hash_and_its_ancestors(box: Box) -> None:
    await box.create()
    answer = await box.ask()
    assert (answer["exe"], answer["sha256"], answer["ancestors"]) == (CURL, sha256(CURL), [])
    answer = await box.ask("/bin/sh", "-c", "/bin/bash -c 'echo $$ >&2; curl -s http://example.com/; true'; true")
    assert answer["ancestors"] == [str(Path("/bin/bash").resolve()), str(Path("/bin/sh").resolve())]


async def test_the_pid_is_the_one_inside(box: Box) -> None:
    await box.create()
    ran = await box.sh("echo $$; exec curl -s http://example.com/")
    assert json.loads(ran.lines[1])["pid"] == int(ran.lines[0])


async def test_a_false_name_does_not_help(box: Box) -> None:
    await box.create()
    script = "import urllib.request; print(urllib.request.urlopen('http://example.com/').read().decode())"
    answer = await box.ask("/bin/bash", "-c", 'exec -a /usr/bin/curl /usr/bin/python3 -c "$1"', "x", script)
    assert answer["exe"] == PYTHON


async def test_running_through_the_loader_is_the_loader(box: Box) -> None:
    await box.create()
    loader = next(path for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if Path(path).exists())
    answer = await box.ask(loader, "/usr/bin/curl", *ASK)
    assert answer["exe"] == str(Path(loader).resolve())


async def test_a_replaced_binary_is_refused_as_caller_and_as_ancestor(box: Box) -> None:
    await box.create()
    await box.sh("cp /usr/bin/curl tool && cp tool kept")
    assert (await box.ask("/sandbox/tool", *ASK))["sha256"] == sha256(CURL)
    await box.sh("cp /usr/bin/python3 tool.new && mv tool.new tool")
    script = "import urllib.request; print(urllib.request.urlopen('http://example.com/').read().decode())"
    assert "integrity" in (await box.ask("/sandbox/tool", "-c", script))["error"]
    script = "import subprocess; subprocess.run(['curl', '-s', 'http://example.com/'])"
    assert "integrity" in (await box.ask("/sandbox/tool", "-c", script))["error"]
    await box.sh("mv kept tool")
    assert (await box.ask("/sandbox/tool", *ASK))["exe"] == "/sandbox/tool"


async def test_a_binary_changed_in_place_with_its_time_put_back_is_noticed(box: Box) -> None:
    await box.create()
    await box.sh("cp /usr/bin/curl tool; touch -d 2020-01-01 tool")
    await box.ask("/sandbox/tool", *ASK)
    await box.sh("printf x >> tool; touch -d 2020-01-01 tool")
    assert "integrity" in (await box.ask("/sandbox/tool", *ASK))["error"]


async def test_a_deleted_binary_is_known_only_if_it_was_seen_before(box: Box) -> None:
    await box.create()
    script = (
        "import os, sys, urllib.request\n"
        "def ask(): print(urllib.request.urlopen('http://example.com/').read().decode())\n"
        "if len(sys.argv) > 1: ask()\n"
        "os.unlink(os.readlink('/proc/self/exe'))\nask()"
    )
    await box.sh("cp /usr/bin/python3 gone; cp gone seen")
    assert (await box.ask("/sandbox/gone", "-c", script))["code"] == "binary_deleted"
    ran = await box.run("/sandbox/seen", "-c", script, "ask first")
    assert [json.loads(line)["exe"] for line in ran.lines] == ["/sandbox/seen"] * 2
    await box.sh("cp /usr/bin/curl seen")
    assert (await box.ask("/sandbox/seen", *ASK))["code"] == "binary_changed"


async def test_a_deleted_ancestor_counts_only_if_it_was_seen_before(box: Box) -> None:
    await box.create()
    script = (
        "import os, subprocess\nos.unlink('/sandbox/gone')\n"
        "subprocess.run(['/usr/bin/curl', '-s', 'http://example.com/'])"
    )
    await box.sh("cp /usr/bin/python3 gone")
    answer = await box.ask("/sandbox/gone", "-c", script)
    assert (answer["exe"], answer["ancestors"], answer["doubtful"]) == (CURL, [], ["/sandbox/gone"])


async def test_oddly_named_binaries(box: Box) -> None:
    await box.create()
    await box.sh("cp /usr/bin/curl 'named (deleted)'; cp /usr/bin/curl $(printf 'byte\\377')")
    assert (await box.ask("/sandbox/named (deleted)", *ASK))["exe"] == "/sandbox/named (deleted)"
    assert (await box.ask("/bin/sh", "-c", "./byte* -s http://example.com/"))["exe"] == "/sandbox/byte\\xff"


RACE = """
import os, signal, socket, sys, time
count, mode = int(sys.argv[1]), sys.argv[2]
for _ in range(count):
    if os.fork():
        time.sleep(0.001)
        continue
    s = socket.create_connection(('10.200.0.1', 3128))
    os.set_inheritable(s.fileno(), True)
    if mode == 'exec':
        os.execv('/bin/sleep', ['sleep', '0.2'])
    if mode == 'orphan' and os.fork():
        os._exit(0)
    if mode == 'shared' and not os.fork():
        os.execv('/bin/sleep', ['sleep', '0.2'])
    if mode != 'exit':
        s.recv(1)
    os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
"""


@pytest.mark.parametrize("mode", ["exit", "exec", "orphan", "shared"])
async def test_races_name_the_caller_every_time(box: Box, mode: str) -> None:
    await box.create()
    seen = box.root() / "seen"
    assert (await box.python(RACE, "300", mode)).code == 0
    asked = 0
    while True:  # each request is answered after everything that came before it
        await box.ask()
        asked += 1
        answers = [json.loads(line) for line in seen.read_text().splitlines()]
        if len(answers) >= 300 + asked or asked > 100:
            break
    callers = [answer.get("exe", answer.get("error")) for answer in answers]
    assert callers.count(CURL) == asked
    assert callers.count(PYTHON) == 300, {name: callers.count(name) for name in callers}


class Overtaken(socket.socket):
    """An accepted connection whose client hangs up, and whose ports another one takes, once the peer was asked for."""

    successor: socket.socket | None = None
    client: socket.socket

    def getpeername(self) -> tuple[str, int]:
        name: tuple[str, int] = super().getpeername()
        if self.successor is None:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.close()
            self.successor = socket.create_connection(self.getsockname(), source_address=name)
        return name


async def test_a_scan_of_ports_that_found_a_new_owner_names_nobody() -> None:
    identity = ConnectionIdentity(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4), None, -1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        # An address nobody else uses, so that no other test takes the port that is free for a moment.
        client = socket.create_connection(server.getsockname(), source_address=("127.9.9.8", 0))
        accepted = Overtaken(fileno=server.accept()[0].detach())
        accepted.client = client
        with accepted, client:
            with pytest.raises(IdentityError) as caught:
                await identity.identify(accepted)
            assert caught.value.code == "connection_gone"
            assert accepted.successor is not None
            accepted.successor.close()
    identity.close()


async def test_two_programs_that_connect_one_socket_are_nobody(box: Box) -> None:
    """The second call is let go before the first is over: which of them the connection comes from cannot be known."""
    await box.create()
    script = (
        "import os, socket, subprocess, sys\n"
        "s = socket.socket()\n"
        # To a port nobody listens on: refused, but asked for by this program.
        "try: s.connect(('127.0.0.1', 9))\nexcept ConnectionRefusedError: pass\n"
        "other = f'use Socket; open($s, \"+<&=\", {s.fileno()}); '\n"
        "other += 'connect($s, pack_sockaddr_in(3128, inet_aton(\"10.200.0.1\"))) or die $!; '\n"
        "other += 'print while <$s>; print chr 10'\n"
        "sys.stdout.flush(); subprocess.run(['/usr/bin/perl', '-e', other], pass_fds=[s.fileno()])\n"
        "t = socket.socket()\n"
        "try: t.connect(('127.0.0.1', 9))\nexcept ConnectionRefusedError: pass\n"
        "t.connect(('10.200.0.1', 3128)); print(t.makefile().read().splitlines()[-1])"
    )
    ran = await box.python(script)
    answers = [json.loads(line) for line in ran.lines if line.startswith("{")]
    assert answers[0]["code"] == "owner_ambiguous", ran
    assert answers[1]["exe"] == PYTHON


async def test_a_flood_that_fills_the_queue_fails_instead_of_hiding_its_caller(box: Box) -> None:
    await box.create()
    supervisor = int((box.root() / "supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGSTOP)
    try:
        ran = await box.python(
            "import errno, socket\nseen = set()\n"
            "for _ in range(5000):\n"
            " s = socket.socket()\n"
            " try: s.connect(('127.0.0.1', 9))\n"
            " except OSError as error: seen.add(errno.errorcode[error.errno])\n"
            " s.close()\n"
            "print(*sorted(seen))"
        )
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert ran.out == "EAGAIN ECONNREFUSED\n"
    assert (await box.ask())["exe"] == CURL


async def test_without_a_watcher_owners_are_scanned_and_doubt_is_denied(box: Box) -> None:
    await box.create(name="scan")
    assert (await box.ask())["exe"] == CURL
    script = (
        "import os, socket, subprocess\ns = socket.socket()\nnull = subprocess.DEVNULL\n"
        "subprocess.Popen(['sleep', '1000'], pass_fds=[s.fileno()], stdout=null, stderr=null)\n"
        "s.connect(('10.200.0.1', 3128))\nprint(s.makefile().read().split('\\n')[-1])"
    )
    assert json.loads((await box.python(script)).lines[-1])["code"] == "owner_ambiguous"
    answer = await box.ask("/bin/sh", "-c", "curl -s http://example.com/; true")
    assert (answer["ancestors"], answer["doubtful"]) == ([], [str(Path("/bin/sh").resolve())])


async def test_connecting_elsewhere_works_as_ever(box: Box) -> None:
    await box.create()
    ran = await box.python(
        "import socket, threading\n"
        "u = socket.socket(socket.AF_UNIX); u.bind('/tmp/s'); u.listen()\n"
        "c = socket.socket(socket.AF_UNIX); c.connect('/tmp/s')\n"
        "t = socket.create_server(('127.0.0.1', 0), backlog=1000); d = socket.create_connection(t.getsockname())\n"
        "n = socket.socket(); n.setblocking(False)\n"
        "try: n.connect(t.getsockname())\nexcept BlockingIOError: pass\n"
        "w = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); w.connect(('127.0.0.1', 1))\n"
        "def go():\n for _ in range(50): socket.create_connection(t.getsockname()).close()\n"
        "ts = [threading.Thread(target=go) for _ in range(8)]\n"
        "[x.start() for x in ts]\n[x.join() for x in ts]\nprint('ok')"
    )
    assert ran.out == "ok\n", ran


def test_names_of_programs_cannot_grow_the_supervisor_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program under any number of names, by renaming its directory: each would be remembered for ever."""
    made: ConnectionIdentity = object.__new__(ConnectionIdentity)
    made._trusted, made._trusted_size = {}, 0
    monkeypatch.setattr("pyopenshell.isolation.identity.TRUSTED_LIMIT", 10)
    assert made._trust("/a/12", "digest") == "digest"
    assert made._trust("/b/12", "digest") == "digest"
    with pytest.raises(IdentityError, match="too many different programs"):
        made._trust("/c/12", "digest")
    assert made._trust("/a/12", "other") == "digest", "what is known stays known"
