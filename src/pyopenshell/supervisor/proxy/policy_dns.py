"""Policy DNS: from a question's bytes to an answer's. Free of I/O, and so it cannot ask anybody else.

Names that some rule of the policy names, for whatever program and port, get synthetic addresses (`names`), as does
`policy.local`. Nothing else exists. A name is resolved for real only when a connection to it was admitted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from pyopenshell.policy.hosts import canonical_host, is_ip_literal
from pyopenshell.supervisor.proxy.authority import LOCAL_HOST

if TYPE_CHECKING:
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.proxy.names import Names

TTL: Final = 30
"""Seconds. The address of a name does not change; this only bounds how long an answer outlives a removed rule."""
MAX_QUERY: Final = 4096
PAYLOAD: Final = 1232
"""EDNS buffer size that avoids fragments (DNS flag day 2020)."""
_REFUSED_TYPES = frozenset(
    {dns.rdatatype.ANY, dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.MAILA, dns.rdatatype.MAILB}
)
_HEADER = struct.Struct("!HHHHHH")
_NO_ROOM: Final[list[str]] = []
_LOOPBACK = {dns.rdatatype.A: "127.0.0.1", dns.rdatatype.AAAA: "::1"}


class PolicyDns:
    """Answers one message at a time.

    `refused` is told the name and type of every question that policy does not allow, and gives the denial's id, or ""
    when this one was only counted. `full` is called when there is no address left for a name.
    """

    def __init__(
        self,
        current: Current,
        names: Names,
        *,
        ipv6: bool,
        refused: Callable[[str, str], str],
        full: Callable[[str], None],
    ) -> None:
        self._current = current
        self._names = names
        self._ipv6 = ipv6
        self._refused = refused
        self._full = full

    def answer(self, data: bytes) -> bytes | None:
        """The answer's bytes, or None where silence is right: an answer, or no DNS at all."""
        if len(data) < _HEADER.size or len(data) > MAX_QUERY:
            return None
        if data[2] & 0x80:
            return None  # an answer: whoever sent it must not get another one, for ever
        if data[2] >> 3 & 15 != dns.opcode.QUERY:
            return _bare(data, dns.rcode.NOTIMP)
        try:
            query = dns.message.from_wire(data)
            if len(query.question) != 1:
                return _bare(data, dns.rcode.FORMERR)
            return self._answer(query)
        except (dns.exception.DNSException, ValueError, IndexError, struct.error):
            return _bare(data, dns.rcode.FORMERR)

    def _answer(self, query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query, recursion_available=True, our_payload=PAYLOAD)
        if query.edns > 0:
            response.set_rcode(dns.rcode.BADVERS)
            return response.to_wire()
        question = query.question[0]
        kind = question.rdtype
        if question.rdclass != dns.rdataclass.IN or kind in _REFUSED_TYPES:
            response.set_rcode(dns.rcode.REFUSED)
            _explain(query, response, dns.edns.EDECode.PROHIBITED, "policy DNS answers questions about hosts only")
            return response.to_wire()
        values = self._values(question.name, kind)
        if values is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            kind_text = dns.rdatatype.to_text(kind)
            denial = self._refused(question.name.to_text(omit_final_dot=True), kind_text)
            text = "not allowed by the sandbox's policy" + (f"; denial {denial}" if denial else "")
            _explain(query, response, dns.edns.EDECode.BLOCKED, text)
        elif values is _NO_ROOM:
            response.set_rcode(dns.rcode.SERVFAIL)
            _explain(query, response, dns.edns.EDECode.OTHER, "too many names are in use in this sandbox")
        elif values:
            response.answer = [dns.rrset.from_text_list(question.name, TTL, dns.rdataclass.IN, kind, values)]
        return response.to_wire()

    def _values(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[str] | None:
        """Records of a name and type as text; [] when there are none of this type, None when there is no such name."""
        if name == dns.name.root:
            return []
        try:
            host = canonical_host(name.to_text(omit_final_dot=True))
        except ValueError:
            return None
        if is_ip_literal(host):
            return None
        if host.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._pointer(name, kind)
        if host == "localhost" or host.endswith(".localhost"):
            return [_LOOPBACK[kind]] if kind in _LOOPBACK else []
        if host == LOCAL_HOST:
            open_ended = False
        else:
            match = self._current.engine.names(host)
            if match is None:
                return None
            open_ended = match == "pattern"
        if kind not in (dns.rdatatype.A, dns.rdatatype.AAAA):
            return []  # no HTTPS record either: no hint at QUIC, no key for an encrypted ClientHello
        if kind == dns.rdatatype.AAAA and not self._ipv6:
            return []
        addresses = self._names.assign(host, open_ended=open_ended)
        if addresses is None:
            self._full(host)
            return _NO_ROOM
        return [str(addresses.ipv4 if kind == dns.rdatatype.A else addresses.ipv6)]

    def _pointer(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[str] | None:
        try:
            host = self._names.name(dns.reversename.to_address(name))
        except dns.exception.DNSException:
            return None
        if not host:
            return None
        return [host + "."] if kind == dns.rdatatype.PTR else []


def _bare(data: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer without sections to a message of which only the header is certain."""
    number, flags = struct.unpack_from("!HH", data)
    return _HEADER.pack(number, 0x8000 | flags & 0x7900 | rcode, 0, 0, 0, 0)


def _explain(query: dns.message.Message, response: dns.message.Message, code: dns.edns.EDECode, text: str) -> None:
    """RFC 8914: only to those who speak EDNS."""
    if query.edns == 0:
        response.use_edns(0, payload=PAYLOAD, options=[dns.edns.EDEOption(code, text)])


class FrameError(Exception):
    """A TCP client that does not keep to the framing."""


class Frames:
    """Messages out of a TCP stream: two bytes of length before each (RFC 1035, 4.2.2)."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Complete messages. Raises FrameError for one that is empty or too long; nothing may be fed after that."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= 2:
            size = int.from_bytes(self._buffer[:2], "big")
            if not _HEADER.size <= size <= MAX_QUERY:
                raise FrameError(f"a message of {size} bytes")
            if len(self._buffer) < 2 + size:
                break
            messages.append(self._buffer[2 : 2 + size])
            self._buffer = self._buffer[2 + size :]
        return messages


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
