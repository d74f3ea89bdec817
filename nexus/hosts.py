"""What a `Host` header names, read strictly, and which names nobody else can own.  Who may come in by which is the door's to say."""

from __future__ import annotations

import ipaddress
import re

# RFC 9110 (7.2) and RFC 3986 (3.2.2), without what no client sends: percent-encoded names, zones of addresses, future addresses
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9_.-]{1,254}))(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# Top levels that the public name system will never have (RFC 6761, 6762, 8375; ICANN's reservation of `internal`), or has not (`lan`).
_OWN = (".localhost", ".local", ".internal", ".home.arpa", ".lan")


def host_in(header: str) -> str | None:
    """The name in lower case, without a dot at its end, or the address without brackets; None for what is no host.

    What looks like a number is an address or nothing, as in browsers.
    """
    found = _HOST.fullmatch(header)
    if found is None or int(found["port"] or 0) > 65535:
        return None
    if found["six"] is not None:
        return _address(found["six"]) if ":" in found["six"] else None
    name = found["name"].lower().removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _address(name)
    return name if _NAME.fullmatch(name) else None


def is_address(host: str) -> bool:
    """Whether it is an IP address: no name can be made to point to another one."""
    return _address(host) is not None


def is_own(name: str) -> bool:
    """Whether the name can only be of this machine or its own network: of one word, as containers have them, or under a top level that
    nobody can buy."""
    return "." not in name or name.endswith(_OWN)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
