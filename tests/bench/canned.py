"""The bytes of the benchmark: the request that is sent, the answer and the events that come back.  No sockets here.

A stream is asked for by the `user` field of the chat request, which every gateway passes on untouched:
`burst/BATCH/EVENTS` as fast as the socket takes them, `paced/RATE/EVENTS` with the time of sending in each event,
`hold/ID/EVENTS` parked half way until released, and for a whole answer `delay/MILLISECONDS/0`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets

MODEL = "bench-model"
KEY = f"sk-{secrets.token_hex(32)}"  # the client's; only LiteLLM insists on one

SYSTEM = (
    "You are a careful assistant. Answer briefly, in plain words, and say so when you do not know. Where a question has two "
    "readings, answer the likelier one and name the other."
)
QUESTION = (
    "Explain in two or three sentences why a reverse proxy in front of several inference servers should relay each event "
    "of a stream at once instead of collecting events in a buffer, and what a client would notice if it did not."
)
REPLY = (
    "A reader sees the text grow word by word, so an event that waits in a buffer is a pause on the screen. Collecting "
    "events makes the stream arrive in lumps and hides a backend that has stalled, which a client can only guess at. It also costs memory for every stream."
)


def chat_body(*, stream: bool = False, user: str = "", model: str = MODEL) -> bytes:
    """A chat request of about 600 bytes, as a stock client would write it."""
    body: dict[str, object] = {
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
        "model": model,
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 256,
        "stream": stream,
    }
    if user:
        body["user"] = user
    return json.dumps(body, separators=(",", ":")).encode()


def picture_body(size: int) -> bytes:
    """A chat request of `size` bytes, nearly all of them one picture."""
    words = {"type": "text", "text": QUESTION}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,@"}}
    body = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": [words, picture]}]}
    before, _, after = json.dumps(body, separators=(",", ":")).encode().partition(b"@")
    bits = base64.b64encode(secrets.token_bytes(48 * 1024))
    return before + (bits * (size // len(bits) + 1))[: size - len(before) - len(after)] + after


def messages_body(*, user: str) -> bytes:
    """The same question as Anthropic's clients ask it, streamed; what is `user` there is a stop sequence here, for nobody hands the id of
    a user on as it is."""
    body: dict[str, object] = {
        "model": MODEL,
        "max_tokens": 256,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": QUESTION}],
        "stop_sequences": [user],
        "stream": True,
    }
    return json.dumps(body, separators=(",", ":")).encode()


def chat_request(port: int, body: bytes, path: str = "/v1/chat/completions") -> bytes:
    """The whole HTTP request with the headers that the stock client sends."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nUser-Agent: bench/1.0\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def answer_json() -> bytes:
    """A whole chat completion of about 600 bytes."""
    message = {"role": "assistant", "content": REPLY, "refusal": None}
    value = {
        "id": "chatcmpl-bench0001",
        "object": "chat.completion",
        "created": 1730000000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 78, "completion_tokens": 61, "total_tokens": 139},
    }
    return json.dumps(value, separators=(",", ":")).encode()


def models_json() -> bytes:
    return json.dumps(
        {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1730000000, "owned_by": "bench"}]}
    ).encode()


HEAD = b'data: {"id":"chatcmpl-bench0001","object":"chat.completion.chunk","created":1730000000,"model":"bench-model",'
DONE = b"data: [DONE]\n\n"
LAST = HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = HEAD + b'"choices":[],"usage":{"prompt_tokens":78,"completion_tokens":61,"total_tokens":139}}\n\n'


def event(content: str) -> bytes:
    """One chat chunk.  It holds exactly one `[`, by which readers count events without parsing them."""
    return HEAD + b'"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % content.encode()


def held_event(stream: int, number: int) -> bytes:
    """An event that no other stream and no other place of this stream has, with characters of one to four bytes."""
    return event(f"{hashlib.sha256(f'{stream}/{number}'.encode()).hexdigest()} é漢😀")


def held_stream(stream: int, events: int) -> bytes:
    """Every byte of the body that a client of `hold/stream/events` must see."""
    return b"".join(held_event(stream, number) for number in range(events)) + LAST + DONE


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)
