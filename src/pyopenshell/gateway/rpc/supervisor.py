"""RPCs of supervisors: the session, its tokens, its reports (contract/gateway.md 1.6, 2.2, 9.3).

Every one acts on the calling sandbox alone; a request that names another is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from pyopenshell.gateway.errors import GatewayError, invalid
from pyopenshell.gateway.principals import Caller
from pyopenshell.gateway.revisions import Revisions
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.gateway.sessions import HEARTBEAT, Session, Sessions
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.tokens import Tokens
from pyopenshell.wire.gen import openshell_pb2
from pyopenshell.wire.wellknown import Timestamp

_EXTENSION_LIMIT: Final = 10

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class SupervisorService:
    """Servicer of ConnectSupervisor, the token RPCs and a supervisor's reports."""

    store: Store
    revisions: Revisions
    sandboxes: Sandboxes
    sessions: Sessions
    tokens: Tokens

    async def ConnectSupervisor(
        self, requests: AsyncIterator[openshell_pb2.SupervisorMessage], caller: Caller
    ) -> AsyncIterator[openshell_pb2.GatewayMessage]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("payload") != "hello":
            raise invalid("expected SupervisorHello")
        hello = first.hello
        caller.require_sandbox(hello.sandbox_id)
        record = await self.sandboxes.by_id(hello.sandbox_id)
        if record.instance_id != hello.instance_id:
            raise GatewayError("FAILED_PRECONDITION", "this instance of the sandbox was replaced", "STALE_INSTANCE")
        session = self.sessions.open(record.id, hello.instance_id, push=hello.supports_config_push)
        try:
            async with contextlib.aclosing(self._converse(session, requests)) as messages:
                async for message in messages:
                    yield message
        finally:
            self.sessions.discard(session)

    async def _converse(
        self, session: Session, requests: AsyncIterator[openshell_pb2.SupervisorMessage]
    ) -> AsyncGenerator[openshell_pb2.GatewayMessage, None]:
        accepted = openshell_pb2.SessionAccepted(session_id=session.id, config_push_enabled=session.push)
        accepted.heartbeat_interval.FromSeconds(int(HEARTBEAT))
        tasks = [asyncio.create_task(self._listen(session, requests), name=f"session {session.id}")]
        with self.sessions.changes(session) as changes:
            try:
                if session.push:
                    update = await self.sessions.update(session)
                    accepted.bootstrap.CopyFrom(update)
                    session.sent(update)
                    follow = self.sessions.follow(session, changes, update.sandbox_config.config_revision)
                    tasks.append(asyncio.create_task(follow, name=f"pushes of session {session.id}"))
                yield openshell_pb2.GatewayMessage(session_accepted=accepted)
                async for message in session.outgoing():
                    yield message
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, session: Session, requests: AsyncIterator[openshell_pb2.SupervisorMessage]) -> None:
        """Take in what the supervisor sends; when it ends, so does the session."""
        try:
            async for message in requests:
                if message.WhichOneof("payload") == "config_update_result":
                    await self._applied(session, message.config_update_result)
        finally:
            session.close()

    async def _applied(self, session: Session, result: openshell_pb2.ConfigUpdateResult) -> None:
        if not session.answered(result.update_id):
            return
        outcome = openshell_pb2.ConfigApplyOutcome.Name(result.outcome)
        if result.HasField("failure"):
            _log.warning("sandbox %s: update %s: %s", session.sandbox_id, outcome, result.failure.code[:100])
        load = result.policy_load
        if load.version:
            loaded = openshell_pb2.POLICY_STATUS_LOADED if load.loaded else openshell_pb2.POLICY_STATUS_FAILED
            # A revision that is gone or was never this sandbox's is not worth the session.
            with contextlib.suppress(GatewayError):
                await self._report(session.sandbox_id, load.version, loaded, load.error)

    async def ReportPolicyStatus(
        self, request: openshell_pb2.ReportPolicyStatusRequest, caller: Caller
    ) -> openshell_pb2.ReportPolicyStatusResponse:
        caller.require_sandbox(request.sandbox_id)
        await self._report(request.sandbox_id, request.version, request.status, request.load_error)
        return openshell_pb2.ReportPolicyStatusResponse()

    async def _report(self, sandbox_id: str, version: int, status: int, error: str) -> None:
        await self.store.run(lambda tx: self.revisions.report(tx, sandbox_id, version, status, error))

    async def RefreshSandboxToken(
        self, request: openshell_pb2.RefreshSandboxTokenRequest, caller: Caller
    ) -> openshell_pb2.RefreshSandboxTokenResponse:
        if len(request.extension_service_names) > _EXTENSION_LIMIT:
            raise invalid(f"at most {_EXTENSION_LIMIT} extension tokens per call", field="extension_service_names")
        if request.extension_service_names:
            raise GatewayError("FAILED_PRECONDITION", "this gateway has no extension services")
        principal = caller.sandbox
        token = self.tokens.issue(principal.sandbox_id, principal.epoch)
        expires = Timestamp(seconds=token.expires) if token.expires else None
        session = self.sessions.get(principal.sandbox_id)
        return openshell_pb2.RefreshSandboxTokenResponse(
            token=token.text,
            expiration_time=expires,
            sandbox_token=token.text,
            sandbox_expiration_time=expires,
            session_id=session.id if session is not None else "",
            credential_epoch=principal.epoch,
        )

    async def ReportMainProcessExit(
        self, request: openshell_pb2.ReportMainProcessExitRequest, caller: Caller
    ) -> openshell_pb2.ReportMainProcessExitResponse:
        caller.require_sandbox(request.sandbox_id)
        await self.sandboxes.main_process_exited(request.sandbox_id, request.instance_id, request.exit_code)
        return openshell_pb2.ReportMainProcessExitResponse()

    async def FinalizeMainProcessExit(
        self, request: openshell_pb2.FinalizeMainProcessExitRequest, caller: Caller
    ) -> openshell_pb2.FinalizeMainProcessExitResponse:
        caller.require_sandbox(request.sandbox_id)
        return openshell_pb2.FinalizeMainProcessExitResponse()

    async def ReportSandboxConfiguration(
        self, request: openshell_pb2.ReportSandboxConfigurationRequest, caller: Caller
    ) -> openshell_pb2.ReportSandboxConfigurationResponse:
        caller.require_sandbox(request.sandbox_id)
        if request.admission.error:
            _log.warning("sandbox %s does not admit its configuration", request.sandbox_id)
        return openshell_pb2.ReportSandboxConfigurationResponse()

    async def GetSandboxProviderEnvironment(
        self, request: openshell_pb2.GetSandboxProviderEnvironmentRequest, caller: Caller
    ) -> openshell_pb2.GetSandboxProviderEnvironmentResponse:
        caller.require_sandbox(request.sandbox_id)
        return openshell_pb2.GetSandboxProviderEnvironmentResponse()  # no providers are attached to any sandbox
