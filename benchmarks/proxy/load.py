"""A load generator without a compiler: the options of `lg.c` that the relay benchmark uses, a thread per connection."""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import ssl
import threading
import time


class Worker(threading.Thread):
    def __init__(self, options: argparse.Namespace, start: float) -> None:
        super().__init__(daemon=True)
        self.options = options
        self.first = start + options.warm
        self.last = self.first + options.secs
        self.times: list[float] = []
        self.errors = self.bad = 0
        close = "Connection: close\r\n" if options.new else ""
        rest = f" HTTP/1.1\r\nHost: {options.host}\r\nAccept: */*\r\n{close}\r\n"
        tails = [f"/{number}" for number in range(64)] if options.vary else [""]
        self.requests = itertools.cycle(f"GET {options.path}{tail}{rest}".encode() for tail in tails)
        self.context = ssl.create_default_context(cafile=options.ca)
        self.context.set_alpn_protocols(["http/1.1"])

    def open(self) -> ssl.SSLSocket:
        host, _, port = self.options.addr.rpartition(":")
        raw = socket.create_connection((host, int(port)), 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.options.connect:
            raw.sendall(f"CONNECT {self.options.connect} HTTP/1.1\r\nHost: {self.options.connect}\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += raw.recv(4096)
        return self.context.wrap_socket(raw, server_hostname=self.options.sni)

    def run(self) -> None:
        connection: ssl.SSLSocket | None = None
        while (began := time.perf_counter()) < self.last:
            try:
                if connection is None:
                    connection = self.open()
                connection.sendall(next(self.requests))
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = len(head.partition(b"\r\n\r\n")[2])
                while body < size:
                    body += len(connection.recv(65536))
                self.bad += not head.startswith(b"HTTP/1.1 200")
            except OSError:
                self.errors += 1
                connection = None
                continue
            if self.options.new:
                connection.close()
                connection = None
            if began >= self.first:
                self.times.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--addr", "--connect", "--ca", "--sni", "--host", "--path"):
        parser.add_argument(name)
    parser.add_argument("--conns", type=int, default=1)
    parser.add_argument("--secs", type=float, default=1)
    parser.add_argument("--warm", type=float, default=0.2)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--vary", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    workers = [Worker(options, start) for _ in range(options.conns)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    times = sorted(taken * 1e6 for worker in workers for taken in worker.times)
    result = {
        "reqs": len(times),
        "rps": len(times) / options.secs,
        "p50": times[len(times) // 2] if times else 0.0,
        "p99": times[len(times) * 99 // 100] if times else 0.0,
        "errs": sum(worker.errors for worker in workers),
        "bad": sum(worker.bad for worker in workers),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
