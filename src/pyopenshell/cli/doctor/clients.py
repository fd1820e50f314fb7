"""Which installed programs work in a sandbox: each one asks a real TLS server of ours, through the inspecting proxy.

Asked twice: once as it is, and once with proxy variables that lead nowhere. The first says whether it trusts the
sandbox's authority, the second whether it used the proxy or was captured. What counts is what arrived at the server.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pyopenshell import policy as language
from pyopenshell.client.values import Exit, Output

if TYPE_CHECKING:
    from pyopenshell.cli.demo.forge import Forge
    from pyopenshell.client.gateway import Gateway

HOST: Final = "clients.doctor.test"
SECONDS: Final = 60.0
AT_ONCE: Final = 2
_NOWHERE: Final = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:1"
)
POLICY: Final = f"""\
version: 1
network_policies:
  doctor:
    endpoints:
      - {{host: {HOST}, port: 443, protocol: rest, enforcement: enforce, access: read-only}}
    binaries:
      - {{path: "/**"}}
"""
_JAVA: Final = """\
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
    }
}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """`script` is for bash; $HOST is the server and $WHAT must be in the path of what it asks. `needs` finds it."""

    name: str
    needs: str
    script: str
    fix: str


_BUNDLE = "CA bundle: /etc/openshell-tls/ca-bundle.pem"
PROGRAMS: Final = (
    Program("curl", "command -v curl", "curl -sS https://$HOST/$WHAT", f"curl --cacert ({_BUNDLE})"),
    Program("wget", "command -v wget", "wget -qO- --tries=1 https://$HOST/$WHAT",
            "wget --ca-certificate=/etc/openshell-tls/ca-bundle.pem"),
    Program("git", "command -v git", "git ls-remote https://$HOST/$WHAT.git",
            "git config --global http.sslCAInfo /etc/openshell-tls/ca-bundle.pem"),
    Program("pip", "command -v pip || python3 -m pip --version",
            "python3 -m pip download --disable-pip-version-check --retries 0 --no-deps "
            "--index-url https://$HOST/simple $WHAT",
            "pip --cert /etc/openshell-tls/ca-bundle.pem"),
    Program("npm", "command -v npm", "npm view $WHAT --registry https://$HOST/ --fetch-retries=0",
            "npm config set cafile /etc/openshell-tls/ca-bundle.pem"),
    Program("node", "command -v node", "node -e \"fetch('https://$HOST/$WHAT').then(r => r.text())\"",
            "export NODE_EXTRA_CA_CERTS=/etc/openshell-tls/openshell-ca.pem (fetch is in Node 18 and newer)"),
    Program("python (urllib)", "command -v python3",
            "python3 -c \"import urllib.request as u; u.urlopen('https://$HOST/$WHAT')\"",
            "export SSL_CERT_FILE=/etc/openshell-tls/ca-bundle.pem"),
    Program("python (requests)", "python3 -c 'import requests'",
            "python3 -c \"import requests; requests.get('https://$HOST/$WHAT')\"",
            "export REQUESTS_CA_BUNDLE=/etc/openshell-tls/ca-bundle.pem"),
    Program("java", "command -v java && command -v javac",
            f"cat >/tmp/Fetch.java <<'EOF'\n{_JAVA}EOF\njava /tmp/Fetch.java https://$HOST/$WHAT",
            "export JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/etc/openshell-tls/cacerts.jks"),
    Program("go", "command -v go",
            "cd /tmp && GOPROXY=https://$HOST GOSUMDB=off GOTOOLCHAIN=local GO111MODULE=on "
            "go list -m -versions $HOST/$WHAT",
            "export SSL_CERT_FILE=/etc/openshell-tls/ca-bundle.pem"),
    Program("docker", "command -v docker", "docker version --format '{{.Server.Version}}'",
            "build and run containers outside: their daemon would be a way past every wall"),
)  # fmt: skip
BY_DESIGN: Final = frozenset({"docker"})
"""What does not work in a sandbox and is not meant to: said, but no fault."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """`state` is "works", "fails", "absent" or "kept out" (by design). `said` is the program's own: hostile."""

    name: str
    state: str
    how: str
    said: str = ""
    fix: str = ""


async def perform() -> list[Tried]:
    """Raises CliError or GatewayError when there is no sandbox to try them in."""
    from pyopenshell.cli.demo.forge import forge
    from pyopenshell.cli.demo.house import ConnectTo
    from pyopenshell.cli.doctor.attack import private_house
    from pyopenshell.client.gateway import FAILED_PHASES, Gateway

    async with forge(HOST) as server:
        override = ConnectTo(HOST, f"127.0.0.1:{server.port}", server.ca_pem)
        async with private_house(override) as house, await Gateway.open(house.registration) as gateway:
            made = await gateway.create(policy=language.load(POLICY, "doctor.yaml"))
            sandbox = (await gateway.wait_for(made, "Ready", FAILED_PHASES)).name
            turn = asyncio.Semaphore(AT_ONCE)

            async def one(number: int, program: Program) -> Tried:
                async with turn:
                    return await _try(gateway, server, sandbox, program, f"osdoctor{number}")

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number, program)) for number, program in enumerate(PROGRAMS)]
            return [task.result() for task in tasks]


async def _try(gateway: Gateway, server: Forge, sandbox: str, program: Program, what: str) -> Tried:
    if (await _bash(gateway, sandbox, program.needs, {}))[0]:
        return Tried(program.name, "absent", "not installed where a sandbox sees it (/usr, /opt)")
    code, said = await _bash(gateway, sandbox, program.script, {"HOST": HOST, "WHAT": f"{what}a"})
    if program.name in BY_DESIGN:
        if code:
            return Tried(program.name, "kept out", "it reaches no daemon", fix=program.fix)
        return Tried(program.name, "fails", "IT REACHED A DAEMON OF THE HOST", said, program.fix)
    if not _arrived(server, f"{what}a"):
        return Tried(program.name, "fails", "its request did not arrive", said, program.fix)
    await _bash(gateway, sandbox, program.script, {"HOST": HOST, "WHAT": f"{what}b", **_NOWHERE})
    captured = _arrived(server, f"{what}b")
    how = "ignores proxy variables and is captured" if captured else "uses the proxy"
    return Tried(program.name, "works", f"trusts the sandbox's authority, {how}")


def _arrived(server: Forge, what: str) -> bool:
    return any(what in request for request in server.requests)


async def _bash(gateway: Gateway, sandbox: str, script: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """(exit code, last line it said)."""
    said, code = bytearray(), -1
    async for event in gateway.exec(
        sandbox,
        ("/bin/bash", "-c", script),
        environment=environment,
        timeout=SECONDS,
        workdir="/tmp",
    ):
        if isinstance(event, Exit):
            code = event.code
        elif isinstance(event, Output):
            said = (said + event.data)[-4000:]
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return code, lines[-1] if lines else f"exit code {code}"
