"""What an agent may submit at `policy.local`: strict JSON to rules, or a sentence that says what to change.

Decides the shape of a proposal. Must not know sockets, nor whether the gateway will accept the rule. Everything in the
text is hostile data.
"""

from __future__ import annotations

import dataclasses
import re

from pyopenshell.policy.merge import AddRule
from pyopenshell.policy.model import Endpoint, Rule
from pyopenshell.policy.nodes import JsonError, ListNode, MapNode, ScalarNode, parse_json
from pyopenshell.policy.problems import Problems, shown, where_text
from pyopenshell.policy.reach import always_blocked
from pyopenshell.policy.schema import CORE_ENDPOINT_KEYS, Cursor, read_rule, take
from pyopenshell.policy.validate import is_reserved, validate_rule

MAX_BODY = 65536
"""Bytes (contract/sandbox.md 6.1)."""
MAX_OPERATIONS = 16
"""A reviewer reads every one of them."""
MAX_SUMMARY = 4096
_MAX_REPORTED = 5
_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}")


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """What was asked for. `ignored` names what was understood but is never granted to a proposal, for agent and
    reviewer; the rules in `operations` do not contain it."""

    intent_summary: str
    operations: tuple[AddRule, ...]
    ignored: tuple[str, ...] = ()


class ProposalError(ValueError):
    """A body that is no proposal. `detail` tells the agent what to change (400 `invalid_proposal`)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def parse(body: bytes) -> Proposal:
    """The proposal in `body`. Raises `ProposalError`.

    Endpoints are flagged `advisor_proposed`. `allowed_ips` is read and reported but never taken over: reach into
    private networks is the operator's to grant (contract/sandbox.md 0.10).
    """
    if len(body) > MAX_BODY:
        raise ProposalError(f"the body is larger than {MAX_BODY} bytes")
    try:
        root = parse_json(body)
    except JsonError as error:
        raise ProposalError(str(error)) from None
    problems = Problems()
    fields = Cursor(root, (), problems).fields(("intent_summary", "operations"), "an object with operations")
    summary = take(fields, "intent_summary", _summary, "")
    _raise(problems)
    items = take(fields, "operations", lambda cursor: cursor.items("a list of operations"), [])
    _raise(problems)
    if not items:
        raise ProposalError("proposal requires at least one operation")
    if len(items) > MAX_OPERATIONS:
        raise ProposalError(f"proposal has more than {MAX_OPERATIONS} operations")
    ignored: list[str] = []
    operations = tuple(_operation(item, ignored) for item in items)
    return Proposal(summary, operations, tuple(ignored))


def _summary(cursor: Cursor) -> str:
    text = cursor.text()
    if len(text) > MAX_SUMMARY:
        cursor.refuse("too_long", f"intent_summary is longer than {MAX_SUMMARY} characters")
    return text


def _operation(cursor: Cursor, ignored: list[str]) -> AddRule:
    if not isinstance(cursor.node, MapNode) or "addRule" not in cursor.node.entries:
        found = ", ".join(map(shown, cursor.node.entries)) if isinstance(cursor.node, MapNode) else cursor.node.kind
        raise ProposalError(
            "this MVP accepts `addRule` operations; submit a full narrow NetworkPolicyRule"
            f" (found {found[:200] or 'an empty object'} in {where_text(cursor.where)})"
        )
    fields = cursor.fields(("addRule",))
    _raise(cursor.problems)
    add = fields["addRule"].fields(("ruleName", "rule"), "an object with ruleName and rule")
    name = take(add, "ruleName", Cursor.text, "")
    _raise(cursor.problems)
    if "rule" not in add:
        raise ProposalError(f"{where_text(fields['addRule'].where)}.rule is required")
    rule = read_rule(add["rule"], "", CORE_ENDPOINT_KEYS)
    _refuse_missing(add["rule"], name or rule.name)
    _raise(cursor.problems)
    name = (name or rule.name).strip()
    rule = dataclasses.replace(rule, key=name, endpoints=tuple(_take_over(e, ignored) for e in rule.endpoints))
    _check(rule, add["rule"])
    return AddRule(name, rule)


def _refuse_missing(cursor: Cursor, name: str) -> None:
    """The refusals whose sentences the contract fixes come before everything else that may be wrong."""
    if not isinstance(cursor.node, MapNode):
        return
    if not name.strip() and not cursor.problems:
        raise ProposalError("addRule.ruleName or rule.name is required")
    entry = cursor.node.entries.get("endpoints")
    if entry is None or (isinstance(entry[1], ListNode) and not entry[1].items):
        _raise(cursor.problems)
        raise ProposalError("rule.endpoints must contain at least one endpoint")
    if not isinstance(entry[1], ListNode):
        return
    for node in entry[1].items:
        if not isinstance(node, MapNode):
            continue
        _raise(cursor.problems)
        if _blank(node, "host"):
            raise ProposalError("endpoint.host is required")
        if "port" not in node.entries and "ports" not in node.entries:
            raise ProposalError("endpoint.port or endpoint.ports is required")


def _blank(node: MapNode, key: str) -> bool:
    if key not in node.entries:
        return True
    value = node.entries[key][1]
    return isinstance(value, ScalarNode) and isinstance(value.value, str) and not value.value.strip()


def _take_over(endpoint: Endpoint, ignored: list[str]) -> Endpoint:
    if endpoint.allowed_ips:
        ports = ",".join(map(str, endpoint.ports))
        ignored.append(
            f"allowed_ips of {endpoint.host}:{ports} ({', '.join(map(shown, endpoint.allowed_ips[:8]))}) was not taken "
            "over: a proposal never opens private addresses; the operator can add it to the policy"
        )
    return dataclasses.replace(endpoint, allowed_ips=(), advisor_proposed=True)


def _check(rule: Rule, cursor: Cursor) -> None:
    if not _RULE_NAME.fullmatch(rule.key):
        raise ProposalError(
            "addRule.ruleName must be 1 to 100 ASCII letters, digits, spaces or . _ / - and start with a letter or "
            f"digit, not {shown(rule.key)}"
        )
    if is_reserved(rule.key) or is_reserved(rule.name):
        raise ProposalError(f"addRule.ruleName {shown(rule.key)} uses the reserved '_provider_' prefix")
    for endpoint in rule.endpoints:
        _refuse_endpoint(endpoint)
    problems = validate_rule(rule, cursor.where)
    prefix = f"network policy {shown(rule.key)}: "
    _raise(
        Problems(
            dataclasses.replace(p, message=p.message.removeprefix(prefix), fix=_JSON_FIXES.get(p.code, p.fix))
            for p in problems
        )
    )


_JSON_FIXES = {
    "binaries_empty": 'add "binaries": [{"path": "/usr/bin/curl"}] with the binary of your denied request',
    "base_missing": 'add "rules": [{"allow": {"method": "GET", "path": "/exact/path"}}]',
    "protocol_missing": 'add "protocol": "rest"',
    "method_missing": 'add "method": "GET" (or the one that was denied)',
    "path_missing": 'add "path": "/exact/path"',
}
"""The same advice as for a policy file, in the form and the narrowness that a proposal needs."""


def _refuse_endpoint(endpoint: Endpoint) -> None:
    where = f"{shown(endpoint.host)[1:-1]}:{','.join(map(str, endpoint.ports))}"
    if any("?" in match.path for match in (*endpoint.rules, *endpoint.deny_rules)):
        raise ProposalError('L7 allow paths must not include query strings; use `query`: {"key": "glob"}')
    if endpoint.protocol == "tcp":
        raise ProposalError(
            f"agent-authored proposals cannot request protocol tcp ({where}); leave protocol out, or use rest"
        )
    if endpoint.tls == "skip":
        raise ProposalError(f"agent-authored proposals cannot request tls: skip ({where}); leave tls out")
    blocked = always_blocked(endpoint)
    if blocked:
        raise ProposalError(blocked)


def _raise(problems: Problems) -> None:
    if problems:
        more = len(problems) + problems.more - _MAX_REPORTED
        detail = "; ".join(str(found) for found in problems[:_MAX_REPORTED])
        raise ProposalError(detail + (f"; and {more} more" if more > 0 else ""))


__all__ = ["MAX_BODY", "Proposal", "ProposalError", "parse"]
