"""Policy DNS: what exists, what does not, and every other type of question; over UDP and TCP; any bytes at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.model import Endpoint, Policy
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy.names import Names
from pyopenshell.supervisor.proxy.nameserver import NameServer, Refusals
from pyopenshell.supervisor.proxy.policy_dns import FrameError, Frames, PolicyDns, framed
from pyopenshell.supervisor.proxy.records import Recorder
from tests.supervisor.proxy.rig import Log, raw, rest, rule

RULES = (
    rule("api", rest("api.test", ("GET", "/**"))),
    rule("wild", raw("*.wild.test", 22), binaries=("/usr/bin/ssh",)),
    rule("address", raw("192.0.2.9", 443)),
)


class House:
    def __init__(self, *rules: object, ipv6: bool = True, open_ended: int = 1024) -> None:
        self.current = Current(compile_policy(Policy(rules=rules or RULES)))  # type: ignore[arg-type]
        self.names = Names(open_ended=open_ended)
        self.log, self.denials, self.now = Log(), list[Denial](), 0.0
        self.record = Recorder(self.log, self.denials.append)
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.refusals = Refusals(self.record, lambda: self.now, self._after, any_policy=lambda: True)
        self.full: list[str] = []
        self.dns = PolicyDns(self.current, self.names, ipv6=ipv6, refused=self.refusals.add, full=self._full)

    def _full(self, name: str) -> None:
        self.full.append(name)
        self.refusals.full(name, repr(self.names))

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, call))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for due, call in [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers.remove((due, call))
            call()

    def ask(self, name: str, kind: str = "A", *, edns: bool = True, rdclass: str = "IN") -> dns.message.Message:
        query = dns.message.make_query(name, kind, rdclass, use_edns=0 if edns else -1)
        answer = self.dns.answer(query.to_wire())
        assert answer is not None
        response = dns.message.from_wire(answer)
        assert query.is_response(response)
        return response


def texts(response: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in response.answer for item in rrset]


def explained(response: dns.message.Message) -> list[dns.edns.EDEOption]:
    return [option for option in response.options if isinstance(option, dns.edns.EDEOption)]


def test_a_name_of_the_policy_has_a_synthetic_address_of_each_family() -> None:
    house = House()
    four, six = house.ask("API.Test"), house.ask("api.test.", "AAAA")
    assert (four.rcode(), six.rcode()) == (dns.rcode.NOERROR, dns.rcode.NOERROR)
    assert (texts(four), texts(six)) == (["198.18.0.1"], ["fd23:6f70:656e::1"])
    assert four.answer[0].name.to_text() == "API.Test."
    assert four.answer[0].ttl == 30
    assert house.names.name("198.18.0.1") == "api.test"
    assert texts(house.ask("a.wild.test")) == ["198.18.0.2"]
    assert texts(house.ask("policy.local")) == ["198.18.0.3"]
    assert texts(House(ipv6=False).ask("api.test", "AAAA")) == []
    assert house.denials == []


@pytest.mark.parametrize("kind", ["HTTPS", "SVCB", "TXT", "MX", "NS", "SOA", "SRV", "CNAME", "CAA", "DNSKEY", "PTR"])
def test_other_types_of_an_existing_name_have_no_data(kind: str) -> None:
    response = House().ask("api.test", kind)
    assert (response.rcode(), texts(response)) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize(
    "name",
    [
        "evil.test",
        "test",
        "xapi.test",
        "api.test.evil.test",
        "wild.test",
        "a.b.wild.test",
        "192.0.2.9",
        "x.api.test",
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "HTTPS"])
def test_everything_else_does_not_exist_and_says_so_in_three_places(name: str, kind: str) -> None:
    house = House()
    response = house.ask(name, kind)
    assert (response.rcode(), texts(response)) == (dns.rcode.NXDOMAIN, [])
    (denial,) = house.denials
    assert (denial.host, denial.stage, denial.condition, denial.port) == (name, "dns", "host_not_allowed", 0)
    (line,) = house.log.lines()
    assert line.startswith(f"NET:REFUSE [MED] DENIED {name}/dns [policy:- engine:dns]")
    assert denial.id in line
    (why,) = explained(response)
    assert (why.code, why.text) == (15, f"not allowed by the sandbox's policy; denial {denial.id}")
    assert house.ask(name, kind, edns=False).options == ()
    assert len(house.names) == 0


@pytest.mark.parametrize(("kind", "rdclass"), [("ANY", "IN"), ("AXFR", "IN"), ("TXT", "CH"), ("A", "HS")])
def test_questions_that_are_not_about_a_host_are_refused(kind: str, rdclass: str) -> None:
    response = House().ask("api.test", kind, rdclass=rdclass)
    assert response.rcode() == dns.rcode.REFUSED
    assert [why.code for why in explained(response)] == [18]


def test_reverse_names_are_known_for_synthetic_addresses_only() -> None:
    house = House()
    house.ask("api.test")
    for address in ("198.18.0.1", "fd23:6f70:656e::1"):
        assert texts(house.ask(dns.reversename.from_address(address).to_text(), "PTR")) == ["api.test."]
    for address in ("198.18.0.2", "8.8.8.8", "::1"):
        assert house.ask(dns.reversename.from_address(address).to_text(), "PTR").rcode() == dns.rcode.NXDOMAIN
    assert texts(house.ask("x.localhost")) == ["127.0.0.1"]


def test_what_was_answered_yesterday_is_gone_with_its_rule() -> None:
    house = House()
    assert texts(house.ask("api.test"))
    house.current.swap(compile_policy(Policy(rules=())), version=2, policy_hash="h")
    assert house.ask("api.test").rcode() == dns.rcode.NXDOMAIN


def test_a_rule_without_a_host_covers_every_name() -> None:
    house = House(rule("net", Endpoint("", (443,), allowed_ips=("203.0.113.0/24",))))
    assert texts(house.ask("anything.test")) == ["198.18.0.1"]
    assert house.names.open_ended == 1


def test_names_under_a_wildcard_run_out() -> None:
    house = House(open_ended=2)
    codes = [house.ask(f"x{i}.wild.test").rcode() for i in range(3)]
    assert codes == [dns.rcode.NOERROR, dns.rcode.NOERROR, dns.rcode.SERVFAIL]
    assert house.full == ["x2.wild.test"]
    assert texts(house.ask("api.test"))


def test_a_flood_of_names_without_an_address_writes_little() -> None:
    house = House(open_ended=2)
    for i in range(1000):
        house.ask(f"x{i}.wild.test")
    assert len(house.full) == 998
    assert len(house.log.lines()) == 20
    assert "policy DNS has no address left for this name: <2 names, 2 under wildcards>" in house.log.lines()[0]
    house.ask("evil.test")
    assert "evil.test/dns" in house.log.lines()[-1], "one flood hides no other refusal"
    house.pass_time(10)
    assert "no address left for 978 more questions" in house.log.lines()[-1]
    house.pass_time(1)
    house.ask("y.wild.test")
    assert "no address left for this name" in house.log.lines()[-1]


def test_a_flood_of_names_writes_little_and_repetitions_are_one_refusal() -> None:
    house = House()
    for i in range(1000):
        house.ask(f"{i}.evil.test")
    assert len(house.log.lines()) == len(house.denials) == 20
    house.pass_time(10)
    assert "refused 980 more questions" in house.log.lines()[-1], "said although nothing more comes"
    house.pass_time(60)
    assert len(house.log.lines()) == 21
    house.ask("again.evil.test")
    first = house.denials[-1].id
    house.ask("again.evil.test")
    assert house.denials[-1].id == first
    assert sum("again.evil.test" in line for line in house.log.lines()) == 1


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (b"\0\1\x80\0" + b"\0" * 8, None),
        (b"\0\1\0\0" + b"\0" * 8, dns.rcode.FORMERR),
        (b"\0\1\x28\0\0\1" + b"\0" * 6 + b"\0\0\1\0\1", dns.rcode.NOTIMP),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\x01a\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (b"\0\1\1\0\0\2\0\0\0\0\0\0\x01a\0\0\1\0\1\x01b\0\0\1\0\1", dns.rcode.FORMERR),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\x01a\0\0\1\0\1junk", dns.rcode.FORMERR),
        (b"x" * 5000, None),
    ],
)
def test_what_is_no_question_gets_no_answer_or_formerr(data: bytes, rcode: int | None) -> None:
    answer = House().dns.answer(data)
    assert (answer is None) == (rcode is None)
    if answer is not None:
        assert answer[:2] == data[:2]
        assert answer[2] & 0x80
        assert answer[3] & 15 == rcode


@st.composite
def almost_queries(draw: st.DrawFn) -> bytes:
    name = ".".join(draw(st.lists(st.text("ab\u00e9-_*0\\", min_size=1, max_size=20), min_size=1, max_size=4)))
    with contextlib.suppress(Exception):
        query = dns.message.make_query(
            name, f"TYPE{draw(st.integers(0, 300))}", use_edns=draw(st.sampled_from([-1, 0, 1]))
        )
        wire = bytearray(query.to_wire())
        for at, value in draw(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4)):
            wire[at % len(wire)] = value
        return bytes(wire)
    return draw(st.binary(max_size=80))


@given(st.one_of(almost_queries(), st.binary(max_size=200)))
def test_no_bytes_crash_it_and_no_answer_is_an_amplifier(data: bytes) -> None:
    answer = House().dns.answer(data)
    if answer is not None:
        assert answer[:2] == data[:2]
        assert len(answer) <= len(data) + 256
        dns.message.from_wire(answer, continue_on_error=True)


@given(st.lists(st.binary(min_size=12, max_size=60), max_size=5), st.lists(st.integers(0, 300), max_size=6))
def test_frames_do_not_depend_on_how_they_arrive(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(framed(message) for message in messages)
    frames, found, last = Frames(), [], 0
    for cut in [*sorted({min(c, len(stream)) for c in cuts}), len(stream)]:
        found += frames.feed(stream[last:cut])
        last = cut
    assert found == messages
    for wrong in (b"\0\0", b"\0\x0b", b"\xff\xff"):
        with pytest.raises(FrameError):
            Frames().feed(wrong)


@contextlib.asynccontextmanager
async def serving(house: House) -> AsyncIterator[tuple[int, int]]:
    server = NameServer(house.dns)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = socket.create_server(("127.0.0.1", 0))
    ports = udp.getsockname()[1], tcp.getsockname()[1]
    server.serve_datagrams(udp)
    await server.serve_streams(tcp)
    try:
        yield ports
    finally:
        server.close()
        await asyncio.sleep(0)


async def test_it_answers_over_udp_and_tcp() -> None:
    house = House()
    async with serving(house) as (udp, tcp):
        query = dns.message.make_query("api.test", "A")
        over_udp = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 5, udp)
        over_tcp = await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", 5, tcp)
        assert texts(over_udp) == texts(over_tcp) == ["198.18.0.1"]


async def test_a_tcp_client_that_breaks_the_framing_is_cut_off() -> None:
    async with serving(House()) as (_, tcp):
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp)
        writer.write(b"\xff\xff")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
