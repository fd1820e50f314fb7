"""`openshell rule`: the approval inbox. Shows proposals with their proof, and carries the person's decisions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pyopenshell.audit.text import spoken
from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.durations import duration
from pyopenshell.cli.framework import Group, argument_name, output_option
from pyopenshell.cli.output import emit, mark, plain, say
from pyopenshell.client import stamp, visible
from pyopenshell.client.values import Chunk, InboxEvent

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway


@click.group(
    cls=Group,
    alias="rl",
    help="The approval inbox: what agents ask for, what it would newly permit, and your decision.",
    examples=(
        "openshell rule get --status pending",
        "openshell rule approve --chunk-id 3f2a",
        'openshell rule reject --chunk-id 3f2a --reason "only this one file"',
    ),
)
def command() -> None: ...


def chunk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`[NAME] [CHUNK]` and `--chunk-id`: a chunk is named by its id or any unique beginning of it."""
    function = click.option("--chunk-id", default="", metavar="ID", help="Chunk id, or a unique beginning of it.")(
        function
    )
    return click.argument("targets", nargs=-1, metavar="[NAME] [CHUNK]")(function)


def split_targets(targets: Sequence[str], chunk_id: str) -> tuple[str, str]:
    """(sandbox, chunk): with --chunk-id the words name the sandbox, without it the last word is the chunk."""
    words = list(targets)
    chunk = chunk_id or (words.pop() if words else "")
    if not chunk:
        raise click.UsageError("Missing option '--chunk-id'.")
    if len(words) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({' '.join(words[1:])})")
    return (words[0] if words else "", chunk)


def pick(chunks: Sequence[Chunk], wanted: str) -> Chunk:
    """The chunk whose id is `wanted` or, alone, begins with it. Raises CliError."""
    exact = [one for one in chunks if one.id == wanted]
    found = exact or [one for one in chunks if one.id.startswith(wanted)]
    if not found:
        raise CliError(f"draft chunk '{wanted}' not found")
    if len(found) > 1:
        ids = "\n".join(f"{one.id}  {one.status}  {visible(one.rule_name)}" for one in found)
        raise CliError(f"chunk id '{wanted}' is ambiguous; it is the beginning of\n{ids}")
    return found[0]


async def chosen(app: App, gateway: Gateway, target: tuple[str, str]) -> tuple[str, Chunk]:
    """(sandbox, chunk) as the gateway has them now."""
    name, wanted = target
    sandbox = app.sandbox(name, gateway.registration.name)
    return sandbox, pick((await gateway.draft(sandbox)).chunks, wanted)


@command.command("get", help="Show proposals with what each would newly permit, and observed denials.")
@argument_name
@click.option(
    "--status", default="", metavar="STATUS", help="Only proposals that are `pending`, `approved` or `rejected`."
)
@click.option("--watch", is_flag=True, help="Then go on: print every proposal and decision as it happens.")
@output_option
@click.pass_obj
async def get(app: App, name: str, status: str, watch: bool, output: str) -> None:
    from pyopenshell.client import cards

    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        if watch:
            await _watch(gateway, sandbox, status, output)
            return
        draft = await gateway.draft(sandbox, status)
        reviews = await gateway.reviews(sandbox, [one.id for one in draft.chunks]) if draft.chunks else {}
        observed = await gateway.observed(sandbox) if status in ("", "pending") else []
    if output != "table":
        from pyopenshell.cli.chunk_data import chunk_data

        emit(
            {
                "chunks": [chunk_data(one, reviews.get(one.id)) for one in draft.chunks],
                "draft_version": draft.version,
                "observed_denials": observed,
                "sandbox": sandbox,
            },
            output,
        )
        return
    if draft.chunks:
        for line in cards.inbox(draft.version, draft.chunks, reviews):
            say(line)
    else:
        say(f"No network rules for sandbox '{visible(sandbox)}'")
    if observed:
        if not draft.chunks:
            say()
        for line in cards.observed_lines(observed):
            say(line)


async def _watch(gateway: Gateway, sandbox: str, status: str, output: str) -> None:
    """One card, or one line of JSON, per event. Ends when the stream or the person does."""
    from pyopenshell.cli.chunk_data import chunk_data
    from pyopenshell.client import cards

    async for event in gateway.watch_inbox(sandbox):
        if event.chunk is not None and (not status or event.chunk.status == status):
            review = (await gateway.reviews(sandbox, [event.chunk.id])).get(event.chunk.id)
            if output == "table":
                for line in cards.card(event.chunk, review):
                    say(line)
                say()
            else:
                _json_line({"chunk": chunk_data(event.chunk, review), "sandbox": event.sandbox})
        elif output != "table":
            _json_line(_plain_event(event))
        elif event.observed is not None:
            for line in list(cards.observed_lines([event.observed]))[2:]:
                say(line)
        elif event.synced:
            say("  -- up to date; waiting for the next --", err=True)


def _plain_event(event: InboxEvent) -> dict[str, Any]:
    if event.observed is not None:
        return {"observed": dataclasses.asdict(event.observed), "sandbox": event.sandbox}
    if event.gone:
        return {"gone": True, "sandbox": event.sandbox}
    return {"sandbox": event.sandbox, "synced": event.synced}


def _json_line(value: Any) -> None:
    say(json.dumps(plain(value), sort_keys=True).replace("\x7f", "\\u007f"))


@command.command("approve", help="Approve one proposal. A rejected one can still be approved.")
@chunk_options
@click.option(
    "--candidate",
    default="",
    metavar="HEX",
    help="Only if the proposal still is the one you saw: the `Candidate:` value of `rule get`.",
)
@click.option(
    "--for",
    "limit",
    default="",
    metavar="DURATION",
    help="Approve for so long only (30s, 10m, 2h, 7d); then the policy is as before. Again on an approval that is "
    "limited already: a new limit from now.",
)
@output_option
@click.pass_obj
async def approve(app: App, targets: tuple[str, ...], chunk_id: str, candidate: str, limit: str, output: str) -> None:
    target = split_targets(targets, chunk_id)
    expires = duration(limit) if limit else None
    async with app.connect() as gateway:
        sandbox, chunk = await chosen(app, gateway, target)
        if candidate and not chunk.candidate_hash.startswith(candidate.lower()):
            raise CliError(
                f"the proposal changed: its candidate is now {chunk.candidate_hash[:12] or '(none)'}; "
                "look at it again with: openshell rule get"
            )
        version, digest = await gateway.approve(sandbox, chunk.id, chunk.review_token, expires=expires)
    if output != "table":
        answer = {"chunk_id": chunk.id, "policy_hash": digest, "policy_version": version, "status": "approved"}
        emit(answer | ({"approved_for_seconds": int(expires.total_seconds())} if expires else {}), output)
        return
    how = f" for {spoken(expires.total_seconds())}" if expires else ""
    mark("OK", f"Chunk approved{how}. Policy version: {version}, hash: {digest[:12]}")


@command.command("reject", help="Reject one proposal, or revoke an approved one. The reason reaches the agent.")
@chunk_options
@click.option("--reason", default="", metavar="TEXT", help="Guidance for the agent, delivered byte for byte.")
@output_option
@click.pass_obj
async def reject(app: App, targets: tuple[str, ...], chunk_id: str, reason: str, output: str) -> None:
    target = split_targets(targets, chunk_id)
    async with app.connect() as gateway:
        sandbox, chunk = await chosen(app, gateway, target)
        await gateway.reject(sandbox, chunk.id, reason)
    if output != "table":
        emit({"chunk_id": chunk.id, "reason": reason, "status": "rejected"}, output)
        return
    mark("OK", "Chunk rejected.")


@command.command("approve-all", help="Approve every proposal that is pending now; later arrivals are not included.")
@argument_name
@click.option("--include-security-flagged", is_flag=True, help="Also those that carry security notes.")
@output_option
@click.pass_obj
async def approve_all(app: App, name: str, include_security_flagged: bool, output: str) -> None:
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        pending = (await gateway.draft(sandbox, "pending")).chunks
        approved, skipped, version = await gateway.approve_all(
            sandbox, pending, include_security_flagged=include_security_flagged
        )
    if output != "table":
        emit({"chunks_approved": approved, "chunks_skipped": skipped, "policy_version": version}, output)
        return
    mark("OK", f"{approved} chunk(s) approved, {skipped} skipped. Policy version: {version}")


@command.command("narrow", help="Cut a pending proposal down to exactly the requests that were refused.")
@chunk_options
@output_option
@click.pass_obj
async def narrow(app: App, targets: tuple[str, ...], chunk_id: str, output: str) -> None:
    from pyopenshell.client import cards
    from pyopenshell.client.narrow import narrower

    target = split_targets(targets, chunk_id)
    async with app.connect() as gateway:
        sandbox, chunk = await chosen(app, gateway, target)
        rule = narrower(chunk.rule, await gateway.observed(sandbox))
        if rule is None:
            raise CliError("no refused request on record is narrower than this proposal")
        await gateway.edit(sandbox, chunk.id, rule)
        edited = pick((await gateway.draft(sandbox)).chunks, chunk.id)
        review = (await gateway.reviews(sandbox, [chunk.id])).get(chunk.id)
    if output != "table":
        from pyopenshell.cli.chunk_data import chunk_data

        emit(chunk_data(edited, review), output)
        return
    mark("OK", "Chunk narrowed.")
    for line in cards.card(edited, review):
        say(line)


@command.command("undo", help="Take an approval back: the policy becomes exactly what it was, the proposal pending.")
@chunk_options
@output_option
@click.pass_obj
async def undo(app: App, targets: tuple[str, ...], chunk_id: str, output: str) -> None:
    target = split_targets(targets, chunk_id)
    async with app.connect() as gateway:
        sandbox, chunk = await chosen(app, gateway, target)
        version, digest = await gateway.undo(sandbox, chunk.id)
    if output != "table":
        emit({"chunk_id": chunk.id, "policy_hash": digest, "policy_version": version, "status": "pending"}, output)
        return
    mark("OK", f"Approval undone. Policy version: {version}, hash: {digest[:12]}")


@command.command("clear", help="Delete every pending proposal. Decided ones stay.")
@argument_name
@output_option
@click.pass_obj
async def clear(app: App, name: str, output: str) -> None:
    async with app.connect() as gateway:
        cleared = await gateway.clear(app.sandbox(name, gateway.registration.name))
    if output != "table":
        emit({"chunks_cleared": cleared}, output)
        return
    mark("OK", f"{cleared} pending chunk(s) cleared.")


@command.command("history", help="What was proposed and decided, by whom, in order.")
@argument_name
@output_option
@click.pass_obj
async def history(app: App, name: str, output: str) -> None:
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        entries = await gateway.history(sandbox)
    if output != "table":
        emit({"history": entries, "sandbox": sandbox}, output)
        return
    if not entries:
        say(f"No rule history for sandbox '{visible(sandbox)}'")
        return
    say("Rule History:")
    say()
    for one in entries:
        say(f"  {stamp(one.time)} {visible(one.event)} [{visible(one.chunk_id[:8])}] {visible(one.description)}")
