"""GraphQL and MCP endpoints with real curl: allowed and refused by what requests carry, and asked for by an agent."""

from __future__ import annotations

import json

import pytest

from pyopenshell.client import Gateway
from tests.e2e.agent import submit
from tests.e2e.house import HOST, READ_ONLY, House, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bodies")]

POLICY = f"""{READ_ONLY}
  carried:
    endpoints:
      - host: {HOST}
        port: 443
        path: /graphql
        protocol: graphql
        rules:
          - allow: {{operation_type: query}}
      - host: {HOST}
        port: 443
        path: /mcp
        protocol: mcp
        rules:
          - allow: {{method: initialize}}
          - allow: {{method: tools/call, tool: get_*}}
    binaries:
      - path: /usr/bin/curl
"""
QUERY = '{"query": "{ viewer { login } }"}'
MUTATION = '{"query": "mutation Drop { deleteRepo(id: 1) { ok } }"}'


def call(tool: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}})


def post(path: str, body: str, *more: str) -> str:
    options = " ".join(("-H 'Content-Type: application/json'", *more))
    return f"curl -sS https://{HOST}{path} {options} --data-binary '{body}' -w '\\n%{{http_code}}'"


async def test_an_agent_calls_what_is_allowed_and_asks_for_the_rest(advised: House, gateway: Gateway) -> None:
    name = "carried"
    advised.create(name, POLICY)
    sent = advised.upstream.requests
    before = len(sent)

    assert (await sh(gateway, name, post("/graphql", QUERY))).out == "ok\n\n200"
    chunked = post("/mcp", call("get_x"), "-H 'Transfer-Encoding: chunked'", "-H 'Expect: 100-continue'")
    assert (await sh(gateway, name, chunked)).out == "ok\n\n200"
    assert [arrived.body.decode() for arrived in sent[before:]] == [QUERY, call("get_x")]

    refused = []
    for path, body in (("/graphql", MUTATION), ("/mcp", call("delete_x"))):
        text, status = (await sh(gateway, name, post(path, body))).out.rsplit("\n", 1)
        assert status == "403"
        refused.append(json.loads(text))
    assert [denial["operation"] for denial in refused] == [
        "GraphQL mutation Drop {deleteRepo}",
        "call tools/call name='delete_x'",
    ]
    packed = f"printf '%s' '{QUERY}' | gzip | "
    zipped = packed + post("/graphql", "@-", "-H 'Content-Encoding: gzip'").replace("'@-'", "@-")
    assert (await sh(gateway, name, zipped)).out.endswith("\n400")
    assert len(sent) == before + 2

    for denial in refused:
        missing = denial["rule_missing"]
        endpoint = {"host": HOST, "port": 443, "path": denial["path"], "protocol": missing["protocol"]}
        endpoint |= {"enforcement": "enforce", "rules": [{"allow": missing["allow"]}]}
        title = f"carried_{missing['type']}"
        rule = {"name": title, "endpoints": [endpoint], "binaries": [{"path": denial["binary"]}]}
        proposal = {"intent_summary": "as asked", "operations": [{"addRule": {"ruleName": title, "rule": rule}}]}
        answer = (await sh(gateway, name, submit(proposal))).json
        assert answer["accepted_chunks"] == 1, answer
        (chunk_id,) = answer["accepted_chunk_ids"]
        advised.cli("rule", "approve", name, "--chunk-id", chunk_id)
        waited = await sh(gateway, name, f"curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=60'")
        assert (waited.json["status"], waited.json["policy_reloaded"]) == ("approved", True)
    assert (await sh(gateway, name, post("/graphql", MUTATION))).out == "ok\n\n200"
    assert (await sh(gateway, name, post("/mcp", call("delete_x")))).out == "ok\n\n200"
    assert (await sh(gateway, name, post("/mcp", call("delete_y")))).out.endswith("\n403")

    observed = {(one.method, one.path) for one in await gateway.observed(name)}
    assert observed == {("POST", "/graphql"), ("POST", "/mcp")}
    assert {chunk.status for chunk in (await gateway.draft(name)).chunks} == {"approved"}
    assert all("mechanistic" not in repr(chunk) for chunk in (await gateway.draft(name)).chunks)
