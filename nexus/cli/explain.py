"""`nexus explain`: what would happen to a request now, or what happened to one.  The request is made in `asking`, the answer is
said in `explanation`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import asks_gateway, print_json

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

LANES = ("high", "normal", "low")


@click.command("explain")
@click.argument("model", required=False)
@click.argument("prompt", required=False)
@click.option("--stream", is_flag=True, help="As a stream.")
@click.option("--image", is_flag=True, help="With a picture in it.")
@click.option("--tools", is_flag=True, help="With a tool to call.")
@click.option("--zone", type=click.Choice(["restricted", "open"]), help="X-Nexus-Zone: restricted keeps it at home.")
@click.option("--priority", type=click.Choice(LANES), help="X-Nexus-Priority: the lane of the queue.")
@click.option("--strict", is_flag=True, help="X-Nexus-Strict: this exact model, no fallback.")
@click.option("--flexible", is_flag=True, help="X-Nexus-Flexible: any model that meets the needs.")
@click.option("--key", "key_name", metavar="NAME", help="As the client whose key is called so.")
@click.option("--path", default="/v1/chat/completions", show_default=True, help="The endpoint it would go to.")
@click.option(
    "--body", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", help="The request's own JSON; - reads stdin."
)
@click.option("--request", "request_id", metavar="ID", help="What happened to the request of this id, as X-Nexus-Request-Id says.")
@asks_gateway
def command(remote: Remote, as_json: bool, model: str | None, request_id: str | None, **asked: Any) -> None:
    """Say where a request for MODEL would go now, why there, and why not elsewhere.  Nothing is sent to a backend.

    \b
    nexus explain llama3.2:3b
    nexus explain llama3.2:3b "What is in this picture?" --image --zone restricted
    nexus explain --body request.json
    nexus explain --request 5f0e…
    """
    from urllib.parse import quote

    from nexus.cli import asking, explanation
    from nexus.cli.wrapping import width

    if request_id is not None:
        if model is not None:
            raise click.UsageError("--request ID tells of a request that was made: leave MODEL out.")
        answer = remote.get(f"/nexus/requests/{quote(request_id, safe='')}")
        told = explanation.of_served
    else:
        answer = remote.post("/nexus/explain", asking.question(model, **asked))
        told = explanation.of_asked
    if as_json:
        print_json(answer)
        return
    for line in told(answer, width()):
        click.echo(line)
