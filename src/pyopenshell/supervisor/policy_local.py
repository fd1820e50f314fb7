"""`http://policy.local`: how an agent looks at its policy, proposes a rule and waits for the decision.

Answers for exactly one sandbox and cannot approve anything. Framing, sizes and deadlines are the proxy door's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs

from pyopenshell.policy.model import Policy
from pyopenshell.policy.proposal import Proposal, ProposalError, parse
from pyopenshell.supervisor.config import PROPOSALS_ENABLED
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.logs import DENIALS_KEPT, AuditLog
from pyopenshell.supervisor.proposals import Proposals, State
from pyopenshell.supervisor.proxy.context import LocalResponse
from pyopenshell.supervisor.rpc import LinkError
from pyopenshell.supervisor.submission import submission, summaries
from pyopenshell.wire.gen import openshell_pb2 as pb

DENIALS_DEFAULT = 10
WAIT_DEFAULT, WAIT_LIMIT = 60, 300
"""Seconds (contract/sandbox.md 6.4)."""
RELOAD_FLOOR = 0.5
"""Seconds that an approved proposal is given to be in force, even when the caller's time is up."""
UNDECIDED_LIMIT = 100
"""Proposals of one sandbox that may wait for a person at a time: beyond it nobody reads them any more."""

_CHUNK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class Gateway(Protocol):
    """What is needed of the link."""

    async def submit(self, request: pb.SubmitPolicyAnalysisRequest) -> pb.SubmitPolicyAnalysisResponse: ...

    async def proposal(self, chunk_id: str) -> State: ...


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def _disabled() -> _RefusedError:
    text = "policy proposals are off for this sandbox (setting {}); only a person outside can turn them on"
    return _RefusedError(404, "feature_disabled", text.format(PROPOSALS_ENABLED))


def _not_found() -> _RefusedError:
    routes = "GET /v1/policy/current, GET /v1/denials?last=N, POST /v1/proposals, GET /v1/proposals/{id}"
    return _RefusedError(404, "not_found", f"the routes are: {routes}, GET /v1/proposals/{{id}}/wait?timeout=S")


class PolicyLocal:
    """Implements the proxy's `LocalHandler`."""

    def __init__(
        self,
        *,
        name: str,
        workspace: str,
        current: Current,
        gateway: Gateway,
        proposals: Proposals,
        audit: AuditLog,
        dump: Callable[[Policy], str],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._name = name
        self._workspace = workspace
        self._current = current
        self._gateway = gateway
        self._proposals = proposals
        self._audit = audit
        self._dump = dump
        self._recounted = -1
        self._clock = clock or (lambda: asyncio.get_running_loop().time())

    async def handle(self, method: str, path_and_query: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        """Answer one request; every failure is a JSON object with `error` and `detail`."""
        try:
            return await self._route(method, path_and_query, body)
        except _RefusedError as refusal:
            return _answer(refusal.status, {"error": refusal.code, "detail": refusal.detail})

    def _route(self, method: str, path_and_query: str, body: bytes) -> Awaitable[LocalResponse]:
        if not self._current.proposals_enabled:
            raise _disabled()
        path, _, query = path_and_query.partition("?")
        match (method, path.split("/")):
            case ("GET", ["", "v1", "policy", "current"]):
                return self._policy()
            case ("GET", ["", "v1", "denials"]):
                return self._denials(query)
            case ("POST", ["", "v1", "proposals"]):
                return self._submit(body)
            case ("GET", ["", "v1", "proposals", chunk_id]) if chunk_id:
                return self._look(chunk_id)
            case ("GET", ["", "v1", "proposals", chunk_id, "wait"]) if chunk_id:
                return self._wait(chunk_id, query)
        raise _not_found()

    async def _policy(self) -> LocalResponse:
        try:
            text = self._dump(self._current.engine.policy)
        except Exception as error:
            raise _RefusedError(
                500, "policy_serialize_failed", f"the policy in force cannot be shown: {error}"
            ) from error
        return _answer(200, {"format": "yaml", "policy_yaml": text})

    async def _denials(self, query: str) -> LocalResponse:
        count = _number(query, "last", DENIALS_DEFAULT, 1, DENIALS_KEPT)
        answer: dict[str, Any] = {
            "denials": self._audit.denials.newest(count),
            "log_available": self._audit.available,
        }
        if not self._audit.available:
            answer["note"] = "no log file could be written in /var/log; refusals since the start of the sandbox only"
        return _answer(200, answer)

    async def _submit(self, body: bytes) -> LocalResponse:
        if not self._name:
            raise _RefusedError(503, "sandbox_name_unavailable", "the sandbox does not know its own name yet")
        if not self._workspace:
            raise _RefusedError(503, "workspace_unavailable", "the sandbox does not know its workspace yet")
        try:
            proposal = parse(body)
        except ProposalError as error:
            raise _RefusedError(400, "invalid_proposal", str(error)) from error
        if self._full(proposal):
            await self._recount()
        if self._full(proposal):
            raise _RefusedError(
                429,
                "too_many_undecided",
                f"{self._proposals.undecided} proposals of this sandbox wait for a decision; wait for those first",
            )
        request = submission(self._name, self._workspace, proposal)
        with self._proposals.submitting():
            try:
                reply = await self._gateway.submit(request)
            except LinkError as error:
                raise _unreachable(error, "proposal_submit_failed") from error
            for chunk_id, summary in zip(reply.accepted_chunk_ids, summaries(proposal, reply), strict=False):
                self._proposals.submitted(chunk_id, summary)
        answer: dict[str, Any] = {
            "status": "submitted",
            "accepted_chunks": reply.accepted_chunks,
            "rejected_chunks": reply.rejected_chunks,
            "rejection_reasons": list(reply.rejection_reasons),
            "accepted_chunk_ids": list(reply.accepted_chunk_ids),
        }
        if proposal.ignored:
            answer["notes"] = list(proposal.ignored)
        return _answer(202, answer)

    def _full(self, proposal: Proposal) -> bool:
        return self._proposals.undecided + len(proposal.operations) > UNDECIDED_LIMIT

    async def _recount(self) -> None:
        """Decisions made while the line was down were not pushed: look, but once per such gap, however often the
        agent tries."""
        if self._recounted != self._proposals.resyncs:
            self._recounted = self._proposals.resyncs
            for chunk_id in self._proposals.undecided_ids():
                try:
                    await self._ask(chunk_id)
                except _RefusedError as refusal:
                    if refusal.code == "chunk_not_found":
                        self._proposals.forget(chunk_id)

    async def _look(self, chunk_id: str) -> LocalResponse:
        state = await self._ask(chunk_id)
        return _answer(200, _state(state) | self._reloaded(state))

    async def _wait(self, chunk_id: str, query: str) -> LocalResponse:
        deadline = self._clock() + _number(query, "timeout", WAIT_DEFAULT, 1, WAIT_LIMIT)
        asked = self._proposals.resyncs
        state = await self._ask(chunk_id)
        while state.status == "pending":
            if self._proposals.resyncs != asked:
                asked = self._proposals.resyncs
                state = await self._ask_again(chunk_id, state)
            elif await self._changed(deadline):
                state = self._proposals.get(chunk_id) or state
            else:
                return _answer(200, _state(state) | {"timed_out": True})
        deadline = max(deadline, self._clock() + RELOAD_FLOOR)
        while state.status == "approved" and not self._in_force(state) and await self._changed(deadline):
            state = self._proposals.get(chunk_id) or state
        return _answer(200, _state(state) | self._reloaded(state))

    async def _changed(self, deadline: float) -> bool:
        """Sleep until something may have changed; False at the deadline. A feature turned off ends every wait."""
        rung = await self._proposals.bell.wait(max(deadline - self._clock(), 0))
        if not self._current.proposals_enabled:
            raise _disabled()
        return rung

    async def _ask(self, chunk_id: str) -> State:
        if not _CHUNK_ID.fullmatch(chunk_id):
            raise _RefusedError(404, "chunk_not_found", "no proposal of this sandbox has that id")
        mark = self._proposals.mark(chunk_id)
        try:
            state = await self._gateway.proposal(chunk_id)
        except LinkError as error:
            if error.status in ("NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT"):
                # The same words whether it is somebody else's or nobody's.
                raise _RefusedError(404, "chunk_not_found", "no proposal of this sandbox has that id") from error
            raise _unreachable(error, "gateway_lookup_failed") from error
        return self._proposals.answered(state, mark)

    async def _ask_again(self, chunk_id: str, known: State) -> State:
        try:
            return await self._ask(chunk_id)
        except _RefusedError as refusal:
            if refusal.status == 404:
                raise
            # The gateway went away in the middle of a wait: it comes back, and then we are told.
            return known

    def _in_force(self, state: State) -> bool:
        return 0 < state.policy_version <= self._current.version

    def _reloaded(self, state: State) -> dict[str, bool]:
        return {"policy_reloaded": self._in_force(state)} if state.status == "approved" else {}


def _state(state: State) -> dict[str, Any]:
    limited: dict[str, Any] = {}
    if state.HasField("lease"):
        limited["expires_at"] = state.lease.expires_time.ToJsonString()
    return {
        "chunk_id": state.chunk_id,
        "status": state.status,
        "rule_name": state.rule_name,
        "binary": state.binary,
        "rejection_reason": state.rejection_reason,
        "validation_result": state.validation_result,
        "application_error": state.application_error,
        "review_token": state.review_token,
        "current_effective_policy_hash": state.current_effective_policy_hash,
        "candidate_effective_policy_hash": state.candidate_effective_policy_hash,
        **limited,
    }


def _unreachable(error: LinkError, refused: str) -> _RefusedError:
    """No gateway configured, none reached, or it refused: three different people have to act."""
    if error.status == "UNCONFIGURED":
        return _RefusedError(503, "gateway_unavailable", error.message)
    if error.status == "RESOURCE_EXHAUSTED":
        return _RefusedError(429, "rate_limited", error.message)
    if error.transient and error.status in ("", "UNAVAILABLE"):
        return _RefusedError(502, "gateway_connect_failed", f"the gateway cannot be reached: {error.message}")
    return _RefusedError(502, refused, str(error))


def _number(query: str, key: str, default: int, least: int, most: int) -> int:
    """The whole number under `key`, within bounds; anything unreadable counts as not given."""
    try:
        values = parse_qs(query, max_num_fields=16).get(key, [])
    except ValueError:
        return default
    if not values or not _WHOLE_NUMBER.fullmatch(values[-1]):
        return default
    return min(max(int(values[-1]), least), most)


def _answer(status: int, body: dict[str, Any]) -> LocalResponse:
    return LocalResponse(status, json.dumps(body).encode())
