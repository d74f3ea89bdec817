"""`nexus plugins`: which packages are there, what they give, what is wrong with them.  Judges no configuration."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import click

from nexus.cli.options import as_json, config_file, print_json


@click.command("plugins")
@config_file
@as_json
def command(file: Path | None, as_json: bool) -> None:
    """List plugin packages: where they come from, what they give, what is wrong."""
    from nexus.catalog import Catalog, Package
    from nexus.config import read

    draft = read(file, env=os.environ)
    packages = Catalog.load(draft.plugins, (), draft.disabled, draft.path).packages
    if as_json:
        print_json({"plugins": [attrs.asdict(package) for package in packages]})
        return

    from nexus.cli.tables import show_table

    def row(package: Package) -> tuple[object, ...]:
        state = "disabled" if package.disabled else package.problem
        return package.distribution or package.name, package.version, package.origin, ", ".join(package.provides), state

    show_table(("Package", "Version", "Origin", "Provides", "Problem"), [row(package) for package in packages])
