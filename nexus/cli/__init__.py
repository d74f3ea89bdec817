"""The command line: `nexus`, which is also `python -m nexus`.

One file per command; each loads what it needs when it runs, so that `serve` stays small.  No rule of the gateway lives here.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that `sys.argv` names and exit: 0 fine, 1 failed, 2 wrong usage."""
    from nexus.cli.group import cli

    cli.main(prog_name="nexus")
