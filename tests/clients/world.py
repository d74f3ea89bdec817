"""What a client meets: a gateway as a process of its own, before real llama.cpp servers with tiny models.

The configuration has no more in it than the pages tell: the backends, and the aliases of Claude Code's page.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from nexus.cli.clients_recipes import CLIENTS, Lines, Setting

from ..llamacpp.make_model import SENTENCE  # noqa: TID252 - the tests are no package that could be named
from ..llamacpp.process import LlamaCpp, make_model  # noqa: TID252 - as above
from .processes import until
from .tap import Tap

SAYS = SENTENCE
MODEL, ENDLESS, DOOMED, MISSING = "tiny-llama", "endless", "doomed", "no-such-model"
NOTE, ASK, SECRET = "note.txt", "read the nexus note", "the secret is 4711"
"""A file in the client's directory; the words at which the model wants to read it; what it wants to find in it."""
NATIVE, TRANSLATED = "native", "translated"
KINDS = {NATIVE: "llamacpp", TRANSLATED: "openai-compatible"}

# Agents bring prompts of 30,000 tokens.  A smaller model reads them in seconds, and knows as much.
SMALL = ("--width", "32", "--layers", "1", "--heads", "1")
CONTEXT = 65536
LISTENING = re.compile(r"listening on (http://\S+)")


@attrs.frozen(kw_only=True)
class World:
    """A gateway at `url`; `folder` is the client's home and working directory."""

    url: str
    folder: Path
    way: str
    tap: Tap

    def setting(self, model: str = MODEL) -> Setting:
        return Setting(url=self.url, model=model, key="anything", served=frozenset(CLIENTS["claude-code"].asks_for))

    def lines(self, client: str, model: str = MODEL) -> tuple[Lines, ...]:
        """What `nexus clients` tells for this client."""
        return CLIENTS[client].lines(self.setting(model))

    def variables(self, client: str, model: str = MODEL) -> dict[str, str]:
        """The variables that `nexus clients` tells to set."""
        told = "\n".join(lines.text for lines in self.lines(client, model) if lines.language == "sh")
        return dict(re.findall(r"^export (\w+)=(.*)$", told, re.MULTILINE))

    def write_files(self, client: str, model: str = MODEL) -> None:
        """The files that `nexus clients` tells to write."""
        for lines in self.lines(client, model):
            if lines.file:
                path = self.folder / lines.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(lines.text + "\n")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def settled(self, backends: int) -> None:
        """Return once so many backends are healthy."""
        until(lambda: self.get("/health")["backends"]["healthy"] == backends, f"{backends} healthy backends", 30)

    @property
    def in_flight(self) -> int:
        return sum(backend["in_flight"] for backend in self.get("/nexus/backends")["backends"])

    def stories(self) -> list[Any]:
        """Every request that has ended, the first to end first."""
        return list(reversed(self.get("/nexus/requests?limit=1000")["requests"]))


@contextmanager
def world(folder: Path, way: str, call: Mapping[str, Any], finds: str = SECRET) -> Iterator[World]:
    """The servers and the gateway.

    `call` is what the model calls when it is told ASK, a name and arguments, and `finds` what the result must hold for it to say
    SAYS after that; until then it calls again.
    """
    home = folder / "home"
    home.mkdir(parents=True)
    (home / NOTE).write_text(f"{SECRET}\n")
    with ExitStack() as stack:
        usual = _server(stack, folder, MODEL, ["--call", json.dumps(dict(call)), "--when", ASK, "--until", finds], [])
        endless = _server(stack, folder, ENDLESS, [], ["--endless"])
        tap = Tap(usual.port)
        stack.callback(tap.close)
        config = configured(backend("usual", way, tap.url), backend("endless", way, endless.url))
        made = World(url=gateway(stack, folder, config), folder=home, way=way, tap=tap)
        made.settled(2)
        yield made


def _server(stack: ExitStack, folder: Path, name: str, model: list[str], more: list[str]) -> LlamaCpp:
    gguf = folder / f"{name}.gguf"
    make_model(gguf, *SMALL, *model)
    arguments = ["--alias", name, "--ctx", str(CONTEXT), "--parallel", "2", *more]
    server = LlamaCpp(gguf, folder / f"{name}.log", arguments)
    stack.callback(server.close)
    server.start()
    return server


def backend(name: str, way: str, url: str, more: str = "") -> str:
    """Its table; `more` are further lines of it."""
    return f'[[backends]]\nname = "{name}"\ntype = "{KINDS[way]}"\nurl = "{url}"\n{more}'


def configured(*tables: str) -> str:
    """A configuration of these tables, with the aliases that Claude Code's page tells to set."""
    aliases = CLIENTS["claude-code"].lines(Setting(model=MODEL))[-1].text
    return "\n\n".join(["[discovery]\nsources = []", aliases, *tables]) + "\n"


def gateway(stack: ExitStack, folder: Path, config: str) -> str:
    """The URL of `python -m nexus serve` on a free port; its log stays in the folder."""
    file, log = folder / "nexus.toml", folder / "nexus.log"
    file.write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    env = {**kept, "NEXUS_SERVER_STATE_DIR": str(folder / "state")}
    command = [sys.executable, "-m", "nexus", "serve", "-c", str(file), "--port", "0", "--log-format", "pretty"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    stack.callback(_end, process)
    until(lambda: LISTENING.search(log.read_text()) or process.poll() is not None, "a gateway that listens", 30)
    found = LISTENING.search(log.read_text())
    assert found, f"the gateway did not start: {log.read_text()[-2000:]}"
    return found[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
