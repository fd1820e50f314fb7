"""What a policy is: immutable values, one class per section of the YAML and of `openshell.sandbox.v1.SandboxPolicy`.

Knows nothing of files, bytes or matching. Loading is `policy.yaml`, checking `policy.validate`, meaning
`policy.engine`. Tuples everywhere, so a policy can be hashed, shared between tasks and compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

PROVIDER_PREFIX = "_provider_"
"""Rule keys with this prefix belong to provider layers; users cannot write them."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueryMatcher:
    """Globs for one query key (or one MCP parameter). A single `glob:` is a list of one."""

    any: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class L7Match:
    """One allow or deny matcher of an inspected endpoint. Empty means "not written", never "anything"."""

    method: str = ""
    path: str = ""
    query: tuple[tuple[str, QueryMatcher], ...] = ()
    command: str = ""
    operation_type: str = ""
    operation_name: str = ""
    fields: tuple[str, ...] = ()
    params: tuple[tuple[str, QueryMatcher], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class GraphqlOperation:
    """A persisted query the endpoint knows by id."""

    operation_type: str = ""
    operation_name: str = ""
    fields: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class McpOptions:
    max_body_bytes: int = 65536
    strict_tool_names: bool = True
    allow_all_known_mcp_methods: bool = False
    versions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One destination and how traffic to it is inspected.

    `ports` is sorted and without duplicates. `protocol` "" is L4 (raw). `enforcement` is "enforce" or "audit".
    `access` is "", "read-only", "read-write" or "full" and excludes `rules`.
    """

    host: str
    ports: tuple[int, ...]
    path: str = ""
    protocol: str = ""
    tls: str = ""
    enforcement: str = "enforce"
    access: str = ""
    rules: tuple[L7Match, ...] = ()
    deny_rules: tuple[L7Match, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    allow_encoded_slash: bool = False
    path_case: str = "sensitive"
    websocket_credential_rewrite: bool = False
    request_body_credential_rewrite: bool = False
    allow_uninspected_credentials: bool = False
    credential_signing: str = ""
    signing_service: str = ""
    signing_region: str = ""
    credential_provider: str = ""
    persisted_queries: str = "deny"
    graphql_persisted_queries: tuple[tuple[str, GraphqlOperation], ...] = ()
    graphql_max_body_bytes: int = 65536
    json_rpc_max_body_bytes: int = 65536
    mcp: McpOptions | None = None
    advisor_proposed: bool = False
    provider_credentialed: bool = False

    @property
    def inspected(self) -> bool:
        """True where requests are parsed and judged one by one (any L7 protocol)."""
        return self.protocol not in ("", "tcp", "sql")


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
class Rule:
    """Endpoints x binaries. `key` is the map key and the name that logs and denials print."""

    key: str
    endpoints: tuple[Endpoint, ...]
    binaries: tuple[str, ...]
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FilesystemPolicy:
    include_workdir: bool = False
    read_only: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class LandlockPolicy:
    compatibility: str = "best_effort"


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessPolicy:
    run_as_user: str = ""
    run_as_group: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Middleware:
    """A request/response hook. `config_json` is canonical JSON, so the value stays hashable."""

    key: str
    middleware: str
    name: str = ""
    config_json: str = "{}"
    on_error: str = "fail"
    order: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
class Policy:
    """A whole policy. `rules` keeps the author's order; `by_key()` gives the map."""

    version: int = 1
    filesystem: FilesystemPolicy | None = None
    landlock: LandlockPolicy | None = None
    process: ProcessPolicy | None = None
    rules: tuple[Rule, ...] = ()
    middlewares: tuple[Middleware, ...] = ()

    def by_key(self) -> Mapping[str, Rule]:
        return MappingProxyType({rule.key: rule for rule in self.rules})


RESTRICTIVE_DEFAULT = Policy(
    filesystem=FilesystemPolicy(
        include_workdir=True,
        read_only=("/usr", "/lib", "/proc", "/dev/urandom", "/etc", "/var/log"),
        read_write=("/tmp", "/dev/null"),
    ),
    landlock=LandlockPolicy("best_effort"),
)
"""What a sandbox gets when nobody gave it a policy: no network at all (contract/gateway.md 2.6)."""
