"""The ledger, the policy and the history of one sandbox tell the same. Shared by tests of races and of crashes."""

from __future__ import annotations

from pyopenshell.gateway import chunks
from pyopenshell.policy.canonical import policy_hash
from pyopenshell.policy.coverage import covers

from .core import Core


async def agree(core: Core, sandbox_id: str) -> None:
    """Ledger equals policy: every approved rule is granted, no other proposal is, and history tells the same."""
    base = await core.base(sandbox_id)
    listed = (await core.inbox.list(sandbox_id, bodies=False)).chunks
    last = {event.chunk_id: event for event in await core.inbox.history(sandbox_id)}
    approved = 0
    for chunk in listed:
        row = await core.store.run(lambda tx, chunk=chunk: chunks.get(tx, sandbox_id, chunk.id))  # type: ignore[misc]
        granted = covers(base, row.proposed)
        assert granted == (chunk.status == "approved"), (chunk.status, chunk.rule_name)
        approved += granted
        expected = {
            "approved": {"approved", "renewed", "unlimited"},
            "pending": {"proposed", "undone"},
            "rejected": {"rejected"},
        }
        assert last[chunk.id].type in expected[chunk.status]
    granted_in_all = sum(len(e.rules) for rule in base.rules for e in rule.endpoints)
    assert granted_in_all == approved, (granted_in_all, approved)
    revision, _ = await core.revisions.status(sandbox_id)
    assert revision.hash == policy_hash(base)
