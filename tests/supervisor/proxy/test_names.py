"""Synthetic addresses: stable, bounded, and never given to another name while they may be in use."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.proxy.names import IPV4_POOL, IPV6_POOL, Names


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_stands_for_its_name_and_the_name_for_its_address() -> None:
    names = Names()
    one, two = names.assign("a.test", open_ended=False), names.assign("b.test", open_ended=True)
    assert one
    assert two
    assert one == names.assign("a.test", open_ended=False)
    assert one.ipv4 in IPV4_POOL
    assert one.ipv6 in IPV6_POOL
    assert [names.name(str(x)) for x in (one.ipv4, one.ipv6, two.ipv4)] == ["a.test", "a.test", "b.test"]
    for address in ("198.18.0.0", "198.19.255.255", "192.0.2.1", "fd23:6f70:656e:ff::2", "x"):
        assert names.name(address) == ""


def test_a_name_keeps_its_address_as_long_as_it_may_be_cached_or_connected() -> None:
    clock = Clock()
    names = Names(clock, capacity=2, open_ended=2, keep_seconds=600)
    first = names.assign("a.test", open_ended=False)
    assert names.assign("b.test", open_ended=False)
    names.hold("a.test")
    assert names.assign("c.test", open_ended=False) is None
    clock.now += 601
    assert names.assign("c.test", open_ended=False), "b.test was quiet and makes room"
    assert names.assign("a.test", open_ended=False) == first
    names.release("a.test")
    assert names.assign("d.test", open_ended=False) is None
    assert len(names) == 2


def test_names_under_wildcards_never_keep_out_those_that_a_rule_names() -> None:
    names = Names(capacity=10, open_ended=3)
    assert [names.assign(f"{i}.wild.test", open_ended=True) is not None for i in range(5)] == [True] * 3 + [False] * 2
    assert all(names.assign(f"{i}.test", open_ended=False) for i in range(7))
    assert names.open_ended == 3


steps = st.lists(
    st.tuples(st.sampled_from(["assign", "wild", "hold", "release", "wait"]), st.integers(0, 9)), max_size=80
)


@given(steps)
def test_laws(story: list[tuple[str, int]]) -> None:
    clock = Clock()
    names = Names(clock, capacity=4, open_ended=2, keep_seconds=100)
    held = dict.fromkeys(range(10), 0)
    seen: dict[ipaddress.IPv4Address, tuple[str, float]] = {}
    for what, number in story:
        name = f"n{number}.test"
        if what in ("assign", "wild"):
            got = names.assign(name, open_ended=what == "wild")
            if got:
                other = seen.get(got.ipv4)
                assert other is None or other[0] == name or clock.now - other[1] >= 100
                seen[got.ipv4] = (name, clock.now)
                assert names.name(str(got.ipv4)) == names.name(str(got.ipv6)) == name
        elif what == "hold" and any(names.name(str(a)) == name for a in seen):
            names.hold(name)
            held[number] += 1
        elif what == "release" and held[number]:
            names.release(name)
            held[number] -= 1
        elif what == "wait":
            clock.now += number * 20
        assert len(names) <= 4
        for number, count in held.items():
            assert not count or any(names.name(str(a)) == f"n{number}.test" for a in seen), "gone while connected"
