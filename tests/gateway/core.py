"""The core objects of a gateway over a real SQLite file, and short ways to say what a sandbox sends."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.principals import ADMIN_ROLE, USER_ROLE, Caller, SandboxPrincipal, UserPrincipal
from pyopenshell.gateway.revisions import Revisions
from pyopenshell.gateway.rpc.drafts import DraftService
from pyopenshell.gateway.rpc.policy import PolicyService
from pyopenshell.gateway.rpc.proposals import ProposalService
from pyopenshell.gateway.rpc.review import ReviewService
from pyopenshell.gateway.settings import Settings
from pyopenshell.gateway.snapshots import Snapshots
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import sandboxes
from pyopenshell.gateway.submission import Limits
from pyopenshell.gateway.trail import Trail
from pyopenshell.policy.model import RESTRICTIVE_DEFAULT, Endpoint, L7Match, Policy, Rule
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2, pyopenshell_pb2, sandbox_pb2

WORKSPACE = datamodel_pb2.WorkspaceSelector(workspace="default")
ALICE = Caller(UserPrincipal("mtls:CN=alice", "alice", "mtls", frozenset({USER_ROLE, ADMIN_ROLE})))
CURL = "/usr/bin/curl"


class Time:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def url_of(path: Path) -> str:
    """The database for tests that name `path`; another one where a test runs over PostgreSQL."""
    return f"sqlite:{path}"


class Core:
    """Everything of part "gateway core", assembled as the gateway does it."""

    def __init__(self, path: Path, limits: Limits | None = None, store: Callable[[str, Bus], Store] = Store) -> None:
        self.clock = Time()
        self.bus = Bus()
        self.store = store(url_of(path) if store is Store else f"sqlite:{path}", self.bus)
        self.settings = Settings(self.store, self.bus)
        self.revisions = Revisions(self.store, self.bus, self.clock)
        self.snapshots = Snapshots(self.store, self.revisions, self.settings)
        self.inbox = Inbox(self.store, self.bus, self.revisions, self.settings, self.clock, limits)
        trail = Trail(self.store, self.bus, self.clock)
        self.policy = PolicyService(self.store, self.revisions, self.settings, self.snapshots, self.inbox, trail)
        self.drafts = DraftService(self.store, self.inbox)
        self.review = ReviewService(self.store, self.bus, self.inbox, pyopenshell_pb2.GetOperatorStatusResponse)
        self.proposals = ProposalService(self.bus, self.inbox)

    async def sandbox(self, name: str = "box", policy: Policy | None = None, workspace: str = "default") -> str:
        spec = openshell_pb2.SandboxSpec()
        if policy is not None:
            spec.policy.CopyFrom(policy_map.policy_to_proto(policy))
        sandbox_id = str(uuid.uuid4())
        await self.store.run(
            lambda tx: tx.execute(
                sandboxes.insert().values(
                    id=sandbox_id,
                    name=name,
                    workspace=workspace,
                    phase=2,
                    spec=spec.SerializeToString(),
                    status=b"",
                    created_ms=self.clock(),
                )
            )
        )
        return sandbox_id

    async def propose(self, sandbox_id: str, *proposed: Rule, mode: str = "agent_authored", hits: int = 1) -> list[str]:
        """Submit; every proposal must be accepted."""
        response = await self.submit(sandbox_id, *proposed, mode=mode, hits=hits)
        assert list(response.rejection_reasons) == []
        return list(response.accepted_chunk_ids)

    async def submit(
        self, sandbox_id: str, *proposed: Rule, mode: str = "agent_authored", hits: int = 1
    ) -> openshell_pb2.SubmitPolicyAnalysisResponse:
        request = openshell_pb2.SubmitPolicyAnalysisRequest(
            analysis_mode=mode, proposed_chunks=[message(one, hits=hits) for one in proposed]
        )
        return await self.inbox.submit(sandbox_id, request)

    async def chunk(self, sandbox_id: str, chunk_id: str) -> openshell_pb2.PolicyChunk:
        listed = await self.inbox.list(sandbox_id, bodies=False)
        return next(one for one in listed.chunks if one.id == chunk_id)

    async def approve(self, sandbox_id: str, chunk_id: str, actor: str = "mtls:CN=alice") -> int:
        """Look, then approve what was seen. Returns the policy version."""
        token = (await self.chunk(sandbox_id, chunk_id)).review_token
        return (await self.inbox.approve(sandbox_id, chunk_id, token, actor)).version

    async def base(self, sandbox_id: str) -> Policy:
        return await self.store.run(lambda tx: self.revisions.base(tx, sandbox_id))

    async def set_policy(self, sandbox_id: str, policy: Policy) -> int:
        revision = await self.store.run(
            lambda tx: self.revisions.append(tx, sandbox_id, policy, origin="set", author="mtls:CN=alice")
        )
        await self.inbox.refresh(sandbox_id)
        return revision.version

    async def scalar(self, query: sa.Select[Any]) -> object:
        return await self.store.run(lambda tx: tx.scalar(query))


@contextlib.asynccontextmanager
async def opened(path: Path, limits: Limits | None = None) -> AsyncIterator[Core]:
    core = Core(path, limits)
    await core.store.open()
    try:
        yield core
    finally:
        await core.store.close()


def message(rule: Rule, hits: int = 1, rationale: str = "because") -> openshell_pb2.PolicyChunk:
    return openshell_pb2.PolicyChunk(
        rule_name=rule.key,
        proposed_rule=policy_map.rule_to_proto(rule),
        rationale=rationale,
        confidence=0.75,
        hit_count=hits,
        stage="agent",
    )


def rest(host: str, *allowed: str, name: str = "", port: int = 443, binaries: tuple[str, ...] = (CURL,)) -> Rule:
    """An inspected rule; `allowed` are "METHOD /path"."""
    matches = tuple(L7Match(method=text.split()[0], path=text.split()[1]) for text in allowed)
    endpoint = Endpoint(host=host, ports=(port,), protocol="rest", rules=matches)
    return _rule(name or f"allow_{host.replace('.', '_')}_{port}", endpoint, binaries)


def raw(host: str, *, name: str = "", port: int = 443, binaries: tuple[str, ...] = (CURL,)) -> Rule:
    """An L4 rule."""
    return _rule(name or f"allow_{host.replace('.', '_')}_{port}", Endpoint(host=host, ports=(port,)), binaries)


def _rule(name: str, endpoint: Endpoint, binaries: tuple[str, ...]) -> Rule:
    return Rule(key=name, name=name, endpoints=(endpoint,), binaries=binaries)


def policy(*rules: Rule) -> Policy:
    return Policy(filesystem=RESTRICTIVE_DEFAULT.filesystem, landlock=RESTRICTIVE_DEFAULT.landlock, rules=rules)


def as_sandbox(sandbox_id: str) -> Caller:
    return Caller(SandboxPrincipal(sandbox_id))


# ---- looking at proposals --------------------------------------------------------------------------------------------

MECHANISTIC = "mechanistic"


async def statuses(core: Core, sandbox_id: str) -> dict[str, str]:
    return {chunk.id: chunk.status for chunk in (await core.inbox.list(sandbox_id, bodies=False)).chunks}


async def kinds(core: Core, sandbox_id: str, chunk_id: str) -> list[tuple[str, str]]:
    return [(one.type, one.actor) for one in await core.inbox.history(sandbox_id) if one.chunk_id == chunk_id]


async def auto(core: Core, sandbox_id: str) -> None:
    value = sandbox_pb2.SettingValue(string_value="auto")
    await core.store.run(lambda tx: core.settings.put(tx, sandbox_id, "proposal_approval_mode", value))


def refused(caught: pytest.ExceptionInfo[GatewayError], message: str, code: str = "FAILED_PRECONDITION") -> None:
    assert (caught.value.code, caught.value.message) == (code, message)
