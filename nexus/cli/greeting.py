"""What `nexus serve` tells a person at the start: what was found, what the address is, what to set in a client.

Only `--log-format pretty` gets it; later finds are the log's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import click

from nexus import __version__
from nexus.cli.address import DEFAULT_URL, lan_url, reachable
from nexus.cli.calling import calling
from nexus.cli.wrapping import beside, width, wrapped
from nexus.config import Config
from nexus.config.checks import loopback
from nexus.gateway import Gateway
from nexus.model import CHAT, Candidate, Health
from nexus.pairs import Standing
from nexus.plain import plain

LOG = logging.getLogger("nexus")
PATIENCE_SECONDS = 1.5
LOOK_SECONDS = 0.05
SHOWN_MODELS = 4
MOST_COLUMNS = 50  # for ports, before what is usually on them
NO_PLUGIN = "  No plugin for a server is installed: `pip install 'nexus-proxy[standard]'` brings those for the usual ones."


async def greet(gateway: Gateway, url: str) -> None:
    """Wait a moment for the first finds, then print."""
    await _first_finds(gateway)
    for line in lines(gateway, url, width(sys.stderr)):
        click.echo(line, err=True)


async def _first_finds(gateway: Gateway) -> None:
    """Until every backend has answered once and, with discovery, until there was time to look; at most 1.5 s."""
    begun = gateway.clock.now()
    while gateway.clock.now() - begun < PATIENCE_SECONDS:
        await asyncio.sleep(LOOK_SECONDS)
        if not gateway.config.discovery.sources and gateway.fleet.settled:
            return


def lines(gateway: Gateway, url: str, columns: int | None = None) -> Iterator[str]:
    """The whole message; what was found is wrapped where `columns` says how wide the terminal is."""
    here = _reachable(url)
    yield ""
    yield f"  {click.style(f'Nexus {__version__}', bold=True)} listens on {click.style(here, bold=True)}"
    yield ""
    standings = list(gateway.fleet.standings.values())
    yield from (_finds(standings, columns) if standings else _nothing(gateway))
    yield ""
    yield f"  In any OpenAI client, set  base_url = {here}/v1"
    if "anthropic" in gateway.catalog.dialects:
        yield f"  In any Anthropic client,   base_url = {here}  (without /v1)"
    yield f"                             api_key  = {_keyed() if gateway.config.keys else 'anything'}"
    if other := lan_url(url):
        yield f"  On other machines, {other} in place of {here}"
    model = _example(standings)
    if model:
        yield from _try(here, model, keyed=bool(gateway.config.keys))
    yield ""


def _keyed() -> str:
    return f"a key that `{calling()} keys new NAME` has printed"


def _finds(standings: list[Standing], columns: int | None) -> Iterator[str]:
    """Names and addresses below each other."""
    name = max(len(standing.member.name) for standing in standings)
    url = max(len(standing.member.url) for standing in standings)
    for standing in standings:
        yield _found(standing, name, url, columns)


def _found(standing: Standing, name_width: int, url_width: int, columns: int | None) -> str:
    member, health = standing.member, standing.pulse.health
    names = [plain(c.name) for c in standing.candidates()]
    shown = ", ".join(names[:SHOWN_MODELS]) + (f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else "")
    if health is Health.HEALTHY:
        mark, said = click.style("✓", fg="green"), shown or "no model yet"
    elif health is Health.UNKNOWN:
        mark, said = "…", "has not answered yet"
    else:
        mark, said = click.style("✗", fg="red"), plain(beside(standing.problem, member.url))
    return wrapped(f"  {mark} {member.name:<{name_width}}  {member.url:<{url_width}}  ", said, columns)


def _nothing(gateway: Gateway) -> Iterator[str]:
    if not gateway.config.discovery.sources:
        yield f"  No server is configured, and discovery is off: add [[backends]] to nexus.toml (`{calling()} config init` writes one)."
        return
    ports = _ports(gateway)
    if not ports:
        yield NO_PLUGIN
        return
    yield "  No model server was found on this machine.  Nexus looked at the usual ports:"
    width = min(max(map(len, ports)), MOST_COLUMNS)
    yield from (f"    {where:<{width}}  {', '.join(names)}" for where, names in ports.items())
    yield "  Start one, and it is found within 3 seconds, without a restart:"
    yield "    ollama serve                    Ollama"
    yield "    llama-server -m model.gguf      llama.cpp"
    yield f"  A server elsewhere goes into nexus.toml (`{calling()} config init` writes one)."
    yield f"  To see what Nexus does without any server:  {calling()} demo"


def _ports(gateway: Gateway) -> dict[str, list[str]]:
    """By ports, the kinds that are usually on them, the most telling kind first."""
    kinds: dict[int, list[tuple[int, str]]] = {}
    for kind in gateway.catalog.backends.values():
        for fingerprint in kind.fingerprints:
            for port in fingerprint.ports:
                kinds.setdefault(port, []).append((len(fingerprint.ports), kind.name))
    more = getattr(gateway.config.options.get("loopback"), "ports", ())
    usual: dict[tuple[str, ...], list[int]] = {}
    for port, listed in kinds.items():
        if port not in more:
            usual.setdefault(_usual(listed), []).append(port)
    written = {", ".join(map(str, more)): ["[loopback] ports"]} if more else {}
    return written | {", ".join(map(str, ports)): list(names) for names, ports in usual.items()}


def _usual(kinds: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """A kind that may be on many ports is not what makes this one usual."""
    listed = sorted(kinds)
    return tuple(dict.fromkeys(name for ports, name in listed if ports == listed[0][0]))


def _example(standings: Iterable[Standing]) -> str | None:
    """A chat model that is there now: at home before elsewhere, known to chat before unknown, then the one known to do most."""
    able = [c for s in standings if s.pulse.health is Health.HEALTHY for c in s.candidates() if c.offers.get(CHAT) is not False]
    return min(able, key=_doubt).name if able else None


def _doubt(candidate: Candidate) -> tuple[bool, bool, int]:
    known = sum(offered is True for offered in candidate.offers.values())
    return candidate.cloud, candidate.offers.get(CHAT) is not True, -known


def _try(url: str, model: str, *, keyed: bool) -> Iterator[str]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello"}]})
    key = ' -H "Authorization: Bearer $NEXUS_KEY"' if keyed else ""
    where = "" if url == DEFAULT_URL else f" --url {url}"
    yield "  Try it:"
    yield f"    curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\"
    yield f"      -d {shlex.quote(body)}; echo"
    yield f"  See where it would go, and why:  {calling()} explain {shlex.quote(model)}{where}"


def _reachable(url: str) -> str:
    """An address that a client on this machine can use."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{reachable(parts.hostname or '')}:{parts.port}"


def warn_insecure(config: Config) -> None:
    """Say loudly what --insecure means, in whatever format the log has."""
    server = config.server
    if server.insecure and not config.keys and not loopback(server.host):
        LOG.warning(
            "INSECURE: listening on %s without keys.  Everybody who can reach port %s may use every backend, spend money on cloud "
            "backends, and read under /nexus/ who asks for what.  `%s keys new NAME` makes a key; without --insecure, keys are needed.",
            server.host,
            server.port,
            calling(),
        )
