"""Families as text, in the format that was asked for.  What is counted lives in `counts`, names and labels in `families`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

END = b"# EOF\n"


async def exposition(parts: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """The families in the format that the Accept header asks for, and the content type of that format.

    Writing a sample takes about 10 µs and a fleet of hundreds of models has tens of thousands of them, so every part is
    followed by a breath: no stream waits for a scrape.
    """
    encode, content_type = choose_encoder(accept)
    written, family = [], ""
    for part in parts:
        text = encode(_One(part)).removesuffix(END)
        written.append(_without_head(text) if part.name == family else text)
        family = part.name
        await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        written.append(END)
    return b"".join(written), content_type


class _One:
    """One metric as something that can be collected from."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text
