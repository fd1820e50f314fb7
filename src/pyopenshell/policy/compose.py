"""The effective policy: global, or the sandbox's own with provider layers on top.

Decides what a sandbox must enforce out of what was written. Provider layers are inputs, never merged into or edited.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pyopenshell.policy.model import PROVIDER_PREFIX, Policy, Rule
from pyopenshell.policy.validate import is_reserved


def effective(global_policy: Policy | None, sandbox: Policy | None, providers: Mapping[str, Rule]) -> Policy:
    """What is enforced (contract/gateway.md 2.7).

    A global policy replaces everything, providers included. Otherwise the sandbox's rules, without any that only
    look like provider rules, and then one rule per provider. With nothing at all: a policy without network access.
    """
    if global_policy is not None:
        return base(global_policy)
    own = base(sandbox or Policy())
    if not providers:
        return own
    taken = {rule.key for rule in own.rules}
    layers: list[Rule] = []
    for name in sorted(providers):
        key = layer_key(name, taken)
        taken.add(key)
        layers.append(dataclasses.replace(providers[name], key=key, name=""))
    return dataclasses.replace(own, rules=(*own.rules, *layers))


def base(policy: Policy) -> Policy:
    """The policy without provider layers: what a user may edit and write back."""
    kept = tuple(rule for rule in policy.rules if not is_reserved(rule.key))
    return policy if len(kept) == len(policy.rules) else dataclasses.replace(policy, rules=kept)


def layer_key(name: str, taken: set[str]) -> str:
    """`_provider_<name>`: lower case, everything else `_`; `_2`, `_3` … when taken (POL/compose.rs)."""
    slug = re.sub(r"[^a-z0-9]", "_", name.lower()).strip("_") or "unnamed"
    key = PROVIDER_PREFIX + slug
    number = 1
    while key in taken:
        number += 1
        key = f"{PROVIDER_PREFIX}{slug}_{number}"
    return key
