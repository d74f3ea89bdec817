"""The conformance suite, for the dialects that come with Nexus and for one that somebody else might bring."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
from nexus_anthropic.dialect import Anthropic
from nexus_anthropic.stream_in import Decoder

from nexus import reply
from nexus.api import DialectKind, Endpoint, Problem, hookimpl, opens, replace
from nexus.dialects.canonical import Text
from nexus.dialects.openai import OpenAI
from nexus.model import CHAT
from nexus.testing.conformance import (
    FAILURES,
    SCENARIOS,
    TABLES,
    AnthropicTable,
    Cell,
    Nonconforming,
    OpenAITable,
    __main__,
    declared,
    own_errors,
    printed,
    run_cell,
    spoken,
)
from nexus.testing.contracts import ConformanceContract

matrix_module = importlib.import_module("nexus.testing.conformance.matrix")  # the package has a function of that name

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "conformance.md"
NAMED = {scenario.name: scenario for scenario in SCENARIOS}
OPENAI, ANTHROPIC = TABLES


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A last event that never comes is not waited for as long as it is for real."""
    monkeypatch.setattr(reply, "LAST_EVENT_SECONDS", 0.5)


class TestOpenAI(ConformanceContract):
    table = OpenAITable()


class TestAnthropic(ConformanceContract):
    table = AnthropicTable()
    others = ()  # the pairs with OpenAI's are run above


# ---------------------------------------------------------------- dialects that somebody else might bring


class Parrot(OpenAI):
    """Says what OpenAI's says, elsewhere: even to OpenAI's own it is a stranger, and all between them is translated."""

    name = "parrot"
    endpoints = (Endpoint(path="/parrot/chat", task=CHAT),)


class Echo(Anthropic):
    """The same of Anthropic's."""

    name = "echo"
    endpoints = (Endpoint(path="/echo/messages", task=CHAT),)


class ParrotTable(OpenAITable):
    dialect = "parrot"
    path = "/parrot/chat"


class ByForm(AnthropicTable):
    """In the canonical form "adaptive" is said by saying nothing: thinking is left to the model."""

    def exchange(self, scenario):
        told = super().exchange(scenario)
        if scenario.name != "reasoning":
            return told
        return replace(told, arrives={key: value for key, value in told.request.items() if key != "thinking"})


class EchoTable(ByForm):
    dialect = "echo"
    path = "/echo/messages"


class Strangers:
    @hookimpl
    def nexus_dialects(self) -> Iterable[DialectKind]:
        for dialect in (Parrot, Echo):
            yield DialectKind(name=dialect.name, open=opens(lambda options, scope, dialect=dialect: dialect()))


class TestParrot(ConformanceContract):
    table = ParrotTable()
    plugins = (Strangers(),)
    others = (OpenAITable(),)
    test_between_its_own_bytes_pass_through = None  # as OpenAI's, above


class TestEcho(ConformanceContract):
    """Anthropic's by way of the canonical form: signatures, cache marks, redacted thinking, failed tools, documents by URL."""

    table = EchoTable()
    plugins = (Strangers(),)
    others = (ByForm(),)
    test_between_its_own_bytes_pass_through = None


# ---------------------------------------------------------------- the page


def test_the_page_shows_the_matrix():
    """As it is declared; that every cell is as declared is what the classes above run."""
    assert printed(declared(TABLES, TABLES)) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_failure_and_no_scenario_twice():
    names = [scenario.name for scenario in (*SCENARIOS, *FAILURES)]
    assert len(set(names)) == len(names)
    assert all(f"| {name} " in PAGE.read_text(encoding="utf-8") for name in names)


# ---------------------------------------------------------------- on the command line


@pytest.mark.parametrize(("wrong", "status", "shown"), [("", 0, "| ✓ "), ("text", 1, "| ✗ ")])
def test_the_command_prints_the_matrix_and_says_what_is_wrong(wrong, status, shown, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "TABLES", (Lying(wrong=wrong), ANTHROPIC))
    monkeypatch.setattr(matrix_module, "SCENARIOS", (NAMED["plain"], NAMED["late system"]))
    monkeypatch.setattr(matrix_module, "FAILURES", ())
    level = logging.getLogger("nexus").level
    try:
        assert __main__.main() == status
    finally:
        logging.getLogger("nexus").setLevel(level)
    printed_matrix, said = capsys.readouterr()
    assert [line.split(" | ")[0] for line in printed_matrix.splitlines()[2:]] == ["| plain      ", "| late system", "| abort      "]
    assert shown in printed_matrix
    assert "without system_position" in printed_matrix
    assert ("parts of the answer" in said) == bool(wrong)


# ---------------------------------------------------------------- a suite that finds nothing proves nothing


@attrs.define
class Lying(OpenAITable):
    """An OpenAI table with one thing wrong."""

    wrong: str = ""

    def exchange(self, scenario):
        told = super().exchange(scenario)
        if self.wrong == "request":
            return replace(told, request={**told.request, "temperature": 0.25}, arrives=None)
        if self.wrong == "text":
            said = replace(scenario.said, parts=(Text(text="Five."),))
            return super().exchange(replace(scenario, said=said))
        if self.wrong == "loss":
            return replace(told, lost={"everything"})
        if self.wrong == "refusal":
            return replace(told, lost={"everything"}, refused=True)
        if self.wrong == "cut":
            return replace(told, frames=told.frames[:-3])
        return told


@pytest.mark.parametrize(
    ("wrong", "stream", "found"),
    [
        ("request", False, "the request that the backend got"),
        ("text", False, "parts of the answer"),
        ("text", True, "parts of the answer"),
        ("loss", True, "what X-Nexus-Translation-Loss names"),
        ("refusal", True, "status"),
        ("cut", True, "no error event"),
    ],
)
async def test_what_is_not_as_declared_is_found(wrong, stream, found, tmp_path):
    cell = Cell(client=ANTHROPIC, server=Lying(wrong=wrong), scenario=NAMED["tools"], stream=stream)
    with pytest.raises(Nonconforming, match=found):
        await run_cell(cell, tmp_path)


# ---------------------------------------------------------------- what a dialect may get wrong


class WrongWords(Echo):
    """Not everything that the dialect's own words promise."""

    keepalive = b": ping\n\n"
    query = ()
    forward = ()

    def error(self, problem, request_id):
        told = Problem(500 if problem.status == 403 else problem.status, problem.code, problem.message, context=problem.context)
        return super().error(told, request_id)

    def stream_decoder(self):
        return WrongDecoder()


class WrongDecoder(Decoder):
    """Takes no notice of what a call brings with its start."""

    __slots__ = ()

    def _complete(self, index):
        self._given.clear()
        super()._complete(index)


class Wrong:
    @hookimpl
    def nexus_dialects(self) -> Iterable[DialectKind]:
        yield DialectKind(name="echo", open=opens(lambda options, scope: WrongWords()))


@pytest.mark.parametrize(
    ("name", "client", "server", "found"),
    [
        ("kept alive", EchoTable(), OPENAI, "a comment that Continue's reader takes for the end"),
        ("streamed", EchoTable(), EchoTable(), "the query that the backend got"),
        ("calls at once", OPENAI, EchoTable(), "parts of the answer"),
    ],
)
async def test_a_dialect_that_is_wrong_is_found(name, client, server, found, tmp_path):
    cell = Cell(client=client, server=server, scenario=NAMED[name], stream=True)
    with pytest.raises(Nonconforming, match=found):
        await run_cell(cell, tmp_path, plugins=(Wrong(),))


async def test_headers_of_the_dialect_that_stay_behind_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(WrongWords, "query", ("beta",))
    cell = Cell(client=EchoTable(), server=EchoTable(), scenario=NAMED["streamed"], stream=True)
    with pytest.raises(Nonconforming, match="the header anthropic-version that the backend got"):
        await run_cell(cell, tmp_path, plugins=(Wrong(),))


async def test_an_error_in_another_type_is_found():
    async with spoken((Wrong(),)) as dialects:
        with pytest.raises(Nonconforming, match="403: ValueError: the error type permission_error for a 403, not api_error"):
            own_errors(EchoTable(), dialects)


async def test_who_cannot_be_told_to_wait_has_no_such_row(tmp_path):
    table = OpenAITable()
    table.keeps_alive = False
    cell = Cell(client=table, server=ANTHROPIC, scenario=NAMED["kept alive"], stream=True)
    assert (await run_cell(cell, tmp_path)).kind == "absent"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
@pytest.mark.parametrize("name", ["tools", "reasoning"])
def test_a_strict_reader_misses_no_frame(table, name):
    """Without any one of its frames (a ping and a usage-only part aside) a stream is another one."""
    frames = table.exchange(NAMED[name]).frames
    whole = table.streamed(b"".join(frames))
    for position, frame in enumerate(frames):
        if b'"ping"' in frame or b'partial_json":""' in frame:
            continue
        assert _read(table, frames[:position] + frames[position + 1 :]) != whole, frame


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_a_strict_reader_minds_the_order(table):
    frames = table.exchange(NAMED["tools"]).frames
    whole = table.streamed(b"".join(frames))
    for position in range(len(frames) - 1):
        swapped = [*frames[:position], frames[position + 1], frames[position], *frames[position + 2 :]]
        if swapped != list(frames) and not any(b'"ping"' in frame for frame in swapped[position : position + 2]):
            assert _read(table, swapped) != whole or _alike(swapped[position : position + 2]), swapped[position : position + 2]


def _read(table, frames):
    try:
        return table.streamed(b"".join(frames))
    except (ValueError, LookupError, AssertionError) as error:
        return error


def _alike(pair):
    """Words and calls have places of their own in OpenAI's chunks: their order says nothing."""
    both = b"".join(pair)
    return pair[0] == pair[1] or b'partial_json":""' in both or (b'"content":"' in both and b'"tool_calls"' in both)
