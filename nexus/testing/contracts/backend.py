"""What every backend promises: an honest probe that costs nothing, bytes relayed as they are, and a key that stays a secret."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import pytest

from nexus.api import Backend, BackendError, BackendKind, FailureRule, Model, Report, Secret, Server
from nexus.model import WILDCARD, Demand, Zone
from nexus.testing.acts import Act, CutAfter, Hang, Malformed, Respond, Stream
from nexus.testing.builders import a_call, an_ask
from nexus.testing.contracts.opening import FastLoop
from nexus.testing.scope import a_scope
from nexus.testing.servers import openai_server
from nexus.testing.upstream import ScriptedUpstream

KEY = "sk-contract-0123456789abcdef"

HTML = b"<!doctype html><html><body><h1>It works!</h1></body></html>"

GARBAGE: dict[str, Act] = {
    "a page": Respond(body=HTML, headers={"Content-Type": "text/html"}),
    "nothing": Respond(),
    "half a JSON": Respond(body=b'{"data": [{"id": "ti', headers={"Content-Type": "application/json"}),
    "no UTF-8": Respond(body=b"\xff\xfe\x00{}", headers={"Content-Type": "application/json"}),
    "deep JSON": Respond(body=b"[" * 100_000, headers={"Content-Type": "application/json"}),
    "null": Respond(json=None),
    "a list": Respond(json=[]),
    "a number": Respond(json=7),
    "an empty object": Respond(json={}),
    "wrong types": Respond(json={"data": 7, "models": 7, "version": 7}),
    "401": Respond(401, json={"error": {"message": f"Incorrect API key provided: {KEY}."}}),
    "404": Respond(404, json={"error": "not found"}),
    "500": Respond(500, body=b"Internal Server Error"),
    "503": Respond(503, json={"error": {"message": "Loading model", "code": 503}}),
    "no HTTP": Malformed(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a cut": CutAfter(60, Respond(json={"data": [{"id": "tiny"}]})),
    "a reset": CutAfter(0, Respond(), reset=True),
}

ODD_LISTS: dict[str, Any] = {
    "odd entries": [None, 7, "x", [], {}, {"id": None, "name": None, "model": None}, {"id": 7, "name": 7, "model": 7}],
    "odd facts": [
        {"id": "x", "name": "x", "model": "x", "meta": 7, "max_model_len": "many", "details": None, "capabilities": 7},
        {"id": "y", "name": "y", "model": "y", "meta": [], "max_model_len": -1, "capabilities": [None], "remote_host": 7},
    ],
}


class BackendContract:
    """Subclass it, name `kind`, `models` and `server()`:

        class TestFoo(BackendContract):
            kind = KIND
            models = ("tiny",)

            def server(self):
                return foo_server(models=self.models)

    `server()` gives a double (a ScriptedUpstream, not yet entered) that behaves as the real server does; `models` are ids
    that a probe of it must report.  `options` is an instance of the kind's options.  `key_header` carries the key.
    `probe_posts` are paths that a probe may POST to, since they only read.  `generic` says that the fingerprint is meant to
    match any OpenAI-compatible server.
    """

    kind: BackendKind
    models: tuple[str, ...]
    options: Any = None
    key_header = "authorization"
    probe_posts: frozenset[str] = frozenset({"/api/show"})
    generic = False
    probe_seconds = 60.0
    """The most that a probe of a server that never answers may take."""
    patience = 5.0
    """Real seconds after which a contract gives up waiting for the backend."""

    def server(self) -> AbstractAsyncContextManager[ScriptedUpstream]:
        """A double of the server.  Every subclass has its own."""
        raise NotImplementedError

    @asynccontextmanager
    async def backend(self, url: str, *, moved: bool = False) -> AsyncIterator[Backend]:
        """The component, for a server at `url`, with a key; `moved`: its name has come to mean an address that is not private."""
        options = self.kind.options() if self.options is None else self.options
        server = Server(name="contract", url=url, key=Secret(KEY))
        async with a_scope(self.kind.name) as scope, self.kind.open(server, options, scope) as backend:
            if moved:
                upstream: Any = scope.upstream
                upstream.guard(url, _Moved())
            yield backend

    # ---- the descriptor

    def test_kind_can_be_configured_without_options(self) -> None:
        assert attrs.has(self.kind.options)
        assert self.kind.options() is not None

    def test_kind_default_url_has_no_trailing_slash(self) -> None:
        assert self.kind.default_url is None or not self.kind.default_url.endswith("/")

    def test_failures_are_written_as_they_are_compared(self) -> None:
        """Codes and words in small letters with single blanks, each rule with who says so."""
        for rule in self.kind.failures:
            assert isinstance(rule, FailureRule), rule
            assert rule.codes or rule.words, f"{rule}: what a status alone means is the core's to say"
            assert rule.source, f"{rule}: who answers so?"
            for words in (*rule.codes, *rule.words):
                assert words == re.sub(r"\s+", " ", words.lower()), f"{words!r} would never fit"
                assert words.strip(f"{WILDCARD} "), f"{words!r} would fit everything"

    # ---- probe

    @pytest.mark.asyncio
    async def test_probe_reports_the_models(self) -> None:
        async with self.server() as server, self.backend(server.url) as backend:
            report = await backend.probe()
        assert report.ok, report
        assert all(isinstance(model, Model) for model in report.models or ())
        assert set(self.models) <= {model.id for model in report.models or ()}

    @pytest.mark.asyncio
    async def test_probe_finds_the_models_with_the_api_path_in_the_url(self) -> None:
        async with self.server() as server, self.backend(server.url + "/v1") as backend:
            report = await backend.probe()
        assert set(self.models) <= {model.id for model in report.models or ()}, report

    @pytest.mark.asyncio
    async def test_probe_has_no_side_effects(self) -> None:
        async with self.server() as server, self.backend(server.url) as backend:
            await backend.probe()
            changing = [r for r in server.requests if r.method not in ("GET", "HEAD") and r.path not in self.probe_posts]
            assert server.requests, "the probe asked the server nothing"
        assert not changing, f"a probe must only read: {changing}"

    @pytest.mark.asyncio
    async def test_probe_of_a_dead_port_is_a_report(self) -> None:
        async with ScriptedUpstream() as server, self.backend(server.url) as backend:
            server.stop_listening()
            _check_down(await backend.probe())

    @pytest.mark.asyncio
    @pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
    async def test_probe_of_something_else_is_a_report(self, answer: Act) -> None:
        async with ScriptedUpstream(answer) as server, self.backend(server.url) as backend:
            _check_down(await backend.probe())

    @pytest.mark.asyncio
    @pytest.mark.parametrize("entries", ODD_LISTS.values(), ids=ODD_LISTS.keys())
    async def test_probe_survives_odd_model_lists(self, entries: Any) -> None:
        odd = Respond(json={"data": entries, "models": entries, "version": None, "object": "list"})
        async with self.server() as server, self.backend(server.url) as backend:
            for path in ("/v1/models", "/models", "/api/tags", "/api/ps", "/api/v1/models"):
                server.on(path, odd, method="GET")
            report = await backend.probe()
        assert isinstance(report, Report)
        assert all(isinstance(model.id, str) and model.id for model in report.models or ())

    @pytest.mark.asyncio
    async def test_probe_of_a_server_that_hangs_ends_in_a_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = FastLoop(monkeypatch)
        async with ScriptedUpstream(Hang()) as server, self.backend(server.url) as backend:
            _check_down(await loop.result(backend.probe(), self.probe_seconds))

    @pytest.mark.asyncio
    async def test_probe_follows_no_redirect(self) -> None:
        async with ScriptedUpstream() as elsewhere:
            away = Respond(307, headers={"Location": f"{elsewhere.url}/v1/models"})
            async with ScriptedUpstream(away) as server, self.backend(server.url) as backend:
                _check_down(await backend.probe())
            assert elsewhere.requests == [], "the key went to whoever the server pointed to"

    # ---- send

    @pytest.mark.asyncio
    @pytest.mark.parametrize("status", [200, 400, 429, 503])
    async def test_send_relays_the_answer(self, status: int) -> None:
        body = bytes(range(256)) * 1000
        up = ScriptedUpstream(Respond(status, body=body, headers={"Retry-After": "7", "X-Odd": "a, b"}))
        async with up, self.backend(up.url) as backend, await backend.send(a_call()) as reply:
            assert reply.status == status
            assert {("retry-after", "7"), ("x-odd", "a, b")} <= set(reply.headers)
            assert await _read(reply) == body

    @pytest.mark.asyncio
    async def test_send_sends_the_body_as_it_is(self) -> None:
        call = a_call(body=b'{"model":"tiny",  "messages":[] ,"x":"\xc3\xa9"}')
        up = ScriptedUpstream(Respond(json={}))
        async with up, self.backend(up.url) as backend, await backend.send(call) as reply:
            await _read(reply)
        assert [(r.method, r.body, r.header("content-type")) for r in up.requests] == [("POST", call.body, "application/json")]
        assert up.violations == []

    @pytest.mark.asyncio
    async def test_send_relays_a_stream_as_it_is(self) -> None:
        stream = Stream([{"n": n} for n in range(20)], done=False)
        up = ScriptedUpstream(stream)
        async with up, self.backend(up.url) as backend, await backend.send(a_call(stream=True)) as reply:
            assert await _read(reply) == b"".join(event for event in stream.events if isinstance(event, bytes))

    @pytest.mark.asyncio
    async def test_send_yields_before_the_stream_has_ended(self) -> None:
        up = ScriptedUpstream(Stream(["first"], done=False, end="hang"))
        sending = a_call(stream=True)
        async with up, self.backend(up.url) as backend, asyncio.timeout(self.patience), await backend.send(sending) as reply:
            assert await reply.read() == b"data: first\n\n"

    @pytest.mark.asyncio
    async def test_send_to_a_dead_port_raises(self) -> None:
        async with ScriptedUpstream() as server, self.backend(server.url) as backend:
            server.stop_listening()
            with pytest.raises(BackendError):
                async with await backend.send(a_call()):
                    pytest.fail("there was nobody to answer")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("end", ["cut", "reset"])
    async def test_a_stream_that_breaks_raises(self, end: str) -> None:
        async with ScriptedUpstream(Stream(["first"], done=False, end=end)) as server, self.backend(server.url) as backend:
            with pytest.raises(BackendError):
                async with await backend.send(a_call(stream=True)) as reply:
                    await _read(reply)

    @pytest.mark.asyncio
    async def test_leaving_early_gives_the_exchange_up(self) -> None:
        async with ScriptedUpstream(Stream(["first"], end="hang")) as server, self.backend(server.url) as backend:
            async with await backend.send(a_call(stream=True)) as reply:
                await reply.read()
            await server.until(lambda: server.disconnected == 1 and not server.in_flight, self.patience)

    @pytest.mark.asyncio
    async def test_send_takes_nothing_private_to_an_address_that_is_not(self) -> None:
        """`upstream.exchange` is told which requests may not leave (`private`), and refuses where the name leads out."""
        call = a_call(ask=an_ask(demand=Demand(zone=Zone.RESTRICTED)))
        async with ScriptedUpstream(Respond(json={})) as server, self.backend(server.url, moved=True) as backend:
            with pytest.raises(BackendError):
                async with await backend.send(call) as reply:
                    await _read(reply)
        assert not server.requests, "a request that may not leave was sent to an address that is not private"

    # ---- the key

    @pytest.mark.asyncio
    async def test_the_key_goes_in_its_header_and_nowhere_else(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with self.server() as server, self.backend(server.url) as backend:
            report = await backend.probe()
            server.next(Respond(json={}))
            async with await backend.send(a_call()) as reply:
                await _read(reply)
            shown = repr(backend) + repr(report)
        assert all(KEY in (r.header(self.key_header) or "") for r in server.requests)
        assert not any(KEY in r.target for r in server.requests), "a key in a URL ends up in logs"
        assert KEY not in shown + caplog.text

    @pytest.mark.asyncio
    async def test_a_server_that_repeats_the_key_does_not_spread_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with ScriptedUpstream(GARBAGE["401"]) as server, self.backend(server.url) as backend:
            report = await backend.probe()
        assert KEY not in repr(report) + caplog.text

    # ---- the fingerprint

    @pytest.mark.asyncio
    async def test_the_fingerprint_matches_the_double(self) -> None:
        async with self.server() as server:
            assert await self._recognised(server.url), f"no fingerprint of {self.kind.name} matches its own double"

    @pytest.mark.asyncio
    async def test_the_fingerprint_matches_no_other_server(self) -> None:
        async with openai_server() as server:
            assert await self._recognised(server.url) == self.generic
        async with ScriptedUpstream(GARBAGE["a page"]) as server:
            assert not await self._recognised(server.url)

    async def _recognised(self, url: str) -> bool:
        from nexus.discovery import recognise

        if not self.kind.fingerprints:
            pytest.skip(f"{self.kind.name} has no fingerprint")
        async with a_scope(self.kind.name) as scope:
            mine = [(self.kind.name, fingerprint) for fingerprint in self.kind.fingerprints]
            return await recognise(url, mine, scope.session()) is not None


class _Moved:
    """The guard before a name that leads out now."""

    private = False

    def judge(self, hosts: Sequence[str]) -> None:
        pass


def _check_down(report: Report) -> None:
    assert isinstance(report, Report)
    assert not report.ok, report
    assert report.problem, "people need to read what is wrong"


async def _read(reply: Any) -> bytes:
    parts = []
    while part := await reply.read():
        parts.append(part)
    return b"".join(parts)
