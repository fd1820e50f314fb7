"""The sandbox's nftables rules over raw netlink, in one atomic batch, and NFLOG to see what they refused.

The namespace holds only `lo`, so containment does not depend on this: the rules bring TCP and DNS of programs that know
no proxy to the supervisor's doors, make everything else fail at once, and make the attempt visible. Knows no policy.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import struct
from collections.abc import Iterator

from pyopenshell.isolation.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    attribute,
    attributes,
    nested,
)

NFLOG_GROUP = 7
_BATCH_BEGIN, _BATCH_END, _SUBSYS_NFT, _SUBSYS_ULOG = 16, 17, 10, 4
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_INET, _IPV4, _IPV6, _HOOK_OUT = 1, 2, 10, 3
_DROP, _ACCEPT, _RETURN = 0, 1, 0xFFFFFFFB
_PRIORITY_NAT, _PRIORITY_FILTER = -100, 0
_REGISTER = 1
_META_NFPROTO, _META_L4PROTO, _CT_STATE, _CT_STATUS = 15, 16, 0, 2
_CT_ESTABLISHED_OR_RELATED = (1 << 1) | (1 << 2)
_CT_REDIRECTED = 1 << 5
_ADMIN_PROHIBITED = 3


def _be32(value: int) -> bytes:
    return struct.pack("!I", value & 0xFFFFFFFF)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, attribute(1, _text(name)), nested(2, *parts))


def _meta(key: int) -> bytes:
    return _expression("meta", attribute(2, _be32(key)), attribute(1, _be32(_REGISTER)))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(
        "payload",
        attribute(1, _be32(_REGISTER)),
        attribute(2, _be32(base)),
        attribute(3, _be32(offset)),
        attribute(4, _be32(length)),
    )


def _compare(operator: int, data: bytes) -> bytes:
    return _expression(
        "cmp", attribute(1, _be32(_REGISTER)), attribute(2, _be32(operator)), nested(3, attribute(1, data))
    )


def _equals(data: bytes) -> bytes:
    return _compare(0, data)


def _mask(mask: bytes) -> bytes:
    return _expression(
        "bitwise",
        attribute(1, _be32(_REGISTER)),
        attribute(2, _be32(_REGISTER)),
        attribute(3, _be32(len(mask))),
        nested(4, attribute(1, mask)),
        nested(5, attribute(1, bytes(len(mask)))),
    )


def _verdict(code: int) -> bytes:
    return _expression("immediate", attribute(1, _be32(0)), nested(2, nested(2, attribute(1, _be32(code)))))


def _transport(protocol: int) -> bytes:
    return _meta(_META_L4PROTO) + _equals(bytes([protocol]))


def _target(network: str) -> bytes:
    ip, _, prefix = network.partition("/")
    if ":" in ip:
        raw, offset, protocol = socket.inet_pton(socket.AF_INET6, ip), 24, _IPV6
    else:
        raw, offset, protocol = socket.inet_aton(ip), 16, _IPV4
    length = len(raw)
    bits = int(prefix or length * 8)
    match = _meta(_META_NFPROTO) + _equals(bytes([protocol])) + _payload(1, offset, length)
    if bits != length * 8:
        match += _mask((((1 << bits) - 1) << (length * 8 - bits)).to_bytes(length, "big"))
    return match + _equals(raw)


def _target_port(port: int) -> bytes:
    return _payload(2, 2, 2) + _equals(struct.pack("!H", port))


def _tracked(key: int, bits: int) -> bytes:
    """Conntrack says any of `bits` about the packet."""
    value = _expression("ct", attribute(1, _be32(_REGISTER)), attribute(2, _be32(key)))
    return value + _mask(struct.pack("=I", bits)) + _compare(1, bytes(4))


def _redirect(port: int) -> bytes:
    """To the loopback address of the packet's family, at `port`."""
    load = _expression("immediate", attribute(1, _be32(_REGISTER)), nested(2, attribute(1, struct.pack("!H", port))))
    return load + _expression("redir", attribute(1, _be32(_REGISTER)))


def _limit(rate: int, burst: int) -> bytes:
    return _expression(
        "limit",
        attribute(1, struct.pack("!Q", rate)),
        attribute(2, struct.pack("!Q", 1)),
        attribute(3, _be32(burst)),
        attribute(4, _be32(0)),
    )


def _log(group: int, snaplen: int) -> bytes:
    return _expression("log", attribute(1, struct.pack("!H", group)), attribute(3, _be32(snaplen)))


_REJECT_RESET = _expression("reject", attribute(1, _be32(1)), attribute(2, b"\0"))
_REJECT_ADMIN = _expression("reject", attribute(1, _be32(2)), attribute(2, bytes([_ADMIN_PROHIBITED])))


class Batch:
    """Messages that take effect together or not at all."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._messages: list[bytes] = []
        self._add(_NEWTABLE, NLM_F_CREATE, attribute(1, _text(table)))

    def _add(self, kind: int, flags: int, body: bytes) -> None:
        self._messages.append(
            struct.pack(
                "=IHHII",
                20 + len(body),
                kind | (_SUBSYS_NFT << 8),
                flags | NLM_F_REQUEST | NLM_F_ACK,
                len(self._messages) + 2,
                0,
            )
            + struct.pack("!BBH", _INET, 0, 0)
            + body
        )

    def output_chain(self, name: str, kind: str, priority: int, policy: int) -> None:
        hook = nested(4, attribute(1, _be32(_HOOK_OUT)), attribute(2, _be32(priority)))
        body = attribute(1, _text(self._table)) + attribute(3, _text(name)) + hook
        self._add(_NEWCHAIN, NLM_F_CREATE, body + attribute(5, _be32(policy)) + attribute(7, _text(kind)))

    def rule(self, chain: str, *expressions: bytes) -> None:
        body = attribute(1, _text(self._table)) + attribute(2, _text(chain)) + nested(4, *expressions)
        self._add(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body)

    def commit(self) -> None:
        """Program the kernel. Raises OSError with the first refusal."""

        def mark(kind: int, sequence: int) -> bytes:
            header = struct.pack("=IHHII", 20, kind, NLM_F_REQUEST, sequence, 0)
            return header + struct.pack("!BBH", 0, 0, _SUBSYS_NFT)

        pending = {index + 2 for index in range(len(self._messages))}
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as sock:
            sock.settimeout(5)
            sock.send(mark(_BATCH_BEGIN, 1) + b"".join(self._messages) + mark(_BATCH_END, len(self._messages) + 2))
            while pending:
                data = sock.recv(1 << 17)
                offset = 0
                while offset + 20 <= len(data):
                    length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                    if kind == 2:
                        code = -struct.unpack_from("=i", data, offset + 16)[0]
                        if code:
                            raise OSError(code, f"nftables message {sequence}: {os.strerror(code)}")
                        pending.discard(sequence)
                    offset += (length + 3) & ~3


def rules(proxy: tuple[str, int], local: tuple[str, ...], capture: int, dns: int, *, log: bool) -> Batch:
    """Everything of one sandbox. DNS goes to port `dns`; TCP to the proxy and to the sandbox's own addresses (`local`)
    goes there, all other TCP to port `capture`; the rest is refused at once.

    UDP and the rest get EPERM from send(). TCP is only refused where it could not be captured, and then with a reset:
    an ICMP error would cost an IPv6 connect() a one-second retransmit.
    """
    batch = Batch("openshell")
    batch.output_chain("capture", "nat", _PRIORITY_NAT, _ACCEPT)
    for protocol in (17, 6):  # before the exemptions: resolvers on loopback addresses are policy DNS as well
        batch.rule("capture", _transport(protocol), _target_port(53), _redirect(dns))
    batch.rule("capture", _transport(6), _target(proxy[0]), _target_port(proxy[1]), _verdict(_RETURN))
    for network in local:
        batch.rule("capture", _target(network), _verdict(_RETURN))
    batch.rule("capture", _transport(6), _redirect(capture))
    batch.output_chain("fence", "filter", _PRIORITY_FILTER, _DROP)
    batch.rule("fence", _tracked(_CT_STATUS, _CT_REDIRECTED), _verdict(_ACCEPT))
    batch.rule("fence", _transport(6), _target(proxy[0]), _target_port(proxy[1]), _verdict(_ACCEPT))
    for network in local:
        batch.rule("fence", _target(network), _verdict(_ACCEPT))
    batch.rule("fence", _tracked(_CT_STATE, _CT_ESTABLISHED_OR_RELATED), _verdict(_ACCEPT))
    if log:
        batch.rule("fence", _limit(5, 10), _log(NFLOG_GROUP, 128))
    batch.rule("fence", _transport(6), _REJECT_RESET)
    batch.rule("fence", _REJECT_ADMIN)
    return batch


def nflog_socket() -> socket.socket:
    """Receives what the fence logs. Made inside the namespace, read from anywhere. Raises OSError."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)

    def configure(*parts: bytes) -> None:
        body = struct.pack("!BBH", 0, 0, NFLOG_GROUP) + b"".join(parts)
        kind = (_SUBSYS_ULOG << 8) | 1
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        code = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if code:
            raise OSError(code, "NFLOG: " + os.strerror(code))

    try:
        sock.bind((0, 0))
        configure(attribute(1, bytes([1])))  # bind to the group
        configure(attribute(2, struct.pack("!IBx", 128, 2)))  # copy 128 bytes of each packet
        configure(attribute(5, _be32(1)), attribute(4, _be32(1)))  # one packet per message, flush after 10 ms
    except OSError:
        sock.close()
        raise
    return sock


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """One packet the fence refused. `protocol` is the IP protocol number; ports are 0 where there are none."""

    protocol: int
    target: str
    port: int
    source_port: int


def parse_nflog(data: bytes) -> Iterator[Refused]:
    """Packets in one message of `nflog_socket()`; what cannot be parsed is left out."""
    offset = 0
    while offset + 20 <= len(data):
        length, kind, *_ = struct.unpack_from("=IHHII", data, offset)
        if kind == (_SUBSYS_ULOG << 8):
            packet = dict(attributes(data[offset + 20 : offset + length])).get(9, b"")
            refused = _parse_packet(packet)
            if refused is not None:
                yield refused
        offset += max(20, (length + 3) & ~3)


def _parse_packet(packet: bytes) -> Refused | None:
    if not packet:
        return None
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        head, protocol, target = (packet[0] & 15) * 4, packet[9], socket.inet_ntoa(packet[16:20])
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        head, protocol, target = 40, packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        return None
    ports = packet[head : head + 4] if protocol in (6, 17) else b""
    if len(ports) < 4:
        return Refused(protocol, target, 0, 0)
    return Refused(protocol, target, int.from_bytes(ports[2:4], "big"), int.from_bytes(ports[0:2], "big"))
