"""How log records look: JSON for machines, one readable line for people.  What is logged is decided where it is logged.

Whatever a client says (a model's name, a request id) may end up in a record, so nothing in it can begin a new line, colour a
terminal or pass for another record.
"""

from __future__ import annotations

import json
import logging
from typing import Any, TextIO

from nexus.observers.render import iso

REQUESTS = "nexus.request"
FORMATS = ("json", "pretty", "none")
HANDLER = "nexus"
LONGEST = 200

# ASCII only: what JSON escapes can neither end the line nor reach a terminal.
_encode = json.JSONEncoder(default=str).encode


def setup_logging(format: str, level: str, stream: TextIO) -> logging.Handler:
    """Send the log of this process to `stream`: for the command line, not for an application that embeds Nexus.

    `format` is `json`, `pretty` or `none`; `none` leaves out the requests, while warnings and errors still come as lines.
    `level` is the level of Nexus' own loggers by name, in any case; others tell warnings only.  Calling it again replaces the
    former call's handler.  Raises ValueError for an unknown format or level.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown log format {format!r}: use one of {', '.join(FORMATS)}")
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: use debug, info, warning or error")
    handler = logging.StreamHandler(stream)
    handler.name = HANDLER
    handler.setFormatter(JsonFormatter() if format == "json" else PrettyFormatter())
    root = logging.getLogger()
    for former in [former for former in root.handlers if former.name == HANDLER]:
        root.removeHandler(former)
    root.addHandler(handler)
    logging.getLogger("nexus").setLevel(number)
    logging.getLogger(REQUESTS).setLevel(logging.CRITICAL + 1 if format == "none" else logging.NOTSET)
    return handler


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, and the record's fields or its message."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {"time": iso(record.created), "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry |= {key: clip(value) if isinstance(value, str) else value for key, value in fields.items()}
        else:
            entry["message"] = record.getMessage()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry)


class PrettyFormatter(logging.Formatter):
    """Time, level, logger, message.  Further lines are indented, so that none can pass for a record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        lines = [plain(line) for line in text.split("\n")]
        return f"{iso(record.created)} {record.levelname:7} {record.name}: " + "\n    ".join(lines)


def clip(text: str) -> str:
    """The text, cut where it is longer than any honest name."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def plain(text: str) -> str:
    """The text with everything escaped that a terminal or a log reader would act upon."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
