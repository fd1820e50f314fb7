"""The line between the driver host and what it forks: nothing that was said is lost."""

from __future__ import annotations

import socket

import pytest

from pyopenshell.isolation import channel


@pytest.mark.parametrize("data", [b"[1]", b"7", b'"@"', b"null", b"[" * 50_000, b'{"@": 5}', b'{"@": true}', b"\xff"])
def test_what_is_no_object_breaks_the_channel_and_nothing_else(data: bytes) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        channel.send_raw(theirs, data, [])
        with pytest.raises(channel.ChannelError):
            channel.receive(ours)


def test_the_last_words_of_a_peer_that_left_our_messages_unread_are_heard() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        channel.send(ours, {"op": "unread"})
        channel.send(theirs, {"op": "failed"})
        theirs.close()
        assert channel.receive(ours) == ({"op": "failed"}, [])
        assert channel.receive(ours) == (None, [])
