"""The part that every HTTP inference server shares: base URL, key, sending, probing.  No server's own API lives here."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from nexus import largejson
from nexus.api import Backend, BackendError, Call, Reply, Report, Scope, Secret, Server, Zone
from nexus.descriptors import is_shortage
from nexus.dialects.complaints import complaint_of
from nexus.outcome import is_overloaded
from nexus.plain import rounded

MAX_PROBE_BYTES = 8 * 1024 * 1024
SMALL_BYTES = 64 * 1024  # what is read at once
NO_LIST = (404, 405, 501)  # how a server says that it has no such path
OPTIONAL_TIMEOUT = 2.0  # seconds; what a probe can do without must not hold up what it needs


class WrongStatus(BackendError):
    """A probe was answered, but with another status than 2xx.  Caught where a 404, 401 or 503 has a meaning of its own."""

    def __init__(self, status: int, asked: str, body: bytes = b"") -> None:
        super().__init__("status", f"answered {status} to {asked}")
        self.status = status
        self.body = body


def objects(answer: Any, key: str) -> list[Mapping[str, Any]]:
    """The JSON objects in the list `answer[key]`; a null list is empty, what is no object is left out.

    Raises BackendError("malformed") where there is no such list.
    """
    if not isinstance(answer, dict) or key not in answer:
        raise BackendError("malformed", f"its answer has no {key!r}")
    found = answer[key] if answer[key] is not None else []
    if not isinstance(found, list):
        raise BackendError("malformed", f"{key!r} in its answer is no list")
    return [item for item in found if isinstance(item, dict)]


def within(value: Any, *path: str) -> Any:
    """What nested JSON objects hold under `path`, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def count_of(value: Any) -> int | None:
    """A positive whole number, also where a server writes it as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:18])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 < value < 1e18 else None


def words_of(value: Any) -> frozenset[str] | None:
    """The strings of a list, lower case; None where it is no list, so that "says nothing" differs from "says none"."""
    return frozenset(item.lower() for item in value if isinstance(item, str)) if isinstance(value, list) else None


_NUMBER = frozenset("0123456789.eE+-")


def metric_sum(text: str, *names: str) -> int | None:
    """The sum of all samples of these Prometheus metrics, whatever their labels; None where no sample is there."""
    samples = [sample for name in names for line in _lines(text, name) if (sample := _sample(line[len(name) :])) is not None]
    return round(sum(samples)) if samples else None


def _lines(text: str, name: str) -> Iterator[str]:
    """Those that begin with a name."""
    at = 0 if text.startswith(name) else text.find("\n" + name) + 1
    while at or text.startswith(name):
        end = text.find("\n", at)
        yield text[at : end if end >= 0 else None]
        at = text.find("\n" + name, at) + 1
        if not at:
            return


def _sample(rest: str) -> float | None:
    """The value in what follows a metric's name, labels or not; None where the name goes on, or no number is there."""
    if rest.startswith("{"):
        _, closed, rest = rest.rpartition("}")
        if not closed:
            return None
    elif not rest.startswith((" ", "\t")):
        return None
    words = rest.split(None, 1)
    try:
        return min(max(float(words[0]), 0.0), 1e9) if words and set(words[0]) <= _NUMBER else None
    except ValueError:
        return None


class HTTPBackend(Backend):
    """A server behind a base URL.  Subclasses write `look`, which may raise, or `probe`; `path` maps a dialect's path to
    the server's.

    `api_path` is the API's own path, which the operator may or may not have written at the end of the URL.
    """

    api_path = "/v1"
    _answered = False

    def __init__(self, server: Server, scope: Scope) -> None:
        self.server = server
        self.scope = scope
        self.base = server.url.rstrip("/").removesuffix(self.api_path)
        self._auth = tuple(self.auth().items())

    async def probe(self) -> Report:
        try:
            report = await self.look()
        except BackendError as error:
            return self._too_busy(error) or self.report_of(error)
        self._answered = self._answered or report.ok
        return report

    async def look(self) -> Report:
        """The body of `probe` for a subclass that leaves failures to `report_of`.  Raises BackendError."""
        raise NotImplementedError("a backend writes look() or probe()")

    def _too_busy(self, error: BackendError) -> Report | None:
        """That a server has no time for the question is no illness, and says nothing of what it serves."""
        if not isinstance(error, WrongStatus) or not self.is_busy(error):
            return None
        if self._answered:
            return Report(ok=True, models=None)
        said = "asks to slow down" if error.status == 429 else "is overloaded"
        return Report(ok=False, code="unreachable", problem=f"{said}, and has not said yet what it serves ({error.hint})")

    def is_busy(self, error: WrongStatus) -> bool:
        """Whether a probe was dropped because there is too much to do: by its status, or by the words of the core's table of failures."""
        if error.status != 503:
            return error.status in (429, 529)
        said = complaint_of(error.body)
        return is_overloaded(error.status, said.message, said.codes)

    def report_of(self, error: BackendError) -> Report:
        """What a failed probe means, as a sentence for people.  `code` is one of unauthorized, not_this_kind, unreachable."""
        status = error.status if isinstance(error, WrongStatus) else None
        if error.code == "shortage":
            code, problem = "shortage", error.hint
        elif status in (401, 403):
            code, problem = "unauthorized", f"answered {status}: the key is wrong or missing (api_key_env)"
        elif (status is not None and status < 500) or error.code in ("malformed", "too_large"):
            code, problem = "not_this_kind", f"does not answer as its kind does: {error.hint}"
        elif error.code == "connect_refused":
            code, problem = "unreachable", f"refused the connection at {self.shown}"
            if self.server.refused:
                problem += f"; if it runs, it may listen for its own machine only: {self.server.refused}"
        else:
            code, problem = "unreachable", f"cannot be used at {self.shown}: {error.hint}"
        return Report(ok=False, code=code, problem=problem)

    @property
    def shown(self) -> str:
        """The base URL for people: without a user name or password that somebody may have written into it."""
        return re.sub(r"//[^/@]*@", "//", self.base)

    async def get_list(self, path: str = "/v1/models", *, read: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """As `get_json`, of a model list.  A server that has none is no mistake where the operator wrote what it serves: then it is as if
        it had listed nothing."""
        try:
            return await self.get_json(path, read=read)
        except WrongStatus as wrong:
            if wrong.status not in NO_LIST or not self.server.declared:
                raise
            return read({"data": []})

    def auth(self) -> Mapping[str, str]:
        """The headers that carry the server's key, lower case."""
        return {"authorization": f"Bearer {self.server.key.reveal()}"} if self.server.key else {}

    def probe_headers(self) -> Mapping[str, str]:
        """What goes with every question of a probe, lower case: the key, and what else the server wants to see."""
        return self.auth()

    def secrets(self) -> Iterable[Secret]:
        """The server's key."""
        return (self.server.key,) if self.server.key else ()

    def path(self, call: Call) -> str:
        """Where on the server the call goes."""
        return call.path

    async def send(self, call: Call) -> Reply:
        exchange = await self.scope.upstream.exchange(
            call.method,
            self.base + self.path(call),
            headers=call.headers + self._auth,
            body=call.body,
            first_byte_by=call.first_byte_by,
            answer_by=call.answer_by,
            idle_timeout=call.idle_timeout,
            connect_timeout=call.connect_timeout,
            private=call.ask.demand.zone is Zone.RESTRICTED,
        )
        return Reply(status=exchange.status, headers=exchange.headers, read=exchange.read, aclose=exchange.aclose)

    async def get_json(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        timeout: float = 5.0,
        read: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """What `read` makes of the JSON that the server answers, for probes.  Redirects are not followed.  What is large is decoded and
        read in a thread: nobody waits for a long list.

        Raises WrongStatus for another answer than 2xx, BackendError with code `malformed` for what is no JSON,
        `connect_refused`, `connect_failed`, `tls_failed` and `answer_timeout` as they say.
        """
        async with self.get(path, method=method, body=body, timeout=timeout) as (status, raw):
            if status // 100 != 2:
                raise WrongStatus(status, f"{method} {path}", raw)
            try:
                answer = json.loads(raw) if len(raw) <= SMALL_BYTES else await asyncio.to_thread(largejson.decode, raw)
            except (ValueError, RecursionError):
                raise BackendError("malformed", f"{method} {path} did not answer JSON") from None
            return read(answer) if len(raw) <= SMALL_BYTES else await asyncio.to_thread(read, answer)

    async def maybe_json(self, path: str, *, method: str = "GET", body: Any = None) -> Any:
        """As `get_json`, for what a probe can do without: None where the server does not answer it."""
        try:
            return await self.get_json(path, method=method, body=body, timeout=OPTIONAL_TIMEOUT)
        except BackendError:
            return None

    async def maybe_text(self, path: str) -> str | None:
        """The text of a 2xx answer, for what a probe can do without; None otherwise."""
        try:
            async with self.get(path, timeout=OPTIONAL_TIMEOUT) as (status, raw):
                return raw.decode("utf-8", "replace") if status // 100 == 2 else None
        except BackendError:
            return None

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
                headers=dict(self.probe_headers()),
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
            raise BackendError("answer_timeout", f"{method} {path} took longer than {rounded(timeout)} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error) from None
        yield status, raw


def _failure(error: Exception) -> BackendError:
    if isinstance(error, aiohttp.ClientSSLError):
        return BackendError("tls_failed", f"TLS failed: {error}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return BackendError("connect_failed", f"the name {error.host} does not resolve")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError | BrokenPipeError):
        return BackendError("connect_failed", "it closed the connection before it answered")
    if isinstance(error, aiohttp.InvalidURL):  # its text would repeat a password written into the URL
        return BackendError("connect_failed", "its URL is not valid")
    return BackendError("malformed" if isinstance(error, aiohttp.ClientResponseError) else "connect_failed", _plain(error))


def _unconnected(error: OSError) -> BackendError:
    if is_shortage(error):
        return BackendError("shortage", f"this machine could not connect: {os.strerror(error.errno or 0).lower()}")
    return _not_reached(error)


def _not_reached(error: OSError) -> BackendError:
    """Why no connection came about.  A name with several addresses may fail at each of them in another way: then there is no errno,
    only a text that lists all of them."""
    listed = re.findall(r"\[Errno (\d+)\]", str(error)) if error.errno is None else [error.errno]
    met = {int(number) for number in listed}
    # a server that dies while it is being connected to resets instead of refusing
    if met and met <= {errno.ECONNREFUSED, errno.ECONNRESET}:
        return BackendError("connect_refused", "it refused the connection")
    said = ", ".join(os.strerror(number).lower() for number in sorted(met)) or type(error).__name__
    return BackendError("connect_failed", f"connecting failed: {said}")


def _plain(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
