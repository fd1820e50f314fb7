"""Evaluates one policy in Rego: run by benchmarks/engine.py with an interpreter that has `regorus` or `regopy`.

python rego_runner.py FOLDER   (data.json and inputs.json in, one JSON object out)
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

RULES = """
package openshell

import rego.v1

binary_ok(policy) if {
    some pattern in policy.binaries
    some path in input.chain
    pattern == path
}

binary_ok(policy) if {
    some pattern in policy.binaries
    contains(pattern, "*")
    some path in input.chain
    glob.match(pattern, ["/"], path)
}

host_ok(endpoint) if endpoint.host == input.host

host_ok(endpoint) if {
    contains(endpoint.host, "*")
    glob.match(endpoint.host, ["."], input.host)
}

matched contains endpoint if {
    some policy in data.policies
    some endpoint in policy.endpoints
    input.port in endpoint.ports
    host_ok(endpoint)
    binary_ok(policy)
}

method_ok(rule) if rule.method == "*"
method_ok(rule) if rule.method == input.method
method_ok(rule) if { rule.method == "GET"; input.method == "HEAD" }

denied if {
    some endpoint in matched
    some rule in endpoint.deny
    method_ok(rule)
    glob.match(rule.path, ["/"], input.path)
}

allowed if {
    some endpoint in matched
    some rule in endpoint.allow
    method_ok(rule)
    glob.match(rule.path, ["/"], input.path)
}

default verdict := false
verdict if { allowed; not denied }
"""


def regorus(data: str) -> tuple[str, Callable[[str], bool]]:
    import regorus  # type: ignore[import-not-found]

    engine = regorus.Engine()
    engine.add_policy("openshell.rego", RULES)
    engine.add_data_json(data)

    def ask(text: str) -> bool:
        engine.set_input_json(text)
        return bool(engine.eval_rule("data.openshell.verdict"))

    return "regorus", ask


def regocpp(data: str) -> tuple[str, Callable[[str], bool]]:
    import regopy  # type: ignore[import-not-found]

    engine = regopy.Interpreter()
    engine.add_module("openshell", RULES)
    engine.add_data_json(data)

    def ask(text: str) -> bool:
        engine.set_input_term(text)
        answer = json.loads(str(engine.query("data.openshell.verdict")))
        result = answer.get("result", [answer])
        return bool(result[0]["expressions"][0])

    return "rego-cpp", ask


def main() -> None:
    folder = Path(sys.argv[1])
    data = (folder / "data.json").read_text()
    try:
        name, ask = regorus(data)
    except ImportError:
        name, ask = regocpp(data)
    inputs = [json.dumps(one) for one in json.loads((folder / "inputs.json").read_text())]
    allowed, times = [], []
    stop = time.perf_counter() + 120
    for text in inputs:
        start = time.perf_counter()
        allowed.append(ask(text))
        times.append((time.perf_counter() - start) * 1e6)
        if time.perf_counter() > stop:
            break
    print(json.dumps({"engine": name, "allowed": allowed, "microseconds": statistics.median(times)}))


main()
