"""The policy language: model, files, validation, merging, and the engine that decides.

    policy = load(text, "policy.yaml")
    engine = compile(policy)
    engine.decide(Connection("api.github.com", 443, "/usr/bin/curl"), "GET", "/repos/acme/site")

`docs/policy-library.md` shows the rest. No I/O below this package. `compile` imports the engine on first use, so that
tools which only read and write policies start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.compose import effective
from pyopenshell.policy.coverage import covers
from pyopenshell.policy.decision import Cell, Condition, Connection, Decision, PolicyEngine
from pyopenshell.policy.merge import MergeError, MergeResult
from pyopenshell.policy.model import RESTRICTIVE_DEFAULT, Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.policy.problems import PolicyError, Problem
from pyopenshell.policy.proposal import Proposal, ProposalError
from pyopenshell.policy.validate import validate, validate_rule
from pyopenshell.policy.yaml import dump, load

if TYPE_CHECKING:
    from pyopenshell.policy.engine import Engine


def compile(policy: Policy, reuse: Engine | None = None) -> Engine:
    """The engine that enforces `policy`; `reuse` shares what did not change."""
    from pyopenshell.policy.engine import compile as compile_engine

    return compile_engine(policy, reuse)


__all__ = [
    "RESTRICTIVE_DEFAULT",
    "Cell",
    "Condition",
    "Connection",
    "Decision",
    "Endpoint",
    "L7Match",
    "MergeError",
    "MergeResult",
    "Policy",
    "PolicyEngine",
    "PolicyError",
    "Problem",
    "Proposal",
    "ProposalError",
    "QueryMatcher",
    "Rule",
    "compile",
    "covers",
    "dump",
    "effective",
    "load",
    "policy_hash",
    "validate",
    "validate_rule",
]
