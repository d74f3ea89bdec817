"""What leaves for a backend: the URL taken apart and the head of the request.  No sockets, no bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5
_URL = re.compile(r"[\x21-\x7e]+")
_OURS = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_ALWAYS_MEASURED = frozenset(("PATCH", "POST", "PUT"))
_MAX_NAMES = 512

_starts: dict[str, str] = {}


class Address(NamedTuple):
    """Whom to connect to.  It prints as `host:port`, which is all of a URL that an error may show."""

    tls: bool
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target(NamedTuple):
    """A method and a URL, ready for use: `opening` is the request line and the Host line."""

    address: Address
    opening: str
    method: str


def target(method: str, url: str) -> Target:
    """Take a URL apart.  Raises ValueError for what cannot be sent; the message shows neither credentials nor query."""
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        raise ValueError(f"{method!r} is no HTTP method that can be sent to a backend")
    if not _URL.fullmatch(url):
        raise ValueError("a URL must be ASCII without spaces and control characters: write others percent-encoded")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL must start with http:// or https:// and a host")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("a URL must carry neither credentials nor a fragment: a key belongs in a header")
    address = _address(parts.scheme, parts.hostname, parts.port)
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    return Target(address, f"{method} {path} HTTP/1.1\r\nhost: {_host(address)}\r\n", method)


def _address(scheme: str, host: str, port: int | None) -> Address:
    tls = scheme == "https"
    return Address(tls, host.replace("%25", "%"), (443 if tls else 80) if port is None else port)


def _host(address: Address) -> str:
    """The Host header: without the default port, and without an IPv6 zone, which means nothing to the peer (RFC 6874)."""
    host = address.host.partition("%")[0]
    text = f"[{host}]" if ":" in host else host
    return text if address.port == (443 if address.tls else 80) else f"{text}:{address.port}"


def render(target: Target, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    """The whole head.  Raises ValueError for a header that HTTP does not allow or that is written here.

    Without an accept-encoding the answer is asked for as it is: nobody behind this room unpacks it.
    """
    parts = [target.opening]
    plain = True
    for name, value in headers:
        start = _starts.get(name) or _start(name)
        if not (value.isascii() and value.isprintable()):
            _check(name, value)
        if start == "accept-encoding: ":
            plain = False
        parts += (start, value, "\r\n")
    if plain:
        parts.append("accept-encoding: identity\r\n")
    if length or target.method in _ALWAYS_MEASURED:
        parts.append(f"content-length: {length}\r\n")
    parts.append("\r\n")
    return "".join(parts).encode("latin-1")


def _start(name: str) -> str:
    """A header line up to its value.  Checked once per name, which takes 2 µs off a head of five: names are few, but clients may choose
    some, hence the bound."""
    lower = name.lower()
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    if lower in _OURS:
        raise ValueError(f"the header {lower!r} is written by the upstream, leave it out")
    if len(_starts) >= _MAX_NAMES:
        _starts.clear()
    start = _starts[name] = f"{lower}: "
    return start


def _check(name: str, value: str) -> None:
    """Raises ValueError without the value, which may be a key."""
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of the header {name!r} has control characters or characters beyond latin-1")
