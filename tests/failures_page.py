"""docs/reference/failures.md: its tables are made from the source here; `test_docs_failures.py` compares.

After a change of a line, write them anew:  python -m tests.failures_page
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from nexus.catalog import Catalog
from nexus.failures import STATUSES, WORDS
from nexus.model import FailureRule

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "failures.md"
TABLE = re.compile(r"(<!-- table: (?P<name>[a-z]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
HEAD = (
    "| status | `code` or `type` | the message begins with | fault | code of the attempt | who says so |",
    "|---|---|---|---|---|---|",
)
SHORT = ("| status | fault | and |", "|---|---|---|")


def tables() -> dict[str, str]:
    """The tables by the names that the page has for them."""
    own = {name: kind.failures for name, kind in sorted(Catalog.load().backends.items()) if kind.failures}
    kinds = "\n\n".join(f"`{name}`:\n\n{_table(rules)}" for name, rules in own.items())
    return {"words": _table(WORDS), "statuses": "\n".join((*SHORT, *map(_short, STATUSES))), "kinds": kinds}


def renewed(text: str) -> str:
    """The page with its tables as they should be."""
    made = tables()
    return TABLE.sub(lambda found: f"{found[1]}\n{made[found['name']]}\n{found[3]}", text)


def _table(rules: Iterable[FailureRule]) -> str:
    return "\n".join((*HEAD, *map(_row, rules)))


def _row(rule: FailureRule) -> str:
    words = "<br>".join(f"`` {words} ``" if "`" in words else f"`{words}`" if words else "nothing at all" for words in rule.words)
    cells = (
        _spans(rule.status) or "any",
        "<br>".join(f"`{code}`" for code in rule.codes),
        words + (", and has no other words" if rule.alone and any(rule.words) else ""),
        rule.fault.value,
        f"`{rule.code}`" if rule.code else "`no_` and the task" if rule.fault == "path" else "`status`",
        rule.source,
    )
    return f"| {' | '.join(cells)} |"


def _short(rule: FailureRule) -> str:
    return f"| {_spans(rule.status)} | {rule.fault.value} | {'says when to come back' if rule.retry_after else ''} |"


def _spans(statuses: tuple[int, ...]) -> str:
    def runs() -> Iterator[str]:
        for _, run in groupby(enumerate(sorted(statuses)), lambda pair: pair[1] - pair[0]):
            found = [status for _, status in run]
            yield f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"

    return ", ".join(runs())


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
