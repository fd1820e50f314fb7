"""Run on a machine made poorer: one sandbox with the user's word, looked at from inside. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pyopenshell.drivers.base import ExecRequest
from tests.drivers.conftest import FAKE
from tests.drivers.sandboxes import Box

URLS = (
    "http://1.1.1.1:8443/",
    "http://10.200.0.7/",
    "http://[2606:4700:4700::1111]/",
    "http://[::ffff:1.1.1.1]/",
)
LISTENER = """
import socket
server = socket.create_server(('127.0.0.1', 8000))
client = socket.create_connection(('127.0.0.1', 8000))
server.accept()[0].sendall(b'hello')
print(client.recv(9).decode(), end='')
"""
REFUSED = """
import errno, socket
for family, host in ((socket.AF_INET, '192.0.2.1'), (socket.AF_INET6, '2001:db8::1')):
    try: socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (host, 443)); print('SENT')
    except OSError as error: print(errno.errorcode[error.errno])
"""
RACING = """
# One thread connects to its own listener; another writes a foreign address over the one being read.
import ctypes, socket, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
server = socket.create_server(('127.0.0.1', 8001))
own = struct.pack('=H', 2) + struct.pack('!H', 8001) + bytes([127, 0, 0, 1]) + bytes(8)
other = struct.pack('=H', 2) + struct.pack('!H', 80) + bytes([192, 0, 2, 1]) + bytes(8)
memory = ctypes.create_string_buffer(own, 16)
over = False
def flip():
    while not over:
        ctypes.memmove(memory, other, 16)
        ctypes.memmove(memory, own, 16)
thread = threading.Thread(target=flip)
thread.start()
bad = 0
for _ in range(300):
    s = socket.socket()
    s.settimeout(5)
    if libc.connect(s.fileno(), memory, 16) == 0:
        # Its own listener says nothing; the proxy's door answers HTTP. Anything else would be somebody outside.
        try: peer = s.getpeername()[0]
        except OSError: peer = 'gone'
        bad += peer not in ('127.0.0.1', '192.0.2.1', 'gone')
    s.close()
over = True
thread.join()
print(bad)
"""


async def look(box: Box) -> dict[str, Any]:
    captured = {url: await box.ask("/usr/bin/curl", "-gsS", "--noproxy", "*", url) for url in URLS}
    proxied = await box.ask()
    status = await box.sh("grep ^Cap /proc/self/status | cut -f2 | sort -u")
    terminal = await box.driver.exec("one", ExecRequest(["/bin/sh", "-c", "echo x >/dev/tty; echo $?; tty"], tty=True))
    shown = b"".join([data async for _, data in terminal.output()]).decode().replace("\r", "")
    await terminal.aclose()
    return {
        "tier": box.status.tier,
        "captured": {url: [answer["target"], answer["exe"]] for url, answer in captured.items()},
        "proxied": [proxied["target"], proxied["exe"]],
        "own listener": (await box.python(LISTENER)).out,
        "refused": (await box.python(REFUSED)).out.split(),
        "racing": int((await box.python(RACING)).out),
        "id": (await box.sh("echo $(id -un) $(stat -c %U /sandbox)")).out,
        "capabilities": status.out.split(),
        "writable": (
            await box.sh("for d in / /usr /etc /sandbox /tmp /run /dev/shm; do touch $d/x 2>/dev/null && echo $d; done")
        )
        .out.replace("\n", " ")
        .strip(),
        "shadow": (await box.sh("cat /etc/shadow /proc/1/environ 2>/dev/null")).out,
        "killed": (await box.sh("kill -9 1 2>/dev/null; echo still")).out.strip(),
        "terminal": shown.removeprefix("x\n").strip(),
    }


async def main(state: Path) -> dict[str, Any]:
    box = Box(state, FAKE)
    try:
        await box.create(accept_weaker=True)
        return await look(box)
    finally:
        await box.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
