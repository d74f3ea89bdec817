"""`nexus config init`: a nexus.toml in which every key is there, commented out.  What is in it comes from `nexus.config`."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli.failure import Failure
from nexus.cli.options import as_json, print_json


@click.group("config")
def command() -> None:
    """Write a configuration file to start from."""


@command.command("init")
@click.argument("path", type=click.Path(path_type=Path), default="nexus.toml")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@as_json
def init(path: Path, force: bool, as_json: bool) -> None:
    """Write a commented nexus.toml.

    Every key is there with its default and its meaning, commented out, so that the file changes nothing until you do.  PATH is
    a file or a directory; without it, ./nexus.toml is written.
    """
    from nexus.catalog import Catalog
    from nexus.config import default_text

    path = path / "nexus.toml" if path.is_dir() else path
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_text(Catalog.load()))
    except FileExistsError:
        raise Failure(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
    if as_json:
        print_json({"written": str(path)})
    else:
        click.echo(f"wrote {path}: take the # away from the lines you need; `nexus check` judges the result")
