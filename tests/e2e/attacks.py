"""What the attack suites share: a plain server that remembers, its policy, and how answers and the log are read."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import re
import shlex
import threading
from collections.abc import Iterator
from typing import Any

from pyopenshell.client import Gateway
from tests.attacks import ALLOWED as PLAIN
from tests.e2e.house import sh

RULES = """\
        rules:
          - allow: {method: GET, path: /public/**}
          - allow: {method: POST, path: /public/**}
        deny_rules:
          - {method: GET, path: /public/secret/**}"""


def plain(binary: str, more: str = "") -> str:
    """The rule for the plain server, and `more` endpoints."""
    return f"""\
  plain:
    endpoints:
      - host: {PLAIN}
        port: 80
        protocol: rest
        enforcement: enforce
{RULES}
{more}    binaries: [{{path: "{binary}"}}]
"""


def policy(*rules: str) -> str:
    return """\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /dev/urandom, /etc, /var/log]
  read_write: [/tmp, /dev/null]
network_policies:
""" + "".join(rules)


@dataclasses.dataclass
class Seen:
    """A server on `port`, and the "METHOD path" of all that arrived."""

    port: int
    requests: list[str]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers everything and remembers what was asked, as a lenient server would have understood it."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_TRACE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def plain_server() -> Iterator[Seen]:
    seen: list[str] = []
    handler = type("Seen", (Recorder,), {"seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Seen(server.server_address[1], seen)
        finally:
            server.shutdown()
            thread.join(5)


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def error(answer: bytes) -> str:
    """The `error` of the last JSON answer."""
    return str(json.loads(answer[answer.rindex(b'{"error"') :])["error"])


async def wait_for_line(gateway: Gateway, sandbox: str, text: str, seconds: int = 60) -> bool:
    """Wait until a line of the sandbox's log has `text`; False when none comes."""
    logs = "/var/log/openshell.*.log"
    script = f"timeout {seconds} grep -m1 -F -e {shlex.quote(text)} <(exec tail -n +1 -F {logs} 2>/dev/null)"
    return (await sh(gateway, sandbox, script, timeout=seconds + 30)).code == 0
