"""The pytest plugin that installing Nexus brings.  Fixtures only: servers, builders and contracts live beside it.

Imports of the gateway are made inside the fixtures, since pytest loads this module for every test run in an environment
that has Nexus.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

if TYPE_CHECKING:
    from aioresponses import aioresponses


@pytest.fixture
def aioresponses_fixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """`aioresponses`, also with an aiohttp whose responses want a `stream_writer` that aioresponses does not pass.

    A patched client is the exception: prefer a server on a real socket (`upstream`).
    """
    import aiohttp
    from aioresponses import aioresponses, core

    class Response(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("stream_writer", Mock())
            super().__init__(*args, **kwargs)

    if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        monkeypatch.setattr(core, "ClientResponse", Response)
    with aioresponses() as patched:
        yield patched
