"""How a command line becomes a call: lazy sub-commands, aliases, flags accepted anywhere, errors and exit codes.

Knows no verb. Usage errors end with 2, refused or failed calls with 1 (contract/cli.md 1).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.client import GatewayError, RegistrationError, UnreachableError, visible_lines

C = TypeVar("C", bound=Callable[..., Any])
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and value != 0 and parameter.name:
        setattr(context.find_root().ensure_object(App), parameter.name, value)


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from pyopenshell import __version__

        click.echo(f"openshell {__version__}")
        context.exit()


def global_options(*, hidden: bool) -> list[click.Option]:
    """The flags of contract/cli.md 1; every command takes them, so they work at any position."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, hidden=hidden, callback=_store, **settings)

    return [
        option("-g", "--gateway", metavar="NAME", help="Registered gateway to use. [env: OPENSHELL_GATEWAY]"),
        option(
            "--gateway-endpoint",
            metavar="URL",
            help="Dial this endpoint instead of a registered one. [env: OPENSHELL_GATEWAY_ENDPOINT]",
        ),
        option(
            "--gateway-insecure",
            is_flag=True,
            help="Do not verify the gateway's certificate. [env: OPENSHELL_GATEWAY_INSECURE]",
        ),
        option("--workspace", metavar="NAME", help="Workspace, default `default`. [env: OPENSHELL_WORKSPACE]"),
        option("-v", "--verbose", count=True, help="Say more on stderr: gRPC status codes in errors."),
        click.Option(
            ("-V", "--version"),
            is_flag=True,
            expose_value=False,
            hidden=hidden,
            is_eager=True,
            callback=_version,
            help="Print the version.",
        ),
    ]


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """One per line, never wrapped: they are there to be copied."""
    if examples:
        with formatter.section("EXAMPLES"):
            for one in examples:
                formatter.write(f"{' ' * formatter.current_indent}{one}\n")


class Command(click.Command):
    """A verb. Its function may be `async def`."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT | kwargs.get("context_settings", {})
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.extend(global_options(hidden=True))

    def invoke(self, ctx: click.Context) -> Any:
        result = super().invoke(ctx)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        formatter.write_paragraph()
        formatter.write_text("Flags that every command takes: openshell --help")


class Group(click.Group):
    """A noun with verbs. Without a verb it prints its help and succeeds."""

    command_class = Command

    def __init__(self, *args: Any, alias: str = "", examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT | kwargs.get("context_settings", {})
        kwargs.setdefault("invoke_without_command", True)
        super().__init__(*args, **kwargs)
        self.alias, self.examples = alias, examples
        self.params.extend(global_options(hidden=True))

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx._protected_args and not ctx.args:
            click.echo(ctx.get_help())
            return None
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.alias:
            with formatter.section("ALIAS"):
                formatter.write_text(self.alias)
        write_examples(formatter, self.examples)


class Root(click.Group):
    """The program. Sub-commands are imported when they are called or listed in full, not before."""

    command_class = Command

    def __init__(
        self,
        entries: Mapping[str, Sequence[tuple[str, str, str]]],
        aliases: Mapping[str, str],
        examples: Sequence[str],
        hidden: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            name="openshell",
            help="Sandboxes for agents: default-deny network, proposals from inside, approvals from outside.",
            context_settings=CONTEXT,
            invoke_without_command=True,
        )
        self.params.extend(global_options(hidden=False))
        self._sections = entries
        self._where = {name: module for entry in entries.values() for name, module, _ in entry}
        self._aliases, self._examples, self._hidden = aliases, examples, hidden or {}
        self._app = App()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self._aliases.get(cmd_name, cmd_name)
        module = self._where.get(name) or self._hidden.get(name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        self._app = ctx.ensure_object(App)
        if not ctx._protected_args and not ctx.args:
            click.echo(ctx.get_help())
            return None
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entry in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, _, text in entry])
        records = [record for one in self.get_params(ctx) if (record := one.get_help_record(ctx)) is not None]
        with formatter.section("FLAGS"):
            formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self._examples)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, map every error to its message and exit code, and leave."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except EXPECTED as error:
            code = report(error, verbose=self._app.verbose > 0)
        except KeyboardInterrupt:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


EXPECTED = (
    click.ClickException,
    click.Abort,
    CliError,
    GatewayError,
    RegistrationError,
    UnreachableError,
    BrokenPipeError,
)
"""What people can do something about. Anything else is our bug and must be seen as one."""


def report(error: Exception, *, verbose: bool = False) -> int:
    """Tell the person; returns the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, click.Abort):
        fail("aborted by user")
        return 1
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    if str(error):
        fail(f"{error.code}: {error}" if verbose and isinstance(error, GatewayError) else str(error))
    return error.code if isinstance(error, CliError) else 1


def fail(message: str) -> None:
    """The one error layout: `Error:   × message`, continuation lines indented below it."""
    first, *rest = visible_lines(message)
    click.echo(f"{click.style('Error:', fg='red')}   × {first}", err=True)
    for line in rest:
        click.echo(f"            {line}", err=True)


def argument_name(function: C) -> C:
    """`[NAME]`: a sandbox, the last used one when left out."""
    return click.argument("name", required=False, default="")(function)


def output_option(function: C) -> C:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "yaml", "json"]),
        default="table",
        show_default=True,
        help="Layout of the answer.",
    )(function)
