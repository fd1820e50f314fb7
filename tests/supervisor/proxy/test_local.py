"""The door to policy.local: bounded requests, JSON answers, no policy asked."""

from __future__ import annotations

import asyncio

import pytest

from pyopenshell.supervisor.proxy import Limits
from tests.attacks import AMBIGUOUS
from tests.supervisor.proxy.rig import Client, Response, rig

URL = "http://policy.local/v1/proposals"


async def test_requests_reach_the_handler_without_identity_or_policy() -> None:
    async with rig() as r:
        r.identifier.identity = None

        def talk(client: Client) -> tuple[Response, bool]:
            head = f"POST {URL}?a=b HTTP/1.1\nHost: policy.local\nUser-Agent: x\nContent-Length: 2\n\n"
            return client.request(head + "{}"), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, closed) == (202, True)
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {"method": "POST", "path": "/v1/proposals?a=b", "body": "{}", "agent": "x"}
        assert r.identifier.asked == 0
        assert r.log.lines() == []


@pytest.mark.parametrize(
    "url", ["http://policy.local/v1/x", "http://policy.local:80/v1/x", "http://POLICY.local./v1/x"]
)
async def test_spellings_of_the_door(url: str) -> None:
    async with rig() as r:
        assert (await r.run(lambda client: client.request(f"GET {url} HTTP/1.1\nHost: x\n\n"))).json["path"] == "/v1/x"


@pytest.mark.parametrize(("port", "scheme"), [(443, ""), (80, ""), (22, "")])
async def test_connect_to_it_is_refused_with_the_way_in(port: int, scheme: str) -> None:
    async with rig() as r:
        answer = await r.run(lambda client: client.connect(f"policy.local:{port}"))
        assert (answer.status, answer.json["error"]) == (400, "invalid_policy_local_scheme")


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        ("POST {u} HTTP/1.1\nHost: x\n\n", 411, "length_required"),
        ("POST {u} HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n", 411, "length_required"),
        ("POST {u} HTTP/1.1\nHost: x\nContent-Length: 65537\n\n", 413, "body_too_large"),
        ("POST {u} HTTP/1.1\nHost: x\nContent-Length: 9999999999999\n\n", 413, "body_too_large"),
        ("GET {u} HTTP/1.1\nHost: x\nContent-Length: 65537\n\n", 413, "body_too_large"),
    ],
)
async def test_bodies_are_bounded(head: str, status: int, error: str) -> None:
    async with rig() as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return client.request(head.format(u=URL)), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (status, error, True)
        assert not r.local.started.is_set()


async def test_the_largest_body_in_pieces() -> None:
    async with rig() as r:

        def talk(client: Client) -> Response:
            client.send(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 65536\n\n")
            for _ in range(64):
                client.send(b"x" * 1024)
            return client.response()

        assert len((await r.run(talk)).json["body"]) == 65536


async def test_expect_is_answered() -> None:
    async with rig() as r:

        def talk(client: Client) -> list[int]:
            client.send(f"POST {URL} HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 2\n\n")
            interim = client.response().status
            client.send(b"{}")
            return [interim, client.response().status]

        assert await r.run(talk) == [100, 202]


async def test_slow_bodies_are_408() -> None:
    async with rig(limits=Limits(local_seconds=0.1, linger_seconds=0.1)) as r:
        head = f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 5\n\nab"

        def talk(client: Client) -> tuple[Response, bool]:
            return client.request(head), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (408, "request_timeout", True)


async def test_a_client_that_leaves_cancels_its_wait() -> None:
    async with rig() as r:
        r.local.gate = asyncio.Event()
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(b"GET http://policy.local/v1/proposals/c/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(r.local.started.wait(), 5)
        writer.transport.abort()
        await asyncio.wait_for(r.local.cancelled.wait(), 5)
        assert r.plane._local.active == 0
        del reader


async def test_a_flood_is_turned_away() -> None:
    async with rig(limits=Limits(local_requests=2, linger_seconds=0.1)) as r:
        r.local.gate = asyncio.Event()
        waiting = [
            asyncio.ensure_future(r.run(lambda c: c.request(f"GET {URL} HTTP/1.1\nHost: x\n\n"))) for _ in range(3)
        ]
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status for task in done] == [429]
        r.local.gate.set()
        assert {(await task).status for task in pending} == {200}


async def test_a_waiting_request_survives_a_reload() -> None:
    async with rig() as r:
        r.local.gate = asyncio.Event()
        waiting = asyncio.ensure_future(r.run(lambda c: c.request(f"GET {URL} HTTP/1.1\nHost: x\n\n")))
        await asyncio.wait_for(r.local.started.wait(), 5)
        r.set_policy()
        r.local.gate.set()
        assert (await waiting).status == 200


async def test_a_bug_in_the_handler_is_500_and_loud(capsys: pytest.CaptureFixture[str]) -> None:
    async with rig() as r:
        answer = await r.run(lambda c: c.request("GET http://policy.local/crash HTTP/1.1\nHost: x\n\n"))
        assert (answer.status, answer.json["error"]) == (500, "internal_error")
        assert "a bug" in capsys.readouterr().err
        assert r.plane._local.active == 0


@pytest.mark.parametrize("door", ["forward", "socks", "capture"])
@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_b3_framing_with_two_readings_never_reaches_the_handler(door: str, name: str) -> None:
    """And nothing behind it is read: here a second request would be one of the agent's that nobody refuses."""
    fields, body = AMBIGUOUS[name]
    at = "http://policy.local" if door == "forward" else ""
    head = f"POST {at}/v1/proposals HTTP/1.1\r\nHost: policy.local\r\n".encode()
    smuggled = f"GET {at}/v1/smuggled HTTP/1.1\r\nHost: policy.local\r\n\r\n".encode()
    async with rig() as r:

        def talk(client: Client) -> tuple[int, bool]:
            if door == "socks":
                client.send(b"\5\1\0\5\1\0\3\x0cpolicy.local\0\x50")
                assert client.read(12)[3] == 0
            client.send(head + fields + b"\r\n" + body + smuggled)
            status = client.response().status
            try:
                while client.socket.recv(65536):
                    raise AssertionError("more than one answer")
            except ConnectionResetError:
                pass
            return status, True

        if door == "capture":
            r.going_to("policy.local", 80)
        status, _ = await r.run(talk, r.captured if door == "capture" else r.address)
        assert status in (400, 411)
        assert not r.local.started.is_set()


@pytest.mark.parametrize("door", ["forward", "socks", "capture"])
async def test_b4_a_pipelined_second_request_is_not_answered(door: str) -> None:
    at = "http://policy.local" if door == "forward" else ""
    ask = f"GET {at}/v1/first HTTP/1.1\r\nHost: policy.local\r\n\r\n"
    async with rig() as r:

        def talk(client: Client) -> tuple[str, bool]:
            if door == "socks":
                client.send(b"\5\1\0\5\1\0\3\x0cpolicy.local\0\x50")
                client.read(12)
            client.send((ask + ask.replace("first", "second")).encode())
            return client.response().json["path"], client.closed()

        if door == "capture":
            r.going_to("policy.local", 80)
        assert await r.run(talk, r.captured if door == "capture" else r.address) == ("/v1/first", True)
