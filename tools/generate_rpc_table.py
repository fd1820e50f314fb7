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

from pyopenshell.gateway.app import Gateway, driver_of
from pyopenshell.gateway.configuration import load
from pyopenshell.gateway.server import why_not
from pyopenshell.wire.service import Method, methods

PAGE = Path(__file__).parents[1] / "docs" / "gateway.md"
BEGIN, END = "<!-- rpc-table: written by tools/generate_rpc_table.py -->", "<!-- /rpc-table -->"

PARTIAL = {
    "CreateSandbox": "no images, GPUs, service exposure or restarts of main processes: each is refused with a sentence",
    "CreateSandboxTemplate": "no images, GPUs or service levels: each is refused with a sentence",
    "GetSandboxProviderEnvironment": "always empty: credentials are not injected yet",
    "ReportSandboxConfiguration": "taken and logged; a configuration is admitted before it is sent",
    "RefreshSandboxToken": "no tokens for extension services: there are none",
    "FinalizeMainProcessExit": "taken; the exit was recorded by ReportMainProcessExit",
    "GetDraftPolicy": "whole policies before and after only while they fit into 1 MiB",
    "ForwardTcp": "to the sandbox's loopback only; no `ssh` target, no services",
    "ExecSandboxInteractive": "no `request_id`: a conversation cannot be repeated",
}
"""What is missing of a method that is there."""

_CALLERS = {
    "unauthenticated": "any certificate",
    "bearer": "person",
    "dual": "person, sandbox",
    "sandbox": "sandbox",
    "operator": "operator",
    "peer": "peer gateway",
}


def table() -> str:
    """One table per service. "full" or "partial" is what a servicer of a real gateway object answers."""
    servicers = asyncio.run(_servicers())
    found = list(methods().values())
    parts = []
    for service in dict.fromkeys(method.service for method in found):
        own = [method for method in found if method.service == service]
        words = [_word(method, servicers) for method in own]
        full, none = words.count("full"), sum(word.startswith("not yet") for word in words)
        count = f"`{service}`: {len(own)} methods, {full} full, {len(own) - full - none} partial, {none} not yet."
        parts.append(f"{count}\n\n" + _rows(own, servicers))
    return "\n".join(parts)


async def _servicers() -> Sequence[object]:
    with tempfile.TemporaryDirectory() as home:
        configuration = load({"HOME": home})
        return Gateway(configuration, driver_of(configuration))._servicers()


def _rows(found: Sequence[Method], servicers: Sequence[object]) -> str:
    lines = ["| Method | Offered | Caller |", "|---|---|---|"]
    lines += [f"| `{method.name}` | {_word(method, servicers)} | {_caller(method)} |" for method in found]
    return "\n".join(lines) + "\n"


def _word(method: Method, servicers: Sequence[object]) -> str:
    if not any(hasattr(servicer, method.name) for servicer in servicers):
        return f"not yet: {why_not(method.name)}"
    return f"partial: {PARTIAL[method.name]}" if method.name in PARTIAL else "full"


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
