"""`nexus serve`: flags become a configuration, which is served until a signal.  Imports as little as it can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from nexus.cli.options import config_file

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("pretty", "json", "none")


@click.command("serve")
@config_file
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 6398]")
@click.option("--insecure", is_flag=True, help="Listen beyond loopback without keys: whoever reaches the port may use everything.")
@click.option("--no-discovery", is_flag=True, help="Look for no servers: use those of the configuration only.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where state is kept.  [default: the platform's directory]")
@click.option("--log-format", type=click.Choice(FORMATS), default="pretty", show_default=True, help="How log lines look.")
@click.option("--json", "as_json", is_flag=True, help="The same as --log-format json.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    envvar="NEXUS_LOG",
    show_default=True,
    show_envvar=True,
    help="Log this and what is worse.",
)
def command(file: Path | None, log_format: str, log_level: str, as_json: bool, **given: Any) -> None:
    """Run the gateway.  This is what `nexus` alone does.

    Flags win over NEXUS_<TABLE>_<KEY> variables, these over the file.  The first SIGTERM or Ctrl-C lets running requests
    finish, the second one does not.
    """
    import asyncio
    import linecache
    import logging
    import sys

    from nexus.runtime.lazy_loading import lazy_loading

    with lazy_loading():
        from nexus.cli.running import run
    linecache.clearcache()  # the sources of generated methods, kept for debuggers: room for what the configuration needs
    from nexus.config import load
    from nexus.observers.format import setup_logging
    from nexus.runtime.loop import new_loop

    config, catalog = load(file, env=os.environ, flags=flags(**given))
    log_format = "json" if as_json else log_format
    handler = setup_logging(log_format, log_level, sys.stderr)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run(config, catalog, greeted=log_format == "pretty" and log_level.lower() in ("debug", "info")))
    except asyncio.CancelledError:
        logging.getLogger("nexus").error("stopped at once, as asked; requests under way were cut off")
        sys.exit(1)
    finally:
        handler.flush()


def flags(*, host: str | None, port: int | None, insecure: bool, no_discovery: bool, state_dir: Path | None) -> dict[str, Any]:
    """The flags by the places of the configuration that they stand for; None is one that was not given."""
    return {
        "server.host": host,
        "server.port": port,
        "server.insecure": insecure or None,
        "server.state_dir": None if state_dir is None else str(state_dir),
        "discovery.sources": [] if no_discovery else None,
    }
