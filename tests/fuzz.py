"""Coverage-guided fuzzing of every parser that eats bytes of a sandbox or of an upstream, with Atheris (`make fuzz`).

    python -m tests.fuzz               every target, FUZZ_SECONDS (60) each, one after the other
    python -m tests.fuzz socks dns     these

What leads to new code is kept in `.fuzz/corpus`, so that the next run goes on there; what breaks a law is written to
`.fuzz/found`, and repeated by `python -m tests.fuzz --one TARGET FILE`. Each target runs in a process of its own, with
at most 1 GiB of memory and 10 s for one input. The laws are those of `tests.supervisor.proxy.targets`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".fuzz"
SECONDS = int(os.environ.get("FUZZ_SECONDS") or 60)


def one(name: str, *more: str) -> None:
    """Fuzz one target in this process; ends it."""
    sys.path.insert(0, str(FOLDER / "atheris"))
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["pyopenshell", "tests.supervisor.proxy.targets", "wsproto"]):
        from tests.supervisor.proxy.targets import TARGETS

    target, seeds = TARGETS[name]
    corpus = FOLDER / "corpus" / name
    (FOLDER / "found").mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(b"\x03" + seed)

    def feed(data: bytes) -> None:
        """The first byte says how the rest is cut."""
        if data:
            target(data[1:], [data[0] & 15 or 1, data[0] >> 4 or 1])

    limits = [f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=4096"]
    limits.append("-print_final_stats=1")
    atheris.Setup([name, *limits, f"-artifact_prefix={FOLDER / 'found'}/{name}-", *(more or [str(corpus)])], feed)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    from tests.supervisor.proxy.targets import TARGETS

    failed = []
    for name in arguments or TARGETS:
        if name not in TARGETS:
            raise SystemExit(f"no target {name}: one of {', '.join(TARGETS)}")
        command = [sys.executable, "-m", "tests.fuzz", "--one", name]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        figures = dict(line.split(": ", 1) for line in done.stderr.splitlines() if line.startswith("stat::"))
        inputs = figures.get("stat::number_of_executed_units", "?").strip()
        memory = figures.get("stat::peak_rss_mb", "?").strip()
        print(f"{name:<16} {inputs:>10} inputs, {memory} MiB{'' if not done.returncode else '  BROKEN'}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-4000:])
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    sys.exit(main(sys.argv[1:]))
