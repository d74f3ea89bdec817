"""Who may come in: origins, hosts, keys.  Checked before a body is read; what lies behind the door is not known here."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from nexus.config import KeyConfig, ServerConfig
from nexus.errors import Problem
from nexus.hosts import host_in, is_address, is_own
from nexus.keys import Keyring, key_in

KNOWN_HOSTS = 256
LONGEST_SHOWN = 100
CORS_METHODS = "GET, POST, OPTIONS"
CORS_SECONDS = "600"


class Head(Protocol):
    """What of a request is looked at.  `headers` finds names in lower case (aiohttp's do in any case)."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class Door:
    """The checks of one configuration.  `hosts` says whether `Host` is judged; an application that embeds Nexus has its own names."""

    def __init__(self, server: ServerConfig, keyring: Keyring, *, hosts: bool = True) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in server.origins)
        self._listed = server.hosts
        own = (server.host, "localhost", socket.gethostname())
        self._hosts = frozenset(host.lower().removesuffix(".") for host in (*server.hosts, *own))
        self._judges = hosts
        self._keyring = keyring
        self._keyed = bool(keyring)
        self._judged: dict[str, bool] = {}

    def check(self, http: Head) -> Mapping[str, str]:
        """The CORS headers for the answer.  Raises Problem (403) for a page of an origin that nobody listed: no web page may spend
        somebody's budget."""
        origin = http.headers.get("origin")
        if origin is None:
            return {}
        if origin.lower() not in self._origins and not _same(origin, http.headers.get("host", "")):
            raise Problem(403, "origin_not_allowed", "pages of this Origin may not call: list it in [server] origins")
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "*", "Vary": "Origin"}

    def host(self, http: Head) -> None:
        """Raises Problem (403) for a name that may be somebody else's.

        A page can have its own name made to point here, and is then of our origin to its browser (DNS rebinding).  Where a key is needed
        it has none, and is no danger.
        """
        host = http.headers.get("host", "")
        if host and self._judges and not self._knows(host):
            raise self._foreign(host)

    def _foreign(self, host: str) -> Problem:
        name = host_in(host)
        if name is None:
            return Problem(403, "host_not_allowed", f"the Host {host[:LONGEST_SHOWN]!r} is no host name")
        line = json.dumps([*self._listed, name])
        return Problem(
            403, "host_not_allowed", f"{name} may be a name of somebody else: to accept it, write `hosts = {line}` under [server]"
        )

    def preflight(self, http: Head) -> Mapping[str, str]:
        """What a browser wants to know before it calls."""
        asked = http.headers.get("access-control-request-headers", "")
        return {
            "Access-Control-Allow-Methods": CORS_METHODS,
            "Access-Control-Max-Age": CORS_SECONDS,
            **({"Access-Control-Allow-Headers": asked} if asked.isprintable() and asked else {}),
        }

    def key(self, http: Head) -> KeyConfig | None:
        """Whose key came with the request; None where no keys are configured.  Raises Problem: 401, or 403 where no key is needed and
        the `Host` may be somebody else's."""
        if not self._keyed:
            if not self._judged.get(http.headers.get("host", "")):  # who was let in by this name comes in by it again
                self.host(http)
            return None
        text = key_in(http.headers)
        key = self._keyring.find(text)
        if key is None:
            said = (
                "this key is not known"
                if text
                else "a key is needed: send it as Authorization: Bearer, x-api-key, api-key or x-goog-api-key"
            )
            raise Problem(401, "invalid_key", f"{said}; `nexus keys new` makes one")
        return key

    def admin(self, http: Head) -> None:
        """Raises Problem (401, 403) unless the key is an admin's, or no keys are configured."""
        key = self.key(http)
        if key is not None and not key.admin:
            raise Problem(403, "admin_only", f"the key {key.name!r} is no admin key")

    def is_admin(self, http: Head) -> bool:
        """Whether `admin` lets it in."""
        try:
            self.admin(http)
        except Problem:
            return False
        return True

    def _knows(self, host: str) -> bool:
        known = self._judged.get(host)
        if known is None:
            if len(self._judged) >= KNOWN_HOSTS:
                self._judged.clear()
            known = self._judged[host] = self._judge(host)
        return known

    def _judge(self, host: str) -> bool:
        name = host_in(host)
        return name is not None and (name in self._hosts or is_address(name) or is_own(name))


def _same(origin: str, host: str) -> bool:
    """Whether a page of this origin was served from here."""
    try:
        return bool(host) and urlsplit(origin.lower()).netloc == host.lower()
    except ValueError:
        return False
