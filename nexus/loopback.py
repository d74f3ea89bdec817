"""The source that finds servers on this machine: it knocks on the usual ports and says where something listens.

What listens there is not asked here: the gateway recognises it by what it says.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterable

import attrs

from nexus.api import Scope, Sighting, Source

KNOCK_TIMEOUT = 0.5  # seconds
_HOSTS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
# No IPv6 here means that nothing listens there.
_ABSENT = {errno.ECONNREFUSED, errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EHOSTUNREACH}


@attrs.frozen(kw_only=True)
class LoopbackOptions:
    """The `[loopback]` table: what its keys mean is written beside them.  Raises ValueError for a number that cannot be."""

    interval_seconds: float = attrs.field(default=2.0, metadata={"meaning": "pause between two rounds of knocking"})
    ports: tuple[int, ...] = attrs.field(
        default=(), metadata={"meaning": "ports to knock on, besides those of the installed kinds of servers"}
    )

    @interval_seconds.validator
    def _positive(self, attribute: attrs.Attribute[float], value: float) -> None:
        if not 0.05 <= value <= 3600:
            raise ValueError(f"interval_seconds must be between 0.05 and 3600, not {value}")

    @ports.validator
    def _real(self, attribute: attrs.Attribute[tuple[int, ...]], value: tuple[int, ...]) -> None:
        for port in value:
            if not 0 < port < 65536:
                raise ValueError(f"ports must be between 1 and 65535, not {port}")


class Loopback(Source):
    """Knocks (connects and hangs up) on loopback, and yields only changes: a port that opened, a port that refuses again."""

    def __init__(self, options: LoopbackOptions, scope: Scope) -> None:
        usual = (port for fingerprint in scope.fingerprints for port in fingerprint.ports)
        self._ports = tuple(dict.fromkeys((*options.ports, *usual)))
        self._interval = options.interval_seconds
        self._listening: dict[int, str] = {}  # port → the address at which something listens

    async def watch(self) -> AsyncIterator[Sighting]:
        while True:
            now = await asyncio.gather(*(self._look(port) for port in self._ports))
            for sighting in self._changes(dict(zip(self._ports, now, strict=True))):
                yield sighting
            await asyncio.sleep(self._interval)

    async def _look(self, port: int) -> str | None:
        """The address at which something listens; None where all refuse; as before where it cannot be told."""
        for family, host in _HOSTS:
            listens = await _knock(family, host, port)
            if listens:
                return host
            if listens is None:
                return self._listening.get(port)
        return None

    def _changes(self, now: dict[int, str | None]) -> Iterable[Sighting]:
        for port, host in now.items():
            before = self._listening.pop(port, None)
            if host:
                self._listening[port] = host
            if before and before != host:
                yield _sighting(before, port, found=False)
            if host and before != host:
                yield _sighting(host, port, found=True)


def _sighting(host: str, port: int, *, found: bool) -> Sighting:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    said = f"something listens on {place}" if found else f"nothing listens on {place} any more"
    return Sighting(url=f"http://{place}", found=found, source="loopback", evidence=said)


async def _knock(family: int, host: str, port: int) -> bool | None:
    """Whether something listens; None where that cannot be told (a full backlog, no free file descriptor or port)."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as knock:
            knock.setblocking(False)
            async with asyncio.timeout(KNOCK_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(knock, (host, port))
            # A connect to a free port of the ephemeral range can meet itself.
            return bool(knock.getsockname() != knock.getpeername())
    except OSError as error:
        absent = error.errno in _ABSENT or (family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL)
        return False if absent else None
