"""An ancestor counts with what it was when it started its descendants, never with what it became (attacks.md F-6)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyopenshell.isolation import lineage
from pyopenshell.isolation.lineage import Lineage
from pyopenshell.isolation.processes import read_image, read_stat
from tests.drivers.sandboxes import Box

PYTHON = str(Path("/usr/bin/python3").resolve())
SLEEP = str(Path("/bin/sleep").resolve())

ASK = """
import ctypes, os, signal, socket, sys, threading, time, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
def image(pid): return os.readlink(f'/proc/{pid}/exe')
def until(condition):
    while not condition(): time.sleep(0.001)
def ask(): print(urllib.request.urlopen('http://example.com/').read().decode(), flush=True)
def become(*argv): os.execv(argv[0], argv)
def sleep(): become('/bin/sleep', '1000')
"""


def yes() -> bool:
    return True


@pytest.mark.e2e
@pytest.mark.parametrize(
    "trick",
    {
        "a child that was there": (
            f"me = os.getpid()\nif os.fork(): sleep()\nuntil(lambda: image(me) == {SLEEP!r}); ask(); os.kill(me, 9)"
        ),
        "an orphan of a child that was there": (
            "libc.prctl(36, 1, 0, 0, 0); me = os.getpid()\n"
            "if os.fork(): sleep()\n"
            f"until(lambda: image(me) == {SLEEP!r})\n"
            "if os.fork(): os._exit(0)\n"
            "until(lambda: os.getppid() == me); ask(); os.kill(me, 9)"
        ),
        "a sister that such a child gave the parent": (
            "me = os.getpid()\n"
            "if os.fork(): sleep()\n"
            f"until(lambda: image(me) == {SLEEP!r})\n"
            "if libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x8000 | 17, 0, 0, 0, 0): os._exit(0)\n"
            "assert os.getppid() == me; ask(); os.kill(me, 9)"
        ),
        "a thread that could still start one": (
            "me = os.getpid(); r, w = os.pipe(); os.set_inheritable(r, True)\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
            "become('/bin/bash', '-c', '/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1])"
        ),
    }.items(),
    ids=lambda item: item[0].replace(" ", "-"),
)
async def test_what_a_process_became_does_not_count_for(box: Box, trick: tuple[str, str]) -> None:
    await box.create()
    ran = await box.python(ASK + trick[1], ASK + "ask()")
    answer = json.loads(ran.lines[-1])
    assert answer["exe"] == PYTHON, ran
    became = "/usr/bin/bash" if "bash" in trick[1] else SLEEP
    assert became in answer["doubtful"]
    assert became not in answer["ancestors"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "script",
    {
        "what it started afterwards": (
            "become('/bin/bash', '-c', '/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1])"
        ),
        "what it started after its children had ended": (
            "if not os.fork(): os._exit(0)\n"
            "os.wait(); become('/bin/bash', '-c', '/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1])"
        ),
        "what was there when it failed to become something else": (
            "r, w = os.pipe()\n"
            "if not os.fork(): os.read(r, 1); become('/bin/bash', '-c', "
            "'/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1])\n"
            "try: become('/nowhere')\nexcept OSError: os.write(w, b'x')\n"
            "os.wait()"
        ),
        "what was there when it became the same": (
            "r, w = os.pipe(); os.set_inheritable(w, True)\n"
            "if not os.fork(): os.read(r, 1); become('/bin/bash', '-c', "
            "'/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1])\n"
            "become('/usr/bin/python3', '-c', f'import os; os.write({w}, b\"x\"); os.wait()')"
        ),
        "what a thread of it started": (
            "import subprocess\n"
            "run = lambda: subprocess.run(['/bin/bash', '-c', '/usr/bin/python3 -c \"$1\"; true', 'x', sys.argv[1]])\n"
            "t = threading.Thread(target=run); t.start(); t.join()"
        ),
    }.items(),
    ids=lambda item: item[0].replace(" ", "-"),
)
async def test_a_process_counts_for(box: Box, script: tuple[str, str]) -> None:
    await box.create()
    ran = await box.python(ASK + script[1], ASK + "ask()")
    answer = json.loads(ran.lines[-1])
    assert answer["doubtful"] == [], ran
    above = [PYTHON] if "started" not in script[0] or "thread" in script[0] else []
    assert answer["ancestors"] == [str(Path("/bin/bash").resolve()), *above]


@pytest.mark.e2e
async def test_doubt_ends_when_nobody_is_left_to_profit(box: Box) -> None:
    await box.create()
    # The shell may have reaped the child already, in the moment between closing the pipe and executing this.
    last = (
        "import contextlib, os, sys\n"
        "with contextlib.suppress(ChildProcessError): os.wait()\n"
        "os.execv('/bin/bash', ['bash', '-c', sys.argv[1], 'x', sys.argv[2]])"
    )
    script = (
        "r, w = os.pipe(); os.set_inheritable(w, True)\n"
        "if not os.fork(): os.close(w); os.read(r, 1); os._exit(0)\n"
        "become('/bin/bash', '-c', SHELL.replace('W', str(w)), 'x', *sys.argv[1:])"
    )
    shell = 'SHELL = \'/usr/bin/python3 -c "$3"; exec W>&-; exec /usr/bin/python3 -c "$1" "$2" "$3"\'\n'
    ran = await box.python(ASK + shell + script, last, '/usr/bin/python3 -c "$1"; true', ASK + "ask()")
    assert len(ran.lines) == 2, ran
    before, after = (json.loads(line) for line in ran.lines)
    bash = str(Path("/bin/bash").resolve())
    assert (before["ancestors"], before["doubtful"]) == ([], [bash])
    assert (after["ancestors"], after["doubtful"]) == ([bash], [])


@pytest.mark.e2e
async def test_threads_that_fork_while_another_executes_gain_nothing(box: Box) -> None:
    await box.create()
    script = (
        "for _ in range(60):\n"
        " if os.fork():\n"
        "  time.sleep(0.002); continue\n"
        " me, go = os.getpid(), threading.Event()\n"
        " def race():\n"
        "  go.wait()\n"
        "  for _ in range(8):\n"
        "   if not os.fork():\n"
        f"    until(lambda: image(me) == {SLEEP!r} or os.getppid() != me); ask(); os._exit(0)\n"
        " threading.Thread(target=race, daemon=True).start()\n"
        # Not os.execv(): it keeps the interpreter's lock, and the thread would not run meanwhile.
        " go.set(); libc.execv(b'/bin/sleep', (ctypes.c_char_p * 3)(b'sleep', b'1', None))\n"
        "while True:\n"
        " try: os.wait()\n"
        " except ChildProcessError: break\n"
    )
    ran = await box.python(ASK + script)
    assert ran.code == 0, ran
    answers = [json.loads(line) for line in (box.root() / "seen").read_text().splitlines()]
    assert len(answers) > 30
    assert not [answer for answer in answers if SLEEP in answer.get("ancestors", ())]
    assert [answer for answer in answers if SLEEP in answer.get("doubtful", ())]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        yield process
        process.kill()


def test_a_process_with_children_is_doubtful_only_as_something_else(child: subprocess.Popen[bytes]) -> None:
    me, line = os.getpid(), Lineage()
    start, image = read_stat(me).start, read_image(me)
    other = read_image(child.pid)
    assert line.counts(me, start, other)
    line.executing(me, yes)
    assert (line.counts(me, start, image), line.counts(me, start, other)) == (True, False)
    assert line.counts(me, start + 1, other), "another process with the same id"


def test_a_process_with_threads_is_doubtful() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    line = Lineage()
    line.executing(os.getpid(), yes)
    stop.set()
    thread.join()
    assert len(line) == 1


def test_only_one_that_still_waits_ends_a_doubt(child: subprocess.Popen[bytes]) -> None:
    line = Lineage()
    script = "import subprocess, sys; subprocess.run(['/bin/sleep', '0']); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        line._doubtful[other.pid] = lineage._Predecessors(
            read_stat(other.pid).start, {lineage._digest(read_image(child.pid))}
        )
        other.stdout.readline()
        line.executing(other.pid, lambda: False)
        assert len(line) == 1
        line.executing(other.pid, yes)
        assert len(line) == 0


def test_a_process_with_neither_is_not(child: subprocess.Popen[bytes]) -> None:
    line = Lineage()
    line.executing(child.pid, yes)
    assert len(line) == 0


def test_the_dead_are_swept_and_the_living_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Lineage()
    script = "import subprocess, sys; c = subprocess.Popen(['/bin/sleep', '1000']); print(c.pid, flush=True); c.wait()"
    living = []
    for turn in range(6):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        sleeper = int(process.stdout.readline())
        line.executing(process.pid, yes)
        if turn % 2:
            living.append((process, sleeper))
        else:
            _end(process, sleeper)
    assert len(line) <= 4
    assert all(not line.counts(p.pid, read_stat(p.pid).start, read_image(s)) for p, s in living)
    monkeypatch.setattr(lineage, "_LIMIT", len(living) - 1)
    with pytest.raises(OSError, match="too many") as full:
        line.executing(living[0][0].pid, yes)
    assert full.value.errno == errno.EAGAIN
    for process, sleeper in living:
        _end(process, sleeper)


def _end(process: subprocess.Popen[bytes], sleeper: int) -> None:
    os.kill(sleeper, 9)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
