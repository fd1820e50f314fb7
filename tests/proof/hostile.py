"""Policies that are hard to compare on purpose: what a hostile agent may propose and what people have written.

Every function gives (before, after). Deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule

CURL = "/usr/bin/curl"
Pair = tuple[Policy, Policy]


def _rest(*matches: L7Match, host: str = "api.example.com", deny: tuple[L7Match, ...] = ()) -> Endpoint:
    return Endpoint(host, (443,), protocol="rest", rules=matches, deny_rules=deny)


def _policy(*endpoints: Endpoint, binaries: tuple[str, ...] = (CURL,)) -> Policy:
    return Policy(rules=tuple(Rule(f"r{n}", (e,), binaries) for n, e in enumerate(endpoints)))


def _paths(seed: int, count: int, segments: tuple[str, ...], length: int) -> list[str]:
    rng = random.Random(seed)
    return ["/" + "/".join(rng.choice(segments) for _ in range(length)) for _ in range(count)]


def _against(one: list[str], other: list[str]) -> Pair:
    before, after = ([L7Match("GET", path) for path in paths] for paths in (one, other))
    return _policy(_rest(*before)), _policy(_rest(*after))


def double_stars(count: int = 100) -> Pair:
    """Three or more `**` each, in different orders."""
    segments = ("**", "a", "**", "b", "**", "c", "*")
    return _against(_paths(1, count, segments, 8), _paths(2, count, segments, 8))


def classes(count: int = 100) -> Pair:
    """Overlapping character classes in every segment."""
    segments = ("[ab]?*", "*[bc]?", "?[!a]*", "[a-f]*[0-9]", "*[!x]*", "a?[bc]*", "[ab][cd][ef]*")
    return _against(_paths(3, count, segments, 4), _paths(4, count, segments, 4))


def blow_up(count: int = 100) -> Pair:
    """`*[ab]??…`: the deterministic automaton of each is exponential in its length."""
    before = [f"/*[{'ab' if n % 2 else 'bc'}]{'?' * (4 + n % 12)}" for n in range(count)]
    after = [f"/*[{'ac' if n % 2 else 'ab'}]{'?' * (4 + n % 13)}" for n in range(count)]
    return _against(before, after)


def mixed(count: int = 50) -> Pair:
    """Everything at once: what one proposal with fifty paths full of wildcards looks like."""
    segments = ("**", "*", "a*b*c", "*x*y*", "**", "[ab]*", "v?.*", "lit")
    return _against(_paths(5, count, segments, 9), _paths(6, count, segments, 9))


def shuffles(count: int = 50) -> Pair:
    """Partial globs under a scope of partial globs: their intersections are all the ways to interleave them."""
    scope = "/" + "/".join("*a*b*c*d*e*f*" for _ in range(3))
    made = [L7Match("GET", f"/*g*h*i*j*k{n}*/*l*m*n*o*/*p*q*r*s*") for n in range(count)]
    after = Endpoint("api.example.com", (443,), path=scope, protocol="rest", rules=tuple(made))
    return _policy(_rest(L7Match("GET", "/a"))), _policy(after)


def queries(count: int = 60) -> Pair:
    """Query matchers on many keys, allowed and denied: a satisfiability problem."""
    rng = random.Random(7)

    def match(number: int) -> L7Match:
        keys = rng.sample([f"k{n}" for n in range(12)], 4)
        pairs = tuple(
            (key, QueryMatcher(tuple(f"*{rng.choice('abc')}{rng.choice('xyz')}*" for _ in "12")))
            for key in sorted(keys)
        )
        return L7Match("GET", "/s", pairs)

    made = [match(n) for n in range(4 * count)]
    before = _rest(*made[:count], deny=tuple(made[count : 2 * count]))
    after = _rest(*made[2 * count : 3 * count], deny=tuple(made[3 * count :]))
    return _policy(before), _policy(after)


def denies(count: int = 60) -> Pair:
    """Denies lifted and audit scopes nested below an allow-all: refiners of refiners."""
    paths = _paths(8, count, ("**", "*", "a", "b", "*c*"), 5)
    before = [_rest(L7Match("*", "/**"), deny=tuple(L7Match("GET", path) for path in paths))]
    scopes = _paths(9, count // 4, ("*", "a", "b", "**"), 3)
    before += [
        Endpoint(
            "api.example.com",
            (443,),
            path=path,
            protocol="rest",
            enforcement="audit" if n % 2 else "enforce",
            rules=(L7Match("GET", path),),
        )
        for n, path in enumerate(scopes)
    ]
    return _policy(*before), _policy(_rest(L7Match("*", "/**")))


def binaries(count: int = 60) -> Pair:
    """Binary and host wildcards in every combination."""
    names = _paths(10, count, ("**", "*", "usr", "bin", "p*", "*n"), 4)
    names = [name + "/*" for name in names]
    hosts = [f"*{a}*{b}*.example.com" for a in "abcdef" for b in "ghijkl"]
    before = Policy(
        rules=tuple(
            Rule(f"b{n}", (_rest(L7Match("GET", "/**/x"), host=hosts[n % 36]),), (names[n],)) for n in range(count // 2)
        )
    )
    after = Policy(
        rules=tuple(
            Rule(f"a{n}", (_rest(L7Match("GET", "/**"), host=hosts[-n % 36]),), (names[-n], names[n // 2]))
            for n in range(1, count // 2)
        )
    )
    return before, after


def many_grants(count: int = 1000) -> Pair:
    """One host, a thousand different sets of binaries."""

    def made(word: str) -> Policy:
        return Policy(
            rules=tuple(
                Rule(
                    f"{word}{n}",
                    (_rest(L7Match("GET", f"/{word}/{n}/*")),),
                    (f"/bin/{n}", f"/bin/{word}{n % 31}", CURL),
                )
                for n in range(count)
            )
        )

    return made("x"), made("y")


def addresses(count: int = 300) -> Pair:
    """Long lists of private networks."""

    def made(offset: int) -> Policy:
        networks = tuple(f"10.{n % 256}.{(n * 7 + offset) % 256}.0/24" for n in range(count))
        return Policy(
            rules=tuple(
                Rule(f"r{n}", (Endpoint(f"h{n}.example.com", (443,), allowed_ips=networks),), (CURL,))
                for n in range(20)
            )
        )

    return made(0), made(1)


def long_literals(count: int = 20) -> Pair:
    """Segments as long as they may be, next to classes that could spell them."""
    literals = [f"/{'abcdefgh'[n % 8] * 2000}{n}" for n in range(count)]
    return _against([*literals, "/[a-h0-9]*"], [*(text + "x" for text in literals), "/[a-h]*[0-9]x", "/?*"])


HOSTILE: dict[str, Callable[[], Pair]] = {
    made.__name__: made
    for made in (
        double_stars,
        classes,
        blow_up,
        mixed,
        shuffles,
        queries,
        denies,
        binaries,
        many_grants,
        addresses,
        long_literals,
    )
}
