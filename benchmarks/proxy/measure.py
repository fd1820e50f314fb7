"""What is measured, of one target at a time: a slice of load, or its memory with connections open."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.proxy import programs
from benchmarks.proxy.targets import GIB, ROOT, TARGETS, Target, World, cpu_seconds, moved, pin, rss_mib

RATE = ["--secs", "1.0", "--warm", "0.2"]
SMALL = ["--path", "/v1/messages", "--vary", "64", *RATE]
NOVEL = ["--path", "/v1/messages", "--vary", "4096", *RATE]
"""More paths than anybody's memory of verdicts holds."""
BULK = ["--path", "/big/1g.bin", "--conns", "1", "--reqs", "1", "--expect-bytes", str(GIB)]
IDLE = 1000
"""Connections open while memory is measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Test:
    """`kind` is the traffic of `Target.arguments`; `shows` the values of the generator that count.

    `apart`: the origin runs on the other CPU than the generator, as the peer of a real connection does.
    """

    title: str
    kind: str
    options: list[str]
    shows: tuple[str, ...] = ("rps", "p50", "p99")
    apart: bool = False


TESTS = {
    "ka1": Test("inspected HTTPS, keep-alive, 1 connection", "https", [*SMALL, "--conns", "1"]),
    "ka1apart": Test(
        "the same with the origin across CPUs from the client", "https", [*SMALL, "--conns", "1"], apart=True
    ),
    "ka16": Test("inspected HTTPS, keep-alive, 16 connections", "https", [*SMALL, "--conns", "16"]),
    "ka16novel": Test("the same, each path for the first time", "https", [*NOVEL, "--conns", "16"]),
    "ka64": Test("inspected HTTPS, keep-alive, 64 connections", "https", [*SMALL, "--conns", "64"]),
    "new": Test("new inspected connections, 16 at a time", "https", [*SMALL, "--conns", "16", "--new"]),
    "deny": Test("refused requests (403), 16 connections", "deny", ["--conns", "16", "--status", "403", *RATE]),
    "forward": Test("plain HTTP forwarded, 16 connections", "forward", [*SMALL, "--conns", "16"]),
    "bulk": Test("1 GiB inspected", "https", BULK, ("secs", "cpu_per_gib")),
    "tunnel": Test("1 GiB through a tunnel", "tunnel", BULK, ("secs", "cpu_per_gib")),
    "sse": Test(
        "server-sent events, 8 streams: written to read", "sse", ["--path", "/sse", "--sse", "--conns", "8", *RATE]
    ),
}
MEMORY = {
    "idle": "no connection",
    "tunnels": f"{IDLE:,} idle tunnels",
    "inspected": f"{IDLE:,} idle inspected connections",
}


def run(target: Target, test: Test, world: World) -> dict[str, Any]:
    """One slice. Raises SystemExit when it went wrong: a number from a broken run is worse than none."""
    with moved(world.origin_pid, 0) if test.apart else contextlib.nullcontext():
        return _slice(target, test)


def _slice(target: Target, test: Test) -> dict[str, Any]:
    arguments = [str(programs.GENERATOR), *test.options, *target.arguments[test.kind]]
    before = cpu_seconds(target.pid) if target.pid else 0.0
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120, preexec_fn=lambda: pin(1)
    )
    if done.returncode:
        raise SystemExit(f"{target.name}: load generator failed: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["bad"] or not result["reqs"] or result["errs"] > result["reqs"] / 100:
        raise SystemExit(f"{target.name}, {test.title}: {result}")
    used = cpu_seconds(target.pid) - before if target.pid else 0.0
    return {key: result[key] for key in ("rps", "p50", "p99", "secs")} | {"cpu_per_gib": used}


def memory(name: str, world: World) -> dict[str, float]:
    """RSS in MiB of fresh processes: after one request, then with connections that do nothing."""
    found = {}
    with TARGETS[name](world) as target:
        _slice(target, Test("", "https", ["--path", "/v1/messages", "--conns", "1", "--reqs", "1"]))
        found["idle"] = rss_mib(target.pid)
        if "tunnel" in target.arguments:
            found["tunnels"] = _held(target, "tunnel")
    with TARGETS[name](world) as target:
        found["inspected"] = _held(target, "https")
    return found


def _held(target: Target, kind: str) -> float:
    arguments = [str(programs.GENERATOR), "--idle", "--conns", str(IDLE), *target.arguments[kind]]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        line = holder.stdout.readline()
        if not line.startswith(f"READY {IDLE} errs 0"):
            holder.kill()
            raise SystemExit(f"{target.name}: {line}")
        return rss_mib(target.pid)


def place() -> tempfile.TemporaryDirectory[str]:
    """Where the files of a run lie: in memory, so that no disk is measured."""
    folder = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="openshell-bench-", dir=folder if folder.is_dir() else None)


def chosen(names: Iterable[str], known: Mapping[str, object]) -> list[str]:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return [name for name in known if name in set(names)]
