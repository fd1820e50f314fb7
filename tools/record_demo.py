"""Record `openshell demo --yes` on a real terminal and draw it as docs/demo.svg.

python tools/record_demo.py
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import pty
import re
import struct
import sys
import termios

from rich.console import Console
from rich.text import Text

WIDTH = 104
OUT = pathlib.Path(__file__).parent.parent / "docs" / "demo.svg"
OPENSHELL = pathlib.Path(sys.executable).with_name("openshell")


def record() -> str:
    """The demo's output, with colours, as a terminal of WIDTH columns received it."""
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 60, WIDTH, 0, 0))
        os.execve(OPENSHELL, ["openshell", "demo", "--yes"], {**os.environ, "TERM": "xterm-256color"})  # noqa: S606
    chunks = []
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        chunks.append(data)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit("the demo failed; nothing was written")
    return b"".join(chunks).decode().replace("\r\n", "\n")


def main() -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    story = record().split("  The audit trail")[0].rstrip()
    console.print(Text.from_ansi(story))
    drawing = console.export_svg(title="openshell demo --yes")
    # The reader's own monospace font will do: no download from a third party.
    OUT.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.S))


if __name__ == "__main__":
    main()
