"""Which hosts, paths, binaries and value globs an author may write: the language of `hosts` and `globs`, minus traps.

Decides breadth and shape for validation, and words the answer. Matching itself is `hosts` and `globs`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from pyopenshell.policy import globs, hosts
from pyopenshell.policy.problems import shown
from pyopenshell.policy.schema import PROTOCOLS

# fmt: off
SHARED_SUFFIXES = frozenset((
    "github.io", "gitlab.io", "pages.dev", "workers.dev", "netlify.app", "vercel.app", "web.app", "firebaseapp.com",
    "herokuapp.com", "fly.dev", "onrender.com", "railway.app", "run.app", "appspot.com", "azurewebsites.net",
    "blogspot.com", "glitch.me", "repl.co", "replit.app", "surge.sh", "ngrok.io", "ngrok.app", "ngrok-free.app",
    "trycloudflare.com", "deno.dev", "readthedocs.io", "hf.space", "streamlit.app", "duckdns.org", "no-ip.org",
    "dyndns.org", "nip.io", "sslip.io", "co.uk", "org.uk", "ac.uk", "gov.uk", "me.uk", "com.au", "net.au", "org.au",
    "co.nz", "co.jp", "ne.jp", "or.jp", "ac.jp", "co.kr", "co.in", "net.in", "org.in", "com.br", "net.br", "com.cn",
    "net.cn", "org.cn", "com.tw", "com.hk", "com.sg", "com.mx", "com.ar", "com.tr", "co.za", "co.il", "com.ua",
    "com.pl",
))
# fmt: on
"""Domains directly under which anybody can register a name, so a wildcard there names nobody (attacks.md A-11)."""

_TOOL = re.compile(r"[A-Za-z0-9_.*?-]{1,128}")
_QUERY_LIKE = re.compile(r"\?[^/]*[=&]")


@dataclasses.dataclass(frozen=True, slots=True)
class HostProblem:
    code: str
    message: str
    fix: str = ""


def is_ip_literal(host: str) -> bool:
    try:
        return hosts.is_ip_literal(hosts.canonical_host(host))
    except ValueError:
        return False


def known_protocol(protocol: str) -> bool:
    return protocol == "" or protocol in PROTOCOLS


def host_problem(host: str) -> HostProblem | None:
    """Why a non-empty endpoint host is refused, None when it may stand."""
    if "*" in host:
        return _wildcard_problem(host)
    try:
        canonical = hosts.canonical_host(host)
    except ValueError as error:
        return HostProblem("host_invalid", f"invalid host {shown(host)}: {error}")
    if canonical != host:
        return HostProblem("host_spelling", f"host {shown(host)} is not in its normal form", f"write {canonical!r}")
    return None


def _wildcard_problem(host: str) -> HostProblem | None:
    labels = host.split(".")
    rest = labels[1:]
    if len(labels) <= 2 and "*" in labels[0] and not any("*" in label for label in rest):
        return HostProblem(
            "host_tld_wildcard",
            f"TLD wildcard {shown(host)} is not allowed",
            "use subdomain wildcards like '*.example.com' instead",
        )
    shape = HostProblem(
        "host_wildcard",
        f"invalid host wildcard {shown(host)}",
        "a wildcard stands in the first label or is a whole label, before a literal domain of two labels or more",
    )
    if any("*" in label for label in labels[-2:]) or any("*" in label and label != "*" for label in rest):
        return shape
    try:
        if hosts.host_pattern(host) != host:
            return shape
    except ValueError:
        return shape
    literal = rest if "*" not in rest else rest[len(rest) - rest[::-1].index("*") :]
    if ".".join(literal) in SHARED_SUFFIXES:
        return HostProblem(
            "host_shared_wildcard",
            f"host wildcard {shown(host)} is not allowed: anybody can register a name there",
            "name the hosts",
        )
    return None


def path_problem(pattern: str) -> str:
    """Why a path pattern is refused, "" when it may stand. A text that reads like a query string is refused."""
    if _QUERY_LIKE.search(pattern):
        return "it looks like a query string; use query:"
    return _reason(lambda: globs.path_pattern(pattern))


def binary_problem(pattern: str) -> str:
    if not pattern.isprintable():
        return "it contains control or invisible characters"
    if ".." in pattern.split("/") or "." in pattern.split("/"):
        return "it has a dot segment, and no running executable does"
    if pattern == "**":
        return "write '/**' for any binary"
    if pattern.endswith("/"):
        return "a path that ends in '/' is a directory, write '/**' after it for all programs below"
    return _reason(lambda: globs.binary_pattern(pattern))


def value_problem(glob: str) -> str:
    if not glob.isprintable():
        return "it contains control or invisible characters"
    return _reason(lambda: globs.value_glob(glob))


def _reason(compile_it: Callable[[], object]) -> str:
    try:
        compile_it()
    except ValueError as error:
        return shown(str(error))[1:-1]
    return ""


def tool_glob(glob: str) -> bool:
    """Could this glob be over a strict tool name?"""
    return _TOOL.fullmatch(glob) is not None
