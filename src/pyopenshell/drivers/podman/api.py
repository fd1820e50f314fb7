"""Podman's REST API (libpod, v4) over its unix socket. Decides how failures are told; knows no sandbox.

One short-lived connection per call, in a thread: calls are few, and Podman's own part of each takes longer.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from pyopenshell.drivers.base import DriverError

VERSION: Final = "v4.0.0"
"""Of the API that is asked for: Podman 4 and 5 both serve it."""
_MAX_ANSWER: Final = 16 << 20
_TEXT: Final = 1000
"""Characters of Podman's messages that are passed on."""
_START = "start it: systemctl --user enable --now podman.socket (as root without --user), or podman system service -t 0"


class ApiError(Exception):
    """Podman said no. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message[:_TEXT]


class Podman:
    """`socket_path` must belong to the user we are: the containers' files are ours to give and to remove."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        timeout: float = 120.0,
    ) -> Any:
        """`path` as in /libpod/... without that prefix; `body` is sent as JSON, bytes as a tar archive.

        Returns the decoded JSON, or the text where it is none. Raises ApiError, DriverError("PodmanUnreachable").
        """
        return await asyncio.to_thread(self._call, method, path, query or {}, body, timeout)

    def _call(self, method: str, path: str, query: Mapping[str, str], body: Any, timeout: float) -> Any:
        target = f"/{VERSION}/libpod{path}" + (f"?{urlencode(query)}" if query else "")
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = _Connection(self.socket_path, timeout)
        try:
            connection.request(method, target, data, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise DriverError(
                "PodmanUnreachable", f"no Podman answers at {self.socket_path}: {error}", _START
            ) from error
        finally:
            connection.close()
        if len(text) > _MAX_ANSWER:
            raise ApiError(answer.status, f"the answer to {method} {path} is longer than {_MAX_ANSWER >> 20} MiB")
        decoded = _decode(text)
        if answer.status >= 400:
            said = decoded.get("message") or decoded.get("cause") if isinstance(decoded, dict) else decoded
            raise ApiError(answer.status, str(said or answer.reason).strip())
        return decoded


def _decode(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("d", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Raises OSError, also when whoever listens there is somebody else: it would be told our paths, and trusted."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
            _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                raise PermissionError(f"its user is {uid}, the gateway's is {os.geteuid()}")
        except BaseException:
            sock.close()
            raise
        self.sock = sock
