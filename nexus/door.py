"""Who may come in: origins, hosts, keys.  Checked before a body is read; what lies behind the door is not known here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from nexus.config import KeyConfig, ServerConfig
from nexus.errors import Problem
from nexus.keys import Keyring, key_in

KNOWN_HOSTS = 256
NOT_IN_A_HOST = frozenset("/\\?#@<>\"' \t")
CORS_METHODS = "GET, POST, OPTIONS"
CORS_SECONDS = "600"


class Head(Protocol):
    """What of a request is looked at.  `headers` finds names in lower case (aiohttp's do in any case)."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class Door:
    """The checks of one configuration."""

    def __init__(self, server: ServerConfig, keyring: Keyring) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in server.origins)
        self._hosts = frozenset(host.lower() for host in (*server.hosts, "localhost", server.host))
        self._keyring = keyring
        self._judged: dict[str, bool] = {}

    def check(self, http: Head) -> Mapping[str, str]:
        """The CORS headers for the answer.  Raises Problem (403) for a page or a host that nobody listed: no web page may spend
        somebody's budget, and no foreign name may be made to point here."""
        host = http.headers.get("host", "")
        if host and not self._knows(host):
            raise Problem(403, "host_not_allowed", "this Host is neither an IP address nor localhost: list it in [server] hosts")
        origin = http.headers.get("origin")
        if origin is None:
            return {}
        if origin.lower() not in self._origins and not _same(origin, host):
            raise Problem(403, "origin_not_allowed", "pages of this Origin may not call: list it in [server] origins")
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "*", "Vary": "Origin"}

    def preflight(self, http: Head) -> Mapping[str, str]:
        """What a browser wants to know before it calls."""
        asked = http.headers.get("access-control-request-headers", "")
        return {
            "Access-Control-Allow-Methods": CORS_METHODS,
            "Access-Control-Max-Age": CORS_SECONDS,
            **({"Access-Control-Allow-Headers": asked} if asked.isprintable() and asked else {}),
        }

    def key(self, http: Head) -> KeyConfig | None:
        """Whose key came with the request; None where no keys are configured.  Raises Problem (401)."""
        if not self._keyring:
            return None
        text = key_in(http.headers)
        key = self._keyring.find(text)
        if key is None:
            said = (
                "this key is not known"
                if text
                else "a key is needed: send it as Authorization: Bearer, x-api-key or x-goog-api-key"
            )
            raise Problem(401, "invalid_key", f"{said}; `nexus keys new` makes one")
        return key

    def admin(self, http: Head) -> None:
        """Raises Problem (401, 403) unless the key is an admin's, or no keys are configured."""
        key = self.key(http)
        if key is not None and not key.admin:
            raise Problem(403, "admin_only", f"the key {key.name!r} is no admin key")

    def _knows(self, host: str) -> bool:
        known = self._judged.get(host)
        if known is None:
            if len(self._judged) >= KNOWN_HOSTS:
                self._judged.clear()
            known = self._judged[host] = self._judge(host)
        return known

    def _judge(self, host: str) -> bool:
        if not NOT_IN_A_HOST.isdisjoint(host):  # `urlsplit` would cut there, and others elsewhere
            return False
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same(origin: str, host: str) -> bool:
    """Whether a page of this origin was served from here."""
    try:
        return bool(host) and urlsplit(origin.lower()).netloc == host.lower()
    except ValueError:
        return False
