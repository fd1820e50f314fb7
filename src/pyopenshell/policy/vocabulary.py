"""Every key of a policy file with its meaning: what the JSON Schema and the reference page are generated from.

Decides words and shapes for editors and readers only. What is read is `policy.schema`, what is valid `policy.validate`;
tests hold the three together.
"""

from __future__ import annotations

import dataclasses

from pyopenshell.policy import model
from pyopenshell.policy.schema import ACCESS, ENFORCEMENT, PATH_CASES, PROTOCOLS, TLS
from pyopenshell.policy.validate import (
    MAX_FILESYSTEM_PATHS,
    MAX_KEY_CHARACTERS,
    MAX_MIDDLEWARES,
    MAX_PATH_CHARACTERS,
    OPERATION_TYPES,
    PERSISTED,
    SIGNING,
)

Shape = dict[str, object]
"""A fragment of JSON Schema that says more than the type in the model does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """`attribute` is the field of the model class when it is not called as the key; `required` by the loader."""

    name: str
    text: str
    shape: Shape = dataclasses.field(default_factory=dict)
    attribute: str = ""
    required: bool = False
    default: object = None
    """Only where the model's own default does not say it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A mapping with fixed keys. `model` is the class it becomes, None for mappings that are folded into another."""

    name: str
    text: str
    keys: tuple[Key, ...]
    model: type | None = None
    any_of: tuple[Shape, ...] = ()


def ref(name: str) -> Shape:
    return {"$ref": f"#/$defs/{name}"}


def listing(items: Shape, least: int = 0, most: int = 0) -> Shape:
    out: Shape = {"type": "array", "items": items}
    if least:
        out["minItems"] = least
    if most:
        out["maxItems"] = most
    return out


def mapping(values: Shape, most: int = 0) -> Shape:
    out: Shape = {"type": "object", "additionalProperties": values}
    if most:
        out["maxProperties"] = most
    return out


def _any_case(word: str) -> str:
    """Regular expressions of JSON Schema have no flags."""
    return "".join(f"[{c.upper()}{c}]" if c.isalpha() else f"[{c}]" for c in word)


TEXT: Shape = {"type": "string"}
PORT: Shape = {"type": "integer", "minimum": 1, "maximum": 65535}
LIMIT: Shape = {"type": "integer", "minimum": 1, "maximum": 0xFFFFFFFF}
PATHS = listing({"type": "string", "pattern": "^/", "maxLength": MAX_PATH_CHARACTERS}, most=MAX_FILESYSTEM_PATHS)
IDENTITY: Shape = {
    "anyOf": [
        {"type": "string", "pattern": "^(sandbox|[1-9][0-9]{0,9})?$"},
        {"type": "integer", "minimum": 1, "maximum": 4294967294},
    ]
}
KIND: Shape = {
    "anyOf": [
        {"enum": list(OPERATION_TYPES)},
        {"type": "string", "pattern": "^(" + "|".join(map(_any_case, OPERATION_TYPES)) + ")$"},
    ]
}
MATCHERS = mapping(ref("matcher"))

POLICY = Section(
    "policy",
    "The document. `filesystem_policy`, `landlock` and `process` are fixed when a sandbox is created; the rest can be "
    "changed while it runs.",
    (
        Key("version", "The version of the language.", {"const": 1}, required=True),
        Key("filesystem_policy", "What may be read and written.", ref("filesystem"), "filesystem"),
        Key("landlock", "How hard the filesystem rules are.", ref("landlock")),
        Key("process", "Who processes run as.", ref("process")),
        Key("network_policies", "Rules by name: 1 to 200 printable characters. Names beginning with `_provider_` "
            "are composed by the gateway and refused in files. Nothing here means no network at all.",
            mapping(ref("rule")) | {"propertyNames": {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS,
                                                      "not": {"pattern": "^_[Pp][Rr][Oo][Vv][Ii][Dd][Ee][Rr]_"}}},
            "rules", default={}),
        Key("network_middlewares", "Hooks by name; parsed and validated.",
            mapping(ref("middleware"), MAX_MIDDLEWARES), "middlewares", default={}),
    ),
    model.Policy,
)  # fmt: skip
FILESYSTEM = Section(
    "filesystem",
    f"Absolute paths without `..`, at most {MAX_FILESYSTEM_PATHS} together and {MAX_PATH_CHARACTERS} characters each; "
    "`/` cannot be writable.",
    (
        Key("include_workdir", "The working directory is writable too."),
        Key("read_only", "Trees that may be read.", PATHS),
        Key("read_write", "Trees that may be read and written.", PATHS),
    ),
    model.FilesystemPolicy,
)
LANDLOCK = Section(
    "landlock",
    "The kernel's part in enforcing `filesystem_policy`.",
    (
        Key("compatibility", "`best_effort` goes on where the kernel lacks Landlock, `hard_requirement` refuses.",
            {"enum": ["best_effort", "hard_requirement"]}),
    ),
    model.LandlockPolicy,
)  # fmt: skip
PROCESS = Section(
    "process",
    "The identity of everything inside.",
    (
        Key("run_as_user", "`sandbox`, or a numeric uid from 1 to 4294967294.", IDENTITY),
        Key("run_as_group", "`sandbox`, or a numeric gid from 1 to 4294967294.", IDENTITY),
    ),
    model.ProcessPolicy,
)
RULE = Section(
    "rule",
    "Programs and where they may go: every program of the rule may use every endpoint of it.",
    (
        Key("name", "A display name. Logs, denials and decisions show the key of the rule."),
        Key("endpoints", "Destinations, at least one.", listing(ref("endpoint"), 1), required=True),
        Key("binaries", "Programs, at least one; `path: /**` is any program.", listing(ref("binary"), 1),
            required=True),
    ),
    model.Rule,
)  # fmt: skip
BINARY = Section(
    "binary",
    "One program, by the path of the running executable (never `argv[0]`) or of any ancestor of the process.",
    (
        Key("path", "An absolute path; with a `*` a glob in the language of paths.",
            {"type": "string", "pattern": "^/", "minLength": 2}, required=True),
        Key("harness", "Retired; read and ignored.", {"deprecated": True}),
    ),
)  # fmt: skip
ENDPOINT = Section(
    "endpoint",
    "One destination and how traffic to it is judged.",
    (
        Key("host", "A name, an address, or a wildcard (`*.example.com`, `**.example.com`, `*-a.example.com`). May be "
            "left out only with `allowed_ips`.", {"type": "string"}, default=""),
        Key("port", "One port.", PORT, "ports"),
        Key("ports", "Several ports, instead of `port`.", listing(PORT, 1), "ports"),
        Key("path", "Only requests whose path matches are judged by this endpoint; the most specific one decides "
            "whether audit mode applies. Needs a protocol that is inspected.",
            {"type": "string", "pattern": "^(/|\\*\\*$|$)"}),
        Key("protocol", "Left out, bytes pass uninspected. `tcp` says so explicitly, for names only. `rest` judges "
            "HTTP requests, `websocket` handshakes and messages, `graphql`, `json-rpc` and `mcp` what bodies carry.",
            {"enum": ["", *PROTOCOLS]}),
        Key("tls", "`skip` never terminates TLS. `terminate` and `passthrough` are accepted and mean nothing.",
            {"enum": list(TLS)}),
        Key("enforcement", "`audit` forwards what the rules refuse, and logs it. Must be written out to be had.",
            {"enum": list(ENFORCEMENT)}),
        Key("access", "A preset instead of `rules`, see below.", {"enum": list(ACCESS)}),
        Key("rules", "What is allowed, at least one entry. Excludes `access`.", listing(ref("allow"), 1)),
        Key("deny_rules", "What is refused all the same: a deny wins over every allow of every rule that matches the "
            "connection. Needs `access` or `rules`.", listing(ref("match"), 1)),
        Key("allowed_ips", "Addresses or CIDR networks the name may resolve into although they are private.",
            listing(TEXT)),
        Key("allow_encoded_slash", "Requests with `%2F` inside a path segment can be allowed by this endpoint."),
        Key("path_case", "`insensitive`: deny rules match in any letter case, for servers that ignore it.",
            {"enum": list(PATH_CASES)}),
        Key("websocket_credential_rewrite", "Placeholders in WebSocket text are replaced (rest, websocket)."),
        Key("request_body_credential_rewrite", "Placeholders in request bodies are replaced (rest; not with "
            "`credential_signing`)."),
        Key("allow_uninspected_credentials", "Credentials may be used on traffic that nobody looks into."),
        Key("credential_signing", "Requests are signed; needs `signing_service`.", {"enum": ["", *SIGNING]}),
        Key("signing_service", "The service name of the signature."),
        Key("signing_region", "The region of the signature."),
        Key("credential_binding", "The provider whose credentials belong here.", ref("credential_binding"),
            "credential_provider"),
        Key("persisted_queries", "GraphQL requests that carry only an id: refused, or allowed when registered.",
            {"enum": list(PERSISTED)}),
        Key("graphql_persisted_queries", "Registered ids and what they stand for (graphql, websocket).",
            mapping(ref("graphql_operation"))),
        Key("graphql_max_body_bytes", "Longest GraphQL body.", LIMIT),
        Key("json_rpc", "Options of protocol json-rpc.", ref("json_rpc"), "json_rpc_max_body_bytes"),
        Key("mcp", "Options of protocol mcp.", ref("mcp")),
    ),
    model.Endpoint,
    ({"required": ["port"]}, {"required": ["ports"]}),
)  # fmt: skip
ALLOW = Section("allow", "One entry of `rules`.", (Key("allow", "What is allowed.", ref("match"), required=True),))
MATCH = Section(
    "match",
    "What a request must be like. Everything written must hold. Keys of another protocol are refused.",
    (
        Key("method", "rest, websocket: an HTTP method, `*` for any; GET also covers HEAD; WEBSOCKET_TEXT is a "
            "message. json-rpc, mcp: a glob over the name of the method.", TEXT),
        Key("path", "rest, websocket: a path glob, `**` for every path. Required.",
            {"type": "string", "pattern": "^(/|\\*\\*$)"}),
        Key("query", "rest, websocket: globs by key of the query string.", MATCHERS),
        Key("command", "sql, which is not enforced: refused with every protocol there is."),
        Key("operation_type", "graphql, websocket: the kind of operation, in any letter case.", KIND),
        Key("operation_name", "graphql, websocket: a glob over the operation's name."),
        Key("fields", "graphql, websocket: globs over root fields; an allow needs all fields matched, a deny one.",
            listing(TEXT)),
        Key("tool", "mcp: a glob over the tool's name; short for `params: {name: …}`.", ref("matcher"), "params"),
        Key("params", "mcp: globs by parameter: `name`, `uri`, `level`.", MATCHERS),
    ),
    model.L7Match,
)  # fmt: skip
CREDENTIAL_BINDING = Section(
    "credential_binding",
    "Binds a provider that names no endpoints of its own.",
    (Key("provider", "Its name.", TEXT, required=True),),
)
GRAPHQL_OPERATION = Section(
    "graphql_operation",
    "A persisted query.",
    (
        Key("operation_type", "The kind of operation."),
        Key("operation_name", "Its name."),
        Key("fields", "Its root fields.", listing(TEXT)),
    ),
    model.GraphqlOperation,
)
JSON_RPC = Section(
    "json_rpc", "Options of protocol json-rpc.", (Key("max_body_bytes", "Longest body.", LIMIT, default=65536),)
)
MCP = Section(
    "mcp",
    "Options of protocol mcp.",
    (
        Key("max_body_bytes", "Longest body.", LIMIT),
        Key("strict_tool_names", "Tool names are `[A-Za-z0-9_.-]{1,128}`."),
        Key("allow_all_known_mcp_methods", "Without rules: every method of the protocol is allowed."),
        Key("versions", "Protocol versions that are accepted; left out: all known ones.", listing(TEXT)),
    ),
    model.McpOptions,
)
MIDDLEWARE = Section(
    "middleware",
    f"A hook into requests and answers; at most {MAX_MIDDLEWARES}, each with its own `order`.",
    (
        Key("name", "A display name."),
        Key("middleware", "Which hook.", {"type": "string", "minLength": 1}, required=True),
        Key("config", "Its own options.", {"type": "object"}, "config_json", default={}),
        Key("on_error", "What happens to the request when the hook fails."),
        Key("order", "Hooks run in this order; no two may share one."),
        Key("endpoints", "Which hosts it sees.", ref("selector"), "include"),
    ),
    model.Middleware,
)
SELECTOR = Section(
    "selector",
    "Host patterns, at most 32 together.",
    (
        Key("include", "Hosts that are seen.", listing(TEXT)),
        Key("exclude", "Hosts that are not, although included.", listing(TEXT)),
    ),
)

SECTIONS = (
    POLICY, FILESYSTEM, LANDLOCK, PROCESS, RULE, BINARY, ENDPOINT, ALLOW, MATCH, CREDENTIAL_BINDING, GRAPHQL_OPERATION,
    JSON_RPC, MCP, MIDDLEWARE, SELECTOR,
)  # fmt: skip
"""In the order of the reference page. `matcher`, which is a text or a mapping, is built by `json_schema`."""
