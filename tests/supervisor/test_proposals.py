"""What the sandbox knows of its proposals: newest wins, each decision is logged once, waiters wake."""

from __future__ import annotations

import asyncio
import contextlib

from pyopenshell.audit.events import ConfigEvent, Event
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.supervisor.proposals import Proposals, State, reviewer_text


class Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [shorthand(event) for event in self.events]


def state(status: str, chunk_id: str = "c1", *, summary: str = "", rejection_reason: str = "") -> State:
    return State(chunk_id=chunk_id, status=status, summary=summary, rejection_reason=rejection_reason)


def test_each_decision_is_one_line_however_often_it_is_seen() -> None:
    log = Log()
    proposals = Proposals(log)
    proposals.submitted("c1", "a.test:443 PUT /x by /usr/bin/curl")
    for _ in range(3):
        proposals.pushed(state("approved"))
        proposals.answered(state("approved"), proposals.mark("c1"))
    assert log.lines == [
        "CONFIG:PROPOSED [INFO] agent_authored proposal chunk:c1 on a.test:443 PUT /x by /usr/bin/curl",
        "CONFIG:APPROVED [INFO] chunk:c1 approved on a.test:443 PUT /x by /usr/bin/curl",
    ]
    assert proposals.undecided == 0


def test_a_decision_faster_than_the_answer_to_its_submission_is_logged_after_it() -> None:
    log = Log()
    proposals = Proposals(log)
    with proposals.submitting():
        proposals.pushed(state("approved"))
        assert log.lines == []
        proposals.submitted("c1", "a.test:443")
    assert [e.state for e in log.events if isinstance(e, ConfigEvent)] == ["PROPOSED", "APPROVED"]
    assert proposals.undecided == 0


def test_a_submission_that_fails_swallows_nobodys_decision() -> None:
    log = Log()
    proposals = Proposals(log)
    with contextlib.suppress(ConnectionError), proposals.submitting():
        proposals.pushed(state("rejected", summary="b.test:443"))
        raise ConnectionError
    assert [e.state for e in log.events if isinstance(e, ConfigEvent)] == ["REJECTED"]


def test_a_decision_that_was_undone_is_news_again() -> None:
    log = Log()
    proposals = Proposals(log)
    for status in ("approved", "pending", "rejected", "pending", "approved"):
        proposals.pushed(state(status, summary="a.test:443"))
    assert [e.state for e in log.events if isinstance(e, ConfigEvent)] == ["APPROVED", "REJECTED", "APPROVED"]


def test_rejections_carry_the_reviewers_words_on_one_line() -> None:
    log = Log()
    proposals = Proposals(log)
    proposals.pushed(state("rejected", rejection_reason="only docs/\r\nplease \x1b[31m" + "x" * 300))
    proposals.pushed(state("rejected", chunk_id="c2"))
    first, second = log.lines
    assert first.startswith('CONFIG:REJECTED [LOW] chunk:c1 rejected on  reason:"only docs/  please [31mxxx')
    assert first.endswith('x…"')
    assert second.endswith("reason:(no guidance)")
    assert len(reviewer_text("y" * 300)) == 201


def test_an_answer_never_overrides_what_was_pushed_meanwhile() -> None:
    proposals = Proposals(Log())
    mark = proposals.mark("c1")
    proposals.pushed(state("approved"))
    assert proposals.answered(state("pending"), mark).status == "approved"
    known = proposals.get("c1")
    assert known is not None
    assert known.status == "approved"


def test_somebody_elses_old_decision_is_not_news() -> None:
    log = Log()
    proposals = Proposals(log)
    proposals.answered(state("approved"), proposals.mark("c1"))
    assert log.events == []


def test_memory_is_bounded() -> None:
    proposals = Proposals(Log())
    for number in range(5000):
        proposals.submitted(f"c{number}", "x")
        proposals.pushed(state("pending", chunk_id=f"c{number}"))
    assert "1024 known" in repr(proposals)
    assert proposals.undecided == 1024


async def test_every_waiter_wakes_and_one_that_gives_up_disturbs_nobody() -> None:
    proposals = Proposals(Log())
    waiters = [asyncio.ensure_future(proposals.bell.wait(30)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.gather(waiters[0], return_exceptions=True)
    proposals.pushed(state("approved"))
    assert await asyncio.gather(*waiters[1:]) == [True, True]
    assert await proposals.bell.wait(0.01) is False
