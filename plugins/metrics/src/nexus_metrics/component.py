"""The component: an observer that counts, and the endpoint that shows the counts.

There is no registry of the process: two gateways in one process do not see each other, and an embedding application's own
metrics stay its own.  `prometheus_client` costs more than a megabyte, so it is loaded by the first scrape.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from nexus.api import Event, Observer, Route, Routes
from nexus_metrics.counts import Counts


class Metrics(Observer, Routes):
    """Counts what it sees and answers `GET /metrics`, in the text format or as OpenMetrics, whichever is asked for.

    An admin's key is needed where keys are configured, unless it is `public`.
    """

    def __init__(self, *, public: bool = False) -> None:
        self.counts = Counts()
        self._public = public

    def see(self, event: Event) -> None:
        self.counts.see(event)

    def routes(self) -> Iterable[Route]:
        yield Route(path="/metrics", handler=self._scrape, admin=not self._public)

    async def _scrape(self, request: web.BaseRequest) -> web.Response:
        from nexus_metrics.exposition import exposition
        from nexus_metrics.families import Families

        accept = ",".join(request.headers.getall("Accept", []))
        body, content_type = await exposition(Families(self.counts).collect(), accept)
        return web.Response(body=body, headers={"Content-Type": content_type})
