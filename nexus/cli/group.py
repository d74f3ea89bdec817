"""Which commands there are, and what happens to a command that fails.  What a command does is in its own file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nexus import __version__
from nexus.cli.failure import Failure, as_failure
from nexus.errors import NexusError
from nexus.nearest import nearest

SECTIONS: Mapping[str, Sequence[str]] = {
    "Run": ("serve", "demo"),
    "Look into a running gateway": ("health", "backends", "models", "explain"),
    "Set up": ("clients", "check", "plugins", "config", "keys", "completion"),
}
DEFAULT = "serve"
EPILOG = (
    "Without a command, nexus serves: it listens on http://127.0.0.1:6398, finds Ollama, llama.cpp and other servers on this "
    "machine, and is one OpenAI API in front of all of them.  `nexus COMMAND --help` says more."
)


class Commands(click.Group):
    """Loads a command when it is asked for; turns what Nexus raises on purpose into one sentence and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"nexus.cli.{cmd_name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """No command means `serve`, also where its flags come first: `nexus --port 8080`."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        completing = ctx.resilient_parsing  # a shell that asks what could come next must hear of all commands
        if not completing and (not args or (args[0].startswith("-") and args[0] not in own)):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NexusError as error:
            raise as_failure(error) from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = nearest(args[0], self.list_commands(ctx)) if args else []
            meant = f"did you mean {near[0]!r}?" if near else "`nexus --help` lists the commands."
            raise click.UsageError(f"No such command {args[0]!r}; {meant}" if args else error.message, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in commands if command])


cli = Commands(
    "nexus",
    help="One API endpoint in front of any mix of LLM servers: local first, cloud when needed.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="nexus", message="%(prog)s %(version)s")(cli)

__all__ = ["Commands", "Failure", "cli"]
