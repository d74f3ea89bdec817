"""Whatever is irregular about a server's answer, its client gets a regular one, and streamed it says what it says whole."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nexus.api import Payload
from nexus.dialects.calls import Calls
from nexus.dialects.canonical import FinishReason, Reasoning, ReasoningDelta, ReplyContext, Text, ToolCall, ToolCallStart
from nexus.dialects.jsontext import object_of
from nexus.dialects.translate import TranslatedStream, TranslatedWhole
from nexus.testing.conformance import spoken

from . import irregular
from .canonical_replies import any_streams
from .irregular import Told
from .survivors import TABLES, by_name

CONTEXT = ReplyContext(request_id="r", model="m", created=1, wants_usage=True)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SERVERS = {"openai": irregular.openai(), "anthropic": irregular.anthropic()}
FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "tool_calls": FinishReason.TOOL_CALLS}


@pytest.fixture
async def dialects():
    async with spoken() as found:
        yield found


def translated(kind, client, server, dialects, pieces):
    reader = kind(dialects[client.dialect], dialects[server.dialect], CONTEXT, Calls())
    return b"".join([*map(reader.feed, pieces), reader.finish()]), reader


def check(answer, told: Told):
    """That a strict client of either dialect understands what was said."""
    assert "".join(part.text for part in answer.parts if isinstance(part, Reasoning)) == told.thought
    assert "".join(part.text for part in answer.parts if isinstance(part, Text)) == told.text
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    assert [(call.name, object_of(call.arguments)) for call in calls] == list(told.calls)
    assert len({call.id for call in calls}) == len(calls)
    assert answer.finish is FINISH[told.finish]
    if told.used:
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)
    else:
        assert answer.usage.output_tokens >= 0


@pytest.mark.parametrize(("client", "server"), **by_name)
def test_a_client_gets_a_regular_answer_streamed_and_whole(client, server, dialects):
    @RELAXED
    @given(SERVERS[server.dialect], st.data())
    def holds(told, data):
        cuts = sorted(data.draw(st.sets(st.integers(0, len(told.stream)), max_size=6)))
        pieces = [told.stream[a:b] for a, b in zip((0, *cuts), (*cuts, len(told.stream)), strict=True)]
        streamed, reader = translated(TranslatedStream, client, server, dialects, pieces)
        check(client.streamed(streamed), told)
        assert reader.usage().source == ("reported" if told.used else "counted")
        whole, reader = translated(TranslatedWhole, client, server, dialects, [told.whole])
        check(client.whole(whole), told)
        assert reader.usage().source == ("reported" if told.used else "counted")

    holds()


@pytest.mark.parametrize(("client", "server"), **by_name)
def test_a_client_gets_a_regular_stream_of_whatever_the_form_can_say(client, server, dialects):
    """Blocks in any order, calls in turns."""

    @RELAXED
    @given(any_streams())
    def holds(events):
        called = [at for at, event in enumerate(events) if isinstance(event, ToolCallStart)]
        thought = [at for at, event in enumerate(events) if isinstance(event, ReasoningDelta)]
        # the strict readers run no call that may have been cut, and OpenAI's takes no thought behind one
        assume(not called or (events[-1].reason is not FinishReason.LENGTH and max(thought, default=0) < called[0]))
        there = dialects[server.dialect].stream_encoder(CONTEXT)
        wire = b"".join([*map(there.encode, events), there.finish()])
        client.streamed(translated(TranslatedStream, client, server, dialects, [wire])[0])

    holds()


@pytest.mark.parametrize("server", TABLES, ids=lambda table: table.dialect)
def test_within_one_dialect_it_passes_and_is_an_end(server, dialects):
    @RELAXED
    @given(SERVERS[server.dialect], st.data())
    def holds(told, data):
        dialect = dialects[server.dialect]
        endpoint = dialect.endpoint_for("chat")
        facts = dialect.decode(endpoint, _payload(server))
        reader = dialect.reader(endpoint, facts, hide_usage=False)
        border = data.draw(st.integers(0, len(told.stream)))
        out = reader.feed(told.stream[:border]) + reader.feed(told.stream[border:]) + reader.finish()
        assert out.lstrip("\ufeff".encode()).strip() == told.stream.lstrip("\ufeff".encode()).strip()
        assert reader.usage().source == ("reported" if told.used else "counted")

    holds()


def _payload(server):
    return Payload(server.bytes_of(server.simplest, stream=True))
