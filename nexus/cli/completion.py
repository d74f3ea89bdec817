"""`nexus completion`: the script that lets a shell complete nexus' commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nexus.cli.failure import Failure

SHELLS = ("bash", "zsh", "fish")
EPILOG = """\b
bash:  eval "$(nexus completion bash)"     in ~/.bashrc
zsh:   eval "$(nexus completion zsh)"      in ~/.zshrc
fish:  nexus completion fish > ~/.config/fish/completions/nexus.fish
"""


@click.command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands and flags in a shell."""
    from nexus.cli.group import cli

    made = get_completion_class(shell)
    if made is None:
        raise Failure(f"this click has no completion for {shell}: upgrade it")
    click.echo(made(cli, {}, "nexus", "_NEXUS_COMPLETE").source())
