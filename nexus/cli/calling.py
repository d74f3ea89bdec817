"""How the reader can run a command of Nexus here: its program need not be on the PATH, as after `make run`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "nexus"


def calling() -> str:
    """`nexus`, where a shell finds this very program by that name; else its path, or Python with it."""
    own = Path(sys.executable).with_name(NAME)
    if not own.is_file():
        return NAME if shutil.which(NAME) else f"{shlex.quote(sys.executable)} -m {NAME}"
    found = shutil.which(NAME)
    return NAME if found and os.path.samefile(found, own) else shlex.quote(_shortest(own))


def _shortest(path: Path) -> str:
    """As one types it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and here.parent != here else str(path)
