"""What the kernel refused, as log lines: by name where the address was policy DNS's."""

from __future__ import annotations

import pytest

from pyopenshell.audit.shorthand import shorthand
from pyopenshell.isolation.nft import Refused
from pyopenshell.supervisor import bypass


@pytest.mark.parametrize(
    ("refused", "where", "why"),
    [
        (Refused(17, "198.18.0.1", 443, 5), "api.test:443/udp", "UDP does not leave the sandbox: use TCP"),
        (Refused(17, "192.0.2.1", 53, 5), "192.0.2.1:53/udp", "UDP does not leave the sandbox"),
        (Refused(6, "192.0.2.1", 443, 5), "192.0.2.1:443/tcp", "direct connection refused"),
        (Refused(1, "192.0.2.1", 0, 0), "192.0.2.1/icmp", "ICMP does not leave the sandbox"),
        (Refused(58, "2001:db8::1", 0, 0), "[2001:db8::1]/icmpv6", "ICMP does not leave the sandbox"),
        (Refused(132, "::1", 0, 0), "[::1]/sctp", "sctp does not leave the sandbox"),
        (Refused(47, "192.0.2.1", 0, 0), "192.0.2.1/ip-47", "ip-47 does not leave the sandbox"),
    ],
)
def test_a_refused_packet_is_an_event(refused: Refused, where: str, why: str) -> None:
    line = shorthand(bypass.event(refused, {"198.18.0.1": "api.test"}.get))  # type: ignore[arg-type]
    assert line.startswith(f"NET:REFUSE [MED] DENIED {where} [policy:bypass-detect engine:nftables] [reason:{why}")
