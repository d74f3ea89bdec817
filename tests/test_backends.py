"""What a probe that fails says to people: sentences of our own, whatever the connection broke off with."""

import errno
import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from nexus.api import Server
from nexus.backends import HTTPBackend

URL = "http://box:1234"
REFUSED = f"refused the connection at {URL}"


class Plain(HTTPBackend):
    async def look(self):
        return await self.get_json("/v1/models")


def a_backend(error: Exception) -> Plain:
    """Whose connections all end so."""

    def request(*args, **kw):
        raise error

    session = SimpleNamespace(request=request)
    return Plain(Server(name="box", url=URL + "/v1"), SimpleNamespace(session=lambda: session))


def unconnected(error: OSError) -> Exception:
    return aiohttp.ClientConnectorError(SimpleNamespace(host="box", port=1234, ssl=True, is_ssl=False), error)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1234)"), REFUSED),
        (OSError(errno.ECONNRESET, "Connect call failed ('127.0.0.1', 1234)"), REFUSED),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1234), [Errno 104] Connect call failed"), REFUSED),
        (OSError(errno.EHOSTUNREACH, "Connect call failed"), f"cannot be used at {URL}: connecting failed: no route to host"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 113] Connect call failed"),
            f"cannot be used at {URL}: connecting failed: connection refused, no route to host",
        ),
        (OSError("odd"), f"cannot be used at {URL}: connecting failed: OSError"),
        (ssl.SSLError("odd"), f"cannot be used at {URL}: connecting failed: SSLError"),
    ],
)
async def test_why_there_is_no_connection(error, problem):
    report = await a_backend(unconnected(error)).probe()
    assert (report.ok, report.code, report.problem) == (False, "unreachable", problem)


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), ConnectionResetError(104, "reset"), BrokenPipeError()])
async def test_a_connection_that_is_closed_without_an_answer(error):
    report = await a_backend(error).probe()
    assert report.problem == f"cannot be used at {URL}: it closed the connection before it answered"
