"""Text from outside, however broken: servers and clients say anything, and every answer of Nexus is still one.

What a name in a configuration may be is tested with the configuration; half a character in a prompt in `test_half_characters`.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import Model, Problem, Report, Sighting
from nexus.crossing import models_of, report_of, sighting_of
from nexus.dialects.openai import OpenAI
from nexus.plain import LONGEST_HEADER, LONGEST_NAME, header, is_name, sentence
from nexus.relay import error_of
from nexus.testing import Respond, Stream, until

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

MESSAGES = "/v1/messages"
HOSTILE = {
    "half a character": "o\ud800",
    "the other half": "\udfffo",
    "nought": "a\0b",
    "lines": "a\r\nX-Evil: 1\r\n\r\n{}",
    "a terminal's": "\x1b[31m\x07",
    "from right to left": "a\u202eb\u2066",
    "separators": "a\u2028b\u2029\x85",
    "long": "x" * 1_000_000,
    "long and wide": "\N{GRINNING FACE}" * 600,
    "empty": "",
    "blanks": "   ",
    "quotes": "\"}]}'\\",
    "digits": "9" * 5000,
    "other digits": "\u0669" * 50,
    "percent": "%0d%0a%00%ff%ed%a0%80",
    "no character yet": "\U000e0fff\uffff",
}
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 5000, "-1", "1e-400", "true", "null", "[]", '"8"')
DEEP = "[" * 100_000 + "]" * 100_000
anything = st.text(st.characters(), max_size=40) | st.sampled_from(sorted(HOSTILE.values()))


# ---------------------------------------------------------------- what the judges say, by itself


@settings(deadline=None)
@given(anything)
def test_what_is_fit_to_be_told_can_be_told_everywhere(text: str) -> None:
    for told, most in ((sentence(text), 2001), (header(text), LONGEST_HEADER)):
        assert len(told) <= most
        assert not set(told) & {"\r", "\n", "\0", "\x1b", "\u2028", "\x85"}
        assert json.loads(json.dumps(told.encode().decode())) == told
    assert header(text).isascii()
    if is_name(text):
        assert 0 < len(text.encode()) <= 4 * LONGEST_NAME
        assert sentence(text) == text or not text.isprintable()


@settings(deadline=None)
@given(st.lists(anything, max_size=6), st.lists(anything, max_size=3))
def test_a_report_leaves_out_what_nobody_can_ask_for(ids: list[str], aliases: list[str]) -> None:
    models = tuple(Model(id=id, aliases=tuple(aliases)) for id in ids)
    told, left_out = report_of(Report(ok=True, models=models, problem="".join(ids), version="".join(aliases), eta=math.nan))
    assert told.models is not None
    assert [model.id for model in told.models] == [id for id in ids if is_name(id)]
    assert all(is_name(alias) for model in told.models for alias in model.aliases)
    assert left_out == len(ids) - len(told.models)
    assert told.eta is None
    assert "\n" not in told.problem + told.version


def test_what_is_in_order_stays_as_it_is() -> None:
    models = (Model(id="qwen3:8b", aliases=("qwen3", "通义千问", "m\N{GRINNING FACE}")),)
    report = Report(ok=False, models=models, code="timeout", problem="did not answer within 5 s", version="0.14.1", load=3, eta=1.5)
    assert report_of(report) == (report, 0)
    assert models_of(models) == [*models]


@pytest.mark.parametrize(
    "wrong",
    [Report(ok=True, models=(Model(id=7),)), Report(ok=True, models=7), Report(ok=True, problem=None), Report(ok=True, load="x")],
)
def test_a_report_that_is_none_is_not_taken(wrong: Report) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        report_of(wrong)


@settings(deadline=None)
@given(
    st.text(max_size=30) | st.sampled_from(["http://127.0.0.1:1", "http://[", "http://a:99999", "ftp://a", "http://a\ud800"]),
    anything,
)
def test_a_sighting_is_one_that_can_be_told_or_none(url: str, text: str) -> None:
    seen = sighting_of(Sighting(url=url, name=text, evidence=text))
    if seen is not None:
        assert seen.url.startswith(("http://", "https://"))
        assert seen.name is None or (len(seen.name) <= 64 and seen.name.isascii() and " " not in seen.name)


@settings(deadline=None)
@given(anything, st.sampled_from([None, float("nan"), object(), {"a": object()}, 10**400, "\ud800", {1: {2: "\udc00"}}]))
def test_an_error_can_always_be_told(text: str, odd: Any) -> None:
    problem = Problem(502, "all_attempts_failed", text, param=text, context={"odd": odd})
    told = json.loads(error_of(OpenAI(), problem, "id"))["error"]
    assert {"message", "type", "code"} <= told.keys()


def test_an_error_is_told_by_a_dialect_that_cannot() -> None:
    class Mute(OpenAI):
        def error(self, problem: Problem, request_id: str) -> bytes:
            raise ValueError("no words")

    assert json.loads(error_of(Mute(), Problem(400, "x", "y"), "id"))["error"]["message"]


# ---------------------------------------------------------------- over the wire


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Whatever is logged while the test runs is a line each."""
    caplog.set_level(logging.INFO, "nexus")
    yield caplog
    for record in caplog.records:
        said = record.getMessage()
        assert said.isprintable(), said[:200]
        assert len(said) < 5000, said[:200]


def said_by(text: str) -> bytes:
    """As JSON, with escapes for what is not ASCII: also for what UTF-8 cannot hold."""
    return json.dumps(text).encode()


def strict(body: bytes) -> Any:
    """JSON as RFC 8259 has it, in UTF-8."""

    def no(word: str) -> Any:
        raise AssertionError(word)

    return json.loads(body.decode(), parse_constant=no)


@pytest.mark.parametrize("way", WAYS)
async def test_a_servers_names_harm_nobody(tmp_path, way, lines):
    listed = [{"id": text, "object": "model", "aliases": [text, "fine"], "owned_by": text} for text in HOSTILE.values()]
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on("/v1/models", Respond(json={"object": "list", "data": [*listed, {"id": "tiny"}, {"id": "通"}]}))
        house.gateway.fleet.doubted("a")
        await until(lambda: house.gateway.fleet.find("通"))
        for path in (
            "/v1/models",
            "/nexus/backends",
            "/nexus/models",
            "/nexus/stats",
            "/nexus/queue",
            "/nexus/requests",
            "/health",
        ):
            async with house.client.get(house.url + path) as got:
                assert got.status == 200, path
                assert strict(await got.read())
        async with house.client.get(house.url + "/v1/models", headers={"anthropic-version": "2023-06-01"}) as got:
            assert {"tiny", "通", HOSTILE["quotes"]} <= {model["id"] for model in strict(await got.read())["data"]}
        async with house.client.get(house.url + "/metrics") as got:
            assert got.status == 200
            assert b"nexus_requests_total" in await got.read()
        for model in ("o", "a", "x", "tiny "):
            for path in (CHAT, MESSAGES):
                got = await house.post(
                    json.dumps({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}).encode(), path
                )
                assert got.status == 404, (model, got)
                assert strict(got.body)["error"]["message"]
        assert (await house.post()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_servers_words_harm_nobody(tmp_path, way, lines):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        for what, text in HOSTILE.items():
            error = b'{"error":{"message":%b,"type":%b,"code":%b}}' % ((said_by(text),) * 3)
            for status in (400, 422, 500):
                for body, path in ((GOOD, CHAT), (STREAMED, CHAT), (GOOD[:-1] + b',"max_tokens":9}', MESSAGES)):
                    up.next(Respond(status, body=error, headers={"content-type": "application/json"}), path=CHAT)
                    got = await house.post(body, path)
                    assert got.status in (400, 422, 502), (what, status, got)
                    if path == MESSAGES or got.headers.get("x-nexus-backend") is None:  # what passes is the server's own
                        assert strict(got.body)["error"]["message"] is not None
            up.next(Stream([f'{{"error":{{"message":{json.dumps(text)}}}}}']), path=CHAT)
            got = await house.post(STREAMED)
            assert got.status == 502, (what, got)
            assert strict(got.body)["error"]["message"]
            async with house.client.get(house.url + "/nexus/requests?limit=3") as told:
                assert len(strict(await told.read())["requests"]) == 3
        assert (await house.post()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_servers_numbers_harm_nobody(tmp_path, way, lines):
    price = {"a": {"models": [{"id": "tiny", "price": {"input": 1, "output": 1}}]}}
    async with tiny() as up, open_house(tmp_path, up, way=way, **price) as house:
        for number in NUMBERS:
            up.on(
                "/v1/models", Respond(body=b'{"data":[{"id":"tiny","created":%b,"max_model_len":%b}]}' % ((number.encode(),) * 2))
            )
            house.gateway.fleet.doubted("a")
            usage = '{"prompt_tokens":%s,"completion_tokens":%s,"total_tokens":%s,"prompt_tokens_details":{"cached_tokens":%s}}'
            usage %= (number,) * 4
            choice = '"choices":[{"index":0,"finish_reason":"stop","%s":{"role":"assistant","content":"a"}}]'
            whole = Respond(
                body=f'{{"id":"1",{choice % "message"},"usage":{usage}}}'.encode(), headers={"content-type": "application/json"}
            )
            stream = Stream([f'{{"id":"1",{choice % "delta"},"usage":{usage}}}', "[DONE]"])
            for body, path, act in (
                (GOOD, CHAT, whole),
                (STREAMED, CHAT, stream),
                (GOOD[:-1] + b',"max_tokens":9}', MESSAGES, whole),
                (STREAMED[:-1] + b',"max_tokens":9}', MESSAGES, stream),
            ):
                up.next(act, path=CHAT)
                got = await house.post(body, path)
                assert got.status in (200, 502), (number, got)
            for path in ("/nexus/requests", "/nexus/stats", "/nexus/models", "/nexus/backends"):
                async with house.client.get(house.url + path) as told:
                    assert told.status == 200
                    assert strict(await told.read())
        up.on("/v1/models", Respond(json={"data": [{"id": "tiny"}]}))
        house.gateway.fleet.doubted("a")
        assert (await house.post()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_servers_headers_harm_nobody(tmp_path, way, lines):
    odd = [
        ("x-ratelimit-a", "\x80\xff\xa0"),
        ("x-ratelimit-b", "v" * 9000),
        ("x-ratelimit-" + "n" * 9000, "1"),
        ("retry-after", "9" * 5000),
    ]
    odd += [(f"x-ratelimit-{n}", "1") for n in range(200)]
    async with tiny() as up, open_house(tmp_path, up, way=way) as house, house.line() as line:
        for status in (200, 400):
            for body in (GOOD, STREAMED):
                act = Stream([{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}, "[DONE]"], headers=odd)
                up.next(
                    act
                    if body is STREAMED and status == 200
                    else Respond(status, json={"a": 1, "choices": [{"message": {}}]}, headers=odd),
                    path=CHAT,
                )
                await line.ask(body)
                got = await line.hear()
                assert sum(len(name) + len(value) for name, value in got.headers.items()) < 6000
                assert all(value.isascii() for value in got.headers.values())
                assert got.status in (200, 400, 502), got
        await line.ask(GOOD)
        assert (await line.hear()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_clients_fields_harm_nobody(tmp_path, way, lines):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        told = [said_by(text) for text in HOSTILE.values()] + [number.encode() for number in NUMBERS] + [DEEP.encode()]
        for value in told:
            message = b'{"role":"user","content":%b,"name":%b}' % (value, value)
            for body in (
                b'{"model":%b,"messages":[{"role":"user","content":"a"}],"max_tokens":9}' % value,
                b'{"model":"tiny","max_tokens":9,"messages":[%b]}' % message,
                b'{"model":"tiny","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"a"}],"user":%b,"metadata":{"user_id":%b}}'
                % (value, value),
                b'{"model":"tiny","max_tokens":%b,"n":%b,"temperature":%b,"messages":[{"role":"user","content":"a"}]}'
                % ((value,) * 3),
                b'{"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":"a"}],%b:1,"x":%b}'
                % (value if value[:1] == b'"' else b'"y"', value),
            ):
                for path in (CHAT, MESSAGES):
                    got = await house.post(io.BytesIO(body), path)
                    assert got.status in (200, 400, 404), (body[:100], got)
                    if got.status != 200:
                        assert strict(got.body)["error"]["message"]
                asked = b'{"request":%b,"headers":{"x-nexus-session":%b,"x-request-id":%b}}' % (body, value, value)
                explained = await house.post(io.BytesIO(asked), "/nexus/explain")
                assert explained.status in (200, 400, 413), (body[:100], explained.body[:300])
                assert strict(explained.body)
            for asked in (
                b'{"request":{},"path":%b,"key":null}',
                b'{"request":{"model":"tiny"},"key":%b}',
                b'{"request":{"model":%b}}',
                b'{"headers":%b}',
                b"%b",
            ):
                explained = await house.post(io.BytesIO(asked % value), "/nexus/explain")
                assert explained.status in (200, 400, 413), (asked, value[:50], explained.body[:300])
                assert strict(explained.body)
        assert (await house.post()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_clients_heads_harm_nobody(tmp_path, way, lines):
    """Each on a connection of its own: after some of them nothing may follow."""
    texts = [text.encode("utf-8", "surrogatepass") for text in HOSTILE.values()]
    texts += [b"\xff\xfe", b"%ed%a0%80", b"%00", b"%", b"%zz", b"[", b"//", b"?" * 50, b"#"]
    if way == "embedded":  # what is no HTTP is the application's own to answer
        texts = [text for text in texts if len(text) < 4000 and (text.isalnum() or text[:1] == b"%")]
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        for text in texts:
            for name in (
                b"X-Nexus-Session",
                b"X-Request-Id",
                b"Origin",
                b"Host",
                b"Authorization",
                b"Accept",
                b"Traceparent",
                b"OpenAI-Beta",
                b"X-Nexus-" + text,
            ):
                head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % (
                    (house_prefix(house) + CHAT).encode(),
                    len(GOOD),
                )
                if name == b"Host":
                    head = head.replace(b"Host: localhost\r\n", b"")
                await answered(house, head + b"%b: %b\r\n\r\n" % (name, text) + GOOD)
            for target in (
                b"/v1/models/%b",
                b"/nexus/requests/%b",
                b"/nexus/requests?limit=%b",
                b"/v1/models?limit=%b",
                b"/%b",
                b"/v1/chat/completions?a=%b",
                b"/nexus/events/%b",
            ):
                for method in (b"GET", b"POST"):
                    head = b"%b %b%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nanthropic-version: 1\r\n\r\n"
                    await answered(house, head % (method, house_prefix(house).encode(), target % text))
        assert (await house.post()).status == 200


def house_prefix(house: Any) -> str:
    return "/llm" if house.url.endswith("/llm") else ""


async def answered(house: Any, request: bytes) -> None:
    """An answer of ours or of aiohttp comes back, and it is no fault of ours."""
    async with house.line() as line:
        await line.say(request)
        got = await line.hear_or_closed()
        if got is not None:
            assert got.status < 500, (request[:200], got)
            if got.headers.get("content-type", "").startswith("application/json"):
                assert strict(got.body)
