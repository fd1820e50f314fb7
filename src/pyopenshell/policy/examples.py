"""Must-allow and must-deny examples of a policy: their file, and which of them hold.

Decides how a `tests:` file is written. Every verdict is the engine's. Must not know files or terminals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pyopenshell.policy.decision import Condition
from pyopenshell.policy.engine import Engine
from pyopenshell.policy.nodes import ListNode, MapNode, Node, ScalarNode, parse_yaml
from pyopenshell.policy.problems import Problem, Problems, did_you_mean, raise_if_any, shown
from pyopenshell.policy.question import Answer, Question, ask, question
from pyopenshell.policy.schema import Cursor, canonical_json, plain, take

TEST_KEYS = ("name", "as", "ancestors", "allow", "deny", "audit")
EXPECTATIONS = {"allow": "allowed", "deny": "denied", "audit": "audited"}
EXAMPLE_KEYS = ("request", "body", "because")
CONDITIONS = tuple(condition.value for condition in Condition if condition is not Condition.NONE)


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One question and what the policy must say. `because` is the condition that must have failed first, "" for any.

    `line` counts from 1.
    """

    name: str
    expected: str
    question: Question
    because: str
    line: int

    def __str__(self) -> str:
        by = " ← ".join((self.question.connection.binary, *self.question.connection.ancestors))
        return f"{self.question} by {by}"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    example: Example
    answer: Answer

    @property
    def passed(self) -> bool:
        because = self.example.because
        return self.answer.word == self.example.expected and because in ("", self.answer.explanation.decision.condition)

    @property
    def complaint(self) -> str:
        """What is wrong in one sentence, "" when nothing is."""
        if self.passed:
            return ""
        decision = self.answer.explanation.decision
        wanted = self.example.expected + (f" because of {self.example.because}" if self.example.because else "")
        got = self.answer.word + (f" ({decision.condition.value})" if decision.condition is not Condition.NONE else "")
        why = self.answer.reason or f"by rule {shown(decision.rule)}"
        near = f"; nearest: {decision.nearest}" if decision.nearest else ""
        return f"must be {wanted}, is {got}: {why}{near}"


def load_examples(text: str | bytes, filename: str = "policy-tests.yaml") -> tuple[Example, ...]:
    """The examples of a `tests:` file. Raises `PolicyError` with the place of every mistake; no example is one."""
    root = parse_yaml(text, filename)
    problems = Problems()
    fields = Cursor(root, (), problems).fields(("tests",), "a mapping with tests")
    found: list[Example] = []
    if "tests" in fields:
        for item in fields["tests"].items("a list of tests"):
            found += _test(item)
    elif isinstance(root, MapNode):
        problems.append(Problem("", 1, 1, "tests_missing", "tests is missing", "write `tests:` with a list"))
    if not found and not problems:
        # A file that tests nothing must not pass for one that tested everything.
        problems.append(Problem("", 1, 1, "tests_empty", "there is no example in the file", "add allow: or deny:"))
    raise_if_any(problems, filename)
    return tuple(found)


def _test(cursor: Cursor) -> Iterator[Example]:
    fields = cursor.fields(TEST_KEYS, "a test with as, allow and deny")
    if not isinstance(cursor.node, MapNode):
        return
    binary = take(fields, "as", Cursor.text, "")
    if "as" not in fields:
        cursor.refuse("tests_as", "a test needs the program that asks", "write `as: /usr/bin/curl`")
    if not set(fields) & set(EXPECTATIONS):
        cursor.refuse("tests_empty", "a test needs allow, deny or audit")
    ancestors = take(fields, "ancestors", Cursor.texts, ())
    name = take(fields, "name", Cursor.text, "")
    for key, expected in EXPECTATIONS.items():
        for item in fields[key].items("a list of requests") if key in fields else ():
            text, body, because, at = _example(item, expected)
            method, _, url = text.partition(" ")
            if not text:
                continue
            try:
                asked = question(method, url.strip(), binary, ancestors, body)
            except ValueError as error:
                item.refuse("tests_request", str(error), "write `METHOD https://host/path`", at)
                continue
            yield Example(name, expected, asked, because, at.line)


def _example(cursor: Cursor, expected: str) -> tuple[str, str | None, str, Node]:
    """(request, body, because, its place) of `METHOD URL` or of `{request: METHOD URL, body: …, because: condition}`.

    A body that is no text is written as JSON.
    """
    if not isinstance(cursor.node, MapNode):
        if isinstance(cursor.node, ListNode):
            cursor.refuse("wrong_type", "an example is a text `METHOD URL` or a mapping with request", "remove a dash")
            return "", None, "", cursor.node
        return cursor.text(), None, "", cursor.node
    fields = cursor.fields(EXAMPLE_KEYS)
    if "request" not in fields:
        cursor.refuse("tests_request", "an example needs request", "write `request: METHOD https://host/path`")
    because = take(fields, "because", Cursor.text, "")
    if because and because not in CONDITIONS:
        fields["because"].refuse(
            "unknown_value", f"unknown condition {shown(because)}", did_you_mean(because, CONDITIONS)
        )
    elif because and expected == "allowed":
        fields["because"].refuse("tests_because", "what is allowed has no condition that failed", "remove because")
    at = fields["request"].node if "request" in fields else cursor.node
    at = at if isinstance(at, ScalarNode) else cursor.node
    return take(fields, "request", Cursor.text, ""), take(fields, "body", _body, None), because, at


def _body(cursor: Cursor) -> str:
    node = cursor.node
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else canonical_json(plain(cursor))


def run(engine: Engine, examples: tuple[Example, ...]) -> list[Result]:
    """Every example with its answer, in order."""
    return [Result(example, ask(engine, example.question)) for example in examples]
