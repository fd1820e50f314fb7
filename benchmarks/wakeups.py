"""What this machine charges for waking a process on another CPU: the floor under every relay's added latency.

    python -m benchmarks.wakeups [seconds]

Two processes send one byte to and fro over loopback TCP, on one CPU and on two. On one the other runs as soon as the
first one waits; on two a sleeping CPU is woken for every byte. "direct" in `benchmarks.proxy` has client and origin on
one CPU and pays no such wake-up; a relay on a CPU of its own causes four for each request.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import sys
import time

WAKE_UPS = 4


def echo(listener: socket.socket, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while byte := peer.recv(1):
        peer.send(byte)


def round_trip(cpus: tuple[int, int], seconds: float) -> float:
    """Median, in microseconds."""
    listener = socket.create_server(("127.0.0.1", 0))
    other = multiprocessing.get_context("fork").Process(target=echo, args=(listener, cpus[1]))
    other.start()
    os.sched_setaffinity(0, {cpus[0]})
    taken: list[int] = []
    with socket.create_connection(listener.getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            begin = time.perf_counter_ns()
            peer.send(b"x")
            peer.recv(1)
            taken.append(time.perf_counter_ns() - begin)
    other.join()
    listener.close()
    return statistics.median(taken) / 1000


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("needs two CPUs")
    same = round_trip((cpus[1], cpus[1]), seconds)
    across = round_trip((cpus[1], cpus[0]), seconds)
    one = (across - same) / 2
    print(f"round trip on one CPU {same:.1f} us, across two {across:.1f} us: one wake-up costs {one:.1f} us")
    print(f"a relay on a CPU of its own cannot add less than {WAKE_UPS} of them: {WAKE_UPS * one:.0f} us")


if __name__ == "__main__":
    main()
