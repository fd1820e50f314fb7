"""Between the 200 of a CONNECT and the first request: what the client speaks in an inspected tunnel.

Bounded in bytes and time. TLS must ask for the very host that was admitted; what is neither TLS nor HTTP/1 is refused.
A TLS client is refused with an alert, which it can read; the envelope in plain text would be noise to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pyopenshell.policy.hosts import canonical_host, is_ip_literal
from pyopenshell.supervisor.proxy.sniff import HelloError, Kind, classify, server_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.proxy.admission import Admission
    from pyopenshell.supervisor.proxy.channel import Timer
    from pyopenshell.supervisor.proxy.context import Limits
    from pyopenshell.supervisor.proxy.records import Recorder
    from pyopenshell.supervisor.proxy.transport import Side

_UNRECOGNIZED_NAME = bytes.fromhex("15 0303 0002 02 70")
"""TLS record with a fatal alert (RFC 6066, 3)."""
_DECODE_ERROR = bytes.fromhex("15 0303 0002 02 32")


class EntranceDesk(Protocol):
    """What the entrance needs of the plane."""

    limits: Limits
    record: Recorder

    def after(self, seconds: float, call: Callable[[], None]) -> Timer: ...

    def inspect(self, side: Side, admission: Admission, scheme: str, data: bytes = b"") -> None: ...

    def terminate(self, side: Side, admission: Admission, hello: bytes) -> None: ...

    def not_inspectable(self, side: Side, admission: Admission, detail: str, alert: bytes = b"") -> None: ...


class Entrance:
    """Reads until it knows, then hands the connection on."""

    __slots__ = ("_admission", "_buffer", "_desk", "_side", "_timer")

    def __init__(self, desk: EntranceDesk, side: Side, admission: Admission) -> None:
        self._desk = desk
        self._side = side
        self._admission = admission
        self._buffer = b""
        self._timer: Timer | None = None

    def start(self, data: bytes) -> None:
        self._side.bind(self._data, self._eof, self._stop, lambda _: None)
        self._timer = self._desk.after(self._desk.limits.head_seconds, self._too_slow)
        self._side.resume()
        if data:
            self._data(data)

    def _data(self, data: bytes) -> None:
        self._buffer += data
        kind = classify(self._buffer)
        if kind is Kind.OTHER:
            self._refuse("neither TLS nor HTTP/1")
        elif kind is Kind.HTTP:
            self._stop()
            self._desk.inspect(self._side, self._admission, "http", self._buffer)
        elif kind is Kind.TLS:
            self._hello()

    def _hello(self) -> None:
        try:
            name = server_name(self._buffer)
        except HelloError as error:
            self._refuse(str(error), _DECODE_ERROR)
            return
        if name is None:
            return
        if not self._fits(name):
            self._refuse("TLS client asks for another server name than CONNECT did", _UNRECOGNIZED_NAME)
            return
        self._stop()
        self._side.bind(lambda _: None, lambda: False, lambda: None, lambda _: None)
        self._desk.terminate(self._side, self._admission, self._buffer)

    def _fits(self, name: str) -> bool:
        """No name at all is harmless: the certificate, the Host check and the upstream name are the admitted host's."""
        if not name:
            return True
        host = self._admission.host
        try:
            return canonical_host(name) == host
        except ValueError:
            return is_ip_literal(host) and name == host

    def _refuse(self, detail: str, alert: bytes = b"") -> None:
        self._stop()
        self._desk.not_inspectable(self._side, self._admission, detail, alert)

    def _eof(self) -> bool:
        self._stop()
        self._side.close()
        return False

    def _too_slow(self) -> None:
        self._timer = None
        message = "nothing that could be inspected arrived in the tunnel in time; the client has to speak first here"
        self._desk.record.failed(self._admission.host, self._admission.port, message, self._admission.identity)
        self._side.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
