"""One inference server.  What all HTTP backends share is in `nexus.backends`."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import attrs
import msgspec

from nexus.api.scope import Secret
from nexus.errors import BackendError
from nexus.model import Call, Report, Usage


@attrs.frozen(kw_only=True)
class Server:
    """The server a backend component talks to.  `url` has no trailing slash and may carry a path.

    `declared` are the ids of models that the operator wrote: they are served whether the server lists them or not, so that one
    without a list is none the worse for it.  `refused` is what to do where it refuses connections, for people.
    """

    name: str
    url: str
    key: Secret | None = None
    declared: tuple[str, ...] = ()
    refused: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's answer, its body still arriving.  It is closed once, by `aclose` or by leaving its context.

    Attributes:
        status: as the server sent it.
        headers: lower-case names; repeated ones stay repeated.
        read: the next bytes as they come, b"" at the proper end; raises BackendError on any other end.
        aclose: gives the exchange up, or back where its body has ended.
        usage: what the backend counted itself, read once the body has ended; None where the dialect reads it from the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    read: Callable[[], Awaitable[bytes]]
    aclose: Callable[[], Awaitable[None]]
    usage: Callable[[], Usage] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class Backend(abc.ABC):
    """One inference server."""

    @abc.abstractmethod
    async def probe(self) -> Report:
        """What the server says of itself now.  Cheap, without side effects, free of charge.

        A server that is down is a Report with `ok=False`, not an exception.
        """

    @abc.abstractmethod
    async def send(self, call: Call) -> Reply:
        """Send `call.body` as it is and return the reply once its head is there.  Who gets it closes it.

        Raises BackendError where no reply came.
        """

    def secrets(self) -> Iterable[Secret]:
        """What must not be repeated where the server says it (its key, in an error): it is replaced by `***`."""
        return ()

    async def count(self, call: Call) -> int:
        """The exact number of prompt tokens.  Raises BackendError("unsupported") where the server cannot tell."""
        raise BackendError("unsupported", "this server cannot count tokens")
