"""Mistakes while they are collected: places, nearest words, and what of a value may be shown.  No table is known here."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from nexus.errors import Mistake
from nexus.model import EMPTY
from nexus.nearest import nearest as nearest_words

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# How the usual keys begin, a UUID, and any long run of letters and digits mixed: showing less is never wrong.
KEY_PREFIX = re.compile(
    r"(?i)(?<![a-z0-9])((sk|nx|pk|xai|rk)-|(hf|gsk|ghp|gho|sk|github_pat)_|AIza|AKIA|eyJ|xox[a-z]-|bearer |[0-9a-f]{8}-[0-9a-f]{4}-)"
)
LONG_RUN = re.compile(r"(?=[A-Za-z+=]*\d)(?=[\d+=]*[A-Za-z])[A-Za-z0-9+=]{20,}")
MAX_SHOWN = 60


class Wrong(ValueError):
    """One value's mistakes, with places relative to that value: "" for the value itself, `[2]` or `name` inside it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(m.message for m in mistakes))
        self.mistakes = tuple(mistakes)


def wrong(message: str, nearest: str | None = None, *, place: str = "") -> Wrong:
    return Wrong([Mistake(place=place, message=message, nearest=nearest)])


class Mistakes:
    """Collects mistakes, so that the reader hears of all at once.  `origins` says which variable or flag gave a place its value."""

    def __init__(self, found: Iterable[Mistake] = (), origins: Mapping[str, str] = EMPTY) -> None:
        self.found = list(found)
        self.homes: Callable[[str], Sequence[str]] = lambda key: ()  # the tables that know a key
        self.warnings: list[Mistake] = []
        self._causes: set[object] = set()
        self._origins = origins

    def home(self, table: str, key: str) -> str:
        """Where the reader changes what this key holds: in the file, or in the variable that goes before it."""
        place = f"{table}.{key}"
        origin = self._origins.get(place, place)
        return f"{key} in [{table}]" if origin == place else origin

    def add(self, place: str, message: str, nearest: str | None = None) -> None:
        self.found.append(Mistake(place=place, message=message, nearest=nearest))

    def warn(self, place: str, message: str) -> None:
        """What is allowed, and probably not meant."""
        self.warnings.append(Mistake(place=place, message=message))

    def once(self, causes: Iterable[object]) -> list[object]:
        """Those of the causes that have not been told yet; from now on they have."""
        new = [cause for cause in causes if cause not in self._causes]
        self._causes.update(new)
        return new

    def include(self, place: str, error: Wrong) -> None:
        """The mistakes of the value at `place`."""
        for mistake in error.mistakes:
            self.add(join(place, mistake.place), mistake.message, mistake.nearest)

    def unknown(self, place: str, key: str, known: Iterable[str]) -> str | None:
        """A key that is none of the known ones.  Returns the one that was probably meant."""
        near = nearest(key, known)
        homes = "" if near or not place else " or ".join(self.homes(key))
        self.add(
            join(place, quoted(key)),
            f"there is no such key here, but below {homes}" if homes else "there is no such key",
            near,
        )
        return near


def join(place: str, rest: str) -> str:
    """`server` and `port` make `server.port`; `plugins` and `[0]` make `plugins[0]`."""
    if not place or not rest or rest.startswith("["):
        return place + rest
    return f"{place}.{rest}"


def quoted(key: str) -> str:
    """A key as one writes it in a path: quoted where it is no bare word, and never a whole secret."""
    if BARE_KEY.fullmatch(key) and not secretive(key):
        return key
    return f'"{key}"' if not secretive(key) and len(key) <= MAX_SHOWN and key.isprintable() else shown(key)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = nearest_words(word.lower(), known)
    return found[0] if found else None


def secretive(text: str) -> bool:
    """Whether a text looks like a key."""
    return bool(KEY_PREFIX.search(text) or LONG_RUN.search(text))


def shown(text: str) -> str:
    """A text for a message; its length alone where it might be a secret."""
    return repr(text) if len(text) <= MAX_SHOWN and not secretive(text) else f"a text of {len(text)} characters"


def given(value: object) -> str:
    """What somebody wrote, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}" if isinstance(value, int) or math.isfinite(value) else str(value)
        case str():
            return f"the text {shown(value)}" if shown(value)[0] in "'\"" else shown(value)
        case Mapping():
            return "a table"
        case list() | tuple() | set() | frozenset():
            return "a list"
        case datetime.datetime():
            return "a date with a time"
        case datetime.date():
            return "a date"
        case datetime.time():
            return "a time of day"
        case _:
            return "something that is no text, number, list or table"
