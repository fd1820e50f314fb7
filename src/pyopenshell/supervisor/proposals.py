"""What this sandbox knows about its own proposals, and waking those who wait for a decision.

Fed by answers and by the gateway's stream; says each decision once to the audit log. Knows neither HTTP nor gRPC.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

from pyopenshell.audit.events import AuditSink, ConfigEvent, Severity
from pyopenshell.audit.text import visible
from pyopenshell.supervisor.bell import Bell
from pyopenshell.wire.gen import pyopenshell_pb2

REMEMBERED = 1024
REASON_LIMIT = 200
"""Characters of a reviewer's text in an audit line (contract/sandbox.md 6.5)."""

State = pyopenshell_pb2.ProposalState


class Proposals:
    """Newest known state per proposal, bounded; `bell` rings at every change that a waiter may care about."""

    def __init__(self, audit: AuditSink) -> None:
        self._audit = audit
        self._states: OrderedDict[str, State] = OrderedDict()
        self._pushes: dict[str, int] = {}
        self._own: dict[str, str] = {}
        self._announced: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._submitting = 0
        self._early: list[State] = []
        """Decisions that came while a submission was under way, on proposals not known as ours: maybe its own."""
        self.bell = Bell()
        self.resyncs = 0
        """How often decisions may have been missed: whoever waits asks the gateway again when this grows."""

    def __repr__(self) -> str:
        return f"<Proposals {len(self._states)} known, {self.undecided} of ours undecided>"

    @property
    def undecided(self) -> int:
        """Proposals submitted by this process on which nobody has decided yet."""
        return len(self._own)

    def undecided_ids(self) -> list[str]:
        return list(self._own)

    def forget(self, chunk_id: str) -> None:
        """The gateway does not know it any more (cleared): nobody will decide on it."""
        self._own.pop(chunk_id, None)

    def get(self, chunk_id: str) -> State | None:
        return self._states.get(chunk_id)

    @contextlib.contextmanager
    def submitting(self) -> Iterator[None]:
        """Around a submission and its `submitted`: a decision can be faster than the answer, the log must not."""
        self._submitting += 1
        try:
            yield
        finally:
            self._submitting -= 1
            if not self._submitting:
                early, self._early = self._early, []
                for state in early:
                    self._announce(state)

    def submitted(self, chunk_id: str, summary: str) -> None:
        """The gateway accepted a proposal of ours under this id."""
        self._own[chunk_id] = summary
        while len(self._own) > REMEMBERED:
            del self._own[next(iter(self._own))]
        self._audit.emit(
            ConfigEvent("PROPOSED", f"agent_authored proposal chunk:{visible(chunk_id)} on {visible(summary)}")
        )

    def mark(self, chunk_id: str) -> int:
        """Take before asking the gateway; `answered` then knows whether a push overtook the answer."""
        return self._pushes.get(chunk_id, 0)

    def answered(self, state: State, mark: int) -> State:
        """An answer to a question. Returns the newer of it and what was pushed meanwhile."""
        if self._pushes.get(state.chunk_id, 0) != mark:
            return self._states.get(state.chunk_id, state)
        self._remember(state)
        if state.chunk_id in self._own:
            self._announce(state)
        return state

    def pushed(self, state: State) -> None:
        """A change the gateway told us of its own accord."""
        self._pushes[state.chunk_id] = self._pushes.get(state.chunk_id, 0) + 1
        while len(self._pushes) > REMEMBERED:
            del self._pushes[next(iter(self._pushes))]
        self._remember(state)
        if self._submitting and state.chunk_id not in self._own:
            self._early.append(state)
        else:
            self._announce(state)
        self.bell.ring()

    def resync(self) -> None:
        """The stream of decisions was (re)established, or something else says that asking again is worth it."""
        self.resyncs += 1
        self.bell.ring()

    def _remember(self, state: State) -> None:
        self._states[state.chunk_id] = state
        self._states.move_to_end(state.chunk_id)
        while len(self._states) > REMEMBERED:
            self._states.popitem(last=False)

    def _announce(self, state: State) -> None:
        if state.status not in ("approved", "rejected"):
            # Undone or edited: the next decision is news again.
            for status in ("approved", "rejected"):
                self._announced.pop((state.chunk_id, status), None)
            return
        key = (state.chunk_id, state.status)
        summary = self._own.get(state.chunk_id) or state.summary or state.rule_name
        self._own.pop(state.chunk_id, None)
        if key in self._announced:
            return
        self._announced[key] = None
        while len(self._announced) > REMEMBERED:
            self._announced.popitem(last=False)
        where = f"chunk:{visible(state.chunk_id)} {state.status} on {visible(summary)}"
        if state.status == "approved":
            self._audit.emit(ConfigEvent("APPROVED", where))
        else:
            reason = reviewer_text(state.rejection_reason)
            said = f'reason:"{reason}"' if reason else "reason:(no guidance)"
            self._audit.emit(ConfigEvent("REJECTED", f"{where} {said}", Severity.LOW))


def reviewer_text(text: str) -> str:
    """A reviewer's words for a log line: no control characters, at most 200 characters and then an ellipsis."""
    plain = "".join(" " if c in "\r\n\t" else c for c in text if c.isprintable() or c in "\r\n\t").strip()
    return plain if len(plain) <= REASON_LIMIT else plain[:REASON_LIMIT] + "…"
