"""The data plane of one sandbox: listener, connections, dialling, TLS, tunnels, reload.

The only module of the proxy that opens sockets. It decides nothing about access: doors ask, admission answers, this
carries out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from pyopenshell.policy.decision import Condition
from pyopenshell.policy.hosts import is_ip_literal
from pyopenshell.supervisor.denial import Denial, http_response
from pyopenshell.supervisor.proxy import race
from pyopenshell.supervisor.proxy.acceptor import Acceptor
from pyopenshell.supervisor.proxy.admission import Admission, Admitter, Failure, Intent, Peer, request_denial
from pyopenshell.supervisor.proxy.bodies import Budget
from pyopenshell.supervisor.proxy.capture import CaptureDoor
from pyopenshell.supervisor.proxy.channel import Route, Timer
from pyopenshell.supervisor.proxy.context import Limits, PlaneContext
from pyopenshell.supervisor.proxy.defects import Defects
from pyopenshell.supervisor.proxy.destination import Guard
from pyopenshell.supervisor.proxy.doors import ForwardDoor, TunnelDoor
from pyopenshell.supervisor.proxy.entrance import Entrance
from pyopenshell.supervisor.proxy.greeting import Greeting
from pyopenshell.supervisor.proxy.local import LocalDoor, LocalOnlyDoor, LocalRequest
from pyopenshell.supervisor.proxy.lookup import Lookups
from pyopenshell.supervisor.proxy.memory import Holder, Memory
from pyopenshell.supervisor.proxy.pool import Pool
from pyopenshell.supervisor.proxy.quota import Quota
from pyopenshell.supervisor.proxy.records import Recorder
from pyopenshell.supervisor.proxy.relay import Relay
from pyopenshell.supervisor.proxy.sniff import INTERNAL_ERROR
from pyopenshell.supervisor.proxy.tls import UpstreamTrust
from pyopenshell.supervisor.proxy.tlsstream import distrust
from pyopenshell.supervisor.proxy.transport import Side, Tunnel, reset
from pyopenshell.supervisor.proxy.verdicts import Verdicts
from pyopenshell.supervisor.proxy.watch import Watch
from pyopenshell.supervisor.proxy.websocket import Assemblies, WebSocket
from pyopenshell.supervisor.proxy.wildcards import Wildcards
from pyopenshell.supervisor.tasks import cancel, spawn

if TYPE_CHECKING:
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.proxy.caller import Caller, Handle
    from pyopenshell.supervisor.proxy.channel import Channel
    from pyopenshell.supervisor.proxy.http1 import Head


class _Settled:
    """Handle of what is over already."""

    def cancel(self) -> None:
        pass


_SETTLED = _Settled()


class Plane:
    """Serves the proxy's listener and those of captured connections.

    `policy_changed` after every `Current.swap`; `close` ends everything.
    """

    def __init__(self, context: PlaneContext) -> None:
        self.context = context
        self.limits: Limits = context.limits
        self.current: Current = context.current
        self._loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = self._loop.time
        resolver = context.resolver or Lookups(self.limits.lookups, self.limits.lookup_seconds)
        guard = Guard(resolver, context.connect_to, context.blocked, self.clock)
        self.record = Recorder(context.audit, context.denied)
        wildcards = Wildcards(self.record.crowded, capacity=self.limits.wildcard_names)
        self.admitter = Admitter(context.current, context.identifier, guard, context.names, wildcards)
        self._local = LocalDoor(context.local, self)
        self.defects = Defects(self.record, self._quota("defects of the proxy"))
        self.memory = Memory(self.limits.memory, self.limits.high_water, self.limits.low_water, self._shed)
        self._turned_away = self._quota("connections refused for want of memory")
        self._trust = UpstreamTrust()
        self._pool = Pool(self)
        self._acceptors: list[Acceptor] = []
        self._sides: set[Side] = set()
        self._upstreams: set[Side] = set()
        self._relays: set[Relay] = set()
        self._tunnels: dict[Tunnel, Admission] = {}
        self._sockets: set[WebSocket] = set()
        self.bodies = Budget(self.limits.content_held)
        self.verdicts = Verdicts()
        self.assemblies = Assemblies(self.limits.messages_active, self.limits.messages_waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = Watch(self, self._tick)
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<plane {len(self._sides)} connections, {len(self._tunnels)} raw tunnels, "
            f"{len(self._sockets)} websockets, {len(self._pool)} idle upstreams, "
            f"policy generation {self.current.generation}>"
        )

    def _quota(self, what: str) -> Quota:
        return Quota(lambda count: self.record.failed("", 0, f"{count} more {what}"), self.clock, self.after)

    # ------------------------------------------------------------------------------------------------------ running

    async def serve(self, listener: socket.socket) -> None:
        """Start accepting proxy clients on a listening TCP socket and return; the plane owns the socket from now on."""
        host, port = listener.getsockname()[:2]
        self._accept_on(listener, self._adopt)
        self.record.listening(host, port)

    async def capture(self, listener: socket.socket) -> None:
        """The same for connections that were redirected here and meant for somewhere else."""
        self._accept_on(listener, self._adopt_captured)

    def _accept_on(self, listener: socket.socket, adopt: Callable[[socket.socket], None]) -> None:
        acceptor = Acceptor(listener, adopt, self._room, lambda text: self.record.failed("", 0, text))
        self._acceptors.append(acceptor)
        acceptor.start()

    def _room(self) -> bool:
        return len(self._sides) < self.limits.connections

    def policy_changed(self) -> None:
        """Apply a new policy to what is open.

        Idle keep-alive connections close now, busy ones at the end of their exchange, raw tunnels live on; whatever
        is no longer granted ends now.
        """
        self._pool.clear()
        self._trust.forget()
        self.verdicts.clear()
        for relay in list(self._relays):
            door = relay.door
            if isinstance(door, TunnelDoor | ForwardDoor):
                self._review(partial(door.policy_changed, relay), relay.abort)
        for socket_ in list(self._sockets):
            self._review(socket_.policy_changed, socket_.abort)
        for tunnel, admission in list(self._tunnels.items()):
            self._review(partial(self._review_tunnel, tunnel, admission), tunnel.abort)

    def _review(self, review: Callable[[], None], abort: Callable[[], None]) -> None:
        """What cannot be judged ends; whatever went wrong with it must not leave others a grant that is gone."""
        try:
            review()
        except Exception as error:  # noqa: BLE001 - see above
            abort()
            message = "a connection could not be judged by the new policy and was ended"
            self._loop.call_exception_handler({"message": message, "exception": error})

    def _review_tunnel(self, tunnel: Tunnel, admission: Admission) -> None:
        reason = self._raw_refusal(admission)
        if reason:
            self.record.revoked(admission, reason)
            tunnel.abort()

    async def close(self) -> None:
        """Stop listening and end every connection. Idempotent."""
        self._closed = True
        for acceptor in self._acceptors:
            acceptor.close()
        await cancel(*self._tasks)
        for relay in list(self._relays):
            relay.abort()
        for tunnel in list(self._tunnels):
            tunnel.abort()
        for socket_ in list(self._sockets):
            socket_.abort()
        self._pool.clear()
        self._watch.stop()
        gone = [self._abort(side) for side in (*self._sides, *self._upstreams)]
        if gone:
            # A transport reports its end in the next turn of the loop; the bound is for one that never got there.
            await asyncio.wait(gone, timeout=1)

    def _abort(self, side: Side) -> asyncio.Future[None]:
        done = self._loop.create_future()
        side.on_closed = lambda: None if done.done() else done.set_result(None)
        if side.closed:
            done.set_result(None)
        side.abort()
        return done

    def _raw_refusal(self, admission: Admission) -> str:
        """Why a raw tunnel may not go on; "" when it may."""
        renewed = self.admitter.renew(admission)
        if isinstance(renewed, Denial):
            return renewed.reason or renewed.detail
        return "requests to this endpoint are now inspected" if renewed.cell.inspected else ""

    # ---------------------------------------------------------------------------------------------------- accepting

    def _adopt(self, accepted: socket.socket) -> None:
        side = self._side()
        peer = Peer(accepted, side.cut)

        def http(data: bytes) -> None:
            relay = Relay(self, side, ForwardDoor(self, peer), self.limits.door_head)
            self._relays.add(relay)
            relay.start(data)

        Greeting(self, side, peer, http, busy=self._busy()).start()
        self._spawn(self._attach(side, accepted), "accept")

    def _adopt_captured(self, accepted: socket.socket) -> None:
        target = self.context.original_destination(accepted)
        if target is None:
            # Somebody connected to the capturing port itself: it is no destination.
            self.record.failed("", 0, "connection to the port of captured connections refused")
            reset(accepted)
            return
        if self._busy():
            reset(accepted)
            return
        side, name = self._side(), self.context.hosts.name(target[0])
        if name:
            self.context.hosts.hold(name)

            def closed() -> None:
                self.context.hosts.release(name)
                self._side_closed(side)

            side.on_closed = closed
        door = CaptureDoor(self, side, Peer(accepted, side.cut), target, name)
        door.start()
        self._spawn(self._attach(side, accepted, door.proceed), "accept")

    async def _attach(self, side: Side, accepted: socket.socket, then: Callable[[], None] = lambda: None) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: side, accepted)
        except BaseException as error:
            accepted.close()
            side.connection_lost(error)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, OSError):
                self.defects.found(error)
        else:
            self.defects.guarded(then, side.cut)

    def _busy(self) -> bool:
        """Whether a new connection has to be turned away; then the event is written, or counted."""
        if not self.memory.full:
            return False
        if self._turned_away.take():
            self.record.failed("", 0, f"connection refused for want of memory: {self.memory}")
        return True

    def _shed(self, holder: Holder) -> None:
        """All memory for what waits is used, and nobody has waited longer than this one."""
        assert isinstance(holder, Side)
        found = [admission for tunnel, admission in self._tunnels.items() if tunnel.has(holder)]
        found += [one for one in (socket_.has(holder) for socket_ in self._sockets) if one is not None]
        found += [one for one in (relay.has(holder) for relay in self._relays) if one is not None]
        reason = "connection ended for want of memory: nobody took what waited on it for the longest time"
        self.record.ended(found[0] if found else None, reason)
        holder.cut()

    def _side(self) -> Side:
        side = Side(self.memory)
        self._sides.add(side)
        self._watch.start()
        side.on_closed = lambda: self._side_closed(side)
        return side

    def _side_closed(self, side: Side) -> None:
        self._sides.discard(side)
        if self._room():
            for acceptor in self._acceptors:
                acceptor.roomy()

    def _tick(self) -> bool:
        """End whatever waits in vain; whether there is still somebody who could."""
        for relay in tuple(self._relays):
            relay.tick()
        most = self.limits.stall_seconds / self.limits.watch_seconds
        for side in (*self._sides, *self._upstreams):
            side.tick(most)
        self._end_silent()
        return bool(self._sides or self._upstreams)

    def _end_silent(self) -> None:
        """Raw tunnels and WebSockets may say nothing for long, not for ever."""
        seconds = self.limits.tunnel_seconds
        most = seconds / self.limits.watch_seconds if seconds else float("inf")
        for tunnel, admission in tuple(self._tunnels.items()):
            tunnel.quiet += 1
            if tunnel.quiet > most:
                self.record.ended(admission, f"raw tunnel ended: nothing was said for {seconds:g} s")
                tunnel.abort()
        for socket_ in tuple(self._sockets):
            socket_.quiet += 1
            if socket_.quiet > most:
                socket_.silent(seconds)

    # ----------------------------------------------------------------------------------------- runtime of the relays

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(seconds, call)

    def ended(self, relay: Relay) -> None:
        self._relays.discard(relay)

    def take(self, route: Route) -> Channel | None:
        return self._pool.take(route.key)

    def give(self, route: Route, channel: Channel) -> None:
        if isinstance(channel, Side) and route.admission.generation == self.current.generation:
            self._pool.give(route.key, channel)
        else:
            channel.close()

    def dial(self, relay: Relay, route: Route) -> None:
        self._spawn(self._dial(relay, route), "dial")

    async def _dial(self, relay: Relay, route: Route) -> None:
        try:
            await self._dialled(relay, route)
        except Exception as error:  # noqa: BLE001 - whoever waits for this must hear of its end
            failure = self.defects.failure(error)
            self.defects.guarded(lambda: relay.upstream_failed(failure), relay.abort)

    async def _dialled(self, relay: Relay, route: Route) -> None:
        admission = route.admission
        if not self.fresh(admission):
            again = await self.admitter.resolve_again(admission)
            if isinstance(again, Denial):
                relay.upstream_refused(again)
                return
            if isinstance(again, Failure):
                relay.upstream_failed(again)
                return
            admission = again
        upstream = await self._connect(admission, tls=route.tls)
        if isinstance(upstream, Failure):
            relay.upstream_failed(upstream)
            return
        relay.upstream_ready(upstream)
        upstream.release()

    # ------------------------------------------------------------------------------------------------- desk of doors

    def fresh(self, admission: Admission) -> bool:
        return self.clock() - admission.target.resolved_at < self.limits.resolve_seconds

    def admit(
        self, peer: Peer, intent: Intent, done: Callable[[Admission | Denial | Failure], None]
    ) -> asyncio.Task[None]:
        return self._admit(peer, self._meant(intent), done)

    def _admit(
        self, peer: Peer, intent: Intent, done: Callable[[Admission | Denial | Failure], None]
    ) -> asyncio.Task[None]:
        async def run() -> None:
            result: Admission | Denial | Failure
            try:
                result = await self.admitter.admit(peer, intent)
            except Exception as error:  # noqa: BLE001 - whoever waits for this must hear of its end
                result = self.defects.failure(error)
            self.defects.guarded(lambda: done(result), peer.cut)

        return self._spawn(run(), "admit")

    def _meant(self, intent: Intent) -> Intent:
        """A client that asked policy DNS first, and a door with what it got, means the name."""
        host = self.named(intent.host)
        return intent if host == intent.host else dataclasses.replace(intent, host=host)

    def named(self, host: str) -> str:
        """The name behind a synthetic address; anything else as it is."""
        return self.context.hosts.name(host) or host if is_ip_literal(host) else host

    def local(self, relay: Relay, head: Head, path: str) -> LocalRequest | None:
        return self._local.serve(relay, head, path)

    def local_only(self, channel: Channel, data: bytes) -> None:
        """The client speaks HTTP to `policy.local` on `channel` from here on."""
        relay = Relay(self, channel, LocalOnlyDoor(self._local, self.record), self.limits.door_head)
        self._relays.add(relay)
        relay.start(data)
        channel.resume()

    def upgraded(
        self,
        admission: Admission,
        scheme: str,
        target: str,
        client: tuple[Channel, bytes],
        upstream: tuple[Channel, bytes],
    ) -> None:
        """Follow an upgraded connection into its frames; where requests are not inspected, frames are not either."""
        (to_client, from_client), (to_server, from_server) = client, upstream
        inspected = admission.cell.inspected
        renewed = self.admitter.renew(admission)
        if isinstance(renewed, Denial) or renewed.cell.inspected is not inspected:
            self.record.revoked(admission, "the policy changed during the handshake")
            to_client.abort()
            to_server.abort()
            return
        if not inspected:
            assert isinstance(to_client, Side)
            assert isinstance(to_server, Side)
            if from_server:
                to_client.write(from_server)
            self._tunnel(to_client, to_server, renewed, from_client)
            return
        upgraded = WebSocket(self, admission, scheme, target, to_client, to_server)
        self._sockets.add(upgraded)
        upgraded.start(from_client, from_server)

    def websocket_ended(self, socket: WebSocket) -> None:
        self._sockets.discard(socket)

    # ------------------------------------------------------------------------------------------------ desk of callers

    def ask(self, caller: Caller, peer: Peer, intent: Intent) -> Handle:
        """The one way from an intent to a tunnel, whatever the door. May have called the caller when it returns."""
        meant = self._meant(intent)
        result = self.admitter.at_once(peer, meant)
        if result is None:
            return self._admit(peer, meant, lambda result: self.settle(caller, peer, intent, result))
        self.settle(caller, peer, intent, result)
        return _SETTLED

    def settle(self, caller: Caller, peer: Peer, intent: Intent, result: Admission | Denial | Failure) -> None:
        """Record what admission said, and carry it out."""
        if isinstance(result, Denial):
            self.record.refused_connection(result)
            caller.refuse(result)
        elif isinstance(result, Failure):
            self.record.failed(intent.host, intent.port, result.detail)
            caller.fail(result)
        else:
            self._connect_caller(caller, result, peer)

    def _connect_caller(self, caller: Caller, admission: Admission, peer: Peer) -> None:
        """Raw where policy only looks at the connection, through the entrance otherwise."""
        if not admission.cell.inspected:
            self._spawn(self._raw(caller, admission, peer), "tunnel")
            return
        self.record.connected(admission)
        side, rest = caller.established()
        assert isinstance(side, Side)
        Entrance(self, side, admission).start(rest)
        if side.ended and not side.closed:
            side.release()  # it had said everything before anybody who cares was bound

    async def _raw(self, caller: Caller, admission: Admission, peer: Peer) -> None:
        upstream: Side | Failure | None = None
        try:
            upstream = await self._connect(admission, tls=False)
            self._join(caller, admission, peer, upstream)
        except Exception as error:  # noqa: BLE001 - whoever waits for this must hear of its end
            failure = self.defects.failure(error)
            if isinstance(upstream, Side):
                upstream.abort()
            self.defects.guarded(peer.cut if caller.ended else partial(caller.fail, failure), peer.cut)

    def _join(self, caller: Caller, admission: Admission, peer: Peer, upstream: Side | Failure) -> None:
        """Both ends of a raw tunnel, where there are two and the policy of now still wants one."""
        if isinstance(upstream, Failure):
            if not caller.ended:
                self.record.failed(admission.host, admission.port, upstream.detail, admission.identity)
                caller.fail(upstream)
            return
        if caller.ended:
            upstream.close()
            return
        renewed = self.admitter.renew(admission)
        if isinstance(renewed, Denial):
            upstream.close()
            self.record.refused_connection(renewed)
            caller.refuse(renewed)
            return
        if renewed.cell.inspected:
            upstream.close()
            self._connect_caller(caller, renewed, peer)
            return
        self.record.connected(renewed)
        client, rest = caller.established()
        assert isinstance(client, Side)
        self._tunnel(client, upstream, renewed, rest)

    def _tunnel(self, client: Side, upstream: Side, admission: Admission, rest: bytes) -> None:
        tunnel = Tunnel(client, upstream, self._tunnel_closed)
        self._tunnels[tunnel] = admission
        tunnel.start(rest)

    def _tunnel_closed(self, tunnel: Tunnel) -> None:
        self._tunnels.pop(tunnel, None)

    # ------------------------------------------------------------------------------------------ desk of the entrance

    def inspect(self, side: Side, admission: Admission, scheme: str, data: bytes = b"") -> None:
        """The client speaks HTTP/1 on `side` from here on."""
        relay = Relay(self, side, TunnelDoor(self, admission, scheme), self.limits.tunnel_head)
        self._relays.add(relay)
        relay.start(data)

    def terminate(self, side: Side, admission: Admission, hello: bytes) -> None:
        """The client speaks TLS on `side`; what is inside is HTTP/1 or nothing."""

        def done(error: OSError | None) -> None:
            if error is not None:
                if not self._closed:
                    self._client_failed(admission, error)
                return
            side.on_tls_error = lambda error: self._client_failed(admission, error)
            self.inspect(side, admission, "https")
            side.release()

        try:
            context = self.context.authority.context(admission.host)
        except Exception as error:  # noqa: BLE001 - a client that is not served must not be left waiting
            self._client_failed(admission, OSError(self.defects.failure(error).detail))
            side.write(INTERNAL_ERROR)
            side.close()
        else:
            side.serve_tls(context, self.limits.handshake_seconds, hello, done)

    def _client_failed(self, admission: Admission, error: OSError) -> None:
        """A client that would not go on: because of our certificate, or for any other reason."""
        how = distrust(error)
        if how:
            self.record.distrusted(admission, how)
        else:
            self.record.failed(admission.host, admission.port, f"TLS relay error: {error}", admission.identity)

    def not_inspectable(self, side: Side, admission: Admission, detail: str, alert: bytes = b"") -> None:
        """Refuse a tunnel whose bytes cannot be judged: `alert`, or the envelope inside the tunnel; then the end."""
        denial = request_denial(
            admission,
            "",
            "",
            stage="connect-l7-parse-rejection",
            error="unsupported_l7_protocol",
            detail=f"CONNECT_L7 blocked unsupported tunnel protocol for {admission.host}:{admission.port}: {detail}",
            condition=Condition.PROTOCOL.value,
            proposable=False,
        )
        self.record.refused_connection(denial)
        side.write(alert or http_response(denial, proposals_enabled=self.current.proposals_enabled, close=True))
        side.close()

    # ------------------------------------------------------------------------------------------------------ dialling

    async def _connect(self, admission: Admission, *, tls: bool) -> Side | Failure:
        """Connect to one of the checked addresses, and to nothing else."""
        where = f"{admission.host}:{admission.port}"

        async def dial(address: str) -> Side:
            side = self._upstream_side()
            try:
                await self._loop.create_connection(lambda: side, address, admission.target.port)
            except BaseException:
                self._upstreams.discard(side)
                raise
            return side

        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                side = await race.first(admission.target.addresses, dial, Side.abort, self.limits.stagger_seconds)
        except TimeoutError as error:
            # Either ours, or the kernel's own ETIMEDOUT.
            reason = error.strerror or f"no answer within {self.limits.connect_seconds:g} s"
            status = "connection_timeout"
        except OSError as error:
            reason = error.strerror or "unreachable"
            status = "" if isinstance(error, ConnectionRefusedError) else "destination_ip_unroutable"
        else:
            return await self._secure(side, admission, where) if tls else side
        return Failure("connect", "upstream_unreachable", f"connection to {where} failed: {reason}", status)

    def _upstream_side(self) -> Side:
        side = Side(self.memory, hold=True)
        self._upstreams.add(side)
        self._watch.start()
        side.on_closed = lambda: self._upstreams.discard(side)
        return side

    async def _secure(self, side: Side, admission: Admission, where: str) -> Side | Failure:
        ca_pem = admission.target.ca_pem
        key = (admission.cell.key, admission.host, admission.port, ca_pem)
        session, until = self._trust.session(key)
        try:
            await side.start_tls(
                self._trust.context(ca_pem),
                host=admission.host,
                seconds=self.limits.handshake_seconds,
                session=session,
                # A server may answer with a full handshake all the same; to count that as older is the safe side.
                on_session=lambda session: self._trust.keep(key, session, until),
            )
        except ssl.SSLCertVerificationError as error:
            detail = f"certificate of {where} was not accepted: {error.verify_message}"
            return Failure("tls", "upstream_tls_failed", detail, "tls_certificate_error")
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error) or "handshake failed"
            return Failure("tls", "upstream_tls_failed", f"TLS to {where} failed: {reason}")
        except Exception:
            side.abort()
            raise
        return side

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = spawn(work, name=f"proxy {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
