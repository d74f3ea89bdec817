"""What survives a restart: one SQLite file in a state directory, which several processes may share.

Nothing in it is worth not serving: where it cannot be used, that is said once and in `/health`, and the gateway goes on without.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import attrs

from nexus.model import Model, Price, State

FILE = "state.sqlite3"
VERSION = 1  # of the tables; a file with a higher one is left alone
LOCKED_SECONDS = 1.0  # to wait for another process' write
GATHERING_SECONDS = 1.0  # between two writes, so that what changes often is written once
SECRET_BYTES = 32
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0  # until a write that failed is tried again

_TABLES = (
    "CREATE TABLE IF NOT EXISTS models (url TEXT PRIMARY KEY, models TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS gateways (url TEXT PRIMARY KEY, pid INTEGER NOT NULL) WITHOUT ROWID",
)
_PLAIN = {field.name: field.default for field in attrs.fields(Model)}
_PASSING = ("state", "eta", "failed")  # nobody knows what has happened since


class _Newer(Exception):
    """The file is from a later version."""


def default_dir() -> Path:
    """The platform's state directory for Nexus."""
    import platformdirs  # a third of a megabyte, which nobody needs who says where the state is kept

    return Path(platformdirs.user_state_dir("nexus", appauthor=False))


class Store:
    """The last known models of every backend, by its URL.  `directory` None keeps nothing beyond this process.

    It is read once, when it is made; `run` writes what has changed, in a thread, and `close` writes the rest.  `problems["state"]`
    says what is wrong for as long as something is.
    """

    def __init__(self, directory: Path | None, problems: MutableMapping[str, str], log: logging.Logger) -> None:
        self._place = directory
        self._problems = problems
        self._log = log
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()  # the writing thread and closing
        self._db: sqlite3.Connection | None = None
        self._known: dict[str, tuple[Model, ...]] = {}
        self._unsaved: dict[str, tuple[Model, ...]] = {}
        self._written: dict[str, bytes] = {}
        self._news = asyncio.Event()
        if directory is not None:
            try:
                self._read()
            except (OSError, sqlite3.Error, _Newer) as error:
                self._failed(error)

    @functools.cached_property
    def directory(self) -> Path:
        """Where components keep what is theirs; without a state directory a temporary one, which goes with the store."""
        return self._place or Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-")))

    def models(self, url: str) -> tuple[Model, ...]:
        """The models last seen there; none where nothing, or nothing legible, is kept."""
        return self._known.get(url, ())

    def names(self) -> Iterator[tuple[str, ...]]:
        """Every name of each model that was last seen anywhere, one model after the other."""
        for models in self._known.values():
            for model in models:
                yield (model.id, *model.aliases)

    def secret(self, name: str) -> bytes:
        """32 random bytes that stay the same as long as the state directory does, for all who share it; without one, as long as this
        process.  They are made when first asked for."""
        made = os.urandom(SECRET_BYTES)
        if self._place is None:
            return made
        try:
            return _first_written(self._place / f"{name}.key", made)
        except OSError as error:
            self._failed(error)
            return made

    def keep(self, url: str, models: Iterable[Model]) -> None:
        """Remember the models of a backend.  Costs nothing now: `run` writes, and only what differs from what is kept."""
        self._known[url] = self._unsaved[url] = tuple(models)
        self._news.set()

    async def run(self) -> None:
        """Write what has changed, until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await asyncio.to_thread(self._write)
            except (OSError, sqlite3.Error, _Newer) as error:
                self._failed(error)
                self._news.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except BaseException:  # whoever begins this again finds what could not be written
                self._news.set()
                raise
            else:
                self._well()
                pause = FIRST_PAUSE_SECONDS
                await asyncio.sleep(GATHERING_SECONDS)

    def announce(self, url: str) -> None:
        """This process serves at `url`, until the store is closed: `pid_at` tells others."""
        with contextlib.suppress(OSError, sqlite3.Error, _Newer), self._lock:
            if self._place is not None:
                self._opened().execute("INSERT OR REPLACE INTO gateways VALUES (?, ?)", (url, os.getpid()))

    def close(self) -> None:
        """Write what is not written yet, and let go of the file."""
        try:
            self._write()
        except (OSError, sqlite3.Error, _Newer) as error:
            self._failed(error)
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._db is not None:
                self._db.execute("DELETE FROM gateways WHERE pid = ?", (os.getpid(),))
                self._db.close()
        self._db = None
        self._stack.close()

    # ------------------------------------------------------------ the file

    def _opened(self) -> sqlite3.Connection:
        """The file, with its tables.  Raises OSError, sqlite3.Error or _Newer where it cannot be used."""
        if self._db is None:
            assert self._place is not None
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = _connected(self._place / FILE)
        return self._db

    def _read(self) -> None:
        for url, text in self._opened().execute("SELECT url, models FROM models"):
            if isinstance(text, str):
                self._written[url] = _digest(text)
                self._known[url] = _models(text)

    def _write(self) -> None:
        """Called in a thread.  What could not be written is kept for the next time, unless something newer is there."""
        with self._lock:
            batch, self._unsaved = self._unsaved, {}
            try:
                texts = {url: self._as_text(url, models) for url, models in batch.items()}
                changed = {url: text for url, text in texts.items() if text is not None and self._differs(url, text)}
                if changed and self._place is not None:
                    db = self._opened()
                    db.execute("BEGIN IMMEDIATE")
                    with db:  # one transaction, given up as a whole
                        db.executemany("INSERT OR REPLACE INTO models VALUES (?, ?)", changed.items())
                    self._written |= {url: _digest(text) for url, text in changed.items()}
            except BaseException:
                self._unsaved = batch | self._unsaved
                raise

    def _as_text(self, url: str, models: Iterable[Model]) -> str | None:
        try:
            # one by one: the encoder keeps the interpreter to itself until it is done, and the loop's thread needs it
            return f"[{','.join([json.dumps(_entry(model)) for model in models])}]"
        except (TypeError, ValueError) as error:  # a plugin's odd value must not keep what others have learnt from being written
            self._log.warning("the models of %s cannot be kept: %s", url, error)
            return None

    def _differs(self, url: str, text: str) -> bool:
        return self._place is not None and self._written.get(url) != _digest(text)

    # ------------------------------------------------------------ in words

    def _failed(self, error: Exception) -> None:
        """Say once what is wrong."""
        known, self._problems["state"] = self._problems.get("state"), f"{_why(error)}: what is learnt now may not survive a restart"
        if known != self._problems["state"]:
            self._log.warning(
                "the state in %s %s; Nexus goes on without it and tries again. [server] state_dir sets another directory",
                self._place,
                _why(error),
            )

    def _well(self) -> None:
        if self._problems.pop("state", None) is not None:
            self._log.info("the state in %s is kept again", self._place)


def _connected(path: Path) -> sqlite3.Connection:
    """Write-ahead logging lets several processes share the file and costs no wait for the disk; where a file system has none of it,
    the plain way does."""
    db = sqlite3.connect(path, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise _Newer
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            for statement in (*_TABLES, f"PRAGMA user_version = {VERSION}"):
                db.execute(statement)
    except BaseException:
        db.close()
        raise
    return db


def _first_written(path: Path, made: bytes) -> bytes:
    """What the file holds; where there is none, it holds `made` from now on, unless somebody else is quicker."""
    with contextlib.suppress(FileNotFoundError):
        if len(kept := path.read_bytes()) == SECRET_BYTES:
            return kept
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # for its owner only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made)
        if path.exists():  # cut short by a full disk
            os.replace(new, path)
        else:
            os.link(new, path)
    except FileExistsError:
        return path.read_bytes()
    finally:
        Path(new).unlink(missing_ok=True)
    return made


def _why(error: Exception) -> str:
    said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, _Newer):
        return "was written by a newer Nexus"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "cannot be used (that is a file, and no directory)"
    if "locked" in said:
        return "is locked by another program"
    if isinstance(error, sqlite3.OperationalError | OSError):
        return f"cannot be used ({said})"
    return f"cannot be read ({said}; move the file {FILE} away)"


def pid_at(directory: Path, port: int) -> int | None:
    """The process whose gateway serves at this port, as far as the state directory knows; None where it does not."""
    if not (directory / FILE).is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{(directory / FILE).resolve().as_uri()}?mode=ro", timeout=0, uri=True)) as db:
            pids = [row[0] for row in db.execute("SELECT pid FROM gateways WHERE url LIKE '%:' || ?", (port,))]
    except sqlite3.Error:
        return None
    return next((pid for pid in pids if isinstance(pid, int) and _runs(pid)), None)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # it is somebody else's
    except OverflowError:
        return False
    return True


# ---------------------------------------------------------------- models as text


def _entry(model: Model) -> dict[str, Any]:
    """What differs from the plain values, as JSON takes it."""
    said = {name: getattr(model, name) for name in _PLAIN if name not in _PASSING}
    return {name: _json(value) for name, value in said.items() if value != _PLAIN[name]}


def _json(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Price):
        return attrs.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _models(text: str) -> tuple[Model, ...]:
    try:
        return tuple(_model(entry) for entry in json.loads(text))
    except (ValueError, TypeError, AttributeError):
        return ()


def _model(entry: dict[str, Any]) -> Model:
    """A model as it was kept."""
    entry["aliases"] = tuple(entry.get("aliases", ()))
    entry["speaks"] = frozenset((dialect, task) for dialect, task in entry.get("speaks", ()))
    entry["price"] = Price(**entry["price"]) if entry.get("price") else None
    return Model(**{**entry, "state": State.UNKNOWN, "eta": None, "failed": False})
