"""All cells of some tables, and the matrix as people read it.  What one cell shows is in `cells`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus.testing.conformance.cells import Cell, Nonconforming, Outcome, run_cell
from nexus.testing.conformance.golden import GoldenTable
from nexus.testing.conformance.scenarios import FAILURES, SCENARIOS, Failing, Scenario

FAILED = "failed"
ABORT = "abort"
Grid = Mapping[str, Mapping[tuple[str, str], Sequence[Outcome]]]
"""Scenario → (client, server) → its outcomes: whole, streamed, or both."""


def cells(clients: Sequence[GoldenTable], servers: Sequence[GoldenTable]) -> Iterator[Cell]:
    """Every client with every server in every scenario, whole and streamed."""
    for scenario in (*SCENARIOS, *FAILURES, None):
        for client in clients:
            for server in servers:
                for stream in _ways(scenario):
                    yield Cell(client=client, server=server, scenario=scenario, stream=stream)


def _ways(scenario: Scenario | Failing | None) -> Iterator[bool]:
    if isinstance(scenario, Scenario):
        yield from (way for way, there in ((False, scenario.whole), (True, scenario.streamed)) if there)
    elif scenario is None or scenario.where == "status":
        yield from (False, True)
    else:
        yield True


def declared(clients: Sequence[GoldenTable], servers: Sequence[GoldenTable]) -> Grid:
    """The matrix as the tables say it, without running a cell."""
    grid: dict[str, dict[tuple[str, str], list[Outcome]]] = {}
    for cell in cells(clients, servers):
        grid.setdefault(cell.name, {}).setdefault((cell.client.dialect, cell.server.dialect), []).append(cell.declared)
    return grid


async def matrix(
    clients: Sequence[GoldenTable], servers: Sequence[GoldenTable], *, plugins: Sequence[Any] = ()
) -> tuple[Grid, list[str]]:
    """Runs all cells, one after another, and says of each that failed what was wrong with it."""
    grid: dict[str, dict[tuple[str, str], list[Outcome]]] = {}
    wrong = []
    for cell in cells(clients, servers):
        row = grid.setdefault(cell.name, {})
        try:
            with tempfile.TemporaryDirectory(prefix="nexus-conformance-") as state:
                outcome = await run_cell(cell, Path(state), plugins=plugins)
        except Nonconforming as error:
            wrong.append(str(error))
            outcome = Outcome(kind=FAILED)
        row.setdefault((cell.client.dialect, cell.server.dialect), []).append(outcome)
    return grid, wrong


def printed(grid: Grid) -> str:
    """The matrix as a table in Markdown: ✓ for all kept, what was lost, what was refused, n.a. where the client cannot say it."""
    pairs = list(next(iter(grid.values())))
    rows = [["scenario", *(f"{client} → {server}" for client, server in pairs)]]
    rows += [[name, *(_shown(row[pair]) for pair in pairs)] for name, row in grid.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


def _shown(outcomes: Sequence[Outcome]) -> str:
    kinds = {outcome.kind for outcome in outcomes}
    words = ", ".join(dict.fromkeys(word for outcome in outcomes for word in outcome.words))
    if FAILED in kinds or len(kinds) > 1:
        return "✗"
    return {"kept": "✓", "absent": "n.a.", "lost": f"✓ without {words}", "refused": f"refused: {words}"}[kinds.pop()]
