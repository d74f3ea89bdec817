"""Fixtures of the project's own tests: the real llama.cpp server.  What plugin authors need too is in `nexus.testing`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from .llamacpp.process import LlamaCpp, make_model


class StartLlamaCpp(Protocol):
    """The type of the fixture `llamacpp`."""

    def __call__(
        self, *, port: int = 0, embedding: bool = False, api_key: str | None = None, ctx: int = 8192, parallel: int = 2
    ) -> LlamaCpp: ...


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's file, made once for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny.gguf"
    if not path.exists():
        make_model(path)
    return path


@pytest.fixture
def llamacpp(tiny_model: Path, tmp_path: Path) -> Iterator[StartLlamaCpp]:
    """Starts real llama.cpp servers: `server = llamacpp()`; all are gone after the test.  The model's name is `server.model`."""
    servers: list[LlamaCpp] = []

    def start(
        *, port: int = 0, embedding: bool = False, api_key: str | None = None, ctx: int = 8192, parallel: int = 2
    ) -> LlamaCpp:
        arguments = ["--ctx", str(ctx), "--parallel", str(parallel)]
        arguments += ["--embedding"] * embedding + ["--api-key", api_key or ""]
        server = LlamaCpp(tiny_model, tmp_path / f"llamacpp-{len(servers)}.log", arguments, port)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()
