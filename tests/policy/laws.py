"""The laws of the language as checks over seeds: `check(seed)` raises where a law is broken and says what it looked at.

Short runs are in `test_laws.py`, long ones in `test_deep.py`, and `test_mutants.py` sees that a seeded bug is found.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Callable

from pyopenshell.policy import compose, coverage, globs, merge, paths, tries
from pyopenshell.policy.conflicts import conflicts
from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Endpoint, Policy, Rule
from pyopenshell.policy.validate import validate
from tests.policy.generate import CLASSES, PARTIAL, Style, mutate, small
from tests.policy.reference import Point, path_regex, permits
from tests.policy.test_engine import _ask, _carried, _point

Check = Callable[[int], "Counter[str]"]

RAW_PIECES = (
    *("a", "b", "ab", "", ".", "..", "%2e", "%2E%2e", "..;x", "a;b", "%61", "A"),
    *("%2f", "a%2Fb", "..%2f", "%25", "%252e%252e", " ", "%C3", "%c3%a9", "%7f", "%2", "é", "a\\b", "%5C", "..."),
)
"""Segments as a hostile client would spell them."""


def target_of(rng: random.Random) -> str:
    """A request target as a hostile client would spell it."""
    text = "/" + "/".join(rng.choice(RAW_PIECES) for _ in range(rng.choice([0, 1, 2, 3, 4])))
    return text + rng.choice(["", "", "?k=x", "?k=x&k=q", "?"])


def engine_is_the_definition(seed: int) -> Counter[str]:
    """The engine permits exactly what `permits` does."""
    rng = random.Random(seed)
    style = Style(classes=rng.choice([0, 0.3]), extras=rng.random() < 0.7)
    policy = small(rng, rng.choice([1, 2, 3, 4]), style)
    engine = compile(policy)
    seen: Counter[str] = Counter()
    for _ in range(50):
        point = _point(rng)
        expected = permits(policy, point)
        assert _ask(engine, point) == expected, (policy, point)
        seen["samples"] += 1
        seen["permitted"] += expected
    return seen


def sorts_are_the_definition(seed: int) -> Counter[str]:
    """The same for WebSocket messages, GraphQL operations and calls; also patched."""
    rng = random.Random(seed)
    style = Style(classes=0.1, scoped=0.4, raw=0.02, sorts=0.7, extras=rng.random() < 0.5)
    policy = small(rng, 3, style)
    engine = compile(policy)
    seen: Counter[str] = Counter()
    for _ in range(2):
        for _ in range(20):
            point = _point(rng)
            point = _carried(rng, point) if point.method and rng.random() < 0.85 else point
            expected = permits(policy, point)
            assert _ask(engine, point) == expected, (policy, point)
            seen["samples"] += 1
            seen["permitted"] += expected
        policy = mutate(rng, policy, style)
        engine = compile(policy, reuse=engine)
    return seen


def glob_is_the_definition(seed: int) -> Counter[str]:
    """A path glob matches exactly what the regular expression of its definition does."""
    rng = random.Random(seed)
    pieces = ("a", "b", "*", "*", "**", *PARTIAL, *CLASSES)
    pattern = "/" + "/".join(rng.choice(pieces) for _ in range(rng.choice([1, 2, 3, 4]))) + rng.choice(["", "", "/"])
    tokens = globs.path_pattern(pattern)[1]
    seen: Counter[str] = Counter()
    for _ in range(20):
        word = [rng.choice(["a", "b", "ab", "qb", "A", "aa"]) for _ in range(rng.choice([0, 1, 2, 3, 4]))]
        path = "/" + "/".join(word) + ("/" if word and rng.random() < 0.3 else "")
        expected = bool(path_regex(pattern).match(path))
        assert tries.matches(tokens, path[1:].split("/")) == expected, (pattern, path)
        seen["samples"] += 1
        seen["matched"] += expected
    return seen


# ---- canonicalisation ------------------------------------------------------------------------------------------------

_BYTE = re.compile(rb"%([0-9A-Fa-f]{2})|(%)|(.)", re.DOTALL)


def slow_canonical(target: str, slash: bool) -> str | None:
    """proof.md 2.3 step by step on bytes, None for a refusal; shares nothing with `paths`. Without query."""
    if any(not 0x20 <= ord(c) < 0x7F or c == "#" for c in target) or len(target) > 4096 or target[:1] != "/":
        return None
    if "\\" in target or "%5c" in target.lower():
        return None
    symbols: list[str] = []  # one per byte: the character, or "//" for an encoded slash
    for match in _BYTE.finditer(target.encode()):
        escape, bad, plain = match.groups()
        if bad:
            return None
        byte = int(escape, 16) if escape else plain[0]
        if escape and (byte < 0x20 or byte == 0x7F or (byte == 0x2F and not slash)):
            return None
        symbols.append("//" if escape and byte == 0x2F else chr(byte))
    segments: list[list[str]] = []
    for symbol in symbols:
        if symbol == "/":
            segments.append([])
        else:
            segments[-1].append(symbol)
    out: list[list[str]] = []
    for index, segment in enumerate(segments):
        if ";" in segment:
            segment = segment[: segment.index(";")]
        if segment == [".", "."]:
            if not out:
                return None
            del out[-1]
        if segment in ([".", "."], ["."]):
            segment = []
        if segment or index == len(segments) - 1:
            out.append(segment)
    if any("//" in s and {".", ".."} & set("".join(s).split("//")) for s in out):
        return None
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@"
    return "/" + "/".join("".join("%2F" if c == "//" else c if c in safe else f"%{ord(c):02X}" for c in s) for s in out)


def canonical_is_the_definition(seed: int) -> Counter[str]:
    """Canonicalising is what the definition says, and doing it twice changes nothing."""
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(20):
        target, slash = target_of(rng).partition("?")[0], rng.random() < 0.5
        try:
            found = paths.canonicalise(target, allow_encoded_slash=slash).path
        except ValueError:
            found = None
        assert found == slow_canonical(target, slash), (target, slash)
        seen["samples"] += 1
        if found is not None:
            seen["canonical"] += 1
            assert paths.canonicalise(found, allow_encoded_slash=slash).path == found, target
    return seen


def reach_is_not_lengthened(seed: int) -> Counter[str]:
    """What is forwarded is judged exactly as what was sent, and so is what it canonicalises to again."""
    rng = random.Random(seed)
    engine = compile(small(rng, 3, Style(classes=0.2, extras=True)))
    seen: Counter[str] = Counter()
    for _ in range(10):
        point = _point(rng)
        connection = Connection(point.host, point.port, point.chain[0], point.chain[1:])
        target = target_of(rng)
        sent = engine.decide(connection, "GET", target)
        seen["samples"] += 1
        if not sent.allowed or not engine.connect(connection).inspected:
            continue
        seen["permitted"] += 1
        again = engine.decide(connection, "GET", sent.target)
        assert (again.allowed, again.target, again.path) == (True, sent.target, sent.path)
        assert len(sent.target) <= 3 * len(target)
        for slash in (False, True):
            try:
                canonical = paths.canonicalise(target, allow_encoded_slash=slash)
            except ValueError:
                continue
            assert canonical.target == sent.target
    return seen


# ---- operations ------------------------------------------------------------------------------------------------------


def grouping_changes_nothing(seed: int) -> Counter[str]:
    """The same rules as one policy, or spread over provider layers in any way, decide alike."""
    rng = random.Random(seed)
    rules = small(rng, 5, Style(classes=0.1, extras=True)).rules
    whole = Policy(rules=rules)
    mine = tuple(rule for rule in rules if rng.random() < 0.5)
    layers = {f"p{rng.randrange(99)}-{i}": rule for i, rule in enumerate(rules) if rule not in mine}
    spread = compose.effective(None, Policy(rules=tuple(rng.sample(mine, len(mine)))), layers)
    one, other = compile(whole), compile(spread)
    nested = compile(compose.effective(compose.effective(None, whole, {}), None, {}))
    seen: Counter[str] = Counter()
    for _ in range(10):
        point = _point(rng)
        expected = _ask(one, point)
        assert expected == _ask(other, point) == _ask(nested, point)
        seen["samples"] += 1
        seen["permitted"] += expected
    return seen


def patching_is_compiling(seed: int) -> Counter[str]:
    """An engine made from another one decides, and speaks, as one made from nothing; the other one stays as it is."""
    rng = random.Random(seed)
    style = Style(classes=0.1, extras=True)
    policy = small(rng, 6, style)
    engine = compile(policy)
    seen: Counter[str] = Counter()
    for _ in range(3):
        before, old = policy, engine
        policy = mutate(rng, policy, style)
        engine, fresh = compile(policy, reuse=old), compile(policy)
        for point in _points(rng, 5):
            assert _ask(old, point) == permits(before, point)
        for _ in range(10):
            point = _point(rng)
            connection = Connection(point.host, point.port, point.chain[0], point.chain[1:])
            ask = (connection, point.method or "", point.path if point.method else "")
            mine, other = engine.decide(*ask), fresh.decide(*ask)
            assert mine == other
            a, b = engine.connect(connection), fresh.connect(connection)
            assert (a.inspected, a.host_declared, a.tls_skip) == (b.inspected, b.host_declared, b.tls_skip)
            assert (a.allowed_ips, a.protocols) == (b.allowed_ips, b.protocols)
            seen["samples"] += 1
            seen["permitted"] += mine.allowed
    return seen


def _points(rng: random.Random, count: int) -> list[Point]:
    return [_point(rng) for _ in range(count)]


def _named_by(rule: Rule, chain: tuple[str, ...]) -> bool:
    return any(globs.binary_pattern(b) is None and b in chain for b in rule.binaries) or any(
        "*" in b and path_regex(b).match(name) for b in rule.binaries for name in chain
    )


def merging_widens_nothing(seed: int) -> Counter[str]:
    """G-3: after a merge nobody may do more than before, or than the merged rule alone says."""
    rng = random.Random(seed)
    style = Style(audit=0.1, raw=0.3, scoped=0.1)
    before = small(rng, 3, style)
    new = small(rng, 1, style).rules[0]
    seen: Counter[str] = Counter()
    if conflicts(before):
        return seen
    name = rng.choice(["r0", "r1", "r2", "new"])
    if rng.random() < 0.5:  # a rule that really meets one of the policy
        twin = rng.choice(before.rules)
        new = dataclasses.replace(new, endpoints=(_alike(rng, rng.choice(twin.endpoints), new.endpoints[0]),))
    try:
        result = merge.apply(before, [merge.AddRule(name, new)])
    except merge.MergeError:
        seen["refused"] += 1
        return seen
    seen["merged"] += 1
    seen["folded"] += len(result.policy.rules) == len(before.rules)
    assert conflicts(result.policy) == []
    was, now = compile(before), compile(result.policy)
    alone = Policy(rules=(dataclasses.replace(new, key="alone"),))
    for point in _points(rng, 30):
        allowed = _ask(now, point)
        seen["samples"] += 1
        seen["permitted"] += allowed
        if _named_by(new, point.chain):
            assert not allowed or permits(before, point) or permits(alone, point), (before, new, point)
        else:
            assert allowed == _ask(was, point), (before, new, point)
    return seen


def _alike(rng: random.Random, have: Endpoint, other: Endpoint) -> Endpoint:
    if not have.protocol:
        return have
    return dataclasses.replace(
        have, rules=other.rules or have.rules, deny_rules=() if rng.random() < 0.7 else other.deny_rules
    )


def covered_is_permitted(seed: int) -> Counter[str]:
    """Where `policy_covers_rule` says yes, the policy permits every request of the rule by its binaries alone.

    Not with every ancestor: another rule may deny what is asked below one of them.
    """
    rng = random.Random(seed)
    style = Style(audit=0.0, raw=0.0, scoped=0.15, query=0.1)
    policy = small(rng, 3, style)
    asked = small(rng, 1, style).rules[0]
    if rng.random() < 0.7:  # a part of what is there
        rule = rng.choice(policy.rules)
        endpoint = rng.choice(rule.endpoints)
        some = tuple(match for match in endpoint.rules if rng.random() < 0.7)
        part = dataclasses.replace(endpoint, rules=some or endpoint.rules, deny_rules=())
        asked = Rule("asked", (part,), tuple(rng.sample(rule.binaries, 1)))
    seen: Counter[str] = Counter(asked=1)
    if not coverage.covers(policy, asked):
        return seen
    seen["covered"] += 1
    wanted, engine = Policy(rules=(dataclasses.replace(asked, key="asked"),)), compile(policy)
    for point in _points(rng, 30):
        point = dataclasses.replace(point, chain=point.chain[:1])
        if point.method is not None and permits(wanted, point):
            seen["samples"] += 1
            assert _ask(engine, point), (policy, asked, point)
    return seen


def valid_stays_valid(seed: int) -> Counter[str]:
    """What the validator accepts compiles."""
    rng = random.Random(seed)
    policy = small(rng, 3, Style(classes=0.2, extras=True))
    seen: Counter[str] = Counter(samples=1)
    if not validate(policy):
        seen["valid"] += 1
        engine: Engine = compile(policy)
        assert len(engine.policy.rules) == 3
    return seen


LAWS: dict[str, tuple[Check, int, str, str]] = {
    "engine": (engine_is_the_definition, 40_000, "permitted", "samples"),
    "sorts": (sorts_are_the_definition, 25_000, "permitted", "samples"),
    "globs": (glob_is_the_definition, 100_000, "matched", "samples"),
    "canonical": (canonical_is_the_definition, 50_000, "canonical", "samples"),
    "reach": (reach_is_not_lengthened, 20_000, "permitted", "samples"),
    "grouping": (grouping_changes_nothing, 20_000, "permitted", "samples"),
    "patching": (patching_is_compiling, 10_000, "permitted", "samples"),
    "merging": (merging_widens_nothing, 20_000, "permitted", "samples"),
    "coverage": (covered_is_permitted, 20_000, "covered", "asked"),
    "valid": (valid_stays_valid, 20_000, "valid", "samples"),
}
"""name -> (check, seeds of a deep run, what must be neither rare nor the rule, among what)."""
