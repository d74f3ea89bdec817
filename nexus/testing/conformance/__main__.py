"""`python -m nexus.testing.conformance` runs the matrix of the tables that come with Nexus and prints it; it ends with 1 where a cell
failed or the gateway's own errors are not in a dialect's form, and says on stderr what was wrong with each."""

from __future__ import annotations

import asyncio
import logging
import sys

from nexus.testing.conformance import TABLES, Nonconforming, matrix, own_errors, printed, spoken


def main() -> int:
    logging.getLogger("nexus").setLevel(logging.CRITICAL)  # backends that fail are meant to
    grid, wrong = asyncio.run(matrix(TABLES, TABLES))
    wrong += asyncio.run(_errors())
    sys.stdout.write(printed(grid))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


async def _errors() -> list[str]:
    wrong = []
    async with spoken() as dialects:
        for table in TABLES:
            try:
                own_errors(table, dialects)
            except Nonconforming as error:
                wrong.append(str(error))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
