"""Changes to a policy as operations: applied in order, all or none, and never wider than what they declare.

Decides what the policy becomes and when an operation must be refused. Must not know who asks, nor the store; what the
change means for a reviewer is `proof`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from pyopenshell.policy import coverage
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.conflicts import new_conflicts
from pyopenshell.policy.folding import MergeWarning, Refusal, fold
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.policy.problems import Problem, shown
from pyopenshell.policy.reach import always_blocked
from pyopenshell.policy.schema import canonical_spelling
from pyopenshell.policy.validate import is_reserved, validate_rule


@dataclasses.dataclass(frozen=True, slots=True)
class AddRule:
    """Grant what `rule` says, under `rule_name` or folded into a rule that stays exactly as wide as declared."""

    rule_name: str
    rule: Rule


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveEndpoint:
    """Take a port of a host away, from one rule or ("") from all; what becomes empty disappears."""

    host: str
    port: int
    rule_name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveRule:
    rule_name: str


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveBinary:
    """Take a binary from a rule; the last one takes the rule with it."""

    rule_name: str
    binary: str


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One inspected endpoint and its whole scope: ports and binaries must equal what is stored.

    `path` None means that the endpoint must be the only one for host and ports; "" means the one without a path.
    """

    rule_name: str
    host: str
    ports: tuple[int, ...]
    path: str | None = None
    binaries: tuple[str, ...] = ()
    any_binary: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class AddDenyRules:
    target: Target
    deny_rules: tuple[L7Match, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class AddAllowRules:
    target: Target
    rules: tuple[L7Match, ...]


Operation = AddRule | RemoveEndpoint | RemoveRule | RemoveBinary | AddDenyRules | AddAllowRules


class MergeError(ValueError):
    """An operation that cannot be applied. `kind` is "invalid_argument" (the operation itself is wrong) or
    "failed_precondition" (it does not fit this policy)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclasses.dataclass(frozen=True, slots=True)
class MergeResult:
    """`changed` is False when the policy means the same as before: then no new revision is due."""

    policy: Policy
    warnings: tuple[MergeWarning, ...]
    changed: bool


def apply(policy: Policy, operations: Iterable[Operation]) -> MergeResult:
    """The policy after all operations. Raises `MergeError`, and then nothing has happened."""
    warnings: list[MergeWarning] = []
    merged = policy
    for index, operation in enumerate(operations):
        merged = dataclasses.replace(merged, rules=_apply(merged.rules, operation, index, warnings))
    _refuse_new_conflicts(policy, merged)
    return MergeResult(merged, tuple(warnings), policy_hash(merged) != policy_hash(policy))


def generated_rule_name(host: str, port: int) -> str:
    """`allow_api_github_com_443` (contract/gateway.md 3.3)."""
    spelled = re.sub(r"[.-]", "_", canonical_spelling(host))
    return f"allow_{re.sub('[^A-Za-z0-9_]', '', spelled)}_{port}"


def _apply(rules: tuple[Rule, ...], operation: Operation, index: int, warnings: list[MergeWarning]) -> tuple[Rule, ...]:
    if isinstance(operation, AddRule):
        return _add_rule(rules, operation, index, warnings)
    if isinstance(operation, RemoveEndpoint):
        return _remove_endpoint(rules, operation, warnings)
    if isinstance(operation, RemoveRule):
        _refuse_reserved(operation.rule_name)
        return _without(rules, [rule for rule in rules if rule.key == operation.rule_name], warnings)
    if isinstance(operation, RemoveBinary):
        return _remove_binary(rules, operation, warnings)
    return _extend(rules, operation)


def _refuse_reserved(key: str) -> None:
    if is_reserved(key):
        raise MergeError(
            "invalid_argument", f"rule name {shown(key)} uses reserved '_provider_' prefix: provider rules are composed"
        )


def _refuse_problems(problems: Sequence[Problem]) -> None:
    if problems:
        raise MergeError("invalid_argument", "; ".join(str(found) for found in problems[:5]))


def _refuse_new_conflicts(before: Policy, after: Policy) -> None:
    new = new_conflicts(before, after)
    if new:
        shown_pairs = "; ".join(found.message for found in new[:5])
        raise MergeError("failed_precondition", f"would carry more than one inspection contract: {shown_pairs}")


# ---- add_rule --------------------------------------------------------------------------------------------------------


def _add_rule(
    rules: tuple[Rule, ...], operation: AddRule, index: int, warnings: list[MergeWarning]
) -> tuple[Rule, ...]:
    name = operation.rule_name.strip()
    if not name:
        raise MergeError("invalid_argument", "add-rule operation requires a rule name")
    if not operation.rule.endpoints:
        raise MergeError(
            "invalid_argument", f"merge operation {index} add-rule {shown(name)} must contain at least one endpoint"
        )
    _refuse_reserved(name)
    incoming = dataclasses.replace(operation.rule, key=name)
    _refuse_problems(validate_rule(incoming))
    for endpoint in incoming.endpoints:
        reason = always_blocked(endpoint)
        if reason:
            raise MergeError("invalid_argument", f"add-rule {shown(name)}: {reason}")
    target = next((rule for rule in rules if rule.key == name), None)
    if target is not None:
        outcome = fold(target, incoming, named=True)
        if isinstance(outcome, Refusal):
            raise MergeError("failed_precondition", f"add-rule {shown(name)} {outcome.message}")
    else:
        target = _sharing(rules, incoming)
        outcome = Refusal("") if target is None else fold(target, incoming, named=False)
        if isinstance(outcome, Refusal):
            if target is not None:
                warnings.append(
                    MergeWarning(
                        "kept_requested_rule_name",
                        f"kept {shown(name)} as a rule of its own: {shown(target.key)} {outcome.message}",
                    )
                )
            return (*rules, incoming)
    assert target is not None
    merged, notes = outcome
    warnings += notes
    return tuple(merged if rule.key == target.key else rule for rule in rules)


def _sharing(rules: tuple[Rule, ...], incoming: Rule) -> Rule | None:
    """The first rule by name that has an endpoint in common: same host and path, overlapping ports."""
    wanted = [(endpoint.host, endpoint.path, set(endpoint.ports)) for endpoint in incoming.endpoints]
    for rule in sorted(rules, key=lambda rule: rule.key):
        if is_reserved(rule.key):
            continue
        for endpoint in rule.endpoints:
            for host, path, ports in wanted:
                if endpoint.host == host and endpoint.path == path and ports & set(endpoint.ports):
                    return rule
    return None


def observation(policy: Policy, operation: AddRule) -> AddRule:
    """What a mechanistic observation becomes: it adopts the one contract its destination already has.

    Only for rules with one endpoint and one port and no protocol of their own; agents' rules are used as submitted.
    Raises `MergeError` when the destination has several contracts (contract/gateway.md 3.3).
    """
    rule = operation.rule
    if len(rule.endpoints) != 1 or len(rule.endpoints[0].ports) != 1 or rule.endpoints[0].protocol:
        return operation
    endpoint, port = rule.endpoints[0], rule.endpoints[0].ports[0]
    known = [
        (owner, e) for owner in policy.rules for e in owner.endpoints if e.host == endpoint.host and port in e.ports
    ]
    contracts = {dataclasses.replace(e, ports=(port,), advisor_proposed=True): e for _, e in known}
    if not contracts:
        return operation
    if len(contracts) > 1:
        raise MergeError(
            "failed_precondition", f"cannot infer one existing endpoint contract for {endpoint.host}:{port}"
        )
    (adopted,) = contracts
    key = _overlay_key({owner.key for owner in policy.rules}, operation.rule_name)
    return AddRule(key, dataclasses.replace(rule, key=key, endpoints=(adopted,)))


def _overlay_key(taken: set[str], name: str) -> str:
    number, key = 1, name
    while key in taken:
        number += 1
        key = f"{name}_{number}"
    return key


# ---- removals --------------------------------------------------------------------------------------------------------


def _without(rules: tuple[Rule, ...], gone: Sequence[Rule], warnings: list[MergeWarning]) -> tuple[Rule, ...]:
    """The rules without some; says so when that uncovers raw traffic that was inspected until now."""
    kept = tuple(rule for rule in rules if rule not in gone)
    for rule in gone:
        _warn_uncovered(kept, rule.endpoints, rule.binaries, warnings)
    return kept


def _warn_uncovered(
    kept: Sequence[Rule], gone: Iterable[Endpoint], binaries: Sequence[str], warnings: list[MergeWarning]
) -> None:
    for endpoint in gone:
        if not endpoint.inspected:
            continue
        for rule in kept:
            meets = any(coverage.binary_overlaps(a, b) for a in rule.binaries for b in binaries)
            for other in rule.endpoints if meets else ():
                shared = set(other.ports) & set(endpoint.ports)
                if not other.inspected and shared and coverage.host_overlaps(other.host, endpoint.host):
                    where = f"{other.host}:{min(shared)} by rule {shown(rule.key)}"
                    message = f"raw traffic to {where} is no longer inspected"
                    warnings.append(MergeWarning("inspection_removed", message))


def _remove_endpoint(
    rules: tuple[Rule, ...], operation: RemoveEndpoint, warnings: list[MergeWarning]
) -> tuple[Rule, ...]:
    host = canonical_spelling(operation.host.strip())
    if not host or not 1 <= operation.port <= 65535:
        raise MergeError("invalid_argument", "remove-endpoint needs a host and a port from 1 to 65535")
    if operation.rule_name:
        _refuse_reserved(operation.rule_name)
    kept: list[Rule] = []
    gone: list[tuple[Rule, Endpoint]] = []
    for rule in rules:
        if is_reserved(rule.key) or operation.rule_name not in ("", rule.key):
            kept.append(rule)
            continue
        endpoints: list[Endpoint] = []
        for endpoint in rule.endpoints:
            if endpoint.host != host or operation.port not in endpoint.ports:
                endpoints.append(endpoint)
                continue
            gone.append((rule, dataclasses.replace(endpoint, ports=(operation.port,))))
            ports = tuple(port for port in endpoint.ports if port != operation.port)
            if ports:
                endpoints.append(dataclasses.replace(endpoint, ports=ports))
        if endpoints:
            kept.append(dataclasses.replace(rule, endpoints=tuple(endpoints)))
    for rule, endpoint in gone:
        _warn_uncovered(kept, [endpoint], rule.binaries, warnings)
    return tuple(kept)


def _remove_binary(rules: tuple[Rule, ...], operation: RemoveBinary, warnings: list[MergeWarning]) -> tuple[Rule, ...]:
    if not operation.rule_name.strip() or not operation.binary.strip():
        raise MergeError("invalid_argument", "remove-binary needs a rule name and a binary")
    _refuse_reserved(operation.rule_name)
    rule = next((rule for rule in rules if rule.key == operation.rule_name), None)
    if rule is None:
        return rules
    left = tuple(binary for binary in rule.binaries if binary != operation.binary)
    wider = next((pattern for pattern in left if coverage.binary_covers(pattern, operation.binary)), "")
    if wider:
        scope = "the rule authorizes any binary" if wider == "/**" else f"{shown(wider)} still covers it"
        raise MergeError(
            "failed_precondition",
            f"cannot remove binary {shown(operation.binary)} from rule {shown(rule.key)} because {scope}; "
            "name the binaries that should stay instead",
        )
    if not left:
        return _without(rules, [rule], warnings)
    if left != rule.binaries:
        _warn_uncovered([r for r in rules if r is not rule], rule.endpoints, [operation.binary], warnings)
    return tuple(dataclasses.replace(rule, binaries=left) if r is rule else r for r in rules)


# ---- more rules for one endpoint -------------------------------------------------------------------------------------


def _extend(rules: tuple[Rule, ...], operation: AddDenyRules | AddAllowRules) -> tuple[Rule, ...]:
    denies = isinstance(operation, AddDenyRules)
    added = operation.deny_rules if isinstance(operation, AddDenyRules) else operation.rules
    if not added:
        raise MergeError("invalid_argument", f"{'add-deny' if denies else 'add-allow'} needs at least one rule")
    rule, index = _resolve(rules, operation.target)
    endpoint = rule.endpoints[index]
    place = f"endpoint {endpoint.host}:{','.join(map(str, endpoint.ports))} in rule {shown(rule.key)}"
    if not endpoint.protocol:
        raise MergeError("failed_precondition", f"{place} has no L7 inspection configured (protocol is empty)")
    if endpoint.protocol not in ("rest", "websocket"):
        raise MergeError("failed_precondition", f"{place} uses unsupported protocol {shown(endpoint.protocol)}")
    if denies and not coverage.allows_of(endpoint):
        raise MergeError("failed_precondition", f"{place} has no base allow set; add allow rules first")
    if isinstance(operation, AddDenyRules):
        changed = dataclasses.replace(endpoint, deny_rules=unique(endpoint.deny_rules, added))
    else:
        allows = coverage.allows_of(endpoint)
        new = [match for match in added if not any(coverage.match_covers(have, match) for have in allows)]
        # The preset stays where nothing is added: it reads better than what it stands for.
        changed = dataclasses.replace(endpoint, access="", rules=unique(allows, new)) if new else endpoint
    result = dataclasses.replace(rule, endpoints=(*rule.endpoints[:index], changed, *rule.endpoints[index + 1 :]))
    _refuse_problems(validate_rule(result))
    return tuple(result if r is rule else r for r in rules)


def _resolve(rules: tuple[Rule, ...], target: Target) -> tuple[Rule, int]:
    if not target.rule_name.strip() or not target.host.strip() or not target.ports:
        raise MergeError("invalid_argument", "a target needs rule_name, host and its complete port set")
    _refuse_reserved(target.rule_name)
    host = canonical_spelling(target.host.strip())
    where = f"{host}:{','.join(map(str, target.ports))}"
    rule = next((rule for rule in rules if rule.key == target.rule_name), None)
    found = [
        index
        for index, endpoint in enumerate(rule.endpoints if rule else ())
        if endpoint.host == host
        and set(endpoint.ports) == set(target.ports)
        and (target.path is None or endpoint.path == target.path)
    ]
    if rule is None or not found:
        raise MergeError(
            "failed_precondition",
            f"endpoint {where} of rule {shown(target.rule_name)} was not found in the current policy",
        )
    if len(found) > 1:
        raise MergeError(
            "failed_precondition", f"endpoint {where} resolves to {len(found)} endpoints; name the target's path"
        )
    declared = {"/**"} if target.any_binary else set(target.binaries)
    if declared != set(rule.binaries):
        stored = ", ".join(map(shown, rule.binaries))
        raise MergeError(
            "failed_precondition", f"the target's binaries differ from those of rule {shown(rule.key)}: {stored}"
        )
    return rule, found[0]


def unique(have: Sequence[L7Match], more: Iterable[L7Match]) -> tuple[L7Match, ...]:
    return tuple(dict.fromkeys((*have, *more)))


__all__ = [
    "AddAllowRules",
    "AddDenyRules",
    "AddRule",
    "MergeError",
    "MergeResult",
    "MergeWarning",
    "Operation",
    "RemoveBinary",
    "RemoveEndpoint",
    "RemoveRule",
    "Target",
    "apply",
    "generated_rule_name",
    "observation",
]
