"""Seeded bugs: each puts one mistake into the engine, the language or an operation, and some law must notice it.

A mutant that survives says that a law is weaker than it looks. `test_mutants.py` runs them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pyopenshell.policy import (
    binaries,
    compose,
    coverage,
    engine,
    folding,
    globs,
    grants,
    judgement,
    paths,
    query,
    records,
    tries,
)
from pyopenshell.policy.model import Policy
from pyopenshell.policy.tries import Node, Trie

Mutant = Callable[[pytest.MonkeyPatch], None]


def _around(patch: pytest.MonkeyPatch, owner: object, name: str, wrong: Callable[..., Any]) -> None:
    """Replace `owner.name` with `wrong(original, ...)`."""
    patch.setattr(owner, name, functools.partial(wrong, getattr(owner, name)))


def _method(patch: pytest.MonkeyPatch, owner: type, name: str, wrong: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda self, *args, **kw: wrong(original, self, *args, **kw))


# ---- matching --------------------------------------------------------------------------------------------------------


def head_is_not_covered_by_get(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records.Record, "covers", lambda self, method: self.method in ("*", method))


def denies_do_not_win(patch: pytest.MonkeyPatch) -> None:
    _around(patch, judgement, "judge", lambda real, *a, **k: dataclasses.replace(real(*a, **k), deny=()))
    patch.setattr(engine, "judge", judgement.judge)


def a_query_makes_a_deny_fire_always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "denies", lambda conditions, values: True)


def one_good_value_is_enough(patch: pytest.MonkeyPatch) -> None:
    """ALL becomes ANY: a second value smuggles."""
    patch.setattr(engine, "allows", query.denies)


def every_value_must_be_denied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "denies", query.allows)


def trailing_slash_escapes_a_deny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "_slash_variants", lambda tokens: [])


def letter_case_escapes_a_deny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "_fold", lambda tokens: tokens)


def any_endpoint_lends_its_encoded_slash(patch: pytest.MonkeyPatch) -> None:
    _around(patch, judgement, "judge", lambda real, *a, slash=False: real(*a, slash=False))
    patch.setattr(engine, "judge", judgement.judge)


def audit_wins_over_a_more_specific_scope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "specificity", lambda scope: 0)


def scopes_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grant, "simple", property(lambda self: True))


def raw_wins_over_inspected(patch: pytest.MonkeyPatch) -> None:
    def made(real: Any, self: engine.EngineCell, *args: Any) -> None:
        real(self, *args)
        self.inspected = self.inspected and not any(grant.raw for grant in self.grants)

    _method(patch, engine.EngineCell, "__init__", made)


def tls_skip_is_inspected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants, "is_raw", lambda endpoint: endpoint.protocol in records.RAW_PROTOCOLS)


def ancestors_do_not_count(patch: pytest.MonkeyPatch) -> None:
    _method(patch, binaries.BinaryIndex, "of_chain", lambda real, self, program, *others: real(self, list(program)[:1]))


def a_middle_double_star_needs_a_segment(patch: pytest.MonkeyPatch) -> None:
    """The reading of OPA and gobwas (proof.md 2.4)."""

    def enter(out: dict[Node[Any], None], node: Node[Any]) -> None:
        out[node] = None

    patch.setattr(tries, "_enter", enter)


def a_last_star_is_never_empty(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tries, "ANYE", -1)

    def step(real: Any, states: Any, segment: str) -> Any:
        return real(states, segment) if segment else {k: v for k, v in real(states, segment).items() if k.end is None}

    _around(patch, tries, "step", step)


def negated_classes_are_not_negated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(globs.CharSet, "__contains__", lambda self, char: char in self.chars)


def partial_globs_match_prefixes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(globs.Glob, "match", lambda self, text: text.startswith(self.parts[0] if self.plain else ""))


# ---- structure sharing -----------------------------------------------------------------------------------------------


def removed_matchers_stay_in_the_trie(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trie, "_remove", lambda self, tokens, payload, fresh: None)


def changes_write_into_the_shared_trie(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Node, "copy", lambda self: self)


def a_patched_grant_keeps_its_old_counts(patch: pytest.MonkeyPatch) -> None:
    _method(patch, grants.Grant, "_count", lambda real, self, part, times: real(self, part, 1))


def a_patched_part_keeps_its_old_denies(patch: pytest.MonkeyPatch) -> None:
    def changed(real: Any, self: grants.Part, endpoint: Any) -> Any:
        return real(self, dataclasses.replace(endpoint, deny_rules=self.endpoint.deny_rules))

    _method(patch, grants.Part, "changed", changed)


def frames_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants, "_FRAME", lambda endpoint: ())


def patched_binaries_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def changed(real: Any, self: binaries.BinaryIndex, old: Any, new: Any) -> Any:
        return self if self.patterns else real(self, old, new)

    _method(patch, binaries.BinaryIndex, "changed", changed)


# ---- canonicalisation ------------------------------------------------------------------------------------------------


def paths_are_decoded_twice(patch: pytest.MonkeyPatch) -> None:
    _around(patch, paths, "canonical_path", lambda real, raw, slash: real(real(raw, slash), slash).replace("%25", "%"))


def dots_are_resolved_before_parameters_are_cut(patch: pytest.MonkeyPatch) -> None:
    def segments(real: Any, raw: str, slash: bool) -> list[list[int]]:
        out: list[list[int]] = [[]]
        for byte in paths._decode(raw, slash)[1:]:
            if byte == 0x2F:
                out.append([])
            else:
                out[-1].append(byte)
        return out

    _around(patch, paths, "_segments", segments)


def empty_segments_are_kept(patch: pytest.MonkeyPatch) -> None:
    _around(patch, paths, "clean", lambda real, path: paths._CLEAN(path) is not None and "/." not in path)
    patch.setattr(engine, "clean", paths.clean)


def climbing_above_the_root_is_ignored(patch: pytest.MonkeyPatch) -> None:
    _around(patch, paths, "_resolve", lambda real, found: real([s for i, s in enumerate(found) if i or s != [46, 46]]))


def dots_hide_beside_encoded_slashes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(paths, "_hidden_dots", lambda segment: False)


# ---- operations ------------------------------------------------------------------------------------------------------


def merging_lends_what_was_not_declared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(folding, "_widening", lambda *args: None)


def coverage_ignores_denies(patch: pytest.MonkeyPatch) -> None:
    real = coverage.gaps
    loose = coverage.Mode(denies_present=False, heed_denies=False)
    patch.setattr(coverage, "gaps", lambda loaded, rule, *mode: real(loaded, rule, loose))


def provider_layers_get_lost(patch: pytest.MonkeyPatch) -> None:
    def effective(real: Any, above: Any, sandbox: Any, providers: Any) -> Policy:
        found: Policy = real(above, sandbox, dict(list(providers.items())[1:]))
        return found

    _around(patch, compose, "effective", effective)


MATCHING: Sequence[Mutant] = (
    head_is_not_covered_by_get, denies_do_not_win, a_query_makes_a_deny_fire_always, one_good_value_is_enough,
    every_value_must_be_denied, trailing_slash_escapes_a_deny, letter_case_escapes_a_deny,
    any_endpoint_lends_its_encoded_slash, audit_wins_over_a_more_specific_scope, scopes_are_ignored,
    raw_wins_over_inspected, tls_skip_is_inspected, ancestors_do_not_count,
    a_middle_double_star_needs_a_segment, a_last_star_is_never_empty, negated_classes_are_not_negated,
    partial_globs_match_prefixes,
)  # fmt: skip
SHARING: Sequence[Mutant] = (
    removed_matchers_stay_in_the_trie, changes_write_into_the_shared_trie, a_patched_grant_keeps_its_old_counts,
    a_patched_part_keeps_its_old_denies, frames_are_not_compared, patched_binaries_are_forgotten,
)  # fmt: skip
SPELLING: Sequence[Mutant] = (
    paths_are_decoded_twice, dots_are_resolved_before_parameters_are_cut, empty_segments_are_kept,
    climbing_above_the_root_is_ignored, dots_hide_beside_encoded_slashes,
)  # fmt: skip
OPERATIONS: Sequence[Mutant] = (
    merging_lends_what_was_not_declared, coverage_ignores_denies, provider_layers_get_lost,
)  # fmt: skip
EVERY: Sequence[Mutant] = (*MATCHING, *SHARING, *SPELLING, *OPERATIONS)
