"""On which line of a TOML text a place is written, as far as one look at each line can tell.  It serves messages, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus.config.mistakes import join, quoted

KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
PATH = rf"{KEY}(?:\s*\.\s*{KEY})*"
HEADER = re.compile(rf"\s*(\[\[?)\s*({PATH})\s*\]\]?\s*(?:#.*)?$")
PAIR = re.compile(rf"\s*({PATH})\s*=")


def begun(text: str) -> Iterator[tuple[int, str]]:
    """Every line that begins something, and the place of that."""
    counts: dict[str, int] = {}
    table, inside = "", ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if inside:
            pass
        elif header := HEADER.match(line):
            table = _open(_keys(header[2]), counts, array=header[1] == "[[")
            yield number, table
        elif pair := PAIR.match(line):
            yield number, join(table, ".".join(_keys(pair[1])))
        inside = _still_inside(line, inside)


class Lines:
    """Places of one text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int] = {}
        for number, place in begun(text):
            self._lines.setdefault(place, number)

    def find(self, place: str) -> int | None:
        """The line of the place, of the first thing in it, or of what it is in."""
        return self.nearest(place)[1]

    def begins(self, place: str) -> int | None:
        """The line that begins the place itself."""
        return self._lines.get(place)

    def nearest(self, place: str) -> tuple[str, int | None]:
        """The place, or the nearest one that it is in, of which there is a line: its own, or that of the first thing in it."""
        while place:
            if line := self.begins(place):
                return place, line
            inside = next((line for name, line in self._lines.items() if name.startswith((f"{place}.", f"{place}["))), None)
            if inside:
                return place, inside
            place = _parent(place)
        return place, None


def _open(keys: list[str], counts: dict[str, int], *, array: bool) -> str:
    """The place of the table that a header of these keys begins.  `counts` has the last index of every list of tables."""
    place = ""
    for depth, key in enumerate(keys, 1):
        place = join(place, key)
        if array and depth == len(keys):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place += f"[{counts[place]}]"
    return place


def _keys(path: str) -> list[str]:
    return [quoted(key.strip("\"'")) for key in re.findall(KEY, path)]


def _parent(place: str) -> str:
    return re.sub(r"""(\[\d+\]|\.?"[^"]*"|\.?[^."\[\]]+)$""", "", place) if re.search(r"[.\[]", place) else ""


def _still_inside(line: str, inside: str) -> str:
    """The quotes of the multi-line text that the next line begins in, if any."""
    for quotes in re.findall(r'"""|\'\'\'', line):
        inside = "" if inside == quotes else inside or quotes
    return inside
