"""mitmproxy addon of the proxy benchmark: the same small policy as ours, one log line per decision, bodies streamed."""

from __future__ import annotations

import os
import re
import time
from typing import Any

OK = re.compile(r"/v1/(?!admin/)|/big/|/sse$")
LOG = open(os.environ["RELAY_LOG"], "a", buffering=65536)  # noqa: SIM115 - lives as long as the proxy


class Allow:
    def requestheaders(self, flow: Any) -> None:
        from mitmproxy import http  # type: ignore[import-not-found]  # of the peer's own environment

        request = flow.request
        allowed = request.method in ("GET", "POST") and OK.match(request.path)
        LOG.write(
            f"{time.time():.3f} {'ALLOW' if allowed else 'DENY'} {request.method} {request.host} {request.path}\n"
        )
        if allowed:
            request.stream = True
        else:
            body, headers = b'{"error":"policy_denied"}', {"Content-Type": "application/json"}
            flow.response = http.Response.make(403, body, headers)

    def responseheaders(self, flow: Any) -> None:
        flow.response.stream = True


addons = [Allow()]
