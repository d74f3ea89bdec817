"""What people install: the wheels of the core and of every plugin, built here, then serving from an environment that held nothing."""

from __future__ import annotations

import asyncio
import email
import email.message
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import attrs
import pytest

from nexus import __version__
from nexus.testing import openai_server, until

from .environments import Environment, empty

ROOT = Path(__file__).parent.parent
WORDS = tuple(sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))
DIRECTORIES = {"nexus-proxy": ROOT, **{f"nexus-proxy-{word}": ROOT / "plugins" / word for word in WORDS}}
NAMES = tuple(DIRECTORIES)
pytestmark = pytest.mark.xdist_group("packaging")  # where tests run side by side, one worker builds for all of these
CONFIG = """
[server]
port = 0
state_dir = "{state}"
[discovery]
sources = []
[[backends]]
name = "scripted"
type = "openai-compatible"
url = "{url}"
"""


@attrs.frozen
class Wheel:
    """A built wheel, opened."""

    path: Path
    files: frozenset[str]
    metadata: email.message.Message
    entry_points: str
    licence: bytes

    @property
    def requires(self) -> list[str]:
        return self.metadata.get_all("Requires-Dist") or []


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with sdist and wheel of every package, the wheels built from the sdists."""
    out = tmp_path_factory.mktemp("dist")
    for directory in DIRECTORIES.values():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def wheels(built: Path) -> Mapping[str, Wheel]:
    """Every wheel by the name of its distribution."""
    opened = [_opened(path) for path in built.glob("*.whl")]
    return {wheel.metadata["Name"]: wheel for wheel in opened}


def _opened(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as archive:
        files = frozenset(archive.namelist())

        def text(ending: str) -> bytes:
            return b"".join(archive.read(name) for name in files if name.endswith(ending))

        metadata = email.message_from_bytes(text(".dist-info/METADATA"))
        return Wheel(path, files, metadata, text(".dist-info/entry_points.txt").decode(), text(".dist-info/licenses/LICENSE"))


# ---------------------------------------------------------------- what is in them


def test_there_is_one_wheel_and_one_sdist_for_every_package(built: Path, wheels: Mapping[str, Wheel]) -> None:
    assert set(wheels) == set(NAMES)
    assert sorted(path.name for path in built.glob("*.tar.gz")) == sorted(
        f"{name.replace('-', '_')}-{__version__}.tar.gz" for name in NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_wheel_says_the_same_of_itself(wheels: Mapping[str, Wheel], name: str) -> None:
    metadata = wheels[name].metadata
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Summary"]
    assert wheels[name].licence == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_its_own_typed_package_and_nothing_else(wheels: Mapping[str, Wheel], name: str) -> None:
    package = name.removeprefix("nexus-proxy").replace("-", "_")
    files = wheels[name].files
    assert f"nexus{package}/py.typed" in files
    assert {file.partition("/")[0] for file in files if ".dist-info/" not in file} == {f"nexus{package}"}
    assert not [file for file in files if "__pycache__" in file or "/tests/" in file]
    source = DIRECTORIES[name] / ("src" if package else "") / f"nexus{package}"
    assert {str(path.relative_to(source.parent)) for path in source.rglob("*.py")} <= files


@pytest.mark.parametrize("word", WORDS)
def test_a_plugin_is_found_by_its_entry_point(wheels: Mapping[str, Wheel], word: str) -> None:
    wheel = wheels[f"nexus-proxy-{word}"]
    assert wheel.entry_points.split() == ["[nexus.plugins]", word, "=", f"nexus_{word}"]
    assert any(_name(requirement) == "nexus-proxy" for requirement in wheel.requires)


def test_the_core_brings_its_command_and_its_pytest_plugin(wheels: Mapping[str, Wheel]) -> None:
    assert wheels["nexus-proxy"].entry_points.splitlines()[:2] == ["[console_scripts]", "nexus = nexus.cli:main"]
    assert "nexus = nexus.testing.fixtures" in wheels["nexus-proxy"].entry_points


def test_standard_means_every_plugin_of_this_repository_that_the_core_does_not_need(wheels: Mapping[str, Wheel]) -> None:
    requires = wheels["nexus-proxy"].requires
    standard = {_name(requirement) for requirement in requires if "extra == 'standard'" in requirement}
    assert standard == {f"nexus-proxy-{word}" for word in WORDS if word != "stages"}
    assert "nexus-proxy-stages" in {_name(requirement) for requirement in requires if "extra ==" not in requirement}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_imported_is_required(name: str) -> None:
    """Every requirement is one that the code of the package imports: nobody downloads what nobody uses."""
    requirements = tomllib.loads((DIRECTORIES[name] / "pyproject.toml").read_text())["project"]["dependencies"]
    source = DIRECTORIES[name] / ("nexus" if name == "nexus-proxy" else "src")
    code = "\n".join(path.read_text() for path in source.rglob("*.py"))
    for module in (_name(r).replace("-", "_") for r in requirements):
        spelt = "attrs?" if module == "attrs" else module.replace("nexus_proxy_", "nexus_").replace("nexus_proxy", "nexus")
        if spelt != "nexus_stages":  # found by its entry point, never imported
            assert re.search(rf"^\s*(from|import) {spelt}\b", code, re.MULTILINE), f"{name} requires {module} but never imports it"


@pytest.mark.parametrize("name", NAMES)
def test_an_sdist_holds_its_package_and_nothing_else(built: Path, name: str) -> None:
    with tarfile.open(built / f"{name.replace('-', '_')}-{__version__}.tar.gz") as archive:
        inside = {path.split("/")[1] for path in archive.getnames()} - {".gitignore"}  # hatchling adds it where there is one
    code = {"nexus", "CHANGELOG.md"} if name == "nexus-proxy" else {"src"}
    assert inside == code | {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO"}


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found[0]


# ---------------------------------------------------------------- what they do


@pytest.mark.network
async def test_the_gateway_serves_from_wheels(wheels: Mapping[str, Wheel], tmp_path: Path) -> None:
    environment = empty(tmp_path / "venv")
    await asyncio.to_thread(environment.install, *(str(wheel.path) for wheel in wheels.values()))
    _check_where_it_comes_from(environment, tmp_path)
    async with openai_server(["tiny"], text="served from a wheel") as upstream:
        config = tmp_path / "nexus.toml"
        config.write_text(CONFIG.format(state=tmp_path / "state", url=upstream.url))
        async with _serving(environment, config) as url, aiohttp.ClientSession(url) as client:
            body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
            async with client.post("/v1/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                assert (await answer.json())["choices"][0]["message"]["content"] == "served from a wheel"
                assert answer.headers["X-Nexus-Backend"] == "scripted"
            async with client.get("/metrics") as metrics:
                assert 'nexus_requests_total{backend="scripted",model="tiny",status="200"} 1.0' in await metrics.text()
        assert upstream.calls("/v1/chat/completions")


def _check_where_it_comes_from(environment: Environment, directory: Path) -> None:
    """Everything is the environment's own, and every plugin is well."""
    script = """
import json, pathlib, sys, nexus
from nexus.catalog import Catalog
print(json.dumps([nexus.__file__, sys.prefix, [[p.distribution, p.problem] for p in Catalog.load().packages if p.distribution]]))
"""
    command = [environment.python, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=directory, env=environment.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, prefix, packages = json.loads(done.stdout)
    assert Path(file).is_relative_to(environment.packages)
    assert Path(prefix) == environment.root
    assert sorted(packages) == [[f"nexus-proxy-{word}", None] for word in WORDS]


@asynccontextmanager
async def _serving(environment: Environment, config: Path) -> AsyncIterator[str]:
    """`python -m nexus serve` of that environment; the URL it says it listens on."""
    log = config.with_suffix(".log")
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(environment.python, "-m", "nexus", "serve", "-c", str(config)),
            cwd=config.parent,
            env=environment.variables(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        await until(lambda: process.returncode is not None or _address(log), 60)
        url = _address(log)
        assert url, f"it did not start:\n{log.read_text()}"
        yield url
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _address(log: Path) -> str | None:
    found = re.search(r"listening on (http://[\d.:]+)", log.read_text(errors="replace"))
    return found[1] if found else None
