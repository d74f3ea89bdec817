"""One cell of the matrix: one client, one backend, one scenario, with a real gateway and real sockets between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from nexus.dialects.canonical import Answer
from nexus.dialects.members import members_of
from nexus.testing.acts import Act, Respond, Stream
from nexus.testing.conformance.golden import JSON, Exchange, GoldenTable
from nexus.testing.conformance.house import LOSS_HEADER, PATIENCE_SECONDS, Heard, House, house
from nexus.testing.conformance.scenarios import SCENARIOS, Failing, Manner, Scenario
from nexus.testing.conformance.waiting import KEPT_ALIVE_AFTER, ask_slowly
from nexus.testing.incoming import Received
from nexus.testing.upstream import ScriptedUpstream

WORDS = "These words came before it broke. "
SENTENCE = "the golden backend is out of order"


class Nonconforming(Exception):
    """What a cell should have shown, and did not."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How a cell ended: `kept` all, `lost` words that were declared, `refused` for them, or `absent`: the client cannot say it."""

    kind: str
    words: tuple[str, ...] = ()


KEPT, ABSENT = Outcome(kind="kept"), Outcome(kind="absent")


@attrs.frozen(kw_only=True)
class Cell:
    """What is run."""

    client: GoldenTable
    server: GoldenTable
    scenario: Scenario | Failing | None
    """None: the client leaves in mid-stream."""
    stream: bool

    @property
    def name(self) -> str:
        return "abort" if self.scenario is None else self.scenario.name

    @property
    def native(self) -> bool:
        """Whether both sides speak the same dialect: bytes pass through."""
        return self.client.dialect == self.server.dialect

    @property
    def declared(self) -> Outcome:
        """How it must end, by what the tables say."""
        if isinstance(self.scenario, Failing) and self.scenario.where == "named" and self.server.named_error("") is None:
            return ABSENT
        if not isinstance(self.scenario, Scenario):
            return KEPT
        asked, served = self.client.exchange(self.scenario), self.server.exchange(self.scenario)
        if asked.request is None or (self.scenario.manner is Manner.SLOW and not self.client.keeps_alive):
            return ABSENT
        if self.native:
            return KEPT
        words = served.losing(asked.omits)
        if words and served.refused:
            return Outcome(kind="refused", words=tuple(sorted(words)))
        words |= asked.drops - served.drops
        return Outcome(kind="lost", words=tuple(sorted(words))) if words else KEPT

    @property
    def told(self) -> list[str]:
        """The words that the header names: the head of a stream has gone before anybody knows what its answer loses."""
        if not self.stream or not isinstance(self.scenario, Scenario):
            return list(self.declared.words)
        asked, served = self.client.exchange(self.scenario), self.server.exchange(self.scenario)
        return [] if self.native else sorted(served.losing(asked.omits))

    def __str__(self) -> str:
        return f"{self.client.dialect} to {self.server.dialect}: {self.name}, {'streamed' if self.stream else 'whole'}"


async def run_cell(cell: Cell, state_dir: Path, *, plugins: Sequence[Any] = ()) -> Outcome:
    """The cell's `declared` outcome, once it has been seen.  Raises Nonconforming where anything is not as the tables say.
    `plugins` bring dialects that are not installed."""
    outcome = cell.declared
    if outcome is ABSENT:
        return outcome
    try:
        slow = isinstance(cell.scenario, Scenario) and cell.scenario.manner is Manner.SLOW
        async with house(cell.server, state_dir, plugins=plugins, keepalive_seconds=KEPT_ALIVE_AFTER if slow else 60.0) as at:
            if cell.scenario is None:
                await _abort(cell, at)
            elif isinstance(cell.scenario, Failing):
                await _failure(cell, cell.scenario, at)
            else:
                await _exchange(cell, cell.scenario, at)
            return outcome
    except (ValueError, LookupError, TypeError, TimeoutError, aiohttp.ClientError) as error:
        raise Nonconforming(f"{cell}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- what was asked is answered


async def _exchange(cell: Cell, scenario: Scenario, at: House) -> None:
    theirs, served = cell.client.exchange(scenario), cell.server.exchange(scenario)
    assert theirs.request is not None, "such a cell is absent"
    asked = cell.client.bytes_of(theirs.request, stream=cell.stream)
    if scenario.manner is Manner.SLOW:
        heard = await ask_slowly(at, cell.client, asked, served.frames)
    else:
        at.upstream.default = _act(cell, scenario, served)
        heard = await at.ask(cell.client, asked)
    if cell.declared.kind == "refused":
        _refused(cell, heard, at.upstream)
        return
    _same(heard.status, 200, f"{cell}: status, with {heard.body[:300]!r}")
    _same(sorted(heard.lost), cell.told, f"{cell}: what {LOSS_HEADER} names")
    _same(heard.kind, cell.client.stream_type if cell.stream else "application/json", f"{cell}: content type")
    _arrived(cell, asked, served.arriving(theirs.omits), at.upstream)
    _answered(cell, scenario, heard, served)
    _same(await at.outcome(heard), "ok", f"{cell}: the outcome that is remembered")
    if scenario.manner is Manner.STAYING:
        await at.upstream.until(lambda: at.upstream.disconnected == 1, PATIENCE_SECONDS)


def _act(cell: Cell, scenario: Scenario, served: Exchange) -> Act:
    if not cell.stream:
        return Respond(body=cell.server.reply_bytes(served), headers={"Content-Type": "application/json"})
    wire, cut = b"".join(served.frames), scenario.cut
    pieces = [wire[at : at + cut] for at in range(0, len(wire), cut)] if cut else served.frames
    return Stream(pieces, done=False, end="hang" if scenario.manner in (Manner.STAYING, Manner.ENDLESS) else "proper")


def _arrived(cell: Cell, asked: bytes, expected: JSON | None, upstream: ScriptedUpstream) -> None:
    _same(len(upstream.requests), 1, f"{cell}: requests that the backend got")
    (received,) = upstream.requests
    _same(received.path, cell.server.path, f"{cell}: the path that was asked")
    _same(received.query, cell.client.query if cell.native else "", f"{cell}: the query that the backend got")
    _headed(cell, received)
    if cell.native:
        _same(members_of(received.body), members_of(asked), f"{cell}: the fields that the backend got, byte for byte")
        return
    if expected is None:
        raise Nonconforming(f"{cell}: the backend's table has no request for it")
    _same(received.json, cell.server.streaming(expected) if cell.stream else expected, f"{cell}: the request that the backend got")


def _headed(cell: Cell, received: Received) -> None:
    """The headers of the client's dialect are for servers of it; what it shows to be let in is for nobody."""
    for name, value in cell.client.headers.items():
        if cell.native or name not in cell.server.wants:
            _same(received.header(name), value if cell.native else None, f"{cell}: the header {name} that the backend got")
    shown = [value for _, value in received.headers if value in cell.client.credentials.values()]
    _same(shown, [], f"{cell}: credentials of the client's that the backend got")
    missing = [name for name in cell.server.wants if not received.header(name)]
    _same(missing, [], f"{cell}: headers that the backend wants and did not get")


def _answered(cell: Cell, scenario: Scenario, heard: Heard, served: Exchange) -> None:
    if cell.native and scenario.manner is not Manner.SLOW:
        _same(
            heard.body,
            b"".join(served.frames) if cell.stream else cell.server.reply_bytes(served),
            f"{cell}: the bytes that the client got",
        )
    if cell.native and scenario.is_loose:
        return
    read = cell.client.streamed if cell.stream else cell.client.whole
    expected = cell.client.sayable(cell.server.sayable(scenario.said))
    got = read(heard.body)
    for field in attrs.fields(Answer):
        _same(getattr(got, field.name), getattr(expected, field.name), f"{cell}: {field.name} of the answer")


def _refused(cell: Cell, heard: Heard, upstream: ScriptedUpstream) -> None:
    _same(heard.status, 400, f"{cell}: status")
    sentence = cell.client.error(400, heard.body)
    missing = [word for word in cell.declared.words if word not in sentence]
    _same(missing, [], f"{cell}: what the refusal does not name ({sentence})")
    _same(upstream.requests, [], f"{cell}: requests that the backend got")


# ---------------------------------------------------------------- errors


async def _failure(cell: Cell, failing: Failing, at: House) -> None:
    at.upstream.default = _failing_act(cell, failing)
    heard = await at.ask(cell.client, _plain(cell))
    _same(heard.status, failing.told, f"{cell}: status, with {heard.body[:300]!r}")
    if heard.status == 200 and cell.native and failing.where == "named":
        sentence = _as_told(cell, heard, failing)  # a strict client need not know it for an error
    elif heard.status == 200:
        text, sentence = cell.client.broken(heard.body)
        _same(text, WORDS, f"{cell}: the words before the error")
        if cell.native and failing.where != "cut":
            _as_told(cell, heard, failing)
    else:
        sentence = cell.client.error(heard.status, heard.body)
        _same(heard.kind, "application/json", f"{cell}: content type")
        if cell.native and failing.status == failing.told == 400:
            _same(heard.body, cell.server.error_body(400, SENTENCE), f"{cell}: the bytes that the client got")
    _same(await at.outcome(heard), "broken" if heard.status == 200 else "refused", f"{cell}: the outcome that is remembered")
    if failing.where != "cut" and SENTENCE not in sentence:
        raise Nonconforming(f"{cell}: the client is told {sentence!r}, and not what the backend said")


def _as_told(cell: Cell, heard: Heard, failing: Failing) -> str:
    """Within a dialect the error is the server's own, and the last that comes."""
    told = b"".join([*cell.server.begun(WORDS), _error_event(cell, failing)])
    _same(heard.body, told, f"{cell}: the bytes that the client got")
    return told.decode()


def _error_event(cell: Cell, failing: Failing) -> bytes:
    named = cell.server.named_error(SENTENCE) if failing.where == "named" else None
    return named or cell.server.error_event(SENTENCE)


def _failing_act(cell: Cell, failing: Failing) -> Act:
    server = cell.server
    if failing.where == "status":
        headers = {"Content-Type": "application/json", "Retry-After": "120"}
        return Respond(failing.status, body=server.error_body(failing.status, SENTENCE), headers=headers)
    if failing.where == "first":
        return Stream([server.error_event(SENTENCE)], done=False)
    begun = server.begun(WORDS)
    if failing.where == "cut":
        return Stream(begun, done=False, end="cut")
    late = server.exchange(SCENARIOS[0]).frames[-3:] if failing.where == "before the end" else ()
    return Stream([*begun, _error_event(cell, failing), *late], done=False, end="hang" if failing.stays else "proper")


# ---------------------------------------------------------------- leaving


async def _abort(cell: Cell, at: House) -> None:
    """The client goes: after the first words of a stream, or while a whole answer is waited for."""
    at.upstream.default = Stream(cell.server.begun(WORDS), done=False, end="hang")
    request = at.post(cell.client, _plain(cell))
    async with asyncio.timeout(PATIENCE_SECONDS):
        if cell.stream:
            async with request as answer:
                await answer.content.readany()
                answer.close()
        else:
            await _leave_waiting(request, at.upstream)
    await at.upstream.until(lambda: at.upstream.disconnected == 1, PATIENCE_SECONDS)


async def _leave_waiting(request: Any, upstream: ScriptedUpstream) -> None:
    async def ask() -> None:
        async with request:
            raise Nonconforming("an answer came that the backend never ended")

    asking = asyncio.get_running_loop().create_task(ask())
    await upstream.until(lambda: upstream.in_flight == 1, PATIENCE_SECONDS)
    asking.cancel()
    await asyncio.wait([asking])


# ---------------------------------------------------------------- comparing


def _plain(cell: Cell) -> bytes:
    return cell.client.bytes_of(cell.client.simplest, stream=cell.stream)


def _same(got: object, expected: object, what: str) -> None:
    if got != expected:
        raise Nonconforming(f"{what}\n  expected {expected!r}\n       got {got!r}")
