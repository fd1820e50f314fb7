"""From inside: no way around the proxy, none to the gateway, the host, another sandbox or a key."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, House, background, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("walls")]


@contextlib.contextmanager
def listener(address: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """A TCP listener on the host that records whatever arrives."""
    arrived: list[bytes] = []
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    arrived.append(connection.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], arrived
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture(scope="module")
def box(home: House) -> str:
    home.create("box")
    return "box"


FAST = "timeout 5 bash -c 'exec 3<>/dev/tcp/{0}/{1} && echo hi >&3 && cat <&3'; echo code:$?"


async def test_direct_sockets_fail_fast_and_nothing_arrives(home: House, gateway: Gateway, box: str) -> None:
    own = socket.gethostbyname(socket.gethostname())
    with listener() as (port, arrived), listener("0.0.0.0") as (wide, arrived_wide):
        for address, number in (
            ("127.0.0.1", port),
            (own, wide),
            ("10.200.0.1", wide),
            ("192.0.2.1", 80),
            ("1.1.1.1", 53),
        ):
            ran = await sh(gateway, box, FAST.format(address, number))
            assert ran.out.startswith("code:"), f"{address}: something answered: {ran}"
            assert "code:124" not in ran.out, f"{address}: timed out instead of failing fast"
    assert not arrived
    assert not arrived_wide


async def test_the_gateway_is_out_of_reach_also_through_the_proxy(home: House, gateway: Gateway, box: str) -> None:
    address = json.loads(home.cli("status", "-o", "json").out)["server"].split("//")[1]
    port = address.rsplit(":", 1)[1]
    ran = await sh(gateway, box, FAST.format("127.0.0.1", port))
    assert "code:0" not in ran.out
    for url in (f"https://127.0.0.1:{port}/", f"http://localhost:{port}/", f"https://[::1]:{port}/"):
        ran = await sh(
            gateway, box, f"curl -sS --noproxy '' -m 5 -k -o /dev/null -w '%{{http_code}} %{{http_connect}}' {url}"
        )
        assert "403" in ran.out, ran


async def test_dropping_the_proxy_variables_changes_nothing(home: House, gateway: Gateway, box: str) -> None:
    for way in ("--noproxy '*'", "", "-6 --noproxy '*'", "-x socks5h://10.200.0.1:3128"):
        bare = "env " + "".join(f"-u {name} " for name in ("ALL_PROXY", "HTTPS_PROXY", "https_proxy"))
        ran = await sh(
            gateway, box, f"{bare} curl -sS -m 5 {way} https://{HOST}/; {bare} curl -sS {way} -X PUT https://{HOST}/x"
        )
        assert ran.out.startswith("ok\n"), (way, ran)
        assert '"failed_condition": "method_not_allowed"' in ran.out, (way, ran)
        ran = await sh(gateway, box, f"{bare} curl -sS -m 5 {way} https://evil.test/; echo code:$?")
        assert ran.out.split()[-1] in ("code:6", "code:97"), ran


async def test_no_key_no_token_no_host_file_is_visible(home: House, gateway: Gateway, box: str) -> None:
    ran = await sh(
        gateway,
        box,
        "find / -xdev -readable -type f -size -200k 2>/dev/null -path '/proc/*' -prune -o -readable -type f "
        "\\( -path '/etc/openshell*' -o -path '/run/*' -o -path '/tmp/*' -o -path '/var/*' -o -path '/sandbox/*' \\) "
        "-exec grep -l -e 'PRIVATE KEY' -e 'eyJ' {} + 2>/dev/null",
    )
    assert ran.out.strip() == ""
    state = next(pathlib.Path(home.root).glob("state"))
    assert (await sh(gateway, box, f"ls {state} /root /home 2>&1; echo code:$?")).out.count("code:0") == 0
    env = await sh(gateway, box, "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert "TOKEN" not in env.out
    assert "eyJ" not in env.out


async def test_no_privileges(home: House, gateway: Gateway, box: str) -> None:
    ran = await sh(
        gateway, box, "id -un; grep -E '^(Cap|NoNewPrivs|Seccomp):?' /proc/self/status; grep Cap /proc/self/status"
    )
    assert ran.out.startswith("sandbox\n")
    values = dict(line.split(":\t") for line in ran.out.splitlines() if ":\t" in line)
    for capability in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(values[capability], 16) == 0, capability
    assert values["NoNewPrivs"] == "1"
    assert values["Seccomp"] == "2"


@pytest.mark.parametrize(
    "attempt",
    [
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs none /tmp",
        "touch /usr/x",
        "touch /etc/openshell/x",
        "touch /etc/openshell-tls/x",
        "touch /var/log/x",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "ls -l /proc/1/fd/",
    ],
)
async def test_refused(home: House, gateway: Gateway, box: str, attempt: str) -> None:
    ran = await sh(gateway, box, f"{attempt} >/tmp/o 2>&1; echo code:$?; pgrep -c . >/dev/null; echo alive")
    assert "code:0" not in ran.out, ran
    assert "alive" in ran.out


async def test_init_cannot_be_killed_from_inside(home: House, gateway: Gateway, box: str) -> None:
    ran = await sh(
        gateway,
        box,
        f"kill -9 1; kill -TERM 1; kill -STOP 1; curl -sS -o /dev/null -w '%{{http_code}}' https://{HOST}/",
    )
    assert ran.out == "200"
    assert (await sh(gateway, box, "echo still")).out == "still\n"


async def test_sandboxes_do_not_see_each_other(home: House, gateway: Gateway, box: str) -> None:
    home.create("other")
    await sh(gateway, "other", "echo secret > /tmp/s; echo secret > /sandbox/s")
    await sh(gateway, "other", background("findme", "sleep 300; true"))
    look = "ls /tmp/s /sandbox/s; grep -l '[f]indme' /proc/[0-9]*/cmdline 2>/dev/null"
    assert len((await sh(gateway, "other", look)).out.split()) > 2, "what is there can be seen from where it is"
    assert (await sh(gateway, box, look)).out.strip() == ""


async def test_no_descriptor_is_inherited(home: House, gateway: Gateway, box: str) -> None:
    ran = await sh(gateway, box, "ls /proc/self/fd")
    assert set(ran.out.split()) <= {"0", "1", "2", "3"}, "3 is ls's own"


async def test_the_proxy_refuses_what_policy_does_not_name(home: House, gateway: Gateway, box: str) -> None:
    for url in (
        "https://169.254.169.254/latest",
        "http://127.0.0.1/",
        "https://2130706433/",
        f"https://{HOST}.evil.test/",
    ):
        ran = await sh(
            gateway, box, f"curl -sS --noproxy '' -m 5 -k -o /dev/null -w '%{{http_code}} %{{http_connect}}' {url}"
        )
        assert "403" in ran.out, (url, ran)


async def test_another_program_is_not_curl(home: House, gateway: Gateway, box: str) -> None:
    ran = await sh(
        gateway,
        box,
        "cp /usr/bin/curl /sandbox/mycurl; /sandbox/mycurl -sS -o /dev/null -w '%{http_connect}' "
        f"https://{HOST}/; exec -a /usr/bin/curl /sandbox/mycurl -sS -o /dev/null -w ' %{{http_connect}}' https://{HOST}/",
    )
    assert ran.out.split() == ["403", "403"], ran
