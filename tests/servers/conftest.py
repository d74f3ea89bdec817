"""Real servers as fixtures.  Their tests run by `make servers`; a server that the machine does not have is skipped by name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..llamacpp.process import make_model  # noqa: TID252 - the tests are no package that could be named
from .programs import Running, free_port, program

MODELS = {"tiny-a": "--seed=1", "tiny-b": "--seed=2"}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two models, and one file that is none."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in MODELS.items():
        make_model(folder / f"{name}.gguf", seed, "--endless")
    (folder / "broken.gguf").write_bytes(b"GGUF, but for what follows" * 100)
    return folder


@pytest.fixture
def llama_router(models: Path, tmp_path: Path) -> Iterator[Running]:
    """llama.cpp's own server in router mode, with room for one model at a time."""
    found = program("llama-server", "NEXUS_LLAMA_SERVER")
    if found is None:
        pytest.skip("this machine has no llama-server (NEXUS_LLAMA_SERVER can name one)")
    port = free_port()
    options = ["--models-dir", str(models), "--models-max", "1", "--ctx-size", "4096", "--parallel", "2", "--threads", "1"]
    server = Running([found, "--host", "127.0.0.1", "--port", str(port), *options], port, "/health", tmp_path, {})
    yield from _until_done(server)


@pytest.fixture
def ollama(models: Path, tmp_path: Path) -> Iterator[Running]:
    """Ollama with the two models, each of which it serves one request at a time."""
    found = program("ollama", "NEXUS_OLLAMA")
    if found is None:
        pytest.skip("this machine has no ollama (NEXUS_OLLAMA can name one)")
    port = free_port()
    variables = {
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_MAX_LOADED_MODELS": "2",
    }
    server = Running([found, "serve"], port, "/api/version", tmp_path, variables)
    try:
        server.wait()
        for name in MODELS:
            (tmp_path / "Modelfile").write_text(f"FROM {models / name}.gguf\n")
            made = subprocess.run(
                [found, "create", name, "-f", str(tmp_path / "Modelfile")],
                env={"HOME": str(tmp_path), **variables},
                capture_output=True,
                text=True,
                check=False,
            )
            assert made.returncode == 0, made.stderr
    except BaseException:
        server.close()
        raise
    yield from _until_done(server)


def _until_done(server: Running) -> Iterator[Running]:
    try:
        server.wait()
        yield server
    finally:
        server.close()
