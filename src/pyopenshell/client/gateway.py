"""The gateway's calls as async Python: the same for CLI, TUI, web and users' own code.

    async with await Gateway.open(resolve(Places.of(os.environ)), workspace="default") as gateway:
        draft = await gateway.draft("my-sandbox")

Every call raises GatewayError (the gateway's own words) and nothing else of gRPC's. Decides nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from google.protobuf.message import Message

from pyopenshell.client import mapping, values
from pyopenshell.client.errors import GatewayError
from pyopenshell.client.groups import Templates, Workspaces, pages
from pyopenshell.client.inbox import Inbox
from pyopenshell.client.registration import Registration
from pyopenshell.client.transport import CONSOLES, OPENSHELL, REVIEW, Transport
from pyopenshell.policy.model import Policy, Rule
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import datamodel_pb2 as data
from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from pyopenshell.policy.merge import Operation

M = TypeVar("M", bound=Message)
FAILED_PHASES = frozenset(("Error", "Deleting", "Stopped"))


class SandboxFailedError(Exception):
    """A sandbox went to a phase from which it will not become ready."""

    def __init__(self, sandbox: values.Sandbox) -> None:
        trouble = f": {sandbox.trouble}" if sandbox.trouble else ""
        super().__init__(f"sandbox entered {sandbox.phase.lower()} phase while provisioning{trouble}")
        self.sandbox = sandbox


class Gateway:
    """One connection to one gateway, seen from one workspace."""

    def __init__(self, transport: Transport, workspace: str) -> None:
        self._transport = transport
        self.workspace = workspace

    @classmethod
    async def open(cls, registration: Registration, *, workspace: str = "default", insecure: bool = False) -> Self:
        """Connect. Raises UnreachableError, after which nothing was sent."""
        return cls(await Transport.open(registration, insecure=insecure), workspace)

    @property
    def registration(self) -> Registration:
        return self._transport.registration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    def at(self, workspace: str) -> Gateway:
        """The same connection, seen from another workspace."""
        return self if workspace == self.workspace else Gateway(self._transport, workspace)

    @property
    def workspaces(self) -> Workspaces:
        return Workspaces(self._transport)

    @property
    def templates(self) -> Templates:
        """Of this workspace."""
        return Templates(self._transport, self.workspace)

    @property
    def _scope(self) -> data.WorkspaceSelector:
        return data.WorkspaceSelector(workspace=self.workspace)

    # -- the gateway itself ------------------------------------------------------------------------------------

    async def health(self) -> values.Health:
        answer = await self._transport.call(OPENSHELL, "Health", api.HealthRequest(), api.HealthResponse)
        status = api.ServiceStatus.Name(answer.status).removeprefix("SERVICE_STATUS_").lower()
        return values.Health(status, answer.version)

    async def verify(self) -> None:
        """Ask something that only an authorised caller may ask. Raises GatewayError UNAUTHENTICATED or so."""
        await self._transport.call(OPENSHELL, "GetGatewayInfo", api.GetGatewayInfoRequest(), api.GetGatewayInfoResponse)

    async def operator_status(self) -> values.OperatorStatus:
        return mapping.operator_status(
            await self._transport.call(
                REVIEW,
                "GetOperatorStatus",
                review_api.GetOperatorStatusRequest(),
                review_api.GetOperatorStatusResponse,
            )
        )

    # -- sandboxes ---------------------------------------------------------------------------------------------

    async def create(
        self,
        *,
        name: str = "",
        policy: Policy | None = None,
        labels: Mapping[str, str] | None = None,
        image: str = "",
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        tty: bool = False,
        driver: str = "",
        require: str = "",
        accept_weaker: bool = False,
        memory: str = "",
        cpu: str = "",
        pids: int = 0,
        template: str = "",
        restart: bool = True,
        timeout: float = 300.0,
    ) -> values.Sandbox:
        """Returns as soon as the gateway answers; the phase tells whether `wait_ready` is still needed.

        `image` is where its programs come from: a path on the gateway's machine, or a reference for a driver that takes
        one; `driver` is one of the gateway's, "" for its own choice. `require` is an assurance level below which it
        must not start; with `accept_weaker` it may start in a lower tier of the driver, and with a network that does
        not hold (docs/isolation.md). `memory` ("512Mi") and `cpu` ("1.5", "500m") limit everything inside together,
        `pids` its processes and threads. Without `restart` it is not started again when its supervisor ended.
        """
        spec = api.SandboxSpec(environment=environment or {}, command=command, tty=tty)
        if image:
            spec.template.image = image
        if not restart:
            spec.restart_policy = api.SANDBOX_RESTART_POLICY_NEVER
        if policy is not None:
            spec.policy.CopyFrom(policy_map.policy_to_proto(policy))
        if limits := {kind: text for kind, text in (("cpu", cpu), ("memory", memory)) if text}:
            spec.template.resources.update({"limits": limits})
        options = (("require", require), ("accept_weaker", accept_weaker), ("pids", pids))
        wanted = {key: value for key, value in options if value}
        if wanted or driver:
            implied = "podman" if image and not image.startswith("/") else "local"
            spec.template.driver_config.update({driver or implied: wanted})
        request = api.CreateSandboxRequest(
            workspace_scope=self._scope, spec=spec, name=name, labels=labels or {}, workload_template=template
        )
        answer = await self._transport.call(OPENSHELL, "CreateSandbox", request, api.SandboxResponse, timeout)
        return mapping.sandbox(answer.sandbox)

    async def get(self, name: str) -> values.Sandbox:
        request = api.GetSandboxRequest(workspace_scope=self._scope, name=name)
        return mapping.sandbox(
            (await self._transport.call(OPENSHELL, "GetSandbox", request, api.SandboxResponse)).sandbox
        )

    async def sandboxes(self, *, selector: str = "", all_workspaces: bool = False) -> list[values.Sandbox]:
        """Every sandbox, all pages."""
        scope = data.WorkspaceSelector(all_workspaces=data.AllWorkspaces()) if all_workspaces else self._scope

        async def fetch(token: str) -> api.ListSandboxesResponse:
            request = api.ListSandboxesRequest(
                workspace_scope=scope, page_size=1000, page_token=token, label_selector=selector
            )
            return await self._transport.call(OPENSHELL, "ListSandboxes", request, api.ListSandboxesResponse)

        return [mapping.sandbox(one) for page in await pages(fetch) for one in page.sandboxes]

    async def delete(self, name: str) -> bool:
        """True when a sandbox existed."""
        request = api.DeleteSandboxRequest(workspace_scope=self._scope, name=name, allow_missing=True)
        answer = await self._transport.call(OPENSHELL, "DeleteSandbox", request, api.DeleteSandboxResponse, 300.0)
        return answer.outcome != api.DELETION_OUTCOME_ALREADY_ABSENT

    async def stop(self, name: str) -> values.Sandbox:
        request = api.StopSandboxRequest(workspace_scope=self._scope, name=name)
        answer = await self._transport.call(OPENSHELL, "StopSandbox", request, api.SandboxResponse, 300.0)
        return mapping.sandbox(answer.sandbox)

    async def start(self, name: str) -> values.Sandbox:
        request = api.StartSandboxRequest(workspace_scope=self._scope, name=name)
        answer = await self._transport.call(OPENSHELL, "StartSandbox", request, api.SandboxResponse, 300.0)
        return mapping.sandbox(answer.sandbox)

    async def watch_status(self, name: str) -> AsyncGenerator[values.Sandbox]:
        """The state now, then every change as it happens."""
        request = api.WatchSandboxRequest(workspace_scope=self._scope, sandbox=name, follow_status=True)
        async for event in self._transport.stream(OPENSHELL, "WatchSandbox", request, api.SandboxStreamEvent):
            if event.WhichOneof("payload") == "sandbox":
                yield mapping.sandbox(event.sandbox)

    async def wait_for(self, sandbox: values.Sandbox, phase: str, failed: Iterable[str]) -> values.Sandbox:
        """Until `phase`, by push. Raises SandboxFailedError on a phase in `failed`; callers bound the time."""
        if sandbox.phase == phase:
            return sandbox
        bad = frozenset(failed)
        async for one in self.watch_status(sandbox.name):
            if one.phase == phase:
                return one
            if one.phase in bad:
                raise SandboxFailedError(one)
        raise GatewayError("UNAVAILABLE", "the gateway ended the watch before the sandbox was ready")

    # -- commands ----------------------------------------------------------------------------------------------

    async def exec(
        self,
        sandbox: str,
        command: Sequence[str],
        *,
        workdir: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 0.0,
        stdin: AsyncIterator[bytes | tuple[int, int]] | None = None,
        size: tuple[int, int] | None = None,
    ) -> AsyncGenerator[values.Output | values.Exit]:
        """Output as it comes, then exactly one Exit.

        `size` (columns, rows) asks for a terminal. `stdin` yields input and new window sizes; its end closes the
        command's standard input. `timeout` in seconds, 0 is none; it ends the command inside with exit code 124.
        """
        start = api.ExecSandboxRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            command=command,
            workdir=workdir,
            environment=environment or {},
            tty=size is not None,
            cols=size[0] if size else 0,
            rows=size[1] if size else 0,
            no_login_shell=True,
        )
        if timeout > 0:
            start.execution_timeout.seconds = int(timeout)
            start.execution_timeout.nanos = int(timeout % 1 * 1e9)
        if stdin is None:
            events = self._transport.stream(OPENSHELL, "ExecSandbox", start, api.ExecSandboxEvent)
        else:
            events = self._transport.converse(
                OPENSHELL, "ExecSandboxInteractive", _inputs(start, stdin), api.ExecSandboxEvent
            )
        ended = False
        async for event in events:
            kind = event.WhichOneof("payload")
            if kind == "stdout":
                yield values.Output("stdout", event.stdout.data)
            elif kind == "stderr":
                yield values.Output("stderr", event.stderr.data)
            elif kind == "exit":
                ended = True
                yield values.Exit(event.exit.exit_code)
        if not ended:
            raise GatewayError("UNAVAILABLE", "exec stream ended without an exit event")

    async def console(
        self,
        sandbox: str,
        command: Sequence[str],
        *,
        size: tuple[int, int],
        stdin: AsyncIterator[bytes | tuple[int, int]],
        environment: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[values.Attached | values.Output | values.Exit]:
        """Attach to the sandbox's console; `command` runs where none does. Leaving the iteration leaves it running.

        First one Attached, then output (the recent one first, where it ran already), then Exit when it ended.
        """
        start = review_api.ConsoleStart(
            workspace_scope=self._scope,
            sandbox=sandbox,
            command=command,
            environment=environment or {},
            cols=size[0],
            rows=size[1],
        )

        async def inputs() -> AsyncIterator[Message]:
            yield review_api.ConsoleInput(start=start)
            async for item in stdin:
                if isinstance(item, bytes):
                    yield review_api.ConsoleInput(stdin=item)
                else:
                    resize = api.ExecSandboxWindowResize(cols=item[0], rows=item[1])
                    yield review_api.ConsoleInput(resize=resize)

        async for event in self._transport.converse(CONSOLES, "AttachConsole", inputs(), review_api.ConsoleEvent):
            match event.WhichOneof("payload"):
                case "attached":
                    yield values.Attached(event.attached.resumed)
                case "output":
                    yield values.Output("stdout", event.output)
                case "exit_code":
                    yield values.Exit(event.exit_code)

    async def tcp(self, sandbox: str, port: int, sent: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """A connection to `port` of the sandbox's loopback: b"" once it stands, then what comes. `sent` goes in.

        Raises GatewayError UNAVAILABLE when nothing listens there.
        """
        init = api.TcpForwardInit(sandbox=sandbox, workspace=self.workspace, tcp=api.TcpRelayTarget(port=port))

        async def frames() -> AsyncIterator[Message]:
            yield api.TcpForwardFrame(init=init)
            async for piece in sent:
                yield api.TcpForwardFrame(data=piece)

        async for frame in self._transport.converse(OPENSHELL, "ForwardTcp", frames(), api.TcpForwardFrame):
            yield frame.data

    # -- policy ------------------------------------------------------------------------------------------------

    async def config(self, sandbox: str) -> values.Config:
        request = sandbox_api.GetSandboxConfigRequest(workspace_scope=self._scope, name=sandbox)
        return mapping.config(
            await self._transport.call(OPENSHELL, "GetSandboxConfig", request, sandbox_api.GetSandboxConfigResponse)
        )

    async def set_policy(self, policy: Policy, *, sandbox: str = "") -> values.Written:
        """Replace the policy of one sandbox, or (without a name) the global one."""
        request = api.UpdateConfigRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            policy=policy_map.policy_to_proto(policy),
        )
        return await self._update(_global(request, not sandbox))

    async def update_policy(self, operations: Sequence[Operation], *, sandbox: str) -> values.Written:
        """Merge operations into the policy of one sandbox: in order, all or none."""
        request = api.UpdateConfigRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            merge_operations=map(policy_map.merge_operation_to_proto, operations),
        )
        return await self._update(request)

    async def delete_global_policy(self) -> values.Written:
        return await self.delete_setting("policy")

    async def policy_status(self, sandbox: str, version: int = 0) -> tuple[values.Revision, int]:
        """A revision (0 is the latest) and the active version. Without a name: of the global policy."""
        request = api.GetSandboxPolicyStatusRequest(workspace_scope=self._scope, sandbox=sandbox, version=version)
        answer = await self._transport.call(
            OPENSHELL, "GetSandboxPolicyStatus", _global(request, not sandbox), api.GetSandboxPolicyStatusResponse
        )
        return mapping.revision(answer.revision), answer.active_version

    async def policies(self, sandbox: str, limit: int) -> list[values.Revision]:
        """Newest first. Without a name: of the global policy."""
        found: list[values.Revision] = []
        token = ""
        while len(found) < limit:
            request = api.ListSandboxPoliciesRequest(
                workspace_scope=self._scope,
                sandbox=sandbox,
                page_size=min(limit - len(found), 1000),
                page_token=token,
            )
            answer = await self._transport.call(
                OPENSHELL, "ListSandboxPolicies", _global(request, not sandbox), api.ListSandboxPoliciesResponse
            )
            found.extend(mapping.revision(one) for one in answer.revisions)
            token = answer.next_page_token
            if not token:
                break
        return found[:limit]

    # -- settings ----------------------------------------------------------------------------------------------

    async def global_settings(self) -> values.GlobalSettings:
        return mapping.global_settings(
            await self._transport.call(
                OPENSHELL,
                "GetGatewayConfig",
                sandbox_api.GetGatewayConfigRequest(),
                sandbox_api.GetGatewayConfigResponse,
            )
        )

    async def set_setting(self, key: str, value: bool | str, *, sandbox: str = "") -> values.Written:
        typed = (
            sandbox_api.SettingValue(bool_value=value)
            if isinstance(value, bool)
            else sandbox_api.SettingValue(string_value=value)
        )
        request = api.UpdateConfigRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            setting_key=key,
            setting_value=typed,
        )
        return await self._update(_global(request, not sandbox))

    async def delete_setting(self, key: str, *, sandbox: str = "") -> values.Written:
        request = api.UpdateConfigRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            setting_key=key,
            delete_setting=True,
        )
        return await self._update(_global(request, not sandbox))

    async def _update(self, request: api.UpdateConfigRequest) -> values.Written:
        return mapping.written(await self._transport.call(OPENSHELL, "UpdateConfig", request, api.UpdateConfigResponse))

    # -- inbox -------------------------------------------------------------------------------------------------

    async def draft(self, sandbox: str, status: str = "") -> values.Draft:
        request = api.GetDraftPolicyRequest(workspace_scope=self._scope, sandbox=sandbox, status_filter=status)
        answer = await self._transport.call(OPENSHELL, "GetDraftPolicy", request, api.GetDraftPolicyResponse)
        return values.Draft(answer.draft_version, tuple(mapping.chunk(one) for one in answer.chunks))

    async def reviews(self, sandbox: str, chunk_ids: Sequence[str] = ()) -> dict[str, values.Review]:
        """Proof and authorship by chunk id. Empty for a gateway that is not ours."""
        request = review_api.ListChunkReviewsRequest(workspace_scope=self._scope, sandbox=sandbox, chunk_ids=chunk_ids)
        try:
            answer = await self._transport.call(
                REVIEW, "ListChunkReviews", request, review_api.ListChunkReviewsResponse
            )
        except GatewayError as error:
            if error.code == "UNIMPLEMENTED":
                return {}
            raise
        return {one.chunk_id: mapping.review(one) for one in answer.reviews}

    async def observed(self, sandbox: str) -> list[values.Observed]:
        """L7 refusals. Empty for a gateway that is not ours."""
        request = review_api.ListObservedDenialsRequest(workspace_scope=self._scope, sandbox=sandbox)
        try:
            answer = await self._transport.call(
                REVIEW, "ListObservedDenials", request, review_api.ListObservedDenialsResponse
            )
        except GatewayError as error:
            if error.code == "UNIMPLEMENTED":
                return []
            raise
        return [mapping.observed(one) for one in answer.denials]

    def inbox(self, sandbox: str = "", *, all_workspaces: bool = False, resume_after: str = "") -> Inbox:
        """`async for item in gateway.inbox()`: what waits for a decision, of one sandbox or of all."""
        return Inbox(self, sandbox, all_workspaces=all_workspaces, resume_after=resume_after)

    async def watch_inbox(
        self, sandbox: str = "", *, overview: bool = False, all_workspaces: bool = False, resume_after: str = ""
    ) -> AsyncGenerator[values.InboxEvent]:
        """What is pending, `synced`, then changes. `overview`: also sandboxes, recent decisions, observed denials.

        `resume_after` is the cursor of the last event that was seen: instead of what is pending, what changed since.
        """
        scope = data.WorkspaceSelector(all_workspaces=data.AllWorkspaces()) if all_workspaces else self._scope
        request = review_api.WatchInboxRequest(
            workspace_scope=scope, sandbox=sandbox, overview=overview, resume_after_cursor=resume_after
        )
        async for event in self._transport.stream(REVIEW, "WatchInbox", request, review_api.InboxEvent):
            yield mapping.inbox_event(event)

    async def decisions(self, sandbox: str, chunk_id: str = "") -> list[values.Decision]:
        """Everything that happened to the proposals of a sandbox, or to one, in order."""

        async def fetch(token: str) -> review_api.ListDecisionsResponse:
            request = review_api.ListDecisionsRequest(
                workspace_scope=self._scope, sandbox=sandbox, chunk_id=chunk_id, page_size=1000, page_token=token
            )
            return await self._transport.call(REVIEW, "ListDecisions", request, review_api.ListDecisionsResponse)

        return [mapping.decision(one) for page in await pages(fetch) for one in page.decisions]

    async def approve(
        self, sandbox: str, chunk_id: str, review_token: str, *, expires: datetime.timedelta | None = None
    ) -> tuple[int, str]:
        """Policy version and hash that contain the rule. The token is that of the chunk the person saw.

        With `expires` the approval ends by itself after so long; one that is limited already gets the new limit.
        """
        if expires is not None:
            limited = review_api.ApproveChunkRequest(
                workspace_scope=self._scope, sandbox=sandbox, chunk_id=chunk_id, review_token=review_token
            )
            limited.lease.FromTimedelta(expires)
            said = await self._transport.call(REVIEW, "ApproveChunk", limited, review_api.ApproveChunkResponse)
            return said.policy_version, said.policy_hash
        request = api.ApproveDraftChunkRequest(
            workspace_scope=self._scope, sandbox=sandbox, chunk_id=chunk_id, review_token=review_token
        )
        answer = await self._transport.call(OPENSHELL, "ApproveDraftChunk", request, api.ApproveDraftChunkResponse)
        return answer.policy_version, answer.policy_hash

    async def approve_all(
        self, sandbox: str, chunks: Iterable[values.Reviewed], *, include_security_flagged: bool
    ) -> tuple[int, int, int]:
        """Exactly the chunks given, by their tokens. Returns (approved, skipped, policy version)."""
        request = api.ApproveAllDraftChunksRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            include_security_flagged=include_security_flagged,
            approvals=[api.DraftChunkApproval(chunk_id=one.id, review_token=one.review_token) for one in chunks],
        )
        answer = await self._transport.call(
            OPENSHELL, "ApproveAllDraftChunks", request, api.ApproveAllDraftChunksResponse
        )
        return answer.chunks_approved, answer.chunks_skipped, answer.policy_version

    async def reject(self, sandbox: str, chunk_id: str, reason: str) -> None:
        """The reason reaches the agent byte for byte."""
        request = api.RejectDraftChunkRequest(
            workspace_scope=self._scope, sandbox=sandbox, chunk_id=chunk_id, reason=reason
        )
        await self._transport.call(OPENSHELL, "RejectDraftChunk", request, api.RejectDraftChunkResponse)

    async def edit(self, sandbox: str, chunk_id: str, rule: Rule) -> None:
        """Replace the rule of a pending chunk; it gets a new review token."""
        request = api.EditDraftChunkRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            chunk_id=chunk_id,
            proposed_rule=policy_map.rule_to_proto(rule),
        )
        await self._transport.call(OPENSHELL, "EditDraftChunk", request, api.EditDraftChunkResponse)

    async def undo(self, sandbox: str, chunk_id: str) -> tuple[int, str]:
        request = api.UndoDraftChunkRequest(workspace_scope=self._scope, sandbox=sandbox, chunk_id=chunk_id)
        answer = await self._transport.call(OPENSHELL, "UndoDraftChunk", request, api.UndoDraftChunkResponse)
        return answer.policy_version, answer.policy_hash

    async def clear(self, sandbox: str) -> int:
        request = api.ClearDraftChunksRequest(workspace_scope=self._scope, sandbox=sandbox)
        answer = await self._transport.call(OPENSHELL, "ClearDraftChunks", request, api.ClearDraftChunksResponse)
        return answer.chunks_cleared

    async def history(self, sandbox: str) -> list[values.HistoryEntry]:
        request = api.GetDraftHistoryRequest(workspace_scope=self._scope, sandbox=sandbox)
        answer = await self._transport.call(OPENSHELL, "GetDraftHistory", request, api.GetDraftHistoryResponse)
        return [mapping.history(one) for one in answer.entries]

    # -- logs --------------------------------------------------------------------------------------------------

    async def logs(
        self,
        sandbox: str,
        *,
        lines: int,
        since: datetime.datetime | None = None,
        sources: Sequence[str] = (),
        level: str = "",
    ) -> tuple[list[values.LogLine], int]:
        """The last lines, oldest first, and how many lines the buffer held."""
        request = api.GetSandboxLogsRequest(
            workspace_scope=self._scope, sandbox=sandbox, lines=lines, sources=sources, min_level=level
        )
        if since is not None:
            _since(request.since_time, since)
        answer = await self._transport.call(OPENSHELL, "GetSandboxLogs", request, api.GetSandboxLogsResponse)
        return [mapping.log_line(one) for one in answer.logs], answer.buffer_total

    async def tail(
        self,
        sandbox: str,
        *,
        lines: int,
        since: datetime.datetime | None = None,
        sources: Sequence[str] = (),
        level: str = "",
    ) -> AsyncGenerator[values.LogLine | str]:
        """The last lines, then new ones as they come; a text is the gateway's warning about a gap."""
        request = api.WatchSandboxRequest(
            workspace_scope=self._scope,
            sandbox=sandbox,
            follow_logs=True,
            log_tail_lines=lines,
            log_sources=sources,
            log_min_level=level,
        )
        if since is not None:
            _since(request.since_time, since)
        async for event in self._transport.stream(OPENSHELL, "WatchSandbox", request, api.SandboxStreamEvent):
            kind = event.WhichOneof("payload")
            if kind == "log":
                yield mapping.log_line(event.log)
            elif kind == "warning":
                yield event.warning.message


async def _inputs(
    start: api.ExecSandboxRequest, stdin: AsyncIterator[bytes | tuple[int, int]]
) -> AsyncIterator[Message]:
    """`start`, then input and window sizes as they come; ends (and so closes stdin inside) when `stdin` ends."""
    yield api.ExecSandboxInput(start=start)
    async for item in stdin:
        if isinstance(item, bytes):
            yield api.ExecSandboxInput(stdin=item)
        else:
            yield api.ExecSandboxInput(resize=api.ExecSandboxWindowResize(cols=item[0], rows=item[1]))


def _global(request: M, value: bool) -> M:
    """Set the field `global`, whose name Python's syntax reserves."""
    setattr(request, "global", value)
    return request


def _since(stamp: Timestamp, moment: datetime.datetime) -> None:
    """In place: our messages live in a descriptor pool of their own, so the default pool's Timestamp does not fit."""
    stamp.seconds = int(moment.timestamp())
    stamp.nanos = moment.microsecond * 1000
