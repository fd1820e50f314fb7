"""Whether rules already grant what a rule asks for: unit by unit, by meaning and not by spelling.

A unit is (endpoint, port, binary): the binary by itself, without ancestors (docs/policy-language.md, section 6). The
answers are sound and cautious: "covered" is always true; where patterns only jointly cover another the answer may be
"not covered" (the exact procedure is `proof.delta`).
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable, Sequence

from pyopenshell.policy import globs, hosts
from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.policy.records import ACCESS, EVERYWHERE, specificity


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """One unit that is not granted. `reason` says what is missing, for people."""

    binary: str
    endpoint: Endpoint
    port: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """What "granted" demands.

    `unset_protocol`: an endpoint without protocol is content with any endpoint that admits the connection (contract
    3.3); otherwise it asks for a raw connection. `denies_present`: the rule's own deny rules must be loaded too.
    `heed_denies`: a deny rule that may hit what is asked for is a gap. `heed_shadow`: an inspected endpoint that takes
    over a raw one is a gap. `heed_trust`: exact-host trust (private addresses) must not come from an agent's endpoint.
    """

    unset_protocol: bool = True
    denies_present: bool = True
    heed_denies: bool = True
    heed_shadow: bool = False
    heed_trust: bool = False


LOADED = Mode()
"""Is the rule in force? (`/wait`, already covered proposals)"""


def covers(policy: Policy, rule: Rule) -> bool:
    """True when every (endpoint, port, binary) of `rule` is granted by some rule of `policy` (contract/gateway.md 3.3).

    Differs from upstream where it compares spellings: presets equal their explicit rules, wider patterns cover narrower
    ones, and a loaded deny rule that may refuse what is asked for means "not covered". An empty `binaries` covers and
    is covered by nothing.
    """
    return bool(rule.endpoints) and bool(rule.binaries) and not gaps(policy.rules, rule)


def gaps(loaded: Sequence[Rule], rule: Rule, mode: Mode = LOADED) -> list[Gap]:
    """Every unit of `rule` that `loaded` does not grant."""
    found = []
    for endpoint in rule.endpoints:
        for port in endpoint.ports:
            for binary in rule.binaries:
                reason = _gap(loaded, rule, endpoint, port, binary, mode)
                if reason:
                    found.append(Gap(binary, endpoint, port, reason))
    return found


def allows_of(endpoint: Endpoint) -> tuple[L7Match, ...]:
    """The allow rules with the preset written out."""
    return endpoint.rules + ACCESS.get(endpoint.protocol, {}).get(endpoint.access, ())


def _gap(loaded: Sequence[Rule], rule: Rule, endpoint: Endpoint, port: int, binary: str, mode: Mode) -> str:
    near = [
        e
        for have in loaded
        if any(binary_covers(pattern, binary) for pattern in have.binaries)
        for e in have.endpoints
        if port in e.ports and host_covers(e.host, endpoint.host)
    ]
    if not near:
        return "no rule grants the connection"
    usable = [e for e in near if not _connection_differs(e, endpoint, mode)]
    if not usable:
        return _connection_differs(near[0], endpoint, mode)
    if not endpoint.inspected:
        return _raw_gap(loaded, usable, endpoint, port, binary, mode)
    same = [e for e in usable if _contract(e) == _contract(endpoint) and path_covers(_scope(e), _scope(endpoint))]
    if not same:
        return "no loaded endpoint inspects it the same way"
    if endpoint.enforcement == "enforce":
        missing = not_covered([allow for e in same for allow in allows_of(e)], allows_of(endpoint))
        if missing is not None:
            return f"not allowed: {_words(missing)}"
    return _deny_gap(loaded, rule, same, endpoint, port, binary, mode)


def _raw_gap(
    loaded: Sequence[Rule], usable: list[Endpoint], endpoint: Endpoint, port: int, binary: str, mode: Mode
) -> str:
    if mode.unset_protocol and endpoint.protocol == "":
        return ""
    if all(e.inspected for e in usable):
        return "the loaded endpoint inspects the connection"
    if mode.heed_shadow and any(e.inspected for e in _possible(loaded, endpoint, port, binary)):
        return "an inspected endpoint takes over the connection"
    return ""


def _is_own(rule: Rule, deny: L7Match, at: Endpoint, port: int) -> bool:
    """Does the rule itself say this deny, wherever the endpoint `at` applies?"""
    return any(
        port in e.ports
        and host_covers(e.host, at.host)
        and path_covers(_scope(e), _scope(at))
        and e.path_case in ("insensitive", at.path_case)
        and any(match_covers(mine, deny) for mine in e.deny_rules)
        for e in rule.endpoints
    )


def _deny_gap(
    loaded: Sequence[Rule],
    rule: Rule,
    same: list[Endpoint],
    endpoint: Endpoint,
    port: int,
    binary: str,
    mode: Mode,
) -> str:
    if mode.denies_present:
        missing = not_covered([deny for e in same for deny in e.deny_rules], endpoint.deny_rules)
        if missing is not None:
            return f"not denied: {_words(missing)}"
    if mode.heed_denies and endpoint.enforcement == "enforce":
        for e in _possible(loaded, endpoint, port, binary):
            if not e.inspected or not path_overlaps(_scope(e), _scope(endpoint)):
                continue
            if e.protocol != endpoint.protocol and not _same_rule(rule, e) and _takes_over(e, endpoint):
                return f"an endpoint of protocol {e.protocol} takes over requests"
            for deny in e.deny_rules:
                if not _is_own(rule, deny, e, port) and any(_may_hit(e, deny, a) for a in allows_of(endpoint)):
                    return f"denied: {_words(deny)}"
    return ""


def _same_rule(rule: Rule, endpoint: Endpoint) -> bool:
    return endpoint in rule.endpoints


def _takes_over(other: Endpoint, endpoint: Endpoint) -> bool:
    """May `other` decide, in another protocol, about requests that `endpoint` allows?"""
    scopes = [path_pattern_text(_scope(e)) for e in (other, endpoint)]
    if specificity(scopes[0]) < specificity(scopes[1]):
        return False
    return any(path_overlaps(_scope(other), allow.path or _scope(endpoint)) for allow in allows_of(endpoint))


def path_pattern_text(pattern: str) -> str:
    """The canonical spelling; a malformed one stays as it is and matches nothing."""
    try:
        return globs.path_pattern(pattern)[0]
    except ValueError:
        return pattern


def _possible(loaded: Sequence[Rule], endpoint: Endpoint, port: int, binary: str) -> Iterable[Endpoint]:
    """Every endpoint that may apply to some connection of the unit."""
    for rule in loaded:
        if any(binary_overlaps(pattern, binary) for pattern in rule.binaries):
            for e in rule.endpoints:
                if port in e.ports and host_overlaps(e.host, endpoint.host):
                    yield e


def _may_hit(at: Endpoint, deny: L7Match, allow: L7Match) -> bool:
    """Deny rules match modulo one trailing slash, and in any letter case on request (proof.md 2.5)."""
    fold = str.lower if at.path_case == "insensitive" else str
    wanted = dataclasses.replace(allow, path=fold(allow.path))
    return any(
        match_overlaps(dataclasses.replace(deny, path=fold(path)), wanted) for path in _slash_variants(deny.path)
    )


def _slash_variants(pattern: str) -> list[str]:
    ending = next((tail for tail in ("/**", "/*", "/") if pattern.endswith(tail)), "")
    shorter = [pattern[: -len(ending)]] if ending and pattern != ending else []
    return [pattern, *shorter] if ending == "/" else [pattern, pattern + "/", *shorter]


def _words(match: L7Match) -> str:
    first = match.method or match.operation_type or match.command or "*"
    return f"{first} {match.path or match.operation_name or ''}".rstrip()


# ---- what must be equal ----------------------------------------------------------------------------------------------

FLAGS = (
    "allow_encoded_slash",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
)
_CREDENTIALS = ("credential_signing", "signing_service", "signing_region", "credential_provider")


def _connection_differs(have: Endpoint, want: Endpoint, mode: Mode) -> str:
    if want.tls != have.tls:
        return "tls differs"
    if mode.heed_trust:
        if set(have.allowed_ips) != set(want.allowed_ips):
            return "allowed_ips differ"
        if have.advisor_proposed and not want.advisor_proposed:
            return "the loaded endpoint is an agent's, without trust in private addresses"
        if any(getattr(have, name) != getattr(want, name) for name in _CREDENTIALS):
            return "credential handling differs"
    elif not all(any(_within(ip, other) for other in have.allowed_ips) for ip in want.allowed_ips):
        return "allowed_ips are missing"
    elif any(getattr(want, name) not in ("", getattr(have, name)) for name in _CREDENTIALS):
        return "credential handling differs"
    missing = [name for name in FLAGS if getattr(want, name) and not getattr(have, name)]
    return f"{missing[0]} is missing" if missing else ""


def _within(entry: str, other: str) -> bool:
    if entry == other:
        return True
    try:
        small, large = ipaddress.ip_network(entry), ipaddress.ip_network(other)
    except ValueError:
        return False
    if isinstance(small, ipaddress.IPv4Network) and isinstance(large, ipaddress.IPv4Network):
        return small.subnet_of(large)
    if isinstance(small, ipaddress.IPv6Network) and isinstance(large, ipaddress.IPv6Network):
        return small.subnet_of(large)
    return False


def _contract(endpoint: Endpoint) -> tuple[object, ...]:
    """How requests of one inspected endpoint are taken apart and what then happens to a refusal."""
    return (
        endpoint.protocol,
        endpoint.enforcement,
        endpoint.path_case if endpoint.deny_rules else "sensitive",
        endpoint.persisted_queries,
        endpoint.graphql_persisted_queries,
        endpoint.graphql_max_body_bytes,
        endpoint.json_rpc_max_body_bytes,
        endpoint.mcp,
    )


# ---- patterns --------------------------------------------------------------------------------------------------------


def _scope(endpoint: Endpoint) -> str:
    return endpoint.path or EVERYWHERE


@functools.lru_cache(maxsize=4096)
def host_covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    if "*" not in wide or not narrow:
        return False
    if "*" not in narrow:
        return hosts.host_matches(wide, narrow)
    return _contains(hosts.host_tokens(wide), hosts.host_tokens(narrow))


@functools.lru_cache(maxsize=4096)
def host_overlaps(one: str, other: str) -> bool:
    if one == other or not one or not other:
        return True
    if "*" not in one:
        return "*" in other and hosts.host_matches(other, one)
    if "*" not in other:
        return hosts.host_matches(one, other)
    return _overlap(hosts.host_tokens(one), hosts.host_tokens(other))


def path_covers(wide: str, narrow: str) -> bool:
    return wide == narrow or _pattern_contains(_path(wide), _path(narrow))


def path_overlaps(one: str, other: str) -> bool:
    return one == other or _overlap(_path(one), _path(other))


def binary_covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    return "*" in wide and _pattern_contains(_binary(wide), _binary(narrow))


def binary_overlaps(one: str, other: str) -> bool:
    if one == other:
        return True
    return ("*" in one or "*" in other) and _overlap(_binary(one), _binary(other))


def _path(pattern: str) -> tuple[Token, ...]:
    try:
        return globs.path_pattern(pattern)[1]
    except ValueError:
        # Nothing matches a malformed pattern: it is refused when a policy is loaded.
        return ((L, "\0"),)


def _binary(pattern: str) -> tuple[Token, ...]:
    try:
        tokens = globs.binary_pattern(pattern)
    except ValueError:
        return ((L, "\0"),)
    return tuple((L, s) for s in pattern[1:].split("/")) if tokens is None else tokens


def match_covers(wide: L7Match, narrow: L7Match) -> bool:
    """Every request that `narrow` matches is matched by `wide`."""
    if not _method_covers(wide.method, narrow.method) or not path_covers(wide.path or "**", narrow.path or "**"):
        return False
    if bool(wide.path) != bool(narrow.path):
        return False
    if not _queries_cover(wide.query, narrow.query) or not _queries_cover(wide.params, narrow.params):
        return False
    kind = wide.operation_type in ("*", narrow.operation_type)
    name = wide.operation_name in ("", narrow.operation_name)
    return kind and name and wide.command in ("*", narrow.command) and set(wide.fields) == set(narrow.fields)


def not_covered(wide: Sequence[L7Match], narrow: Iterable[L7Match]) -> L7Match | None:
    """The first of `narrow` that none of `wide` covers. Most are there word for word, which is found by hashing."""
    same = frozenset(wide)
    return next((n for n in narrow if n not in same and not any(match_covers(w, n) for w in wide)), None)


def _method_covers(wide: str, narrow: str) -> bool:
    return wide in (narrow, "*") or (wide == "GET" and narrow == "HEAD")


def _queries_cover(wide: tuple[tuple[str, QueryMatcher], ...], narrow: tuple[tuple[str, QueryMatcher], ...]) -> bool:
    conditions = dict(narrow)
    return all(
        key in conditions and all("*" in matcher.any or glob in matcher.any for glob in conditions[key].any)
        for key, matcher in wide
    )


def match_overlaps(one: L7Match, other: L7Match) -> bool:
    """May some request be matched by both? True when in doubt."""
    methods = _method_covers(one.method, other.method) or _method_covers(other.method, one.method)
    # Names of calls are globs, and rules about operations have no method: they may meet whatever carries them.
    methods = methods or any(not m.method or _WILD(m.method) for m in (one, other))
    both_written = bool(one.path) and bool(other.path)
    types = (one.operation_type.lower(), other.operation_type.lower())
    kinds = "*" in types or "" in types or types[0] == types[1]
    return methods and kinds and (not both_written or path_overlaps(one.path, other.path))


_WILD = re.compile(r"[*?\[]").search


def _pattern_contains(wide: tuple[Token, ...], narrow: tuple[Token, ...]) -> bool:
    return wide == narrow or _contains(wide, narrow)


@functools.lru_cache(maxsize=65536)
def _contains(wide: tuple[Token, ...], narrow: tuple[Token, ...]) -> bool:
    """Every word of `narrow` is a word of `wide`. Sound; complete for patterns with one `**` (proof.md 3.1)."""
    rows = len(narrow)
    # reach[j] for the current i: does narrow[i:] fit wide[j:]?  Filled from the end.
    after = [_all_empty(wide, j) for j in range(len(wide) + 1)]
    for i in range(rows - 1, -1, -1):
        now = [False] * (len(wide) + 1)
        for j in range(len(wide) - 1, -1, -1):
            if wide[j][0] == DS:
                now[j] = now[j + 1] or (_never_empty(narrow[i]) and after[j])
            else:
                now[j] = _token_contains(wide[j], narrow[i]) and after[j + 1]
        after = now
    return after[0]


def _all_empty(tokens: tuple[Token, ...], start: int) -> bool:
    return all(kind == DS for kind, _ in tokens[start:])


def _never_empty(token: Token) -> bool:
    """Only non-empty segments, so that `**` can take them."""
    return token[0] != ANYE and token != (L, "")


def _token_contains(wide: Token, narrow: Token) -> bool:
    kind, value = wide
    if narrow[0] == DS:
        return False
    if kind == ANYE or wide == narrow:
        return True
    if kind == ANY:
        return _never_empty(narrow)
    if kind == LF:
        return narrow[0] == L and isinstance(narrow[1], str) and narrow[1].lower() == value
    return isinstance(value, Glob) and narrow[0] == L and isinstance(narrow[1], str) and value.match(narrow[1])


@functools.lru_cache(maxsize=65536)
def _overlap(one: tuple[Token, ...], other: tuple[Token, ...]) -> bool:
    """May one word match both? Exact but for two partial globs, which are taken to overlap."""
    width = len(other)
    after = [_all_empty(other, j) for j in range(width + 1)]
    for i in range(len(one) - 1, -1, -1):
        now = [False] * (width + 1)
        now[width] = one[i][0] == DS and after[width]
        for j in range(width - 1, -1, -1):
            a, b = one[i], other[j]
            if a[0] == DS and b[0] == DS:
                now[j] = after[j] or now[j + 1]
            elif a[0] == DS:
                now[j] = after[j] or (b != (L, "") and now[j + 1])
            elif b[0] == DS:
                now[j] = now[j + 1] or (a != (L, "") and after[j])
            else:
                now[j] = _tokens_meet(a, b) and after[j + 1]
        after = now
    return after[0]


def _tokens_meet(a: Token, b: Token) -> bool:
    for x, y in ((a, b), (b, a)):
        if x[0] == L and isinstance(x[1], str):
            return _token_contains(y, x) or (y[0] == LF and x[1].lower() == y[1])
    return True
