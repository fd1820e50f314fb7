"""Where WebSocket frames of a server begin and end, without looking into them.

Pure. The server's messages are relayed as the bytes that came; all that is needed is a place between two frames, where
our own close frame can be put without tearing one. wsproto would copy and decode every payload for that.
"""

from __future__ import annotations

_CLOSE = 0x8
_DATA = frozenset({0, 1, 2})
_OPCODES = frozenset({0, 1, 2, 8, 9, 10})
_MAX_HEADER = 10


class FrameError(Exception):
    """Bytes that are no frames of a server. The text is ours; `passed` are the good bytes before them."""

    passed = b""


class ServerFrames:
    """Follows a server's stream. Frames are checked as far as the header says: masks, reserved bits, order, sizes."""

    __slots__ = ("_extended", "_header", "_open", "closing", "left")

    def __init__(self, *, extended: bool = False) -> None:
        """`extended`: extensions were agreed on, so the reserved bits have a meaning."""
        self._extended = extended
        self._header = b""
        """Of a frame, while it is incomplete; not passed on yet."""
        self._open = False
        """In a fragmented message."""
        self.left = 0
        """Payload bytes missing of the frame under way; 0 between frames."""
        self.closing = False
        """A close frame went by."""

    def feed(self, data: bytes, *, until_boundary: bool = False) -> bytes:
        """What of the stream may be passed on: everything but an incomplete header at its end. Raises FrameError.

        With `until_boundary` it stops at the end of the frame under way, and drops the rest.
        """
        if self._header:
            data, self._header = self._header + data, b""
        at, size = 0, len(data)
        while at < size:
            if self.left:
                step = min(self.left, size - at)
                self.left -= step
                at += step
                continue
            if until_boundary:
                return data[:at]
            try:
                header = self._parse(data, at)
            except FrameError as error:
                error.passed = data[:at]
                raise
            if not header:
                self._header = data[at:]
                return data[:at]
            at += header
        return data

    def _parse(self, data: bytes, at: int) -> int:
        """Read the header at `at`; its size, 0 while it is incomplete."""
        if len(data) < at + 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, size = first & 0x0F, second & 0x7F
        if second & 0x80:
            raise FrameError("masked frame from a server")
        if opcode not in _OPCODES or (first & 0x70 and not self._extended):
            raise FrameError("frame with reserved bits")
        if opcode not in _DATA and (size > 125 or not first & 0x80):
            raise FrameError("control frame that is fragmented or too long")
        header = 2
        if size >= 126:
            header = 4 if size == 126 else _MAX_HEADER
            if len(data) < at + header:
                return 0
            size = int.from_bytes(data[at + 2 : at + header], "big")
            if size < (126 if header == 4 else 1 << 16) or size >> 63:
                raise FrameError("frame with an impossible length")
        if opcode in _DATA:
            if (opcode == 0) is not self._open:
                raise FrameError("fragments out of order")
            self._open = not first & 0x80
        elif opcode == _CLOSE:
            self.closing = True
        self.left = size
        return header
