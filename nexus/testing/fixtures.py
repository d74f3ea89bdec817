"""The pytest plugin that installing Nexus brings.  Servers, builders, contracts and what needs an event loop live beside it.

pytest loads this module in every environment that has Nexus, for tests that have nothing to do with it too: it must not need
what such an environment may lack, and imports nothing heavy.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

if TYPE_CHECKING:
    from aioresponses import aioresponses

pytest.register_assert_rewrite("nexus.testing.contracts")


def pytest_configure(config: pytest.Config) -> None:
    """`upstream` and `nexus_gateway`, where pytest-asyncio can run them."""
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(importlib.import_module("nexus.testing.async_fixtures"), "nexus-async")


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
