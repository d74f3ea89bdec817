"""How log records look: JSON for machines, one readable line for people.  What is logged is decided where it is logged.

Whatever a client says (a model's name, a request id) may end up in a record, so nothing in it can begin a new line, colour a
terminal or pass for another record.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, TextIO

import msgspec

from nexus.observers.render import iso

REQUESTS = "nexus.request"
FORMATS = ("json", "pretty", "none")
HANDLER = "nexus"
LONGEST = 200
CLIENT_TEXTS = ("id", "key", "model", "answered_model", "backend")

FLUSH_SECONDS = 0.1

# ASCII only: what JSON escapes can neither end the line nor reach a terminal.
_encode_ascii = json.JSONEncoder(default=str).encode
_encode_fast = msgspec.json.Encoder(enc_hook=str).encode


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
    handler = LineHandler(stream)
    handler.name = HANDLER
    handler.setFormatter(JsonFormatter() if format == "json" else PrettyFormatter())
    root = logging.getLogger()
    for former in [former for former in root.handlers if former.name == HANDLER]:
        root.removeHandler(former)
    root.addHandler(handler)
    logging.getLogger("nexus").setLevel(number)
    logging.getLogger(REQUESTS).setLevel(logging.CRITICAL + 1 if format == "none" else logging.NOTSET)
    return handler


def _encode(entry: dict[str, Any]) -> str:
    try:
        line = _encode_fast(entry)
    except UnicodeEncodeError:  # half of a surrogate pair
        return _encode_ascii(entry)
    return line.decode("ascii") if line.isascii() else _encode_ascii(entry)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream.  Lines that are no warnings reach it within FLUSH_SECONDS: a system call each would slow every request."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._later: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING or not self._soon():
            self.flush()

    def _soon(self) -> bool:
        """Flush a little later; False where no event loop runs here."""
        if self._later is None:
            try:
                self._later = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:
                return False
        return True

    def flush(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        super().flush()


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, and the record's fields or its message."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        told = _clipped(fields) if isinstance(fields, dict) else {"message": record.getMessage()}
        entry = {"time": iso(record.created), "level": record.levelname.lower(), "logger": record.name, **told}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry)


def _clipped(fields: dict[str, Any]) -> dict[str, Any]:
    for key in CLIENT_TEXTS:
        text = fields.get(key)
        if isinstance(text, str) and len(text) > LONGEST:
            fields = {**fields, key: clip(text)}
    return fields


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
