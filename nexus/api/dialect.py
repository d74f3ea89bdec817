"""One wire format, and what routing needs of it.  The form that all dialects meet in is in `nexus.dialects.canonical`."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs
import msgspec

from nexus.api.reader import Reader
from nexus.errors import Problem
from nexus.model import Accepts, Payload

if TYPE_CHECKING:
    from nexus.dialects.canonical import (
        Answer,
        Conversation,
        Losses,
        ReplyContext,
        StreamDecoder,
        StreamEncoder,
        Target,
    )


@attrs.frozen(kw_only=True)
class Endpoint:
    """One way in: HTTP method, path under the gateway's prefix, and the task it asks for.

    `takes_slot` false is for a task that is no work for the server (counting tokens): it never waits for a slot, and how it ends says
    nothing of how well the pair serves.
    """

    path: str
    task: str
    method: str = "POST"
    takes_slot: bool = True


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What routing needs of a body.  Token figures are estimates that bound the prompt from below and above; of a batch, whose prompts
    are read one by one, the longest.  `tokens_total` bounds all of them from above, where there are several.  `unambiguous` says that the body can leave as
    it is: each field at its top is there once, and spelt plainly."""

    model: str
    stream: bool = False
    needs: frozenset[str] = frozenset()
    tokens_low: int = 0
    tokens_high: int = 0
    tokens_total: int | None = None
    max_output_tokens: int | None = None
    n: int = 1
    wants_usage: bool = False
    unambiguous: bool = False


@attrs.frozen(kw_only=True)
class Splice:
    """What must change in a body: the model's name, whether to ask for usage at the end of the stream."""

    model: str | None = None
    ask_usage: bool = False


@attrs.frozen(kw_only=True)
class ModelEntry:
    """One name a client may ask for, for the model list.  `context` is in tokens and served now.

    `lacks` is what one of its backends is known not to offer, and none to offer.  `cloud` says that no backend at home serves it.
    """

    name: str
    context: int | None = None
    capabilities: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    created: int = 0
    lacks: tuple[str, ...] = ()
    cloud: bool = False


class Dialect(abc.ABC):
    """One wire format.  Everything here is synchronous and pure.

    `stream_type` is the content type of its streams; a server that answers a stream with another is at fault.  `keepalive` is a
    piece of stream that every client of the dialect skips (empty: the dialect has none).  `forward` and `backward` are
    prefixes of the headers that pass to the backend and to the client, `query` the names of the parameters that pass to the
    backend.  `translates` says that the dialect can be read into the canonical form and written from it; a translated request
    carries `own_headers` to its servers.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    stream_type: str = "text/event-stream"
    keepalive: bytes = b""
    forward: tuple[str, ...] = ()
    backward: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    translates: bool = False
    own_headers: tuple[tuple[str, str], ...] = ()

    @abc.abstractmethod
    def decode(self, endpoint: Endpoint, payload: Payload) -> Facts:
        """The facts of a body.  Raises Problem (400) that says what is wrong and where."""

    @abc.abstractmethod
    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        """Return the body with these values changed, and every field at its top once and in its plainest spelling.

        What `decode` has read is then what every server reads.  Every other value stays byte for byte; white space between fields at the
        top need not.
        """

    def mended(self, endpoint: Endpoint, body: bytes, accepts: Accepts) -> tuple[bytes, Losses]:
        """A client's body for a server of the same dialect that does not take all that clients send (`accepts.late_system`,
        `accepts.thinking`), and what is not in it any more.  The same object where nothing has to change."""
        return body, ()

    @abc.abstractmethod
    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        """A reader for one reply; `hide_usage` takes out the usage event that Nexus asked for."""

    @abc.abstractmethod
    def error(self, problem: Problem, request_id: str) -> bytes:
        """The problem as a whole body."""

    @abc.abstractmethod
    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """The problem as the last event of a stream that has begun."""

    @abc.abstractmethod
    def read_error(self, body: bytes) -> str:
        """The sentence in a backend's error body, for logs and for what is told of failed attempts."""

    def is_error(self, body: bytes) -> bool:
        """Whether a server's error body has this dialect's shape.  One that has not is told anew, in the dialect's own form."""
        return True

    @abc.abstractmethod
    def models(self, entries: Iterable[ModelEntry], query: Mapping[str, str]) -> bytes:
        """The model list; `query` are the parameters of the question, for a dialect whose list comes in pages.  Raises Problem (400)
        for parameters that make no sense."""

    @abc.abstractmethod
    def model(self, entry: ModelEntry) -> bytes:
        """One model."""

    def local_answer(self, endpoint: Endpoint, facts: Facts) -> bytes | None:
        """An estimate as a whole answer, for a task that Nexus can answer itself where no server can (counting tokens); None for
        every other task."""
        return None

    def claims(self, headers: Mapping[str, str]) -> bool:
        """Whether these headers on a path that several dialects share (`/v1/models`) are this dialect's."""
        return False

    # ---- translation, to and from the canonical form (`nexus.dialects.canonical`); for dialects with `translates`

    def endpoint_for(self, task: str) -> Endpoint | None:
        """Where a server that speaks this dialect takes the task; None where the dialect has no such task."""
        return next((endpoint for endpoint in self.endpoints if endpoint.task == task), None)

    def read_request(self, endpoint: Endpoint, payload: Payload) -> tuple[Conversation, Losses]:
        """A client's request, and what of it the canonical form cannot carry.  Raises Problem (400) that says what is wrong."""
        raise self._untranslatable()

    def write_request(self, endpoint: Endpoint, conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
        """The request as this dialect's servers take it, and what of it this dialect cannot say.  A stream is always asked for
        its usage."""
        raise self._untranslatable()

    def read_answer(self, body: bytes) -> tuple[Answer, Losses]:
        """A server's whole reply, and what of it the canonical form cannot carry; no loss of a reply is a refusal.  Raises
        BackendError: "malformed", or "error_event" for an error that came with a 200."""
        raise self._untranslatable()

    def write_answer(self, answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
        """A whole reply as this dialect's clients read it, and what of it this dialect cannot say."""
        raise self._untranslatable()

    def stream_decoder(self) -> StreamDecoder:
        """Reads one stream of a server."""
        raise self._untranslatable()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        """Writes one stream for a client."""
        raise self._untranslatable()

    def _untranslatable(self) -> NotImplementedError:
        return NotImplementedError(f"the dialect {self.name!r} passes through only: it has no translation")
