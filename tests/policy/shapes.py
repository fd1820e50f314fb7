"""Policies of ten thousand things in every distribution, each with one change: what recompiling must cost little for.

`shapes(count)` yields (name, before, after); `after` shares every object with `before` but those that changed, as
merging and editing leave them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from tests.policy.generate import large

CURL = ("/usr/bin/curl",)


def _matches(count: int) -> tuple[L7Match, ...]:
    return tuple(L7Match("GET", f"/repos/org{i % 97}/repo{i}/**") for i in range(count))


def _rest(host: str, *matches: L7Match) -> Endpoint:
    return Endpoint(host, (443,), protocol="rest", enforcement="enforce", rules=matches)


def _one_matcher(policy: Policy, *, add: bool) -> Policy:
    """The last matcher of the middle rule's first endpoint taken away, or one put in the middle."""
    middle = len(policy.rules) // 2
    rule = policy.rules[middle]
    endpoint = rule.endpoints[0]
    if add:
        at = len(endpoint.rules) // 2
        rules = (*endpoint.rules[:at], L7Match("PUT", "/new/*/thing"), *endpoint.rules[at:])
    else:
        rules = endpoint.rules[:-1]
    return _with_rule(policy, middle, _with_endpoint(rule, 0, dataclasses.replace(endpoint, rules=rules)))


def _with_endpoint(rule: Rule, at: int, endpoint: Endpoint) -> Rule:
    return dataclasses.replace(rule, endpoints=(*rule.endpoints[:at], endpoint, *rule.endpoints[at + 1 :]))


def _with_rule(policy: Policy, at: int, *rules: Rule) -> Policy:
    return dataclasses.replace(policy, rules=(*policy.rules[:at], *rules, *policy.rules[at + 1 :]))


def shapes(count: int) -> Iterator[tuple[str, Policy, Policy]]:
    middle = count // 2
    spread = large(count)
    yield "matchers over endpoints, one less", spread, _one_matcher(spread, add=False)
    rules = large(5 * count, per_endpoint=5)
    yield "rules, one less matcher", rules, _one_matcher(rules, add=False)
    yield "rules, one less rule", rules, _with_rule(rules, middle)
    extra = Rule("extra", (_rest("extra.example.com", *_matches(1)),), CURL)
    yield "rules, one more rule", rules, _with_rule(rules, middle, rules.rules[middle], extra)
    other = dataclasses.replace(rules.rules[middle], binaries=("/usr/bin/never-seen", "/opt/**/new*"))
    yield "rules, other binaries in one", rules, _with_rule(rules, middle, other)
    dense = large(count, dense=True)
    yield "matchers on one endpoint, one less", dense, _one_matcher(dense, add=False)
    yield "matchers on one endpoint, one more", dense, _one_matcher(dense, add=True)
    denies = Policy(
        rules=(Rule("r", (dataclasses.replace(_rest("a.test"), access="full", deny_rules=_matches(count)),), CURL),)
    )
    fewer = dataclasses.replace(denies.rules[0].endpoints[0], deny_rules=denies.rules[0].endpoints[0].deny_rules[1:])
    yield "denies on one endpoint, one less", denies, _with_rule(denies, 0, _with_endpoint(denies.rules[0], 0, fewer))
    same = Policy(rules=tuple(Rule(f"r{i}", (_rest("a.test", m),), CURL) for i, m in enumerate(_matches(count))))
    yield "rules on one place, one less", same, _with_rule(same, middle)
    yield "rules on one place, one changed", same, _one_matcher(same, add=True)
    many = Policy(rules=(Rule("r", tuple(_rest(f"h{i}.test", m) for i, m in enumerate(_matches(count))), CURL),))
    changed = _with_endpoint(many.rules[0], middle, _rest(f"h{middle}.test", *_matches(2)))
    yield "endpoints of one rule, one changed", many, _with_rule(many, 0, changed)
    wild = Policy(rules=tuple(Rule(f"r{i}", (_rest(f"*.h{i}.test", m),), CURL) for i, m in enumerate(_matches(count))))
    yield "wildcard hosts, one changed", wild, _one_matcher(wild, add=True)
    yield "wildcard hosts, one less", wild, _with_rule(wild, middle)
    globs = Policy(
        rules=tuple(Rule(f"r{i}", (_rest("a.test", m),), (f"/opt/t{i}/*",)) for i, m in enumerate(_matches(count)))
    )
    yield "programs, one changed", globs, _one_matcher(globs, add=True)
    yield "programs, one less", globs, _with_rule(globs, middle)
    crowd = Policy(
        rules=tuple(Rule(f"r{i}", (_rest("*.a.test", m),), (f"/opt/t{i}/*",)) for i, m in enumerate(_matches(count)))
    )
    yield "programs at a wildcard host, one less", crowd, _with_rule(crowd, middle)
    ports = Policy(
        rules=tuple(
            Rule(f"r{i}", (dataclasses.replace(_rest("a.test", m), ports=(i + 1,)),), CURL)
            for i, m in enumerate(_matches(count))
        )
    )
    yield "ports of one host, one changed", ports, _one_matcher(ports, add=True)
    whole = Policy(
        rules=(Rule("r", (_rest("a.test", *_matches(1)),), tuple(f"/opt/t{i}/*" for i in range(count))),),
    )
    yield "programs of one rule, one more matcher", whole, _one_matcher(whole, add=True)
    fewer_names = dataclasses.replace(whole.rules[0], binaries=whole.rules[0].binaries[1:])
    yield "programs of one rule, one less", whole, _with_rule(whole, 0, fewer_names)
    nets = Policy(
        rules=tuple(
            Rule(f"r{i}", (dataclasses.replace(_rest("", m), allowed_ips=(f"10.{i // 256}.{i % 256}.0/24",)),), CURL)
            for i, m in enumerate(_matches(count))
        )
    )
    yield "networks without a host, one changed", nets, _one_matcher(nets, add=True)
    scoped = Policy(
        rules=tuple(
            Rule(f"r{i}", (dataclasses.replace(_rest("a.test", m), path=f"/repos/org{i % 97}/repo{i}/**"),), CURL)
            for i, m in enumerate(_matches(count))
        )
    )
    yield "endpoint paths on one host, one changed", scoped, _one_matcher(scoped, add=True)
    folded = Policy(
        rules=(
            Rule(
                "r",
                (
                    dataclasses.replace(
                        _rest("a.test"), access="full", path_case="insensitive", deny_rules=_matches(count)
                    ),
                ),
                CURL,
            ),
        )
    )
    few = dataclasses.replace(folded.rules[0].endpoints[0], deny_rules=folded.rules[0].endpoints[0].deny_rules[1:])
    yield "denies in any case, one less", folded, _with_rule(folded, 0, _with_endpoint(folded.rules[0], 0, few))
