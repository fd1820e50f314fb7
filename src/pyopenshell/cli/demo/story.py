"""The demo itself: an agent that is refused, asks, is corrected, asks for less, gets it, and goes on.

Everything shown is what really happened, and every claim is checked: `Outcome.problems` is empty only if all held.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import importlib.resources
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyopenshell import policy as language
from pyopenshell.cli.app import CliError
from pyopenshell.cli.demo import trace
from pyopenshell.cli.demo.person import Person
from pyopenshell.cli.demo.screen import Screen
from pyopenshell.client import cards
from pyopenshell.client.gateway import FAILED_PHASES, Gateway
from pyopenshell.client.narrow import narrower
from pyopenshell.client.values import Chunk, Exit, LogLine, Observed
from pyopenshell.client.visible import visible
from pyopenshell.policy.describe import render_endpoint

HOST = "api.github.com"
NOTES = b"# Field notes\n\nWritten by an agent that asked first.\n"
AGENT_SECONDS = 600.0
LOG_LINES = 500

POLICY = """\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /lib64, /bin, /etc, /proc, /dev/urandom, /var/log]
  read_write: [/tmp, /dev/null]
landlock:
  compatibility: best_effort
network_policies:
  github_api_readonly:
    name: github_api_readonly
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        enforcement: enforce
        access: read-only
    binaries:
      - path: {curl}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where the agent wants to write, and how a person outside looks whether it did. `fetch` gives None for no file."""

    repository: str
    path: str
    fetch: Callable[[], bytes | None]
    token: str = ""

    @property
    def url(self) -> str:
        return f"https://{HOST}/repos/{self.repository}/contents/{self.path}"


@dataclasses.dataclass(slots=True)
class Outcome:
    """What happened. `decisions` are (kind, chunk id) in order."""

    problems: list[str] = dataclasses.field(default_factory=list)
    decisions: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    spoken: list[str] = dataclasses.field(default_factory=list)
    agent_code: int | None = None
    trace: list[trace.Row] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def approved(self) -> bool:
        return any(kind == "approve" for kind, _ in self.decisions)

    def expect(self, holds: bool, claim: str) -> None:
        if not holds:
            self.problems.append(claim)


class Story:
    """One performance. `tell` plays it; the caller opens and closes the house."""

    def __init__(self, gateway: Gateway, screen: Screen, person: Person, target: Target) -> None:
        self._gateway, self._screen, self._person, self._target = gateway, screen, person, target
        self._sandbox = ""
        self._observed: list[Observed] = []
        self.outcome = Outcome()

    async def tell(self) -> Outcome:
        """Raises CliError or GatewayError where the show cannot go on."""
        await self._open()
        try:
            deciding = asyncio.create_task(self._decide(), name="decisions")
            acting = asyncio.create_task(self._act(), name="agent")
            async with asyncio.timeout(AGENT_SECONDS):
                done, _ = await asyncio.wait({deciding, acting}, return_when=asyncio.FIRST_COMPLETED)
                if deciding in done and acting not in done:
                    await deciding  # raises what went wrong
                self.outcome.agent_code = await acting
        except TimeoutError:
            raise CliError(f"the agent did not finish within {AGENT_SECONDS:.0f} s") from None
        finally:
            for task in (deciding, acting):
                task.cancel()
            await asyncio.gather(deciding, acting, return_exceptions=True)
        await self._verify()
        await self._gateway.delete(self._sandbox)
        return self.outcome

    async def _open(self) -> None:
        screen, curl = self._screen, _curl()
        await self._gateway.set_setting("agent_policy_proposals_enabled", True)
        policy = language.load(POLICY.format(curl=curl), "demo-policy.yaml")
        started = screen.seconds
        sandbox = await self._gateway.create(policy=policy)
        sandbox = await self._gateway.wait_for(sandbox, "Ready", FAILED_PHASES)
        self._sandbox = sandbox.name
        took = (screen.seconds - started) * 1000
        screen.stage(f"sandbox {visible(sandbox.name)} ready in {took:.0f} ms: own user, network, mounts, processes")
        for endpoint in policy.rules[0].endpoints:
            screen.stage(f"its whole network: {render_endpoint(endpoint)}, only for {policy.rules[0].binaries[0]}")
        screen.blank()

    async def _act(self) -> int:
        """Run the agent inside and repeat what it says, line by line. Returns its exit code."""
        script = importlib.resources.files(__package__).joinpath("agent.sh").read_text(encoding="utf-8")
        command = ("/bin/bash", "-c", script, "agent", self._target.url, base64.b64encode(NOTES).decode())
        environment = {"GITHUB_TOKEN": self._target.token} if self._target.token else {}
        pending = ""
        code = 1
        async for event in self._gateway.exec(self._sandbox, command, environment=environment):
            if isinstance(event, Exit):
                code = event.code
                continue
            pending += event.data.decode("utf-8", "replace")
            *lines, pending = pending.split("\n")
            for line in lines:
                self._hear(line)
        if pending:
            self._hear(pending)
        return code

    def _hear(self, line: str) -> None:
        self.outcome.spoken.append(line)
        self._screen.inside(line)

    async def _decide(self) -> None:
        """The person's side: everything the inbox pushes, and a decision for each proposal."""
        seen: set[str] = set()
        async for event in self._gateway.watch_inbox(self._sandbox):
            if event.observed is not None:
                self._observe(event.observed)
            chunk = event.chunk
            if chunk is None or chunk.status != "pending" or chunk.review_token in seen:
                continue
            seen.add(chunk.review_token)
            await self._one_decision(chunk)

    def _observe(self, denial: Observed) -> None:
        self._observed.append(denial)
        self._screen.outside(
            f"observed: {visible(denial.method)} {visible(denial.path)} refused {denial.count}x (counted, not a rule)"
        )

    async def _one_decision(self, chunk: Chunk) -> None:
        screen, gateway = self._screen, self._gateway
        review = (await gateway.reviews(self._sandbox, [chunk.id])).get(chunk.id)
        screen.blank()
        screen.outside(f"proposal {visible(chunk.id[:8])}: {visible(chunk.rationale)}", strong=True)
        for endpoint in chunk.rule.endpoints:
            screen.outside(f"  asks for {visible(render_endpoint(endpoint))}")
        screen.outside(f"  for {', '.join(visible(one) for one in chunk.rule.binaries)}")
        if review is not None:
            for line in cards.newly_permits(chunk, review):
                screen.outside(line)
        for line in chunk.validation_result.split("\n"):
            screen.outside(f"  {visible(line)}")
        self.outcome.expect(
            review is not None and review.proven and bool(review.newly_permits),
            f"proposal {chunk.id} came with a proof of what it would newly permit",
        )
        answer = await self._person.decide(chunk, screen)
        if answer.kind == "narrow":
            await self._narrow(chunk)
            return
        self.outcome.decisions.append((answer.kind, chunk.id))
        if answer.kind == "approve":
            version, _ = await gateway.approve(self._sandbox, chunk.id, chunk.review_token)
            screen.outside(f"approved: policy version {version} goes to the sandbox now")
        else:
            self.outcome.reasons.append(answer.reason)
            await gateway.reject(self._sandbox, chunk.id, answer.reason)
            screen.outside("rejected, with that reason")
        screen.blank()

    async def _narrow(self, chunk: Chunk) -> None:
        """Cut the proposal down; the inbox then shows the narrower one and asks again."""
        rule = narrower(chunk.rule, await self._gateway.observed(self._sandbox))
        if rule is None:
            self._screen.outside("it already is exactly what was refused; y or n")
            await self._one_decision(chunk)
            return
        await self._gateway.edit(self._sandbox, chunk.id, rule)
        self._screen.outside("narrowed to what was refused; here is the proof of that:")

    async def _verify(self) -> None:
        """Look from outside whether all that was shown is true."""
        outcome, screen = self.outcome, self._screen
        stored = await asyncio.to_thread(self._target.fetch)
        screen.blank()
        if outcome.approved:
            outcome.expect(outcome.agent_code == 0, f"the agent succeeded (its exit code is {outcome.agent_code})")
            outcome.expect(stored == NOTES, "the file on the server is byte for byte what the agent uploaded")
            if stored == NOTES:
                screen.stage(f"verified: {self._target.path} on {HOST}, {len(NOTES)} bytes, identical")
        else:
            outcome.expect(outcome.agent_code == 3, f"the agent gave up (its exit code is {outcome.agent_code})")
            outcome.expect(stored is None, "nothing was written, because nothing was approved")
            if stored is None:
                screen.stage("verified: nothing was approved, and nothing was written")
        heard = "\n".join(outcome.spoken)
        for reason in outcome.reasons:
            outcome.expect(reason in heard, "the reviewer's words reached the agent unchanged")
        outcome.expect("403 policy_denied" in heard, "the first attempt was refused with a structured 403")
        outcome.trace = await self._trace()
        for step in trace.missing(outcome.trace, self._expected()):
            outcome.problems.append(f"the audit trail has the step: {step}")

    def _expected(self) -> list[tuple[str, ...]]:
        steps: list[tuple[str, ...]] = [("HTTP:PUT", "DENIED")]
        for kind, chunk_id in self.outcome.decisions:
            steps.append(("CONFIG:PROPOSED", chunk_id))
            steps.append(("CONFIG:APPROVED" if kind == "approve" else "CONFIG:REJECTED", chunk_id))
            if kind == "approve":
                steps.append(("HTTP:PUT", "ALLOWED"))
        return steps

    async def _trace(self) -> list[trace.Row]:
        """The story's log lines. They are pushed by the sandbox in batches: wait until the last one is here."""
        last = ("HTTP:PUT", "ALLOWED") if self.outcome.approved else ("CONFIG:REJECTED",)
        lines: list[LogLine] = []
        try:
            async with asyncio.timeout(5.0):
                async for line in self._gateway.tail(self._sandbox, lines=LOG_LINES):
                    if isinstance(line, str):
                        continue
                    lines.append(line)
                    if not trace.missing(trace.rows(lines), self._expected()) and all(w in line.message for w in last):
                        break
        except TimeoutError:
            pass  # what is missing is reported as a problem by the caller
        return trace.rows(lines)


def _curl() -> str:
    """The program the policy names. Raises CliError."""
    found = shutil.which("curl")
    if found is None:
        raise CliError("the demo's agent needs curl; install it with: apt-get install curl")
    return str(Path(found).resolve())


def environment_token() -> str:
    """A GitHub token from the places where people keep one."""
    return os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN") or ""


def summary(outcome: Outcome) -> dict[str, Any]:
    """`-o json`."""
    return {
        "agent_exit_code": outcome.agent_code,
        "decisions": [{"chunk_id": chunk, "decision": kind} for kind, chunk in outcome.decisions],
        "ok": not outcome.problems,
        "problems": outcome.problems,
        "seconds": round(outcome.seconds, 3),
        "trace": outcome.trace,
    }
