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
