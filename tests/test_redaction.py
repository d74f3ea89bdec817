"""A backend's key, repeated by the backend: it reaches no client, no log, no page and no event, however it is spelt.

What a server answers with a 200 and no error is the model's own words, and passes as it is (docs/decisions/keys-that-are-echoed.md).
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import logging
import random
import re
from html.entities import html5
from unittest.mock import Mock
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import Model, Report, Secret
from nexus.crossing import without_secrets
from nexus.dialects.complaints import complaint_of
from nexus.dialects.failures import told_in, value_in
from nexus.redaction import redacted, redacted_text
from nexus.reply import passed_back
from nexus.testing import Respond, Stream, until

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

KEY = "sk-Own/Key+7f3Q9z_2xW8"
MESSAGES = "/v1/messages"
SPELT = {
    "plain": KEY,
    "another case": KEY.upper(),
    "a slash escaped": KEY.replace("/", r"\/"),
    "a letter escaped": KEY.replace("s", r"\u0073", 1),
    "all escaped": "".join(f"\\u{ord(c):04X}" for c in KEY),
    "json in json": json.dumps(json.dumps(KEY.replace("/", r"\/")))[3:-3],
    "a url's": quote(KEY, safe=""),
    "a url's, all of it": "".join(f"%{ord(c):02x}" for c in KEY),
    "a url's, twice": quote(quote(KEY, safe=""), safe=""),
    "html": "".join(f"&#{ord(c)};" for c in KEY),
    "html, by name": KEY.replace("/", "&sol;").replace("+", "&plus;").replace("_", "&lowbar;"),
    "html with zeros": "".join(f"&#{ord(c):07};" for c in KEY),
    "html without an end": KEY.replace("/", "&#47").replace("s", "&#x0073", 1),
    "html in html": html.escape(KEY.replace("/", "&sol;").replace("+", "&#43;")),
    "html in json": KEY.replace("/", r"\u0026sol;").replace("+", r"\u0026#43;"),
    "html in hex": "".join(f"&#x{ord(c):X};" for c in KEY),
    "octal": "".join(f"\\{ord(c):03o}" for c in KEY),
    "in braces": "".join(f"\\u{{{ord(c):x}}}" for c in KEY),
    "python's": "".join(f"\\U{ord(c):08x}" for c in KEY),
    "a url's of old": "".join(f"%u{ord(c):04x}" for c in KEY),
    "quoted-printable": "".join(f"={ord(c):02X}" for c in KEY),
    "hexadecimal": KEY.encode().hex(),
    "a dump": KEY.encode().hex(" ").upper(),
    "a dump in c": ", ".join(f"0x{ord(c):02x}" for c in KEY),
    "utf-16": "\0".join(KEY),
    "base64 in lines": "\n".join(re.findall(".{1,10}", base64.b64encode(f"Bearer {KEY}".encode()).decode())),
    "base64 in lines, json": r"\n".join(re.findall(".{1,10}", base64.b64encode(f"Bearer {KEY}".encode()).decode())),
    "basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
}


def _is_json(spelt: str) -> bool:
    try:
        return bool(json.loads(f'"{spelt}"'))
    except ValueError:
        return False


IN_JSON = [spelt for spelt in SPELT.values() if _is_json(spelt)]  # without more escapes


def heard(data: bytes) -> str:
    """All that somebody could read out of it: as it is, and with every escape undone, again and again."""
    text = data.decode("utf-8", "replace").replace("\0", "")
    said = [text, *_dumped(text)]
    for _ in range(4):
        text = html.unescape(_unquoted(text))
        said.append(text)
    text = re.sub(r"(?<=\S{9})(?:\n|\\n)", "", text)
    words = "".join(c if c.isalnum() or c in "+/-_" else " " for c in text).split()
    for word in words:
        for skip in range(4):
            piece = word[skip:].replace("-", "+").replace("_", "/")
            piece = piece[:-1] if len(piece) % 4 == 1 else piece
            said.append(base64.b64decode(piece + "=" * (-len(piece) % 4)).decode("latin-1"))
    return "\n".join(said).casefold()


def _dumped(text: str) -> list[str]:
    walls = re.findall("[0-9a-f]{12,}", re.sub("0x|[ ,:]", "", text.lower()))
    return [bytes.fromhex(wall[skip : skip + (len(wall) - skip) // 2 * 2]).decode("latin-1") for wall in walls for skip in (0, 1)]


def _unquoted(text: str) -> str:
    text = re.sub(
        r"(?:\\u|\\U0000|%u|\\u\{)([0-9a-fA-F]{4}|(?<=\{)[0-9a-fA-F]{2}\})", lambda m: chr(int(m[1].strip("}"), 16)), text
    )
    text = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), re.sub("=([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), text))
    return unquote(re.sub(r"\\([/\"\\])", r"\1", text), errors="replace")


def silent(data: bytes) -> bool:
    return KEY.casefold() not in heard(data)


# ---------------------------------------------------------------- by itself


@pytest.mark.parametrize("spelt", SPELT.values(), ids=SPELT)
def test_every_spelling_is_found(spelt):
    assert not silent(f"before {spelt} after".encode())
    for text in (spelt, f"before {spelt} after", f'{{"error":"{spelt}"}}', spelt * 3, "\\" * 9 + spelt):
        assert silent(redacted(text.encode(), [Secret(KEY)])), text


letters = st.characters(min_codepoint=33, max_codepoint=126)


around = st.text(st.characters(min_codepoint=127, exclude_categories=["Cs"]) | st.sampled_from(" \t\r\n"), max_size=20)  # no key's


@settings(deadline=None)
@given(st.text(letters, min_size=6, max_size=60), around, around, st.integers())
def test_a_key_of_any_letters_in_any_mixture_of_spellings(key, before, after, seed):
    dice = random.Random(seed)

    def spell(c: str) -> str:
        ways = (
            c,
            f"\\u{ord(c):04x}",
            f"\\\\u{ord(c):04X}",
            f"%{ord(c):02X}",
            f"%25{ord(c):02x}",
            f"%u00{ord(c):02x}",
            f"={ord(c):02X}",
            f"\\{ord(c):03o}",
            f"\\u{{{ord(c):x}}}",
            f"\\U{ord(c):08x}",
            f"&#{ord(c)};",
            f"&#x{ord(c):04X};",
            f"&#{ord(c):05};",
            *(f"&{name}" for name, text in html5.items() if text == c and name.endswith(";")),
            c if c.isalnum() else f"\\{c}",
        )
        return dice.choice(ways)

    said = redacted_text(before + "".join(map(spell, key)) + after, [Secret(key)])
    assert said.startswith(before + "***")
    assert said.endswith(after)
    assert key not in said
    if not {*key} & {*"\\%&"}:  # an escape's own sign is a letter already, and what follows may stay
        assert said == f"{before}***{after}"


@given(st.text(letters, min_size=6, max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_a_key_among_its_own_letters(key, before, after):
    """What looks like its beginning may be taken for it, and as much of its end stays: never all."""
    said = redacted_text(before + key + after, [Secret(key)])
    assert "***" in said
    assert key not in said.replace("***", "")


@given(st.text(max_size=200))
def test_what_holds_no_key_stays_as_it_is(text):
    assert redacted_text(text, [Secret(KEY), Secret("")]) == text
    assert redacted_text(text, []) == text


def test_a_headers_name_says_no_key():
    backend = Mock(secrets=lambda: [Secret("sk-own-key")])
    headers = [("x-ratelimit-sk-own-key", "1"), ("x-ratelimit-a", "sk-own-key"), ("content-type", "a/b"), ("x-own", "1")]
    assert passed_back(headers, (), backend) == (("x-ratelimit-a", "***"), ("content-type", "a/b"))


def test_a_report_says_no_key():
    told = (Model(id=f"m-{spelt}") for spelt in SPELT.values())
    models = (Model(id="tiny"), *told, Model(id="b", aliases=(KEY,)), Model(id="c", aliases=("c2", KEY.upper())))
    told = without_secrets(Report(ok=False, models=models, problem=f"the key {KEY} is wrong", version=KEY, code=KEY), [Secret(KEY)])
    assert KEY not in repr(told)
    assert told.models == models[:1]
    report = Report(ok=True, models=models[:1])
    assert without_secrets(report, [Secret(KEY)]) == without_secrets(report, []) == report


# ---------------------------------------------------------------- over the wire


@pytest.mark.parametrize("spelt", ["plain", "all escaped", "html", "a url's"])
def test_a_sentence_is_never_cut_within_a_key(spelt):
    """Whether it is looked into before it is cut or after."""
    for at in (*range(470, 502), *range(180, 202, 4)):
        words = ("the key is a " * 50)[: at - 1] + " "
        text = f"{words}{SPELT[spelt]} and more of it, on and on. " + "so it goes " * 900
        value = {"error": {"message": text}}
        for said in (
            complaint_of(json.dumps(value).encode()).message,
            complaint_of(text.encode()).message,
            complaint_of(b"x" * 16 + b" " * (8000 - 16 - at) + text.encode()).message,
            told_in(value),
            told_in(value_in(text.encode())),
        ):
            said = redacted_text(said, [Secret(KEY)])
            assert not any(SPELT[spelt][:letters] in said for letters in range(4, len(SPELT[spelt]) + 1)), at
            assert said.startswith(("the key is a ", "xxx")), at


def test_what_has_no_words_is_not_told_where_it_is_too_long():
    assert complaint_of(json.dumps({"error": KEY * 100}).encode()).message == "…"
    assert complaint_of(json.dumps({"error": "密钥" * 400}).encode()).message == "密钥" * 250
    assert complaint_of(b"x" * 500).message == "…"
    assert complaint_of(b'{"error":"' + b"x" * 500 + b'"}').message == "x" * 500


async def everywhere(house, lines) -> None:
    """Nothing that Nexus shows of itself, or logs, says the key."""
    for path in (
        "/nexus/requests?limit=1000",
        "/nexus/backends",
        "/nexus/models",
        "/nexus/stats",
        "/health",
        "/metrics",
        "/v1/models",
    ):
        async with house.client.get(house.url + path) as got:
            assert got.status == 200
            assert silent(await got.read()), path
    assert silent("\n".join(logging.Formatter().format(record) for record in lines.records).encode())
    assert silent(repr(house.ledger.answered).encode())
    assert silent(repr(house.ledger.finished).encode())


def answers(spelt: str):
    """What a server can say that is no normal answer, whole and streamed."""
    error = f'{{"error":{{"message":"the key {spelt} is wrong","type":"{spelt}","code":"{spelt}"}}}}'
    kind = {"content-type": "application/json"}
    content = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    for status in (400, 401, 403, 404, 422, 429, 500, 503):
        yield False, Respond(status, body=error.encode(), headers=kind)
    yield False, Respond(400, body=f"<html>{spelt}</html>".encode(), headers={"content-type": "text/html"})
    yield False, Respond(400, body=b"x" * 300_000 + error.encode(), headers=kind)
    yield False, Respond(400, body=f'{{"error":"{"x" * 2_000_000}{spelt}"}}'.encode(), headers=kind)
    yield False, Respond(400, body=gzip.compress(error.encode()), headers={**kind, "content-encoding": "gzip"})
    yield False, Respond(200, body=error.encode(), headers=kind)
    yield False, Respond(200, body=spelt.encode(), headers={"content-type": f"text/{spelt}"})
    yield True, Respond(200, body=error.encode(), headers=kind)
    yield True, Respond(200, body=b"data: x\n\n", headers={"content-type": spelt})
    yield True, Stream([error])
    yield True, Stream([content, error])
    yield True, Stream([content, f"event: error\ndata: {error}\n\n".encode()])
    pieces = f"data: {error}\n\n".encode()
    yield True, Stream([content, *(pieces[at : at + 7] for at in range(0, len(pieces), 7))])
    yield True, Stream([content, f"data: {error}".encode()], done=False)
    yield True, Stream([f"data: {json.dumps(content)}\n\ndata: {error}\n\n".encode()])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spelt", [" ".join(IN_JSON[at::6]) for at in range(6)])  # a sentence is cut after 500 characters
async def test_no_error_says_the_key(tmp_path, way, spelt, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "nexus")
    monkeypatch.setenv("THE_KEY", KEY)
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"api_key_env": "THE_KEY"}) as house:
        for streamed, act in answers(spelt):
            for path in (CHAT, MESSAGES):
                body = (STREAMED if streamed else GOOD)[:-1] + b',"max_tokens":9}'
                up.next(act, path=CHAT)
                house.gateway.fleet.standings["a"].pairs["tiny"].paused_until = 0.0
                house.gateway.fleet.standings["a"].redraw()
                got = await house.post(body, path)
                if act == Respond(200, body=spelt.encode(), headers={"content-type": f"text/{spelt}"}) and got.status == 200:
                    continue  # whatever it is, it is no error
                assert silent(got.body), (repr(act)[-300:], got.body)
                assert silent(repr(got.headers).encode()), (act, got)
        await everywhere(house, caplog)


@pytest.mark.parametrize("way", WAYS)
async def test_no_sentence_that_is_cut_says_a_part_of_the_key(tmp_path, way, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "nexus")
    monkeypatch.setenv("THE_KEY", KEY)
    begun = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    error = {"error": {"message": ("the key is " * 50)[: 500 - 13] + " " + KEY + " and no other", "type": "x"}}
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"api_key_env": "THE_KEY"}) as house:
        for act in (Stream([error]), Stream([begun, error]), Respond(500, json=error), Respond(200, json=error)):
            for path in (CHAT, MESSAGES):
                up.next(act, path=CHAT)
                house.gateway.fleet.standings["a"].pairs["tiny"].paused_until = 0.0
                house.gateway.fleet.standings["a"].redraw()
                got = await house.post(STREAMED[:-1] + b',"max_tokens":9}', path)
                assert b"the key is" in got.body
                assert KEY[:6].encode() not in got.body
        async with house.client.get(house.url + "/nexus/requests?limit=1000") as shown:
            assert KEY[:6] not in await shown.text()
        assert KEY[:6] not in caplog.text


@pytest.mark.parametrize("way", WAYS)
async def test_no_header_says_the_key(tmp_path, way, monkeypatch, caplog):
    monkeypatch.setenv("THE_KEY", KEY)
    odd = [
        (name, spelt)
        for spelt in SPELT.values()
        if spelt.isprintable()
        for name in ("x-ratelimit-key", "openai-organization", "anthropic-x", "retry-after")
    ]
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"api_key_env": "THE_KEY"}) as house:
        for name, value in odd:
            for status, body in ((200, GOOD), (200, STREAMED), (400, GOOD)):
                headers = [("content-type", "text/event-stream" if body is STREAMED else "application/json"), (name, value)]
                done = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
                up.next(
                    Respond(status, body=done if body is STREAMED else b'{"choices":[{"message":{}}]}', headers=headers), path=CHAT
                )
                got = await house.post(body)
                assert got.status == status
                assert silent(repr(got.headers).encode()), got
        await everywhere(house, caplog)


async def test_no_probe_says_the_key(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("THE_KEY", KEY)
    async with tiny() as up, open_house(tmp_path, up, a={"api_key_env": "THE_KEY"}, health={"failure_threshold": 1}) as house:
        standing = house.gateway.fleet.standings["a"]
        up.on("/v1/models", Respond(json={"data": [{"id": "tiny"}, {"id": f"m-{KEY}"}, {"id": "seen"}]}))
        house.gateway.fleet.doubted("a")
        await until(lambda: house.gateway.fleet.find("seen"))
        assert [*standing.pairs] == ["tiny", "seen"]
        for act in (
            Respond(401, json={"error": KEY}),
            Respond(500, json={"error": KEY}),
            Respond(200, headers={KEY: "\x00"}, body=KEY.encode()),
        ):
            up.on("/v1/models", act)
            before = standing.last_probe
            house.gateway.fleet.doubted("a")
            await until(lambda before=before: standing.last_probe != before)
            await everywhere(house, caplog)
        up.on("/v1/models", Respond(json={"data": [{"id": "tiny"}]}))
        house.gateway.fleet.doubted("a")
        await until(lambda: standing.report.ok)


async def test_an_answer_is_the_models_own_words(tmp_path, monkeypatch):
    """What a 200 says that is no error passes byte for byte: who reads it has asked for it, and it is not looked into."""
    monkeypatch.setenv("THE_KEY", KEY)
    async with tiny() as up, open_house(tmp_path, up, a={"api_key_env": "THE_KEY"}) as house:
        whole = json.dumps({"choices": [{"message": {"role": "assistant", "content": KEY}}]}).encode()
        up.next(Respond(200, body=whole, headers={"content-type": "application/json"}), path=CHAT)
        assert (await house.post()).body == whole
        up.next(Stream([{"choices": [{"delta": {"content": KEY}, "finish_reason": "stop"}]}, "[DONE]"]), path=CHAT)
        assert KEY.encode() in (await house.post(STREAMED)).body
