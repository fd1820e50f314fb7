"""The sandbox's log files: exact lines, rotation, bounds, and what an agent reads from `/v1/denials`."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.audit.events import Action, Actor, ConfigEvent, Event, HttpEvent, NetworkEvent, Severity
from pyopenshell.supervisor import logs
from pyopenshell.supervisor.logs import AuditLog, DenialRing, cut

NOON = datetime.datetime(2026, 3, 1, 12, 0, 0, 678_000, datetime.UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def denied(path: str = "/x", host: str = "api.test") -> HttpEvent:
    return HttpEvent(
        "PUT",
        Severity.MEDIUM,
        Action.DENIED,
        scheme="https",
        host=host,
        port=443,
        path=path,
        actor=Actor("/usr/bin/curl", 7),
        policy="readonly",
        reason=f"L7_REQUEST deny PUT {host}:443{path}",
    )


def opened(directory: Path, clock: Clock | None = None, **options: Any) -> AuditLog:
    log = AuditLog(directory / "log", "sb-1", clock=clock or Clock(), **options)
    log.open()
    return log


async def test_lines_have_the_contracts_form_and_the_file_is_readable_inside(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        log = opened(tmp_path)
    finally:
        os.umask(before)
    log.emit(denied())
    log.emit(ConfigEvent("LOADED", "Policy reloaded successfully", fields=(("policy_hash", "ab"),)))
    await log.close()
    file = tmp_path / "log" / "openshell.2026-03-01.log"
    first, second = file.read_text().splitlines()
    assert first == (
        "2026-03-01T12:00:00.678Z OCSF HTTP:PUT [MED] DENIED PUT http://api.test:443/x "
        "[policy:readonly engine:l7] [reason:L7_REQUEST deny PUT api.test:443/x]"
    )
    assert second == "2026-03-01T12:00:00.678Z OCSF CONFIG:LOADED [INFO] Policy reloaded successfully [policy_hash:ab]"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


async def test_a_new_file_each_utc_day_and_three_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    log = opened(tmp_path, clock)
    foreign = tmp_path / "log" / "openshell.notes"
    foreign.write_text("mine")
    for _ in range(5):
        log.emit(denied())
        await log.flush()
        clock.now += 86_400
    await log.close()
    names = sorted(os.listdir(tmp_path / "log"))
    assert names == [
        "openshell.2026-03-03.log",
        "openshell.2026-03-04.log",
        "openshell.2026-03-05.log",
        "openshell.notes",
    ]


async def test_json_lines_only_while_the_setting_is_on_and_the_file_comes_with_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.emit(denied("/before"))
    log.enable_ocsf(True)
    file = tmp_path / "log" / "openshell-ocsf.2026-03-01.log"
    assert file.exists()
    log.emit(denied("/during"))
    log.enable_ocsf(False)
    log.emit(denied("/after"))
    await log.close()
    (record,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert record["http_request"]["url"]["path"] == "/during"
    assert (record["class_uid"], record["time"], record["metadata"]["uid"]) == (4002, int(NOON * 1000), "sb-1")


async def test_a_slow_disk_loses_lines_loudly_and_never_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path, queue_limit=10)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = log._write

    def slow(batch: list[tuple[str, str]]) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        real(batch)

    monkeypatch.setattr(log, "_write", slow)
    for number in range(40):
        log.emit(denied(f"/{number}"))
    assert log.lost == 30
    gate.set()
    await log.flush()
    text = (tmp_path / "log" / "openshell.2026-03-01.log").read_text()
    assert text.count("HTTP:PUT") == 10
    assert "30 audit lines could not be written" in text
    await log.close()


async def test_a_failing_disk_is_survived_and_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = opened(tmp_path)
    real = log._write

    def full(batch: list[tuple[str, str]]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_write", full)
    log.emit(denied("/lost"))
    await log.flush()
    assert (log.lost, log.available) == (1, False)
    assert "No space left" in capsys.readouterr().err
    assert "/lost" in log.denials.newest(1)[0], "the agent still sees its refusal"
    monkeypatch.setattr(log, "_write", real)
    log.emit(denied("/kept"))
    await log.flush()
    assert log.available
    await log.close()
    text = (tmp_path / "log" / "openshell.2026-03-01.log").read_text()
    assert "/kept" in text
    assert "1 audit lines could not be written" in text


async def test_an_unusable_directory_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the directory should be")
    log = opened(tmp_path)
    assert not log.available
    log.emit(denied())
    await log.flush()
    assert len(log.denials.newest(10)) == 1
    await log.close()


async def test_events_are_forwarded_without_their_time_stamp(tmp_path: Path) -> None:
    log = opened(tmp_path)
    seen: list[tuple[int, Event, str]] = []
    log.forward_to(lambda time_ms, event, text: seen.append((time_ms, event, text)))
    event = denied("/a OCSF b")
    log.emit(event)
    ((time_ms, same, text),) = seen
    assert (time_ms, same) == (int(NOON * 1000), event)
    assert text.startswith("HTTP:PUT [MED] DENIED ")
    await log.close()


@pytest.mark.parametrize(
    "allowed",
    [
        HttpEvent("GET", Severity.INFO, Action.ALLOWED, "https", "api.test", 443, "/first"),
        NetworkEvent("OPEN", Severity.INFO, Action.ALLOWED, "first.test", 443, policy="/first", engine="opa"),
    ],
)
async def test_what_was_allowed_is_formatted_later_but_in_order(tmp_path: Path, allowed: Event) -> None:
    log = opened(tmp_path)
    seen: list[str] = []
    done = asyncio.Event()

    def forward(_ms: int, _event: Event, text: str) -> None:
        seen.append(text)
        done.set()

    log.forward_to(forward)
    log.emit(allowed)
    assert seen == [], "not while its request is on its way"
    log.emit(denied("/second"))
    assert ["/first" in seen[0], "/second" in seen[1]] == [True, True]
    done.clear()
    log.emit(allowed)
    async with asyncio.timeout(5):
        await done.wait()  # nothing else happens: the wait is bounded by itself
    for _ in range(logs.SETTLE_EVENTS):
        log.emit(allowed)
    assert len(seen) == 3 + logs.SETTLE_EVENTS, "and so is the number"
    log.emit(allowed)
    await log.close()
    text = (tmp_path / "log" / "openshell.2026-03-01.log").read_text()
    assert text.count("/first") == 3 + logs.SETTLE_EVENTS


async def test_the_same_event_again_has_its_own_time_and_day(tmp_path: Path) -> None:
    """Its text is not formatted twice; around midnight lines that are written together go to two files."""
    midnight = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC).timestamp()
    clock = Clock(midnight - 0.01)
    log = opened(tmp_path, clock)
    event = denied("/again")._replace(action=Action.ALLOWED, severity=Severity.INFO)
    for now in (midnight - 0.01, midnight - 0.001, midnight, midnight + 0.002, midnight - 0.001):
        clock.now = now
        log.emit(event)
    for number in range(3):
        log.emit(event._replace(path=f"/other/{number}"))
    await log.close()
    before, after = ((tmp_path / "log" / f"openshell.2026-03-0{day}.log").read_text().splitlines() for day in (1, 2))
    assert [line[17:24] for line in before[:3]] == ["59.990Z", "59.999Z", "59.999Z"]
    assert [line[:24] for line in after] == ["2026-03-02T00:00:00.000Z", "2026-03-02T00:00:00.002Z"]
    assert [line.count("/again ") for line in (*before, *after)] == [1, 1, 1, 0, 0, 0, 1, 1]
    assert [f"/other/{number} " in before[3 + number] for number in range(3)] == [True] * 3


async def test_of_many_refusals_the_first_is_written_at_once_and_none_is_lost(tmp_path: Path) -> None:
    log = opened(tmp_path)
    file = tmp_path / "log" / "openshell.2026-03-01.log"
    log.emit(denied("/0"))
    async with asyncio.timeout(60):
        while "/0 " not in file.read_text():
            await asyncio.sleep(0)
        for number in range(1, 500):
            log.emit(denied(f"/{number}"))
        assert "/499 " in log.denials.newest(1)[0], "whoever asks for them does not wait for the disk"
        while "/499 " not in file.read_text():
            await asyncio.sleep(0.01)  # nothing else happens: the wait is bounded by itself
    assert [line.partition("api.test:443/")[2].split()[0] for line in file.read_text().splitlines()] == [
        str(number) for number in range(500)
    ]
    await log.close()


async def test_emitting_never_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = opened(tmp_path)

    def broken(time_ms: int, event: Event, text: str) -> None:
        raise RuntimeError("the link is broken")

    log.forward_to(broken)
    log.emit(denied())
    log.emit(denied())
    await log.close()
    assert (tmp_path / "log" / "openshell.2026-03-01.log").read_text().count("HTTP:PUT") == 2
    assert capsys.readouterr().err.count("the link is broken") == 1


async def test_only_refusals_by_action_count_not_the_word_in_a_path(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.emit(HttpEvent("GET", Severity.INFO, Action.ALLOWED, "https", "a.test", 443, "/x OCSF NET:OPEN [MED] DENIED y"))
    log.emit(NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, "b.test", 443, policy="-", engine="opa"))
    assert len(log.denials.newest(10)) == 1
    assert "b.test:443" in log.denials.newest(1)[0]
    await log.close()


async def test_a_restarted_supervisor_remembers_earlier_refusals(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for number in range(3):
        first.emit(denied(f"/{number}"))
    first.emit(ConfigEvent("LOADED", "x"))
    await first.close()
    again = opened(tmp_path)
    assert [line.split(" [policy")[0][-2:] for line in again.denials.newest(10)] == ["/2", "/1", "/0"]
    await again.close()


async def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "log" / "openshell.2026-03-01.log").symlink_to(victim)
    log = opened(tmp_path)
    log.emit(denied())
    await log.close()
    assert victim.read_text() == ""


def test_the_ring_keeps_a_hundred_newest_first() -> None:
    ring = DenialRing()
    for number in range(250):
        ring.add(f"line {number}")
    assert ring.newest(3) == ["line 249", "line 248", "line 247"]
    assert len(ring.newest(1000)) == 100


def test_queries_go_before_the_cut_so_half_a_secret_cannot_stay() -> None:
    ring = DenialRing()
    ring.add("t OCSF x DENIED http://h/" + "a" * 4000 + "?token=SECRET" + "b" * 5000 + " [policy:p]")
    (line,) = ring.newest(1)
    assert "SECRET" not in line
    assert line.endswith("?[redacted] [policy:p]")
    assert len(line.encode()) <= logs.DENIAL_LINE_LIMIT


@given(st.text(min_size=1, max_size=20).map(lambda text: text * 900))
def test_the_cut_is_bounded_and_between_characters(line: str) -> None:
    short = cut(line)
    short.encode("utf-8", "surrogateescape")
    if short != line:
        assert short.endswith("...[truncated]")
        body = short.removesuffix("...[truncated]")
        assert line.startswith(body)
        assert logs.DENIAL_LINE_LIMIT - 4 < len(body.encode("utf-8", "surrogateescape")) <= logs.DENIAL_LINE_LIMIT
