"""Which settings exist, what they may hold, and which value a sandbox sees (contract/gateway.md 5).

Must not know what a setting does. Methods that take `tx` run inside `Store.run`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import GatewayError, invalid, precondition
from pyopenshell.gateway.store import GLOBAL_SCOPE, Store
from pyopenshell.gateway.store.schema import setting_scopes, settings
from pyopenshell.wire.gen import sandbox_pb2

PROPOSALS_ENABLED: Final = "agent_policy_proposals_enabled"
APPROVAL_MODE: Final = "proposal_approval_mode"
POLICY_KEY: Final = "policy"
"""Reserved: set through the policy field, deleted to lift a global policy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What a key may hold. `type` is "bool" or "string"; `values` empty means any string."""

    type: str
    values: tuple[str, ...] = ()


REGISTRY: Final[dict[str, Kind]] = {
    PROPOSALS_ENABLED: Kind("bool"),
    "ocsf_json_enabled": Kind("bool"),
    APPROVAL_MODE: Kind("string", ("manual", "auto")),
    "providers_v2_enabled": Kind("bool"),
}

_SCOPES: Final = {
    "global": sandbox_pb2.SETTING_SCOPE_GLOBAL,
    "sandbox": sandbox_pb2.SETTING_SCOPE_SANDBOX,
    "default": sandbox_pb2.SETTING_SCOPE_UNSPECIFIED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """An effective value. None where nobody set it; `source` is "global", "sandbox" or "default"."""

    value: bool | str | None
    source: str


class Settings:
    """Settings of the gateway and of every sandbox, over one store."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store, self._bus = store, bus

    def put(self, tx: sa.Connection, scope: str, key: str, value: sandbox_pb2.SettingValue | None) -> int:
        """Store one value (`scope` is a sandbox id or GLOBAL_SCOPE). Returns the scope's revision.

        Raises GatewayError INVALID_ARGUMENT (key, type, value) or FAILED_PRECONDITION (managed globally).
        """
        kind = _kind(key, "must be set via the policy field")
        text = _checked(key, kind, value)
        if scope != GLOBAL_SCOPE and self._stored(tx, GLOBAL_SCOPE, key) is not None:
            raise precondition(
                f"setting '{key}' is managed globally; delete the global setting before sandbox update",
                "SETTING_MANAGED_GLOBALLY",
            )
        if self._stored(tx, scope, key) == text:
            return self.revision(tx, scope)
        tx.execute(settings.delete().where(settings.c.scope == scope, settings.c.key == key))
        tx.execute(settings.insert().values(scope=scope, key=key, type=kind.type, value=text))
        return self._changed(tx, scope)

    def remove(self, tx: sa.Connection, scope: str, key: str) -> tuple[bool, int]:
        """Delete one value. Returns whether there was one, and the scope's revision."""
        _kind(key, "must be deleted via policy commands")
        if scope != GLOBAL_SCOPE and self._stored(tx, GLOBAL_SCOPE, key) is not None:
            raise precondition(
                f"setting '{key}' is managed globally; delete the global setting first", "SETTING_MANAGED_GLOBALLY"
            )
        gone = tx.execute(settings.delete().where(settings.c.scope == scope, settings.c.key == key)).rowcount
        return (True, self._changed(tx, scope)) if gone else (False, self.revision(tx, scope))

    def effective(self, tx: sa.Connection, sandbox_id: str) -> dict[str, Setting]:
        """Every registered key: global wins over sandbox wins over unset."""
        rows = tx.execute(
            sa.select(settings.c.scope, settings.c.key, settings.c.value).where(
                settings.c.scope.in_((GLOBAL_SCOPE, sandbox_id))
            )
        )
        stored = {(row.scope, row.key): row.value for row in rows}
        found: dict[str, Setting] = {}
        for key, kind in REGISTRY.items():
            for scope, source in ((GLOBAL_SCOPE, "global"), (sandbox_id, "sandbox")):
                if (scope, key) in stored:
                    found[key] = Setting(_parsed(kind, stored[scope, key]), source)
                    break
            else:
                found[key] = Setting(None, "default")
        return found

    def approval_mode(self, tx: sa.Connection, sandbox_id: str) -> Setting:
        """`value` is "auto" or "manual": whatever else is stored means manual."""
        setting = self.effective(tx, sandbox_id)[APPROVAL_MODE]
        return Setting("auto" if setting.value == "auto" else "manual", setting.source)

    def revision(self, tx: sa.Connection, scope: str) -> int:
        """How often this scope changed; 0 when never."""
        found = tx.scalar(sa.select(setting_scopes.c.revision).where(setting_scopes.c.scope == scope))
        return found or 0

    async def gateway_config(self) -> sandbox_pb2.GetGatewayConfigResponse:
        """The global map with every registered key (unset = empty value) and its revision."""

        def read(tx: sa.Connection) -> sandbox_pb2.GetGatewayConfigResponse:
            response = sandbox_pb2.GetGatewayConfigResponse(settings_revision=self.revision(tx, GLOBAL_SCOPE))
            for key, setting in self.effective(tx, GLOBAL_SCOPE).items():
                response.settings[key].CopyFrom(value_to_proto(setting.value))
            return response

        return await self._store.run(read)

    def _stored(self, tx: sa.Connection, scope: str, key: str) -> str | None:
        return tx.scalar(sa.select(settings.c.value).where(settings.c.scope == scope, settings.c.key == key))

    def _changed(self, tx: sa.Connection, scope: str) -> int:
        revision = self.revision(tx, scope) + 1
        tx.execute(setting_scopes.delete().where(setting_scopes.c.scope == scope))
        tx.execute(setting_scopes.insert().values(scope=scope, revision=revision))
        self._store.announce("config:*" if scope == GLOBAL_SCOPE else f"config:{scope}")
        return revision


def value_to_proto(value: bool | str | None) -> sandbox_pb2.SettingValue:
    """None becomes a message without a value."""
    if value is None:
        return sandbox_pb2.SettingValue()
    if isinstance(value, bool):
        return sandbox_pb2.SettingValue(bool_value=value)
    return sandbox_pb2.SettingValue(string_value=value)


def effective_to_proto(setting: Setting) -> sandbox_pb2.EffectiveSetting:
    return sandbox_pb2.EffectiveSetting(value=value_to_proto(setting.value), scope=_SCOPES[setting.source])


def _kind(key: str, reserved: str) -> Kind:
    if key == POLICY_KEY:
        raise invalid(f"reserved key '{POLICY_KEY}' {reserved}", "setting_key")
    if key not in REGISTRY:
        allowed = ", ".join(sorted(REGISTRY))
        raise GatewayError(
            "INVALID_ARGUMENT",
            f"unknown setting key '{key[:100]}'. Allowed keys: {allowed}",
            "UNKNOWN_SETTING",
            field="setting_key",
        )
    return REGISTRY[key]


def _checked(key: str, kind: Kind, value: sandbox_pb2.SettingValue | None) -> str:
    which = value.WhichOneof("value") if value is not None else None
    if value is None or which is None:
        raise invalid("setting_value is required", "setting_value")
    if which != f"{kind.type}_value":
        raise invalid(f"setting '{key}' expects {kind.type} value", "setting_value")
    if kind.type == "bool":
        return "true" if value.bool_value else "false"
    if kind.values and value.string_value not in kind.values:
        raise invalid(
            f"setting '{key}' expects one of [{', '.join(kind.values)}]; got '{value.string_value[:100]}'",
            "setting_value",
        )
    return value.string_value


def _parsed(kind: Kind, text: str) -> bool | str:
    return text == "true" if kind.type == "bool" else text
