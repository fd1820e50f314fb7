"""The reviewer's one-word verdict: the delta seen through categories of risk (contract/gateway.md 6.3, 6.4).

Derives every line from `delta`; decides nothing about approval. Upstream's four categories keep their exact form.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator

from pyopenshell.policy import operations
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.explain import bracketed, printable
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import host_pattern, host_tokens, host_word, is_ip_literal
from pyopenshell.policy.model import Policy
from pyopenshell.policy.tries import Trie
from pyopenshell.proof.addresses import REASON as PRIVATE
from pyopenshell.proof.delta import Delta, delta_of
from pyopenshell.proof.regions import AUDIT, Region
from pyopenshell.proof.words import lookup_steps, overlaps
from pyopenshell.proof.work import UndecidedError, Work

NO_FINDINGS = "prover: no new findings"

METADATA_HOSTS = (
    "metadata.google.internal",
    "metadata",
    "instance-data",
    "instance-data.ec2.internal",
    "fd00:ec2::254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
)
"""Names and addresses under which clouds serve instance credentials, beside the link-local range."""

_STANDARD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line: `category: text`."""

    category: str
    text: str

    def __str__(self) -> str:
        return f"{self.category}: {self.text}"


def validation_result(before: Policy, after: Policy, credentialed_hosts: Iterable[str] = ()) -> str:
    """`prover: no new findings`, or `prover: N new finding(s)` and one indented `category: …` line each.

    `credentialed_hosts` are hosts or host patterns for which the sandbox holds a credential.
    """
    old = compile(before)
    new = compile(after, reuse=old)
    return render(findings(old, delta_of(old, new), credentialed_hosts))


def render(found: Iterable[Finding]) -> str:
    lines = [f"  {finding}" for finding in found]
    if not lines:
        return NO_FINDINGS
    return "\n".join([f"prover: {len(lines)} new finding{'s' if len(lines) != 1 else ''}", *lines])


def findings(before: Engine, change: Delta, credentialed_hosts: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Findings of a delta, in its order, without repetition.

    Beside upstream's four categories: `private_reach` (new private networks), `audit_mode` (an endpoint that
    forwards what it refuses), `path_expansion` (more paths or queries for a method that the host already has) and
    `not_proven` (undecided regions are never silent). Hosts without a credential give findings only for link-local,
    private, audit and not proven reach.
    """
    credentials = _Credentials(credentialed_hosts)
    look = _Look(before, credentials, Work(change.left))
    found: dict[Finding, None] = {}
    for number, region in enumerate(change.regions):
        try:
            for finding in look.region(region):
                found[finding] = None
        except UndecidedError:
            found[Finding("not_proven", f"{len(change.regions) - number} regions could not be looked at")] = None
            break
    return tuple(found)


class _Credentials:
    def __init__(self, hosts: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._trie: Trie[str] = Trie()
        for text in hosts:
            host = host_pattern(text)
            self._exact.add(host)
            if not is_ip_literal(host):
                self._trie.add(host_tokens(host), host)

    def cover(self, host: str, work: Work) -> bool:
        """Can a host of the pattern hold a credential?"""
        if host in self._exact or (not host and bool(self._exact)):
            return True
        return not is_ip_literal(host) and bool(overlaps(self._trie.root, host_tokens(host), work))


class _Look:
    """Regions of one delta against what was there before. Raises UndecidedError."""

    def __init__(self, before: Engine, credentials: _Credentials, work: Work) -> None:
        self._before, self._credentials, self._work = before, credentials, work
        self._known: dict[tuple[Grant, ...], set[str]] = {}

    def region(self, region: Region) -> Iterator[Finding]:
        self._work.spend(10)
        credentialed = self._credentials.cover(region.host, self._work)
        host = bracketed(region.host) if region.host else "(any host)"
        for port in region.ports:
            for binary in region.binaries:
                self._work.spend(10)
                via = f"{host}:{port} via {printable(binary)}"
                if not region.proven:
                    yield Finding("not_proven", via)
                if _metadata(region.host):
                    yield Finding("link_local_reach", via)
                elif region.reason == PRIVATE:
                    yield Finding("private_reach", via)
                else:
                    yield from self._grant(region, port, binary, via, credentialed=credentialed)

    def _grant(self, region: Region, port: int, binary: str, via: str, *, credentialed: bool) -> Iterator[Finding]:
        if region.reason == AUDIT:
            yield Finding("audit_mode", via)
        if not credentialed:
            return
        if region.uninspected:
            yield Finding("l7_bypass_credentialed", via)
        elif not self._reached(region, port, binary):
            yield Finding("credential_reach_expansion", via)
        else:
            known = self._methods(region, port)
            for method in _STANDARD if "*" in region.methods else region.methods:
                self._work.spend(4)
                if " " in method:
                    yield Finding("capability_expansion", f"{_carried(method, region)} on {via}")
                elif method in known:
                    yield Finding("path_expansion", f"{method} {region.path} on {via}")
                else:
                    yield Finding("capability_expansion", f"{method} on {via}")

    def _at(self, chain: tuple[str, ...], host: str, port: int) -> tuple[Grant, ...]:
        index = self._before.index
        for name in chain:
            lookup_steps(index.binaries.globs.root, name[1:].split("/"), self._work)
        ports = index.ports.get(port)
        if ports is not None and host and not is_ip_literal(host):
            lookup_steps(ports.wild.root, host_word(host), self._work)
        candidates = index.site(host, port).grants
        self._work.spend(1 + len(candidates))
        return index.at(chain, host, port)

    def _reached(self, region: Region, port: int, binary: str) -> bool:
        """Had this binary any admitted connection to the host before?"""
        chain = region.request.chain if "*" in binary else (binary,)
        return bool(self._at(chain, region.request.host, port))

    def _methods(self, region: Region, port: int) -> set[str]:
        """Methods that the chain of the witness had somewhere on the host."""
        grants = self._at(region.request.chain, region.request.host, port)
        known = self._known.get(grants)
        if known is None:
            known = self._known[grants] = set()
            for grant in grants:
                self._work.spend(len(grant.allows))
                for record in grant.allows:
                    known.update(_STANDARD if record.methods is None else record.methods)
        return known


def _carried(token: str, region: Region) -> str:
    """What is newly permitted besides plain requests. Every operation is a capability of its own."""
    said = "".join(f" {k.removeprefix(operations.KEY)}={'|'.join(map(printable, g))}" for k, g in region.query)
    return operations.named(token) + said


def _metadata(host: str) -> bool:
    if host in METADATA_HOSTS:
        return True
    if not host or not is_ip_literal(host):
        return False
    address = ipaddress.ip_address(host)
    return any(address in network for network in _LINK_LOCAL if network.version == address.version)
