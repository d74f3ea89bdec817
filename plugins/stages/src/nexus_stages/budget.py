"""The budget stage: its name, and a clear "not yet" for whoever configures it.  Nothing is counted or limited here.

The name is in the default list of stages, so that a configuration written today needs no change once budgets exist.  Until
then a limit that is configured must stop startup: a limit that is accepted and not kept would cost somebody money.
"""

from __future__ import annotations

from typing import Any

import attrs

from nexus.api import Scope, Stage

NOT_YET = "budgets are not available yet: this version enforces no spending limit; remove the [budget] table to start without one"


def _not_yet(options: BudgetOptions, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        raise ValueError(NOT_YET)


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """The `[budget]` table.  Raises ValueError, with what to do, for any limit: none can be kept yet."""

    limit_usd: float | None = attrs.field(
        default=None, validator=_not_yet, metadata={"meaning": "not available yet: setting it stops startup"}
    )


class Budget(Stage):
    """Does nothing, and is only ever opened where nothing is configured."""

    def __init__(self, options: BudgetOptions, scope: Scope) -> None:
        """Takes the options only because every stage does."""
