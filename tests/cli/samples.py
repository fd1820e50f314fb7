"""Canned messages that several test files share."""

from __future__ import annotations

from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api

FIRST, SECOND = "3f2a1111-0000-4000-8000-000000000001", "3f2b2222-0000-4000-8000-000000000002"


def rule(path: str = "/repos/acme/notes/contents/**") -> sandbox_api.NetworkPolicyRule:
    return sandbox_api.NetworkPolicyRule(
        name="save_notes",
        endpoints=[
            sandbox_api.NetworkEndpoint(
                host="api.github.com",
                port=443,
                ports=[443],
                protocol="rest",
                enforcement=sandbox_api.NETWORK_ENFORCEMENT_MODE_ENFORCE,
                rules=[sandbox_api.L7Rule(allow=sandbox_api.L7Allow(method="PUT", path=path))],
            )
        ],
        binaries=[sandbox_api.NetworkBinary(path="/usr/bin/curl")],
    )


def chunk(chunk_id: str = FIRST, status: str = "pending") -> api.PolicyChunk:
    message = api.PolicyChunk(
        id=chunk_id,
        status=status,
        rule_name="save_notes",
        proposed_rule=rule(),
        rationale="Save my notes",
        confidence=0.75,
        binary="/usr/bin/curl",
        hit_count=3,
        validation_result="prover: 1 new finding\n  capability_expansion: PUT on api.github.com",
        candidate_effective_policy_hash="abcdef0123456789",
        review_token=f"token-of-{chunk_id[:4]}",
        stage="agent",
    )
    message.first_seen_time.seconds = 1_790_000_000
    message.last_seen_time.seconds = 1_790_000_060
    return message


def review(chunk_id: str = FIRST) -> review_api.ChunkReview:
    return review_api.ChunkReview(
        chunk_id=chunk_id,
        analysis_mode="agent_authored",
        proven=True,
        newly_permits=[
            review_api.Region(
                text="PUT to any path under /repos/acme/notes/contents/ on api.github.com:443 by /usr/bin/curl",
                reason="new grant",
                witness="PUT https://api.github.com/repos/acme/notes/contents/a by /usr/bin/curl",
            )
        ],
    )


def observed() -> review_api.ObservedDenial:
    message = review_api.ObservedDenial(
        host="api.github.com",
        port=443,
        binary="/usr/bin/curl",
        method="PUT",
        path="/repos/acme/notes/contents/a.md",
        policy="github_api_readonly",
        reason="PUT /repos/acme/notes/contents/a.md not permitted by policy",
        count=2,
    )
    message.last_seen_time.seconds = 1_790_000_060
    return message


def sandbox(name: str = "box", phase: api.SandboxPhase = api.SANDBOX_PHASE_READY) -> api.Sandbox:
    message = api.Sandbox()
    message.metadata.id = f"id-of-{name}"
    message.metadata.name = name
    message.metadata.workspace = "default"
    message.metadata.resource_version = 4
    message.metadata.labels["team"] = "red"
    message.metadata.created_time.seconds = 1_790_000_000
    message.status.phase = phase
    message.status.current_policy_version = 2
    return message


def policy() -> sandbox_api.SandboxPolicy:
    message = sandbox_api.SandboxPolicy(version=1)
    message.network_policies["save_notes"].CopyFrom(rule())
    return message
