"""A changed trie is the trie that would have been built from nothing, and the one it came from stays as it was."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.tries import Entry, Node, Trie
from tests.policy.generate import CLASSES, PARTIAL

PIECES = ("a", "b", "c", "*", "**", *PARTIAL, *CLASSES)


def shape(node: Node[str]) -> Any:
    """Everything a node says, in an order that does not depend on how it was made."""
    return (
        sorted((text, shape(child)) for text, child in node.lit.items()),
        sorted((text, shape(child)) for text, child in (node.fold or {}).items()),
        sorted((repr(sorted(map(repr, glob.items))), shape(child)) for glob, child in (node.globs or {}).items()),
        *(shape(child) if child is not None else None for child in (node.any, node.anye, node.ds)),
        node.loops,
        sorted(node.end or ()),
        node.sample,
    )


def rank(payload: str) -> str | None:
    return payload if payload < "m" else None


def entry(rng: random.Random) -> Entry[str]:
    text = "/" + "/".join(rng.choice(PIECES) for _ in range(rng.choice([1, 2, 3]))) + rng.choice(["", "", "/"])
    return path_pattern(text)[1], rng.choice("abcxyz")


def built(entries: list[Entry[str]]) -> Trie[str]:
    trie: Trie[str] = Trie(rank)
    for tokens, payload in entries:
        trie.add(tokens, payload)
    return trie


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_changing_is_building(seed: int) -> None:
    rng = random.Random(seed)
    entries = [entry(rng) for _ in range(rng.randrange(30))]
    trie = built(entries)
    for _ in range(4):
        was = shape(trie.root)
        gone = rng.sample(entries, min(len(entries), rng.randrange(6)))
        come = [entry(rng) for _ in range(rng.randrange(6))]
        left = list(entries)
        for one in gone:
            left.remove(one)
        after = trie.changed(gone, come)
        assert shape(after.root) == shape(built([*left, *come]).root)
        assert shape(trie.root) == was
        entries, trie = [*left, *come], after
    emptied = trie.changed(entries, ())
    assert emptied.empty
    assert shape(emptied.root) == shape(built([]).root)


def nodes(node: Node[Any]) -> set[int]:
    """The identities of a node and of all below it."""
    return {id(node)}.union(*(nodes(child) for child in node.children()))


def test_only_the_way_to_a_change_is_copied() -> None:
    trie = built([(path_pattern(f"/r{i % 50}/x{i}/**")[1], "a") for i in range(1000)])
    after = trie.changed([(path_pattern("/r7/x7/**")[1], "a")], [(path_pattern("/r8/new")[1], "b")])
    assert len(nodes(after.root) - nodes(trie.root)) <= 4
