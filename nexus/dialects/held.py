"""What has to be kept of a stream while it is translated, and how much of it may be: a stream has no end of its own."""

from __future__ import annotations

from sys import getsizeof

from nexus.errors import BackendError

MOST_HELD = 64 * 1024 * 1024  # bytes of memory; as much as a whole answer may be
EACH = 128  # bytes of a piece beside its text: the event, and its place in a list
EACH_CALL = 1024  # bytes of all that is known of a tool call


class Held:
    """The bytes of memory that one reader or writer of a stream keeps."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, text: str, beside: int = EACH) -> None:
        """A text is kept from now on.  Raises BackendError("too_large") where all that is kept is more than MOST_HELD."""
        self.bytes += getsizeof(text) + beside
        if self.bytes > MOST_HELD:
            raise BackendError("too_large", f"tool calls keep more than {MOST_HELD} bytes of the stream waiting")

    def let_go(self, text: str, beside: int = EACH) -> None:
        """A text that was added is kept no more."""
        self.bytes -= getsizeof(text) + beside
