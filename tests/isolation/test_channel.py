"""The line between the driver host and what it forks: nothing that was said is lost."""

from __future__ import annotations

import socket

from pyopenshell.isolation import channel


def test_the_last_words_of_a_peer_that_left_our_messages_unread_are_heard() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        channel.send(ours, {"op": "unread"})
        channel.send(theirs, {"op": "failed"})
        theirs.close()
        assert channel.receive(ours) == ({"op": "failed"}, [])
        assert channel.receive(ours) == (None, [])
