"""What holds for all of the project's own tests, and the real llama.cpp server.  What plugin authors need too is in `nexus.testing`."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from nexus import catalog

from .llamacpp.process import LlamaCpp, make_model

NETWORK, SERVERS, BENCH = "--network", "--servers", "--bench"
# What somebody has set for gateways, clients and terminals of their own is nothing to the tests, nor to the processes that they start.
OURS = {"NEXUS_OLLAMA", "NEXUS_LLAMA_SERVER"}  # where real servers are, for `make servers`
OF_THE_TESTER = ("NEXUS_", "XDG_", "OPENAI_", "ANTHROPIC_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM_PROGRAM")
# A machine that is busy with other things fails nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
ELSEWHERE = tempfile.TemporaryDirectory(prefix="nexus-tests-")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(NETWORK, action="store_true", help="run the tests that ask a package index, too")
    parser.addoption(SERVERS, action="store_true", help="run those with the real servers that this machine has (make servers), too")
    parser.addoption(BENCH, action="store_true", help="run those of the benchmark scripts (make bench-smoke), too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """For `-n auto`: more than there are cores, since for a third of its time a test waits for a socket or a clock."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores + (cores + 1) // 2


def pytest_configure() -> None:
    for name in set(os.environ) - OURS:
        if name.startswith(OF_THE_TESTER) or name.lower().endswith("_proxy"):
            del os.environ[name]
    remember_what_is_installed()


def remember_what_is_installed() -> None:
    """The tests start thousands of gateways, and what is installed beside them stays the same as long as `sys.path` does."""
    found, known, look, describe = {}, {}, catalog._entry_points, catalog._installed

    def entry_points() -> list[EntryPoint]:
        path = tuple(sys.path)
        return found[path] if path in found else found.setdefault(path, look())

    def installed(point: EntryPoint) -> catalog.Package:
        return known[id(point)][1] if id(point) in known else known.setdefault(id(point), (point, describe(point)))[1]

    catalog._entry_points, catalog._installed = entry_points, installed


def pytest_sessionstart(session: pytest.Session) -> None:
    """No test depends on where it is started: the working directory has a nexus.toml that fails whoever reads it."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("dist", "no") != "no":
        return  # xdist's controller, which runs no tests, and whose workers read its configuration where it stands
    Path(ELSEWHERE.name, "nexus.toml").write_text("a test has read the nexus.toml of its working directory")
    os.chdir(ELSEWHERE.name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    os.chdir(session.config.invocation_params.dir)
    ELSEWHERE.cleanup()


def pytest_collection_finish() -> None:
    """What was imported stays: a collection by a test need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The suite passes without a network, and its last lines say what was left out."""
    for mark, option, why in (
        ("network", NETWORK, "asks a package index"),
        ("servers", SERVERS, "takes a real server"),
        ("bench", BENCH, "runs a benchmark script (make bench-smoke)"),
    ):
        for item in items if not config.getoption(option) else ():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"{why}: run it with {option}"))


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
