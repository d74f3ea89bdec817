"""The simulated servers of the demo, and the configuration that names them.  They are the doubles of the testing kit: real HTTP
on real sockets, with made-up words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from nexus.testing.servers import FakeModel, FakeServer, Pace, llamacpp_server, ollama_server, openai_server

MODEL = "llama"  # one name for the three ids below
OLLAMA_ID, GGUF_ID, CLOUD_ID = "llama3.1:8b", "Llama-3.1-8B-Q4_K_M.gguf", "meta-llama/Llama-3.1-8B-Instruct"
PICTURES = "llava:7b"
HOME_SLOTS, CLOUD_SLOTS = 4, 3
PRICE = {"input": 0.2, "output": 0.6}  # US dollars per million tokens, invented


@attrs.frozen(kw_only=True)
class Servers:
    """The four servers, listening."""

    gpu: FakeServer
    laptop: FakeServer
    pi: FakeServer
    cloud: FakeServer


@asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    """Start them on free loopback ports."""
    servers = Servers(
        gpu=ollama_server([OLLAMA_ID, FakeModel(PICTURES, vision=True)], text=_words("gpu"), pace=_pace(40), capacity=2),
        laptop=ollama_server([OLLAMA_ID], text=_words("laptop"), pace=_pace(25)),
        pi=llamacpp_server([FakeModel(GGUF_ID, context=4096)], text=_words("pi"), pace=_pace(16)),
        cloud=openai_server([CLOUD_ID], text=_words("cloud"), pace=_pace(30)),
    )
    async with AsyncExitStack() as stack:
        for server in (servers.gpu, servers.laptop, servers.pi, servers.cloud):
            await stack.enter_async_context(server)
        yield servers


def _words(name: str) -> str:
    return f"Hello from {name}. I am a simulation, so my words mean nothing, but every byte came over a real socket through Nexus."


def _pace(tokens_per_second: float) -> Pace:
    return Pace(first_token=0.1, tokens_per_second=tokens_per_second)


def tables(servers: Servers, state_dir: Path, port: int) -> Mapping[str, Any]:
    """What a nexus.toml for this fleet would say.  The cloud is of the type `openai`, which is what makes it cloud."""
    backends = [
        {"name": "gpu", "type": "ollama", "url": servers.gpu.url, "max_concurrent": 2},
        {"name": "laptop", "type": "ollama", "url": servers.laptop.url, "max_concurrent": 1},
        {"name": "pi", "type": "llamacpp", "url": servers.pi.url},
        {
            "name": "cloud",
            "type": "openai",
            "url": servers.cloud.url,
            "max_concurrent": CLOUD_SLOTS,
            "models": [{"id": CLOUD_ID, "capabilities": ["chat", "tools"], "price": PRICE}],
        },
    ]
    return {
        "server": {"port": port, "state_dir": str(state_dir), "shutdown_grace_seconds": 1},
        "discovery": {"sources": []},
        "health": {"interval_seconds": 1, "failure_threshold": 1, "recovery_threshold": 1},
        "routing": {"aliases": {MODEL: [OLLAMA_ID, GGUF_ID, CLOUD_ID]}},
        "backends": backends,
    }
