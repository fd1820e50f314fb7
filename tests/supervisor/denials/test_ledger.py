"""Nothing that was counted gets lost, whatever fails, and memory stays bounded."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.denials.ledger import Ledger
from pyopenshell.supervisor.denials.reporter import connection_key


@dataclasses.dataclass
class Clock:
    now: int = 1000

    def __call__(self) -> int:
        return self.now


def denial(host: str = "blocked.invalid", port: int = 443, binary: str = "/usr/bin/curl") -> Denial:
    return Denial(layer="l4", stage="connect", host=host, port=port, detail="no", binary=binary)


def test_repetitions_become_one_tally_with_the_first_refusal() -> None:
    clock = Clock()
    ledger = Ledger(connection_key, clock)
    first = denial()
    assert ledger.add(first) is True
    clock.now = 2000
    assert [ledger.add(denial()) for _ in range(49)] == [False] * 49
    (tally,) = ledger.take()
    assert (tally.denial, tally.count, tally.total) == (first, 50, 50)
    assert (tally.first_ms, tally.last_ms) == (1000, 2000)
    assert not ledger.waiting


def test_what_comes_while_a_batch_is_under_way_survives_both_endings() -> None:
    ledger = Ledger(connection_key, Clock())
    ledger.add(denial())
    ledger.take()
    ledger.add(denial())
    ledger.give_back()
    (tally,) = ledger.take()
    assert tally.count == 2
    ledger.add(denial())
    ledger.acknowledge()
    (tally,) = ledger.take()
    assert (tally.count, tally.total) == (1, 3)


def test_a_second_batch_needs_the_first_settled() -> None:
    ledger = Ledger(connection_key, Clock())
    ledger.add(denial())
    ledger.take()
    with pytest.raises(RuntimeError):
        ledger.take()


def test_a_full_ledger_counts_what_it_cannot_hold_and_makes_room_for_it_later() -> None:
    clock = Clock()
    ledger = Ledger(connection_key, clock, capacity=2, forget_after_ms=100)
    for host in ("a.test", "b.test", "c.test"):
        ledger.add(denial(host))
    assert ledger.overflow == 1
    ledger.take()
    clock.now += 1000
    assert ledger.add(denial("d.test")) is False, "an unsettled batch is not forgotten"
    ledger.acknowledge()
    assert ledger.add(denial("e.test")) is True
    assert {t.denial.host for t in ledger.take()} == {"e.test"}
    assert ledger.overflow == 2


def test_a_small_batch_gives_everybody_a_turn() -> None:
    ledger = Ledger(connection_key, Clock())
    seen: list[str] = []
    for _ in range(3):
        for host in "abcde":
            ledger.add(denial(f"{host}.test"))
        seen += [t.denial.host[0] for t in ledger.take(2)]
        ledger.acknowledge()
    assert seen == list("abcdea")


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 12)),
        st.tuples(st.just("send"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 300)),
    ),
    max_size=120,
)


@given(operations)
def test_added_equals_delivered_plus_waiting_plus_overflow(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    ledger = Ledger(connection_key, clock, capacity=5, forget_after_ms=200)
    added = delivered = 0
    for step, value in steps:
        if step == "add":
            ledger.add(denial(f"h{value}.test"))
            added += 1
        elif step == "wait":
            clock.now += value
        else:
            batch = ledger.take()
            assert len(batch) <= 5
            assert all(t.count > 0 and t.first_ms <= t.last_ms <= clock.now for t in batch)
            if value:
                ledger.acknowledge()
                delivered += sum(t.count for t in batch)
            else:
                ledger.give_back()
    waiting = sum(t.count for t in ledger.take())
    assert added == delivered + waiting + ledger.overflow


@given(operations)
def test_the_same_history_gives_the_same_batches(steps: list[tuple[str, int]]) -> None:
    def replay() -> list[list[tuple[str, int, int, int]]]:
        clock = Clock()
        ledger = Ledger(connection_key, clock, capacity=5, forget_after_ms=200)
        batches = []
        for step, value in steps:
            if step == "add":
                ledger.add(denial(f"h{value}.test"))
            elif step == "wait":
                clock.now += value
            else:
                batches.append([(t.denial.host, t.count, t.first_ms, t.last_ms) for t in ledger.take()])
                if value:
                    ledger.acknowledge()
                else:
                    ledger.give_back()
        return batches

    assert replay() == replay()
