"""The table: a row for each client and way, a column for each scenario, a sentence under it for whatever failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .scenarios import SCENARIOS, Row
from .world import NATIVE

NAME = 34


def title(row: Row) -> str:
    """The client, and which way its requests took where there are two."""
    return row.client.name if len(row.client.ways) == 1 else f"{row.client.name} ({row.way})"


def head() -> str:
    return f"{'client':{NAME}}" + "".join(f"{scenario:{_cell(scenario)}}" for scenario in SCENARIOS)


def line(row: Row) -> str:
    return f"{title(row):{NAME}}" + "".join(f"{_mark(row, scenario):{_cell(scenario)}}" for scenario in SCENARIOS)


def _cell(scenario: str) -> int:
    return max(8, len(scenario) + 2)


def _mark(row: Row, scenario: str) -> str:
    if scenario not in row.outcomes:
        return "–"
    return "✗" if row.outcomes[scenario] else "✓"


def notes(rows: Iterable[Row]) -> Iterator[str]:
    """What failed, and what there was not to try."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        yield from (f"✗ {title(row)}, {scenario}: {said}" for scenario, said in row.outcomes.items() if said)
        if row.way == row.client.ways[0]:
            for scenario, reason in row.client.leaves_out.items():
                reasons.setdefault(f"{row.client.name}: {reason}", []).append(scenario)
    yield from (f"– {', '.join(scenarios)}: {reason}" for reason, scenarios in reasons.items())


def ways() -> str:
    return f"({NATIVE}: by the server's own /v1/messages; translated: to a server that is spoken to as OpenAI only)"
