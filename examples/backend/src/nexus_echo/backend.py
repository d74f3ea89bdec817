"""What an echo server says of itself.  Sending, keys and failures are the base class's."""

from __future__ import annotations

from nexus.api import Model, Report, State
from nexus.backends import HTTPBackend, count_of, objects, within

SPEAKS = frozenset({("openai", "chat")})
OFFERS = {"vision": False, "tools": False, "json_schema": False}


class Echo(HTTPBackend):
    """One echo server.  It takes chats in OpenAI's form at OpenAI's path, so a call is sent as it is."""

    async def look(self) -> Report:
        """`GET /echo` says everything: `{"echo": {"version": …, "slots": …}, "models": [{"id": …, "context": …}]}`."""
        said = await self.get_json("/echo")
        return Report(
            ok=True,
            version=str(within(said, "echo", "version")),
            capacity=count_of(within(said, "echo", "slots")),
            models=tuple(
                Model(
                    id=str(entry["id"]),
                    context=count_of(entry.get("context")),
                    offers=OFFERS,
                    state=State.READY,
                    speaks=SPEAKS,
                    takes_usage=True,
                )
                for entry in objects(said, "models")
                if entry.get("id")
            ),
        )
