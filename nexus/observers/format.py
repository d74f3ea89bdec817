"""How log records look: JSON for machines, one readable line for people.  What is logged is decided where it is logged.

Whatever a client says (a model's name, a request id) may end up in a record, so nothing in it can begin a new line, colour a
terminal or pass for another record.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import logging
from typing import Any, TextIO

import msgspec

from nexus.observers.line import Line
from nexus.observers.render import iso
from nexus.plain import plain

REQUESTS = "nexus.request"
FORMATS = ("json", "pretty", "none")
HANDLER = "nexus"

FLUSH_SECONDS = 0.1
FLUSH_LINES = 500


def _as_json(value: object) -> object:
    return value.json() if isinstance(value, Line) else str(value)


# ASCII only: what JSON escapes can neither end the line nor reach a terminal.
_encode_ascii = json.JSONEncoder(separators=(",", ":"), default=_as_json).encode
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


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream.  Lines of requests, and what is no warning, reach it together, within FLUSH_SECONDS: standard error makes a
    system call of everything written to it, and that would slow every request."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._due_in: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.put(self.format(record), at_once=record.levelno >= logging.WARNING)
        except Exception:
            self.handleError(record)

    def put(self, line: str, *, at_once: bool = False) -> None:
        """Write a line, soon or at once."""
        self._lines.append(line + self.terminator)
        if at_once or len(self._lines) >= FLUSH_LINES or not self._soon():
            self.flush()

    def _soon(self) -> bool:
        """Flush a little later; False where no event loop runs here."""
        if self._due_in is None or self._due_in.is_closed():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return False
            loop.call_later(FLUSH_SECONDS, self._due)
            self._due_in = loop
        return True

    def _due(self) -> None:
        self._due_in = None
        self.flush()

    def flush(self) -> None:
        """Write what waits.  What cannot be written is lost: a log that nobody takes must not stop what it tells of."""
        with self.lock or contextlib.nullcontext(), contextlib.suppress(Exception):
            waiting = self._lines[:]
            del self._lines[: len(waiting)]  # never another list: a line from another thread may be on its way into this one
            if waiting:
                self._write(waiting)
            super().flush()

    def _write(self, lines: list[str]) -> None:
        try:
            self.stream.write("".join(lines))
        except UnicodeError:  # not every stream takes every character
            self.stream.write("".join(lines).encode("ascii", "backslashreplace").decode("ascii"))


class RequestFormatter(logging.Formatter, abc.ABC):
    """How a record looks, and how one of a request does, which needs no record for that."""

    @abc.abstractmethod
    def request(self, seconds: float, level: int, line: Line) -> str:
        """What `format` makes of the record of a request; `seconds` since the epoch."""


class JsonFormatter(RequestFormatter):
    """One JSON object per record: time, level, logger, and the record's fields or its message."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        told = fields if isinstance(fields, dict) else {"message": record.getMessage()}
        entry = {"time": iso(record.created), "level": record.levelname.lower(), "logger": record.name, **told}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry)

    def request(self, seconds: float, level: int, line: Line) -> str:
        name = logging.getLevelName(level).lower()
        return f'{{"time":"{iso(seconds)}","level":"{name}","logger":"{REQUESTS}",{_encode(line)[1:]}'


class PrettyFormatter(RequestFormatter):
    """Time, level, logger, message.  Further lines are indented, so that none can pass for a record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        lines = [plain(line) for line in text.split("\n")]
        return f"{iso(record.created)} {record.levelname:7} {record.name}: " + "\n    ".join(lines)

    def request(self, seconds: float, level: int, line: Line) -> str:
        return f"{iso(seconds)} {logging.getLevelName(level):7} {REQUESTS}: {line}"


def lines_of(logger: logging.Logger) -> tuple[LineHandler, RequestFormatter] | None:
    """The handler that writes all that this logger says, and how, where nobody else listens.  None where records are wanted."""
    if logger.filters:
        return None
    alone: logging.Handler | None = None
    at: logging.Logger | None = logger
    while at is not None:
        for handler in at.handlers:
            if alone is not None or handler.filters or handler.level:
                return None
            alone = handler
        at = at.parent if at.propagate else None
    if type(alone) is LineHandler and (type(alone.formatter) is JsonFormatter or type(alone.formatter) is PrettyFormatter):
        return alone, alone.formatter
    return None


def _encode(entry: dict[str, Any] | Line) -> str:
    try:
        line = _encode_fast(entry)  # 0.9 µs, of the other 6
    except UnicodeEncodeError:  # half of a surrogate pair
        return _encode_ascii(entry)
    return line.decode("ascii") if line.isascii() else _encode_ascii(entry)
