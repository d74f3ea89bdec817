"""All clients, and how one is driven through its scenarios.  The command line is `__main__`'s."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from .agents import agents
from .packages import NotInstalled
from .scenarios import INTERACTIVE, SCENARIOS, SLOW, Client, Row
from .sdks import libraries
from .slow import slowed
from .world import world


def clients() -> list[Client]:
    return [*libraries(), *agents()]


def drive(client: Client, without: frozenset[str] = frozenset()) -> Iterator[Row]:
    """A row for each way; some scenarios may be left out.  What cannot be installed has failed."""
    try:
        client.install()
    except NotInstalled as problem:
        yield Row(client, client.ways[0], dict.fromkeys(scenarios(client), f"not installed: {problem}"))
        return
    for way in client.ways:
        with tempfile.TemporaryDirectory(prefix="nexus-clients-") as folder:
            yield _drive_one(client, way, Path(folder), without)


def _drive_one(client: Client, way: str, folder: Path, without: frozenset[str]) -> Row:
    """One client over one way, in worlds of its own."""
    outcomes = {}
    with world(folder, way, client.call, client.finds) as usual, slowed(usual, folder) as slow:
        for scenario in scenarios(client):
            if scenario in without:
                continue
            try:
                client.run(slow if scenario in SLOW else usual, scenario)
                outcomes[scenario] = ""
            except AssertionError as problem:
                outcomes[scenario] = " ".join(str(problem).split())[:600] or "an assertion of the harness failed"
    return Row(client, way, outcomes)


def scenarios(client: Client) -> list[str]:
    has = [scenario for scenario in SCENARIOS if scenario not in client.leaves_out]
    return has if client.has_terminal else [scenario for scenario in has if scenario != INTERACTIVE]
