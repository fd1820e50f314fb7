"""Configuration snapshots for tests, as the gateway sends them."""

from __future__ import annotations

from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.wire.gen import sandbox_pb2
from pyopenshell.wire.policy_map import policy_to_proto

READ = L7Match(method="GET", path="/**")
PUT = L7Match(method="PUT", path="/x")


def policy(*matches: L7Match, host: str = "api.test") -> Policy:
    """One rule named `api` for curl."""
    endpoint = Endpoint(host=host, ports=(443,), protocol="rest", rules=matches or (READ,))
    return Policy(rules=(Rule("api", (endpoint,), ("/usr/bin/curl",), name="api"),))


def snapshot(
    content: Policy | None = None, *, version: int = 1, fingerprint: str = "", **settings: bool
) -> sandbox_pb2.SandboxConfigSnapshot:
    message = sandbox_pb2.SandboxConfigSnapshot(
        version=version,
        policy_hash=fingerprint or f"hash-{version}",
        config_revision=version * 100,
        policy_source=sandbox_pb2.POLICY_SOURCE_SANDBOX,
        workspace="default",
    )
    if content is not None:
        message.policy.CopyFrom(policy_to_proto(content))
    for key, value in settings.items():
        message.settings[key].value.bool_value = value
    return message
