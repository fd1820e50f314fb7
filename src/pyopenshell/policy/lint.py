"""What a valid policy says that its author may not have meant, rule by rule.

Decides from one endpoint or one list at a time; what rules mean together is `proof.lint`. A finding never makes a
policy invalid.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator

from pyopenshell.policy.content import MAX_HELD, content_limit
from pyopenshell.policy.coverage import binary_covers
from pyopenshell.policy.globs import ANYE, path_pattern
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.policy.nodes import MapNode, Node, ScalarNode, locate, parse_yaml
from pyopenshell.policy.problems import Problem, Where, problem, shown
from pyopenshell.policy.reach import always_blocked

INTERPRETERS = re.compile(
    r"(ba|da|z|k|c|tc|fi)?sh|busybox|env|xargs|sudo|(python|pypy|ruby|perl|php|lua|node)[0-9.]*|nodejs|deno|bun|java"
    r"|ld-linux.*|ld-musl.*|gdb|strace"
).fullmatch
"""Programs that run whatever they are given: the name of the binary then says little about who asks (attacks F-2)."""

CASE_INSENSITIVE = {"github.com": "owner and repository names", "gitlab.com": "group and project names"}
"""Domains whose servers treat paths as equal in any letter case (proof.md 2.5, decision 3)."""

CODES: dict[str, str] = {
    "any_binary": "Every program in the sandbox may use the rule.",
    "interpreter": "The binary runs whatever it is given, so the rule holds for every script.",
    "binary_redundant": "Another binary pattern of the same rule already covers this one.",
    "wildcard_host": "The wildcard allows names that somebody may register later.",
    "no_host": "Without a host, any name that resolves into `allowed_ips` is allowed.",
    "unreachable_host": "Loopback, link-local and cloud metadata are never dialled: the endpoint is dead.",
    "private_addresses": "`allowed_ips` opens private address ranges.",
    "not_inspected": "A raw endpoint on a web port: nobody looks into what passes.",
    "uninspected_credentials": "Credentials may travel where nobody looks.",
    "audit_mode": "Requests that the rules refuse are forwarded all the same.",
    "body_limit": "The proxy holds 64 MiB of bodies for judgement: a longer one is refused, whatever the limit says.",
    "everything": "Any method on any path: the endpoint is inspected, yet nothing is refused.",
    "writes_everywhere": "A method that changes things is allowed on every path.",
    "trailing_star": "`/a/*` also covers `/a/`, with an empty last segment.",
    "case_sensitive_deny": "The server ignores letter case, the deny rule does not.",
    "encoded_slash": "`%2F` inside a segment: servers disagree about what it means.",
    "tls_deprecated": "`terminate` and `passthrough` mean nothing: termination is decided automatically.",
    "key_ignored": "The key is read and ignored.",
    "filesystem_overlap": "A path is read-only and read-write at once; writing wins.",
}
"""Every code and its one sentence for the reference."""

_WRITES = {
    "rest": "POST, PUT and PATCH are allowed on every path",
    "websocket": "messages are allowed on every path",
    "graphql": "every mutation is allowed",
}
READS = ("GET", "HEAD", "OPTIONS")
WEB_PORTS = (80, 443, 8080, 8443)


def lint(policy: Policy) -> list[Problem]:
    """Findings about a valid policy, in the order of the policy."""
    found: list[Problem] = []
    if policy.filesystem is not None:
        both = set(policy.filesystem.read_only) & set(policy.filesystem.read_write)
        for index, path in enumerate(policy.filesystem.read_only):
            if path in both:
                where: Where = ("filesystem_policy", "read_only", index)
                found.append(_finding("filesystem_overlap", f"{shown(path)} is also read_write", where))
    for rule in policy.rules:
        found += _rule(rule, ("network_policies", rule.key))
    return found


def lint_text(text: str | bytes, filename: str, policy: Policy, findings: list[Problem]) -> list[Problem]:
    """`findings` with places in the text the policy was loaded from, and what only the text shows."""
    root = parse_yaml(text, filename)
    found = [*findings, *_written(root, ())]
    placed = []
    for one in found:
        line, column = locate(root, one.where)
        placed.append(dataclasses.replace(one, file=filename, line=line, column=column))
    return sorted(placed, key=lambda one: (one.line, one.column, one.code))


def _finding(code: str, message: str, where: Where, fix: str = "") -> Problem:
    assert code in CODES, code
    return problem(code, message, fix, where)


def _written(node: Node, where: Where) -> Iterator[Problem]:
    """Spellings that loading forgives and forgets."""
    if not isinstance(node, MapNode) or len(where) > 6:
        for index, item in enumerate(getattr(node, "items", ())):
            yield from _written(item, (*where, index))
        return
    for key, (_, value) in node.entries.items():
        place = (*where, key)
        if key == "tls" and isinstance(value, ScalarNode) and value.value in ("terminate", "passthrough"):
            yield _finding("tls_deprecated", f"tls: {value.value} means nothing", place, "remove it")
        elif key == "harness" and "binaries" in where:
            yield _finding("key_ignored", "harness is ignored", place, "remove it")
        elif key != "config":
            yield from _written(value, place)


def _rule(rule: Rule, where: Where) -> Iterator[Problem]:
    for index, binary in enumerate(rule.binaries):
        place = (*where, "binaries", index)
        if binary in ("/**", "/**/*"):
            yield _finding("any_binary", "any program may use this rule", place, "name the programs")
        elif INTERPRETERS(posixpath.basename(binary).rstrip("*")):
            yield _finding("interpreter", f"{shown(binary)} runs any script it is given", place)
        wider = next((o for j, o in enumerate(rule.binaries) if j != index and _covers(o, binary, j < index)), "")
        if wider:
            yield _finding("binary_redundant", f"{shown(wider)} already covers {shown(binary)}", place, "remove it")
    for index, endpoint in enumerate(rule.endpoints):
        for check in _CHECKS:
            yield from check(endpoint, (*where, "endpoints", index))


def _covers(wider: str, binary: str, first: bool) -> bool:
    return binary_covers(wider, binary) and (first or not binary_covers(binary, wider))


def _destination(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    reason = always_blocked(endpoint)
    if reason:
        yield _finding("unreachable_host", reason, where, "remove the endpoint")
    if "*" in endpoint.host:
        yield _finding("wildcard_host", f"{shown(endpoint.host)} is more than one host", (*where, "host"))
    elif not endpoint.host:
        yield _finding("no_host", "any name that resolves into allowed_ips is allowed", where, "name the host")
    private = [entry for entry in endpoint.allowed_ips if not _public(entry)]
    if private:
        yield _finding("private_addresses", f"opens private addresses: {', '.join(private)}", (*where, "allowed_ips"))


def _public(entry: str) -> bool:
    network = ipaddress.ip_network(entry)
    return network.is_global and network.network_address.is_global and network.broadcast_address.is_global


def _inspection(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    if endpoint.protocol == "" and endpoint.tls != "skip" and set(endpoint.ports) & set(WEB_PORTS):
        fix = "add `protocol: rest` and rules, or write `tls: skip` to say that it is meant"
        yield _finding("not_inspected", "traffic on a web port is not inspected", where, fix)
    if endpoint.allow_uninspected_credentials:
        place = (*where, "allow_uninspected_credentials")
        yield _finding("uninspected_credentials", "credentials may be used on uninspected traffic", place)
    if endpoint.enforcement == "audit":
        place = (*where, "enforcement")
        yield _finding("audit_mode", "requests that the rules refuse are forwarded", place, "write `enforce`")
    if content_limit(endpoint) > MAX_HELD:
        message = f"bodies of more than {MAX_HELD} bytes are refused although the limit is {content_limit(endpoint)}"
        yield _finding("body_limit", message, where, "lower the limit")
    if endpoint.allow_encoded_slash:
        yield _finding("encoded_slash", "paths with %2F are let through", (*where, "allow_encoded_slash"))


def _breadth(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    if endpoint.access == "full" and not endpoint.deny_rules:
        yield _finding("everything", "access: full allows every request", (*where, "access"), "write rules")
    elif endpoint.access == "read-write":
        yield _finding("writes_everywhere", _WRITES.get(endpoint.protocol, ""), (*where, "access"))
    for index, match in enumerate(endpoint.rules):
        place = (*where, "rules", index, "allow")
        if not match.path or path_pattern(match.path)[0] != "/**" or match.query:
            continue
        if match.method == "*" and not endpoint.deny_rules:
            yield _finding("everything", "method '*' on every path allows every request", place, "name the paths")
        elif match.method not in READS:
            yield _finding("writes_everywhere", f"{match.method} is allowed on every path", place, "name the paths")


def _paths(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    for index, match in enumerate(endpoint.rules):
        if _trailing_star(match):
            fix = f"write {match.path[:-1] + '?*'!r} for a name that is not empty"
            yield _finding("trailing_star", f"{shown(match.path)} also covers a trailing slash",
                           (*where, "rules", index, "allow", "path"), fix)  # fmt: skip
    named = next((d for d in CASE_INSENSITIVE if endpoint.host == d or endpoint.host.endswith("." + d)), "")
    if named and endpoint.path_case == "sensitive":
        for index, match in enumerate(endpoint.deny_rules):
            if re.search("[A-Za-z]", match.path):
                message = f"{CASE_INSENSITIVE[named]} of {named} ignore letter case, this deny does not"
                fix = "write `path_case: insensitive`"
                yield _finding("case_sensitive_deny", message, (*where, "deny_rules", index, "path"), fix)


def _trailing_star(match: L7Match) -> bool:
    if not match.path.endswith("/*"):
        return False
    tokens = path_pattern(match.path)[1]
    return tokens[-1][0] == ANYE and path_pattern(match.path)[0].endswith("/*")


_CHECKS: tuple[Callable[[Endpoint, Where], Iterator[Problem]], ...] = (_destination, _inspection, _breadth, _paths)
