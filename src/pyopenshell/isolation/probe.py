"""Which walls hold on this machine, found by building each one in a child that is thrown away.

A sysctl or a version number proves nothing: Ubuntu's AppArmor lets anybody make a user namespace and then takes its
rights away. Every child is bounded in time, dies with the probe, works in namespaces of its own and leaves nothing.

    python -P -m pyopenshell.isolation.probe          one JSON document (a small process: only such may clone)
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from pyopenshell.isolation import cgroups, channel, landlock, mounts, network, nft, seccomp, syscalls, watcher, zygote
from pyopenshell.isolation.assurance import FILES, NETWORK, TIERS, Loss, level
from pyopenshell.isolation.syscalls import MS_REC, MS_SLAVE, mount
from pyopenshell.isolation.walls import FIXES, UID, Walls

CHILD_SECONDS: Final = 5.0
ALL_SECONDS: Final = 60.0
_USER, _MOUNTS, _NET, _PIDS = (
    syscalls.CLONE_NEWUSER,
    syscalls.CLONE_NEWNS,
    syscalls.CLONE_NEWNET,
    syscalls.CLONE_NEWPID,
)
_NOWHERE = ("192.0.2.1", 9)
"""A documentation address; tried only where there is no device but `lo`."""


class Missing(Exception):  # noqa: N818 - a finding
    """The wall was built and does not hold, or holds in part."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One wall. `required`: without it no sandbox is made. `part` is what it guards (see `assurance`), "" neither."""

    key: str
    title: str
    holds: bool
    detail: str
    part: str
    required: bool
    lost: str
    fix: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """`tier` is a letter of the ladder (assurance.TIERS), `level` one of assurance.LEVELS."""

    kernel: str
    machine: str
    uid: int
    milliseconds: int
    tier: str
    level: str
    findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Wall:
    key: str
    title: str
    work: Callable[[], str]
    flags: int
    part: str
    required: bool
    lost: str
    fix: str


def run(timeout: float = ALL_SECONDS) -> Report:
    """Probe in a process of its own. Raises RuntimeError when that does not answer."""
    command = [sys.executable, "-P", "-m", "pyopenshell.isolation.probe"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        document = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the probe did not answer within {timeout:g} s") from None
    except ValueError:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"the probe failed: {words[-1] if words else f'exit code {done.returncode}'}") from None
    findings = tuple(Finding(**one) for one in document.pop("findings"))
    return Report(**document, findings=findings)


def main() -> None:
    begun = time.monotonic()
    mapped = _in_child(_user, _USER | syscalls.CLONE_NEWUTS)[0] or os.geteuid() != 0
    findings = [_probe(wall) for wall in _walls(_USER if mapped else 0)]
    found = {one.key: one.holds for one in findings}
    report = Report(
        kernel=os.uname().release,
        machine=os.uname().machine,
        uid=os.geteuid(),
        milliseconds=round((time.monotonic() - begun) * 1000),
        tier=_tier(found),
        level=judge(findings),
        findings=tuple(findings),
    )
    json.dump(dataclasses.asdict(report), sys.stdout)


def judge(findings: Sequence[Finding]) -> str:
    """What a sandbox made here would be worth. Pure."""
    if any(one.required and not one.holds for one in findings):
        return "none"
    return level(Loss(one.part, one.lost) for one in findings if not one.holds)


def _tier(found: dict[str, bool]) -> str:
    """The rung of the ladder this machine reaches (docs/isolation.md)."""
    if found["network_namespace"] and found["mount_namespace"]:
        if not found["user_namespace"]:
            return "C" if found["id_mapping"] else "E"
        return "A" if found["nftables"] else "B"
    alone = _in_child(functools.partial(_connect_watcher, number=False), 0)[0]
    return "D" if alone and landlock.abi() >= landlock.SCOPES_ABI else "E"


def _probe(wall: _Wall) -> Finding:
    holds, detail = _in_child(wall.work, wall.flags)
    lost, fix = ("", "") if holds else (wall.lost, wall.fix)
    return Finding(wall.key, wall.title, holds, detail, wall.part, wall.required, lost, fix)


# -- children ----------------------------------------------------------------------------------------------------------


def _in_child(work: Callable[[], str], flags: int) -> tuple[bool, str]:
    """(it holds, what was seen). `work` runs in a clone with new namespaces, and returns or raises."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    go_reader, go_writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = syscalls.clone(flags)
    except OSError as error:
        for fd in (reader, writer, go_reader, go_writer):
            os.close(fd)
        return False, str(error)
    if pid == 0:
        os.close(go_writer)
        _child(work, flags, go_reader, writer)
    os.close(writer)
    os.close(go_reader)
    try:
        if flags & _USER:
            try:
                zygote.map_ids(pid, *_host_ids())
            except OSError as error:
                return False, f"writing the id map: {error}"
        os.write(go_writer, b"g")
        answer = _read(reader, CHILD_SECONDS)
    except OSError as error:
        return False, str(error)
    finally:
        os.kill(pid, signal.SIGKILL)  # not reaped, so still its number; a filter may refuse pidfd_send_signal
        os.waitpid(pid, 0)
        for fd in (pidfd, reader, go_writer):
            os.close(fd)
    if answer is None:
        return False, f"no answer within {CHILD_SECONDS:g} s"
    return bool(answer["holds"]), str(answer["detail"])


def _child(work: Callable[[], str], flags: int, go: int, writer: int) -> None:
    answer: dict[str, Any]
    try:
        if not os.read(go, 1):
            os._exit(1)
        if flags & _USER and os.getuid() != UID:  # as root, like init: become the mapped id, capabilities survive
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        answer = {"holds": True, "detail": work()}
    except BaseException as error:  # noqa: BLE001 - a clone must not run its parent's code
        text = str(error) or type(error).__name__
        answer = {"holds": False, "detail": text}
    with contextlib.suppress(OSError):
        os.write(writer, json.dumps(answer).encode())
    os._exit(0)


def _read(fd: int, seconds: float) -> dict[str, Any] | None:
    data, end = b"", time.monotonic() + seconds
    while select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(fd, 65536)
        if not part:
            answer: dict[str, Any] = json.loads(data) if data else {"holds": False, "detail": "the child died"}
            return answer
        data += part
    return None


def _host_ids() -> tuple[int, int]:
    """Our own; as root an id that is nobody's, as every sandbox gets one."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [(int(inside), int(count)) for inside, _, count in (line.split() for line in file)]
    first, count = max(ranges, key=lambda one: one[1])
    chosen = first + count // 2
    return chosen, chosen


# -- the walls ---------------------------------------------------------------------------------------------------------


def _expect(code: int, what: str, work: Callable[[], Any]) -> None:
    """The kernel must refuse `work` with `code`."""
    try:
        work()
    except OSError as error:
        if error.errno == code:
            return
        raise Missing(f"{what}: {os.strerror(error.errno or 0)}, not {os.strerror(code)}") from None
    raise Missing(f"{what} was not refused")


def _paused() -> int:
    """A child that does nothing and dies with this process at the latest. Raises OSError."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        zygote.die_with(parent)
        signal.pause()
        os._exit(0)
    return pid


def _user() -> str:
    syscalls.sethostname("probe")
    return f"id {UID} inside, with rights there (a host name was set)"


def _ids() -> str:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        inside, outside, count = file.read().split()
    if (os.getuid(), inside, count) != (UID, str(UID), "1"):
        raise Missing(f"id {os.getuid()}, map {inside} {outside} {count}")
    return f"{inside} inside is {outside} outside, and nobody else is mapped"


def _own_id() -> str:
    """Tier C: commands become a user of the host that nobody else is."""
    uid, gid = _host_ids()
    if not uid:
        raise Missing("no id but 0 is mapped here")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _expect(errno.EPERM, "becoming root again", lambda: os.setuid(0))
    return f"a process became {uid} for good"


def _other(name: str, ours: str) -> Callable[[], str]:
    def work() -> str:
        inside = os.readlink(f"/proc/self/ns/{name}")
        if inside == ours:
            raise Missing("it is the host's")
        return f"{inside}, not {ours}"

    return work


def _pid() -> str:
    if os.getpid() != 1:
        raise Missing(f"the first process has number {os.getpid()}")
    return "the first process is number 1"


def _private() -> None:
    mount(None, "/", None, MS_REC | MS_SLAVE)
    mount("probe", "/tmp", "tmpfs", 0, "mode=755,size=1m")


def _mount() -> str:
    _private()
    return "a tmpfs was mounted, for this namespace only"


def _fence() -> str:
    """TCP to anywhere must arrive at the proxy's capturing socket; nothing else may leave."""
    sockets = network.build(os.getgid()).sockets
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(CHILD_SECONDS / 2)
        tcp.connect(_NOWHERE)
        sockets["capture"].settimeout(CHILD_SECONDS / 2)
        with sockets["capture"].accept()[0] as caught:
            if network.original_destination(caught) != _NOWHERE:
                raise Missing("where a captured connection was going is not known")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        _expect(errno.EPERM, "a UDP datagram", lambda: udp.sendto(b"x", _NOWHERE))
    return "direct TCP arrived at the proxy with its destination, UDP was refused with EPERM, at once"


def _nflog() -> str:
    nft.nflog_socket().close()
    return "refused packets are reported"


def _ipv6() -> str:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::", 0))
    return "fenced like IPv4"


_LANDLOCK_FEATURES = {
    1: "files",
    2: "renames",
    3: "truncation",
    4: "TCP ports",
    5: "device ioctls",
    6: "scopes",
    7: "audit",
}


def _landlock() -> str:
    version = landlock.abi()
    if not version:
        raise Missing("this kernel offers none")
    ruleset = landlock.Ruleset(version)
    ruleset.allow("/usr", landlock.READ)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(ruleset.fd, version)
    os.listdir("/usr")
    _expect(errno.EACCES, "reading /etc/passwd", lambda: os.open("/etc/passwd", os.O_RDONLY))
    _expect(errno.EACCES, "listing /", lambda: os.listdir("/"))
    offered = ", ".join(text for number, text in _LANDLOCK_FEATURES.items() if number <= version)
    return f"ABI {version}: {offered}; a file outside the rules was refused"


def _landlock_truncation() -> str:
    version = landlock.abi()
    if version < landlock.TRUNCATE_ABI:
        raise Missing(f"Landlock ABI {version}")
    return f"ABI {version}"


def _filter() -> str:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(seccomp.command_filter())
    _expect(errno.EPERM, "memfd_create", lambda: os.memfd_create("probe"))
    _expect(errno.EPERM, "an AF_VSOCK socket", lambda: socket.socket(40, socket.SOCK_STREAM))
    _expect(errno.EPERM, "a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    return "memfd_create, AF_VSOCK and AF_PACKET were refused, AF_INET was not"


def _connect_watcher(*, number: bool = True) -> str:
    """One connect(), held by the kernel, seen, its socket fetched and marked, and refused with our own error."""
    ours, theirs = channel.pair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            zygote.die_with(parent)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # taking the mapped id cleared it
            notify = seccomp.install_listener(seccomp.watched_filter())  # from here on what is refused waits, too
            channel.send(theirs, {}, [notify])
            os.close(notify)
            socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 9))
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(255)
    theirs.close()
    with ours:
        ours.settimeout(CHILD_SECONDS / 2)
        message, fds = channel.receive(ours)
    if message is None:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        raise Missing(os.strerror(code))
    notify = fds[0]
    if not select.select([notify], [], [], CHILD_SECONDS / 2)[0]:
        raise Missing("connect() was not reported")
    call = seccomp.receive(notify)
    pidfd = os.pidfd_open(call.thread)
    with socket.socket(fileno=syscalls.pidfd_getfd(pidfd, call.descriptor)) as caller:
        if number:
            caller.setsockopt(socket.SOL_SOCKET, watcher.SO_MARK, 7)
    seccomp.fail(notify, call.id, errno.EACCES)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if call.thread != pid or code != errno.EACCES:
        raise Missing(f"the caller saw {code}, was {call.thread} and should have been {pid}")
    return "a connect() was held, its socket fetched and numbered, its caller known"


def _overlay() -> str:
    _private()
    for name in ("above", "below", "merged"):
        os.makedirs(f"/tmp/{name}/{name}")
    mounts.overlay("/tmp/above", "/tmp/below", "/tmp/merged")
    if sorted(os.listdir("/tmp/merged")) != ["above", "below"]:
        raise Missing("two directories were not merged")
    _expect(errno.EROFS, "writing in it", lambda: os.mkdir("/tmp/merged/probe"))
    return "two directories were merged, read-only"


def _proc() -> str:
    _private()
    os.mkdir("/tmp/proc")
    mount("proc", "/tmp/proc", "proc", syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV)
    seen = [name for name in os.listdir("/tmp/proc") if name.isdecimal()]
    if seen != ["1"]:
        raise Missing(f"{len(seen)} processes are visible")
    return "it shows the sandbox's own processes only"


def _mount_setattr() -> str:
    _private()
    os.mkdir("/tmp/tree")
    mount("/usr", "/tmp/tree", None, syscalls.MS_BIND | MS_REC)
    syscalls.mount_setattr("/tmp/tree", syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID)
    _expect(errno.EROFS, "writing in it", lambda: os.mkdir("/tmp/tree/probe"))
    return "a whole tree became read-only"


def _tree(want: str) -> Callable[[], str]:
    def work() -> str:
        _private()
        for name in ("", "/openshell", "/openshell-tls"):
            os.mkdir(f"/tmp/etc{name}")
        walls = Walls(1, 1, "probe", "/tmp/etc", (), (), ())
        losses = [loss for loss in mounts.build(walls, []) if loss.part]
        if want == "sockets":
            if losses:
                raise Missing("; ".join(loss.text for loss in losses))
            return "the host's programs are overlays: no socket or FIFO of the host in them answers"
        _expect(errno.EROFS, "writing to /usr", lambda: os.mkdir("/usr/openshell-probe"))
        visible = [path for path in ("/home", "/root", "/mnt", "/boot") if os.path.lexists(path)]
        if visible:
            raise Missing(f"{', '.join(visible)} can be seen")
        return "a root of its own: programs read-only, homes absent, /tmp, /run and /dev private"

    return work


def _privileges() -> str:
    syscalls.drop_bounding_set()
    syscalls.drop_capabilities()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    with open("/proc/self/status", encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if kept or status.get("NoNewPrivs") != "1":
        raise Missing(f"{', '.join(kept) or 'NoNewPrivs'} could not be emptied")
    _expect(errno.EPERM, "sethostname", lambda: syscalls.sethostname("probe"))
    return "every capability set is empty for good"


def _process_limit() -> str:
    if os.getuid() == 0:  # as in tier C: the limit is the sandbox's user's, and root has none
        os.setresuid(*[_host_ids()[0]] * 3)
    resource.setrlimit(resource.RLIMIT_NPROC, (8, 8))
    made: list[int] = []
    try:
        for _ in range(32):
            made.append(_paused())  # noqa: PERF401 - the error in between is what counts
    except BlockingIOError:
        return f"fork() was refused after {len(made)} children, with a limit of 8"
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    raise Missing(f"{len(made)} children under a limit of 8")


def _pidfd() -> str:
    pid = _paused()
    pidfd = os.pidfd_open(pid)
    syscalls.pidfd_kill(pidfd, signal.SIGKILL)
    if not select.select([pidfd], [], [], CHILD_SECONDS / 2)[0]:
        raise Missing("the end of a process was not reported")
    os.waitpid(pid, 0)
    return "a process was signalled and its end seen without its number"


def _calls() -> str:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(syscalls.open_below(root, "/usr"))
    syscalls.close_except(0, 1, 2, root, *(int(fd) for fd in os.listdir("/proc/self/fd")))
    return "openat2 and close_range"


def _out_of_memory() -> str:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    return "sandboxes go first when memory runs out"


def _cgroup() -> str:
    """A group with all three limits, one process in it for a moment."""
    name = cgroups.group_name("/proc", f"probe-{os.getpid()}")
    limits = cgroups.Limits(memory=64 << 20, cpu=0.5, pids=100)
    pid = _paused()
    try:
        held = cgroups.confine(pid, name, limits)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left = _gone(name)
    if left:
        raise Missing(f"groups could not be removed again: {', '.join(left)}")
    without = [one for one in ("memory", "cpu", "pids") if one not in held]
    if without:
        raise Missing(f"no group of ours can limit {', '.join(without)}")
    return ", ".join(f"{kind} by {by}" for kind, by in held.items())


def _gone(name: str) -> list[str]:
    """A group empties a moment after its last process was reaped."""
    end = time.monotonic() + CHILD_SECONDS / 2
    while (left := cgroups.remove(name)) and time.monotonic() < end:
        time.sleep(0.005)
    return left


_COMMANDS: Final = {
    "UserNamespacesUnavailable": "sudo sysctl -w user.max_user_namespaces=15000 (and see the known limits below)",
    "NetworkRefused": "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    "MountsRefused": "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined IMAGE",
    "NftablesUnavailable": "sudo modprobe -a nf_tables nft_nat nft_redir nft_reject_inet nft_ct nft_limit nft_log",
}


def _walls(user_flag: int) -> list[_Wall]:
    """`user_flag` is CLONE_NEWUSER, or 0 where only root makes namespaces (tier C)."""
    tree = user_flag | _MOUNTS | _PIDS

    def namespace(name: str, title: str, flag: int, what: str) -> _Wall:
        work = _other(name, os.readlink(f"/proc/self/ns/{name}"))
        lost, fix = f"no sandbox is made: {what} would be the host's", _COMMANDS["UserNamespacesUnavailable"]
        return _Wall(f"{name}_namespace", title, work, user_flag | flag, "", True, lost, fix)

    without_user = "no sandbox is made" if user_flag else f"tier C: {TIERS['C']} (--accept-weaker)"
    user, limited = _COMMANDS["UserNamespacesUnavailable"], _COMMANDS["NetworkRefused"]
    no_sandbox = "no sandbox is made"
    return [
        _Wall("user_namespace", "user namespace", _user, _USER | syscalls.CLONE_NEWUTS, "", bool(user_flag),
              without_user, user),
        _Wall("id_mapping", "id mapping", _ids, _USER, "", True, no_sandbox, FIXES["IdMapRefused"])
        if user_flag
        else _Wall("id_mapping", "an id of the sandbox's own", _own_id, 0, "", True, no_sandbox, FIXES["IdMapRefused"]),
        _Wall("mount_namespace", "mount namespace", _mount, user_flag | _MOUNTS, "", True, no_sandbox,
              _COMMANDS["MountsRefused"]),
        _Wall("pid_namespace", "PID namespace", _pid, user_flag | _PIDS, "", True, no_sandbox, user),
        namespace("ipc", "IPC namespace", syscalls.CLONE_NEWIPC, "System V IPC and message queues"),
        namespace("uts", "UTS namespace", syscalls.CLONE_NEWUTS, "the host name"),
        namespace("cgroup", "cgroup namespace", syscalls.CLONE_NEWCGROUP, "the control groups"),
        _Wall("network_namespace", "network namespace", _bare_network, user_flag | _NET, NETWORK, True,
              f"{no_sandbox}: the host's network would be open", limited),
        _Wall("nftables", "nftables fence", _fence, user_flag | _NET, "", False,
              f"tier B: {TIERS['B']} (--accept-weaker)", _COMMANDS["NftablesUnavailable"]),
        _Wall("nflog", "NFLOG", _nflog, user_flag | _NET, "", False, "direct connections are refused, but not logged",
              "sudo modprobe nfnetlink_log"),
        _Wall("ipv6", "IPv6", _ipv6, user_flag | _NET, "", False, "programs inside have IPv4 only; nothing is open",
              "boot without ipv6.disable=1"),
        _Wall("connect_watcher", "connect watcher (seccomp notify, WAIT_KILLABLE_RECV, pidfd_getfd)", _connect_watcher,
              user_flag | _NET, NETWORK, True, f"{no_sandbox}: nobody would know which program connects",
              FIXES["SeccompUnavailable"]),
        _Wall("seccomp", "seccomp filter", _filter, 0, NETWORK, True,
              f"{no_sandbox}: the kernel's whole surface would be open",
              FIXES["SeccompUnavailable"]),
        _Wall("privileges", "capabilities and no_new_privs", _privileges, user_flag | syscalls.CLONE_NEWUTS, FILES,
              True, no_sandbox, FIXES["PrivilegesNotDropped"]),
        _Wall("mount_setattr", "mount_setattr", _mount_setattr, tree, FILES, True, no_sandbox,
              "install a kernel of Linux 5.12 or newer"),
        _Wall("proc", "fresh /proc", _proc, tree, FILES, True, f"{no_sandbox}: the host's processes would be visible",
              "docker run --security-opt systempaths=unconfined IMAGE"),
        _Wall("root", "root file system", _tree("root"), tree, FILES, True, no_sandbox, _COMMANDS["MountsRefused"]),
        _Wall("overlay", "overlayfs", _overlay, tree, "", False, "plain bind mounts take its place; see the next line",
              "sudo modprobe overlay"),
        _Wall("host_sockets", "host sockets out of reach", _tree("sockets"), tree, NETWORK, False,
              "a world-writable unix socket of the host in that directory can be reached",
              "sudo modprobe overlay, or unmount what is mounted below it"),
        _Wall("landlock", "Landlock", _landlock, 0, FILES, False, "filesystem_policy is not enforced beyond the mounts",
              FIXES["LandlockUnavailable"]),
        _Wall("landlock_truncation", "Landlock confines truncation", _landlock_truncation, 0, FILES, False,
              "a file that may only be read can be emptied, where the mount is writable",
              "install a kernel of Linux 6.2 or newer"),
        _Wall("pidfd", "pidfd", _pidfd, 0, "", True, no_sandbox, "install a kernel of Linux 5.6 or newer"),
        _Wall("calls", "openat2, close_range", _calls, 0, "", True, no_sandbox,
              "install a kernel of Linux 5.9 or newer"),
        _Wall("rlimits", "process limit", _process_limit, user_flag, "", False,
              "a fork bomb takes the machine's processes",
              "run the gateway as a user without CAP_SYS_RESOURCE"),
        _Wall("cgroups", "control groups", _cgroup, 0, "", False,
              "--memory and --pids are per-process rlimits, --cpu does nothing",
              "systemd-run --user --scope -p Delegate=yes openshell gateway start"),
        _Wall("oom", "first to go when memory runs out", _out_of_memory, 0, "", False,
              "the kernel may end the gateway instead of a sandbox", "run the gateway where its own /proc is writable"),
    ]  # fmt: skip


def _bare_network() -> str:
    network.addresses()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
    return "its own loopback, addresses and routes; no device of the host"


if __name__ == "__main__":
    main()
