"""Who is behind an address: which kind of server it is, whether two addresses are one server, whether an address is private.

Watching for servers belongs to the sources, and what follows from a finding to the gateway.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from nexus.api import Check, Fingerprint, Secret

MAX_BYTES = 1024 * 1024
LOOPBACK = "127.0.0.1"

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


# ---------------------------------------------------------------- which kind of server


class Recognised(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of server, and what it was recognised by, for people (`/props has build_info`)."""

    kind: str
    evidence: str


async def recognise(
    url: str,
    fingerprints: Sequence[tuple[str, Fingerprint]],
    session: aiohttp.ClientSession,
    *,
    key: Secret | None = None,
    timeout: float = 2.0,
    keyed: Callable[[], None] = lambda: None,
) -> Recognised | None:
    """The kind of the first fingerprint, by rank, all of whose checks hold for the server at `url`; None where there is none.

    Only GETs, each distinct path at most once, no redirects followed, at most `MAX_BYTES` of each answer, `timeout` seconds
    in all.  None also where the server is not yet able to say: it breaks a connection off, takes too long, or answers 503
    to a question.  llama.cpp lists its models while it loads and answers 503 to everything else; believing the list would
    make it a stranger for good, so ask again later.  `keyed` hears that one who is not recognised answers 401.
    """
    server = _Server(url, session, key)
    try:
        async with asyncio.timeout(timeout):
            for kind, fingerprint in sorted(fingerprints, key=lambda pair: pair[1].rank):
                if await server.has(fingerprint.checks):
                    return Recognised(kind=kind, evidence=", ".join(_evidence(check) for check in fingerprint.checks))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError, _NotReady):
        pass
    if server.keyed:
        keyed()
    return None


class _NotReady(Exception):
    """The server answers, but cannot say yet who it is."""


class _Answer:
    """One answer, reduced to what checks look at.  A page for people is no answer: many servers give one for every path."""

    def __init__(self, status: int, headers: Mapping[str, str], content_type: str, body: bytes) -> None:
        page = content_type == "text/html" or body.lstrip()[:1] == b"<"
        self.status = 0 if page or len(body) > MAX_BYTES else status
        self.headers = headers
        self.text = body.decode("utf-8", "replace")

    def meets(self, check: Check) -> bool:
        return (
            self.status == check.status
            and (check.json is None or self._has(check.json))
            and (check.text is None or check.text in self.text)
            and (check.header is None or self._sends(check.header))
        )

    def _sends(self, header: str) -> bool:
        name, _, beginning = header.partition(":")
        return self.headers.get(name.lower(), "\n").startswith(beginning.strip()) if beginning else name.lower() in self.headers

    @functools.cached_property
    def json(self) -> Any:
        """What it is as JSON; None where it is none.  Several fingerprints look at it."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    def _has(self, dotted: str) -> bool:
        value = self.json
        for key in dotted.split("."):
            value = _member(value, key)
        return value is not None


def _member(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10:
        return value[int(key)] if int(key) < len(value) else None
    return None


class _Server:
    """Asks one server, and remembers what it said."""

    def __init__(self, url: str, session: aiohttp.ClientSession, key: Secret | None) -> None:
        self._base = url.rstrip("/").removesuffix("/v1")
        self._session = session
        self._headers = {"authorization": f"Bearer {key.reveal()}"} if key else {}
        self._answers: dict[str, _Answer] = {}
        self.keyed = False

    async def has(self, checks: Sequence[Check]) -> bool:
        for check in checks:
            if not (await self._ask(check.path)).meets(check):
                return False
        return bool(checks)

    async def _ask(self, path: str) -> _Answer:
        if path not in self._answers:
            self._answers[path] = await self._get(path)
        return self._answers[path]

    async def _get(self, path: str) -> _Answer:
        async with self._session.get(self._base + path, headers=self._headers, allow_redirects=False) as got:
            body = b""
            while len(body) <= MAX_BYTES and (more := await got.content.read(MAX_BYTES + 1 - len(body))):
                body += more
            if got.status == 503:
                raise _NotReady
            self.keyed |= got.status == 401
            return _Answer(got.status, {name.lower(): value for name, value in got.headers.items()}, got.content_type, body)


def _evidence(check: Check) -> str:
    said = [f"has {check.json}"] if check.json else []
    said += [f'says "{check.text}"'] if check.text else []
    said += [f"sends the header {check.header}"] if check.header else []
    return f"{check.path} {' and '.join(said) or f'answers {check.status}'}"


# ---------------------------------------------------------------- which server


async def addresses_of(host: str, port: int, *, timeout: float = 2.0) -> tuple[str, ...]:
    """The IP addresses that a host has now, each once; none where it does not resolve within `timeout` seconds."""
    if is_address(host.strip("[]")):  # asked of the resolver it would cost a thread
        return (host.strip("[]"),)
    try:
        async with asyncio.timeout(timeout):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))


async def identity(host: str, port: int, *, timeout: float = 2.0) -> tuple[str, int]:
    """Resolved address and port, the machine's own addresses folded to 127.0.0.1: what two findings of one server share.

    Of several addresses one that is not private goes first, since a name that also leads out is not a private one, and a
    name is the machine's own only if all its addresses are.  A name that does not resolve within `timeout` seconds stands
    for itself, lower case.
    """
    found = await addresses_of(host, port, timeout=timeout)
    return (folded(found) if found else host.lower()), port


def folded(addresses: Sequence[str]) -> str:
    """The one of a host's addresses that stands for it, see `identity`."""
    others = sorted((address for address in addresses if not is_own(address)), key=lambda address: (is_private(address), address))
    return others[0] if others else LOOPBACK


def is_own(address: str) -> bool:
    """Whether an IP address is this machine's."""
    found = parsed(address)
    if found is None or found.is_loopback or found.is_unspecified:
        return found is not None
    # The kernel answers from an own address with that same address.  Binding would say the same, but says it of every
    # address where net.ipv4.ip_nonlocal_bind is set.  A UDP connect sends nothing.
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False


def interfaces() -> tuple[str, ...]:
    """The names of this machine's network interfaces; none where the system does not tell."""
    try:
        return tuple(name for _, name in socket.if_nameindex())
    except (OSError, AttributeError):
        return ()


def is_private(address: str) -> bool:
    """Whether an IP address is loopback, link-local or in a private range (RFC 1918, RFC 4193).  False for what is no IP."""
    found = parsed(address)
    return found is not None and any(found in network for network in _PRIVATE)


def is_address(text: str) -> bool:
    """Whether this is an IP address, and not a name that did not resolve."""
    return parsed(text) is not None


def parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, one that is mapped into IPv6 as what it is; None for what is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
