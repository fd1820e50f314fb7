"""Compile the .proto files: descriptors.binpb (read at run time) and the .pyi stubs (for type checkers).

python tools/generate_wire.py          write
python tools/generate_wire.py --check  exit 1 if what is committed is stale
"""

from __future__ import annotations

import pathlib
import re
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

WIRE = pathlib.Path(__file__).parent.parent / "src" / "pyopenshell" / "wire"
FILES = ("options", "datamodel", "sandbox", "openshell", "pyopenshell")


def compile_to(out: pathlib.Path) -> None:
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{WIRE / 'protos'}",
            f"-I{include}",
            "--include_imports",
            f"--descriptor_set_out={out / 'descriptors.binpb'}",
            f"--pyi_out={out}",
            *[f"{name}.proto" for name in FILES],
        ]
    )
    if status:
        raise SystemExit(status)
    for stub in out.glob("*_pb2.pyi"):
        text = stub.read_text()
        text = re.sub(r"^import (\w+_pb2) as", r"from pyopenshell.wire.gen import \1 as", text, flags=re.M)
        stub.write_text(text)


def main() -> None:
    target = WIRE / "gen"
    if "--check" not in sys.argv:
        compile_to(target)
        return
    with tempfile.TemporaryDirectory() as tmp:
        fresh = pathlib.Path(tmp)
        compile_to(fresh)
        stale = [f.name for f in sorted(fresh.iterdir()) if (target / f.name).read_bytes() != f.read_bytes()]
    if stale:
        sys.exit(f"stale generated files: {', '.join(stale)}; run python tools/generate_wire.py")


if __name__ == "__main__":
    main()
