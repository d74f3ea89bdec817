"""How a request of one dialect is put to a pair: as it is where the server speaks it, translated where it does not.

Dispatch asks for the way and treats both alike.  What a translation does is in `translate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nexus.api import Dialect, Endpoint, Facts, Reader, Splice
from nexus.dialects.mending import learnt
from nexus.dialects.rejections import LOSS_HEADER, Headers, as_json, is_known_overflow, is_packed, overflow_in, rejected
from nexus.dialects.userids import Pseudonyms
from nexus.model import ANYTHING, CHAT, COMPLETION, EMPTY, Accepts, Candidate, Payload

if TYPE_CHECKING:
    from nexus.dialects.translate import Translation

TASKS = frozenset({CHAT})
_ASKED_FOR_USAGE = (CHAT, COMPLETION)


class Native:
    """The way to a server of the client's own dialect: its bytes, but for what must be spliced, and for what the server is known not to
    take (`accepts`)."""

    __slots__ = ("_accepts", "_facts", "_hide_usage", "_unmended", "body", "dialect", "endpoint", "headers", "told")

    def __init__(
        self,
        dialect: Dialect,
        endpoint: Endpoint,
        payload: Payload,
        facts: Facts,
        candidate: Candidate,
        model: str,
        accepts: Accepts = ANYTHING,
    ) -> None:
        ask_usage = facts.stream and candidate.takes_usage and not facts.wants_usage and endpoint.task in _ASKED_FOR_USAGE
        renamed = None if model == candidate.model else candidate.model
        self.dialect = dialect
        self.endpoint = endpoint
        self.headers: Headers = ()
        self.told = ""
        self.body = payload.body
        if renamed is not None or ask_usage or not facts.unambiguous:
            self.body = dialect.splice(endpoint, payload.body, Splice(model=renamed, ask_usage=ask_usage))
        self._facts = facts
        self._hide_usage = ask_usage
        self._accepts = accepts
        self._unmended = True
        if accepts.late_system is False or accepts.thinking != "any":
            self._mend(accepts)

    def _mend(self, accepts: Accepts) -> bool:
        """Whether there was something in the body that is not taken."""
        body, lost = self.dialect.mended(self.endpoint, self.body, accepts)
        if body is self.body:
            return False
        self.body = body
        self.told = ", ".join(dict.fromkeys([*filter(None, [self.told]), *(loss.what for loss in lost)]))
        return True

    def again(self, said: str) -> bool:
        """Whether the body, as it is now, is worth being sent once more to a server that has rejected it with this sentence."""
        accepts = learnt(said, self._accepts)
        if accepts is self._accepts or not self._unmended:
            return False
        self._accepts, self._unmended = accepts, False
        return self._mend(accepts)

    def reader(self, request_id: str, model: str, created: int) -> Reader:
        """A reader for the reply, which the client gets byte for byte."""
        return self.dialect.reader(self.endpoint, self._facts, hide_usage=self._hide_usage)

    def rejection(self, status: int, headers: Headers, body: bytes, request_id: str) -> tuple[bytes, Headers]:
        """The server's own bytes and headers; told anew where they have not the dialect's shape, or where the prompt is too long
        in words that agents do not know."""
        if is_packed(headers):
            return body, headers
        said = self.dialect.read_error(body)
        if self.dialect.is_error(body) and (overflow_in(said) in ("", said) or is_known_overflow(body)):
            return body, headers
        return self.dialect.error(rejected(status, said), request_id), as_json(headers)

    def back(self, headers: Headers, *, stream: bool) -> Headers:
        """What the client sees of the headers that may pass."""
        return (*headers, (LOSS_HEADER, self.told)) if self.told else headers


if TYPE_CHECKING:
    Way = Native | Translation


def can_translate(client: Dialect, server: Dialect, task: str) -> bool:
    """Whether a request of the one can be put to servers of the other."""
    return client.translates and server.translates and task in TASKS and server.endpoint_for(task) is not None


class Ways:
    """The dialects that are installed, and which of them can be put into which.  `accepts` is what servers take, by their kind."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        accepts: Mapping[str, Accepts] = EMPTY,
        pseudonyms: Pseudonyms = Pseudonyms(),  # noqa: B008 - it is frozen
    ) -> None:
        self._dialects = dialects
        self._accepts = accepts
        self._pseudonyms = pseudonyms
        self._spoken: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}

    def spoken(self, dialect: str, task: str) -> frozenset[tuple[str, str]]:
        """What a server may speak, as in `Candidate.speaks`, to be asked for a task by a client of this dialect."""
        found = self._spoken.get((dialect, task))
        if found is None:
            others = self._others(dialect, task)
            found = self._spoken[dialect, task] = frozenset({(dialect, task), *((other.name, task) for other in others)})
        return found

    def to(self, candidate: Candidate, client: Dialect, endpoint: Endpoint, payload: Payload, facts: Facts, model: str) -> Way:
        """The way of one attempt; `model` is the name in the body.  Raises Problem and Refused as `Translation` does.

        A server that does not say what it speaks is taken to speak what it is asked in.
        """
        accepts = self._accepts.get(candidate.kind, ANYTHING)
        if candidate.takes(client.name, endpoint.task):
            return Native(client, endpoint, payload, facts, candidate, model, accepts)
        spoken = candidate.speaks - candidate.missing
        server = next(other for other in self._others(client.name, endpoint.task) if (other.name, endpoint.task) in spoken)
        from nexus.dialects.translate import Translation, target_of  # loaded by the first request that needs it

        target = target_of(candidate, facts, accepts)
        return Translation(client, server, endpoint, payload, facts, target, self._pseudonyms)

    def _others(self, dialect: str, task: str) -> Iterable[Dialect]:
        client = self._dialects.get(dialect)
        if client is None:
            return
        for other in self._dialects.values():
            if other.name != dialect and can_translate(client, other, task):
                yield other
