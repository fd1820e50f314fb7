"""What a proposal would do to the policy that is in force: candidate, proof, findings, review token.

Pure: same ground and same proposal, same evaluation. Decides nothing; `inbox` does. (contract/gateway.md 4.2, 4.3, 6)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.revisions import hash_of
from pyopenshell.policy.canonical import rule_hash
from pyopenshell.policy.compose import effective
from pyopenshell.policy.conflicts import conflicts
from pyopenshell.policy.coverage import covers, host_overlaps
from pyopenshell.policy.engine import Engine, related
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.merge import AddRule, MergeError, apply, observation
from pyopenshell.policy.model import Endpoint, Policy, Rule
from pyopenshell.policy.problems import Problem
from pyopenshell.policy.validate import validate
from pyopenshell.proof.delta import Delta, delta_of
from pyopenshell.proof.findings import findings, render
from pyopenshell.proof.notes import security_notes
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import pyopenshell_pb2

MECHANISTIC: Final = "mechanistic"
NO_FINDINGS: Final = "prover: no new findings"
MAX_REGIONS: Final = 200
MAX_FINDINGS: Final = 100
"""What one card shows; a proposal beyond it is for its author to split."""
UNAVAILABLE: Final = "prover validation unavailable; proposal cannot be reviewed"
_REVIEW_FORMAT: Final = "pyopenshell-review-v2"
_REMEMBERED: Final = 8


class _Engines:
    """Engines of the last policies. One that has most of its rules from another shares what was compiled for them."""

    def __init__(self) -> None:
        self._known: dict[int, Engine] = {}
        self._lock = threading.Lock()

    def __call__(self, policy: Policy) -> Engine:
        with self._lock:
            engine = self._known.pop(id(policy), None)
            if engine is None:
                near = next((other for other in reversed(self._known.values()) if related(other.policy, policy)), None)
                engine = compile_policy(policy, reuse=near)
            self._known[id(policy)] = engine  # holds the policy, so that an identity is never reused
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
            return engine


_engine: Final = _Engines()


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What proposals of one sandbox are judged against, read once per transaction.

    `base` is the sandbox's own policy, `current` what is enforced (global policy, provider layers), `everywhere` the
    global policy, `credentialed` the hosts that a credential is injected for.
    """

    base: Policy
    current: Policy
    everywhere: Policy | None = None
    credentialed: frozenset[str] = frozenset()

    def compose(self, base: Policy) -> Policy:
        return effective(self.everywhere, base, {})

    def covers(self, rule: Rule) -> bool:
        """Is everything `rule` asks for allowed already?"""
        return covers(self.current, rule)


def ground(base: Policy, everywhere: Policy | None) -> Ground:
    return Ground(base=base, current=effective(everywhere, base, {}), everywhere=everywhere)


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal merged. `merged` is the new base policy, None when `error` says why it cannot be applied.

    `rule_name` and `rule` are what would really be merged (mechanistic observations adopt an existing contract).
    Hashes are of effective policies; "" without a candidate. `token` stands for everything the reviewer is shown: it
    stays the same while nothing changes that the proposal has to do with.
    """

    rule_name: str
    rule: Rule
    current_hash: str
    merged: Policy | None = None
    effective: Policy | None = None
    candidate_hash: str = ""
    error: str = ""
    token: str = ""
    evidence: str = ""
    """Digest of what is asked for and of the policy for it, under whatever name; then one of the author's words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """A candidate with its proof. `validation_result` is "" where there is no candidate."""

    candidate: Candidate
    notes: str
    validation_result: str = ""
    review: bytes = b""  # pyopenshell.v1.ChunkReview with `newly_permits` and `proven` alone
    proven: bool = False


def candidate(on: Ground, mode: str, rule_name: str, rule: Rule, rationale: str, *, valid_hash: str = "") -> Candidate:
    """Merge one proposal: no proof. Never raises for a bad proposal; `error` says what is wrong with it.

    `valid_hash` is the hash of a candidate that was found valid before: the same result needs no second check.
    """
    current_hash = hash_of(on.current)
    error, merged, composed = "", None, None
    if mode == MECHANISTIC:
        try:
            observed = observation(on.current, AddRule(rule_name, rule))
            rule_name, rule = observed.rule_name, observed.rule
        except MergeError as problem:
            error = f"candidate canonicalization failed: {problem.message}"
    if not error:
        try:
            merged = apply(on.base, [AddRule(rule_name, rule)]).policy
        except MergeError as problem:
            error = f"merge failed: {problem.message}"
    if merged is not None:
        composed = on.compose(merged)
        if hash_of(composed) != valid_hash and (problems := policy_problems(composed)):
            error, merged, composed = f"candidate invalid: {problems}", None, None
    candidate_hash = hash_of(composed) if composed is not None else ""
    ground, unnamed = _concerned(on, rule_name, rule, composed), _concerned(on, None, rule, None)
    return Candidate(
        rule_name=rule_name,
        rule=rule,
        current_hash=current_hash,
        merged=merged,
        effective=composed,
        candidate_hash=candidate_hash,
        error=error,
        token=review_token(rule_name, rule, rationale, ground, error),
        evidence=f"{_digest(class_of(rule), unnamed)}:{_digest(' '.join(rationale.casefold().split()))}",
    )


def evaluate(on: Ground, made: Candidate) -> Evaluation:
    """Prove what `made` would newly permit. Without a proof it is unreviewable, never approved."""
    notes = security_notes(made.rule)
    if made.effective is None:
        return Evaluation(made, notes)
    try:
        before = _engine(on.current)
        change = delta_of(before, compile_policy(made.effective, reuse=before))
        result = render(findings(before, change, on.credentialed))
    except (ValueError, ArithmeticError, LookupError, RecursionError, MemoryError):
        failed = dataclasses.replace(made, error=UNAVAILABLE, merged=None)
        return Evaluation(failed, notes, "validation unavailable")
    shown = _review(change)
    return Evaluation(made, notes, _shortened(result), shown.SerializeToString(deterministic=True), shown.proven)


def may_auto_approve(on: Ground, done: Evaluation, reviewed: Policy) -> bool:
    """The gate of contract/gateway.md 6.1, judged on the total since a person last looked (attack G-4).

    `reviewed` is the newest base policy a person had a hand in. Private reach is never automatic (attack G-9).
    """
    made = done.candidate
    if made.error or made.effective is None or done.notes or not done.proven or on.everywhere is not None:
        return False
    if done.validation_result != NO_FINDINGS:
        return False
    if any(endpoint.allowed_ips or not endpoint.host for endpoint in made.rule.endpoints):
        return False
    total = on.compose(reviewed)
    if total is on.current:
        return True
    return validation_result(total, made.effective, on.credentialed) == NO_FINDINGS


def validation_result(before: Policy, after: Policy, credentialed: frozenset[str]) -> str:
    """`proof.findings.validation_result`, with the engine that is there already. What is not proven is a finding."""
    old = _engine(before)
    return render(findings(old, delta_of(old, compile_policy(after, reuse=old)), credentialed))


def review_token(rule_name: str, rule: Rule, rationale: str, ground: Sequence[object], error: str) -> str:
    """Hex SHA-256 over what the reviewer sees; what is derived from it (regions, findings, notes) needs no place.

    `ground` is what of the policy before and after the answer depends on (`_concerned`).
    """
    body = policy_map.rule_to_proto(rule).SerializeToString(deterministic=True).hex()
    return _digest(_REVIEW_FORMAT, rule_name, body, rationale, ground, error, length=64)


def class_of(rule: Rule) -> str:
    """What is asked for, under whatever name: equal where the same requests are."""
    return rule_hash(dataclasses.replace(rule, key="", name=""))[:32]


def _concerned(on: Ground, rule_name: str | None, rule: Rule, after: Policy | None) -> list[object]:
    """What of the policies a proposal has to do with: rules for hosts it names, the rule of its name, provider layers
    and credentials for its hosts, and the middlewares. A request it permits is judged by these alone.
    """
    hosts = {endpoint.host for endpoint in rule.endpoints}
    before, then = (
        _rules_for(policy, rule_name, hosts) if policy is not None else [] for policy in (on.current, after)
    )
    held = sorted(host for host in on.credentialed if any(host_overlaps(host, named) for named in hosts))
    return [on.everywhere is not None, before, then, held, repr(on.current.middlewares)]


def _rules_for(policy: Policy, name: str | None, hosts: Iterable[str]) -> list[str]:
    return sorted(
        rule_hash(rule)
        for rule in policy.rules
        if rule.key == name or any(host_overlaps(one.host, host) for one in rule.endpoints for host in hosts)
    )


def _digest(*parts: object, length: int = 32) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:length]


def policy_problems(policy: Policy) -> str:
    """Everything wrong with a whole policy as one text, "" when it may be enforced."""
    return _joined((*validate(policy, provider_layers=True), *conflicts(policy)))


def require_valid(policy: Policy) -> None:
    """Raise GatewayError for a policy that must not be stored (contract/gateway.md 2.4)."""
    if problems := validate(policy):
        raise GatewayError("INVALID_ARGUMENT", f"policy contains unsafe content: {_joined(problems)}", field="policy")
    if found := conflicts(policy):
        lines = "\n".join(str(problem) for problem in found)
        raise GatewayError("FAILED_PRECONDITION", f"network endpoint ambiguity validation failed:\n{lines}")


def as_proposed(rule: Rule) -> Rule:
    """A submitted rule with what only the gateway may say put right: nothing in it was granted by an operator."""
    return dataclasses.replace(rule, endpoints=tuple(_proposed(endpoint) for endpoint in rule.endpoints))


def _proposed(endpoint: Endpoint) -> Endpoint:
    return dataclasses.replace(endpoint, advisor_proposed=True, provider_credentialed=False)


def _review(change: Delta) -> pyopenshell_pb2.ChunkReview:
    """The regions, the most worrying first. What does not fit makes the whole count as not proven."""
    proven = change.proven and len(change.regions) <= MAX_REGIONS
    review = pyopenshell_pb2.ChunkReview(proven=proven)
    for region in change.regions[:MAX_REGIONS]:
        review.newly_permits.add(
            text=region.text, reason=region.reason, witness=region.witness, uninspected=region.uninspected
        )
    if len(change.regions) > MAX_REGIONS:
        review.newly_permits.add(
            text=f"and {len(change.regions) - MAX_REGIONS} more regions", reason="too many to show"
        )
    return review


def _shortened(result: str) -> str:
    lines = result.split("\n")
    if len(lines) <= MAX_FINDINGS + 1:
        return result
    return "\n".join([*lines[: MAX_FINDINGS + 1], f"  and {len(lines) - MAX_FINDINGS - 1} more"])


def _joined(problems: Iterable[Problem]) -> str:
    return "; ".join(str(problem) for problem in problems)
