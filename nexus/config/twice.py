"""What TOML takes once is written twice: on which line, beside what, and what to do.  The standard library alone says neither well."""

from __future__ import annotations

import re
import tomllib

from nexus.config.lines import HEADER, PAIR, Lines, begun

# How the standard library begins what it says of a key or table that is there already.
AGAIN = re.compile(r"Cannot (overwrite|declare|mutate|redefine)|Duplicate inline table key")
LINE = re.compile(r"\(at line (\d+), column \d+\)$")
FARTHEST = 200  # lines that one value may take up until its beginning is not looked for any more

KEY, TABLE, TABLES, LIST = "has a value", "is a table", "is a list of tables", "is a list"
ONE = "keep one of the two"
ADVICE = {
    (KEY, TABLE): "write what belongs in it there",
    (TABLE, TABLE): "write all its keys there",
    (TABLE, TABLES): "begin each of its tables with two brackets, as there",
    (TABLES, TABLE): "begin that one with two brackets as well",
    (TABLES, LIST): "put each table into that list, as {…}, or leave the list out",
}


def line_of(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line on which the standard library's reader stopped."""
    found = LINE.search(str(error))
    return int(found[1]) if found else text.rstrip().count("\n") + 1


def said(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str] | None:
    """The line of what is written a second time, and a sentence; None where that is not what is wrong."""
    if not AGAIN.match(str(error)):
        return None
    lines = text.replace("\r\n", "\n").split("\n")
    number = beginning(lines, line_of(error, "\n".join(lines)))
    line = lines[number - 1]
    header, pair = HEADER.match(line), PAIR.match(line)
    if not header and not pair:
        return None
    *_, (_, place) = [*begun("\n".join(lines[:number]))] or [(0, "")]
    new = KEY if not header else TABLES if header[1] == "[[" else TABLE
    place = re.sub(r"\[\d+\]$", "", place) if header else place
    before = Lines("\n".join(lines[: number - 1]))
    there, first = before.nearest(place)
    if first is None:
        return number, "a key is there twice between { and }"
    old = _form(lines[first - 1], exactly=before.begins(there) == first)
    shown = re.sub(r"\[\d+\]", "", there)
    what = shown if new == KEY or there != place else f"[[{shown}]]" if new == TABLES else f"[{shown}]"
    return number, f"{what} {old} already (line {first}): {ADVICE.get((new, old), ONE)}"


def beginning(lines: list[str], number: int) -> int:
    """Where the statement that ends on this line begins: what is before it can be read by itself."""
    for start in range(number, max(0, number - FARTHEST), -1):
        try:
            tomllib.loads("\n".join(lines[: start - 1]))
        except tomllib.TOMLDecodeError:
            continue
        return start
    return number


def _form(line: str, *, exactly: bool) -> str:
    """What the line makes of a place: that which it begins `exactly`, or one that holds it."""
    if header := HEADER.match(line):
        return TABLES if header[1] == "[[" else TABLE
    pair = PAIR.match(line)
    if not pair or not exactly:
        return TABLE
    value = line[pair.end() :].lstrip()
    return LIST if value.startswith("[") else TABLE if value.startswith("{") else KEY
