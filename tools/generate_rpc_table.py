"""Writes the table of RPCs in docs/gateway.md from the wire tables and the gateway's own servicers.

python tools/generate_rpc_table.py          write
python tools/generate_rpc_table.py --check  exit 1 if what is committed is stale
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pyopenshell.gateway.app import Gateway, local_driver
from pyopenshell.gateway.configuration import load
from pyopenshell.wire.service import Method, methods

PAGE = Path(__file__).parents[1] / "docs" / "gateway.md"
BEGIN, END = "<!-- rpc-table: written by tools/generate_rpc_table.py -->", "<!-- /rpc-table -->"

_CALLERS = {
    "unauthenticated": "any certificate",
    "bearer": "person",
    "dual": "person, sandbox",
    "sandbox": "sandbox",
    "operator": "operator",
    "peer": "peer gateway",
}


def table() -> str:
    """One table per service. "full" is what a servicer of a real gateway object answers."""
    servicers = asyncio.run(_servicers())
    found = list(methods().values())
    parts = []
    for service in dict.fromkeys(method.service for method in found):
        own = [method for method in found if method.service == service]
        full = sum(_offered(method, servicers) for method in own)
        parts.append(f"`{service}`: {full} of {len(own)} methods.\n\n" + _rows(own, servicers))
    return "\n".join(parts)


async def _servicers() -> Sequence[object]:
    with tempfile.TemporaryDirectory() as home:
        return Gateway(load({"HOME": home}), local_driver(Path(home)))._servicers()


def _rows(found: Sequence[Method], servicers: Sequence[object]) -> str:
    lines = ["| Method | Offered | Caller |", "|---|---|---|"]
    for method in found:
        offered = "full" if _offered(method, servicers) else "not offered"
        lines.append(f"| `{method.name}` | {offered} | {_caller(method)} |")
    return "\n".join(lines) + "\n"


def _offered(method: Method, servicers: Sequence[object]) -> bool:
    return any(hasattr(servicer, method.name) for servicer in servicers)


def _caller(method: Method) -> str:
    needs = ", ".join(filter(None, (method.workspace_role or method.global_role, method.scope)))
    return _CALLERS[method.auth_mode] + (f" ({needs})" if needs else "")


def page(text: str) -> str:
    """`text` with the tables between the two marks renewed."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n\n" + table() + "\n" + END + rest.split(END)[1]


def main() -> None:
    text = PAGE.read_text()
    fresh = page(text)
    if "--check" not in sys.argv:
        PAGE.write_text(fresh)
    elif fresh != text:
        sys.exit("docs/gateway.md is stale; run python tools/generate_rpc_table.py")


if __name__ == "__main__":
    main()
