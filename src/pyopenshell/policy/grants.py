"""Grants: endpoints regrouped by (binaries, host pattern, port), with one trie of everything they say about paths.

Decides what belongs together. Knows nothing of connections and of words for people. A grant is immutable; a changed one
shares with the old one all that did not change (`Grant.changed`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence

from pyopenshell.policy.model import Endpoint, L7Match
from pyopenshell.policy.records import (
    Inspection,
    Kind,
    Record,
    allow_records,
    deny_records,
    fixed_records,
    graphql_messages,
    is_raw,
)
from pyopenshell.policy.splice import window
from pyopenshell.policy.tries import Trie

Source = tuple[str, Endpoint]
"""(rule key, endpoint)."""

GrantKey = tuple[tuple[str, ...], str, int]
"""(sorted binaries, canonical host pattern, port)."""


_MATCHERS = ("rules", "deny_rules")
_FRAME = operator.attrgetter(*(f.name for f in dataclasses.fields(Endpoint) if f.name not in _MATCHERS))


def _shape(endpoint: Endpoint) -> tuple[object, ...]:
    """All that a compiled endpoint depends on besides its single matchers."""
    return _FRAME(endpoint), bool(endpoint.rules), graphql_messages(endpoint)


class Part:
    """One source of a grant, compiled: `fixed` records come from its shape, the others stand beside their matchers."""

    __slots__ = ("allows", "denies", "endpoint", "fixed", "inspection", "key")

    def __init__(self, key: str, endpoint: Endpoint) -> None:
        self.key, self.endpoint = key, endpoint
        self.inspection: Inspection | None = None
        self.fixed: tuple[Record, ...] = ()
        self.allows: tuple[tuple[Record, ...], ...] = ()
        self.denies: tuple[tuple[Record, ...], ...] = ()
        if is_raw(endpoint):
            return
        self.inspection = inspection = Inspection(key, endpoint)
        self.fixed = tuple(fixed_records(inspection, endpoint))
        self.allows = tuple(tuple(allow_records(inspection, match)) for match in endpoint.rules)
        self.denies = tuple(tuple(deny_records(inspection, match)) for match in endpoint.deny_rules)

    def records(self) -> list[Record]:
        return [*self.fixed, *itertools.chain(*self.allows, *self.denies)]

    def changed(self, endpoint: Endpoint) -> tuple[Part, list[Record], list[Record]]:
        """This part for an endpoint of the same shape: (part, records that went, records that came)."""
        out = Part.__new__(Part)
        out.key, out.endpoint, out.inspection, out.fixed = self.key, endpoint, self.inspection, self.fixed
        out.allows, out.denies = self.allows, self.denies
        gone: list[Record] = []
        came: list[Record] = []
        if self.inspection is not None:
            old, new = self.endpoint, endpoint
            out.allows = _spliced(self.allows, old.rules, new.rules, allow_records, self.inspection, gone, came)
            out.denies = _spliced(
                self.denies, old.deny_rules, new.deny_rules, deny_records, self.inspection, gone, came
            )
        return out, gone, came


def _spliced(
    records: tuple[tuple[Record, ...], ...],
    old: Sequence[L7Match],
    new: Sequence[L7Match],
    compiled: Callable[[Inspection, L7Match], Iterable[Record]],
    inspection: Inspection,
    gone: list[Record],
    came: list[Record],
) -> tuple[tuple[Record, ...], ...]:
    """The records beside `new` matchers, where `records` stand beside `old` ones; adds to `gone` and `came`."""
    start, end, new_end = window(old, new)
    fresh = tuple(tuple(compiled(inspection, match)) for match in new[start:new_end])
    gone += itertools.chain(*records[start:end])
    came += itertools.chain(*fresh)
    return (*records[:start], *fresh, *records[end:])


class Grant:
    """All endpoints that share (binaries, host pattern, port). Immutable once built, shared between engines."""

    __slots__ = (
        "_allows",
        "_declared",
        "_denies",
        "_inspections",
        "_partial",
        "_raw",
        "_records",
        "_skips",
        "_slashes",
        "addresses",
        "binaries",
        "host",
        "key",
        "names",
        "parts",
        "place",
        "port",
        "protocols",
        "sources",
        "trie",
    )

    def __init__(self, binaries: tuple[str, ...], host: str, port: int, sources: Sequence[Source]) -> None:
        self.place: GrantKey = (binaries, host, port)
        self.binaries, self.host, self.port = self.place
        self.names = _names(binaries)
        self.sources = tuple(sources)
        self.parts = tuple(_part(source) for source in self.sources)
        self.trie: Trie[Record] = Trie(operator.attrgetter("rank"))
        self._raw = self._slashes = self._partial = self._skips = self._declared = self._records = 0
        for part in self.parts:
            self._count(part, 1)
            for record in part.records():
                for tokens in record.variants():
                    self.trie.add(tokens, record)
        self._forget()
        self._collect()

    def _count(self, part: Part, times: int) -> None:
        inspection = part.inspection
        self._records += times * (len(part.fixed) + len(part.allows) + len(part.denies))
        self._skips += times * (part.endpoint.tls == "skip")
        self._declared += times * (not part.endpoint.advisor_proposed)
        self._raw += times * (inspection is None)
        if inspection is not None:
            self._slashes += times * inspection.slash
            plain = inspection.trivial and not inspection.audit and inspection.protocol == "rest"
            self._partial += times * (not plain)

    def _forget(self) -> None:
        self._inspections: tuple[Inspection, ...] | None = None
        self._allows: tuple[Record, ...] | None = None
        self._denies: tuple[Record, ...] | None = None

    def _collect(self) -> None:
        self.key = min(part.key for part in self.parts)
        self.protocols = _protocols(self.parts)
        """Distinct protocols of the inspected endpoints."""
        self.addresses = _addresses(self.parts)
        """Union of the endpoints' `allowed_ips`."""

    def changed(self, start: int, end: int, sources: Sequence[Source]) -> Grant | None:
        """This grant with `sources` in place of its sources [start:end], all else shared; None when nothing is left."""
        after = (*self.sources[:start], *sources, *self.sources[end:])
        if not after:
            return None
        if after == self.sources:
            return self
        parts, gone, came = self._exchange(self.parts[start:end], sources)
        if len(gone) + len(came) > max(64, self._records // 2):
            return Grant(*self.place, after)
        out = Grant.__new__(Grant)
        out.place = self.place
        out.binaries, out.host, out.port = self.place
        out.names = self.names
        out.sources = after
        out.parts = (*self.parts[:start], *parts, *self.parts[end:])
        out.trie = self.trie.changed(
            (entry for record in gone for entry in record.entries()),
            (entry for record in came for entry in record.entries()),
        )
        out._raw, out._slashes, out._partial = self._raw, self._slashes, self._partial
        out._skips, out._declared, out._records = self._skips, self._declared, self._records
        was = self.parts[start:end]
        for part in was:
            out._count(part, -1)
        for part in parts:
            out._count(part, 1)
        out._forget()
        if _collected(was) == _collected(parts):
            out.key, out.protocols, out.addresses = self.key, self.protocols, self.addresses
        else:
            out._collect()
        return out

    @staticmethod
    def _exchange(old: Sequence[Part], sources: Sequence[Source]) -> tuple[list[Part], list[Record], list[Record]]:
        """(new parts, records that went, records that came); what is the same, or has the same shape, is taken over."""
        left = list(old)
        parts: list[Part] = []
        gone: list[Record] = []
        came: list[Record] = []
        for key, endpoint in sources:
            shape = _shape(endpoint)
            twin = next((part for part in left[:8] if part.key == key and _shape(part.endpoint) == shape), None)
            if twin is None:
                part = _part((key, endpoint))
                parts.append(part)
                came += part.records()
                continue
            left.remove(twin)
            try:
                part, went, news = twin.changed(endpoint)
            except ValueError as error:
                raise _named(key, endpoint, error) from None
            parts.append(part)
            gone += went
            came += news
        for part in left:
            gone += part.records()
        return parts, gone, came

    @property
    def inspected(self) -> bool:
        return self._raw < len(self.parts)

    @property
    def raw(self) -> bool:
        return self._raw > 0

    @property
    def simple(self) -> bool:
        """True where every endpoint is `rest`, judges every path, and none only audits."""
        return not self._partial

    @property
    def slashes(self) -> bool:
        return self._slashes > 0

    @property
    def tls_skip(self) -> bool:
        return self._skips > 0

    @property
    def declared(self) -> bool:
        """True where somebody other than the advisor named exactly this host."""
        return "*" not in self.host and bool(self.host) and self._declared > 0

    @property
    def inspection_count(self) -> int:
        return len(self.parts) - self._raw

    @property
    def inspections(self) -> tuple[Inspection, ...]:
        if self._inspections is None:
            self._inspections = tuple(part.inspection for part in self.parts if part.inspection is not None)
        return self._inspections

    @property
    def allows(self) -> tuple[Record, ...]:
        """Allow records, in the order of the policy."""
        if self._allows is None:
            self._allows = tuple(r for part in self.parts for r in part.records() if r.kind is Kind.ALLOW)
        return self._allows

    def first_allows(self, count: int) -> list[Record]:
        """Some of them, without looking at all."""
        found = (r for part in self.parts for r in itertools.chain(part.fixed, *part.allows[:count]))
        return list(itertools.islice((r for r in found if r.kind is Kind.ALLOW), max(count, 0)))

    @property
    def denies(self) -> tuple[Record, ...]:
        """Deny records, in the order of the policy."""
        if self._denies is None:
            self._denies = tuple(r for part in self.parts for r in part.records() if r.kind is Kind.DENY)
        return self._denies


@functools.lru_cache(maxsize=64)
def _names(binaries: tuple[str, ...]) -> frozenset[str]:
    """Neighbouring rules mostly name the same binaries."""
    return frozenset(binaries)


def _protocols(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.endpoint.protocol for part in parts if part.inspection is not None))


def _addresses(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ip for part in parts for ip in part.endpoint.allowed_ips))


def _collected(parts: Sequence[Part]) -> object:
    return [part.key for part in parts], _protocols(parts), _addresses(parts)


def _part(source: Source) -> Part:
    key, endpoint = source
    try:
        return Part(key, endpoint)
    except ValueError as error:
        raise _named(key, endpoint, error) from None


def _named(key: str, endpoint: Endpoint, error: ValueError) -> ValueError:
    return ValueError(f"rule '{key}', endpoint {endpoint.host}: {error}")
