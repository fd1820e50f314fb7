"""Real programs, unmodified, through the inspected proxy: they trust its CA, find it, and get what policy allows."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socketserver
import struct
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.e2e.clients import (
    DENIED,
    GIT,
    HASTE,
    SITE,
    WS,
    Program,
    Web,
    git_helper,
    log,
    resolved,
    rule,
    web,
    works_and_is_refused_readably,
)
from tests.e2e.house import House, connect_to, sh
from tests.e2e.site import Site, sha256_of_big

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients")]

PYTHON = "env PYTHONPATH=python python3 -W error"
PROXY = "10.200.0.1:3128"
FULL_SITE = f"host: {SITE}, port: 443, protocol: rest, access: full"


SSH = "ssh.e2e.test"


@pytest.fixture(scope="module")
def town() -> Iterator[Web]:
    with ssh_server() as port, web(connect_to(SSH, port, port=22)) as found:
        yield found


@contextlib.contextmanager
def ssh_server() -> Iterator[int]:
    """The first words of an SSH server and its goodbye, enough to tell that a client reached one."""

    class Banner(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"SSH-2.0-E2E\r\n")
            self.rfile.readline()
            # SSH_MSG_DISCONNECT (RFC 4253, 11.1): reason 11, a text, no language; padded to a multiple of 8.
            payload = struct.pack(">BII3sI", 1, 11, 3, b"bye", 0)
            padding = 16 - (5 + len(payload)) % 8
            self.wfile.write(struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding))
            self.rfile.read()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Banner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def home(town: Web) -> House:
    return town.home


@pytest.fixture(scope="module")
def site(town: Web) -> Site:
    return town.site


def programs() -> list[Program]:
    python, node = resolved("python3"), resolved("node")
    return [
        Program("curl", resolved("curl"), 'curl -sS --fail-with-body -X $METHOD "$URL"', (22, 56), "CONNECT.* 403"),
        Program(
            "wget",
            resolved("wget"),
            'wget -nv -O- --content-on-error --method=$METHOD "$URL"',
            (8, 4),
            r"Forbidden by OpenShell policy \(denial d-",
            quiet=False,
        ),
        Program("urllib", python, f"{PYTHON} via_urllib.py $METHOD $URL", (1, 1), request_refused="403.*OpenShell"),
        Program("requests", python, f"{PYTHON} via_requests.py $METHOD $URL", (1, 1)),
        Program("httpx", python, f"{PYTHON} via_httpx.py $METHOD $URL", (1, 1)),
        Program("aiohttp", python, f"{PYTHON} via_aiohttp.py $METHOD $URL", (1, 1), "403, message='Forbidden by Open"),
        Program(
            "undici",
            node,
            "env NODE_NO_WARNINGS=1 node via_undici.mjs $METHOD $URL",
            (22, 1),
            r"Proxy response \(403\)",
        ),
    ]


@pytest.mark.parametrize("name", [program.name for program in programs()])
async def test_a_program_works_and_is_refused_readably(town: Web, gateway: Gateway, name: str) -> None:
    (program,) = (one for one in programs() if one.name == name)
    await town.box(gateway, name, program.binary)
    await works_and_is_refused_readably(gateway, name, program)


# ------------------------------------------------------------------------------------------- what HTTP clients rely on


@pytest.fixture(scope="module")
def full(home: House) -> str:
    """A sandbox whose curl may do everything on SITE."""
    home.create("full", "version: 1\nnetwork_policies:\n" + rule("all", FULL_SITE, resolved("curl")) + FILES)
    return "full"


FILES = "filesystem_policy: {read_only: [/usr, /lib, /etc, /proc, /var/log], read_write: [/tmp, /dev/null, /sandbox]}\n"
SIZE = 64 * 1024 * 1024


async def test_connections_are_reused_on_both_sides(site: Site, gateway: Gateway, full: str) -> None:
    show = "-o /dev/null -w '%{num_connects} %{http_code}\\n'"
    ran = await sh(gateway, full, f"curl -sS https://{SITE}/reuse/[1-20] {show}")
    assert ran.out.splitlines() == ["1 200"] + ["0 200"] * 19
    seen = [one for one in site.seen if one.target.startswith("/reuse/")]
    assert len(seen) == 20
    assert len({one.connection for one in seen}) == 1


async def test_uploads_wait_for_100_continue_and_arrive_whole(site: Site, gateway: Gateway, full: str) -> None:
    make = f"head -c {SIZE} /dev/zero"
    expected = hashlib.sha256(bytes(SIZE)).hexdigest()
    script = (
        f"{make} > /tmp/f; curl -sS -T /tmp/f https://{SITE}/up/length; echo; "
        f"curl -sS -H 'Expect: 100-continue' --data-binary @/tmp/f https://{SITE}/up/expect; echo; "
        f"{make} | curl -sS -T - https://{SITE}/up/chunked"
    )
    for line in (await sh(gateway, full, script)).out.splitlines():
        assert (json.loads(line)["bytes"], json.loads(line)["sha256"]) == (SIZE, expected)
    assert [len(site.requests(f"/up/{name}")) for name in ("length", "expect", "chunked")] == [1, 1, 1]
    assert site.requests("/up/expect")[0].headers["expect"] == "100-continue"


async def test_a_refused_upload_is_refused_before_it_is_sent(town: Web, gateway: Gateway) -> None:
    await town.box(gateway, "nothing-sent", resolved("curl"))
    curl = f"timeout {HASTE} curl -sS -T /tmp/f https://{SITE}/refused -o /dev/null"
    script = (
        f"head -c {SIZE} /dev/zero > /tmp/f; {curl} -H 'Expect: 100-continue' --expect100-timeout 20 "
        "-w '%{http_code} %{size_upload}'; echo \" $?\"; "
        f"{curl} -H Expect: -w '%{{http_code}}'; echo \" $?\""
    )
    first, second = (await sh(gateway, "nothing-sent", script)).out.splitlines()
    assert first == "403 0 0", "nothing of the body was sent, and curl is content"
    assert second.split()[0] == "403", "a client that does not ask still reads its answer"
    assert not town.site.requests("/refused")


async def test_downloads_arrive_whole(gateway: Gateway, full: str) -> None:
    script = f"for k in '' '&chunked=1'; do curl -sS \"https://{SITE}/big?bytes={SIZE}$k\" | sha256sum; done"
    assert (await sh(gateway, full, script)).out.split() == [sha256_of_big(SIZE), "-"] * 2


async def test_ranges_head_gzip_and_http_1_0(site: Site, gateway: Gateway, full: str) -> None:
    site.files["/ranged"] = bytes(range(65, 91))
    script = (
        f"curl -sS -r 3-5 https://{SITE}/ranged -w ' %{{http_code}}\\n'; "
        f"curl -sSI https://{SITE}/ranged | grep -ci 'content-length: 26'; "
        f"curl -sS --compressed https://{SITE}/gzip; "
        f"curl -sS -0 https://{SITE}/old -w '%{{http_code}} %{{http_version}}\\n'; "
        f"printf abc > part; curl -sS -C - -o part https://{SITE}/ranged; cat part; echo"
    )
    ran = await sh(gateway, full, f"cd /sandbox; {script}")
    assert ran.out.splitlines() == ["DEF 206", "1", "unpacked", "ok", "200 1.1", "abc" + "DEFGHIJKLMNOPQRSTUVWXYZ"], ran
    assert site.requests("/old")[0].version == "HTTP/1.0"


async def test_a_redirect_is_judged_like_any_request(site: Site, gateway: Gateway, full: str) -> None:
    script = (
        f"curl -sSL 'https://{SITE}/redirect?to=/landed' ; "
        f"curl -sSL 'https://{SITE}/redirect?to=https://{DENIED}/away'; echo $?; curl -sSL 'https://{SITE}/redirect?"
        f"to=http://169.254.169.254/latest' -o /dev/null -w '%{{http_code}}\\n'"
    )
    ran = await sh(gateway, full, script)
    assert ran.out.splitlines() == ["ok", "56", "403"], ran
    assert not site.requests("/away")
    assert f"DENIED {resolved('curl')}" in await log(gateway, full)


async def test_each_spelling_of_the_proxy_variables_does(gateway: Gateway, full: str) -> None:
    clear = "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy;"
    url = f"https://{SITE}/spelling"
    for setting in ("https_proxy=http://", "HTTPS_PROXY=http://", "ALL_PROXY=http://", "ALL_PROXY=socks5h://"):
        ran = await sh(gateway, full, f"{clear} {setting}{PROXY} curl -sS {url}")
        assert ran.out == "ok\n", (setting, ran)
    ready = "until curl -s -o /dev/null http://localhost:8765/; do :; done"
    own = f"python3 -m http.server -b 127.0.0.1 8765 >/dev/null 2>&1 & {ready}"
    ran = await sh(gateway, full, f"{own}; curl -sS -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8765/; kill %1")
    assert ran.out == "200", "a server inside is reached without the proxy"


# ----------------------------------------------------------------------------------------------------------------- git


@pytest.fixture(scope="module")
def repository(site: Site) -> str:
    """A bare repository with one commit that takes pushes."""
    assert site.repositories is not None
    bare, work = site.repositories / "r.git", site.repositories / "work"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "init", "-q", "-b", "main", str(work)], check=True)
    (work / "hello.txt").write_text("from git\n")
    subprocess.run([*git, "-C", str(work), "add", "."], check=True)
    subprocess.run([*git, "-C", str(work), "commit", "-q", "-m", "one"], check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run([*git, "-C", str(bare), "config", "http.receivepack", "true"], check=True)
    return f"https://{GIT}/git/r.git"


PUSH = (
    "cd r && git config user.name a && git config user.email a@example.invalid && head -c 5000000 /dev/urandom > blob "
    "&& git add . && git commit -q -m two && git push -q origin main"
)


async def test_git_clones_and_pushes_what_is_too_big_for_one_piece(
    home: House, gateway: Gateway, site: Site, repository: str
) -> None:
    endpoint = f"host: {GIT}, port: 443, protocol: rest, access: read-write"
    home.create("git", "version: 1\nnetwork_policies:\n" + rule("git", endpoint, git_helper()) + FILES)
    again = f"git clone -q {repository} again && cmp r/blob again/blob && cat again/hello.txt"
    script = f"timeout 100 git clone -q {repository} r && ({PUSH}) && {again}"
    ran = await sh(gateway, "git", f"cd /sandbox && {script}")
    assert (ran.code, ran.out, ran.err) == (0, "from git\n", "")
    chunked = [one for one in site.seen if one.headers.get("transfer-encoding") == "chunked"]
    assert any(one.target.endswith("/git-receive-pack") and one.size > 5_000_000 for one in chunked)


async def test_git_may_fetch_and_not_push(home: House, gateway: Gateway, repository: str) -> None:
    allow = '[{allow: {method: GET, path: "/git/**"}}, {allow: {method: POST, path: "/git/*/git-upload-pack"}}]'
    endpoint = f"host: {GIT}, port: 443, protocol: rest, rules: {allow}"
    home.create("fetch", "version: 1\nnetwork_policies:\n" + rule("git", endpoint, git_helper()) + FILES)
    ran = await sh(gateway, "fetch", f"cd /sandbox && timeout {HASTE} git clone -q {repository} r && {PUSH}; echo $?")
    assert ran.out.splitlines()[-1] == "1", ran
    assert "403" in ran.err
    assert f"DENIED POST http://{GIT}:443/git/r.git/git-receive-pack " in await log(gateway, "fetch")
    host = await sh(gateway, "fetch", f"cd /sandbox && timeout {HASTE} git clone https://{DENIED}/git/r.git x")
    assert (host.code, "CONNECT" in host.err, "403" in host.err) == (128, True, True), host


# --------------------------------------------------------------------------------------------------------- pip and npm


def publish_wheel(site: Site) -> None:
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
    site.files[f"/simple/tiny-e2e/{name}"] = raw.getvalue()
    site.files["/simple/tiny-e2e/"] = f'<!DOCTYPE html><a href="{name}">{name}</a>'.encode()


def publish_npm(site: Site) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, text in (
            ("package/package.json", '{"name":"tiny-e2e","version":"1.0.0","main":"index.js"}'),
            ("package/index.js", "module.exports = 42\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    site.files["/npm/tiny-e2e-1.0.0.tgz"] = raw.getvalue()
    version = {"name": "tiny-e2e", "version": "1.0.0", "dist": {"tarball": f"https://{SITE}/npm/tiny-e2e-1.0.0.tgz"}}
    document = {"name": "tiny-e2e", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    site.files["/npm/tiny-e2e"] = json.dumps(document).encode()


async def test_pip_installs_and_shows_who_refused(town: Web, gateway: Gateway) -> None:
    publish_wheel(town.site)
    await town.box(gateway, "pip", resolved("python3"))
    pip = (
        f"PIP_CONFIG_FILE=/dev/null timeout {HASTE} python3 -m pip --retries 1 install --no-cache-dir "
        "--break-system-packages --target /sandbox/installed --index-url"
    )
    use = "PYTHONPATH=/sandbox/installed python3 -c 'import tiny_e2e; print(tiny_e2e.ANSWER)'"
    ran = await sh(gateway, "pip", f"{pip} https://{SITE}/simple/ tiny-e2e && {use}")
    assert ran.out.strip().endswith("42"), ran
    host = await sh(gateway, "pip", f"{pip} https://{DENIED}/simple/ tiny-e2e")
    assert (host.code, "403 Forbidden by OpenShell policy (denial d-" in host.err) == (1, True), host


async def test_npm_installs_and_shows_who_refused(town: Web, gateway: Gateway) -> None:
    publish_npm(town.site)
    await town.box(gateway, "npm", resolved("node"))
    npm = f"timeout {HASTE} npm install --silent --no-audit --no-fund --cache /tmp/npm --registry"
    use = "node -e \"console.log(require('tiny-e2e'))\""
    ran = await sh(
        gateway,
        "npm",
        f"mkdir /sandbox/p && cd /sandbox/p && echo {{}} > package.json && {npm} https://{SITE}/npm/ tiny-e2e && {use}",
    )
    assert ran.out.strip().endswith("42"), ran
    publish = f"npm publish --registry https://{SITE}/npm/ --//{SITE}/npm/:_authToken=x"
    await sh(gateway, "npm", "sed -i s/1.0.0/1.0.1/ /sandbox/p/node_modules/tiny-e2e/package.json")
    for command in (f"npm ping --registry https://{DENIED}/", publish):
        refused = await sh(gateway, "npm", f"cd /sandbox/p/node_modules/tiny-e2e && timeout {HASTE} {command}")
        assert (refused.code, "403" in refused.err, "policy_denied" in refused.err) == (1, True, True), refused.err


# ------------------------------------------------------------------------------------------------------------- sockets


SOCKET = f"host: {WS}, port: 443, protocol: websocket"


async def test_the_ws_package_talks_and_is_cut_off_at_the_message_that_is_not_allowed(
    town: Web, gateway: Gateway
) -> None:
    node = resolved("node")
    talk = f"{SOCKET}, access: read-write"
    listen = f"{SOCKET}, access: read-only"
    for name, endpoint in (("ws", talk), ("listen", listen)):
        await town.box(gateway, name, node, rules=rule("socket", endpoint, node))
    client = f"cd /sandbox && timeout {HASTE} node ws_client.cjs"
    ran = await sh(gateway, "ws", f"{client} wss://{WS}/echo")
    assert (ran.code, ran.out, ran.err) == (0, "hello\n", "")
    assert town.sockets[-2:] == ["open /echo", "message hello"]
    silent = await sh(gateway, "listen", f"{client} wss://{WS}/silent")
    assert town.sockets[-1] == "open /silent", "the message itself must not arrive"
    assert "1008" in silent.out, silent
    assert "HTTP:WEBSOCKET_TEXT [MED] DENIED" in await log(gateway, "listen")
    refused = await sh(gateway, "ws", f"{client} wss://{DENIED}/echo")
    assert (refused.code, "403" in refused.err) == (3, True), refused
    assert f"DENIED {node}" in await log(gateway, "ws")


def ssh_command(host: str) -> str:
    """ssh through the proxy, as its users configure it; no identity of anybody is tried."""
    proxy = f"-o ProxyCommand='nc -X connect -x {PROXY} %h %p'"
    known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o IdentityFile=none"
    return f"timeout {HASTE} ssh -v -F none {known} {proxy} agent@{host} true"


async def test_ssh_reaches_a_server_where_a_rule_makes_it_raw(home: House, gateway: Gateway) -> None:
    nc = resolved("nc")
    home.create("ssh", "version: 1\nnetwork_policies:\n" + rule("ssh", f"host: {SSH}, port: 22", nc) + FILES)
    ran = await sh(gateway, "ssh", ssh_command(SSH))
    assert "Remote protocol version 2.0, remote software version E2E" in ran.err, ran
    assert (ran.code, "11: bye" in ran.err) == (255, True), ran
    refused = await sh(gateway, "ssh", ssh_command(DENIED))
    assert refused.code == 255
    assert "403 Forbidden by OpenShell policy" in refused.err, refused
    assert f"DENIED {nc}" in await log(gateway, "ssh")


async def test_openssl_s_client(home: House, gateway: Gateway) -> None:
    openssl = resolved("openssl")
    home.create("openssl", "version: 1\nnetwork_policies:\n" + rule("all", FULL_SITE, openssl) + FILES)
    ask = f"printf 'GET /s_client HTTP/1.1\\r\\nHost: {SITE}\\r\\nConnection: close\\r\\n\\r\\n'"
    client = f"timeout {HASTE} openssl s_client -quiet -no_ign_eof -verify_return_error -proxy {PROXY} -connect"
    ran = await sh(
        gateway, "openssl", f"{ask} | {client.replace('-no_ign_eof', '-ign_eof')} {SITE}:443 -servername {SITE}"
    )
    assert ran.code == 0, ran
    assert ran.out.startswith("HTTP/1.1 200 OK\r\n"), ran
    assert ran.out.endswith("\r\n\r\nok\n"), ran
    assert "verify return:1" in ran.err
    refused = await sh(gateway, "openssl", f"{client} {DENIED}:443 </dev/null")
    assert refused.code == 1
    assert "403 Forbidden by OpenShell policy (denial d-" in refused.err
    assert f"DENIED {openssl}" in await log(gateway, "openssl")


async def test_a_program_that_ignores_the_proxy_fails_fast_and_is_reported(town: Web, gateway: Gateway) -> None:
    await town.box(gateway, "ignorant", resolved("python3"))
    script = "import socket; s = socket.create_connection(('192.0.2.7', 443), 5); s.sendall(b'x' * 9); print(s.recv(1))"
    ran = await sh(gateway, "ignorant", f'python3 -c "{script}" 2>&1 | tail -1')
    assert "timed out" not in ran.out
    assert "reset" in ran.out or "refused" in ran.out or "Broken pipe" in ran.out, ran
    assert "192.0.2.7:443" in await log(gateway, "ignorant"), "the attempt must be visible in the log"
