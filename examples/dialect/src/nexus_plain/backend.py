"""What a plain server says of itself: its models, and that it speaks plain."""

from __future__ import annotations

from nexus.api import Model, Report, State
from nexus.backends import HTTPBackend, count_of, objects

SPEAKS = frozenset({("plain", "chat")})
OFFERS = {"vision": False, "tools": False, "json_schema": False}


class PlainServer(HTTPBackend):
    """One plain server.  Whatever comes to it is plain by then, so it is sent as it is."""

    async def look(self) -> Report:
        """`GET /plain/models` lists them: `{"plain": 1, "models": [{"name": …, "context": …}]}`."""
        said = await self.get_json("/plain/models")
        models = [
            Model(id=str(entry["name"]), context=count_of(entry.get("context")), offers=OFFERS, state=State.READY, speaks=SPEAKS)
            for entry in objects(said, "models")
            if entry.get("name")
        ]
        return Report(ok=True, models=tuple(models))
