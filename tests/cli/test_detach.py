"""The detach keys in what is typed."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pyopenshell.cli.terminal import Detacher


@pytest.mark.parametrize(
    ("typed", "gets", "leaves"),
    [
        ([b"ls\n"], b"ls\n", False),
        ([b"\x10\x11"], b"", True),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"\x10", b"\x10", b"x"], b"\x10\x10x", False),
        ([b"\x10", b"\x10\x11"], b"\x10", True),
        ([b"\x11\x10", b"p"], b"\x11\x10p", False),
        ([b"x\x10\x11rest"], b"x", True),
    ],
)
def test_keys(typed: list[bytes], gets: bytes, leaves: bool) -> None:
    detacher, got = Detacher(), b""
    for piece in typed:
        keys, left = detacher.feed(piece)
        got += keys
    assert (got, left) == (gets, leaves)


@given(st.lists(st.binary(max_size=5)), st.binary(min_size=1, max_size=1))
def test_nothing_that_is_typed_gets_lost_or_out_of_order(pieces: list[bytes], last: bytes) -> None:
    typed = b"".join(pieces).replace(b"\x10\x11", b"") + (b"x" if last in b"\x10\x11" else last)
    detacher, got, left, start = Detacher(), b"", False, 0
    for length in [len(piece) for piece in pieces] + [len(typed)]:
        keys, left = detacher.feed(typed[start : start + length])
        got, start = got + keys, start + length
        if left:
            break
    before, keys, _ = typed.partition(Detacher.KEYS)
    assert left == bool(keys)
    assert got == (before if left else typed)
