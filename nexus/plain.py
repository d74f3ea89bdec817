"""Text from outside, made fit to be told: in JSON, in a header, on a line of a log, on a terminal.  What is told is decided elsewhere."""

from __future__ import annotations

import re

LONGEST_NAME = 512  # characters; no request may ask for a longer one
LONGEST_SENTENCE = 2000
LONGEST_HEADER = 1024
# C0 and C1 controls, the two separators that end a line, halves of surrogate pairs
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_NAME = re.compile(_NO_TEXT.pattern[:-1] + "\ufffd]")  # nor what stands for half a character, which no request may name
_HALF = re.compile("[\ud800-\udfff]")
_CONTROL = dict.fromkeys((*range(32), 127), "?")


def is_name(text: str) -> bool:
    """Whether somebody could ask for it by name: text on one line, neither empty nor longer than LONGEST_NAME."""
    return 0 < len(text) <= LONGEST_NAME and _NO_NAME.search(text) is None


def sentence(text: str) -> str:
    """What somebody says, on one line and of a bounded length: what is no text becomes a blank or U+FFFD."""
    said = plain(_NO_TEXT.sub(" ", whole(text[:LONGEST_SENTENCE])))[:LONGEST_SENTENCE]
    return said if len(text) <= LONGEST_SENTENCE else f"{said}…"


def rounded(number: float) -> str:
    """A figure for people: three digits of it, or all before the point."""
    return f"{round(number, 3):.3g}" if abs(number) < 100 else f"{number:.0f}"


def plain(text: str) -> str:
    """The text with everything escaped that a terminal or a log reader would act upon."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no UTF-8 can hold."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def header(text: str) -> str:
    """Fit for the value of a header, printable ASCII of a bounded length, whatever a server calls its model."""
    # as nearly all are: 0.2 µs instead of 0.9, six times an answer
    if len(text) <= LONGEST_HEADER and text.isascii() and text.isprintable():
        return text
    return text[:LONGEST_HEADER].encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROL)[:LONGEST_HEADER]


def headers(told: dict[str, str]) -> dict[str, str]:
    """The same headers with the value of each as `header` makes it; the same object where all are fit, which one look finds out: that saves
    2 µs an answer."""
    text = "".join(told.values())
    if len(text) <= LONGEST_HEADER and text.isascii() and text.isprintable():
        return told
    return {name: header(value) for name, value in told.items()}
