"""What an agent does, as the shell scripts that tests run inside a sandbox: curl and nothing else."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.house import HOST


def put_rule(path: str, host: str = HOST, binary: str = "/usr/bin/curl", name: str = "put_one_file") -> dict[str, Any]:
    """The narrowest proposal that allows PUT of one path."""
    endpoint = {
        "host": host,
        "port": 443,
        "protocol": "rest",
        "enforcement": "enforce",
        "rules": [{"allow": {"method": "PUT", "path": path}}],
    }
    rule = {"name": name, "endpoints": [endpoint], "binaries": [{"path": binary}]}
    return {"intent_summary": f"write {path}", "operations": [{"addRule": {"ruleName": name, "rule": rule}}]}


def submit(proposal: dict[str, Any]) -> str:
    """A script that submits and prints the answer."""
    header = "Content-Type: application/json"
    return f"curl -sS -X POST http://policy.local/v1/proposals -H '{header}' -d '{json.dumps(proposal)}'"


def put(path: str, host: str = HOST) -> str:
    """A script that PUTs and prints body, then status."""
    return f"curl -sS -X PUT https://{host}{path} -d hello -w '\\n%{{http_code}}'"
