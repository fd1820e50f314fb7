"""The Python that runs a container's init: a private copy of this interpreter, with the C library it was built for.

An image may hold any C library or none, and no Python. So the copy brings its own dynamic loader and is started through
it; nothing of the image is used, and nothing of the host is mounted but this copy. Decides what belongs to it.

<state>/runtime-<digest>/bin/python3, lib/ld.so, lib/*.so.*, lib/python3.X/ (only what the init imports)
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import py_compile
import secrets
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable

import pyopenshell
from pyopenshell.isolation.walls import WallError

INSIDE = "/.openshell"
INSIDE_DOOR = "/.openshell-door"
"""Where the copy and the door appear in a container; commands may not read them (Landlock)."""
_ENTRY = "pyopenshell.isolation.guest"
_START = f"import sys, {_ENTRY} as guest; guest.main(sys.argv[1])"
"""Not -m: that needs modules which nothing else here does."""
_LIST = """\
import encodings.ascii, encodings.latin_1, importlib, json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
importlib.import_module(sys.argv[2])
files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
print(json.dumps([os.path.dirname(os.__file__), files]))
"""


def command(door: str) -> list[str]:
    """What starts the init inside; `door` is the socket there on which it reports."""
    loader = [f"{INSIDE}/lib/ld.so", "--inhibit-cache", "--library-path", f"{INSIDE}/lib"]
    return [*loader, f"{INSIDE}/bin/python3", "-I", "-S", "-B", "-X", "utf8", "-c", _START, door]


def install(state: str) -> str:
    """The copy below `state`, made if it is not there yet; copies of other versions are removed. Raises WallError."""
    try:
        library, modules, programs = _inventory()
        wanted = {**modules, **programs}
        final = os.path.join(state, f"runtime-{_digest(wanted)}")
        for name in os.listdir(state):
            if name.startswith("runtime-") and os.path.join(state, name) != final:
                shutil.rmtree(os.path.join(state, name), ignore_errors=True)
        if not os.path.isdir(final):
            _copy(wanted, library, final)
    except (OSError, ValueError, subprocess.SubprocessError, py_compile.PyCompileError) as error:
        raise WallError(
            "RuntimeNotCopied",
            f"this Python cannot be copied for containers: {error}",
            "run the gateway with a dynamically linked CPython, and free space in the state directory",
        ) from error
    return final


def _inventory() -> tuple[str, dict[str, str], dict[str, str]]:
    """(lib/python3.X, {path in the copy: source} of modules, the same of interpreter, loader and libraries)."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(pyopenshell.__file__)))
    listed = _output([sys.executable, "-I", "-S", "-c", _LIST, package, _ENTRY])
    standard, files = json.loads(listed)
    library = f"lib/{os.path.basename(standard)}"
    modules, extensions = {}, []
    for file in files:
        base = next(base for base in (standard, package) if file.startswith(base + os.sep))
        modules[f"{library}/{os.path.relpath(file, base)}"] = file
        if ".so" in os.path.basename(file):
            extensions.append(file)
    python = os.path.realpath(sys.executable)
    loader = _loader(python)
    programs = {"bin/python3": python, "lib/ld.so": loader}
    for file in (python, *extensions):
        programs |= {f"lib/{name}": path for name, path in _libraries(loader, file)}
    return library, modules, programs


def _output(argv: list[str]) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"{argv[0]}: {done.stderr.strip()[-500:] or f'exit code {done.returncode}'}")
    return done.stdout


def _loader(path: str) -> str:
    """The dynamic loader that an ELF program names (PT_INTERP). Raises ValueError for one that names none."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if head[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path} is no little-endian 64-bit ELF program")
    table, (size, count) = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<HH", head, 54)
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", head, table + index * size)
        if kind == 3:
            return head[offset : offset + length].rstrip(b"\0").decode()
    raise ValueError(f"{path} is linked statically")


def _libraries(loader: str, path: str) -> Iterable[tuple[str, str]]:
    """(name it is looked up by, file) of everything that `path` needs."""
    for line in _output([loader, "--list", path]).splitlines():
        name, arrow, found = line.strip().partition(" => ")
        if arrow and os.path.basename(name) == name:
            yield name, found.rpartition(" (0x")[0] or found


def _digest(wanted: dict[str, str]) -> str:
    """Changes with every file that an upgrade changes."""
    text = []
    for name, source in sorted(wanted.items()):
        info = os.stat(source)
        text.append((name, info.st_size, info.st_mtime_ns))
    return hashlib.sha256(repr(text).encode()).hexdigest()[:12]


def _copy(wanted: dict[str, str], library: str, final: str) -> None:
    draft = f"{final}.{secrets.token_hex(4)}"
    try:
        os.makedirs(f"{draft}/{library}/lib-dynload")  # the interpreter looks for it, empty or not
        for name, source in wanted.items():
            target = os.path.join(draft, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(source, target)  # with its time: the compiled copy beside it is valid for that one
            os.chmod(target, 0o755 if name in ("bin/python3", "lib/ld.so") else 0o644)
            if name.endswith(".py"):
                _compiled(source, target)
        try:
            os.rename(draft, final)
        except OSError:
            if not os.path.isdir(final):  # else somebody else was first
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _compiled(source: str, target: str) -> None:
    cached, wanted = importlib.util.cache_from_source(source), importlib.util.cache_from_source(target)
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    try:
        shutil.copyfile(cached, wanted)
    except OSError:
        py_compile.compile(target, dfile=target, doraise=True)
    os.chmod(wanted, 0o644)
