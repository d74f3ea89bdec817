"""Bodies made to cost as much as they can: none makes the loop stand still, or takes much more memory than it has bytes.

The gateway runs in a process of its own (`measured_gateway`), with a server behind it that swallows whatever comes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from .measured_gateway import Heart

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
STILL_SECONDS = 0.05  # the promise, for a machine that does nothing else
MOST_STILL_SECONDS = 0.2  # on any other: what is to be caught here keeps the loop for seconds
TRIES = 3
MORE_BYTES = 4  # of memory for each of the body
ANYWAY = 40 * MIB  # what any request may take: so many values as are decoded, buffers of sockets, pages half filled
CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
BITS = base64.b64encode(random.Random(1).randbytes(3 * 64 * 1024))
PICTURE = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}'
SOURCE = b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"%b"}}'
CODE = rb"def f(x):\n    return \"hello\", 'world'  # \\d+\n"

ENDED = {"index": 0, "finish_reason": "stop"}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}

Make = Callable[[int], bytes]
Reply = tuple[str, bytes]  # content type and body


def filled(before: bytes, piece: bytes, after: bytes, between: bytes = b"") -> Make:
    """A body of about a size: as many pieces as fit."""
    return lambda size: before + between.join([piece] * max(1, size // (len(piece) + len(between)))) + after


def numbered(before: bytes, piece: bytes, after: bytes) -> Make:
    """As many different pieces as fit."""
    return lambda size: before + b",".join(piece % at for at in range(size // (len(piece) + 6))) + after


def chat(content: bytes) -> tuple[bytes, bytes]:
    before, _, after = content.partition(b"@")
    return b'{"model":"tiny","max_tokens":9,"messages":[' + before, after + b"]}"


def turn(content: bytes) -> tuple[bytes, bytes]:
    return chat(b'{"role":"user","content":%b}' % content)


def wrapped(holder: tuple[bytes, bytes], piece: bytes, between: bytes = b",") -> Make:
    return filled(holder[0], piece, holder[1], between)


def picture(size: int) -> bytes:
    return (BITS * (size // len(BITS) + 1))[: size // 4 * 4]


SMALL_PICTURE, SMALL_SOURCE = PICTURE % picture(4000), SOURCE % picture(4000)
REFUSED, TAKEN = (400, 413), (200,)
BOTH = {
    "objects": (wrapped(chat(b"@"), b"{}"), REFUSED),
    "arrays": (wrapped(chat(b"@"), b"[]"), (200, *REFUSED)),
    "arrays in arrays": (wrapped(chat(b"@"), b"[[[[[[[[[[]]]]]]]]]]"), REFUSED),
    "numbers": (wrapped(chat(b"@"), b"1.5"), REFUSED),
    "different fields": (lambda size: numbered(b'{"model":"tiny","messages":[],', b'"x%d":1', b"}")(size), (200, *REFUSED)),
    "different members": (numbered(*[chat(b"{@}")[0], b'"x%d":{}', chat(b"{@}")[1]]), (200, *REFUSED)),
    "empty parts": (wrapped(turn(b"[@]"), b'{"type":"text","text":""}'), (200, *REFUSED)),
    "halves": (wrapped(turn(b'"@"'), rb"\ud800", b""), (200, *REFUSED)),
    "halves and a picture": (wrapped(turn(b'[%b,{"type":"text","text":"@"}]' % SMALL_PICTURE), rb"\ud800", b""), (200, *REFUSED)),
    "backslashes": (wrapped(turn(b'"@"'), rb"\\", b""), (200, *REFUSED)),
    "quotes": (wrapped(turn(b'"@"'), rb"\"", b""), (200, *REFUSED)),
    "half a text": (wrapped(chat(b'{"role":"user","content":"@'), rb"\"x", b""), REFUSED),
    "blanks": (wrapped(chat(b"@"), b" ", b""), (200, *REFUSED)),
    "letters": (wrapped(turn(b'"@"'), b"word ", b""), (200, *REFUSED)),
    "code": (wrapped(turn(b'"@"'), CODE, b""), (200, *REFUSED)),
    "faces": (wrapped(turn(b'"@"'), "😀 x".encode(), b""), (200, *REFUSED)),
    "long messages": (wrapped(chat(b"@"), b'{"role":"user","content":"%b"}' % (CODE * 400)), (200, *REFUSED)),
    "short messages": (wrapped(chat(b"@"), b'{"role":"user","content":"hi"}'), (200, *REFUSED)),
    "no JSON": (wrapped((b"", b""), b"x", b""), REFUSED),
    "no UTF-8": (wrapped(turn(b'"@\xff"'), "é".encode(), b""), REFUSED),
}
OPENAI = {
    "objects and a picture": (wrapped(turn(b"[%b,@]" % SMALL_PICTURE), b"{}"), (413,)),
    "pictures": (wrapped(turn(b"[@]"), PICTURE % picture(750_000)), TAKEN),
    "one picture": (lambda size: turn(b"[@]")[0] + PICTURE % picture(size) + turn(b"[@]")[1], TAKEN),
}
ANTHROPIC = {
    "objects and a picture": (wrapped(turn(b"[%b,@]" % SMALL_SOURCE), b"{}"), (413,)),
    "pictures": (wrapped(turn(b"[@]"), SOURCE % picture(750_000)), TAKEN),
    "one picture": (lambda size: turn(b"[@]")[0] + SOURCE % picture(size) + turn(b"[@]")[1], TAKEN),
    "results in results": (
        lambda size: (turn(b"[%b,@]" % SMALL_SOURCE)[0] + b'{"type":"tool_result","content":[' * 200)
        + b'{"type":"text","text":"%b"}' % (b"x " * (size // 2)) + b"]}" * 200 + turn(b"@")[1].replace(b"}", b"]}", 1),
        (200, *REFUSED),
    ),
}  # fmt: skip
INPUTS = {
    "texts": (filled(b'{"model":"tiny","input":[', b'"%b"' % (b"word " * 100), b"]}", b","), (200, 413)),
    "short texts": (filled(b'{"model":"tiny","input":[', b'"a"', b"]}", b","), REFUSED),
    "tokens": (filled(b'{"model":"tiny","input":[', b"15339", b"]}", b","), (200, 413)),
    "lists of tokens": (filled(b'{"model":"tiny","input":[', b"[15339,1917]", b"]}", b","), (200, 413)),
    "objects": (filled(b'{"model":"tiny","input":[', b"{}", b"]}", b","), REFUSED),
    "one text": (filled(b'{"model":"tiny","input":"', b"word ", b'"}'), (200, *REFUSED)),
}
EXPLAINED = {
    "objects": (filled(b'{"request":{"model":"tiny","messages":[', b"{}", b"]}}", b","), (413,)),
    "headers": (numbered(b'{"request":{"model":"tiny","messages":[]},"headers":{', b'"x%d":"y"', b"}}"), (200, *REFUSED)),
    "code": (filled(b'{"request":{"model":"tiny","messages":[{"role":"user","content":"', CODE, b'"}]}}'), (200, *REFUSED)),
    "faces": (
        filled(b'{"request":{"model":"tiny","messages":[{"role":"user","content":"', "😀 x".encode(), b'"}]}}'),
        (200, *REFUSED),
    ),
    "halves": (filled(b'{"request":{"model":"tiny","messages":[{"role":"user","content":"', rb"\ud800", b'"}]}}'), (200, *REFUSED)),
}
PROMPTS = {
    "texts": (filled(b'{"model":"tiny","prompt":[', b'"%b"' % (b"word " * 100), b"]}", b","), (200, 413)),
    "lists of tokens": (filled(b'{"model":"tiny","prompt":[', b"[15339,1917]", b"]}", b","), (200, 413)),
}
TAKEN_OR_NOT = (*TAKEN, *REFUSED)
MANY: dict[str, Make] = {  # values, in bodies of few bytes that are translated
    "messages": wrapped(chat(b"@"), b'{"role":"user","content":"a"}'),
    "turns": wrapped(chat(b"@"), b'{"role":"user","content":"a"},{"role":"assistant","content":"b"}'),
    "system turns": wrapped(chat(b"@"), b'{"role":"system","content":"a"},{"role":"user","content":"b"}'),
    "parts": wrapped(turn(b"[@]"), b'{"type":"text","text":"a"}'),
    "fields of a message": numbered(*[chat(b'{"role":"user","content":"a",@}')[0], b'"x%d":1', chat(b"{@}")[1]]),
    "options": numbered(b'{"model":"tiny","max_tokens":9,"messages":[],"stream_options":{', b'"x%d":1', b"}}"),
    "metadata": numbered(b'{"model":"tiny","max_tokens":9,"messages":[],"metadata":{', b'"x%d":1', b"}}"),
    "a picture's fields": numbered(turn(b'[{"type":"image_url","image_url":{@}}]')[0], b'"x%d":1', turn(b"[{@}}]")[1]),
    "a source's fields": numbered(turn(b'[{"type":"image","source":{@}}]')[0], b'"x%d":1', turn(b"[{@}}]")[1]),
}
ASKED, TOOL = (
    b'{"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":"a"}],',
    b'{"name":"t%d","%b":{"type":"object"}}',
)
CALLS = {
    CHAT: b'{"type":"function","function":%b}' % TOOL.replace(b"%b", b"parameters"),
    MESSAGES: TOOL.replace(b"%b", b"input_schema"),
}
SCHEMA = {
    CHAT: (b'{"type":"function","function":{"name":"t","parameters":{', b"}}}"),
    MESSAGES: (b'{"name":"t","input_schema":{', b"}}"),
}


def many(path: str) -> dict[str, tuple[str, Make, tuple[int, ...]]]:
    """Bodies of one dialect for a server of the other."""
    before, after = SCHEMA[path]
    schema = numbered(ASKED + b'"tools":[' + before + b'"type":"object","properties":{', b'"x%d":{}', b"}" + after + b"]}")
    made = {**MANY, "tools": numbered(ASKED + b'"tools":[', CALLS[path], b"]}"), "a schema": schema}
    there = b'"claude"' if path == CHAT else b'"tiny"'
    return {
        f"few bytes: {path} {name}": (path, lambda size, make=make: make(size).replace(b'"tiny"', there, 1), TAKEN_OR_NOT)
        for name, make in made.items()
    }


CASES: dict[str, tuple[str, Make, tuple[int, ...]]] = {
    **{f"chat: {name}": (CHAT, *case) for name, case in {**BOTH, **OPENAI}.items()},
    **{f"messages: {name}": (MESSAGES, *case) for name, case in {**BOTH, **ANTHROPIC}.items()},
    **{f"completions: {name}": ("/v1/completions", *case) for name, case in PROMPTS.items()},
    **{f"counted: {name}": ("/v1/messages/count_tokens", *case) for name, case in ANTHROPIC.items()},
    **{f"explained: {name}": ("/nexus/explain", *case) for name, case in EXPLAINED.items()},
    **{f"embeddings: {name}": (EMBEDDINGS, *case) for name, case in INPUTS.items()},
    **many(CHAT),
    **many(MESSAGES),
}


@attrs.frozen
class Measured:
    """The gateway's process, and where it listens."""

    process: asyncio.subprocess.Process
    port: int
    path: str
    replies: list[Reply]

    async def say(self, word: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(word.encode() + b"\n")
        return (await self.process.stdout.readline()).decode()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer, which may come before all is sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {self.path}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), MIB):
                writer.write(body[at : at + MIB])
                await writer.drain()
        head_of_answer = await reader.readuntil(b"\r\n\r\n")
        length = head_of_answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if length:
            answer = await reader.readexactly(int(length))
        else:
            answer = b""
            with contextlib.suppress(ConnectionError):
                while (data := await reader.read(MIB)) and not answer.endswith(b"0\r\n\r\n"):
                    answer = (answer + data)[-MIB:]
                    if answer.endswith(b"\r\n0\r\n\r\n"):
                        break
        writer.close()
        return int(head_of_answer.split(b" ", 2)[1]), answer


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: list[Reply]) -> None:
    """A server that reads what comes without keeping any of it, and answers with the next of the replies, if there is one."""
    message, begun = {"role": "assistant", "content": "ok"}, {"id": "c", "created": 1, "model": "tiny"}
    said = {
        b"/v1/chat/completions": {**begun, "object": "chat.completion", "choices": [{**ENDED, "message": message}]},
        b"/v1/completions": {**begun, "object": "text_completion", "choices": [{**ENDED, "text": "ok"}]},
        b"/v1/embeddings": {"object": "list", "model": "tiny", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]},
        b"/v1/models": {"object": "list", "data": [{"id": "tiny", "object": "model"}]},
        b"/v1/messages": {**MESSAGE, "content": [{"type": "text", "text": "ok"}], "usage": {"input_tokens": 1, "output_tokens": 1}},
        b"/v1/models?limit=1000": {
            "data": [{"id": "claude", "type": "model"}],
            "has_more": False,
        },  # as Anthropic's server is asked
    }
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            while left:
                left -= len(await reader.readexactly(min(left, MIB)))
            kind, body = "application/json", json.dumps(said.get(head.split(b" ", 2)[1], {})).encode()
            if replies and head.startswith(b"POST"):
                kind, body = replies.pop(0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body)))
            for at in range(0, len(body), MIB):
                writer.write(body[at : at + MIB])
                await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def measured(state: Path, way: str, **limits: int) -> AsyncIterator[Measured]:
    replies: list[Reply] = []
    kinds = ("openai-compatible", "anthropic")
    servers = [await asyncio.start_server(lambda *both: swallow(*both, replies), "127.0.0.1", 0, limit=2 * MIB) for _ in kinds]
    urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    backends = [{"name": kind, "type": kind, "url": url} for kind, url in zip(kinds, urls, strict=True)]
    tables: dict[str, Any] = {"discovery": {"sources": []}, "backends": backends}
    tables["server"] = {"state_dir": str(state), "host": "127.0.0.1", "port": 0, **limits}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.measured_gateway", json.dumps(tables), way, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    url = (await process.stdout.readline()).decode().strip()
    address, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
    gateway = Measured(process, int(address), f"/{path}" if path else "", replies)
    try:
        for made in (CHAT, MESSAGES, EMBEDDINGS):  # what is loaded by the first request is loaded
            body = {"model": "tiny", "max_tokens": 1, "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
            assert (await gateway.post(made, json.dumps(body).encode()))[0] == 200
        yield gateway
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()
        for server in servers:
            server.close()
            await server.wait_closed()


ANSWER = b'{"id":"c","object":"chat.completion","created":1,"model":"tiny","choices":[', b"]}"
SAID = b'{"index":0,"message":{"role":"assistant","content":"', b'"},"finish_reason":"stop"}'
WHOLE: dict[str, Make] = {
    "objects": wrapped(ANSWER, b"{}"),
    "choices": wrapped(ANSWER, SAID[0] + b"a" + SAID[1]),
    "code": filled(ANSWER[0] + SAID[0], CODE, SAID[1] + ANSWER[1]),
    "faces": filled(ANSWER[0] + SAID[0], "😀 x".encode(), SAID[1] + ANSWER[1]),
    "halves": filled(ANSWER[0] + SAID[0], rb"\ud800", SAID[1] + ANSWER[1]),
    "an error": filled(b'{"error":{"message":"no","a":[', b"{}", b"]}}", b","),
    "usage": filled(ANSWER[0] + SAID[0] + SAID[1] + b'],"usage":{"x":[', b"{}", b"]}}", b","),
}


async def check(gateway: Measured, path: str, body: bytes, statuses: tuple[int, ...], replied: int = 0) -> str:
    """What is wrong; "" for nothing.  `replied` bytes are in the server's answer."""
    await gateway.say("mark")
    status, answer = await gateway.post(path, body)
    told = json.loads(await gateway.say("tell"))
    wrong = []
    if status not in statuses:
        wrong.append(f"status {status} ({answer[:200]!r})")
    if told["still"] > MOST_STILL_SECONDS:
        wrong.append(f"stood still for {told['still'] * 1000:.0f} ms")
    size = len(body) + replied
    if told["grown"] > MORE_BYTES * size + ANYWAY:
        wrong.append(f"took {told['grown'] / MIB:.0f} MiB, {told['grown'] / size:.1f} times the body")
    return "; ".join(wrong)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system does not tell how much memory was ever in use"
)
RUNS = {  # how the gateway runs, the size of the bodies, which ones
    "just below a mebibyte": ("standalone", 0.95, ("few bytes: ", "chat: halves", "embeddings: short", "embeddings: lists")),
    "as large as is read": ("standalone", 15.9, ("chat", "embeddings", "completions")),
    "as large as is translated": ("standalone", 7.9, ("messages", "counted", "explained")),
    "in an application": (
        "embedded",
        7.9,
        ("chat: objects", "chat: halves", "messages: pictures", "embeddings: tokens"),
    ),
    "as large as may be": ("standalone", 62, ("chat: pictures", "messages: one picture", "chat: objects and", "embeddings: lists")),
}


@pytest.mark.parametrize(("way", "size", "names"), RUNS.values(), ids=RUNS)
@needs_proc
async def test_no_body_keeps_the_loop_or_takes_much_more_than_its_size(tmp_path, way, size, names):
    wrong = {}
    async with measured(tmp_path, way) as gateway:
        for name, (path, make, statuses) in CASES.items():
            if not name.startswith(names):
                continue
            body = make(int(size * MIB))
            for _ in range(TRIES):  # another program may have taken the processor's caches
                said = await check(gateway, path, body, statuses if size > 1 else TAKEN_OR_NOT)
                if not said:
                    break
            else:
                wrong[name] = said
    assert not wrong, wrong


@needs_proc
async def test_whole_replies_neither(tmp_path):
    """A server's whole answers, as they are and translated."""
    wrong = {}
    body = json.dumps({"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
    async with measured(tmp_path, "standalone") as gateway:
        for path, (name, make) in itertools.product((CHAT, MESSAGES), WHOLE.items()):
            answer = make(8 * MIB)
            for _ in range(TRIES):
                gateway.replies[:] = [("application/json", answer)]
                said = await check(gateway, path, body, (200, 502), len(answer))
                if not said:
                    break
            else:
                wrong[path, name] = said
    assert not wrong, wrong


CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{'
BEGUN = CHUNK + b'"content":"hi"},"finish_reason":null}]}\n\n'
OVER = CHUNK + b'},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
CALL = b'{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}'
ERROR = b'data: {"error":{"message":"', b'"}}\n\n'
USAGE = BEGUN[:-3] + b',"usage":{', b"}}\n\n"
EVENTS = {
    "an error": filled(ERROR[0], b"word ", ERROR[1]),
    "a comment": filled(b": ", b"word ", b"\n\n"),
    "comments": lambda size: b":\n\n" * (size // 8),
    "events without data": lambda size: b"event: x\n\n" * (size // 16),
    "empty events": lambda size: b"data:\n\n" * (size // 16),
    "usage": lambda size: numbered(USAGE[0], b'"x%d":1', USAGE[1])(size // 3),
    "words": filled(CHUNK + b'"content":"', b"word ", b'"},"finish_reason":null}]}\n\n'),
    "halves": filled(CHUNK + b'"content":"', rb"\ud800", b'"},"finish_reason":null}]}\n\n'),
    "calls": lambda size: filled(CHUNK + b'"tool_calls":[', CALL, b']},"finish_reason":null}]}\n\n', b",")(size // 4),
}


@needs_proc
async def test_no_event_of_a_stream_either(tmp_path):
    """One of many bytes and one of many values, as a stream's first and as a later one, as it is and translated."""
    wrong = {}
    body = json.dumps({"model": "tiny", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
    async with measured(tmp_path, "standalone") as gateway:
        for path, (name, make), before in itertools.product((CHAT, MESSAGES), EVENTS.items(), (BEGUN, b"")):
            answer = before + make(8 * MIB) + OVER
            for _ in range(TRIES):
                gateway.replies[:] = [("text/event-stream", answer)]
                said = await check(gateway, path, body, TAKEN if before else (200, 502), len(answer))
                if not said:
                    break
            else:
                wrong[path, name, len(before)] = said
    assert not wrong, wrong


@needs_proc
async def test_what_was_never_sent_to_its_end_is_given_back(tmp_path):
    """Four bodies, of which two are too many at one time, and whose clients leave before their end."""
    async with measured(tmp_path, "standalone", max_inflight_body_bytes=128 * MIB) as gateway:
        await gateway.say("mark")
        lines = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(4)]
        size = 60 * MIB
        for _, writer in lines:
            writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(55):
                for _, writer in lines:
                    writer.write(b"x" * MIB)
                    await writer.drain()
        refused = 0
        for reader, writer in lines:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.5):
                    refused += b" 503 " in await reader.readline()
            writer.transport.abort()
        told = json.loads(await gateway.say("tell"))
        for _ in range(100):
            if told["kept"] < 16 * MIB:
                break
            await asyncio.sleep(0.05)
            told = json.loads(await gateway.say("tell"))
        assert refused in (1, 2)
        assert told["grown"] < (128 + 40) * MIB
        assert told["kept"] < 16 * MIB


def test_the_measure_would_see_it():
    """A body that is decoded as a whole, in the loop."""
    heart, body = Heart(), b"[" + b"{}," * 1_500_000 + b"{}]"

    async def careless() -> None:
        beating = asyncio.get_running_loop().create_task(heart.beat())
        await asyncio.sleep(0.01)
        json.loads(body)
        await asyncio.sleep(0.01)
        beating.cancel()

    asyncio.run(careless())
    assert heart.longest > STILL_SECONDS
