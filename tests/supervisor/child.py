"""Runs one supervisor in a process of its own: `python -m tests.supervisor.child SPEC CONTROL_FD`."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from pathlib import Path

from pyopenshell.supervisor.process import main

if __name__ == "__main__":
    os._exit(main(pickle.loads(Path(sys.argv[1]).read_bytes()), socket.socket(fileno=int(sys.argv[2]))))
