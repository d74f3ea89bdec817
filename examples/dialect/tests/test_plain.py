"""The promises of a dialect and of a backend, for plain, and what it makes of other dialects' requests and replies."""

from __future__ import annotations

import json

import pytest
from nexus_plain import DIALECT, KIND
from nexus_plain.dialect import Plain

from nexus.api import BackendError, Payload, Usage
from nexus.dialects.canonical import (
    Begin,
    Conversation,
    Failure,
    Finish,
    FinishReason,
    Image,
    Message,
    ReplyContext,
    Role,
    Target,
    Text,
    TextDelta,
    Tool,
    UsageSeen,
)
from nexus.testing import Respond, ScriptedUpstream
from nexus.testing.contracts import BackendContract, DialectContract, Golden

(CHAT,) = Plain.endpoints
PLAIN = Plain()
USAGE = Usage(input_tokens=3, output_tokens=2, source="reported")
END = b'{"done":true,"why":"end","tokens":{"in":3,"out":2}}\n'
STREAM = b'{"say":"h\\u00e9"}\n{"say":" you"}\n' + END


class TestPlain(DialectContract):
    kind = DIALECT
    goldens = (
        Golden(path="/plain/chat", request=b'{"model": "m", "ask": "hi", "stream": true}', wire=STREAM, usage=USAGE),
        Golden(
            path="/plain/chat",
            request=b'{"model": "m", "ask": "hi"}',
            wire=b'{"model":"m","say":"hi","why":"end","tokens":{"in":3,"out":2}}',
            usage=USAGE,
        ),
    )
    malformed = (b'{"model": "m"}', b'{"model": "m", "ask": "hi", "before": [7]}', b'{"model": "m", "ask": "hi", "limit": true}')

    def frames(self, wire: bytes) -> list[bytes]:
        return wire.splitlines(keepends=True)


class TestPlainServer(BackendContract):
    kind = KIND
    models = ("starling",)

    def server(self) -> ScriptedUpstream:
        said = {"plain": 1, "models": [{"name": "starling", "context": 4096}]}
        return ScriptedUpstream().on("/plain/models", Respond(json=said), method="GET")


# ---- requests


def test_a_request_keeps_all_that_it_says() -> None:
    body = {"model": "m", "ask": "and?", "rules": "Be short.", "before": ["hi", "hello"], "limit": 9, "stream": True}
    conversation, losses = PLAIN.read_request(CHAT, Payload(json.dumps(body).encode()))
    written, lost = PLAIN.write_request(CHAT, conversation, Target(model="m"))
    assert json.loads(written) == body
    assert (losses, lost) == ((), ())


def test_what_plain_cannot_say_is_a_loss() -> None:
    words = Message(role=Role.USER, parts=(Text(text="what is this?"), Image(url="https://example.org/cat.png")))
    conversation = Conversation(model="m", messages=(words,), tools=(Tool(name="look"),), temperature=0.1)
    _, lost = PLAIN.write_request(CHAT, conversation, Target(model="m"))
    assert {(loss.what, loss.meaning_changed) for loss in lost} == {("temperature", False), ("tools", True), ("image", True)}


# ---- streams


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_is_the_same_events_wherever_it_is_cut(cut: int) -> None:
    decoder = PLAIN.stream_decoder()
    events = [*decoder.feed(PLAIN.keepalive + STREAM[:cut]), *decoder.feed(STREAM[cut:]), *decoder.finish()]
    said = [TextDelta(text="hé"), TextDelta(text=" you")]
    assert events == [Begin(), *said, Finish(reason=FinishReason.STOP), UsageSeen(usage=USAGE)]


def test_events_become_the_stream_again() -> None:
    decoder, encoder = PLAIN.stream_decoder(), PLAIN.stream_encoder(ReplyContext(request_id="r", model="m"))
    written = b"".join(encoder.encode(event) for event in decoder.feed(STREAM)) + encoder.finish()
    assert written == STREAM


def test_a_broken_stream_looks_broken() -> None:
    decoder = PLAIN.stream_decoder()
    decoder.feed(STREAM[: -len(END)])
    with pytest.raises(BackendError):
        decoder.finish()
    assert PLAIN.stream_decoder().feed(b'{"wrong": "out of memory"}\n' + END) == [Failure(message="out of memory")]
    (failure,) = PLAIN.stream_decoder().feed(b"<html>\n")
    assert isinstance(failure, Failure)
    assert failure.code == "malformed"
