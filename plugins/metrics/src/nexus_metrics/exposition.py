"""The component: an observer that counts, and the endpoint that shows the counts.  What is counted lives in `counts`, names and
labels in `families`.

There is no registry of the process: two gateways in one process do not see each other, and an embedding application's own
metrics stay its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from nexus.api import Event, Observer, Route, Routes
from nexus_metrics.counts import Counts
from nexus_metrics.families import Families

# Writing one sample takes about 10 µs, so this many hold up the streams of the event loop for a millisecond or two.
SAMPLES_AT_ONCE = 150
END = b"# EOF\n"


class Metrics(Observer, Routes):
    """Counts what it sees and answers `GET /metrics`, in the text format or as OpenMetrics, whichever is asked for."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.families = Families(self.counts)

    def see(self, event: Event) -> None:
        self.counts.see(event)

    def routes(self) -> Iterable[Route]:
        yield Route(path="/metrics", handler=self._scrape, admin=False)

    async def _scrape(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        body, content_type = await exposition(self.families.collect(), accept)
        return web.Response(body=body, headers={"Content-Type": content_type})


async def exposition(families: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """The families in the format that the Accept header asks for, and the content type of that format.

    It is written piece by piece with a breath in between, since a fleet of hundreds of models has tens of thousands of samples.
    """
    encode, content_type = choose_encoder(accept)
    written = []
    for family in families:
        for piece in _pieces(family):
            text = encode(piece).removesuffix(END)
            written.append(_without_head(text) if piece.continues else text)
            await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        written.append(END)
    return b"".join(written), content_type


class _Piece:
    """A part of a family, as something that can be collected from."""

    def __init__(self, family: Metric, start: int) -> None:
        self.continues = start > 0
        self._part = Metric(family.name, family.documentation, family.type)
        self._part.samples = family.samples[start : start + SAMPLES_AT_ONCE]

    def collect(self) -> Iterator[Metric]:
        yield self._part


def _pieces(family: Metric) -> Iterator[_Piece]:
    for start in range(0, max(len(family.samples), 1), SAMPLES_AT_ONCE):
        yield _Piece(family, start)


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text
