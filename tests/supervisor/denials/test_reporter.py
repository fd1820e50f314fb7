"""When refusals are sent, and what: new ones at once, repetitions together, L7 never as a draft, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.audit.events import Event
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.denials.reporter import DenialReporter
from pyopenshell.supervisor.rpc import LinkError
from pyopenshell.wire.gen import openshell_pb2 as pb


def connection(host: str = "blocked.invalid", **fields: object) -> Denial:
    return Denial(layer="l4", stage="connect", host=host, port=443, detail="no", binary="/usr/bin/curl", **fields)  # type: ignore[arg-type]


def request(path: str = "/x", host: str = "api.test") -> Denial:
    return Denial(
        layer="l7",
        stage="l7",
        host=host,
        port=443,
        detail=f"PUT {path} not permitted by policy",
        binary="/usr/bin/curl",
        protocol="rest",
        method="PUT",
        path=path,
        policy="readonly",
    )


class Desk:
    def __init__(self, collect_seconds: float = 30.0) -> None:
        self.sent: asyncio.Queue[pb.SubmitPolicyAnalysisRequest] = asyncio.Queue()
        self.failures: list[LinkError] = []
        self.attempts = 0
        self.lines: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failed = asyncio.Event()
        self.reporter = DenialReporter(
            sandbox_id="sb-1",
            name="box",
            workspace="default",
            submit=self._submit,
            online=self._online,
            audit=self,
            collect_seconds=collect_seconds,
        )

    def emit(self, event: Event) -> None:
        self.lines.append(shorthand(event))

    async def _online(self) -> None:
        return

    async def _submit(self, request: pb.SubmitPolicyAnalysisRequest) -> None:
        self.attempts += 1
        await self.gate.wait()
        if self.failures:
            self.failed.set()
            raise self.failures.pop(0)
        self.sent.put_nowait(request)

    async def next(self) -> pb.SubmitPolicyAnalysisRequest:
        return await asyncio.wait_for(self.sent.get(), 5)


@contextlib.asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    task = asyncio.ensure_future(desk.reporter.run())
    try:
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_refusal_is_sent_at_once() -> None:
    async with running(Desk()) as desk:
        desk.reporter.add(connection())
        sent = await desk.next()
        assert (sent.name, sent.analysis_mode, sent.workspace_scope.workspace) == ("box", "mechanistic", "default")
        (chunk,) = sent.proposed_chunks
        assert (chunk.rule_name, chunk.binary, chunk.hit_count) == ("allow_blocked_invalid_443", "/usr/bin/curl", 1)
        assert chunk.proposed_rule.endpoints[0].advisor_proposed
        (summary,) = sent.summaries
        assert (summary.host, summary.port, summary.count, summary.denial_stage) == (
            "blocked.invalid",
            443,
            1,
            "connect",
        )


async def test_repetitions_are_collected_and_sent_together_without_a_further_event() -> None:
    async with running(Desk(collect_seconds=0.05)) as desk:
        desk.reporter.add(connection())
        await desk.next()
        for _ in range(49):
            desk.reporter.add(connection())
        hits = 0
        while hits < 49:
            hits += (await desk.next()).proposed_chunks[0].hit_count
        assert hits == 49


async def test_a_new_destination_does_not_wait_for_the_collection() -> None:
    async with running(Desk(collect_seconds=3600)) as desk:
        desk.reporter.add(connection())
        await desk.next()
        desk.reporter.add(connection())
        desk.reporter.add(connection("other.invalid"))
        sent = await desk.next()
        assert {s.host: s.count for s in sent.summaries} == {"blocked.invalid": 1, "other.invalid": 1}


async def test_a_refused_request_is_observed_and_never_drafted() -> None:
    async with running(Desk(collect_seconds=0.01)) as desk:
        for _ in range(3):
            desk.reporter.add(request())
        desk.reporter.add(connection())
        observed = 0
        chunks: list[str] = []
        while observed < 3 or not chunks:
            sent = await desk.next()
            chunks += [c.rule_name for c in sent.proposed_chunks]
            for summary in sent.summaries:
                if summary.l7_inspection_active:
                    (sample,) = summary.l7_request_samples
                    assert (sample.method, sample.path, sample.decision) == ("PUT", "/x", "deny")
                    assert sample.count == summary.count
                    assert summary.denial_stage == "l7"
                    assert re.fullmatch(
                        r"\[policy:readonly\] \[denial:d-[0-9a-f]{16}\] PUT /x not permitted by policy",
                        summary.deny_reason,
                    )
                    observed += summary.count
        assert (observed, chunks) == (3, ["allow_blocked_invalid_443"])


async def test_an_l7_refusal_from_any_door_stays_out_of_the_drafts() -> None:
    async with running(Desk(collect_seconds=0.01)) as desk:
        for stage in ("connect", "forward", "l7", "ssrf"):
            desk.reporter.add(
                Denial(layer="l7", stage=stage, host="a.test", port=443, detail="", binary="/usr/bin/curl")
            )
        count = 0
        while count < 4:
            sent = await desk.next()
            assert not sent.proposed_chunks
            count += sum(s.count for s in sent.summaries)


async def test_what_no_rule_can_help_is_counted_but_not_drafted() -> None:
    async with running(Desk()) as desk:
        desk.reporter.add(connection(proposable=False))
        sent = await desk.next()
        assert len(sent.summaries) == 1
        assert not sent.proposed_chunks


async def test_a_failed_delivery_is_repeated_with_what_came_meanwhile() -> None:
    desk = Desk()
    desk.failures = [LinkError("", "gone", transient=True), LinkError("UNAVAILABLE", "stopping", transient=True)]
    async with running(desk):
        desk.reporter.add(connection())
        desk.reporter.add(connection())
        sent = await desk.next()
        assert sent.summaries[0].count == 2
        assert desk.attempts == 3


async def test_a_delivery_refused_for_good_does_not_repeat_for_ever() -> None:
    desk = Desk()
    desk.failures = [LinkError("INVALID_ARGUMENT", "no", transient=False)]
    async with running(desk):
        desk.reporter.add(connection())
        await asyncio.wait_for(desk.failed.wait(), 5)
        desk.reporter.add(connection("other.invalid"))
        assert [s.host for s in (await desk.next()).summaries] == ["other.invalid"]


async def test_a_flood_of_destinations_is_bounded_and_said() -> None:
    desk = Desk()
    desk.gate.clear()
    async with running(desk):
        for number in range(2000):
            desk.reporter.add(connection(f"h{number}.invalid"))
        desk.gate.set()
        sizes = [len((await desk.next()).proposed_chunks) for _ in range(4)]
        assert sizes == [64, 64, 64, 64], "no submission is larger than the gateway takes"
        assert desk.reporter.overflow == 2000 - 256
        assert any("1744 refusals were not drafted" in line for line in desk.lines)


async def test_names_that_are_no_text_do_not_break_the_report() -> None:
    async with running(Desk()) as desk:
        name = b"/tmp/\xff\xfe".decode("utf-8", "surrogateescape")
        desk.reporter.add(Denial(layer="l4", stage="connect", host="a.test", port=443, detail="no", binary=name))
        sent = await desk.next()
        assert sent.SerializeToString()
        assert not sent.proposed_chunks


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_every_refusal_arrives_exactly_once_whatever_fails(steps: list[tuple[str, bool, bool]]) -> None:
    async def scenario() -> None:
        desk = Desk()
        delivered = 0
        for host, l7, fails in steps:
            desk.reporter.add(request(f"/{host}") if l7 else connection(f"{host}.invalid"))
            if fails:
                desk.failures = [LinkError("", "gone", transient=True)]
                assert await desk.reporter._send() is False
        assert await desk.reporter._send() is True
        while not desk.sent.empty():
            delivered += sum(s.count for s in desk.sent.get_nowait().summaries)
        assert delivered == len(steps)

    asyncio.run(scenario())
