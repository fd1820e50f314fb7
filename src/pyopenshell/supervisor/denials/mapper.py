"""From counted connection refusals to draft rules: deterministic, no I/O (contract/sandbox.md 7.3).

Connection level (L4) only, by decision: a refused request of an inspected endpoint never becomes a draft here, because
the only rule that could be derived from it without understanding the request would be too broad.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from pyopenshell.policy.model import Endpoint, Rule
from pyopenshell.supervisor.denials.ledger import Tally
from pyopenshell.supervisor.proxy.destination import METADATA_HOSTS, Address, Class, classify, parse

WELL_KNOWN_PORTS = {
    53: "DNS",
    80: "HTTP",
    443: "HTTPS",
    587: "SMTP",
    993: "IMAP",
    995: "POP3",
    2181: "ZooKeeper",
    3306: "MySQL",
    5432: "PostgreSQL",
    5672: "RabbitMQ",
    6379: "Redis",
    6443: "Kubernetes API",
    8080: "HTTP-alt",
    8443: "HTTPS-alt",
    9092: "Kafka",
    9200: "Elasticsearch",
    11211: "Memcached",
    27017: "MongoDB",
}
DATABASE_PORTS = frozenset({3306, 5432, 5672, 6379, 9200, 11211, 27017})
EPHEMERAL_ABOVE = 49152
NEVER_PROPOSED = METADATA_HOSTS | {"localhost"}
STAGES = frozenset({"connect", "forward", "socks", "ssrf", "transparent-tcp"})
"""Where a refusal can be cured by allowing a destination. Other stages are counted and shown, never drafted."""
MAX_HOST = 253
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?", re.IGNORECASE | re.ASCII)
_PATTERN_CHARACTERS = frozenset("*?[]{}!\\")


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """One proposed rule, as the gateway stores it under analysis mode `mechanistic`. Times are Unix ms."""

    rule: Rule
    binary: str
    rationale: str
    security_notes: str
    confidence: float
    stage: str
    hit_count: int
    first_ms: int
    last_ms: int


def drafts(tallies: Iterable[Tally]) -> tuple[Draft, ...]:
    """One draft per tally that a rule could help, most confident first; ties keep the order of first sight.

    Raises ValueError for anything that was not refused at connection level.
    """
    found = [draft for draft in map(_draft, tallies) if draft]
    return tuple(sorted(found, key=lambda draft: -draft.confidence))


def _draft(tally: Tally) -> Draft | None:
    denial = tally.denial
    if denial.layer != "l4":
        raise ValueError(f"a {denial.layer} refusal must never become a mechanistic draft")
    host, port = denial.host, denial.port
    if not denial.proposable or denial.stage not in STAGES or not 0 < port < 65536:
        return None
    address = parse(host.strip("[]"))
    if not _literal_host(host, address) or not _literal_binary(denial.binary):
        return None
    if host.lower().rstrip(".") in NEVER_PROPOSED or (address and classify(address) is Class.BLOCKED):
        return None
    ssrf = denial.stage == "ssrf"
    # `advisor_proposed` keeps a machine's draft from ever counting as a host that a person declared.
    endpoint = Endpoint(host=host, ports=(port,), advisor_proposed=True)
    return Draft(
        rule=Rule(
            key=rule_name(host, port),
            endpoints=(endpoint,),
            binaries=(denial.binary,),
            name=rule_name(host, port),
        ),
        binary=denial.binary,
        rationale=f"{_rationale(denial.binary, host, port)} First refused as {denial.id}.",
        security_notes=_security_notes(host, port, address, ssrf=ssrf),
        confidence=confidence(tally.total, port, ssrf=ssrf),
        stage=denial.stage or "connect",
        hit_count=tally.count,
        first_ms=tally.first_ms,
        last_ms=tally.last_ms,
    )


def rule_name(host: str, port: int) -> str:
    """`allow_api_github_com_443`: dots and dashes become underscores, other non-alphanumerics vanish."""
    plain = "".join(
        c if c.isascii() and c.isalnum() else "_" for c in host if c in ".-_" or (c.isascii() and c.isalnum())
    )
    return f"allow_{plain}_{port}"


def confidence(count: int, port: int, *, ssrf: bool) -> float:
    """0.5, more for repetition and well-known ports, less where the address was refused; within 0.1 and 0.95."""
    value = 0.5
    if count >= 10:
        value += 0.2
    elif count >= 3:
        value += 0.1
    if port in WELL_KNOWN_PORTS:
        value += 0.15
    if ssrf:
        value -= 0.2
    return round(min(max(value, 0.1), 0.95), 2)


def _rationale(binary: str, host: str, port: int) -> str:
    program = binary.rsplit("/", 1)[-1]
    name = WELL_KNOWN_PORTS.get(port)
    return f"Allow {program} to connect to {host}:{port}{f' ({name})' if name else ''}."


def _security_notes(host: str, port: int, address: Address | None, *, ssrf: bool) -> str:
    notes: list[str] = []
    if ssrf:
        notes.append(
            f"'{host}' resolves to an internal address; approving this rule alone will not open it: "
            "an operator must add `allowed_ips` to the endpoint by hand."
        )
    if address and classify(address) is not Class.PUBLIC:
        notes.append(f"Destination '{host}' appears to be an internal/private address.")
    if port > EPHEMERAL_ABOVE:
        notes.append(f"Port {port} is in the ephemeral range: the service may not stay there.")
    if port in DATABASE_PORTS:
        notes.append(f"Port {port} ({WELL_KNOWN_PORTS[port]}) is a data store: this rule would allow raw access to it.")
    return " ".join(notes)


def _literal_host(host: str, address: Address | None) -> bool:
    # The client chose this text and the rule's host is a pattern: `CONNECT *:443` must not become a wildcard.
    return address is not None or (len(host) <= MAX_HOST and _NAME.fullmatch(host) is not None)


def _literal_binary(binary: str) -> bool:
    # So is the rule's binary: a program that the agent stored under the name `/sandbox/**` must not become one either.
    # Without a binary there is nothing to allow: an empty list matches nobody.
    return binary.startswith("/") and not _PATTERN_CHARACTERS.intersection(binary) and binary.isprintable()
