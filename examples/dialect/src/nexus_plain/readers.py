"""Watching a plain server's reply pass to a plain client: where it ends, what it counts, whether it began with an error."""

from __future__ import annotations

from nexus.api import BackendError, Reader, Usage
from nexus_plain.wire import Lines, lines_of, object_in, text_in, usage_in


class StreamReader(Reader):
    """A stream.  Where no tokens are reported, a line counts as one."""

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self._estimate = estimate
        self._lines = Lines()
        self._usage: Usage | None = None
        self._said = 0
        self._wrong = ""
        self._done = False

    def feed(self, data: bytes) -> bytes:
        ready = self._lines.feed(data)
        for line in lines_of(ready):
            self._see(line)
        return ready

    def finish(self) -> bytes:
        rest = self._lines.rest()
        if rest.strip():
            if object_in(rest) is None:
                raise BackendError("cut", "the stream ended in the middle of a line")
            self._see(rest)
            rest += b"\n"
        if self._done:
            return rest
        if self._wrong:
            raise BackendError("error_event", self._wrong)
        raise BackendError("cut", "the stream ended without its last line")

    def usage(self) -> Usage:
        if self._usage is not None or not self.begun:
            return self._usage or Usage()
        return Usage(input_tokens=self._estimate, output_tokens=self._said, source="counted")

    def _see(self, line: bytes) -> None:
        said = object_in(line) or {}
        self._wrong = text_in(said, "wrong")
        self._done = said.get("done") is True
        self._usage = usage_in(said) or self._usage
        self._said += "say" in said
        if not self.begun:
            self.begun = True
            self.error = self._wrong or None


class WholeReader(Reader):
    """A whole answer."""

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self._estimate = estimate
        self._body = b""
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._body += data
        return data

    def finish(self) -> bytes:
        said = object_in(self._body)
        if said is None:
            raise BackendError("malformed", "the answer is not a JSON object")
        self._usage = usage_in(said)
        return b""

    def usage(self) -> Usage:
        if self._usage is not None or not self.begun:
            return self._usage or Usage()
        return Usage(input_tokens=self._estimate, output_tokens=len(self._body) // 8, source="counted")
