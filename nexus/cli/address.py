"""Where the gateway is that a command asks: what was said, else what the configuration says, else the usual address."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:6398"
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # of documentation (RFC 5737, 3849): nobody has them
VARIABLES = ("NEXUS_SERVER_HOST", "NEXUS_SERVER_PORT")


def configured(env: Mapping[str, str]) -> str:
    """The address that a gateway started here would listen on.  A configuration that cannot be read says nothing of it."""
    file = Path(env.get("NEXUS_CONFIG") or "nexus.toml")
    if not file.is_file() and not any(env.get(name) for name in VARIABLES):
        return DEFAULT_URL

    from nexus.config import read
    from nexus.errors import ConfigError

    try:
        server = read(file if file.is_file() else {}, env=env).raw.get("server")
    except ConfigError:
        return DEFAULT_URL
    return _url(server) if isinstance(server, Mapping) else DEFAULT_URL


def _url(server: Mapping[str, Any]) -> str:
    """Port 0 is one that nobody knows beforehand."""
    host, port = server.get("host", "127.0.0.1"), server.get("port", 6398)
    if not isinstance(host, str) or type(port) is not int or not 0 < port <= 65535:
        return DEFAULT_URL
    return f"http://{reachable(host)}:{port}"


def reachable(host: str) -> str:
    """The host as a client on this machine writes it in a URL."""
    if host in ANYWHERE:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def lan_url(url: str) -> str | None:
    """How other machines write the address of a gateway that listens on all of this one's; None for any other.

    It is the address that this machine leaves by.  Asking the kernel for it sends nothing; without a route there is none.
    """
    parts = urlsplit(url)
    if parts.hostname not in ANYWHERE:
        return None
    for family in (socket.AF_INET, *([socket.AF_INET6] if parts.hostname == "::" else [])):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asking:
                asking.connect((ELSEWHERE[family], 9))
                return f"{parts.scheme}://{reachable(asking.getsockname()[0])}:{parts.port}"
        except OSError:
            continue
    return None
