"""The transparent door: connections of programs that know nothing of a proxy, redirected by the sandbox's own kernel.

What is judged and dialled is a *name* wherever there is one: the one that policy DNS gave this address to, or, for an
address the client brought along, the name in its first bytes (SNI, Host). That name is dialled by its own resolution,
never by the client's address, so naming an allowed host at an address of one's own gains nothing. Without a name the
address itself is judged.

A refused client hears it in its own language: the envelope in HTTP, an alert in TLS, a reset otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from pyopenshell.policy.decision import Condition
from pyopenshell.policy.hosts import canonical_host, is_ip_literal
from pyopenshell.supervisor.denial import Denial, http_response
from pyopenshell.supervisor.proxy.admission import Intent
from pyopenshell.supervisor.proxy.authority import LOCAL_HOST, AuthorityError, bracketed, host_port
from pyopenshell.supervisor.proxy.caller import CallDesk
from pyopenshell.supervisor.proxy.http1 import MessageError, parse_request
from pyopenshell.supervisor.proxy.parting import linger
from pyopenshell.supervisor.proxy.records import error_response, failure_response
from pyopenshell.supervisor.proxy.sniff import INTERNAL_ERROR, HelloError, Kind, classify, server_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.proxy.admission import Admission, Failure, Peer
    from pyopenshell.supervisor.proxy.caller import Handle
    from pyopenshell.supervisor.proxy.channel import Channel, Timer

_MAX_HEAD = 8192
_ACCESS_DENIED = bytes.fromhex("15 0303 0002 02 31")
"""TLS record with a fatal alert (RFC 8446, 6.2)."""


class CaptureDesk(CallDesk, Protocol):
    """What this door needs of the plane besides what every caller needs."""

    def admit(self, peer: Peer, intent: Intent, done: Callable[[Admission | Denial | Failure], None]) -> Handle: ...

    def settle(self, caller: CaptureDoor, peer: Peer, intent: Intent, result: Admission | Denial | Failure) -> None:
        """Carry an admission's result out: record it and connect, refuse or fail."""


class CaptureDoor:
    """One captured connection until its tunnel stands. Implements `caller.Caller`."""

    __slots__ = (
        "_buffer",
        "_channel",
        "_denial",
        "_desk",
        "_eof",
        "_handle",
        "_host",
        "_last",
        "_name",
        "_peer",
        "_port",
        "_timer",
        "ended",
    )

    def __init__(self, desk: CaptureDesk, channel: Channel, peer: Peer, target: tuple[str, int], name: str) -> None:
        """`target` is where the client connected to (canonical address, port); `name` is policy DNS's for it, or ""."""
        self._desk = desk
        self._channel = channel
        self._peer = peer
        self._host, self._port = target
        self._name = name
        self._buffer = b""
        self._eof = False
        self._handle: Handle | None = None
        self._denial: Denial | None = None
        """Of the address; final unless the first bytes bring a name."""
        self._last: Callable[[Kind], bytes] | None = None
        """Gives the last word in the client's language, once that is known; b"" is a reset."""
        self._timer: Timer | None = None
        self.ended = False

    def __repr__(self) -> str:
        return f"<captured connection to {self._name or self._host}:{self._port}>"

    def start(self) -> None:
        """Take the channel over; `proceed` follows as soon as it can also be written to."""
        self._channel.bind(self._data, self._end_of_data, self._lost, lambda _: None)

    def proceed(self) -> None:
        if self.ended:
            return
        if self._name == LOCAL_HOST:
            self._local()
        elif self._name:
            self._handle = self._desk.ask(self, self._peer, self._intent("transparent-tcp", self._name))
        else:
            self._handle = self._desk.admit(self._peer, self._intent("bypass", self._host), self._judged)

    def _intent(self, stage: str, host: str) -> Intent:
        return Intent(stage, f"TCP {bracketed(host)}:{self._port}", host, self._port)

    def _local(self) -> None:
        if self._port == 80:
            channel, rest = self.established()
            self._desk.local_only(channel, rest)
            return
        detail = "Use http://policy.local only"
        self._desk.record.failed(LOCAL_HOST, self._port, detail)
        answer = error_response(400, "invalid_policy_local_scheme", detail)
        self._say(lambda kind: {Kind.HTTP: answer, Kind.TLS: _ACCESS_DENIED}.get(kind, b""))

    def _judged(self, result: Admission | Denial | Failure) -> None:
        """The verdict on the address itself."""
        self._handle = None
        curable = isinstance(result, Denial) and result.error == "policy_denied"
        if isinstance(result, Denial) and curable and result.condition != Condition.IDENTITY.value:
            self._denial = result
            self._arm()
            self._look()
        else:
            self._desk.settle(self, self._peer, self._intent("bypass", self._host), result)

    # -------------------------------------------------------------------------------------- the client's first bytes

    def _data(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._desk.limits.tunnel_head:
            self._channel.pause(len(self._buffer))
        self._look()

    def _end_of_data(self) -> bool:
        self._eof = True
        self._look()
        return True

    def _look(self) -> None:
        """Go on with what is known by now."""
        if self._last is not None:
            self._part(patient=not self._eof)
        elif self._denial is not None:
            name = _name(self._buffer)
            if name is None and not self._eof:
                return
            self._named(name or "")

    def _named(self, name: str) -> None:
        denial, self._denial = self._denial, None
        self._disarm()
        if name and name != LOCAL_HOST and not is_ip_literal(name):
            at = f"{bracketed(self._host)}:{self._port}"
            intent = dataclasses.replace(self._intent("transparent-tcp", name), at=at)
            self._handle = self._desk.ask(self, self._peer, intent)
        else:
            assert denial is not None
            self._desk.settle(self, self._peer, self._intent("bypass", self._host), denial)

    def _arm(self) -> None:
        self._timer = self._desk.after(self._desk.limits.patience_seconds, self._waited)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited(self) -> None:
        self._timer = None
        if self._last is not None:
            self._part(patient=False)
        elif self._denial is not None:
            self._named("")

    # -------------------------------------------------------------------------------------------------------- caller

    def established(self) -> tuple[Channel, bytes]:
        self._lost()
        return self._channel, self._buffer

    def refuse(self, denial: Denial) -> None:
        def last(kind: Kind) -> bytes:
            if kind is Kind.HTTP:
                asked = dataclasses.replace(denial, method=self._buffer.split(b" ", 1)[0].decode("ascii"))
                return http_response(asked, proposals_enabled=self._desk.current.proposals_enabled, close=True)
            return _ACCESS_DENIED if kind is Kind.TLS else b""

        self._say(last)

    def fail(self, failure: Failure) -> None:
        def last(kind: Kind) -> bytes:
            if kind is Kind.HTTP:
                return failure_response(failure, self._name or self._host, self._port, close=True)
            return INTERNAL_ERROR if kind is Kind.TLS else b""

        self._say(last)

    def _say(self, last: Callable[[Kind], bytes]) -> None:
        self._handle = None
        self._last = last
        self._arm()
        self._part(patient=not self._eof)

    def _part(self, *, patient: bool) -> None:
        kind = classify(self._buffer)
        if kind is Kind.MORE and patient:
            return
        assert self._last is not None
        word = self._last(kind)
        self._lost()
        if word:
            self._channel.write(word)
            self._channel.resume()
            linger(self._channel, self._desk)
        else:
            self._channel.abort()

    def _lost(self) -> None:
        self.ended = True
        self._disarm()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()


def _name(data: bytes) -> str | None:
    """The name in a client's first bytes, "" when they have none, None while more of them are needed."""
    match classify(data):
        case Kind.MORE:
            return None
        case Kind.TLS:
            try:
                name = server_name(data)
                return canonical_host(name) if name else name
            except (HelloError, ValueError):
                return ""
        case Kind.HTTP:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return None if len(data) <= _MAX_HEAD else ""
            try:
                host = parse_request(data, end).host
                return host_port(host.decode("ascii"), 80)[0] if host else ""
            except (MessageError, AuthorityError, UnicodeDecodeError):
                return ""
    return ""
