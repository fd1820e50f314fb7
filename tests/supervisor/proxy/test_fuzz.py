"""Whatever arrives in whatever pieces: no crash, and the same outcome as in one piece. Oracles: h11 and wsproto."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from pyopenshell.supervisor.proxy.authority import AuthorityError, SchemeError, absolute, host_port
from pyopenshell.supervisor.proxy.channel import Route
from pyopenshell.supervisor.proxy.context import Limits
from pyopenshell.supervisor.proxy.frames import FrameError, ServerFrames
from pyopenshell.supervisor.proxy.http1 import Framing, MessageError, parse_request
from pyopenshell.supervisor.proxy.relay import Relay
from pyopenshell.supervisor.proxy.sniff import HelloError, Kind, classify, server_name
from pyopenshell.supervisor.proxy.websocket import Assemblies, WebSocket

LONG = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))


class Wire:
    """A channel that is a list."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True
        self.congested = self.ended = False
        self.unsent = 0
        self.over = ""

    def write(self, data: bytes) -> None:
        assert not self.over, "written after the end"
        self.written.append(bytes(data))

    def bind(self, data: Callable[[bytes], None], *_: object) -> None:
        self.data = data

    def pause(self, parked: int = 0) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def end(self) -> bool:
        return True

    def close(self) -> None:
        self.over = self.over or "closed"

    def abort(self) -> None:
        self.over = self.over or "aborted"

    @property
    def out(self) -> bytes:
        return b"".join(self.written)

    def feed(self, data: bytes, cuts: list[int]) -> None:
        """In pieces, and only while it is read, as a transport would."""
        at = turn = 0
        while at < len(data) and not self.over:
            assert self.reading, "nobody will ever read on"
            size = max(1, cuts[turn % len(cuts)]) if cuts else len(data)
            self.data(data[at : at + size])
            at += size
            turn += 1


class Timer:
    def cancel(self) -> None:
        return None


class House:
    """Runtime and door in one: every request goes to one upstream, which answers each at once."""

    limits = Limits()

    def __init__(self) -> None:
        self.upstream = Wire()
        self.said: list[tuple[str, str]] = []
        self.refused: list[str] = []

    def take(self, route: Route) -> Any:
        return self.upstream

    def give(self, route: Route, channel: object) -> None:
        return None

    def dial(self, relay: Relay, route: Route) -> None:
        raise AssertionError("there is an idle upstream")

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return Timer()

    def ended(self, relay: Relay) -> None:
        return None

    def request(self, relay: Relay, head: Any) -> None:
        self.said.append((head.method, head.target))
        relay.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close=relay.must_close)

    def malformed(self, relay: Relay, detail: str) -> None:
        self.refused.append(detail)

    def gone(self, relay: Relay) -> None:
        return None


METHODS = st.sampled_from(["GET", "POST", "HEAD", "DELETE", "get", "G T", "PRI", "OPTIONS"])
TARGETS = st.sampled_from(["/", "/a?b=c", "*", "http://x.test/", "/%2e%2e/", "/a b", ""])
NAMES = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "X",
    "content_length",
    " X",
    "Upgrade",
    "",
]
VALUES = [
    "x.test",
    "0",
    "3",
    "03",
    "+3",
    "3, 3",
    "chunked",
    "gzip, chunked",
    "close",
    "keep-alive",
    "100-continue",
    "a\tb",
]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)
BODIES = st.sampled_from(
    ["", "abc", "3\r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n", "3\nabc", "0\r\n\r\n", "zz"]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Requests that are nearly right, end to end, with a byte changed here and there."""
    text = ""
    for _ in range(draw(st.integers(1, 3))):
        line = f"{draw(METHODS)} {draw(TARGETS)} HTTP/1.{draw(st.sampled_from('1110'))}"
        fields = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "x.test"), *draw(FIELDS)][draw(BIT) :])
        text += f"{line}\r\n{fields}\r\n{draw(BODIES)}"
    data = bytearray(text.encode())
    for at, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=2)):
        data[at] = byte
    return bytes(data)


BIT = st.sampled_from([0, 0, 0, 1])
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def converse(data: bytes, cuts: list[int]) -> tuple[object, ...]:
    house, wire = House(), Wire()
    relay = Relay(house, wire, house, 8192)  # type: ignore[arg-type]
    relay.start()
    wire.feed(data, cuts)
    # The text of a 400 may differ: what is wrong first depends on what has arrived.
    statuses = [part[:3] for part in wire.out.split(b"HTTP/1.1 ")[1:]]
    return statuses, house.said, len(house.refused), relay.ended, relay.busy


def splits(data: bytes, cuts: list[int]) -> None:
    assert converse(data, cuts) == converse(data, [])


@given(messages(), CUTS)
def test_requests_mean_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    splits(data, cuts)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@LONG
@given(messages() | st.binary(max_size=300), CUTS)
def test_requests_mean_the_same_in_any_pieces_at_length(data: bytes, cuts: list[int]) -> None:
    splits(data, cuts)


def agrees(data: bytes) -> None:
    """Where h11 accepts a head too, both see the same request and the same end of its body."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return
    try:
        head = parse_request(data, end)
    except MessageError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    try:
        request = server.next_event()
        if not isinstance(request, h11.Request):
            return
        assert (request.method.decode(), request.target.decode()) == (head.method, head.target)
        body = server.next_event()
        if isinstance(body, h11.Data):
            assert head.framing is not Framing.NONE
        elif isinstance(body, h11.EndOfMessage):
            # An empty chunked body is an end at once, for h11.
            assert head.framing in (Framing.NONE, Framing.CHUNKED)
    except h11.RemoteProtocolError:
        return


@given(messages())
def test_h11_reads_what_we_read(data: bytes) -> None:
    agrees(data)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@LONG
@given(messages())
def test_h11_reads_what_we_read_at_length(data: bytes) -> None:
    agrees(data)


# ------------------------------------------------------------------------------------------------------------ WebSocket


def frame_bytes(first: int, payload: bytes, *, mask: bool = False) -> bytes:
    """One frame; its mask is of zeros."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    flag = 0x80 if mask else 0
    return bytes([first, size[0] | flag]) + size[1:] + (b"\0\0\0\0" if flag else b"") + payload


@st.composite
def frames(draw: st.DrawFn, *, mask: bool) -> bytes:
    """Frames of an endpoint, most of them right."""
    out = b""
    for _ in range(draw(st.integers(1, 6))):
        first = draw(st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x83, 0xC1, 0x09]))
        payload = draw(st.sampled_from([b"", b"hi", "é".encode(), b"\xff", b"x" * 125, b"x" * 126, b"\x03\xe8bye"]))
        out += frame_bytes(first, payload, mask=draw(st.sampled_from([mask] * 9 + [not mask])))
    return out[: draw(st.integers(1, len(out)))]


def follow(data: bytes, cuts: list[int]) -> tuple[bytes, str]:
    scanner, passed, at, turn = ServerFrames(), b"", 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)] if cuts else len(data)
        try:
            passed += scanner.feed(data[at : at + size])
        except FrameError as error:
            return passed + error.passed, str(error)
        at, turn = at + size, turn + 1
    return passed, ""


@given(frames(mask=False) | st.binary(max_size=60), CUTS)
def test_a_servers_frames_are_followed_the_same_in_any_pieces_and_as_strictly_as_wsproto(
    data: bytes, cuts: list[int]
) -> None:
    passed, error = follow(data, cuts)
    assert (passed, error) == follow(data, [])
    assert data.startswith(passed)
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(data)
    closed = False
    try:
        closed = any(frame.opcode is Opcode.CLOSE for frame in client.received_frames())
    except ParseFailed:
        return
    # What wsproto takes, we take; it says nothing yet of a frame whose payload is still to come, and behind a close
    # frame it looks at nothing any more.
    rest = data[len(passed) :]
    judged = len(rest) >= 2 and len(rest) >= 2 + (rest[1] & 0x7F)
    assert not error or closed or not judged


class Nothing:
    """Recorder and admitter of a socket that is alone in the world."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def lone_socket(client: Wire, server: Wire, limits: Limits) -> WebSocket:
    """An upgraded connection on which everything is allowed."""
    yes = SimpleNamespace(allowed=True, audit=False, path="/", rule="r", reason="")
    cell = SimpleNamespace(
        inspected=True, decide_message=lambda *_: yes, decide=lambda *_: yes, decision=yes, protocols=("rest",)
    )
    admission: Any = SimpleNamespace(cell=cell, generation=1, host="x.test", port=80, identity=None)
    desk: Any = SimpleNamespace(
        limits=limits,
        current=SimpleNamespace(generation=1),
        admitter=Nothing(),
        record=Nothing(),
        assemblies=Assemblies(1, 0),
        clock=lambda: 0.0,
        after=lambda *_: Timer(),
        websocket_ended=lambda _: None,
    )
    return WebSocket(desk, admission, "http", "/", client, server)


def chat(data: bytes, cuts: list[int]) -> tuple[bytes, bytes, str]:
    client, server = Wire(), Wire()
    socket = lone_socket(client, server, Limits(message_text=200, message_frame=200, message_fragments=3))
    socket.start(b"", b"")
    client.feed(data, cuts)
    return client.out, server.out, client.over


@given(frames(mask=True) | st.binary(max_size=60), CUTS)
@settings(deadline=None)
def test_what_reaches_the_server_is_always_whole_frames(data: bytes, cuts: list[int]) -> None:
    _, sent, _ = chat(data, cuts)
    server = FrameProtocol(client=False, extensions=[])
    server.receive_bytes(sent)
    assert all(frame.frame_finished for frame in server.received_frames())
    told, _, over = chat(data, [])
    said, _, ended = chat(data, cuts)
    assert (told, over) == (said, ended)


# ------------------------------------------------------------------------------------------------------------- the rest


def client_hello() -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="api.test").do_handshake()
    return out.read()


HELLO = client_hello()


@given(st.lists(st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(HELLO)))
def test_a_client_hello_with_changes_is_read_or_refused(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(HELLO)
    for at, byte in changes:
        data[at] = byte
    try:
        name = server_name(bytes(data[:size]))
    except HelloError:
        return
    if not changes:
        assert name == ("api.test" if size == len(HELLO) else None)


@given(st.binary(max_size=80))
def test_what_a_tunnel_begins_with_is_named_once_and_for_all(data: bytes) -> None:
    named = Kind.MORE
    for size in range(len(data) + 1):
        kind = classify(data[:size])
        assert named in (Kind.MORE, kind) or kind is Kind.OTHER
        named = kind


@given(st.text(max_size=60))
def test_authorities_are_read_or_refused(text: str) -> None:
    for read in (lambda: host_port(text), lambda: absolute(text), lambda: absolute(f"http://{text}/")):
        try:
            read()
        except (AuthorityError, SchemeError):
            continue
