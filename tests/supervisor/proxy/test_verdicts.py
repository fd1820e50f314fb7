"""What is remembered of earlier verdicts: for all connections of one program, never beyond it or the policy."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest

from pyopenshell.audit.events import Action, HttpEvent, Severity
from pyopenshell.policy.decision import Cell, Connection, Decision
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.model import Policy
from pyopenshell.supervisor.proxy.verdicts import LONGEST, Verdicts
from tests.supervisor.proxy.rig import CURL, Client, Response, Upstream, rest, rig, rule

API = rule("api", rest("api.test", ("GET", "/pub/**"), port=80))
NARROWER = rule("api", rest("api.test", ("GET", "/pub/b"), port=80))
EVENT = HttpEvent("GET", Severity.INFO, Action.ALLOWED, "http", "api.test", 80, "/pub/a")
WGET = dataclasses.replace(CURL, exe="/usr/bin/wget")


def get(client: Client) -> int:
    client.connect("api.test:80")
    return client.request("GET /pub/a HTTP/1.1\nHost: api.test\n\n").status


async def test_the_next_connection_asks_the_engine_nothing_but_is_logged(
    plain_upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:
        cell = r.current.engine.connect(Connection("api.test", 80, CURL.exe, CURL.ancestors))
        asked: list[str] = []
        decide = type(cell).decide

        def counted(self: Cell, method: str, target: str) -> Decision:
            asked.append(target)
            return decide(self, method, target)

        monkeypatch.setattr(type(cell), "decide", counted)
        assert [await r.run(get), await r.run(get)] == [200, 200]
        assert asked == ["/pub/a"]
        assert [line for line in r.log.lines() if line.startswith("HTTP:")] == [
            "HTTP:GET [INFO] ALLOWED GET http://api.test/pub/a [policy:api engine:l7]"
        ] * 2


async def test_a_refusal_that_comes_again_has_an_id_event_and_count_of_its_own(plain_upstream: Upstream) -> None:
    def ask(client: Client) -> list[Response]:
        client.connect("api.test:80")
        close = "Connection: close\n"
        return [client.request(f"GET /no HTTP/1.1\nHost: api.test\n{more}\n") for more in ("", "", close)]

    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:
        answers = await r.run(ask)
        r.current.proposals_enabled = True
        answers += await r.run(ask)
        assert [answer.status for answer in answers] == [403] * 6
        ids = [answer.json["denial_id"] for answer in answers]
        assert len(set(ids)) == 6
        assert (
            ids == [denial.id for denial in r.denials] == [answer.headers["x-openshell-denial"] for answer in answers]
        )
        assert [f"[denial:{one}]" in line for one, line in zip(ids, r.log.lines()[1:4], strict=False)] == [True] * 3
        without = [{**answer.json, "denial_id": ""} for answer in answers]
        assert without[0] == without[1] == without[2] != without[3] == without[4] == without[5]
        assert [bool(answer.json["next_steps"]) for answer in answers] == [False] * 3 + [True] * 3
        assert ["connection" in answer.headers for answer in answers] == [False, False, True] * 2
        assert all(one in answer.headers["proxy-status"] for one, answer in zip(ids, answers, strict=True))


async def test_nothing_is_remembered_across_policies(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:
        assert await r.run(get) == 200
        r.set_policy(NARROWER)
        assert await r.run(get) == 403
        r.set_policy(API)
        assert await r.run(get) == 200


async def test_one_program_s_permit_is_no_other_s(plain_upstream: Upstream) -> None:
    other = rule("other", rest("api.test", ("GET", "/other"), port=80), binaries=(WGET.exe,))
    async with rig(API, other, upstreams={("api.test", 80): plain_upstream.address}) as r:
        assert await r.run(get) == 200
        r.identifier.identity = WGET
        assert await r.run(get) == 403


async def test_a_refusal_names_the_program_that_was_refused(plain_upstream: Upstream) -> None:
    """Programs that one pattern lets in share their rights, and each is told of itself."""

    def refused(client: Client) -> Response:
        client.connect("api.test:80")
        return client.request("GET /no HTTP/1.1\nHost: api.test\n\n")

    every = rule("every", rest("api.test", ("GET", "/pub/**"), port=80), binaries=("/usr/bin/*",))
    async with rig(every, upstreams={("api.test", 80): plain_upstream.address}) as r:
        told = []
        for program in (CURL, WGET, CURL):
            r.identifier.identity = program
            told.append((await r.run(refused)).json["binary"])
        assert told == [CURL.exe, WGET.exe, CURL.exe] == [denial.binary for denial in r.denials]


def test_a_program_that_never_asks_the_same_thing_twice_costs_no_memory() -> None:
    cell = compile_policy(Policy(rules=(API,))).connect(Connection("api.test", 80, CURL.exe))
    verdicts = Verdicts(most=3)
    for number in range(10):
        question = cast("Cell", cell), CURL.exe, "http", "GET", f"/{number}"
        if number % 2:
            verdicts.permit(question, Decision(True), EVENT)
        else:
            verdicts.refuse(question, Decision(False))
        assert 1 <= len(verdicts.permits) + len(verdicts.refusals) <= 3
    verdicts.clear()
    long = cast("Cell", cell), CURL.exe, "http", "GET", "/" + "x" * LONGEST
    verdicts.permit(long, Decision(True), EVENT)
    assert verdicts.refuse(long, Decision(False)) is None
    assert not verdicts.permits
    assert not verdicts.refusals
