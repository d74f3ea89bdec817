"""How a command fails: clear sentences on stderr, exit code 1, no traceback."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from nexus.cli.wrapping import width, wrapped
from nexus.errors import ConfigError, NexusError


class Failure(click.ClickException):
    """A command that failed for a reason its user can do something about."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        columns = width(file or sys.stderr)
        first, *more = f"nexus: {self.message}".splitlines()
        click.echo(wrapped("", first, columns), file=file, err=file is None)
        for line in more:
            click.echo(wrapped("  ", line.removeprefix("  "), columns), file=file, err=file is None)


def as_failure(error: NexusError) -> Failure:
    """What Nexus says of an error, every mistake of a configuration on a line of its own."""
    if isinstance(error, ConfigError):
        return Failure("\n".join(mistakes(error)))
    return Failure(str(error))


def mistakes(error: ConfigError) -> list[str]:
    """A headline, then one indented line for each mistake: place, what is wrong, the nearest known word."""
    count = len(error.mistakes)
    named = f"the configuration {error.path}" if error.path else "the configuration"
    return [f"{named} has {count} mistake{'s' * (count != 1)}:", *(f"  {mistake}" for mistake in error.mistakes)]
