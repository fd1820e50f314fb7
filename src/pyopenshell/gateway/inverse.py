"""The exact inverse of an approval: what the policy would be had this one never been given. Pure.

Must not know chunks or tables. It answers exactly or not at all; it never guesses which part of a rule came from whom.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pyopenshell.policy.canonical import rule_hash
from pyopenshell.policy.merge import AddRule, MergeError, apply
from pyopenshell.policy.model import Policy, Rule


class InexactError(Exception):
    """Something else changed what the approval changed. `keys` are the rules in question."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(", ".join(keys))
        self.keys = tuple(keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One approval that still stands: the rule it merged and the base policy right before and right after it."""

    rule_name: str
    rule: Rule
    before: Policy
    after: Policy


@dataclasses.dataclass(frozen=True, slots=True)
class Reverted:
    """The policy without the approval, and the later steps as they are without it (same order)."""

    policy: Policy
    later: tuple[Step, ...]


def revert(now: Policy, undone: Step, later: Sequence[Step]) -> Reverted:
    """Take `undone` out of `now`. `later` are the approvals after it, oldest first. Raises InexactError.

    The later approvals are merged again twice, once on what `undone` left and once on what it found. Where the two
    results differ, and only there, `undone` still matters: these rules must be in `now` exactly as the first result
    has them, and become what the second result has.
    """
    with_it, without = undone.after, undone.before
    steps: list[Step] = []
    for step in later:
        before = _patched(step.before, with_it, without)
        with_it, without = _again(with_it, step), _again(without, step)
        after = _patched(step.after, with_it, without)
        steps.append(step if before is None or after is None else dataclasses.replace(step, before=before, after=after))
    policy = _patched(now, with_it, without)
    if policy is None:
        raise InexactError(sorted(key for key in _changed(with_it, without) if _at(now, key) != _at(with_it, key)))
    return Reverted(policy, tuple(steps))


def _again(policy: Policy, step: Step) -> Policy:
    try:
        return apply(policy, [AddRule(step.rule_name, step.rule)]).policy
    except MergeError:
        # Impossible on this ground. If it matters, the result will not match `now` and the answer is InexactError.
        return policy


def _patched(policy: Policy, old: Policy, new: Policy) -> Policy | None:
    """`policy` with the change from `old` to `new`; None where it does not stand at `old` in a changed rule."""
    changed = _changed(old, new)
    if any(_at(policy, key) != _at(old, key) for key in changed):
        return None
    wanted = {rule.key: rule for rule in new.rules}
    rules = [wanted.get(rule.key, rule) if rule.key in changed else rule for rule in policy.rules]
    rules = [rule for rule in rules if rule.key not in changed or rule.key in wanted]
    present = {rule.key for rule in rules}
    rules += [rule for rule in new.rules if rule.key in changed and rule.key not in present]
    return dataclasses.replace(policy, rules=tuple(rules))


def _changed(old: Policy, new: Policy) -> set[str]:
    keys = {rule.key for rule in old.rules} | {rule.key for rule in new.rules}
    return {key for key in keys if _at(old, key) != _at(new, key)}


def _at(policy: Policy, key: str) -> str:
    """What stands under a key, by meaning: order and repetition do not matter. "" for nothing."""
    rule = policy.by_key().get(key)
    return rule_hash(rule) if rule is not None else ""
