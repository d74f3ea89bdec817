"""`nexus demo`: the flags.  The servers are in `fleet`, what is sent to them in `story`, how it is told in `telling`."""

from __future__ import annotations

import click

from nexus.cli.failure import Failure
from nexus.cli.options import as_json


@click.command("demo")
@click.option("--once", is_flag=True, help="Exit when the story is told.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the gateway.  [default: 6398, or a free one where that is taken]"
)
@as_json
def command(once: bool, port: int | None, as_json: bool) -> None:
    """See Nexus work, without a GPU: four simulated servers, and real requests.

    Tells a story of half a minute: a plain chat, a private burst that stays at home, a burst that overflows into the cloud, a
    server that is killed, a picture.  Then everything keeps running, so that you can try it yourself, until Ctrl-C.
    """
    import asyncio
    import sys

    from nexus.cli.demo.running import run
    from nexus.observers.format import setup_logging

    setup_logging("none", "error", sys.stderr)
    try:
        finished = asyncio.run(run(once=once, port=port, as_json=as_json))
    except asyncio.CancelledError:
        finished = False
    except TimeoutError:
        raise Failure("the demo took too long, so this machine may be too busy for it now: try again") from None
    if not finished:
        raise click.exceptions.Exit(1)
