"""SOCKS5 from bytes: any split reads the same, names are canonical or refused, nothing crashes it."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.policy.hosts import canonical_host
from pyopenshell.supervisor.proxy.socks import Handshake, Reply, Request, SocksError

NO_AUTH = b"\x05\x01\x00"


def connect(host: bytes, port: int = 443, command: int = 1) -> bytes:
    return b"\x05%c\x00\x03%c%b" % (command, len(host), host) + port.to_bytes(2, "big")


def converse(data: bytes, cuts: list[int]) -> tuple[Request | str | None, bytes]:
    """What comes of `data` cut at `cuts`, and every byte that was answered."""
    handshake, out, edges = Handshake(), b"", sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(edges):
        try:
            request = handshake.feed(data[start:end])
        except SocksError as error:
            return str(error), out + handshake.out + error.wire
        out += handshake.out
        handshake.out = b""
        if request is not None:
            return Request(request.host, request.port, request.rest + data[end:]), out
    return None, out


def test_a_connect_by_name() -> None:
    assert converse(NO_AUTH + connect(b"API.test.", 443) + b"hello", []) == (
        Request("api.test", 443, b"hello"),
        b"\x05\x00",
    )


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"\x01\x7f\x00\x00\x01", "127.0.0.1"),
        (b"\x04" + ipaddress.IPv6Address("2001:db8::1").packed, "2001:db8::1"),
        (b"\x04" + ipaddress.IPv6Address("::ffff:169.254.169.254").packed, "169.254.169.254"),
        (b"\x03\x09127.0.0.1", "127.0.0.1"),
        (b"\x03\x03::1", "::1"),
    ],
)
def test_addresses_are_judged_as_what_they_are(raw: bytes, host: str) -> None:
    request, _ = converse(NO_AUTH + b"\x05\x01\x00" + raw + b"\x00\x50", [])
    assert request == Request(host, 80, b"")


def test_user_and_password_are_taken_and_mean_nothing() -> None:
    request, out = converse(b"\x05\x01\x02" + b"\x01\x04user\x06secret" + connect(b"api.test"), [4, 9])
    assert request == Request("api.test", 443, b"")
    assert out == b"\x05\x02\x01\x00"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (b"evil.test\x00.allowed.test", Reply.FAILURE),
        (b"allowed.test%00.evil.test", Reply.FAILURE),
        (b"allowed.test\t", Reply.FAILURE),
        (b"allowed.test\r\nHost: x", Reply.FAILURE),
        (b"allowed.test evil.test", Reply.FAILURE),
        (b"allowed.test@evil.test", Reply.FAILURE),
        (b"*", Reply.FAILURE),
        (b"a..b", Reply.FAILURE),
        (b"2130706433", Reply.FAILURE),
        (b"0177.0.0.1", Reply.FAILURE),
        (b"0x7f.1", Reply.FAILURE),
        (b"::1%lo", Reply.FAILURE),
        (b"\xff\xfe", Reply.FAILURE),
        ("pl\u0430in.test".encode(), Reply.FAILURE),
        (b"", Reply.FAILURE),
    ],
)
def test_a_name_with_two_readings_is_refused_before_it_is_matched(name: bytes, answer: Reply) -> None:
    said, out = converse(NO_AUTH + connect(name), [])
    assert isinstance(said, str)
    assert said.isprintable()
    assert out == b"\x05\x00" + answer.wire


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (NO_AUTH + connect(b"api.test", command=2), b"\x05\x00" + Reply.COMMAND_NOT_SUPPORTED.wire),
        (NO_AUTH + connect(b"api.test", command=3), b"\x05\x00" + Reply.COMMAND_NOT_SUPPORTED.wire),
        (NO_AUTH + b"\x05\x01\x00\x02\x00\x00\x00", b"\x05\x00" + Reply.ADDRESS_NOT_SUPPORTED.wire),
        (NO_AUTH + connect(b"api.test", 0), b"\x05\x00" + Reply.FAILURE.wire),
        (NO_AUTH + b"\x04\x01\x00\x03\x00\x00\x00", b"\x05\x00" + Reply.FAILURE.wire),
        (b"\x05\x01\x01", b"\x05\xff"),
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x02\x05\x01\x00", b"\x05\x02\x01\x01"),
    ],
)
def test_what_is_not_served_is_said_in_the_protocols_words(data: bytes, out: bytes) -> None:
    said, answered = converse(data, [])
    assert isinstance(said, str)
    assert answered == out


messages = st.one_of(
    st.binary(max_size=64),
    st.tuples(
        st.sampled_from([NO_AUTH, b"\x05\x02\x00\x02", b"\x05\x01\x02\x01\x01u\x01p"]),
        st.integers(0, 4),
        st.sampled_from([1, 3, 4, 9]),
        st.binary(max_size=255),
        st.binary(max_size=40),
    ).map(lambda p: p[0] + b"\x05%c\x00%c%c" % (p[1], p[2], len(p[3])) + p[3] + b"\x01\xbb" + p[4]),
)


@given(messages, st.lists(st.integers(0, 400), max_size=6))
def test_any_split_of_any_bytes_reads_the_same_and_hosts_are_canonical(data: bytes, cuts: list[int]) -> None:
    whole, out = converse(data, [])
    assert converse(data, cuts) == (whole, out)
    if isinstance(whole, Request):
        assert canonical_host(whole.host) == whole.host
        assert 0 < whole.port < 65536
    assert len(out) <= 32
