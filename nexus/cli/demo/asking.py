"""Requests to the demo's gateway, as any client would send them.  What is asked, and why, is the story's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nexus.api import Exchange
from nexus.cli.asking import PIXEL
from nexus.upstream import Pool

Json = dict[str, Any]
PATIENCE_SECONDS = 60.0
PICTURE: list[Json] = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]


@attrs.frozen(kw_only=True)
class Said:
    """One answer: its status, the `X-Nexus-*` headers by lower-case name without the prefix, its text or its error, seconds."""

    status: int
    nexus: Mapping[str, str]
    text: str
    seconds: float

    @property
    def json(self) -> Json:
        """For `--json`."""
        return {
            "status": self.status,
            "seconds": round(self.seconds, 3),
            **{k.replace("-", "_"): v for k, v in self.nexus.items()},
        } | ({} if self.status < 400 else {"error": self.text})


class Client:
    """A client of the gateway at `url`."""

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self.url = url

    async def chat(
        self,
        model: str,
        content: str | list[Json],
        *,
        headers: Mapping[str, str] | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Said:
        """One chat completion; with `heard` a streamed one, which hears every piece of text as it comes."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "stream": heard is not None}
        begun = time.monotonic()
        async with await self._open("POST", "/v1/chat/completions", body, headers or {}) as answer:
            text = await (_stream(answer, heard) if heard and answer.status == 200 else _whole(answer))
        marks = {name.removeprefix("x-nexus-"): value for name, value in answer.headers if name.startswith("x-nexus-")}
        return Said(status=answer.status, nexus=marks, text=text, seconds=time.monotonic() - begun)

    async def ask(self, method: str, path: str, value: Json | None = None) -> Any:
        """The JSON of a control page."""
        async with await self._open(method, path, value, {}) as answer:
            return json.loads(await _bytes(answer))

    async def _open(self, method: str, path: str, value: Json | None, headers: Mapping[str, str]) -> Exchange:
        body = b"" if value is None else json.dumps(value).encode()
        given = [("content-type", "application/json"), *headers.items()]
        by = time.monotonic() + PATIENCE_SECONDS
        return await self._pool.exchange(method, self.url + path, headers=given, body=body, first_byte_by=by)


async def _bytes(answer: Exchange) -> bytes:
    whole = b""
    while piece := await answer.read():
        whole += piece
    return whole


async def _whole(answer: Exchange) -> str:
    """What was said, or the error's message."""
    value = json.loads(await _bytes(answer))
    if "error" in value:
        return str(value["error"]["message"])
    return str(value["choices"][0]["message"]["content"])


async def _stream(answer: Exchange, heard: Callable[[str], None]) -> str:
    text, rest = "", b""
    while piece := await answer.read():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            said = _piece(line)
            text += said
            heard(said)
    return text


def _piece(line: bytes) -> str:
    """The text in one line of a stream."""
    data = line.removeprefix(b"data: ").strip()
    if not line.startswith(b"data: ") or data == b"[DONE]":
        return ""
    choices = json.loads(data).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
