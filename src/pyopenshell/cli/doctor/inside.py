"""The attacker: runs inside a sandbox, alone, under whatever Python 3 the host has. Imports nothing of ours.

    python3 -I - '{"proxy": ["10.200.0.1", 3128], "gateway": PORT, "decoy": PORT, "abstract": NAME, "only": [KEY, ...]}'

One JSON object per attack and line: {"key", "held", "saw"}. Every attack is bounded; what it makes it removes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() == "aarch64"
NOWHERE, NOWHERE6 = "192.0.2.1", "2001:db8::1"
METADATA = "169.254.169.254"
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
ATTACKS: dict[str, Callable[[], tuple[bool, str]]] = {}
HERE: dict[str, Any] = {}


def attack(function: Callable[[], tuple[bool, str]]) -> Callable[[], tuple[bool, str]]:
    ATTACKS[function.__name__] = function
    return function


def name(code: int | None) -> str:
    return errno.errorcode.get(code or 0, str(code))


def call(x86: int, arm: int, *arguments: Any) -> tuple[int, int]:
    """errno of a raw system call, 0 when it worked."""
    ctypes.set_errno(0)
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = LIBC.syscall(ctypes.c_long(arm if ARM else x86), *values)
    return (0, result) if result >= 0 else (ctypes.get_errno(), result)


def refused(*attempts: tuple[str, int]) -> tuple[bool, str]:
    """`attempts`: (what, errno); all must have been refused by permission, not by chance."""
    bad = ["%s: %s" % (what, "worked" if not code else name(code)) for what, code in attempts if code not in REFUSED]
    return not bad, "; ".join(bad) or ", ".join("%s %s" % (what, name(code)) for what, code in attempts)


def tried(work: Callable[[], Any]) -> int:
    """errno of an OSError, 0 when it worked."""
    try:
        work()
    except OSError as error:
        return error.errno or -1
    return 0


def read_byte(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


def ask(target: str, method: str = "GET", body: bytes = b"", connect: bool = False) -> str:
    """Status line that the proxy answers to one request; "" when it hung up."""
    with socket.create_connection(tuple(HERE["proxy"]), 10) as sock:
        host = target if connect else target.split("/")[2]
        head = "%s %s HTTP/1.1\r\nHost: %s\r\n" % ("CONNECT" if connect else method, target, host)
        if not connect:
            head += "Content-Length: %d\r\nConnection: close\r\n" % len(body)
        sock.sendall(head.encode() + b"\r\n" + body)
        return sock.recv(4096).split(b"\r\n")[0].decode("latin-1")


def denied(status: str) -> bool:
    return status.split(" ")[1:2] == ["403"]


def direct(family: int, address: str, port: int) -> tuple[bool, str]:
    """What happens to a connection that ignores the proxy: it must reach the proxy or nothing, and be refused there."""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        try:
            sock.connect((address, port))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: " + address.encode() + b"\r\nConnection: close\r\n\r\n")
            answer = sock.recv(4096).split(b"\r\n")[0].decode("latin-1")
        except socket.timeout:
            return False, "no answer within 10 s"
        except OSError as error:
            return True, name(error.errno)
    return not answer or denied(answer), answer or "closed without an answer"


@attack
def direct_tcp4() -> tuple[bool, str]:
    return direct(socket.AF_INET, NOWHERE, 80)


@attack
def direct_tcp6() -> tuple[bool, str]:
    return direct(socket.AF_INET6, NOWHERE6, 80)


@attack
def direct_udp() -> tuple[bool, str]:
    codes = []
    for family, address in ((socket.AF_INET, NOWHERE), (socket.AF_INET6, NOWHERE6)):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            codes.append((address, tried(lambda: sock.sendto(b"x", (address, 443)))))
    held, saw = refused(*codes)
    return held or all(code in (*REFUSED, errno.ENETUNREACH, errno.EADDRNOTAVAIL) for _, code in codes), saw


@attack
def other_sockets() -> tuple[bool, str]:
    kinds = {"raw": (2, 3, 1), "raw6": (10, 3, 58), "packet": (17, 3, 0), "netlink": (16, 3, 4), "vsock": (40, 1, 0)}
    kinds.update({"alg": (38, 5, 0), "xdp": (44, 3, 0), "mptcp": (2, 1, 262), "bluetooth": (31, 3, 0)})
    return refused(*[(kind, tried(lambda: socket.socket(*which).close())) for kind, which in kinds.items()])


@attack
def names() -> tuple[bool, str]:
    for host in ("secret.exfiltration.invalid", "metadata.google.internal"):
        try:
            found = socket.getaddrinfo(host, 80)
        except socket.gaierror:
            continue
        return False, "%s became %s" % (host, found[0][4][0])
    return True, "no name that policy does not know exists"


@attack
def metadata() -> tuple[bool, str]:
    status = ask("http://%s/latest/meta-data/" % METADATA)
    held, saw = direct(socket.AF_INET, METADATA, 80)
    return denied(status) and held, "through the proxy: %s; direct: %s" % (status, saw)


@attack
def host_loopback() -> tuple[bool, str]:
    port = HERE["decoy"]
    direct_code = tried(lambda: socket.create_connection(("127.0.0.1", port), 5).close())
    answers = [ask("%s:%d" % (host, port), connect=True) for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0")]
    return direct_code != 0 and all(map(denied, answers)), "direct: %s; %s" % (
        name(direct_code),
        ", ".join(answers[:2]),
    )


@attack
def gateway() -> tuple[bool, str]:
    port = HERE["gateway"]
    direct_code = tried(lambda: socket.create_connection(("127.0.0.1", port), 5).close())
    answer = ask("127.0.0.1:%d" % port, connect=True)
    return direct_code != 0 and denied(answer), "direct: %s; %s" % (name(direct_code), answer)


@attack
def abstract_socket() -> tuple[bool, str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        code = tried(lambda: sock.connect("\0" + HERE["abstract"]))
    return code != 0, name(code) if code else "the host's socket answered"


@attack
def self_approval() -> tuple[bool, str]:
    """policy.local proposes; nothing that is asked of it may decide."""
    answers = {}
    for method, path in (
        ("POST", "/v1/proposals/1/approve"),
        ("PUT", "/v1/proposals/1"),
        ("PATCH", "/v1/proposals/1"),
        ("POST", "/v1/approve"),
        ("PUT", "/v1/policy/current"),
        ("POST", "/openshell.v1.OpenShell/ApproveDraftChunk"),
        ("POST", "/v1/settings"),
    ):
        answers[method + " " + path] = ask("http://policy.local" + path, method, b'{"status": "approved"}')
    bad = ["%s: %s" % one for one in answers.items() if one[1].split(" ")[1:2] < ["400"]]
    return not bad, "; ".join(bad) or "%d ways tried, all refused" % len(answers)


@attack
def privileges() -> tuple[bool, str]:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    caps = [key for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[key], 16)]
    held = not caps and status["NoNewPrivs"] == "1" and status["Seccomp"].strip() == "2"
    return held, "%s, NoNewPrivs %s, Seccomp %s" % (caps or "no capability", status["NoNewPrivs"], status["Seccomp"])


@attack
def namespaces() -> tuple[bool, str]:
    new_user, new_net = 0x10000000, 0x40000000
    found = [("unshare user", call(272, 97, new_user)[0]), ("unshare network", call(272, 97, new_net)[0])]
    for what, number, arguments in (("clone", (56, 220), (new_user | 17, 0, 0, 0, 0)), ("clone3", (435, 435), (0, 0))):
        code, pid = call(*(number + arguments))
        if not code and pid == 0:
            os._exit(0)
        found.append((what, code))
    self = os.open("/proc/self/ns/net", os.O_RDONLY)
    found.append(("setns", call(308, 268, self, 0)[0]))
    os.close(self)
    return refused(*found)


@attack
def mounts() -> tuple[bool, str]:
    found = [("mount", call(165, 40, b"none", b"/tmp", b"tmpfs", 0, 0)[0]), ("umount", call(166, 39, b"/proc", 2)[0])]
    found += [("pivot_root", call(155, 41, b".", b".")[0]), ("chroot", call(161, 51, b"/tmp")[0])]
    found += [("open_tree", call(428, 428, -100, b"/", 1)[0]), ("fsopen", call(430, 430, b"tmpfs", 0)[0])]
    return refused(*found)


@attack
def kernel_doors() -> tuple[bool, str]:
    page = ctypes.create_string_buffer(4096)
    found = [("io_uring", call(425, 425, 4, page)[0]), ("bpf", call(321, 280, 0, page, 48)[0])]
    found += [("userfaultfd", call(323, 282, 0)[0]), ("perf", call(298, 241, page, 0, -1, -1, 0)[0])]
    found += [("keyctl", call(250, 219, 0, -3, 0)[0]), ("add_key", call(248, 217, b"user", b"x", b"y", 1, -3)[0])]
    found += [("open_by_handle_at", call(304, 265, -100, page, 0)[0]), ("kexec", call(246, 104, 0, 0, 0, 0)[0])]
    found += [("finit_module", call(313, 273, 0, b"", 0)[0]), ("clock", call(227, 112, 0, page)[0])]
    return refused(*found)


@attack
def memfd_exec() -> tuple[bool, str]:
    code, fd = call(319, 279, b"x", 0)
    found = [("memfd_create", code)]
    if not code:
        os.close(fd)
    pid = os.fork()
    if pid == 0:  # where it works, this child becomes a Python that finds its input empty
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        argument = (ctypes.c_char_p * 2)(b"python", None)
        os._exit(call(322, 281, os.open("/proc/self/exe", os.O_RDONLY), b"", argument, 0, 0x1000)[0])
    found.append(("execveat", os.waitpid(pid, 0)[1] >> 8))
    return refused(*found)


@attack
def foreign_abi() -> tuple[bool, str]:
    """x86-64 only: the same calls by their x32 numbers. The kernel must kill who tries."""
    if ARM:
        return True, "there is none on this machine"
    pid = os.fork()
    if pid == 0:
        call(0x40000000 | 39, 0)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGSYS)
    return killed, "killed by signal %d" % os.WTERMSIG(status) if killed else "it went on"


@attack
def guard() -> tuple[bool, str]:
    """Trace, read, starve or kill PID 1."""
    page = ctypes.create_string_buffer(64)
    found = [("ptrace", call(101, 117, 16, 1, 0, 0)[0])]
    found += [("process_vm_readv", call(310, 270, 1, page, 1, page, 1, 0)[0])]
    found += [("pidfd_open", call(434, 434, 1, 0)[0]), ("prlimit", call(302, 261, 1, 7, page, 0)[0])]
    for path in ("mem", "environ", "maps", "root", "cwd", "fd"):
        where = "/proc/1/" + path
        looks: dict[str, Callable[[str], Any]] = {"root": os.readlink, "cwd": os.readlink, "fd": os.listdir}
        look = looks.get(path, read_byte)
        found.append((path, tried(lambda: look(where))))
    tried(lambda: os.kill(1, signal.SIGKILL))
    tried(lambda: os.kill(1, signal.SIGTERM))
    held, saw = refused(*found)
    alive = os.path.exists("/proc/1/stat") and tried(lambda: os.close(os.open("/proc/1/stat", os.O_RDONLY))) == 0
    return held and alive, saw + ("; SIGKILL had no effect" if alive else "; PID 1 is gone")


@attack
def other_processes() -> tuple[bool, str]:
    foreign = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/status" % pid) as file:
                status = list(file)
                init = pid == "1" and status[0].split() == ["Name:", "openshell-init"]
                if not init and not any(line.startswith("Uid:\t%d\t" % os.getuid()) for line in status):
                    foreign.append(pid)
        except OSError:
            continue
    return not foreign, "foreign: %s" % foreign if foreign else "only the sandbox's own can be seen"


@attack
def secrets() -> tuple[bool, str]:
    """The authority's key, the host's secrets, the gateway's files."""
    found = []
    for top in ("/etc/openshell", "/etc/openshell-tls", "/sandbox", "/run", "/var/log", "/tmp"):
        for folder, _, files in os.walk(top):
            for one in files:
                path = os.path.join(folder, one)
                try:
                    with open(path, "rb") as file:
                        if b"PRIVATE KEY-" in file.read(1 << 20):
                            found.append(path)
                except OSError:
                    continue
    for path in ("/etc/shadow", "/root", "/home", "/boot", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/sys/kernel"):
        if not tried(lambda: os.listdir(path) if os.path.isdir(path) else read_byte(path)):
            found.append(path)  # noqa: PERF401
    return not found, "readable: %s" % ", ".join(found) if found else "no key, no secret file of the host"


@attack
def read_only_paths() -> tuple[bool, str]:
    done = []
    for path in (
        "/usr/x",
        "/etc/x",
        "/etc/openshell/x",
        "/etc/openshell-tls/x",
        "/var/log/x",
        "/x",
        "/dev/x",
        "/bin/x",
    ):
        if not tried(lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))):
            done.append(path)
            os.unlink(path)
    existing = ("/etc/passwd", "/etc/openshell-tls/ca-bundle.pem", "/usr/bin/env", "/proc/self/oom_score_adj")
    for path in (*existing, "/proc/sys/kernel/hostname"):
        if not tried(lambda: os.close(os.open(path, os.O_WRONLY))):
            done.append(path)  # noqa: PERF401
    if not tried(lambda: os.mknod("/tmp/x", 0o20600, os.makedev(1, 1))):
        done.append("a device node")
        os.unlink("/tmp/x")
    return not done, "written: %s" % ", ".join(done) if done else "14 places, none could be written"


@attack
def set_uid() -> tuple[bool, str]:
    """A set-uid program must not raise us."""
    for path in ("/usr/bin/su", "/usr/bin/sudo", "/usr/bin/passwd", "/bin/ping"):
        if os.path.exists(path):
            flags = os.statvfs(path).f_flag
            return bool(flags & os.ST_NOSUID), "%s lies on a nosuid mount" % path
    return True, "there is no set-uid program"


@attack
def fork_bomb() -> tuple[bool, str]:
    """At most 20000 children, each asleep; the limit must come first."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if hard == resource.RLIM_INFINITY:
        return False, "there is no limit on processes"
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard + 1, hard + 1))
    except (OSError, ValueError):  # ValueError is how Python says EPERM here
        pass
    else:
        return False, "the limit of %d could be raised" % hard
    made: list[int] = []
    stopped = False
    try:
        while len(made) < 20000:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            made.append(pid)
    except OSError:
        stopped = True
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
        for pid in made:
            os.waitpid(pid, 0)
    return stopped, "stopped after %d children" % len(made) if stopped else "%d children, no end" % len(made)


def main() -> None:
    wanted = HERE.get("only") or list(ATTACKS)
    for key in wanted:
        try:
            held, saw = ATTACKS[key]()
        except Exception as error:
            held, saw = False, "the attack broke: %s: %s" % (type(error).__name__, error)
        print(json.dumps({"key": key, "held": bool(held), "saw": saw}), flush=True)


if __name__ == "__main__":
    HERE.update(json.loads(sys.argv[1]))
    main()
