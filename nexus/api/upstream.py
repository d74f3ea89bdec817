"""HTTP to servers, as a component sees it.  How it is done is in `nexus.upstream`."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol, Self


class Exchange(Protocol):
    """The answer to one HTTP exchange, its body still arriving.  Header names are lower case; repeated ones stay repeated."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...

    async def aclose(self) -> None:
        """Leave the exchange.  Before the end of the body that closes the connection: it is how an exchange is given up."""
        ...

    def read(self) -> Awaitable[bytes]:
        """The next bytes, as many as have arrived; b"" at the proper end of the body.  Raises BackendError on any other end."""
        ...


class Upstream(Protocol):
    """HTTP/1.1 to backends: pooled, streamed, with back-pressure.  Redirects are answers, not followed."""

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        first_byte_by: float | None = None,
        answer_by: float | None = None,
        idle_timeout: float | None = None,
        connect_timeout: float | None = None,
        private: bool = False,
    ) -> Exchange:
        """Send one request and return its answer once the head is there.  Who gets it closes it.

        `first_byte_by` (the first byte of the body: servers send a head long before a token) and `answer_by` are moments of
        the clock, `idle_timeout` is seconds between two pieces of the body, `connect_timeout` until a connection
        stands (None: `[upstream]`'s).
        `Host`, `Content-Length` and the framing are added here.  `private` is a request that may not leave the house (its demand's zone
        is `restricted`): where the name has come to mean an address that is not proven private, BackendError("address_moved") is
        raised before a byte is sent.  Raises BackendError; ValueError for a header that HTTP
        does not allow.
        """
        ...
