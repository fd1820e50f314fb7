"""RPCs on policies and settings: request shapes and their errors (contract/gateway.md 2 and 5). Thin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from pyopenshell.audit.events import ConfigEvent
from pyopenshell.gateway import pages
from pyopenshell.gateway.errors import GatewayError, conflict, denied, invalid, precondition
from pyopenshell.gateway.evaluation import require_valid
from pyopenshell.gateway.inbox import GLOBAL_MANAGED, Inbox
from pyopenshell.gateway.principals import Caller
from pyopenshell.gateway.records import Record
from pyopenshell.gateway.revisions import Revision, Revisions, live_update
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.settings import POLICY_KEY, Settings
from pyopenshell.gateway.snapshots import Snapshots, to_response
from pyopenshell.gateway.store import GLOBAL_SCOPE, Store
from pyopenshell.gateway.store.schema import sandboxes
from pyopenshell.gateway.trail import Trail
from pyopenshell.policy import merge
from pyopenshell.policy.compose import base as without_layers
from pyopenshell.policy.describe import render_endpoints, render_match
from pyopenshell.policy.model import Policy
from pyopenshell.policy.problems import PolicyError
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

MAX_ANNOTATIONS: Final = 128
MAX_OPERATIONS: Final = 256
_MAX_ANNOTATION: Final = 256 * 1024

UpdateRequest = openshell_pb2.UpdateConfigRequest
UpdateResponse = openshell_pb2.UpdateConfigResponse


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyService:
    """Servicer of UpdateConfig, Get*Config and the reads of policy revisions."""

    store: Store
    revisions: Revisions
    settings: Settings
    snapshots: Snapshots
    inbox: Inbox
    trail: Trail

    async def UpdateConfig(self, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        _one_of(request)
        if caller.is_sandbox:
            return await self._sync(request, caller)
        if getattr(request, "global"):
            return await self._update_global(request, caller)
        if request.setting_key or request.delete_setting:
            return await self.store.run(lambda tx: self._setting(tx, request, caller))
        sandbox_id, response = await self.store.run(lambda tx: self._update_policy(tx, request, caller))
        await self.inbox.refresh(sandbox_id)
        return response

    async def GetSandboxConfig(
        self, request: sandbox_pb2.GetSandboxConfigRequest, caller: Caller
    ) -> sandbox_pb2.GetSandboxConfigResponse:
        def read(tx: sa.Connection) -> sandbox_pb2.SandboxConfigSnapshot:
            record = scope.sandbox(tx, request.workspace_scope, request.name, caller, "name")
            return self.snapshots.read(tx, record.id)

        return to_response(await self.store.run(read))

    async def GetGatewayConfig(
        self, request: sandbox_pb2.GetGatewayConfigRequest, caller: Caller
    ) -> sandbox_pb2.GetGatewayConfigResponse:
        return await self.settings.gateway_config()

    async def GetSandboxPolicyStatus(
        self, request: openshell_pb2.GetSandboxPolicyStatusRequest, caller: Caller
    ) -> openshell_pb2.GetSandboxPolicyStatusResponse:
        where = await self._scope(request, caller)
        revision, active = await self.revisions.status(where, request.version)
        return openshell_pb2.GetSandboxPolicyStatusResponse(
            revision=revision.to_proto(body=True), active_version=active
        )

    async def ListSandboxPolicies(
        self, request: openshell_pb2.ListSandboxPoliciesRequest, caller: Caller
    ) -> openshell_pb2.ListSandboxPoliciesResponse:
        size = pages.page_size(request.page_size)
        where = await self._scope(request, caller)
        cursor = pages.decode(request.page_token, "ListSandboxPolicies", (where,), (int,))
        found = await self.revisions.list(where, size + 1, int(cursor[0]) if cursor else 0)
        response = openshell_pb2.ListSandboxPoliciesResponse(
            revisions=[revision.to_proto(body=False) for revision in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = pages.encode("ListSandboxPolicies", (where,), (found[size - 1].version,))
        return response

    async def _scope(
        self,
        request: openshell_pb2.GetSandboxPolicyStatusRequest | openshell_pb2.ListSandboxPoliciesRequest,
        caller: Caller,
    ) -> str:
        if getattr(request, "global"):
            caller.require_platform_admin()
            return GLOBAL_SCOPE
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        return record.id

    # ---- a sandbox's own policy -----------------------------------------------------------------------------------

    def _update_policy(self, tx: sa.Connection, request: UpdateRequest, caller: Caller) -> tuple[str, UpdateResponse]:
        record = scope.sandbox(tx, request.workspace_scope, request.sandbox, caller)
        _unmoved(request, record)
        _bounded_annotations(request)
        if self.revisions.global_policy(tx) is not None:
            raise precondition(GLOBAL_MANAGED, "GLOBAL_POLICY_ACTIVE")
        annotations = {**record.annotations, **request.annotations}
        if request.HasField("policy"):
            revision = self._replace(tx, record, _policy(request.policy), caller, dict(request.annotations))
        else:
            revision = self._merge(tx, record, request, caller)
        if annotations != record.annotations:
            tx.execute(
                sandboxes.update()
                .where(sandboxes.c.id == record.id)
                .values(annotations=annotations, resource_version=record.resource_version + 1)
            )
        return record.id, UpdateResponse(
            version=revision.version,
            policy_hash=revision.hash,
            settings_revision=self.settings.revision(tx, record.id),
            annotations=annotations,
        )

    def _replace(
        self, tx: sa.Connection, record: Record, policy: Policy, caller: Caller, provenance: dict[str, str]
    ) -> Revision:
        latest = self.revisions.latest(tx, record.id)
        first = self.revisions.get(tx, record.id, 1)
        candidate = live_update(first.policy if first is not None else None, policy)
        require_valid(candidate)
        revision = self.revisions.append(
            tx, record.id, candidate, origin="set", author=caller.subject, provenance=provenance
        )
        if latest is None or revision.version != latest.version:
            text = f"gateway replaced the policy, by {caller.subject}"
            self.trail.record(tx, record.id, ConfigEvent("REPLACED", text, fields=_version(revision)))
        return revision

    def _merge(self, tx: sa.Connection, record: Record, request: UpdateRequest, caller: Caller) -> Revision:
        operations = _operations(request)
        try:
            result = merge.apply(self.revisions.base(tx, record.id), operations)
        except merge.MergeError as error:
            raise GatewayError(error.kind.upper(), error.message, field="merge_operations") from None
        if not result.changed and (latest := self.revisions.latest(tx, record.id)) is not None:
            return latest
        require_valid(result.policy)
        revision = self.revisions.append(
            tx,
            record.id,
            result.policy,
            origin="merge",
            author=caller.subject,
            provenance=dict(request.annotations),
        )
        for operation in operations:
            text = f"gateway merged {_phrase(operation)}"
            self.trail.record(tx, record.id, ConfigEvent("MERGED", text, fields=_version(revision)))
        return revision

    async def _sync(self, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        """A supervisor hands in the policy its image brought: only while there is none, and never network access."""
        if getattr(request, "global"):
            raise denied("sandbox callers cannot mutate global config")
        if request.delete_setting:
            raise denied("sandbox callers cannot delete settings")
        if not request.HasField("policy") or request.setting_key or request.annotations:
            raise denied("sandbox callers may only perform sandbox policy sync")
        policy = without_layers(_policy(request.policy))

        def sync(tx: sa.Connection) -> UpdateResponse:
            record = scope.sandbox(tx, request.workspace_scope, request.sandbox, caller)
            latest = self.revisions.latest(tx, record.id)
            if latest is not None or policy.rules:
                raise denied("a sandbox cannot change its own network policy; submit a proposal instead")
            require_valid(policy)
            revision = self.revisions.append(tx, record.id, policy, origin="sync", author=caller.subject)
            return UpdateResponse(version=revision.version, policy_hash=revision.hash)

        return await self.store.run(sync)

    # ---- settings and the global policy ---------------------------------------------------------------------------

    def _setting(self, tx: sa.Connection, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        record = scope.sandbox(tx, request.workspace_scope, request.sandbox, caller)
        _unmoved(request, record)
        return self._change_setting(tx, record.id, request, caller)

    def _change_setting(self, tx: sa.Connection, where: str, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        key, before, deleted = request.setting_key, self.settings.revision(tx, where), False
        if request.delete_setting:
            deleted, revision = self.settings.remove(tx, where, key)
            text = f"gateway unset {key}, by {caller.subject}"
        else:
            value = request.setting_value if request.HasField("setting_value") else None
            revision = self.settings.put(tx, where, key, value)
            shown = self.settings.effective(tx, where)[key].value
            text = f"gateway set {key} to {str(shown).lower()}, by {caller.subject}"
        if revision != before:
            self._tell(tx, where, ConfigEvent("SETTING", text))
        return UpdateResponse(settings_revision=revision, deleted=deleted)

    def _tell(self, tx: sa.Connection, where: str, event: ConfigEvent) -> None:
        if where == GLOBAL_SCOPE:
            self.trail.everywhere(tx, dataclasses.replace(event, fields=(("scope", "global"), *event.fields)))
        else:
            self.trail.record(tx, where, event)

    async def _update_global(self, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        caller.require_platform_admin()
        if request.annotations:
            raise invalid("annotations are sandbox-scoped and cannot be used with global", "annotations")
        if request.merge_operations:
            raise invalid("merge_operations are sandbox-scoped and cannot be used with global", "merge_operations")
        if request.HasField("policy"):
            return await self._set_global(request, caller)

        def change(tx: sa.Connection) -> UpdateResponse:
            if request.delete_setting and request.setting_key == POLICY_KEY:
                deleted = self.revisions.delete_global(tx)
                if deleted:
                    self._tell(
                        tx,
                        GLOBAL_SCOPE,
                        ConfigEvent("LIFTED", f"gateway lifted the global policy, by {caller.subject}"),
                    )
                return UpdateResponse(settings_revision=self.settings.revision(tx, GLOBAL_SCOPE), deleted=deleted)
            return self._change_setting(tx, GLOBAL_SCOPE, request, caller)

        return await self.store.run(change)

    async def _set_global(self, request: UpdateRequest, caller: Caller) -> UpdateResponse:
        policy = _policy(request.policy)
        require_valid(policy)
        if any(endpoint.credential_provider for rule in policy.rules for endpoint in rule.endpoints):
            raise precondition("credential_binding is sandbox-scoped and cannot be used in a global policy")

        def change(tx: sa.Connection) -> UpdateResponse:
            active = self.revisions.global_policy(tx)
            revision = self.revisions.set_global(tx, policy, author=caller.subject)
            if active is None or active.version != revision.version:
                text = f"gateway put every sandbox under a global policy, by {caller.subject}"
                self._tell(tx, GLOBAL_SCOPE, ConfigEvent("REPLACED", text, fields=_version(revision)))
            return UpdateResponse(
                version=revision.version,
                policy_hash=revision.hash,
                settings_revision=self.settings.revision(tx, GLOBAL_SCOPE),
            )

        return await self.store.run(change)


def _version(revision: Revision) -> tuple[tuple[str, str], ...]:
    return (("policy_version", f"v{revision.version}"), ("policy_hash", revision.hash))


def _one_of(request: UpdateRequest) -> None:
    given = [
        request.HasField("policy"),
        bool(request.setting_key or request.HasField("setting_value") or request.delete_setting),
        bool(request.merge_operations),
    ]
    if sum(given) > 1:
        raise invalid("policy, setting_key, and merge_operations are mutually exclusive")
    if not any(given):
        raise invalid("one of policy, setting_key, or merge_operations must be provided")


def _unmoved(request: UpdateRequest, record: Record) -> None:
    if request.expected_resource_version and request.expected_resource_version != record.resource_version:
        raise conflict("UpdateConfig", record.resource_version)


def _bounded_annotations(request: UpdateRequest) -> None:
    if len(request.annotations) > MAX_ANNOTATIONS:
        raise invalid(f"annotations has more than {MAX_ANNOTATIONS} entries", "annotations")
    if sum(len(key) + len(value) for key, value in request.annotations.items()) > _MAX_ANNOTATION:
        raise invalid(f"annotations are larger than {_MAX_ANNOTATION // 1024} KiB", "annotations")


def _policy(message: sandbox_pb2.SandboxPolicy) -> Policy:
    try:
        return policy_map.policy_from_proto(message)
    except PolicyError as error:
        raise invalid(f"policy contains unsafe content: {error}", "policy") from None


def _operations(request: UpdateRequest) -> Sequence[merge.Operation]:
    if len(request.merge_operations) > MAX_OPERATIONS:
        raise invalid(f"merge_operations has more than {MAX_OPERATIONS} entries", "merge_operations")
    operations = []
    for index, message in enumerate(request.merge_operations):
        where = f"merge_operations[{index}]"
        kind = message.WhichOneof("operation")
        if kind is None:
            raise invalid(f"{where} is missing an operation", where)
        part = getattr(message, kind)
        if kind in ("add_rule", "remove_rule", "remove_binary") and not part.rule_name.strip():
            raise invalid(f"{where}.{kind}.rule_name is required", where)
        try:
            operations.append(policy_map.merge_operation_from_proto(message))
        except PolicyError as error:
            raise invalid(f"{where}.{kind}: {error}", where) from None
        except merge.MergeError as error:
            raise GatewayError(error.kind.upper(), f"{where}.{error.message}", field=where) from None
    return operations


def _phrase(operation: merge.Operation) -> str:
    """One operation for the audit line; the formatter escapes and shortens."""
    match operation:
        case merge.AddRule():
            endpoints, binaries = render_endpoints(operation.rule.endpoints), ", ".join(operation.rule.binaries)
            return f"add-endpoint {operation.rule_name} endpoints=[{endpoints}] binaries=[{binaries}]"
        case merge.RemoveEndpoint():
            return f"remove-endpoint {operation.rule_name or '*'} {operation.host}:{operation.port}"
        case merge.RemoveRule():
            return f"remove-rule {operation.rule_name}"
        case merge.RemoveBinary():
            return f"remove-binary {operation.rule_name} {operation.binary}"
        case merge.AddDenyRules():
            rules = ", ".join(map(render_match, operation.deny_rules))
            return f"add-deny {operation.target.rule_name} {operation.target.host} [{rules}]"
        case merge.AddAllowRules():
            rules = ", ".join(map(render_match, operation.rules))
            return f"add-allow {operation.target.rule_name} {operation.target.host} [{rules}]"
