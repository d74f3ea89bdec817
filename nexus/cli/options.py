"""Options that several commands share.  What they mean to a command is the command's."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nexus.cli.address import DEFAULT_URL, configured

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

F = TypeVar("F", bound=Callable[..., Any])
KEY_VARIABLE = "NEXUS_KEY"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
config_file = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="NEXUS_CONFIG",
    show_envvar=True,
    help="The configuration file.  [default: ./nexus.toml, if there is one]",
)
_url = click.option(
    "--url",
    envvar="NEXUS_URL",
    show_envvar=True,
    help=f"Where the gateway is.  [default: where the configuration lets it listen, else {DEFAULT_URL}]",
)
_key_env = click.option(
    "--key-env",
    default=KEY_VARIABLE,
    show_default=True,
    metavar="NAME",
    help="The environment variable that holds the key to show; an admin's, where the gateway has keys.",
)


def asks_gateway(command: F) -> Callable[..., Any]:
    """Adds `--url`, `--key-env` and `--json`, and gives the command a `remote` to ask."""

    @functools.wraps(command)
    def with_remote(*args: Any, url: str | None, key_env: str, **rest: Any) -> Any:
        from nexus.cli.remote import Remote

        return command(*args, remote=Remote(url or configured(os.environ), os.environ.get(key_env), key_env), **rest)

    return _url(_key_env(as_json(with_remote)))


def say_where(remote: Remote) -> None:
    """Above a table: which gateway says so, where that is not the usual one."""
    if remote.url != DEFAULT_URL:
        click.echo(f"The gateway at {remote.url}:\n")


def print_json(value: Any) -> None:
    """One JSON value, for people and for `jq`."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
