"""The part that every HTTP inference server shares: base URL, key, sending, fetching JSON.  No server's own API lives here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp

from nexus.api import Backend, BackendError, Call, Exchange, Reply, Scope, Server

MAX_PROBE_BYTES = 8 * 1024 * 1024


class HTTPBackend(Backend):
    """A server behind a base URL.  Subclasses write `probe`; `path` maps a dialect's path to the server's.

    `api_path` is the API's own path, which the operator may or may not have written at the end of the URL.
    """

    api_path = "/v1"

    def __init__(self, server: Server, scope: Scope) -> None:
        self.server = server
        self.scope = scope
        self.base = server.url.rstrip("/").removesuffix(self.api_path)
        self._auth = tuple(self.auth().items())

    def auth(self) -> Mapping[str, str]:
        """The headers that carry the server's key, lower case."""
        return {"authorization": f"Bearer {self.server.key.reveal()}"} if self.server.key else {}

    def path(self, call: Call) -> str:
        """Where on the server the call goes."""
        return call.path

    def send(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        return _Send(
            self.scope.upstream.exchange(
                call.method,
                self.base + self.path(call),
                headers=call.headers + self._auth,
                body=call.body,
                first_byte_by=call.first_byte_by,
                answer_by=call.answer_by,
                idle_timeout=call.idle_timeout,
            )
        )

    async def get_json(self, path: str, *, method: str = "GET", body: Any = None, timeout: float = 5.0) -> Any:
        """The JSON that the server answers, for probes.  Redirects are not followed.

        Raises BackendError with code `status` for another answer than 2xx, `malformed` for what is no JSON,
        `connect_failed` and `answer_timeout` as they say.
        """
        async with self.get(path, method=method, body=body, timeout=timeout) as (status, raw):
            if status // 100 != 2:
                raise BackendError("status", f"{method} {path} answered {status}")
            try:
                return json.loads(raw)
            except (ValueError, RecursionError):
                raise BackendError("malformed", f"{method} {path} did not answer JSON") from None

    @asynccontextmanager
    async def get(
        self, path: str, *, method: str = "GET", body: Any = None, timeout: float = 5.0
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Status and body of one small exchange.  Raises BackendError as `get_json` does."""
        try:
            async with self.scope.session().request(
                method,
                self.base + path,
                json=body,
                headers=dict(self._auth),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as answer:
                raw = await answer.content.read(MAX_PROBE_BYTES + 1)
                while len(raw) <= MAX_PROBE_BYTES and (more := await answer.content.read(MAX_PROBE_BYTES)):
                    raw += more
                if len(raw) > MAX_PROBE_BYTES:
                    raise BackendError("too_large", f"{method} {path} answered more than {MAX_PROBE_BYTES} bytes")
                status = answer.status
        except TimeoutError:
            raise BackendError("answer_timeout", f"{method} {path} took longer than {timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BackendError("connect_failed", f"{type(error).__name__}: {error}") from None
        yield status, raw


class _Send:
    """An exchange seen as a Reply.  A class, since a generator-based context manager costs more than the exchange's own logic."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: AbstractAsyncContextManager[Exchange]) -> None:
        self._exchange = exchange

    async def __aenter__(self) -> Reply:
        exchange = await self._exchange.__aenter__()
        return Reply(status=exchange.status, headers=exchange.headers, read=exchange.read)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._exchange.__aexit__(kind, error, trace)
