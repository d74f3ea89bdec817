"""`python -m nexus.testing.conformance` runs the matrix of the tables that come with Nexus and prints it; it ends with 1 where a cell
failed, and says on stderr what was wrong with each."""

from __future__ import annotations

import asyncio
import logging
import sys

from nexus.testing.conformance import TABLES, matrix, printed


def main() -> int:
    logging.getLogger("nexus").setLevel(logging.CRITICAL)  # backends that fail are meant to
    grid, wrong = asyncio.run(matrix(TABLES, TABLES))
    sys.stdout.write(printed(grid))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
