"""Who has the port that we are to listen on: nobody, another Nexus, or something else.  Blocking; asked once, before anything starts."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket

import msgspec

ANSWER_SECONDS = 1.0
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is asked, and not what is bound


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What listens there already."""

    url: str
    is_nexus: bool


def holder_of(host: str, port: int) -> Holder | None:
    """What keeps us from listening on the port; None where nothing does, or where it is not for somebody else's sake."""
    if port == 0 or not _is_taken(host, port):
        return None
    reached = _ANYWHERE.get(host, host)
    return Holder(
        url=f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}", is_nexus=_is_nexus(reached, port)
    )


def _is_taken(host: str, port: int) -> bool:
    try:
        name = host.encode() if host.isascii() else host  # the codec for other names is loaded for those alone
        found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # as asyncio does: elsewhere it would take the port from whoever has it
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(where)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _is_nexus(host: str, port: int) -> bool:
    """Whether its health page is ours."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        said = json.loads(connection.getresponse().read(65536))
        return "unknown" in said["backends"] and "uptime_seconds" in said
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError, RecursionError):
        return False
    finally:
        connection.close()
