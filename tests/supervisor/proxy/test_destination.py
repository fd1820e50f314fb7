"""Which addresses may be dialled, from the classification up to the answer the client sees."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.proxy.destination import Class, classify, parse
from tests.supervisor.proxy.rig import Client, Response, Upstream, raw, rest, rig, rule

BLOCKED = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.1.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "2001:0:1::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:c1::a9fe:a9fe",
    "fd20:ce::254",
    "100::1",
    "4000::1",
    "5f00::1",
]
INTERNAL = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.18.0.1",
    "192.88.99.1",
    "fc00::1",
    "fd12::1",
    "2001:db8::1",
    "3fff::1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2a00::5efe:8.8.8.8",
]
PUBLIC = ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(t, Class.BLOCKED) for t in BLOCKED]
    + [(t, Class.INTERNAL) for t in INTERNAL]
    + [(t, Class.PUBLIC) for t in PUBLIC]
    + [("100.64.0.1", Class.SHARED), ("::ffff:100.64.0.1", Class.SHARED), ("2a00::200:5efe:7f00:1", Class.BLOCKED)],
)
def test_classes(text: str, expected: Class) -> None:
    assert classify(ipaddress.ip_address(text)) is expected


SLOW = """
    0.0.0.0/8 B  127.0.0.0/8 B  169.254.0.0/16 B  224.0.0.0/4 B  240.0.0.0/4 B  168.63.129.16/32 B  100.100.100.200/32 B
    192.0.0.192/32 B  100.64.0.0/10 S  10.0.0.0/8 I  172.16.0.0/12 I  192.168.0.0/16 I  192.0.0.0/24 I  192.0.2.0/24 I
    198.51.100.0/24 I  203.0.113.0/24 I  198.18.0.0/15 I  192.88.99.0/24 I  0.0.0.0/0 P
"""
"""The IPv4 table once more, first match wins: written by hand from the IANA registry and the clouds' manuals."""
CLASSES = {"B": Class.BLOCKED, "S": Class.SHARED, "I": Class.INTERNAL, "P": Class.PUBLIC}
TABLE = [(word.split("/"), CLASSES[c]) for word, c in zip(SLOW.split()[::2], SLOW.split()[1::2], strict=True)]


def bits(packed: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in packed)


def slowly(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Class:
    """Classification by strings of bits, unwrapping first: shares nothing with the product's."""
    text = bits(address.packed)
    if len(text) == 32:
        for (network, length), found in TABLE:
            if text.startswith(bits(bytes(map(int, network.split("."))))[: int(length)]):
                return found
    groups = f"{int(text, 2):032x}"
    low = slowly(ipaddress.IPv4Address(int(text[96:], 2))) if len(text) == 128 else Class.BLOCKED
    if groups[:24] in ("0" * 20 + "ffff", "0064ff9b" + "0" * 16):
        return low
    metadata = ("fd2000ce" + "0" * 20 + "0254", "fd000042" + "0" * 20 + "0042", "fd0000c1" + "0" * 16 + "a9fea9fe")
    if groups.startswith("fd000ec2") or groups in metadata:
        return Class.BLOCKED
    if groups[0] == "f" and text[4:7] == "110":  # fc00::/7
        return Class.INTERNAL
    if text[:3] != "001" or groups.startswith(("2002", "20010000", "200100020000")):
        return Class.BLOCKED
    if text.startswith("0010000000000001" + "0000000") or groups.startswith(("20010db8", "3fff0")):
        return Class.INTERNAL
    return max(Class.INTERNAL, low) if groups[16:24] in ("00005efe", "02005efe") else Class.PUBLIC


EDGES = [ipaddress.ip_network("/".join(network)) for network, _ in TABLE]
near_v4 = st.sampled_from([edge for n in EDGES for edge in (int(n[0]), int(n[-1]))]).flatmap(
    lambda edge: st.integers(max(edge - 2, 0), min(edge + 2, 2**32 - 1))
)
PREFIXES = [
    "::ffff:0:0",
    "64:ff9b::",
    "64:ff9b:1::",
    "::",
    "2002::",
    "2001::",
    "2001:2::",
    "2a00::5efe:0:0",
    "fd00:ec2::",
]
PREFIXES += [
    "2a00::200:5efe:0:0",
    "fc00::",
    "fe80::",
    "ff00::",
    "2001:db8::",
    "3fff::",
    "4000::",
    "2001:200::",
    "fd20:ce::",
]
v6 = st.tuples(st.sampled_from(PREFIXES), near_v4 | st.integers(0, 2**32 - 1)).map(
    lambda pair: ipaddress.IPv6Address(int(ipaddress.IPv6Address(pair[0])) | pair[1])
)


@given(near_v4.map(ipaddress.IPv4Address) | st.ip_addresses(v=4) | st.ip_addresses(v=6) | v6)
def test_the_classification_equals_an_independent_slow_one(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert classify(address) is slowly(address)


@given(st.ip_addresses(v=4))
def test_every_disguise_of_an_ipv4_address_is_at_least_as_bad(address: ipaddress.IPv4Address) -> None:
    plain = classify(address)
    for prefix in ("::ffff:", "64:ff9b::"):
        assert classify(ipaddress.ip_address(f"{prefix}{address}")) == plain
    number = int(address)
    assert classify(ipaddress.IPv6Address(0x2002 << 112 | number << 80)) is Class.BLOCKED


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_public_is_never_wider_than_the_library_s_idea(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if classify(address) is Class.PUBLIC and not (
        address.version == 6 and address in ipaddress.ip_network("64:ff9b::/96")
    ):
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert (mapped or address).is_global


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2130706433", "0177.0.0.1", "127.1", "0x7f.1", "1.2.3.4:80", ""])
def test_odd_spellings_are_no_addresses(text: str) -> None:
    assert parse(text) is None


def policy(**more: object):  # type: ignore[no-untyped-def]
    return rule(
        "p",
        raw("name.test", 443, **more),
        rest("web.test", ("GET", "/**"), port=80, **more),
        raw("*.wild.test", 443, **more),
    )


async def refused(
    answers: list[str], host: str = "www.wild.test", **more: object
) -> tuple[Response, Response, list[str]]:
    """CONNECT and forward answers for a host that policy allows and that resolves to `answers`."""
    pattern = "*.wild.test" if host.endswith(".wild.test") else host
    both = rule("p", raw(pattern, 443, **more), rest(pattern, ("GET", "/**"), port=80, **more))
    async with rig(both) as r:
        r.answers[host] = answers
        tunnel = await r.run(lambda client: client.connect(f"{host}:443"))
        forward = await r.run(lambda client: client.request(f"GET http://{host}/x?q=1 HTTP/1.1\nHost: x\n\n"))
        assert [d.stage for d in r.denials] == ["ssrf", "ssrf"]
        assert len(r.log.decisions()) == 2
        assert all("engine:ssrf]" in line for line in r.log.lines())
        assert "q=1" not in repr(r.log.events)
        return tunnel, forward, r.resolved


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "100.64.0.1"]
)
async def test_an_allowed_name_that_resolves_inward(address: str) -> None:
    tunnel, forward, resolved = await refused([address])
    for answer in (tunnel, forward):
        assert answer.status == 403
        assert answer.json["error"] == "ssrf_denied"
        assert address in answer.json["reason"]
        assert answer.json["detail"].endswith("blocked: internal address")
        assert "x-openshell-denial" in answer.headers
    assert resolved == ["www.wild.test"] * 2


@pytest.mark.parametrize(
    "answers", [["8.8.8.8", "127.0.0.1"], ["2606:4700::1", "10.0.0.1"], ["8.8.8.8", "::1"], ["8.8.8.8", "fe80::1%2"]]
)
async def test_one_bad_address_refuses_the_set(answers: list[str]) -> None:
    tunnel, forward, _ = await refused(answers)
    assert tunnel.status == forward.status == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"])
async def test_always_blocked_is_not_overridable(address: str) -> None:
    tunnel, _, _ = await refused([address], "name.test")
    assert tunnel.json["failed_condition"] == "address_always_blocked"
    tunnel, _, _ = await refused([address], "name.test", allowed_ips=("10.0.0.0/8",))
    assert tunnel.json["failed_condition"] == "address_always_blocked"
    tunnel, _, _ = await refused([address], "name.test", allowed_ips=("0.0.0.0/0",))
    assert tunnel.json["failed_condition"] == "invalid_allowed_ips"


async def test_allowed_ips_bound_every_address() -> None:
    for answers in (["10.2.0.1"], ["8.8.8.8"], ["10.1.0.1", "10.2.0.1"]):
        tunnel, _, _ = await refused(answers, "name.test", allowed_ips=("10.1.0.0/16",))
        assert tunnel.json["failed_condition"] == "address_not_in_allowed_ips"
        assert tunnel.json["reason"].endswith("which is not in allowed_ips, connection rejected")


async def test_proposals_do_not_reach_inward() -> None:
    tunnel, _, _ = await refused(["10.0.0.1"], "name.test", advisor_proposed=True)
    assert tunnel.json["failed_condition"] == "address_internal"


@pytest.mark.parametrize("port", [2379, 2380, 6443, 10250, 10255])
async def test_control_plane_ports(port: int) -> None:
    async with rig(rule("p", raw("name.test", port))) as r:
        answer = await r.run(lambda client: client.connect(f"name.test:{port}"))
        assert (answer.status, answer.json["error"]) == (403, "ssrf_denied")
        assert r.resolved == []


@pytest.mark.parametrize(
    "host", ["metadata.google.internal", "169.254.169.254", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_metadata_and_literals_even_when_a_rule_names_them(host: str) -> None:
    literal = host.strip("[]").removeprefix("::ffff:")
    async with rig(rule("p", raw(literal, 80))) as r:
        answer = await r.run(lambda client: client.connect(f"{host}:80"))
        assert (answer.status, answer.json["failed_condition"]) == (403, "address_always_blocked")
        assert r.resolved == []


async def test_denied_names_are_never_resolved() -> None:
    async with rig(policy()) as r:

        def talk(client: Client) -> list[int]:
            return [client.request(f"GET http://{n}.evil.test/ HTTP/1.1\nHost: x\n\n").status for n in ("a", "b")]

        assert await r.run(talk) == [403, 403]
        assert (await r.run(lambda client: client.connect("secret.evil.test:443"))).status == 403
        assert r.resolved == []


async def test_rebinding_dials_only_what_was_checked(plain_upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name answers with a good address first and an inward one afterwards: nobody asks a second time."""
    async with rig(rule("p", raw("*.wild.test", 443))) as r:
        dialled: list[str] = []
        r.answers["www.wild.test"] = ["192.88.98.1", "192.88.97.1"]

        async def refuse(_: object, address: str, port: int) -> None:
            dialled.append(f"{address}:{port}")
            r.answers["www.wild.test"] = ["127.0.0.1"]
            raise ConnectionRefusedError(111, "Connection refused")

        class Loop:
            create_connection = staticmethod(refuse)

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        real = r.plane._loop
        monkeypatch.setattr(r.plane, "_loop", Loop())
        answer = await r.run(lambda client: client.connect("www.wild.test:443"))
        assert (answer.status, answer.json["step"]) == (502, "connect")
        assert dialled == ["192.88.98.1:443", "192.88.97.1:443"]
        assert r.resolved == ["www.wild.test"]


async def test_a_tunnel_checks_again_when_its_addresses_are_old(plain_upstream: Upstream) -> None:
    """A kept tunnel dials long after CONNECT: it resolves and judges again instead of trusting what it knew."""
    from pyopenshell.supervisor.proxy import Limits

    limits = Limits(resolve_seconds=0.0, linger_seconds=0.2)
    async with rig(rule("p", rest("*.wild.test", ("GET", "/**"), port=80)), limits=limits) as r:
        r.answers["www.wild.test"] = ["192.88.98.1"]

        def talk(client: Client) -> Response:
            assert client.connect("www.wild.test:80").status == 200
            r.answers["www.wild.test"] = ["127.0.0.1"]
            return client.request("GET /x HTTP/1.1\nHost: www.wild.test\n\n")

        answer = await r.run(talk)
        assert (answer.status, answer.json["error"]) == (403, "ssrf_denied")


async def test_the_gateway_is_never_dialled_even_by_an_override(plain_upstream: Upstream) -> None:
    host, _, port = plain_upstream.address.partition(":")
    blocked = frozenset({(host, int(port))})
    async with rig(
        rule("p", raw("gw.test", 443)), upstreams={("gw.test", 443): plain_upstream.address}, blocked=blocked
    ) as r:
        answer = await r.run(lambda client: client.connect("gw.test:443"))
        assert (answer.status, answer.json["error"]) == (403, "ssrf_denied")
        assert plain_upstream.connections == 0


async def test_a_name_that_resolves_to_the_gateway_is_refused() -> None:
    gateway = frozenset({("192.88.98.1", 443)})
    async with rig(rule("p", raw("*.wild.test", 443)), blocked=gateway) as r:
        for spelling in ("192.88.98.1", "::ffff:192.88.98.1"):
            r.answers["www.wild.test"] = [spelling]
            answer = await r.run(lambda client: client.connect("www.wild.test:443"))
            assert (answer.status, answer.json["failed_condition"]) == (403, "address_always_blocked")


async def test_an_override_holds_for_its_port_only(plain_upstream: Upstream) -> None:
    async with rig(
        rule("p", dataclasses.replace(raw("gw.test"), ports=(443, 444))),
        upstreams={("gw.test", 443): plain_upstream.address},
    ) as r:
        r.answers["gw.test"] = ["127.0.0.1"]
        assert (await r.run(lambda client: client.connect("gw.test:443"))).status == 200
        assert (await r.run(lambda client: client.connect("gw.test:444"))).status == 403
