"""The budget stage: its name, and a clear "not yet" for whoever configures it.  Nothing is counted or limited here.

The name is in the default list of stages, so that a configuration written today needs no change once budgets exist.  Until
then a budget that is configured must stop startup: a limit that is accepted and not kept would cost somebody money.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nexus.api import Scope, Stage

NOT_YET = "budgets are not available yet: this version enforces no spending limit; remove the [budget] table to start without one"


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """The `[budget]` table, which may not be there yet whatever is in it."""

    not_yet: ClassVar[str] = NOT_YET


class Budget(Stage):
    """Does nothing, and is only ever opened where nothing is configured."""

    def __init__(self, options: BudgetOptions, scope: Scope) -> None:
        """Takes the options only because every stage does."""
