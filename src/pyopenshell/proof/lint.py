"""What rules mean together: parts of a policy that change nothing, by exact comparison with the policy without them.

Decides redundancy only. Has no evaluator of its own: both policies are compiled and compared by `proof.diff`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pyopenshell.policy.conflicts import conflicts
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.policy.problems import Problem, Where, problem
from pyopenshell.policy.records import is_raw
from pyopenshell.proof.addresses import address_regions
from pyopenshell.proof.diff import Diff

CODES: dict[str, str] = {
    "redundant_rule": "Without the rule exactly the same is permitted.",
    "redundant_endpoint": "Without the endpoint exactly the same is permitted.",
    "redundant_allow": "Other rules already allow every request that this one does.",
    "dead_allow": "Every request that the rule allows is refused by deny rules.",
    "shadowed_raw": "An inspected endpoint takes over every connection that this raw one admits.",
    "dead_deny": "No request that the rule denies would be allowed without it.",
    "ambiguous": "Two endpoints treat the same traffic differently; the gateway refuses such a policy.",
    "not_compared": "The policy is too large to look for parts that change nothing.",
}
"""Every code and its one sentence for the reference."""

MAX_PARTS = 1000
"""Rules, endpoints and matchers that are taken out one by one; each costs about a millisecond."""

_UNMODELLED = (
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
    "credential_signing",
    "credential_provider",
)
"""What an endpoint may do beside permitting: where one is set, the endpoint is never called redundant."""


def lint(policy: Policy) -> list[Problem]:
    """Findings about a valid policy. Each finding holds when the parts found after it have been taken out already:
    of two equal rules the later one is found, never both."""
    found = [dataclasses.replace(one, code="ambiguous") for one in conflicts(policy)]
    parts = sum(1 + len(r.endpoints) + sum(len(e.rules) + len(e.deny_rules) for e in r.endpoints) for r in policy.rules)
    if parts > MAX_PARTS:
        message = f"{parts} rules and matchers are too many to look for some that change nothing (limit {MAX_PARTS})"
        return [*found, problem("not_compared", message, where=("network_policies",))]
    search = _Search(policy)
    for position in range(len(policy.rules) - 1, -1, -1):
        search.rule(position)
    return [*found, *reversed(search.found)]


class _Search:
    """Takes parts out of a policy from its end, as long as nothing changes."""

    def __init__(self, policy: Policy) -> None:
        self.rules: list[Rule] = list(policy.rules)
        self.found: list[Problem] = []
        self._base = policy
        self._engine = compile(policy)

    def _policy(self, rules: list[Rule]) -> Policy:
        return dataclasses.replace(self._base, rules=tuple(rules))

    def _without(self, position: int, rule: Rule | None) -> bool:
        """Take the change over if it permits exactly the same."""
        rules = [*self.rules[:position], *([rule] if rule is not None else []), *self.rules[position + 1 :]]
        engine = compile(self._policy(rules), self._engine)
        if not same(self._engine, engine):
            return False
        self.rules, self._engine = rules, engine
        return True

    def rule(self, position: int) -> None:
        rule = self.rules[position]
        where: Where = ("network_policies", rule.key)
        removable = not any(_does_more(endpoint) for endpoint in rule.endpoints)
        if removable and self._without(position, None):
            cause = "shadowed_raw" if all(map(is_raw, rule.endpoints)) and self._shadowed(rule) else "redundant_rule"
            self.found.append(problem(cause, _TEXT[cause], "remove the rule", where))
            return
        for index in range(len(rule.endpoints) - 1, -1, -1):
            self._endpoint(position, index, (*where, "endpoints", index))

    def _shadowed(self, rule: Rule) -> bool:
        """Does the rule permit something once every other rule is gone? Then an inspected one took it over."""
        others = [
            dataclasses.replace(r, endpoints=raw)
            for r in self.rules
            if (raw := tuple(e for e in r.endpoints if is_raw(e))) and r is not rule
        ]
        plain = compile(self._policy(others))
        return not same(compile(self._policy([*others, rule])), plain)

    def _endpoint(self, position: int, index: int, where: Where) -> None:
        rule = self.rules[position]
        endpoint = rule.endpoints[index]
        left = (*rule.endpoints[:index], *rule.endpoints[index + 1 :])
        if left and not _does_more(endpoint) and self._without(position, dataclasses.replace(rule, endpoints=left)):
            alone = dataclasses.replace(rule, endpoints=(endpoint,))
            cause = "shadowed_raw" if is_raw(endpoint) and self._shadowed(alone) else "redundant_endpoint"
            self.found.append(problem(cause, _TEXT[cause], "remove the endpoint", where))
            return
        for field in ("deny_rules", "rules"):
            self._matchers(position, index, field, where)

    def _matchers(self, position: int, index: int, field: str, where: Where) -> None:
        start: tuple[L7Match, ...] = getattr(self.rules[position].endpoints[index], field)
        for number in range(len(start) - 1, -1, -1):
            rule = self.rules[position]
            endpoint = rule.endpoints[index]
            matches: tuple[L7Match, ...] = getattr(endpoint, field)
            left = (*matches[:number], *matches[number + 1 :])
            place = (*where, field, number) if field == "deny_rules" else (*where, field, number, "allow")
            if self._without(position, _with(rule, index, field, left)):
                cause = "dead_deny" if field == "deny_rules" else self._cause(position, index, matches[number])
                self.found.append(problem(cause, _TEXT[cause], "remove it", place))

    def _cause(self, position: int, index: int, match: L7Match) -> str:
        """Is an allow without effect because others allow the same, or because denies refuse it?"""
        free = [_free(rule) for rule in self.rules]
        more = _with(free[position], index, "rules", (*free[position].endpoints[index].rules, match))
        before = compile(self._policy(free))
        after = compile(self._policy([*free[:position], more, *free[position + 1 :]]), before)
        return "redundant_allow" if same(before, after) else "dead_allow"


def _free(rule: Rule) -> Rule:
    return dataclasses.replace(rule, endpoints=tuple(dataclasses.replace(e, deny_rules=()) for e in rule.endpoints))


def _with(rule: Rule, index: int, field: str, matches: tuple[L7Match, ...]) -> Rule:
    endpoint = _replaced(rule.endpoints[index], field, matches)
    return dataclasses.replace(rule, endpoints=(*rule.endpoints[:index], endpoint, *rule.endpoints[index + 1 :]))


def _replaced(endpoint: Endpoint, field: str, matches: tuple[L7Match, ...]) -> Endpoint:
    if field == "rules":
        return dataclasses.replace(endpoint, rules=matches)
    return dataclasses.replace(endpoint, deny_rules=matches)


def _does_more(endpoint: Endpoint) -> bool:
    return any(getattr(endpoint, name) for name in _UNMODELLED)


def same(one: Engine, other: Engine) -> bool:
    """Do both permit exactly the same? False also when the comparison could not be finished."""
    return not any(_more(one, other)) and not any(_more(other, one))


def _more(after: Engine, before: Engine) -> Iterator[bool]:
    diff = Diff(after, before)
    yield bool(diff.findings(first_only=True))
    yield bool(list(address_regions(diff)))


_TEXT = {
    "redundant_rule": "changes nothing: exactly the same is permitted without this rule",
    "redundant_endpoint": "changes nothing: exactly the same is permitted without this endpoint",
    "redundant_allow": "changes nothing: every request it allows is already allowed",
    "dead_allow": "allows nothing: every request it matches is refused by deny rules",
    "shadowed_raw": "has no effect: inspected endpoints take over every connection it admits",
    "dead_deny": "has no effect: no request it matches is allowed anyway",
}
