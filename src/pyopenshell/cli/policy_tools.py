"""`openshell policy lint|test|explain|schema`: what a policy file means, without a gateway.

Reads files and prints; every judgement is `policy` and `proof`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyopenshell.cli.app import CliError
from pyopenshell.cli.framework import Command, output_option
from pyopenshell.cli.output import emit, mark, say
from pyopenshell.cli.policy_files import check_policy, read_text
from pyopenshell.client import visible

if TYPE_CHECKING:
    from pyopenshell.policy import Problem
    from pyopenshell.policy.examples import Result
    from pyopenshell.policy.question import Answer

C = TypeVar("C", bound=Callable[..., Any])


def argument_files(function: C) -> C:
    return click.argument("files", nargs=-1, required=True, metavar="FILE...")(function)


def asked_options(function: C) -> C:
    """`--as BINARY`, `--ancestor PATH` and the words `METHOD URL`."""
    function = click.argument("question", nargs=-1, metavar="[METHOD URL]")(function)
    function = click.option(
        "--ancestor", "ancestors", multiple=True, metavar="PATH", help="A program above it, nearest first; repeatable."
    )(function)
    function = click.option(
        "--body", default=None, metavar="TEXT", help="What the request carries: JSON, or the text of a WEBSOCKET_TEXT."
    )(function)
    return click.option("--as", "binary", default="", metavar="BINARY", help="The program that asks.")(function)


# ---- lint ------------------------------------------------------------------------------------------------------------


@click.command(
    "lint",
    cls=Command,
    help="Check policy files: errors, and what their author may not have meant.",
    examples=("openshell policy lint policy.yaml", "openshell policy lint --strict -o json policies/*.yaml"),
)
@argument_files
@click.option("--strict", is_flag=True, help="Exit with 1 for findings too, not only for errors.")
@output_option
def lint(files: Sequence[str], strict: bool, output: str) -> None:
    errors = warnings = 0
    rows: list[dict[str, object]] = []
    for file in files:
        severity, found = _linted(file)
        errors += len(found) if severity == "error" else 0
        warnings += len(found) if severity == "warning" else 0
        rows += [_row(one, severity) for one in found]
    if output != "table":
        emit(rows, output)
    else:
        for row in rows:
            sign = "✗" if row["severity"] == "error" else "!"
            fix = f"; {row['fix']}" if row["fix"] else ""
            text = f"{row['file']}:{row['line']}:{row['column']}: {row['message']}{fix} [{row['code']}]"
            mark(sign, visible(text, 1000))
        if not rows:
            mark("✓", f"{len(files)} file{'s' if len(files) > 1 else ''}: nothing to say")
    if errors or (strict and warnings):
        raise CliError("")


def _linted(file: str) -> tuple[str, list[Problem]]:
    """("error", problems) of a file that is no policy, otherwise ("warning", findings)."""
    from pyopenshell import policy as language
    from pyopenshell.policy import lint as alone
    from pyopenshell.proof import lint as together

    text = read_text(file)
    try:
        policy = language.load(text, file)
    except language.PolicyError as error:
        return "error", list(error.problems)
    return "warning", alone.lint_text(text, file, policy, [*alone.lint(policy), *together.lint(policy)])


def _row(found: Problem, severity: str) -> dict[str, object]:
    keys = ("file", "line", "column", "code", "message", "fix")
    return {key: getattr(found, key) for key in keys} | {"severity": severity}


# ---- test and explain ------------------------------------------------------------------------------------------------


@click.command(
    "test",
    cls=Command,
    help="Ask a policy file about one request, or run a file of must-allow and must-deny examples.",
    examples=(
        "openshell policy test policy.yaml --as /usr/bin/curl GET https://api.github.com/repos/acme/site",
        "openshell policy test policy.yaml --as /usr/bin/git CONNECT github.com:443",
        "openshell policy test policy.yaml --tests policy-tests.yaml",
    ),
)
@click.argument("file")
@asked_options
@click.option("--tests", "suites", multiple=True, metavar="FILE", help="Examples to run; repeatable.")
@output_option
def test(
    file: str,
    binary: str,
    ancestors: Sequence[str],
    body: str | None,
    question: Sequence[str],
    suites: Sequence[str],
    output: str,
) -> None:
    if bool(question) == bool(suites):
        raise click.UsageError("Give either METHOD URL with --as, or --tests FILE.")
    if suites:
        if binary or ancestors or body is not None:
            raise click.UsageError("--as, --ancestor and --body belong to METHOD URL; a tests file has its own.")
        _run_suites(file, suites, output)
        return
    answer = _answer(file, binary, ancestors, question, body)
    if output != "table":
        emit(_answer_data(answer), output)
    else:
        decision = answer.explanation.decision
        sign = {"allowed": "✓", "audited": "⚠", "denied": "✗"}[answer.word]
        why = answer.reason or f"by rule '{decision.rule}'"
        mark(sign, visible(f"{answer.word}: {answer.question} ({why})", 1000))
        if decision.nearest:
            say(visible(f"  nearest: {decision.nearest}", 1000))
    if not answer.allows:
        raise CliError("")


@click.command(
    "explain",
    cls=Command,
    help="Show the whole ladder: every condition that a request meets, in order, and where it ended.",
    examples=(
        "openshell policy explain policy.yaml --as /usr/bin/curl PUT https://api.github.com/repos/acme/site/contents/a",
    ),
)
@click.argument("file")
@asked_options
@output_option
def explain(
    file: str, binary: str, ancestors: Sequence[str], body: str | None, question: Sequence[str], output: str
) -> None:
    answer = _answer(file, binary, ancestors, question, body)
    if output != "table":
        ladder = [dataclasses.asdict(rung) for rung in answer.explanation.rungs]
        emit(_answer_data(answer) | {"ladder": ladder}, output)
    else:
        rungs = answer.explanation.rungs
        say(visible(answer.explanation.question, 1000))
        width = max(len(rung.name) for rung in rungs)
        for rung in rungs:
            sign = {True: "✓", False: "✗", None: "·"}[rung.passed]
            mark(f"  {sign}", f"{rung.name.ljust(width)}  {visible(rung.text, 1000)}")
        if answer.explanation.decision.nearest:
            say(f"  → nearest: {visible(answer.explanation.decision.nearest, 1000)}")
        say(f"  = {visible(answer.verdict, 1000)}")


def _answer(file: str, binary: str, ancestors: Sequence[str], words: Sequence[str], body: str | None) -> Answer:
    from pyopenshell import policy as language
    from pyopenshell.policy.question import ask
    from pyopenshell.policy.question import question as read_question

    if len(words) != 2:
        raise click.UsageError("Expected METHOD URL, for example GET https://api.github.com/user.")
    if not binary:
        raise click.UsageError("Missing option '--as', the program that asks.")
    policy = check_policy(read_text(file), file)
    try:
        asked = read_question(words[0], words[1], binary, ancestors, body)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return ask(language.compile(policy), asked)


def _answer_data(answer: Answer) -> dict[str, object]:
    decision = answer.explanation.decision
    return {
        "verdict": answer.word,
        "question": str(answer.question),
        "binary": answer.question.connection.binary,
        "rule": decision.rule,
        "condition": decision.condition.value,
        "reason": answer.reason,
        "nearest": decision.nearest,
        "path": decision.path,
        "target": decision.target,
        "inspected": answer.inspected,
    }


def _run_suites(file: str, suites: Sequence[str], output: str) -> None:
    from pyopenshell import policy as language
    from pyopenshell.policy.examples import load_examples, run

    engine = language.compile(check_policy(read_text(file), file))
    results: list[tuple[str, Result]] = []
    for suite in suites:
        try:
            examples = load_examples(read_text(suite), suite)
        except language.PolicyError as error:
            raise CliError(str(error)) from None
        results += [(suite, result) for result in run(engine, examples)]
    failed = sum(not result.passed for _, result in results)
    if output != "table":
        emit([_result_data(suite, result) for suite, result in results], output)
    else:
        for suite, result in results:
            if not result.passed:
                name = f"{result.example.name}: " if result.example.name else ""
                place = f"{suite}:{result.example.line}"
                mark("✗", visible(f"{place}: {name}{result.example} {result.complaint}", 1000))
        sign, much = ("✗", f"{failed} of {len(results)} failed") if failed else ("✓", f"{len(results)} passed")
        mark(sign, much)
    if failed:
        raise CliError("")


def _result_data(suite: str, result: Result) -> dict[str, object]:
    example = result.example
    return {
        "file": suite,
        "line": example.line,
        "name": example.name,
        "expected": example.expected,
        "passed": result.passed,
        "complaint": result.complaint,
        **_answer_data(result.answer),
    }


# ---- schema ----------------------------------------------------------------------------------------------------------


@click.command("schema", cls=Command, help="Print the JSON Schema of policy files, for editors.")
@output_option
def schema(output: str) -> None:
    from pyopenshell.policy.json_schema import json_schema, json_schema_text

    if output == "table":
        click.echo(json_schema_text(), nl=False)
    else:
        emit(json_schema(), output)


COMMANDS = (lint, test, explain, schema)
