from __future__ import annotations

import itertools
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.globs import FRESH, Glob, L, path_pattern
from pyopenshell.proof.breadth import breadth
from pyopenshell.proof.work import Work
from tests.policy.reference import path_regex

segment = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", "*a*"])
pattern = st.builds(
    lambda s, t: "/" + "/".join(s) + t, st.lists(segment, min_size=1, max_size=4), st.sampled_from(["", "/"])
)


def test_scale() -> None:
    assert breadth([path_pattern("/a/b")[1]], (), Work()) == 0
    assert 17 < breadth([path_pattern("/**")[1]], (), Work()) < 19
    assert breadth([path_pattern("/a")[1]], [path_pattern("/a")[1]], Work()) == -math.inf


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(pattern, min_size=1, max_size=2), st.lists(pattern, max_size=2))
def test_counting_is_exact(lefts: list[str], avoid: list[str]) -> None:
    depth, names = 3, 2
    tokens = [token for text in lefts + avoid for token in path_pattern(text)[1]]
    literals = {str(v) for kind, v in tokens if kind == L and v}
    globs = {FRESH.join(v.parts) for _, v in tokens if isinstance(v, Glob)}
    alphabet = [*sorted(literals | globs), "\ue001", "\ue002"]
    total = 0
    for count in range(depth + 1):
        for word in itertools.product(alphabet, repeat=count):
            for tail in ("", "/") if word else ("",):
                path = "/" + "/".join(word) + tail
                if all(path_regex(p).match(path) for p in lefts) and not any(path_regex(p).match(path) for p in avoid):
                    total += 1
    got = breadth([path_pattern(p)[1] for p in lefts], [path_pattern(p)[1] for p in avoid], Work(), depth, names)
    assert got == (math.log10(total) if total else -math.inf)
