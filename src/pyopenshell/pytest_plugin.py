"""The pytest plugin: `assert policy.denies("PUT", url, binary="/usr/bin/curl")` and collected `tests:` files.

Decides where a test's policy comes from. Imported by every pytest run that has pyopenshell installed, so it imports
nothing of the product before a test asks.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyopenshell.policy.engine import Engine
    from pyopenshell.policy.examples import Example
    from pyopenshell.policy.model import Policy
    from pyopenshell.policy.question import Answer

INI = "openshell_policy"
SUITES = (".policy-tests.yaml", ".policy-tests.yml")


class Verdict:
    """True or false as the assertion asked; its `repr` says why in one line, `str(verdict.answer)` in all of them."""

    __slots__ = ("answer", "holds")

    def __init__(self, answer: Answer, *, holds: bool) -> None:
        self.answer = answer
        self.holds = holds

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        return f"<{self.answer.question}: {self.answer.verdict}>"


class PolicyCheck:
    """A policy under test.

    `url` is `https://host[:port]/path?query`, and for the methods `CONNECT` (may the connection be opened?) and `RAW`
    (may bytes pass that nobody looks into?) also `host:port`. `body` is what a request carries: text as it is sent, or
    anything else as JSON; for the method `WEBSOCKET_TEXT` the message. `GET` of `wss://` is the handshake.
    Questions that are none raise ValueError.
    """

    def __init__(self, policy: Policy) -> None:
        from pyopenshell.policy import compile

        self.policy = policy
        self.engine: Engine = compile(policy)
        self.last: Verdict | None = None
        """The latest verdict; its ladder is shown when the test fails."""

    @classmethod
    def load(cls, file: str | Path) -> PolicyCheck:
        """The policy in a file. Raises `PolicyError` with every problem in it, OSError for no file."""
        from pyopenshell.policy import load

        path = Path(file)
        return cls(load(path.read_bytes(), str(path)))

    @classmethod
    def loads(cls, text: str) -> PolicyCheck:
        """The policy in a text."""
        from pyopenshell.policy import load

        return cls(load(text))

    def ask(self, method: str, url: str, *, binary: str, ancestors: Sequence[str] = (), body: object = None) -> Answer:
        """The answer with everything there is to know about it."""
        from pyopenshell.policy.question import ask, question

        text = body if body is None or isinstance(body, str) else json.dumps(body)
        return ask(self.engine, question(method, url, binary, ancestors, text))

    def _said(self, answer: Answer, *, holds: bool) -> Verdict:
        self.last = Verdict(answer, holds=holds)
        return self.last

    def allows(
        self, method: str, url: str, *, binary: str, ancestors: Sequence[str] = (), body: object = None
    ) -> Verdict:
        """Do the rules allow it? Not in audit mode, where what the rules refuse is forwarded."""
        answer = self.ask(method, url, binary=binary, ancestors=ancestors, body=body)
        return self._said(answer, holds=answer.allows)

    def denies(
        self,
        method: str,
        url: str,
        *,
        binary: str,
        ancestors: Sequence[str] = (),
        body: object = None,
        because: str = "",
    ) -> Verdict:
        """Is it refused, and with `because`, is that the condition that failed first (`method_not_allowed`, …)?"""
        from pyopenshell.policy.examples import CONDITIONS

        if because and because not in CONDITIONS:
            raise ValueError(f"unknown condition {because!r}; expected one of: {', '.join(CONDITIONS)}")
        answer = self.ask(method, url, binary=binary, ancestors=ancestors, body=body)
        condition = answer.explanation.decision.condition.value
        return self._said(answer, holds=answer.denies and because in ("", condition))

    def audits(
        self, method: str, url: str, *, binary: str, ancestors: Sequence[str] = (), body: object = None
    ) -> Verdict:
        """Is it refused by the rules and forwarded all the same?"""
        answer = self.ask(method, url, binary=binary, ancestors=ancestors, body=body)
        return self._said(answer, holds=answer.audits)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(INI, "Policy file of the `policy` fixture and of *.policy-tests.yaml files.", default="")
    parser.getgroup("openshell").addoption(
        "--openshell-policy", metavar="FILE", default="", help="Policy file under test; overrides the ini option."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "openshell_policy(file): the policy file of this test's `policy` fixture")


def policy_file(config: pytest.Config, near: Path) -> Path:
    """The policy file of a run. Raises pytest.UsageError when there is none."""
    given = config.getoption("--openshell-policy")
    if given:
        return config.invocation_params.dir / str(given)
    written = str(config.getini(INI))
    if written:
        return config.rootpath / written
    beside = near / "policy.yaml"
    if beside.exists():
        return beside
    raise pytest.UsageError(
        f"no policy to test: set `{INI} = policy.yaml`, pass --openshell-policy FILE,"
        " or put policy.yaml beside the test"
    )


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> PolicyCheck:
    """The policy under test: of the `openshell_policy` marker, the option, the ini file, or beside the test."""
    marker = request.node.get_closest_marker("openshell_policy")
    if marker is not None:
        return PolicyCheck.load(request.path.parent / marker.args[0])
    return PolicyCheck.load(policy_file(request.config, request.path.parent))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Below a failed test: the ladder of what its policy said last."""
    report = yield
    check = getattr(item, "funcargs", {}).get("policy")
    if call.when == "call" and report.failed and isinstance(check, PolicyCheck) and check.last is not None:
        report.sections.append(("openshell policy, asked last", str(check.last.answer)))
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(SUITES):
        suite: pytest.Collector = Suite.from_parent(parent, path=file_path)
        return suite
    return None


class Suite(pytest.File):
    """A `tests:` file: one test per example."""

    def collect(self) -> Iterable[pytest.Item]:
        from pyopenshell.policy import PolicyError
        from pyopenshell.policy.examples import load_examples

        try:
            examples = load_examples(self.path.read_bytes(), str(self.path))
            stem = self.path.name[: -len(next(end for end in SUITES if self.path.name.endswith(end)))]
            named = self.path.parent / f"{stem}.yaml"
            file = named if named.exists() else policy_file(self.config, self.path.parent)
            check = PolicyCheck.load(file)
        except PolicyError as error:
            raise self.CollectError(str(error)) from None
        except OSError as error:
            raise self.CollectError(f"cannot read {error.filename}: {error.strerror}") from None
        for example in examples:
            word = {"allowed": "allows", "denied": "denies", "audited": "audits"}[example.expected]
            item: ExampleItem = ExampleItem.from_parent(self, name=f"{example.line}: {word} {example.question}")
            item.example, item.check = example, check
            yield item


class ExampleItem(pytest.Item):
    """One example."""

    example: Example
    check: PolicyCheck

    def runtest(self) -> None:
        from pyopenshell.policy.examples import run

        (result,) = run(self.check.engine, (self.example,))
        if not result.passed:
            raise ExampleError(f"{result.complaint}\n{result.answer}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        if isinstance(excinfo.value, ExampleError):
            return f"{self.path}:{self.example.line}: {self.example}\n{excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.example.line - 1, self.name


class ExampleError(Exception):
    """An example that does not hold. The message is the complaint and the ladder."""
