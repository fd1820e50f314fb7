"""Random policies: small ones for exhaustive oracles, large ones for benchmarks. Deterministic per seed."""

from __future__ import annotations

import dataclasses
import random

from pyopenshell.policy.model import Endpoint, GraphqlOperation, L7Match, McpOptions, Policy, QueryMatcher, Rule

BINARIES = ("/b/c", "/b/d", "/b/*", "/**/c")
HOSTS = ("a.x.z", "b.x.z", "*.x.z", "**.x.z", "*.*.z", "a*.x.z")
PARTIAL = ("a*", "*b", "*a*", "ab")
CLASSES = ("?", "[ab]", "[!a]", "a?", "?*", "[a-b]*", "B", "A*")


@dataclasses.dataclass(frozen=True)
class Style:
    """How often each feature appears; `classes` adds `?` and brackets, `extras` the rest of the language."""

    audit: float = 0.1
    raw: float = 0.15
    scoped: float = 0.2
    query: float = 0.25
    classes: float = 0.0
    extras: bool = False
    sorts: float = 0.0
    """How often an endpoint has a protocol other than `rest`."""


def path(rng: random.Random, style: Style) -> str:
    count = rng.choice([1, 1, 2, 2, 3])
    segments: list[str] = []
    for index in range(count):
        draw = rng.random()
        if rng.random() < style.classes:
            segments.append(rng.choice(CLASSES))
        elif draw < 0.5:
            segments.append(rng.choice("ab"))
        elif draw < 0.72:
            segments.append("*")
        elif draw < 0.87:
            segments.append("**")
        elif draw < 0.96:
            segments.append(rng.choice(PARTIAL))
        else:
            segments.append("" if index == count - 1 else "a")
    return "/" + "/".join(segments)


def match(rng: random.Random, style: Style) -> L7Match:
    query: tuple[tuple[str, QueryMatcher], ...] = ()
    if rng.random() < style.query:
        keys = rng.sample(["k", "l"], rng.choice([1, 1, 2]))
        globs = ["x", "y", "x*", "*y", "*"] + (["?", "[!x]"] if style.extras else [])
        query = tuple((key, QueryMatcher(tuple(rng.sample(globs, rng.choice([1, 1, 2]))))) for key in keys)
    return L7Match(rng.choice(["GET", "HEAD", "PUT", "*"]), path(rng, style), query)


def endpoint(rng: random.Random, style: Style) -> Endpoint:
    host = rng.choice(HOSTS)
    ports = rng.choice([(443,), (443,), (80,), (80, 443)])
    if style.extras and rng.random() < 0.05:
        return Endpoint("", ports, allowed_ips=("10.0.0.0/8",))
    if rng.random() < style.raw:
        return Endpoint(host, ports)
    plain = Endpoint(
        host,
        ports,
        path=path(rng, style) if rng.random() < style.scoped else "",
        protocol="rest",
        enforcement="audit" if rng.random() < style.audit else "enforce",
        rules=tuple(match(rng, style) for _ in range(rng.choice([0, 1, 2, 2, 3]))),
        deny_rules=tuple(match(rng, style) for _ in range(rng.choice([0, 0, 1, 1, 2]))),
    )
    if rng.random() < style.sorts:
        plain = of_sort(rng, plain, style)
    if not style.extras:
        return plain
    if plain.protocol != "rest":
        return dataclasses.replace(plain, allow_encoded_slash=rng.random() < 0.3)
    return dataclasses.replace(
        plain,
        tls="skip" if rng.random() < 0.05 else "",
        path_case=rng.choice(["sensitive", "insensitive"]),
        allow_encoded_slash=rng.random() < 0.3,
        access=rng.choice(["", "", "", "read-only", "full"]) if not plain.rules else "",
    )


TYPES = ("query", "mutation", "*")
NAMES = ("", "", "G*", "Go", "?et")
ROOTS = ("a", "b", "a*", "*b", "?")
CALLS = ("tools/call", "tools/*", "initialize", "x", "*", "?")
TOOLS = ("t", "t_*", "*", "[!t]*", "t/u", "*/*")


def graphql_match(rng: random.Random) -> L7Match:
    fields = tuple(rng.sample(ROOTS, rng.choice([0, 0, 1, 2])))
    return L7Match(operation_type=rng.choice(TYPES), operation_name=rng.choice(NAMES), fields=fields)


def call_match(rng: random.Random, protocol: str) -> L7Match:
    if protocol == "json-rpc" or rng.random() < 0.4:
        return L7Match(rng.choice(CALLS))
    params = {"name": QueryMatcher(tuple(rng.sample(TOOLS, rng.choice([1, 1, 2]))))}
    if rng.random() < 0.2:
        params["uri"] = QueryMatcher(("f:*",))
    return L7Match(rng.choice(["", "", "tools/call", "*"]), params=tuple(params.items()))


def of_sort(rng: random.Random, plain: Endpoint, style: Style) -> Endpoint:
    """The same endpoint under another protocol, with matchers of that protocol."""
    protocol = rng.choice(["websocket", "websocket", "graphql", "graphql", "json-rpc", "mcp", "mcp"])
    access = rng.choice(["", "", "read-only", "read-write", "full"]) if protocol in ("websocket", "graphql") else ""

    def one() -> L7Match:
        if protocol == "graphql" or (protocol == "websocket" and rng.random() < 0.3):
            return graphql_match(rng)
        if protocol == "websocket":
            return dataclasses.replace(match(rng, style), method=rng.choice(["GET", "WEBSOCKET_TEXT", "*"]))
        return call_match(rng, protocol)

    made = dataclasses.replace(
        plain,
        protocol=protocol,
        access=access,
        rules=() if access else tuple(one() for _ in range(rng.choice([1, 1, 2, 3]))),
        deny_rules=tuple(one() for _ in range(rng.choice([0, 0, 1, 1, 2]))),
    )
    if protocol == "mcp":
        everything = rng.random() < 0.1
        options = McpOptions(
            strict_tool_names=rng.random() < 0.6,
            allow_all_known_mcp_methods=everything,
            versions=rng.choice([(), (), ("1",), ("1", "2")]),
        )
        made = dataclasses.replace(made, mcp=options, rules=() if everything else made.rules)
    if protocol in ("graphql", "websocket") and rng.random() < 0.3:
        known = {name: GraphqlOperation(*rng.choice(REGISTERED)) for name in rng.sample(["i", "j"], rng.choice([1, 2]))}
        queries = tuple(sorted(known.items()))
        made = dataclasses.replace(made, persisted_queries="allow_registered", graphql_persisted_queries=queries)
    return made


REGISTERED = (("query", "Go", ("a",)), ("mutation", "", ("a", "b")), ("query", "", ("qb",)))


def small(rng: random.Random, rules: int = 2, style: Style | None = None) -> Policy:
    style = style or Style()
    return Policy(
        rules=tuple(
            Rule(
                f"r{number}",
                tuple(endpoint(rng, style) for _ in range(rng.choice([1, 1, 2]))),
                tuple(sorted(rng.sample(BINARIES, rng.choice([1, 1, 2])))),
            )
            for number in range(rules)
        )
    )


def mutate(rng: random.Random, policy: Policy, style: Style | None = None) -> Policy:
    """A related policy: something dropped, added or changed."""
    style = style or Style()
    rules = list(policy.rules)
    for _ in range(rng.choice([1, 1, 2])):
        other = small(rng, 1, style).rules[0]
        draw = rng.random()
        if draw < 0.25 and len(rules) > 1:
            rules.pop(rng.randrange(len(rules)))
        elif draw < 0.45:
            rules.append(dataclasses.replace(other, key=f"new{len(rules)}"))
        else:
            index = rng.randrange(len(rules))
            rules[index] = _mutate_rule(rng, rules[index], rng.choice(other.endpoints))
    return Policy(rules=tuple(rules))


def _mutate_rule(rng: random.Random, rule: Rule, other: Endpoint) -> Rule:
    endpoints = list(rule.endpoints)
    index = rng.randrange(len(endpoints))
    old = endpoints[index]
    draw = rng.random()
    if old.protocol != other.protocol or not old.protocol or draw < 0.2:
        new = other
    elif draw < 0.45:
        new = dataclasses.replace(old, access="", rules=old.rules + other.rules)
    elif draw < 0.7:
        new = dataclasses.replace(old, deny_rules=old.deny_rules[:-1])
    elif draw < 0.9:
        new = dataclasses.replace(old, deny_rules=old.deny_rules + other.deny_rules)
    else:
        new = dataclasses.replace(
            old, host=other.host, allowed_ips=other.allowed_ips, allow_encoded_slash=other.allow_encoded_slash
        )
    endpoints[index] = new
    return dataclasses.replace(rule, endpoints=tuple(endpoints))


VERBS = ("GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE")
LARGE_BINARIES = (
    "/usr/bin/curl",
    "/usr/bin/git",
    "/usr/bin/gh",
    "/usr/local/bin/node",
    "/usr/bin/python3.11",
    "/sandbox/.venv/**/python*",
    "/usr/local/bin/claude",
    "/opt/*/bin/tool",
)


def large(rules: int, seed: int = 0, *, per_endpoint: int = 20, dense: bool = False, binaries: int = 5) -> Policy:
    """A realistic policy of about `rules` matchers, on one endpoint when `dense`."""
    rng = random.Random(seed)
    count = 1 if dense else max(1, rules // per_endpoint)
    per = rules // count
    out = []
    for number in range(count):
        draw = rng.random()
        host = f"api{number}.example.com"
        if draw < 0.05 and not dense:
            host = f"*.svc{number}.example.com"
        elif draw < 0.1 and not dense:
            host = f"**.z{number}.example.net"
        matches = [(rng.random() < 0.1, _large_match(rng, j, per)) for j in range(per)]
        made = Endpoint(
            host,
            (443,),
            protocol="rest",
            rules=tuple(m for deny, m in matches if not deny),
            deny_rules=tuple(m for deny, m in matches if deny),
        )
        names = tuple(sorted(rng.sample(LARGE_BINARIES, min(binaries, len(LARGE_BINARIES)))))
        out.append(Rule(f"r{number}", (made,), names))
    return Policy(rules=tuple(out))


def _large_match(rng: random.Random, number: int, per: int) -> L7Match:
    org, repo = f"org{rng.randrange(max(2, per // 4))}", f"repo{rng.randrange(max(3, per))}"
    draw = rng.random()
    shapes = (
        (0.35, f"/repos/{org}/{repo}/contents/docs/file{number}.md"),
        (0.5, f"/repos/{org}/{repo}/issues/*"),
        (0.65, f"/repos/{org}/{repo}/**"),
        (0.75, f"/repos/{org}/*/pulls"),
        (0.8, f"/repos/*/{repo}/branches/release-*"),
        (0.93, f"/v{rng.randrange(3)}/projects/p{number}/items"),
        (1.0, f"/**/git-upload-pack-{number}"),
    )
    text = next(shape for limit, shape in shapes if draw < limit)
    ref = (("ref", QueryMatcher((f"v{rng.randrange(5)}*", "main"))),) if rng.random() < 0.03 else ()
    return L7Match(rng.choice(VERBS), text, ref)
