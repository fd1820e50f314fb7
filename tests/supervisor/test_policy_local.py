"""`policy.local`: every route, every error code, and `/wait` in every order of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pyopenshell import policy as language
from pyopenshell.audit.events import Action, NetworkEvent, Severity
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.logs import AuditLog
from pyopenshell.supervisor.policy_local import UNDECIDED_LIMIT, PolicyLocal
from pyopenshell.supervisor.proposals import Proposals, State
from pyopenshell.supervisor.rpc import LinkError
from pyopenshell.wire.gen import openshell_pb2 as pb
from tests.supervisor.snapshots import policy

RULE = {
    "name": "put_x",
    "endpoints": [
        {
            "host": "api.test",
            "port": 443,
            "protocol": "rest",
            "enforcement": "enforce",
            "rules": [{"allow": {"method": "PUT", "path": "/x"}}],
        }
    ],
    "binaries": [{"path": "/usr/bin/curl"}],
}


def proposal(*rules: dict[str, Any]) -> bytes:
    operations = [{"addRule": {"ruleName": rule["name"], "rule": rule}} for rule in rules or (RULE,)]
    return json.dumps({"intent_summary": "write x", "operations": operations}).encode()


class Line:
    """The link's two calls, answered as the test says."""

    def __init__(self) -> None:
        self.submitted: list[pb.SubmitPolicyAnalysisRequest] = []
        self.reply = pb.SubmitPolicyAnalysisResponse(accepted_chunks=1, accepted_chunk_ids=["c1"])
        self.states: dict[str, State] = {}
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.error: LinkError | None = None
        self.hold: asyncio.Event | None = None

    async def submit(self, request: pb.SubmitPolicyAnalysisRequest) -> pb.SubmitPolicyAnalysisResponse:
        if self.error:
            raise self.error
        self.submitted.append(request)
        return self.reply

    async def proposal(self, chunk_id: str) -> State:
        state = self.states.get(chunk_id)
        self.asked.put_nowait(chunk_id)
        if self.hold:
            await self.hold.wait()
        if self.error:
            raise self.error
        if state is None:
            raise LinkError("NOT_FOUND", "sandbox not found or not owned by caller", transient=False)
        return state


class Box:
    def __init__(self, directory: Path) -> None:
        self.log = AuditLog(directory, "sb-1")
        self.log.open()
        self.lines: list[str] = []
        self.log.forward_to(lambda time_ms, event, text: self.lines.append(text))
        self.current = Current(compile_engine(policy()), version=1, proposals_enabled=True)
        self.line = Line()
        self.proposals = Proposals(self.log)
        self.local = PolicyLocal(
            name="box",
            workspace="default",
            current=self.current,
            gateway=self.line,
            proposals=self.proposals,
            audit=self.log,
            dump=language.dump,
        )

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        response = await self.local.handle(method, path, {}, body)
        return response.status, json.loads(response.body)

    def waiting(self, seconds: int = 60, chunk_id: str = "c1") -> asyncio.Task[tuple[int, dict[str, Any]]]:
        return asyncio.ensure_future(self.ask("GET", f"/v1/proposals/{chunk_id}/wait?timeout={seconds}"))

    def load(self, version: int) -> None:
        self.current.version = version
        self.proposals.bell.ring()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    made = Box(tmp_path)
    yield made
    await made.log.close()


def state(status: str = "pending", **fields: Any) -> State:
    return State(chunk_id="c1", status=status, rule_name="put_x", binary="/usr/bin/curl", **fields)


ROUTES = [
    ("GET", "/v1/policy/current"),
    ("GET", "/v1/denials"),
    ("POST", "/v1/proposals"),
    ("GET", "/v1/proposals/c1"),
    ("GET", "/v1/proposals/c1/wait"),
    ("GET", "/"),
    ("DELETE", "/anything"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_feature_off_every_route_is_404(box: Box, method: str, path: str) -> None:
    box.current.proposals_enabled = False
    status, body = await box.ask(method, path, proposal())
    assert (status, body["error"]) == (404, "feature_disabled")
    assert "agent_policy_proposals_enabled" in body["detail"]
    assert box.line.submitted == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("POST", "/v1/policy/current"),
        ("GET", "/v1/proposals"),
        ("GET", "/v1/proposals/"),
        ("GET", "/v1/proposals//wait"),
        ("GET", "/v1/proposals/c1/wait/x"),
        ("GET", "/v1/proposals/c1/approve"),
        ("POST", "/v1/proposals/c1/approve"),
        ("POST", "/v1/proposals/c1/wait"),
        ("DELETE", "/v1/proposals/c1"),
        ("GET", "/V1/denials"),
        ("HEAD", "/v1/denials"),
        ("GET", "//v1/denials"),
    ],
)
async def test_anything_else_is_not_found(box: Box, method: str, path: str) -> None:
    status, body = await box.ask(method, path)
    assert (status, body["error"]) == (404, "not_found")


async def test_the_policy_in_force_comes_as_yaml_that_loads_again(box: Box) -> None:
    status, body = await box.ask("GET", "/v1/policy/current")
    assert (status, body["format"]) == (200, "yaml")
    assert language.load(body["policy_yaml"], "x").rules[0].key == "api"


async def test_a_policy_that_cannot_be_shown_is_500(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: object) -> str:
        raise ValueError("cannot")

    monkeypatch.setattr(box.local, "_dump", broken)
    status, body = await box.ask("GET", "/v1/policy/current")
    assert (status, body["error"]) == (500, "policy_serialize_failed")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 10),
        ("?last=3", 3),
        ("?last=100000", 100),
        ("?last=0", 1),
        ("?last=-1", 10),
        ("?last=x", 10),
        ("?last=", 10),
    ],
)
async def test_denials_newest_first_within_bounds(box: Box, query: str, count: int) -> None:
    for number in range(120):
        box.log.emit(NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, f"h{number}.test", 443))
    status, body = await box.ask("GET", f"/v1/denials{query}")
    assert (status, body["log_available"], "note" in body) == (200, True, False)
    assert len(body["denials"]) == count
    assert "h119.test" in body["denials"][0]


async def test_denials_say_when_there_is_no_log_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    box = Box(tmp_path / "log")
    box.log.emit(NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, "h.test", 443))
    _, body = await box.ask("GET", "/v1/denials")
    assert body["log_available"] is False
    assert body["note"]
    assert len(body["denials"]) == 1
    await box.log.close()


async def test_a_proposal_becomes_one_chunk_per_operation(box: Box) -> None:
    box.line.reply = pb.SubmitPolicyAnalysisResponse(accepted_chunks=2, accepted_chunk_ids=["c1", "c2"])
    status, body = await box.ask("POST", "/v1/proposals", proposal(RULE, RULE | {"name": "again"}))
    assert (status, body) == (
        202,
        {
            "status": "submitted",
            "accepted_chunks": 2,
            "rejected_chunks": 0,
            "rejection_reasons": [],
            "accepted_chunk_ids": ["c1", "c2"],
        },
    )
    (request,) = box.line.submitted
    assert (request.name, request.analysis_mode, request.workspace_scope.workspace) == (
        "box",
        "agent_authored",
        "default",
    )
    first, second = request.proposed_chunks
    assert (first.rule_name, second.rule_name) == ("put_x", "again")
    assert (first.stage, first.status, first.hit_count, first.binary) == ("agent", "pending", 1, "/usr/bin/curl")
    assert first.confidence == pytest.approx(0.75)
    assert first.rationale == "write x"
    assert all(endpoint.advisor_proposed for endpoint in first.proposed_rule.endpoints)
    assert box.lines[0] == (
        "CONFIG:PROPOSED [INFO] agent_authored proposal chunk:c1 on api.test:443 PUT /x by /usr/bin/curl"
    )


async def test_what_the_gateway_refused_is_handed_on(box: Box) -> None:
    box.line.reply = pb.SubmitPolicyAnalysisResponse(rejected_chunks=1, rejection_reasons=["chunk 'x': no"])
    status, body = await box.ask("POST", "/v1/proposals", proposal())
    assert (status, body["accepted_chunks"], body["rejection_reasons"]) == (202, 0, ["chunk 'x': no"])
    assert box.proposals.undecided == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"operations": []}',
        b'{"operations": [{"add_rule": {}}]}',
        b'{"operations": [{"removeRule": {"ruleName": "x"}}]}',
        b'{"operations": [], "operations": []}',
        proposal().replace(b'"port": 443', b'"port": 443, "prot": "rest"'),
        proposal().replace(b'"port": 443, ', b""),
        proposal().replace(b"/x", b"/x?token=1"),
        b"[" * 60000,
        b'{"a":' * 10000,
        b"\xff\xfe",
        proposal().replace(b"put_x", b"_provider_x"),
    ],
)
async def test_a_malformed_proposal_is_400_and_reaches_nobody(box: Box, body: bytes) -> None:
    status, answer = await box.ask("POST", "/v1/proposals", body)
    assert (status, answer["error"]) == (400, "invalid_proposal")
    assert answer["detail"]
    assert box.line.submitted == []


async def test_private_addresses_are_never_taken_over_silently(box: Box) -> None:
    body = proposal().replace(b'"port": 443', b'"port": 443, "allowed_ips": ["10.0.0.0/8"]')
    status, answer = await box.ask("POST", "/v1/proposals", body)
    assert status == 202
    assert "allowed_ips" in answer["notes"][0]
    chunk = box.line.submitted[0].proposed_chunks[0]
    assert not chunk.proposed_rule.endpoints[0].allowed_ips
    assert "allowed_ips" in chunk.security_notes


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LinkError("UNCONFIGURED", "none", transient=False), 503, "gateway_unavailable"),
        (LinkError("", "refused", transient=True), 502, "gateway_connect_failed"),
        (LinkError("UNAVAILABLE", "stopping", transient=True), 502, "gateway_connect_failed"),
        (LinkError("RESOURCE_EXHAUSTED", "too fast", transient=True), 429, "rate_limited"),
        (LinkError("INTERNAL", "bug", transient=False), 502, "proposal_submit_failed"),
        (LinkError("DEADLINE_EXCEEDED", "slow", transient=True), 502, "proposal_submit_failed"),
    ],
)
async def test_submit_failures_name_who_must_act(box: Box, error: LinkError, status: int, code: str) -> None:
    box.line.error = error
    got, body = await box.ask("POST", "/v1/proposals", proposal())
    assert (got, body["error"]) == (status, code)


@pytest.mark.parametrize("route", ["", "/wait"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LinkError("UNCONFIGURED", "none", transient=False), 503, "gateway_unavailable"),
        (LinkError("", "refused", transient=True), 502, "gateway_connect_failed"),
        (LinkError("INTERNAL", "bug", transient=False), 502, "gateway_lookup_failed"),
        (LinkError("NOT_FOUND", "x", transient=False), 404, "chunk_not_found"),
        (LinkError("PERMISSION_DENIED", "not yours", transient=False), 404, "chunk_not_found"),
    ],
)
async def test_lookup_failures(box: Box, route: str, error: LinkError, status: int, code: str) -> None:
    box.line.error = error
    got, body = await box.ask("GET", f"/v1/proposals/c1{route}")
    assert (got, body["error"]) == (status, code)
    assert "not yours" not in body["detail"], "whose it is must not be told"


@pytest.mark.parametrize("chunk_id", ["..", "%2e%2e", "a b", "c1;x", "x" * 200, "é"])
async def test_an_id_that_cannot_be_one_is_not_even_asked_for(box: Box, chunk_id: str) -> None:
    status, body = await box.ask("GET", f"/v1/proposals/{chunk_id}")
    assert (status, body["error"]) == (404, "chunk_not_found")
    assert box.line.asked.empty()


async def test_missing_name_and_workspace(box: Box) -> None:
    for name, workspace, code in (("", "w", "sandbox_name_unavailable"), ("n", "", "workspace_unavailable")):
        local = PolicyLocal(
            name=name,
            workspace=workspace,
            current=box.current,
            gateway=box.line,
            proposals=box.proposals,
            audit=box.log,
            dump=language.dump,
        )
        response = await local.handle("POST", "/v1/proposals", {}, proposal())
        assert (response.status, json.loads(response.body)["error"]) == (503, code)


async def fill(box: Box) -> None:
    for number in range(UNDECIDED_LIMIT):
        box.line.reply.accepted_chunk_ids[:] = [f"c{number}"]
        box.line.states[f"c{number}"] = State(chunk_id=f"c{number}", status="pending")
        assert (await box.ask("POST", "/v1/proposals", proposal()))[0] == 202


async def test_decisions_that_were_never_pushed_do_not_lock_the_agent_out(box: Box) -> None:
    await fill(box)
    assert (await box.ask("POST", "/v1/proposals", proposal()))[0] == 429
    asked = box.line.asked.qsize()
    assert (await box.ask("POST", "/v1/proposals", proposal()))[0] == 429
    assert box.line.asked.qsize() == asked, "trying again does not make the gateway work"
    box.line.states["c1"] = State(chunk_id="c1", status="rejected")
    del box.line.states["c2"]
    box.proposals.resync()
    for _ in range(2):
        box.line.reply.accepted_chunk_ids[:] = []
        assert (await box.ask("POST", "/v1/proposals", proposal()))[0] == 202
    assert box.proposals.undecided == UNDECIDED_LIMIT - 2


async def test_a_flood_of_proposals_meets_a_bound_that_decisions_lift(box: Box) -> None:
    await fill(box)
    status, body = await box.ask("POST", "/v1/proposals", proposal())
    assert (status, body["error"]) == (429, "too_many_undecided")
    box.proposals.pushed(State(chunk_id="c5", status="rejected"))
    assert (await box.ask("POST", "/v1/proposals", proposal()))[0] == 202


async def test_the_state_has_the_contracts_keys(box: Box) -> None:
    box.line.states["c1"] = state(review_token="t", validation_result="prover: no new findings")
    status, body = await box.ask("GET", "/v1/proposals/c1")
    assert status == 200
    assert body == {
        "chunk_id": "c1",
        "status": "pending",
        "rule_name": "put_x",
        "binary": "/usr/bin/curl",
        "rejection_reason": "",
        "validation_result": "prover: no new findings",
        "application_error": "",
        "review_token": "t",
        "current_effective_policy_hash": "",
        "candidate_effective_policy_hash": "",
    }
    box.line.states["c1"] = state("approved", policy_version=1)
    assert (await box.ask("GET", "/v1/proposals/c1"))[1]["policy_reloaded"] is True
    box.line.states["c1"] = state("approved", policy_version=2)
    assert (await box.ask("GET", "/v1/proposals/c1"))[1]["policy_reloaded"] is False


async def test_wait_times_out_pending(box: Box) -> None:
    box.line.states["c1"] = state()
    status, body = await box.ask("GET", "/v1/proposals/c1/wait?timeout=1")
    assert (status, body["status"], body["timed_out"]) == (200, "pending", True)
    assert "policy_reloaded" not in body


async def test_wait_approved_then_loaded(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = box.waiting()
    await box.line.asked.get()
    box.proposals.pushed(state("approved", policy_version=2))
    await asyncio.sleep(0)
    assert not waiting.done(), "approved is not loaded"
    box.load(2)
    status, body = await asyncio.wait_for(waiting, 5)
    assert (status, body["status"], body["rejection_reason"], body["policy_reloaded"]) == (200, "approved", "", True)
    assert "timed_out" not in body


async def test_wait_loaded_before_the_approval_was_heard(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = box.waiting()
    await box.line.asked.get()
    box.load(2)
    box.proposals.pushed(state("approved", policy_version=2))
    assert (await asyncio.wait_for(waiting, 5))[1]["policy_reloaded"] is True


async def test_wait_rejected_hands_over_the_reviewers_words_byte_for_byte(box: Box) -> None:
    words = "only docs/, please: 'x' \"y\" <z> & ü 世界\nsecond\tline \u202e"
    box.line.states["c1"] = state()
    waiting = box.waiting()
    await box.line.asked.get()
    box.proposals.pushed(state("rejected", rejection_reason=words, validation_result="prover: no new findings"))
    _, body = await asyncio.wait_for(waiting, 5)
    assert (body["status"], body["rejection_reason"]) == ("rejected", words)
    assert body["validation_result"] == "prover: no new findings"


async def test_a_decision_made_while_the_first_question_is_under_way_is_not_lost(box: Box) -> None:
    box.line.states["c1"] = state()
    box.line.hold = asyncio.Event()
    waiting = box.waiting()
    await box.line.asked.get()
    box.proposals.pushed(state("rejected", rejection_reason="no"))
    box.line.hold.set()
    assert (await asyncio.wait_for(waiting, 5))[1]["status"] == "rejected"


async def test_a_decision_made_while_the_stream_was_down_is_found_when_it_returns(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = box.waiting()
    await box.line.asked.get()
    box.line.states["c1"] = state("approved", policy_version=1)
    box.proposals.resync()
    assert (await asyncio.wait_for(waiting, 5))[1]["policy_reloaded"] is True


async def test_a_resync_during_a_question_leads_to_another_question(box: Box) -> None:
    box.line.states["c1"] = state()
    box.line.hold = asyncio.Event()
    waiting = box.waiting()
    await box.line.asked.get()
    box.line.states["c1"] = state("approved", policy_version=1)
    box.proposals.resync()
    box.line.hold.set()
    assert (await asyncio.wait_for(waiting, 5))[1]["status"] == "approved"


async def test_a_gateway_that_goes_away_mid_wait_does_not_end_the_wait(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = box.waiting()
    await box.line.asked.get()
    box.line.error = LinkError("", "gone", transient=True)
    box.proposals.resync()
    await box.line.asked.get()
    box.line.error = None
    box.line.states["c1"] = state("rejected", rejection_reason="no")
    box.proposals.resync()
    assert (await asyncio.wait_for(waiting, 5))[1]["status"] == "rejected"


async def test_the_feature_going_off_ends_every_wait(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = [box.waiting() for _ in range(3)]
    for _ in waiting:
        await box.line.asked.get()
    box.current.proposals_enabled = False
    box.proposals.bell.ring()
    for status, body in await asyncio.wait_for(asyncio.gather(*waiting), 5):
        assert (status, body["error"]) == (404, "feature_disabled")


async def test_approved_but_never_loaded_says_false_after_the_floor(box: Box) -> None:
    box.line.states["c1"] = state("approved", policy_version=9)
    before = asyncio.get_running_loop().time()
    _, body = await box.ask("GET", "/v1/proposals/c1/wait?timeout=1")
    assert body["policy_reloaded"] is False
    assert asyncio.get_running_loop().time() - before < 3


async def test_no_version_is_ever_taken_for_loaded_by_accident(box: Box) -> None:
    box.current.version = 0
    box.line.states["c1"] = state("approved", policy_version=0)
    assert (await box.ask("GET", "/v1/proposals/c1"))[1]["policy_reloaded"] is False


async def test_an_approval_that_was_undone_before_it_loaded_is_told_as_it_is(box: Box) -> None:
    box.line.states["c1"] = state("approved", policy_version=2)
    waiting = box.waiting()
    await box.line.asked.get()
    box.proposals.pushed(state("rejected", rejection_reason="undone"))
    _, body = await asyncio.wait_for(waiting, 5)
    assert body["status"] == "rejected"


async def test_many_waiters_and_a_cancelled_one(box: Box) -> None:
    box.line.states["c1"] = state()
    waiting = [box.waiting() for _ in range(20)]
    for _ in waiting:
        await box.line.asked.get()
    waiting[0].cancel()
    box.proposals.pushed(state("approved", policy_version=1))
    answers = await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
    assert {body["status"] for _, body in answers} == {"approved"}
    assert sum("CONFIG:APPROVED" in line for line in box.lines) == 1
