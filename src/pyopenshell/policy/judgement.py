"""Judgements: what the rules say at one point (grants, path, token), still open in the query.

The definition of docs/policy-language.md, section 1. Knows nothing of connections and of words for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pyopenshell.policy import operations
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.records import Inspection, Kind, Record


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say for one (grants, path, token), still open in the query.

    `selected` are the endpoints whose scope holds the path (None: all of them, and all are `rest`), `audit` one that
    forwards everything. `allow` and `deny` are the records that match path and token. `foreign` names the protocols
    that claim the path, () when it is one and it can judge what the token names; otherwise nothing is allowed. `top`
    are the endpoints that decide about that, and `graphql` says that they look into WebSocket messages.
    """

    selected: frozenset[Inspection] | None
    audit: Inspection | None
    allow: tuple[Record, ...]
    deny: tuple[Record, ...]
    foreign: tuple[str, ...] = ()
    top: tuple[Inspection, ...] = ()
    graphql: bool = False

    def verdict(self) -> bool | None:
        """True or False when the rules decide for every query (audit left aside), None when the query matters."""
        if self.selected == frozenset() or not self.allow or any(not record.query for record in self.deny):
            return False
        if not self.deny and any(not record.query for record in self.allow):
            return True
        return None


def judge(grants: Sequence[Grant], records: Iterable[Record], token: str, *, slash: bool = False) -> Judgement:
    """The definition of docs/policy-language.md, section 1, at one point. `records` are those of the path, from the
    grants' tries; `token` names what is asked (`policy.operations`).

    `slash` says that the path contains `%2F`: only endpoints with `allow_encoded_slash` can then allow, while the
    denies of all endpoints hold.
    """
    judges = operations.judges(token)
    message = token.startswith(operations.TEXT + " ")
    foreign: tuple[str, ...] = ()
    if all(grant.simple for grant in grants):
        foreign = () if "rest" in judges else ("rest",)
        token = operations.MESSAGE if message else token
        allow, deny = _matching(records, token, slash=slash, selected=None)
        return Judgement(None, None, () if foreign else allow, deny, foreign)
    records = list(records)
    scoped = {record.inspection for record in records if record.kind is Kind.SCOPE}
    inspections = [i for grant in grants for i in grant.inspections if i.trivial or i in scoped]
    selected = frozenset(inspections)
    highest = max((i.specificity for i in inspections), default=0)
    top = tuple(i for i in inspections if i.specificity == highest)
    protocols = tuple(dict.fromkeys(i.protocol for i in top))
    graphql = protocols == ("websocket",) and any(i.graphql for i in inspections)
    if len(protocols) != 1 or protocols[0] not in judges:
        foreign = protocols
    elif token == operations.MESSAGE and graphql:
        foreign = (operations.GRAPHQL,)
    elif message and not graphql:
        token = operations.MESSAGE  # whatever it says, nobody looks into it here
    allow, deny = _matching(records, token, slash=slash, selected=selected)
    if foreign:
        return Judgement(selected, None, (), deny, foreign, top, graphql)
    # Another protocol's rules are about other requests: they may refuse this one, but not allow it.
    allow = tuple(record for record in allow if record.inspection.protocol == protocols[0])
    audit = next((i for i in top if i.audit and (i.slash or not slash)), None)
    return Judgement(selected, audit, allow, deny, foreign, top, graphql)


def _matching(
    records: Iterable[Record], token: str, *, slash: bool, selected: frozenset[Inspection] | None
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    allow: dict[Record, None] = {}
    deny: dict[Record, None] = {}
    for record in records:
        if record.kind is Kind.SCOPE or not record.covers(token):
            continue
        if selected is not None and record.inspection not in selected:
            continue
        if record.kind is Kind.DENY:
            deny[record] = None
        elif record.inspection.slash or not slash:
            allow[record] = None
    return tuple(allow), tuple(deny)
