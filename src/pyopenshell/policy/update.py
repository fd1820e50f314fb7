"""The mini-syntax of `policy update` and `policy edit`: words of a command line to merge operations.

Decides how an operation is spelled (contract/cli.md 4.2). What it does is `policy.merge`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from pyopenshell.policy.merge import (
    AddAllowRules,
    AddDenyRules,
    AddRule,
    MergeError,
    Operation,
    RemoveEndpoint,
    RemoveRule,
    Target,
    apply,
    generated_rule_name,
)
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.policy.problems import did_you_mean, shown
from pyopenshell.policy.schema import ACCESS, ENFORCEMENT, canonical_method, canonical_spelling

PROTOCOLS = ("tcp", "rest", "websocket")
FLAGS = ("allow-uninspected-credentials", "websocket-credential-rewrite", "request-body-credential-rewrite")
ALLOWED_IP = "allowed-ip"

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*):(.*)", re.DOTALL).fullmatch
_PORT = re.compile(r"[0-9]{1,5}").fullmatch


class SpecError(ValueError):
    """A word that is not an operation. The message is for the person who wrote it."""


def add_endpoint(spec: str, binaries: Sequence[str], rule_name: str = "") -> AddRule:
    """`host:port[:access[:protocol[:enforcement[:options]]]]`; empty middle fields are left at their default.

    An access preset without a protocol means rest: nothing else could apply it. Raises SpecError.
    """
    host, port, rest = _place(spec, "--add-endpoint")
    access, protocol, enforcement, options = (*rest, "", "", "", "")[:4]
    if len(rest) > 4:
        raise SpecError(f"--add-endpoint {shown(spec)} has too many fields (options may not contain ':')")
    if not binaries:
        raise SpecError("--add-endpoint needs --binary PATH, the program that may use it")
    _one_of("access", access, ACCESS, spec)
    _one_of("protocol", protocol, PROTOCOLS, spec)
    _one_of("enforcement", enforcement, ENFORCEMENT, spec)
    flags, networks = _options(options, spec)
    protocol = protocol or ("rest" if access else "")
    if "request-body-credential-rewrite" in flags and protocol != "rest":
        raise SpecError("option request-body-credential-rewrite needs protocol rest")
    if "websocket-credential-rewrite" in flags and protocol not in ("rest", "websocket"):
        raise SpecError("option websocket-credential-rewrite needs protocol rest or websocket")
    endpoint = Endpoint(
        host=canonical_spelling(host),
        ports=(port,),
        access=access,
        protocol=protocol,
        enforcement=enforcement or "enforce",
        allowed_ips=networks,
        allow_uninspected_credentials="allow-uninspected-credentials" in flags,
        websocket_credential_rewrite="websocket-credential-rewrite" in flags,
        request_body_credential_rewrite="request-body-credential-rewrite" in flags,
    )
    name = rule_name or generated_rule_name(host, port)
    return AddRule(name, Rule(name, (endpoint,), tuple(dict.fromkeys(binaries))))


def remove_endpoint(spec: str) -> RemoveEndpoint:
    """`host:port`. Raises SpecError."""
    host, port, rest = _place(spec, "--remove-endpoint")
    if rest:
        raise SpecError(f"--remove-endpoint takes host:port, got {shown(spec)}")
    return RemoveEndpoint(canonical_spelling(host), port)


def add_allow(spec: str, policy: Policy) -> AddAllowRules:
    """`host:port:METHOD:path`; the path may contain colons. Raises SpecError."""
    target, match = _matcher(spec, policy, "--add-allow")
    return AddAllowRules(target, (match,))


def add_deny(spec: str, policy: Policy) -> AddDenyRules:
    """`host:port:METHOD:path`; the path may contain colons. Raises SpecError."""
    target, match = _matcher(spec, policy, "--add-deny")
    return AddDenyRules(target, (match,))


def operations(
    policy: Policy,
    *,
    add_endpoints: Sequence[str] = (),
    remove_endpoints: Sequence[str] = (),
    remove_rules: Sequence[str] = (),
    add_allows: Sequence[str] = (),
    add_denies: Sequence[str] = (),
    binaries: Sequence[str] = (),
    rule_name: str = "",
) -> list[Operation]:
    """All operations of one command line in the order in which they apply.

    `policy`, with the endpoints and rules of the same line added and removed, tells which endpoint `host:port` of an
    allow or deny means. Raises SpecError.
    """
    if rule_name and len(add_endpoints) != 1:
        raise SpecError("--rule-name needs exactly one --add-endpoint")
    if binaries and not add_endpoints:
        raise SpecError("--binary needs --add-endpoint")
    out: list[Operation] = [add_endpoint(spec, binaries, rule_name) for spec in add_endpoints]
    out += [remove_endpoint(spec) for spec in remove_endpoints]
    out += [RemoveRule(name) for name in remove_rules]
    if out and (add_allows or add_denies):
        with contextlib.suppress(MergeError):  # said by whoever applies them
            policy = apply(policy, out).policy
    out += [add_allow(spec, policy) for spec in add_allows]
    out += [add_deny(spec, policy) for spec in add_denies]
    return out


def _place(spec: str, option: str) -> tuple[str, int, list[str]]:
    match = _HOST(spec)
    port, *rest = match.group(2).split(":") if match else ("",)
    if match is None or not match.group(1) or not _PORT(port) or not 1 <= int(port) <= 65535:
        raise SpecError(f"{option} begins with host:port, got {shown(spec)}")
    return match.group(1).strip("[]") if match.group(1).startswith("[") else match.group(1), int(port), rest


def _one_of(name: str, value: str, valid: Sequence[str], spec: str) -> None:
    if value and value not in valid:
        raise SpecError(f"unknown {name} {shown(value)} in {shown(spec)}; {did_you_mean(value, valid)}")


def _options(text: str, spec: str) -> tuple[set[str], tuple[str, ...]]:
    flags: set[str] = set()
    networks: list[str] = []
    for word in filter(None, text.split(",")):
        name, mark, value = word.partition("=")
        if name == ALLOWED_IP and value:
            networks.append(value)
        elif mark or name not in FLAGS:
            hint = did_you_mean(name, (*FLAGS, ALLOWED_IP + "=CIDR"))
            raise SpecError(f"unknown option {shown(word)} in {shown(spec)}; {hint}")
        else:
            flags.add(name)
    return flags, tuple(networks)


def _matcher(spec: str, policy: Policy, option: str) -> tuple[Target, L7Match]:
    host, port, rest = _place(spec, option)
    if len(rest) < 2 or not rest[0] or not rest[1]:
        raise SpecError(f"{option} takes host:port:METHOD:path, got {shown(spec)}")
    return _target(policy, canonical_spelling(host), port), L7Match(canonical_method(rest[0]), ":".join(rest[1:]))


def _target(policy: Policy, host: str, port: int) -> Target:
    """The one inspected endpoint that host and port mean. Raises SpecError when it is none or several."""
    found = [
        (rule, endpoint)
        for rule in policy.rules
        for endpoint in rule.endpoints
        if endpoint.host == host and port in endpoint.ports
    ]
    if not found:
        raise SpecError(f"endpoint {host}:{port} was not found in the current policy")
    if len(found) > 1:
        names = ", ".join(f"{shown(rule.key)}{' path ' + e.path if e.path else ''}" for rule, e in found)
        raise SpecError(f"endpoint {host}:{port} resolves to {len(found)} endpoints ({names}); edit the file instead")
    rule, endpoint = found[0]
    return Target(rule.key, host, endpoint.ports, endpoint.path, rule.binaries)
