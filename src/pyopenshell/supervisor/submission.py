"""An agent's parsed proposal as a `SubmitPolicyAnalysis` message, and as a phrase for the audit log. Pure."""

from __future__ import annotations

from pyopenshell.audit.text import field
from pyopenshell.policy.merge import AddRule
from pyopenshell.policy.model import Rule
from pyopenshell.policy.proposal import Proposal
from pyopenshell.wire.gen import openshell_pb2 as pb
from pyopenshell.wire.policy_map import rule_to_proto

CONFIDENCE = 0.75
"""Of everything an agent wrote itself (contract/sandbox.md 6.2)."""


def submission(name: str, workspace: str, proposal: Proposal) -> pb.SubmitPolicyAnalysisRequest:
    """One chunk per operation, mode `agent_authored`."""
    request = pb.SubmitPolicyAnalysisRequest(
        name=name,
        analysis_mode="agent_authored",
        proposed_chunks=[_chunk(operation, proposal) for operation in proposal.operations],
    )
    request.workspace_scope.workspace = workspace
    return request


def summaries(proposal: Proposal, reply: pb.SubmitPolicyAnalysisResponse) -> list[str]:
    """One phrase per accepted id. The gateway does not say which ones it accepted, so after a refusal all are named."""
    phrases = [summary(operation.rule) for operation in proposal.operations]
    if len(reply.accepted_chunk_ids) == len(phrases):
        return phrases
    return ["one of: " + "; ".join(phrases)] * len(reply.accepted_chunk_ids)


def summary(rule: Rule) -> str:
    """`host:port[ METHOD path][ by <binary>]`, of the first of each; how many more there are is said.

    It stands in a log line: blanks in an agent's path or file name are spelled out, so that none looks like a field.
    """
    endpoint = rule.endpoints[0]
    text = f"{endpoint.host}:{','.join(map(str, endpoint.ports))}"
    if endpoint.rules:
        first = endpoint.rules[0]
        text += f" {first.method} {field(first.path)}".rstrip()
        text += _more(len(endpoint.rules))
    elif endpoint.access:
        text += f" access={endpoint.access}"
    text += _more(len(rule.endpoints), "endpoint")
    if rule.binaries:
        text += f" by {field(rule.binaries[0])}" + _more(len(rule.binaries))
    return text


def _more(count: int, what: str = "") -> str:
    return f" (+{count - 1}{f' {what}' if what else ''})" if count > 1 else ""


def _chunk(operation: AddRule, proposal: Proposal) -> pb.PolicyChunk:
    return pb.PolicyChunk(
        status="pending",
        rule_name=operation.rule_name,
        proposed_rule=rule_to_proto(operation.rule),
        rationale=proposal.intent_summary,
        # The reviewer sees what the agent asked for in vain, too.
        security_notes=" ".join(proposal.ignored),
        confidence=CONFIDENCE,
        stage="agent",
        hit_count=1,
        binary=operation.rule.binaries[0] if operation.rule.binaries else "",
    )
