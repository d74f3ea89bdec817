"""Open a connection, and say in one code what went wrong if that fails.  Nothing is written here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence

from nexus.descriptors import is_shortage
from nexus.errors import BackendError, Shortage
from nexus.plain import rounded
from nexus.upstream.connection import Connection
from nexus.upstream.request import Address


async def dial(
    make: Callable[[], Connection],
    address: Address,
    context: ssl.SSLContext | None,
    timeout: float,
    judge: Callable[[Sequence[str]], None] = lambda hosts: None,
) -> Connection:
    """A connection to the first address that takes one.  `judge` sees all that the name has before any is connected to, and only those
    are; what it raises ends the attempt.

    Raises BackendError: `connect_refused`, `connect_timeout` (`timeout` is in seconds and holds for names, connecting and
    TLS together), `tls_failed`, `connect_failed`; Shortage where this machine has nothing left to connect with.
    """
    try:
        async with asyncio.timeout(timeout):
            hosts = await _hosts(address)
            judge(hosts)
            return await _first(make, address, hosts, context)
    except TimeoutError:
        raise BackendError("connect_timeout", f"{address} took no connection within {rounded(timeout)} s") from None
    except ssl.SSLError as error:
        raise BackendError("tls_failed", f"{address}: {_reason(error)}") from None
    except ConnectionRefusedError:
        raise BackendError("connect_refused", f"{address} refused the connection") from None
    except OSError as error:
        if is_shortage(error):
            raise Shortage(_reason(error)) from None
        hangup = isinstance(error, ConnectionError) and address.tls
        raise BackendError("tls_failed" if hangup else "connect_failed", f"{address}: {_reason(error)}") from None


async def _first(
    make: Callable[[], Connection], address: Address, hosts: Sequence[str], context: ssl.SSLContext | None
) -> Connection:
    """One after the other, and not asyncio's own way: there, `refused` by ::1 and 127.0.0.1 is an error without a number."""
    loop = asyncio.get_running_loop()
    problem: OSError = OSError("the name has no address")
    for host in hosts:
        try:
            _, connection = await loop.create_connection(
                make, host, address.port, ssl=context, server_hostname=address.host if context else None
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            problem = error
        else:
            return connection
    raise problem


async def _hosts(address: Address) -> Sequence[str]:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    return (address.host,)


def _reason(error: OSError) -> str:
    """The operating system's or the TLS library's own sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
