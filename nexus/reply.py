"""An answer that has begun: bytes for the client, the claim that pays for them, and the one way to end both.

Which backend is asked, and what happens when it fails, is decided in `dispatch`; how bytes reach the client in `relay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from nexus.api import Backend, Reader, Reply, Secret
from nexus.aside import aside
from nexus.dialects.weight import ESCAPED_BYTES
from nexus.errors import BackendError
from nexus.fleet import Claim
from nexus.model import NO_USAGE, Candidate, Choice, Finished, Price, Usage
from nexus.reading import AT_ONCE_BYTES, fed
from nexus.redaction import redacted, redacted_text

# only a rejection can come with a content-encoding: other answers that are packed were not asked for, and are no answers
PASSED_BACK = frozenset({"content-type", "content-encoding", "retry-after"})
PASSED_BACK_PREFIXES = ("x-ratelimit-",)
# clients give up on a head of 8 to 16 KB: no server needs so many, or so long a name
MOST_PASSED_BACK, LONGEST_PASSED_BACK = 32, 64
MAX_LAST_BYTES = 256 * 1024  # of events that end with an error, which are looked through for secrets in one go
LINGER_SECONDS = 0.25  # between the last event and the end of the body
LAST_EVENT_SECONDS = 5.0  # between the finish reason and the last event, which some servers never send


class OpenReply:
    """A committed reply.  `head` is what may go to the client at once; `whole` says that nothing follows it.
    `code` says why a rejection was one, `told` what a break is told as; `finished` is how the claim ended, which it does with the last
    event of a stream: how slowly a client takes what has come is no matter of the server's.

    `finish` gives the claim back, `leave` the exchange, however far it came.
    """

    __slots__ = (
        "_aclose",
        "_ends_by",
        "_failure",
        "_lingers",
        "_over",
        "_read",
        "_reported",
        "choice",
        "claim",
        "code",
        "finished",
        "first_byte",
        "head",
        "headers",
        "reader",
        "status",
        "told",
        "whole",
    )

    def __init__(
        self,
        claim: Claim,
        choice: Choice,
        reply: Reply,
        reader: Reader | None,
        headers: tuple[tuple[str, str], ...],
        head: bytes,
        *,
        whole: bool,
        first_byte: float,
        code: str = "",
    ) -> None:
        self.claim = claim
        self.choice = choice
        self._read = reply.read
        self._reported = reply.usage
        self.status = reply.status
        self.headers = headers
        self.reader = reader
        self.head = head
        self.whole = whole
        self.first_byte = first_byte
        self.code = code
        self.told: Callable[[BackendError], str] = str
        self.finished: Finished | None = None
        self._aclose = reply.aclose
        self._ends_by: float | None = None
        self._lingers = False  # the last event came, the end of the body perhaps not
        self._over = whole
        self._failure: BackendError | None = None  # to be raised once the client has what it is told of it
        if reader is not None and not whole and reader.over:
            self.head = self._last(head)

    async def read(self) -> bytes:
        """The next bytes for the client; b"" at the proper end.  Raises BackendError on any other end."""
        reader, held = self.reader, 0  # bytes of an event that is not yet complete
        while not self._over:
            data = await (self._soon() if reader is not None and reader.ending else self._read())
            if not data:
                self._over = True
                if reader is None:
                    return b""
                return await aside(reader.finish) if held > ESCAPED_BYTES else reader.finish()
            if reader is None:
                return data
            much = held > ESCAPED_BYTES or len(data) > AT_ONCE_BYTES
            ready = await fed(reader, data, held) if much else reader.feed(data)
            if reader.over:
                return self._last(ready)
            if ready:
                return ready
            held += len(data)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return b""

    def _last(self, ready: bytes) -> bytes:
        """The stream is over with this.  Where it ends with an error, that is said without the backend's secrets, and `read` raises it next."""
        assert self.reader is not None
        self._over = self._lingers = True
        try:
            ready += self.reader.finish()
            if self._reported is None:  # what counts by itself has counted once its body has ended
                self.finish("ok")
            return ready
        except BackendError as error:
            if len(ready) > MAX_LAST_BYTES:
                raise BackendError(
                    "too_large", f"an error of more than 256 KiB ended the stream: {error.hint}", sent=True
                ) from None
            self._failure = BackendError(error.code, error.hint, sent=True)  # anew: a kept one would hold all that it went through
        return redacted(ready, self.secrets)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What the backend must not be heard to say."""
        return tuple(self.claim.standing.member.backend.secrets())

    async def _soon(self) -> bytes:
        """More of a stream that seems to have said all; b"" where nothing comes of it, though the connection is kept alive."""
        loop = asyncio.get_running_loop()
        if self._ends_by is None:
            self._ends_by = loop.time() + LAST_EVENT_SECONDS
        try:
            async with asyncio.timeout_at(self._ends_by):
                return await self._read()
        except TimeoutError:
            return b""

    async def leave(self) -> None:
        """Give the exchange back.  After a proper last event the end of the body is waited for a little, by nobody but the connection."""
        try:
            if self._lingers:
                await self._until_the_end()
        finally:
            await self._aclose()

    async def _until_the_end(self) -> None:
        """The client has every event.  A connection can serve again once its body has ended, which some servers leave open."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._read():
                    pass
        except (BackendError, TimeoutError):
            pass

    def finish(self, outcome: str, code: str = "") -> None:
        """Give the claim back and settle usage; once."""
        if self.finished is not None:
            return
        usage = NO_USAGE
        if self._reported is not None:
            usage = self._reported()
        elif self.reader is not None:
            usage = self.reader.usage()
        self.finished = self.claim.finish(
            outcome,
            sent=True,
            status=self.status,
            code=code,
            usage=usage,
            cost=cost_of(usage, self.claim.candidate),
            first_byte=self.first_byte,
        )


def passed_back(
    headers: Iterable[tuple[str, str]], dialect_prefixes: tuple[str, ...], backend: Backend
) -> tuple[tuple[str, str], ...]:
    """The headers of a backend that the client may see, without the backend's secrets."""
    prefixes = PASSED_BACK_PREFIXES + dialect_prefixes
    passed = [
        (name, value)
        for name, value in headers
        if name in PASSED_BACK or (name.startswith(prefixes) and len(name) <= LONGEST_PASSED_BACK)
    ]
    del passed[MOST_PASSED_BACK:]
    if secrets := tuple(backend.secrets()):
        passed = [(name, redacted_text(value, secrets)) for name, value in passed if redacted_text(name, secrets) == name]
    return tuple(passed)


def cost_of(usage: Usage, candidate: Candidate) -> float | None:
    """US dollars; None where no price is known or nothing was counted."""
    price: Price | None = candidate.price
    if price is None or usage.source == "unknown":
        return None
    cached = min(usage.cached_tokens, usage.input_tokens)
    cached_price = price.input if price.cached is None else price.cached
    dollars = (usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output
    return dollars / 1_000_000
