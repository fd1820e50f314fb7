"""A hostile agent against the walls: system calls, socket families, borrowed identities, bombs, traps left in files.

perl is the attacker's tool here: it is on every Debian and Ubuntu and makes any system call.
"""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Mapping

import pytest

from pyopenshell.client import Gateway
from pyopenshell.client.values import LogLine
from pyopenshell.isolation import syscalls
from pyopenshell.isolation.seccomp import DENIED, NUMBER
from tests.e2e.house import HOST, House, run, sh, shell_lines, within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("attacks_kernel")]

EPERM, ENOSYS, EOPNOTSUPP = 1, 38, 95
CURL = f"-sS -m 10 -o /dev/null -w '%{{http_connect}}\\n' https://{HOST}/borrowed"


@pytest.fixture(scope="module")
def box(home: House) -> str:
    home.create("box")
    return "box"


async def perl(gateway: Gateway, box: str, attempts: Mapping[str, str]) -> dict[str, int]:
    """errno of each attempt, an expression that answers -1 on failure; 0 when it worked, -signal when it was killed."""
    script = "".join(
        f"perl -e '$!=0; $r=({text}); print(defined($r) && $r>=0 ? 0 : $!+0)' 2>/dev/null; echo \" $?\"\n"
        for text in attempts.values()
    )
    found = {}
    for name, line in zip(attempts, (await sh(gateway, box, script)).out.splitlines(), strict=True):
        answer, _, code = line.rpartition(" ")
        found[name] = int(answer) if code == "0" else 128 - int(code)
    return found


async def logged(gateway: Gateway, box: str, calls: set[str]) -> bool:
    """Wait until the gateway has a line for each of these refused calls."""
    missing = set(calls)
    async with within(60):
        async for line in gateway.tail(box, lines=10_000):
            if isinstance(line, LogLine) and "KERNEL:INVOKE [MED] DENIED /usr/bin/perl" in line.message:
                missing.discard(line.message.partition(" -> ")[2].partition(" [")[0])
            if not missing:
                return True
    return False


async def test_calls_that_reach_out_of_a_command_are_refused(gateway: Gateway, box: str) -> None:
    attempts = {name: f"syscall({NUMBER[name]}, 0, 0, 0, 0, 0)" for name in DENIED}
    attempts |= {
        # Arguments that would work if the call were let through.
        "memfd": f"syscall({NUMBER['memfd_create']}, $b, 0)",
        "io_uring": f"syscall({NUMBER['io_uring_setup']}, 8, $b)",
        "ptrace init": f"syscall({NUMBER['ptrace']}, 16, 1, 0, 0)",
        "pidfd of init": f"syscall({NUMBER['pidfd_open']}, 1, 0)",
        "limits of init": f"syscall({NUMBER['prlimit64']}, 1, 7, $b, 0)",
        "user namespace": f"syscall({NUMBER['clone']}, {0x10000000 | 17}, 0, 0, 0, 0)",
        "unshare network": f"syscall({NUMBER['unshare']}, {0x40000000})",
        "execveat of a descriptor": f"syscall({NUMBER['execveat']}, 0, $b, 0, 0, 4096)",
        "a filter with a listener": f"syscall({NUMBER['seccomp']}, 1, 8, 0)",
        "a filter by prctl": f"syscall({NUMBER['prctl']}, 22, 2, 0, 0, 0)",
        "strict mode by prctl": f"syscall({NUMBER['prctl']}, 22, 1, 0, 0, 0)",
        # What identity is made of: the number of a connection, the name of the running image.
        "a mark": "do { use Socket; socket($s,2,1,0); setsockopt($s, 1, 36, pack(q(I), 1)) ? 1 : -1 }",
        "another executable": "do { open($f, q(<), q(/usr/bin/curl)); "
        f"syscall({NUMBER['prctl']}, 35, 13, fileno($f), 0, 0) }}",
    }
    assert {n: e for n, e in (await perl(gateway, box, attempts)).items() if e != EPERM} == {}
    assert await logged(gateway, box, {*DENIED, "clone() into a new namespace", "unshare() into a new namespace"})
    assert (await perl(gateway, box, {"clone3": f"syscall({NUMBER['clone3']}, 0, 0)"}))["clone3"] == ENOSYS


@pytest.mark.skipif(syscalls.MACHINE != "x86_64", reason="the x32 ABI is x86-64's")
async def test_another_abi_is_no_way_round_the_filter(gateway: Gateway, box: str) -> None:
    assert (await perl(gateway, box, {"x32": f"syscall({0x40000000 | 39})"}))["x32"] == -9, "killed"
    assert await logged(gateway, box, {"a system call of another ABI (32-bit or x32)"})


async def test_no_other_kind_of_socket_opens(gateway: Gateway, box: str) -> None:
    call = NUMBER["socket"]
    families = set(range(3, 46)) - {socket.AF_INET6, socket.AF_NETLINK}
    attempts = {f"family {f} type {t}": f"syscall({call}, {f}, {t}, 0)" for f in families for t in (1, 2, 3, 5)}
    attempts |= {f"netlink {p}": f"syscall({call}, 16, 3, {p})" for p in range(1, 23)}
    attempts |= {f"raw {f}/{p}": f"syscall({call}, {f}, 3, {p})" for f in (2, 10) for p in (1, 6, 17, 58, 255)}
    attempts["mptcp"] = f"syscall({call}, 2, 1, 262)"
    ran = await sh(gateway, box, f"perl -e 'print(join(chr(32), {', '.join(attempts.values())}))'")
    assert {n: fd for n, fd in zip(attempts, ran.out.split(), strict=True) if fd != "-1"} == {}
    assert await logged(gateway, box, {"socket(AF_VSOCK)", "socket(AF_PACKET)", "socket(AF_ALG)", "socket(AF_NETLINK)"})
    fast = f"socket($s,2,1,0); syscall({NUMBER['sendto']}, fileno($s), $b, 1, {0x20000000}, 0, 0)"
    assert (await perl(gateway, box, {"fast open": f"do {{ use Socket; {fast} }}"}))["fast open"] == EOPNOTSUPP


async def test_a_unix_socket_of_the_host_is_out_of_reach(home: House, gateway: Gateway, box: str) -> None:
    name = f"osh-attack-{os.getpid()}"
    path = home.root / "agent.sock"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind(f"\0{name}")
        named.bind(str(path))
        path.chmod(0o777)
        for listener in (abstract, named):
            listener.listen()
            listener.setblocking(False)
        ran = await sh(
            gateway,
            box,
            f'perl -MSocket -e \'for ("\\0{name}", "{path}") {{ socket($s,AF_UNIX,SOCK_STREAM,0); '
            'print connect($s, pack_sockaddr_un($_)) ? "in " : "out " }\'',
        )
        assert ran.out.split() == ["out", "out"], ran
        for listener in (abstract, named):
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.mark.skipif(not os.access("/opt", os.W_OK), reason="needs to leave a socket in /opt")
async def test_a_unix_socket_among_the_hosts_programs_is_out_of_reach(gateway: Gateway, box: str) -> None:
    path = pathlib.Path(f"/opt/.osh-attack-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        try:
            path.chmod(0o777)
            listener.listen()
            ran = await sh(
                gateway,
                box,
                "perl -MSocket -e 'socket($s,AF_UNIX,SOCK_STREAM,0); "
                f'print connect($s, pack_sockaddr_un("{path}")) ? "in" : "out"\'',
            )
        finally:
            path.unlink()
    assert ran.out == "out", ran


async def test_a_borrowed_identity_is_not_the_owner(home: House, gateway: Gateway, box: str) -> None:
    tricks = {
        "name in argv": f"(exec -a /usr/bin/curl ./mine {CURL})",
        "same name elsewhere": f"mkdir -p usr/bin; cp mine usr/bin/curl; usr/bin/curl {CURL}",
        "loader": f"$(ls /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* 2>/dev/null | head -1) /usr/bin/curl {CURL}",
        "deleted in its name": f"cp mine '/tmp/curl (deleted)'; '/tmp/curl (deleted)' {CURL}",
        "replaced while running": f"cp mine gone; mkfifo going; (./gone -K going {CURL} & exec 4>going; rm gone; "
        "exec 4>&-; wait)",
        "inherited by curl": "exec 3<>/dev/tcp/10.200.0.1/3128; /usr/bin/curl -s -m 9 file:///dev/null & printf "
        f" 'CONNECT {HOST}:443 HTTP/1.1\\r\\nHost: {HOST}:443\\r\\n\\r\\n' >&3; head -1 <&3 | cut -d' ' -f2; wait",
        "dead before it asks": "perl -MSocket -e '"
        'socket($s,2,1,0); if(!fork){connect($s,pack_sockaddr_in(3128,inet_aton("10.200.0.1"))); exit} wait; '
        f'syswrite($s,"CONNECT {HOST}:443 HTTP/1.1\\r\\nHost: {HOST}:443\\r\\n\\r\\n"); sysread($s,$b,12); '
        'print substr($b,9,3), "\\n"\'',
    }
    await sh(gateway, box, "cp /usr/bin/curl mine")
    for name, script in tricks.items():
        ran = await sh(gateway, box, script)
        assert ran.out.split() == ["403"], (name, ran)
    assert not home.upstream.seen("GET", "/borrowed")
    log = await sh(
        gateway, box, "timeout 10 grep -m1 -F 'DENIED /sandbox/mine(' <(exec tail -n +1 -F /var/log/openshell.*.log)"
    )
    assert log.code == 0


async def test_a_parent_that_becomes_an_allowed_program_lends_it_no_right(
    home: House, gateway: Gateway, box: str
) -> None:
    home.create("lend")
    lines = shell_lines(
        gateway,
        "lend",
        "cp /usr/bin/curl mine; mkfifo go; "
        f"bash -c '(read -r _ <go; ./mine -sS -m 10 -o /dev/null https://{HOST}/lent; echo asked; kill $$) & "
        f"exec curl -sSN https://{HOST}/stream'",
    )
    async with within(30):
        async for line in lines:
            if line == "data: open":
                await sh(gateway, "lend", "echo now >go")
            elif line == "asked":
                break
    assert not home.upstream.seen("GET", "/lent")


async def test_a_fork_bomb_stops_at_its_limit_and_the_proxy_goes_on(home: House, gateway: Gateway, box: str) -> None:
    home.create("bomb")
    bomb = "perl -e '$|=1; while(defined($p=fork)){ if(!$p){ sleep 120; exit } $n++ } print \"$n\\n\"; sleep 120'"
    url = f"https://{HOST}/while-it-burns"
    async with within(60):
        async for line in shell_lines(gateway, "bomb", bomb):
            assert 100 < int(line) < 5000
            break
        for sandbox in ("bomb", box):
            ran = await run(gateway, sandbox, "/usr/bin/curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
            assert ran.out == "200", (sandbox, ran)
    home.delete("bomb")
    assert home.upstream.seen("GET", "/while-it-burns") == 2


async def test_traps_in_the_workspace_do_not_catch_the_host(home: House, gateway: Gateway) -> None:
    home.create("traps")
    victim = home.root / "victim"
    victim.mkdir()
    (victim / "keep").write_text("mine")
    mode = victim.stat().st_mode
    sandbox_id = next(s["id"] for s in home.cli("sandbox", "list", "-o", "json").json if s["name"] == "traps")
    directory = home.sandbox_dir(sandbox_id)
    await sh(
        gateway,
        "traps",
        f"ln -s {victim} link; ln -s {victim}/keep file; ln -s /etc/passwd passwd; mkfifo pipe; "
        "mkdir -p closed/below; touch closed/below/f; chmod 000 closed/below closed; "
        "d=deep; for i in $(seq 60); do mkdir $d; cd $d; d=" + "d" * 200 + "; done; chmod 000 /sandbox",
    )
    home.delete("traps")
    assert not directory.exists()
    assert (victim / "keep").read_text() == "mine"
    assert victim.stat().st_mode == mode
