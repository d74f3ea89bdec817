"""`make clients`: installs real clients and drives them through the gateway against the real llama.cpp server.

`python -m tests.clients [NAME …]` takes the names of `nexus clients`; exit code 1 where a client fails.
"""

from __future__ import annotations

import argparse
import sys
import time

from . import report
from .driving import clients, drive
from .scenarios import SCENARIOS


def main() -> int:
    known = clients()
    pages = list(dict.fromkeys(client.page for client in known))
    parser = argparse.ArgumentParser(prog="make clients", description="Drive real clients through the gateway.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(pages)}; all, where none is given")
    parser.add_argument(
        "--without", action="append", default=[], choices=SCENARIOS, help="leave a scenario out; may be given more than once"
    )
    arguments = parser.parse_args()
    names, without = arguments.names, frozenset(arguments.without)
    if wrong := [name for name in names if name not in pages]:
        parser.error(f"there is no client {wrong[0]!r}; there are {', '.join(pages)}")
    rows = []
    begun = time.monotonic()
    print(report.head(), flush=True)
    for client in known:
        if not names or client.page in names:
            for row in drive(client, without):
                rows.append(row)
                print(report.line(row), flush=True)
    print(f"\n{report.ways()}\n{len(rows)} rows in {time.monotonic() - begun:.0f} s")
    for note in report.notes(rows):
        print(note)
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
