"""One attempt between two dialects: what is sent, what comes back, and what a broken stream looks like.

Both sides are OpenAI's here, through the canonical form: the dialects' own tests say what each makes of it.
"""

from __future__ import annotations

import json

import pytest

from nexus.api import BackendError, Candidate, Dialect, Facts, Payload, Reader, RefusalKind, Refused, Usage, replace
from nexus.dialects import openai_stream
from nexus.dialects.calls import Calls
from nexus.dialects.canonical import Loss, ReplyContext, Target, TextDelta
from nexus.dialects.openai import OpenAI
from nexus.dialects.translate import TranslatedStream, TranslatedWhole, Translation, target_of
from nexus.dialects.ways import Native, Ways, can_translate

from .growing import LIMIT, growth

CHATS, COMPLETIONS, _ = OpenAI.endpoints
HOME = Target(model="served/id", home=True)


class Blind(OpenAI):
    """A dialect that has its own name and header, and no word for seeds and pictures."""

    name = "blind"
    own_headers = (("blind-version", "1"),)

    def write_request(self, endpoint, conversation, target):
        body, losses = super().write_request(endpoint, conversation, target)
        losses += (Loss(what="seed"),) if conversation.seed else ()
        return body, losses + ((Loss(what="image", meaning_changed=True),) if b'"image_url"' in body else ())


class Mute(OpenAI):
    """A dialect that passes through only."""

    name = "mute"
    translates = False


def translation(server=None, target=HOME, **fields):
    body = {"model": "asked", "messages": [{"role": "user", "content": "hello"}], **fields}
    payload = Payload(json.dumps(body).encode())
    facts = OpenAI().decode(CHATS, payload)
    return Translation(OpenAI(), server or Blind(), CHATS, payload, facts, target)


def reader(**fields) -> Reader:
    return translation(**fields).reader("req-1", "public/name", 7)


def streaming(**fields) -> Reader:
    return reader(stream=True, **fields)


def chunk(finish=None, **delta):
    value = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: %b\n\n" % json.dumps(value).encode()


BEGUN = chunk(role="assistant", content="")
WORD = chunk(content="word")
STOP = chunk("stop")
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
ERROR = b'data: {"error": {"message": "out of memory"}}\n\n'
REPORTED = Usage(input_tokens=3, output_tokens=2, source="reported")


def words(wire):
    """What a client shows of these events."""
    events = [json.loads(event[6:]) for event in wire.split(b"\n\n") if event and event != b"data: [DONE]"]
    return "".join(choice["delta"].get("content", "") for event in events for choice in event.get("choices", ()))


# ---- the request


def test_who_can_be_translated():
    assert can_translate(OpenAI(), Blind(), "chat")
    assert not can_translate(OpenAI(), Blind(), "embedding")
    assert not can_translate(Mute(), OpenAI(), "chat")
    assert not can_translate(OpenAI(), Mute(), "chat")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("read_request", (CHATS, Payload(b"{}"))),
        ("write_request", (CHATS, None, HOME)),
        ("read_answer", (b"{}",)),
        ("write_answer", (None, None)),
        ("stream_decoder", ()),
        ("stream_encoder", (None,)),
    ],
)
def test_a_dialect_that_passes_through_only_says_so(verb, arguments):
    mute = OpenAI()
    with pytest.raises(NotImplementedError, match="'openai' passes through only"):
        getattr(Dialect, verb)(mute, *arguments)


def test_the_body_is_the_servers_and_names_its_model():
    made = translation(stream=True)
    assert json.loads(made.body)["model"] == "served/id"
    assert (made.endpoint.path, made.headers) == ("/v1/chat/completions", (("blind-version", "1"),))
    assert (made.losses, made.told) == ((), "")


def test_losses_of_both_sides_are_told_once_each():
    assert translation(seed=1, store=True, name="x", user="u", logit_bias={"1": 1}).told == "store, name, logit_bias, user, seed"


def test_a_loss_that_changes_the_meaning_refuses():
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}
    with pytest.raises(Refused) as caught:
        translation(messages=[picture], seed=1)
    refusal = caught.value.refusal
    assert (refusal.kind, refusal.code) == (RefusalKind.NEVER, "translation_loss")
    assert dict(refusal.data) == {"lost": "image", "from": "openai", "to": "blind"}


def test_the_target_is_what_is_known_of_the_pair():
    candidate = Candidate(backend="b", kind="k", model="id", name="n", context=1000, offers={"thinking": True}, takes_usage=True)
    facts = Facts(model="n", tokens_high=400)
    assert target_of(candidate, facts) == Target(model="id", room=800, home=True, thinks=True)
    cloud = Candidate(backend="b", kind="k", model="id", name="n", context=300, cloud=True)
    assert target_of(cloud, facts) == Target(model="id", room=100, takes_usage=False)
    assert target_of(replace(cloud, context=None), facts).room is None


# ---- streams


def test_a_stream_passes_event_by_event():
    stream = streaming()
    assert stream.feed(BEGUN[:-1]) == b""
    assert not stream.begun
    assert b'"role":"assistant"' in stream.feed(BEGUN[-1:])
    assert (stream.begun, stream.error) == (True, None)
    assert words(stream.feed(WORD + WORD[:9])) == "word"
    assert words(stream.feed(WORD[9:] + STOP + USAGE + DONE)) == "word"
    assert stream.finish().endswith(b'"delta":{},"finish_reason":"stop"}]}\n\n' + DONE)
    assert stream.usage() == REPORTED


def test_the_client_gets_usage_when_it_asked():
    stream = streaming(stream_options={"include_usage": True})
    stream.feed(BEGUN + WORD + STOP + USAGE + DONE)
    last = json.loads(stream.finish().split(b"\n\n")[-3][6:])
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 5)


def test_usage_is_counted_where_the_server_says_none():
    stream = streaming(stream_options={"include_usage": True})
    assert stream.usage() == Usage()
    stream.feed(BEGUN + WORD + WORD + STOP + DONE)
    end = stream.finish()
    usage = stream.usage()
    assert (usage.source, usage.output_tokens) == ("counted", 2)
    assert usage.input_tokens > 0
    assert json.loads(end.split(b"\n\n")[-3][6:])["usage"]["completion_tokens"] == 2


def test_comments_begin_nothing():
    stream = streaming()
    assert stream.feed(b": keep-alive\n\n") == b""
    assert not stream.begun


@pytest.mark.parametrize("first", [ERROR, b'data: {"error": "out of memory"}\n\n'])
def test_a_first_event_that_is_an_error_is_the_error(first):
    stream = streaming()
    stream.feed(first)
    assert (stream.begun, stream.error) == (True, "out of memory")


def test_an_error_in_the_middle_is_the_clients_error_event_and_no_normal_end():
    stream = streaming()
    stream.feed(BEGUN)
    ready = stream.feed(WORD + ERROR + WORD + STOP + DONE)
    *before, error = [json.loads(event[6:]) for event in ready.split(b"\n\n")[:-1]]
    assert error["error"]["message"] == "out of memory"
    assert [event["choices"][0]["delta"] for event in before] == [{"content": "word"}]
    assert stream.error is None
    with pytest.raises(BackendError) as caught:
        stream.finish()
    assert caught.value.code == "error_event"  # it has been told already
    assert stream.over
    assert stream.feed(WORD) == b""


def test_an_event_that_cannot_be_read_is_an_error_event():
    stream = streaming()
    stream.feed(BEGUN)
    assert b'"error"' in stream.feed(b"data: {\xff}\n\n")
    with pytest.raises(BackendError, match="error_event"):
        stream.finish()


class Strict(OpenAI):
    """A dialect whose streams have no form for the word "bad"."""

    class Encoder(openai_stream.Encoder):
        def encode(self, event):
            if isinstance(event, TextDelta) and event.text == "bad":
                raise BackendError("malformed", "no form for it")
            return super().encode(event)

    def stream_encoder(self, context):
        return self.Encoder(context)


def test_what_the_client_has_no_form_for_is_an_error_event_after_what_came_before():
    stream = TranslatedStream(Strict(), OpenAI(), ReplyContext(request_id="r", model="m"), Calls())
    ready = stream.feed(BEGUN + WORD + chunk(content="bad") + STOP)
    assert words(ready) == "word"
    assert json.loads(ready.split(b"\n\n")[2][6:])["error"]["message"] == "no form for it"
    with pytest.raises(BackendError, match="error_event"):
        stream.finish()


@pytest.mark.parametrize("wire", [BEGUN + WORD, BEGUN + WORD + STOP[:20], BEGUN + WORD + ERROR[:-2]])
def test_a_stream_without_its_last_event_is_cut(wire):
    stream = streaming()
    assert words(stream.feed(wire)) == "word"
    with pytest.raises(BackendError) as caught:
        stream.finish()
    assert caught.value.code == "cut"  # nobody has told the client yet


def test_a_last_event_without_its_boundary_is_an_end():
    stream = streaming()
    ready = stream.feed(BEGUN + WORD + STOP.rstrip()) + stream.finish()
    assert words(ready) == "word"
    assert ready.endswith(b'"finish_reason":"stop"}]}\n\n' + DONE)


def test_a_stream_is_the_same_wherever_it_is_cut():
    wire = BEGUN + chunk(content="ü漢🦙") + STOP + USAGE + DONE
    made = translation(stream=True)
    whole = made.reader("req-1", "public/name", 7)
    expected = whole.feed(wire) + whole.finish()
    for border in range(len(wire) + 1):
        stream = made.reader("req-1", "public/name", 7)
        assert stream.feed(wire[:border]) + stream.feed(wire[border:]) + stream.finish() == expected


# ---- whole replies


def test_a_whole_reply():
    whole = reader()
    message = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    body = json.dumps(message).encode()
    assert whole.usage() == Usage()
    assert whole.feed(body[:10]) + whole.feed(body[10:]) == b""
    assert whole.begun
    answer = json.loads(whole.finish())
    assert (answer["model"], answer["created"]) == ("public/name", 7)
    assert answer["choices"][0]["message"]["content"] == "yes"
    assert whole.usage() == Usage(input_tokens=3, output_tokens=len(body) // 8, source="counted")


def test_a_whole_reply_without_usage_is_counted():
    whole = reader()
    whole.feed(b'{"choices": [{"message": {"content": "yes"}}]}')
    assert whole.usage().source == "counted"
    assert json.loads(whole.finish())["usage"]["completion_tokens"] == whole.usage().output_tokens > 0


@pytest.mark.parametrize(("body", "code"), [(b"<html>", "malformed"), (ERROR[6:], "error_event"), (b"", "malformed")])
def test_what_is_no_answer_fails(body, code):
    whole = reader()
    whole.feed(body)
    with pytest.raises(BackendError) as caught:
        whole.finish()
    assert caught.value.code == code


def test_a_whole_reply_has_a_bound(monkeypatch):
    monkeypatch.setattr("nexus.dialects.translate.MAX_ANSWER_BYTES", 10)
    whole = reader()
    assert type(whole) is TranslatedWhole
    with pytest.raises(BackendError, match="too_large"):
        whole.feed(b"x" * 11)


def test_a_rejection_is_told_in_the_clients_form():
    told, headers = translation().rejection(422, (), b'{"error": "no such thing"}', "req-1")
    assert headers == (("content-type", "application/json"),)
    body = json.loads(told)
    assert body["error"]["message"] == "no such thing"
    assert (body["error"]["code"], body["error"]["type"]) == ("backend_rejected", "invalid_request_error")


def test_a_packed_rejection_keeps_its_words():
    told, headers = translation().rejection(400, (("content-encoding", "gzip"),), b"\x1f\x8b", "req-1")
    assert headers == (("content-type", "application/json"),)
    body = json.loads(told)
    assert body["error"]["message"] == "the backend rejected the request with 400"


def test_headers_of_a_translated_body_are_its_own():
    headers = (("content-type", "application/x-ndjson"), ("content-encoding", "gzip"), ("retry-after", "3"))
    assert translation().back(headers, stream=True) == (
        ("retry-after", "3"),
        ("content-type", "text/event-stream; charset=utf-8"),
    )
    assert translation(seed=1).back((), stream=False) == (
        ("content-type", "application/json"),
        ("X-Nexus-Translation-Loss", "seed"),
    )


# ---- which way


def pair(*speaks, **more):
    return Candidate(backend="b", kind="k", model="served", name="asked", speaks=frozenset(speaks), **more)


def way_to(candidate, **fields):
    body = {"model": "asked", "messages": [{"role": "user", "content": "hello"}], **fields}
    payload = Payload(json.dumps(body, separators=(",", ":")).encode())
    ways = Ways({"openai": OpenAI(), "blind": Blind(), "mute": Mute()})
    return ways.to(candidate, OpenAI(), CHATS, payload, OpenAI().decode(CHATS, payload), "asked"), payload


def test_what_a_server_may_speak():
    ways = Ways({"openai": OpenAI(), "blind": Blind(), "mute": Mute()})
    assert ways.spoken("openai", "chat") == {("openai", "chat"), ("blind", "chat")}
    assert ways.spoken("openai", "embedding") == {("openai", "embedding")}
    assert ways.spoken("mute", "chat") == {("mute", "chat")}
    assert ways.spoken("unheard of", "chat") == {("unheard of", "chat")}


@pytest.mark.parametrize("speaks", [(), (("blind", "chat"), ("openai", "chat"))])
def test_a_server_of_the_clients_dialect_gets_its_bytes(speaks):
    way, payload = way_to(pair(*speaks, takes_usage=True), stream=True)
    assert type(way) is Native
    assert json.loads(way.body) == {**payload.parsed, "model": "served", "stream_options": {"include_usage": True}}
    native = way.reader("req-1", "n", 7)
    assert native.feed(BEGUN + WORD + STOP + USAGE + DONE) + native.finish() == BEGUN + WORD + STOP + DONE
    assert way.rejection(400, (), b"no", "req-1") == (b"no", ())
    headers = (("content-type", "x"),)
    assert (way.back(headers, stream=True), way.headers, way.told) == (headers, (), "")


def test_the_bytes_are_untouched_where_nothing_must_change():
    way, payload = way_to(replace(pair(), model="asked"))
    assert way.body is payload.body


def test_a_server_of_another_dialect_gets_a_translation():
    way, _ = way_to(pair(("blind", "chat")))
    assert type(way) is Translation
    assert (way.dialect.name, json.loads(way.body)["model"]) == ("blind", "served")


# ---- speed: how fast is for `make bench` to say, on a machine that does nothing else


def test_an_event_costs_no_more_for_those_that_came_before_it():
    def translated(events):
        stream = streaming()
        for _ in range(events):
            stream.feed(WORD)

    assert growth(translated, 200) < LIMIT
