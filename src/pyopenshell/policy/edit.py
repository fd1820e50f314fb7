"""Changes to a policy as changes to its text: what did not change keeps its comments, order and spelling.

Decides where in the text a change goes. What the policy becomes is the caller's (`policy.merge`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence

from pyopenshell.policy.layout import Entry, Piece, format_text, piece, read, scalar_text
from pyopenshell.policy.model import Policy
from pyopenshell.policy.yaml import dump, load, to_plain

_EITHER = {"port": "ports", "ports": "port", "rules": "access", "access": "rules"}
"""Keys of which the model keeps one: the new one takes the place of the old."""


def edit_text(text: str | bytes, after: Policy, filename: str = "policy.yaml") -> str:
    """`text` changed as little as possible, so that it loads as `after`. Unchanged for an unchanged policy.

    Raises `PolicyError` when `text` is not a valid policy, ValueError when `after` cannot be written as one.
    """
    before = load(text, filename)
    if dump(before) == dump(after):
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text
    layout = read(text, filename)
    _mapping(layout.root, to_plain(before), to_plain(after))
    out = format_text(layout.render(), filename)
    if dump(load(out, filename)) != dump(after):
        raise ValueError("the change cannot be written into this text")
    return out


def _mapping(target: Piece, old: Mapping[str, object], new: Mapping[str, object]) -> None:
    """Bring a mapping from `old` to `new`. Keys in neither are defaults that the author wrote out: they stay."""
    present = target.keys()
    for key in [key for key in old if key not in new]:
        heir = _EITHER.get(key, "")
        if key not in present:
            continue
        if heir in new and heir not in present:
            entry = present[key]
            entry.key, entry.label, entry.value = heir, heir, piece(new[heir], flow=entry.value.flow)
        else:
            _remove(target, present[key])
    present = target.keys()
    for key, value in new.items():
        if key in old and json.dumps(old[key]) == json.dumps(value):  # text, because the order of rules counts
            continue
        if key not in present:
            target.entries.append(Entry(key, scalar_text(key, text=True), piece(value)))
        else:
            _value(present[key], old.get(key), value)
    _order(target, [key for key in new if key in target.keys()])  # noqa: SIM118  (a method of Piece)


def _order(target: Piece, wanted: Sequence[str]) -> None:
    """Only rules have an order that is part of the policy; elsewhere the author's stays."""
    written = [entry.key for entry in target.entries if entry.key in set(wanted)]
    children = [entry.value.kind for entry in target.entries]
    if written == list(wanted) or set(children) != {"map"}:
        return
    place = {key: number for number, key in enumerate(wanted)}
    target.entries.sort(key=lambda entry: place.get(entry.key, -1))


def _value(entry: Entry, old: object, new: object) -> None:
    value = entry.value
    if value.kind == "map" and isinstance(old, Mapping) and isinstance(new, Mapping):
        _mapping(value, old, new)
    elif value.kind == "list" and isinstance(old, list) and isinstance(new, list) and len(old) == len(value.entries):
        _list(value, old, new)
    else:
        entry.value = piece(new, flow=value.flow)


def _list(target: Piece, old: Sequence[object], new: Sequence[object]) -> None:
    """Equal items stay; what stands in the place of another of the same kind becomes it."""
    was, becomes = ([json.dumps(item, sort_keys=True) for item in items] for items in (old, new))
    entries = list(target.entries)
    kept: list[Entry] = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, was, becomes, autojunk=False).get_opcodes():
        if what == "equal":
            kept += entries[a:b]
            continue
        for number in range(max(b - a, d - c)):
            at, to = a + number, c + number
            if at < b and to < d:
                _value(entries[at], old[at], new[to])
                kept.append(entries[at])
            elif at < b:
                following = next((e for e in entries[b:]), None)
                _hand_over(entries[at], following, target)
            else:
                flow = bool(entries) and entries[-1].value.flow
                kept.append(Entry("", "", piece(new[to], flow=flow)))
    target.entries = kept


def _remove(target: Piece, entry: Entry) -> None:
    index = target.entries.index(entry)
    following = target.entries[index + 1] if index + 1 < len(target.entries) else None
    del target.entries[index]
    _hand_over(entry, following, target)


def _hand_over(gone: Entry, following: Entry | None, owner: Piece) -> None:
    """Comments that a blank line separates from what is removed belong to the text, not to what is removed."""
    last_blank = max((i for i, text in enumerate(gone.lead) if not text), default=-1)
    rest = gone.lead[: last_blank + 1]
    if not any(rest):
        return
    if following is not None:
        following.lead = [*rest, *following.lead]
    else:
        owner.close = [*rest, *owner.close]
