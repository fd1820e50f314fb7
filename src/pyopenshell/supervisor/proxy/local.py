"""The door to http://policy.local: reads one bounded request, asks the handler, answers JSON and closes.

Decides only what a well-formed local request is. What the routes mean is the handler's (`supervisor.policy_local`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.authority import LOCAL_HOST, AuthorityError, SchemeError, absolute, host_port
from pyopenshell.supervisor.proxy.bodies import Collected
from pyopenshell.supervisor.proxy.http1 import Framing, Head
from pyopenshell.supervisor.proxy.records import CONTINUE, error_response, json_response
from pyopenshell.supervisor.tasks import spawn

if TYPE_CHECKING:
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Failure
    from pyopenshell.supervisor.proxy.channel import Runtime, Timer
    from pyopenshell.supervisor.proxy.context import LocalHandler
    from pyopenshell.supervisor.proxy.records import Recorder
    from pyopenshell.supervisor.proxy.relay import Relay

_BODY = frozenset({"POST", "PUT", "PATCH"})


class LocalDoor:
    """Counts the requests under way, so that a flood from inside stays small."""

    def __init__(self, handler: LocalHandler, runtime: Runtime) -> None:
        self._handler = handler
        self._runtime = runtime
        self.active = 0

    def serve(self, relay: Relay, head: Head, path: str) -> LocalRequest | None:
        """Start one request; None when it was answered at once."""
        limits = self._runtime.limits
        refusal: tuple[int, str, str] | None = None
        if head.framing is Framing.CHUNKED or (head.method in _BODY and head.length < 0):
            refusal = 411, "length_required", "send the body with a Content-Length"
        elif head.length > limits.local_body:
            refusal = 413, "body_too_large", f"the body may have at most {limits.local_body} bytes"
        elif self.active >= limits.local_requests:
            refusal = 429, "too_many_requests", "too many requests to policy.local are under way"
        if refusal is not None:
            relay.answer(error_response(*refusal), close=True)
            return None
        self.active += 1
        request = LocalRequest(self, relay, head, path)
        request.start(self._runtime, self._handler)
        return request

    def release(self) -> None:
        self.active -= 1


class LocalOnlyDoor:
    """HTTP/1 from a client that connected to `policy.local` itself (captured, or through SOCKS): nothing else is here.

    Implements `channel.Door`; the requests are in origin-form, as to any server.
    """

    __slots__ = ("_handle", "_local", "_record")

    def __init__(self, local: LocalDoor, record: Recorder) -> None:
        self._local = local
        self._record = record
        self._handle: LocalRequest | None = None

    def __repr__(self) -> str:
        return "<policy.local door>"

    def request(self, relay: Relay, head: Head) -> None:
        target = self._target(head)
        if target is None:
            detail = "only http://policy.local is here"
            self.malformed(relay, detail)
            relay.answer(error_response(400, "bad_request", detail), close=True)
            return
        self._handle = self._local.serve(relay, head, target)

    def _target(self, head: Head) -> str | None:
        """The origin-form target when everything in the head means `policy.local`, else None."""
        ours = (LOCAL_HOST, 80)
        try:
            if head.host is not None and host_port(head.host.decode("ascii"), 80) != ours:
                return None
            if head.target[0] == "/":
                return head.target
            scheme, host, port, target = absolute(head.target)
        except (AuthorityError, SchemeError, UnicodeDecodeError):
            return None
        return target if scheme == "http" and (host, port) == ours else None

    def malformed(self, relay: Relay, detail: str) -> None:
        self._record.failed(LOCAL_HOST, 80, f"policy.local connection error: {detail}")

    def failed(self, relay: Relay, failure: Failure) -> bytes:
        raise AssertionError("policy.local has no upstream")

    def refused(self, relay: Relay, denial: Denial) -> bytes:
        raise AssertionError("policy.local has no upstream")

    def gone(self, relay: Relay) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()


class LocalRequest:
    """One request from its head to its answer; cancelled when the client goes away."""

    __slots__ = ("_door", "_handler", "_head", "_path", "_relay", "_task", "_timer")

    def __init__(self, door: LocalDoor, relay: Relay, head: Head, path: str) -> None:
        self._door = door
        self._relay = relay
        self._head = head
        self._path = path
        self._handler: LocalHandler | None = None
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, runtime: Runtime, handler: LocalHandler) -> None:
        self._handler = handler
        # Waits take minutes and write nothing meanwhile: only the client's FIN says that nobody listens any more.
        self._relay.half_close = False
        self._timer = runtime.after(runtime.limits.local_seconds, self._too_slow)
        if self._head.expect and self._head.framing is not Framing.NONE:
            self._relay.client.write(CONTINUE)
        body = Collected(self._head, runtime.limits.local_body)
        self._relay.collect(body, lambda: self._complete(body.take()))

    def cancel(self) -> None:
        """The relay ended."""
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        if self._handler is not None:
            self._handler = None
            self._door.release()

    def _too_slow(self) -> None:
        self._timer = None
        self._finish(error_response(408, "request_timeout", "the body did not arrive in time"))

    def _complete(self, body: bytes) -> None:
        self._stop_timer()
        self._task = spawn(self._handle(body), name="policy.local request")

    async def _handle(self, body: bytes) -> None:
        assert self._handler is not None
        head = self._head
        headers = {
            name.decode("latin-1").lower(): value.strip(b" \t").decode("latin-1")
            for name, _, value in (line.partition(b":") for line in head.lines)
        }
        try:
            response = await self._handler.handle(head.method, self._path, headers, body)
        except Exception:
            self._finish(error_response(500, "internal_error", "policy.local failed; the supervisor's log says why"))
            raise
        extra = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        self._finish(json_response(response.status, response.body, close=True, extra=extra))

    def _finish(self, answer: bytes) -> None:
        if self._handler is None:
            return
        self._handler = None
        self._task = None
        self._door.release()
        self._relay.answer(answer, close=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
