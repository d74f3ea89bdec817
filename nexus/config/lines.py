"""On which line of a TOML text a place is written, as far as one look at each line can tell.  It serves messages, nothing else."""

from __future__ import annotations

import re

from nexus.config.mistakes import join, quoted

KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
PATH = rf"{KEY}(?:\s*\.\s*{KEY})*"
HEADER = re.compile(rf"\s*(\[\[?)\s*({PATH})\s*\]\]?\s*(?:#.*)?$")
PAIR = re.compile(rf"\s*({PATH})\s*=")


class Lines:
    """Places of one text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        table, inside = "", ""
        for number, line in enumerate(text.splitlines(), 1):
            if not inside:
                table = self._see(line, table, number)
            inside = _still_inside(line, inside)

    def find(self, place: str) -> int | None:
        """The line of the place, of the first thing in it, or of what it is in."""
        while place:
            if place in self._lines:
                return self._lines[place]
            inside = next((line for name, line in self._lines.items() if name.startswith((f"{place}.", f"{place}["))), None)
            if inside:
                return inside
            place = _parent(place)
        return None

    def _see(self, line: str, table: str, number: int) -> str:
        """Note what the line begins; returns the table that the next line is in."""
        if header := HEADER.match(line):
            table = self._open(_keys(header[2]), array=header[1] == "[[")
            self._lines.setdefault(table, number)
        elif pair := PAIR.match(line):
            place = table
            for key in _keys(pair[1]):
                place = join(place, key)
            self._lines.setdefault(place, number)
        return table

    def _open(self, keys: list[str], *, array: bool) -> str:
        place = ""
        for depth, key in enumerate(keys, 1):
            place = join(place, key)
            if array and depth == len(keys):
                self._counts[place] = self._counts.get(place, -1) + 1
            if place in self._counts:
                place += f"[{self._counts[place]}]"
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
