"""What a request line points at: authority, absolute-form and Host, each read in one strict way.

Pure. A spelling that two programs could read differently is an error here, before anything is matched or resolved.
"""

from __future__ import annotations

import functools
import re

from pyopenshell.policy.hosts import canonical_host

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
LOCAL_HOST = "policy.local"


class AuthorityError(Exception):
    """Not a host and port we would act on. The text is ours and safe to show."""


class SchemeError(Exception):
    """An absolute URI whose scheme has no place at this door; carries the scheme."""

    def __init__(self, scheme: str) -> None:
        super().__init__(scheme)
        self.scheme = scheme


@functools.lru_cache(maxsize=1024)
def host_port(text: str, default: int = 0) -> tuple[str, int]:
    """(canonical host, port) of `host[:port]`; `default` 0 makes the port mandatory. Raises AuthorityError."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise AuthorityError("authority is not host:port")
    port = int(match[2]) if match[2] else default
    if not 1 <= port <= 65535:
        raise AuthorityError("port is missing or out of range")
    try:
        host = canonical_host(match[1].strip("[]"))
    except ValueError as error:
        raise AuthorityError(str(error)) from None
    if match[1].startswith("[") and ":" not in match[1]:
        raise AuthorityError("brackets around something that is no IPv6 address")
    return host, port


def absolute(target: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, origin-form target) of an absolute-form request target.

    Raises AuthorityError, and SchemeError when the scheme is neither http nor https.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise AuthorityError("the proxy expects CONNECT or an absolute URI")
    scheme = match[1].lower()
    if scheme not in ("http", "https"):
        raise SchemeError(scheme)
    host, port = host_port(match[2], 443 if scheme == "https" else 80)
    path = match[3]
    return scheme, host, port, path if path.startswith("/") else "/" + path


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def spelled(host: str, port: int, scheme: str) -> str:
    """The authority as a Host header has it: the port only where it is not the scheme's."""
    name = bracketed(host)
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def without_query(target: str) -> str:
    """The path part of a target, shortened: what may stand in an event when nothing canonical is known."""
    return target.partition("?")[0].partition("#")[0][:4096]
