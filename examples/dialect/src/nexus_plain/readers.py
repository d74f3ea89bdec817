"""Watching a plain server's reply pass to a plain client: where it ends, what it counts, whether it is an error."""

from __future__ import annotations

from typing import Any

from nexus.api import BackendError, Usage
from nexus.dialects.lines import Lines, lines
from nexus.dialects.watching import BodyReader, EventReader
from nexus_plain.wire import object_in, text_in, usage_in


class StreamReader(EventReader):
    """A stream.  Where no tokens are reported, a line counts as one."""

    framing = Lines
    error_mark = b'"wrong"'
    end_mark = b'"done"'

    def watch(self, ready: bytes) -> bytes:
        for line in lines(ready):
            said = object_in(line) or {}
            self.reported = usage_in(said) or self.reported
            self.pieces += "say" in said
        return ready

    def error_in(self, data: bytes) -> str | None:
        return text_in(object_in(data) or {}, "wrong") or None

    def is_last(self, data: bytes) -> bool:
        return (object_in(data) or {}).get("done") is True


class WholeReader(BodyReader):
    """A whole answer."""

    def read(self, body: bytes) -> Usage | None:
        said = object_in(body)
        if said is None:
            raise BackendError("malformed", "the answer is not a JSON object")
        return usage_in(said)

    def usage_of(self, said: Any) -> Usage | None:
        return None  # plain says `tokens`
