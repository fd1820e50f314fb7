"""Writes docs/policy.schema.json and docs/policy-reference.md from the model; `--check` only compares.

python tools/generate_policy_docs.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyopenshell.policy import lint
from pyopenshell.policy.codes import TEST_CODES, TEXT_CODES, VALUE_CODES
from pyopenshell.policy.decision import Condition
from pyopenshell.policy.json_schema import default_of, json_schema_text, property_of
from pyopenshell.policy.ladder import RUNGS
from pyopenshell.policy.records import PRESETS
from pyopenshell.policy.vocabulary import SECTIONS, Key, Section
from pyopenshell.proof import lint as proof_lint

DOCS = Path(__file__).parents[1] / "docs"

HEAD = """\
# Policy reference

Every key, value and error of a policy file. Generated from the model by `tools/generate_policy_docs.py`; a test fails
when this page and the
product disagree. What matching means is [policy-language.md](policy-language.md); editors read
[policy.schema.json](policy.schema.json):

```yaml
# yaml-language-server: $schema=./policy.schema.json
version: 1
network_policies:
  github:
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {method: GET, path: /repos/acme/**}
        deny_rules:
          - {method: "*", path: /repos/acme/prod/**}
        path_case: insensitive
    binaries:
      - path: /usr/bin/curl
```

Files are YAML 1.2, read strictly: an unknown key or value, a duplicate key, an anchor, an alias, a tag or a second
document is an error with
file, line, column, what was expected and the nearest valid spelling. Nothing that is empty or missing ever means
"everything".

"""
TOOLS = """\
## Tools

| Command | What it does |
|---|---|
| `openshell policy lint FILE` | errors, and what the author may not have meant (codes below) |
| `openshell policy test FILE --as BINARY METHOD URL` | one question; exit 0 only when it is allowed |
| `openshell policy test FILE --tests TESTS` | a file of examples; exit 1 when one does not hold |
| `openshell policy explain FILE --as BINARY METHOD URL` | every condition in order, and where it ended |
| `openshell policy fmt FILE` | one layout; comments, order and spellings stay |
| `openshell policy edit FILE` | by operations or in your editor; comments stay |
| `openshell policy schema` | the JSON Schema |

A tests file, also collected by pytest when it is called `NAME.policy-tests.yaml` (the policy is then `NAME.yaml`, or
the configured one):

```yaml
tests:
  - name: the agent reads, and writes nothing
    as: /usr/bin/curl
    ancestors: [/usr/bin/bash]
    allow:
      - GET https://api.github.com/repos/acme/site
      - CONNECT api.github.com:443
    deny:
      - PUT https://api.github.com/repos/acme/site/contents/README.md
      - {request: GET https://api.github.com/repos/ACME/prod/x, because: blocked_by_deny_rule}
      - RAW api.github.com:443
```

What a request carries is its `body`, a text as it is sent or a mapping that is sent as JSON:
`{request: POST https://api.github.com/graphql, body: {query: "{ viewer { login } }"}}`. `GET wss://…` asks for a
WebSocket, `WEBSOCKET_TEXT wss://…` whether a message may be sent on it. On the command line the option is `--body`, in
Python `body=`.

`CONNECT` asks whether the connection may be opened, `RAW` whether bytes may pass that nobody looks into. `audit:`
lists what an endpoint in audit
mode forwards although its rules refuse it: such a request is neither allowed nor denied.

In Python tests, the plugin gives a `policy` fixture (option `--openshell-policy`, ini `openshell_policy`, marker
`openshell_policy("file.yaml")`, or `policy.yaml` beside the test):

```python
def test_the_agent_cannot_write(policy):
    url = "https://api.github.com/repos/acme/site/contents/README.md"
    assert policy.denies("PUT", url, binary="/usr/bin/curl", because="method_not_allowed")
    assert policy.allows("GET", "https://api.github.com/repos/acme/site", binary="/usr/bin/curl")
```

"""


def reference() -> str:
    out = [HEAD]
    for section in SECTIONS:
        out += _section(section)
    out += _presets()
    out.append("## Conditions\n\n")
    out.append("The first condition that failed stands in every denial, log line and `because`.\n\n")
    words = {condition.value: f'asked as "{RUNGS[condition]}"' for condition in Condition if condition in RUNGS}
    out += _table(("Code", "Meaning"), words)
    out.append(TOOLS)
    out.append("## Errors\n\n### In the text\n\n")
    out += _table(("Code", "Meaning"), TEXT_CODES)
    out.append("### In what it says\n\n")
    out += _table(("Code", "Meaning"), VALUE_CODES)
    out.append("### In a tests file\n\n")
    out += _table(("Code", "Meaning"), TEST_CODES)
    out.append("## Findings of `policy lint`\n\nRule by rule:\n\n")
    out += _table(("Code", "Meaning"), lint.CODES)
    out.append("By comparing the policy exactly with the policy without a part of it:\n\n")
    out += _table(("Code", "Meaning"), proof_lint.CODES)
    return "".join(out).rstrip("\n") + "\n"


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> Iterator[str]:
    yield f"| {header[0]} | {header[1]} |\n|---|---|\n"
    for name, text in rows.items():
        yield f"| `{name}` | {text} |\n"
    yield "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.name}\n\n{section.text}\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n"
    for key in section.keys:
        default = default_of(section, key)
        shown = "required" if key.required else "" if default is None else f"`{json.dumps(default)}`"
        yield f"| `{key.name}` | {_type(section, key)} | {shown} | {key.text} |\n"
    yield "\n"


def _type(section: Section, key: Key) -> str:
    return _words(property_of(section, key))


def _words(shape: Mapping[str, object]) -> str:
    if "$ref" in shape:
        name = str(shape["$ref"]).rsplit("/", 1)[1]
        return "glob or `{glob}` or `{any: [glob]}`" if name == "matcher" else f"[{name}](#{name})"
    if "enum" in shape:
        values = shape["enum"]
        assert isinstance(values, list)
        return " \\| ".join(f"`{value}`" for value in values if value)
    if "const" in shape:
        return f"`{shape['const']}`"
    choices = shape.get("anyOf")
    if isinstance(choices, list):
        return _words(choices[0]) if "enum" in choices[0] else "text or number"
    items, values = shape.get("items"), shape.get("additionalProperties")
    if isinstance(items, dict):
        return f"list of {_words(items)}"
    if isinstance(values, dict):
        return f"name → {_words(values)}"
    bounds = f" {shape['minimum']}–{shape['maximum']}" if "maximum" in shape else ""
    names = {"string": "text", "integer": "number", "boolean": "true or false", "object": "mapping"}
    return names[str(shape["type"])] + bounds if "type" in shape else "anything"


def _presets() -> Iterator[str]:
    yield "## Access presets\n\n| `access` | rest: methods on every path | websocket | graphql |\n|---|---|---|---|\n"
    others = {
        "read-only": ("GET", "query"),
        "read-write": ("GET, WEBSOCKET_TEXT", "query, mutation"),
        "full": ("`*`", "`*`"),
    }
    for name, methods in PRESETS.items():
        words = ", ".join("`*`" if method == "*" else method for method in methods)
        yield f"| `{name}` | {words} | {others[name][0]} | {others[name][1]} |\n"
    yield "\nNo preset contains DELETE except `full`. json-rpc and mcp have no presets.\n\n"


def main() -> int:
    stale = []
    for name, text in (("policy.schema.json", json_schema_text()), ("policy-reference.md", reference())):
        path = DOCS / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    for name in stale:
        print(f"docs/{name} {'is stale' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
