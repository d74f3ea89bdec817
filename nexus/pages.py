"""The pages that every client asks for: what is served, and whether Nexus is well.  They are values, which any connection can send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import attrs

from nexus import __version__
from nexus.api import Dialect
from nexus.config import KeyConfig
from nexus.dialects.jsontext import dumps
from nexus.door import Head
from nexus.errors import Problem
from nexus.gateway import Gateway
from nexus.model import Health
from nexus.served import EVERYTHING, Served

MODELS = "/v1/models"
JSON = {"Content-Type": "application/json"}


@attrs.frozen
class Asked:
    """What a page is asked with: `path` is decoded, `query` as it was sent, names in `headers` are in lower case, `key` is the client's."""

    path: str
    query: str
    headers: Mapping[str, str]
    key: KeyConfig | None

    @property
    def globs(self) -> tuple[str, ...]:
        """Which models the key opens."""
        return self.key.models if self.key else EVERYTHING


@attrs.frozen
class Page:
    """A whole answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = JSON


Maker = Callable[[Asked], Awaitable[Page]]


class Pages:
    """The pages, over one running gateway."""

    def __init__(self, gateway: Gateway, dialects: tuple[Dialect, ...], is_admin: Callable[[Head], bool]) -> None:
        self._gateway = gateway
        self._is_admin = is_admin
        self._dialects = dialects
        self._listed = Served(gateway.fleet, gateway.runtime.names, int(gateway.clock.time()))

    def routes(self) -> Iterable[tuple[str, Maker, bool]]:
        """Each page with its path, and whether a key is needed."""
        yield MODELS, self.models, True
        yield MODELS + "/{tail}", self.model, True
        yield "/health", self.health, False
        yield "/health/ready", self.ready, False

    # ------------------------------------------------------------ models

    async def models(self, asked: Asked) -> Page:
        """Every name that the client may ask for, in its dialect's form."""
        query = {name: given[0] for name, given in parse_qs(asked.query, keep_blank_values=True).items()}
        return Page(await self._listed.written(self._form(asked), asked.globs, query))

    async def model(self, asked: Asked) -> Page:
        name = asked.path.partition(MODELS + "/")[2]
        entry = await self._listed.find(name, asked.globs)
        if entry is None:
            raise Problem(
                404,
                "model_not_found",
                f"no backend serves the model {name[:200]!r}; GET /v1/models lists what is served",
                param="model",
                see="GET /v1/models",
            )
        return Page(self._form(asked).model(entry))

    def _form(self, asked: Asked) -> Dialect:
        dialect = dialect_of(self._dialects, asked.headers)
        assert dialect is not None
        return dialect

    # ------------------------------------------------------------ health

    async def health(self, asked: Asked) -> Page:
        return Page(dumps(self._health(asked)))

    async def ready(self, asked: Asked) -> Page:
        return Page(dumps(self._health(asked)), 200 if self._gateway.ready else 503)

    def _health(self, asked: Asked) -> dict[str, Any]:
        """Numbers for everybody, and what is wrong by name for those who may see inside."""
        standings = self._gateway.fleet.standings.values()
        health = [s.pulse.health for s in standings]
        healthy = health.count(Health.HEALTHY)
        suspended = sum(s.suspension is not None and s.pulse.health is Health.HEALTHY for s in standings)
        troubles = {
            f"backend {s.member.name}": said for s in standings if (said := "; ".join(filter(None, (s.problem, s.left_out))))
        }
        well = healthy == len(health) and not troubles and not self._gateway.problems
        status = "unhealthy" if not healthy else "healthy" if well else "degraded"
        return {
            "status": "stopping" if self._gateway.draining else status,
            "version": __version__,
            "uptime_seconds": round(self._gateway.clock.now() - self._gateway.started, 1),
            "backends": {
                "total": len(health),
                "healthy": healthy - suspended,
                "unhealthy": health.count(Health.UNHEALTHY),
                "unknown": health.count(Health.UNKNOWN),
                "suspended": suspended,
            },
            "models": self._served(),
            "problems": {**troubles, **self._gateway.problems} if self._is_admin(asked) else {},
        }

    def _served(self) -> int:
        """How many names `models` lists to whom every model is open, without looking at each."""
        fleet, names = self._gateway.fleet, self._gateway.runtime.names
        hidden = sum(alias in fleet.served for alias in names.aliases)
        legs = (names.legs(alias, strict=True, flexible=False)[0] for alias in names.aliases)
        return len(fleet.served) - hidden + sum(any(map(fleet.serves, leg.ids)) for leg in legs)


def dialect_of(dialects: Sequence[Dialect], headers: Mapping[str, str]) -> Dialect | None:
    """Whose client has sent these headers; the first dialect where none knows them for its own."""
    return next((d for d in dialects if d.claims(headers)), dialects[0] if dialects else None)
