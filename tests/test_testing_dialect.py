"""The OpenAI dialect keeps the contract that every dialect is held to."""

from __future__ import annotations

from nexus.api import Usage
from nexus.builtin import nexus_dialects
from nexus.testing import a_body, sse
from nexus.testing.contracts import DialectContract, Golden
from nexus.testing.servers.shapes import Answer, chat_chunks, chat_completion, completion_chunks, embeddings


def stream(*chunks):
    return b"".join(sse(chunk) for chunk in chunks) + sse("[DONE]")


ANSWER = Answer(id="chatcmpl-1", model="tiny", pieces=("hé", ' "]}\n\n'), prompt_tokens=3)
TOLD = Usage(input_tokens=3, output_tokens=2, source="reported")
CHAT, STREAMED = a_body(), a_body(stream=True, temperature=0)
WITH_USAGE = stream(*chat_chunks(ANSWER, include_usage=True))


class TestOpenAI(DialectContract):
    (kind,) = nexus_dialects()
    goldens = (
        Golden(path="/v1/chat/completions", request=STREAMED, wire=WITH_USAGE, usage=TOLD, spare=2),
        Golden(
            path="/v1/chat/completions",
            request=STREAMED,
            wire=stream(*chat_chunks(ANSWER, include_usage=True)),
            usage=TOLD,
            out=WITH_USAGE.replace(sse([*chat_chunks(ANSWER, include_usage=True)][-1]), b""),
            hide_usage=True,
            spare=2,
        ),
        Golden(
            path="/v1/completions",
            request=b'{"model": "tiny", "prompt": "x", "stream": true}',
            wire=stream(*completion_chunks(ANSWER, include_usage=True)),
            usage=TOLD,
            spare=2,
        ),
        Golden(path="/v1/chat/completions", request=CHAT, wire=sse(chat_completion(ANSWER))[6:], usage=TOLD),
        Golden(
            path="/v1/embeddings",
            request=b'{"model":"tiny","input":["a b c"]}',
            wire=sse(embeddings("tiny", ["a b c"], 4, "base64"))[6:],
            usage=Usage(input_tokens=3, source="reported"),
        ),
    )
