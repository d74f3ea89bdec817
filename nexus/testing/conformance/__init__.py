"""The conformance suite: every client dialect against every backend dialect, through a real gateway, held to golden exchanges.

Scenarios are told once, in canonical terms.  A dialect joins with one `GoldenTable`, which says each of them in the dialect's own
words; all pairs follow.  No pytest here: the class for it is `nexus.testing.contracts.ConformanceContract`.
"""

from nexus.testing.conformance.anthropic import AnthropicTable
from nexus.testing.conformance.cells import Cell, Nonconforming, Outcome, run_cell
from nexus.testing.conformance.cutting import cut_everywhere, ends_early, spoken
from nexus.testing.conformance.golden import Exchange, GoldenTable, sse_events
from nexus.testing.conformance.house import Heard, House, house
from nexus.testing.conformance.matrix import cells, declared, matrix, printed
from nexus.testing.conformance.openai import OpenAITable
from nexus.testing.conformance.own_errors import own_errors
from nexus.testing.conformance.scenarios import FAILURES, SCENARIOS, Failing, Manner, Scenario

TABLES: tuple[GoldenTable, ...] = (OpenAITable(), AnthropicTable())
"""The dialects whose goldens come with Nexus."""

__all__ = [
    "FAILURES",
    "SCENARIOS",
    "TABLES",
    "AnthropicTable",
    "Cell",
    "Exchange",
    "Failing",
    "GoldenTable",
    "Heard",
    "House",
    "Manner",
    "Nonconforming",
    "OpenAITable",
    "Outcome",
    "Scenario",
    "cells",
    "cut_everywhere",
    "declared",
    "ends_early",
    "house",
    "matrix",
    "own_errors",
    "printed",
    "run_cell",
    "spoken",
    "sse_events",
]
