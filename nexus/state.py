"""What survives a restart: one SQLite file in a state directory that only one process uses at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import platformdirs

from nexus.errors import StartupError
from nexus.model import Model, Price

_TABLES = "CREATE TABLE IF NOT EXISTS models (url TEXT PRIMARY KEY, models TEXT NOT NULL) WITHOUT ROWID"


def default_dir() -> Path:
    """The platform's state directory for Nexus."""
    return Path(platformdirs.user_state_dir("nexus", appauthor=False))


class Store:
    """The last known models of every backend, by its URL.  Opening takes the lock, closing gives it back.

    Raises StartupError where the directory cannot be used, or is in use.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(directory / "state.sqlite3", timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(
                f"the state directory {directory} cannot be used ({error}): set [server] state_dir to another"
            ) from None
        try:
            self._lock()
        except sqlite3.Error as error:
            self._db.close()
            raise StartupError(self._why_not(error)) from None

    def _lock(self) -> None:
        # in this mode SQLite keeps the file's lock from the first write until the connection closes
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute(_TABLES)
        self._db.execute("COMMIT")

    def _why_not(self, error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return (
                f"the state directory {self.directory} is in use by another Nexus: "
                "stop that one, or give this one another with --state-dir, or with [server] state_dir"
            )
        return (
            f"the state in {self.directory} cannot be read ({error}): move the file state.sqlite3 away, or set [server] state_dir"
        )

    def close(self) -> None:
        self._db.close()

    def models(self, url: str) -> tuple[Model, ...]:
        """The models last seen there; none where nothing, or nothing legible, is kept."""
        with closing(self._db.execute("SELECT models FROM models WHERE url = ?", (url,))) as rows:
            row = rows.fetchone()
        try:
            return tuple(_model(entry) for entry in json.loads(row[0])) if row else ()
        except (ValueError, TypeError, AttributeError):
            return ()

    def keep(self, url: str, models: Iterable[Model]) -> None:
        """Remember the models of a backend."""
        text = json.dumps([attrs.asdict(m, value_serializer=_plain) for m in models])
        self._db.execute("INSERT INTO models VALUES (?, ?) ON CONFLICT DO UPDATE SET models = excluded.models", (url, text))


def _plain(instance: Any, field: Any, value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return dict(value) if hasattr(value, "items") else value


def _model(entry: dict[str, Any]) -> Model:
    """A model as it was kept.  Its state is not: nobody knows what has happened since."""
    entry.pop("state", None)
    entry.pop("eta", None)
    entry["aliases"] = tuple(entry.get("aliases", ()))
    entry["speaks"] = frozenset((dialect, task) for dialect, task in entry.get("speaks", ()))
    entry["price"] = Price(**entry["price"]) if entry.get("price") else None
    return Model(**entry)
