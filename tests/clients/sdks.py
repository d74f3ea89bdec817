"""Clients that are libraries: a small program for each in `programs/`, which does a scenario and tells of it in lines of JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from . import packages
from .processes import Ended, Running, running, until
from .scenarios import ABORT, ERROR, NOBODY, PLAIN, SLOW, STREAM, TOOLS, Client, model_of
from .world import NATIVE, NOTE, SAYS, TRANSLATED, World

PROGRAMS = Path(__file__).parent / "programs"
CALL = {"name": "read_note", "arguments": {"name": NOTE}}


class Library(Client):
    """A library, driven by one of the programs; `variant` is the program's second argument."""

    call = CALL

    def __init__(self, name: str, page: str, dialect: str, program: str, *, variant: str = "", set: str | None = None) -> None:
        self.name, self.page, self.dialect = name, page, dialect
        self.ways = (NATIVE, TRANSLATED) if dialect == "anthropic" else (NATIVE,)
        self._program, self._variant, self._set = program, variant, set
        self._javascript = program.endswith(".mjs")

    def install(self) -> None:
        if self._set:
            (packages.npm if self._javascript else packages.venv)(self._set)

    def start(self, world: World, scenario: str) -> AbstractContextManager[Running]:
        env = {**world.variables(self.page), "NEXUS_URL": world.url, "MODEL": model_of(scenario), "PYTHONUNBUFFERED": "1"}
        does = STREAM if scenario in SLOW else scenario
        return running([*self._command(world), does, self._variant], world.folder, env)

    def _command(self, world: World) -> list[str]:
        if self._set and self._javascript:
            return ["node", str(self._beside_modules(world.folder))]
        python = str(packages.venv(self._set) / "bin" / "python") if self._set else sys.executable
        return [python, str(PROGRAMS / self._program)]

    def _beside_modules(self, folder: Path) -> Path:
        """Node looks for packages where the program lies."""
        modules = folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(packages.npm(self._set or "") / "node_modules")
            for program in PROGRAMS.glob("*.mjs"):
                shutil.copy(program, folder)
        return folder / self._program

    def _told(self, world: World, scenario: str) -> Any:
        with self.start(world, scenario) as program:
            return _read(program.ended())

    def plain(self, world: World) -> None:
        told = self._told(world, PLAIN)
        assert told["text"].strip() == SAYS, told

    def stream(self, world: World) -> None:
        with self.start(world, STREAM) as program:
            self.says(program.ended())

    def says(self, ended: Ended) -> None:
        told = _read(ended)
        assert told["text"].strip() == SAYS, told
        assert told["pieces"] > 1, "the answer came in one piece"

    def gave_up(self, ended: Ended) -> None:
        """It raises, with the gateway's sentence."""
        assert NOBODY in ended.all, f"it said: {ended.all[-400:]}"
        assert ended.code != 0, f"exit code 0 after {ended.all[-400:]}"

    def tools(self, world: World) -> None:
        told = self._told(world, TOOLS)
        assert told["called"] == CALL, told
        assert told["text"].strip() == SAYS, told

    def error(self, world: World) -> None:
        told = self._told(world, ERROR)
        assert told["status"] == 404, told
        assert model_of(ERROR) in told["message"], told

    def abort(self, world: World) -> None:
        """The program stops reading, and goes on living: its end is not what closes the connection."""
        ended = len(world.stories())
        with self.start(world, ABORT) as program:
            until(lambda: "left" in program.out or program.over, "a first piece, and an abort")
            assert not program.over, program.ended().all[-400:]
            self.left(world, ended)
            assert not program.over, "it did not live to see it"


def _read(ended: Ended) -> Any:
    """What a program tells in its last line."""
    assert ended.code == 0, f"exit code {ended.code}: {ended.all[-400:]}"
    return json.loads(ended.out.splitlines()[-1])


def libraries() -> list[Client]:
    """All of them: first those of the dialects' owners, which CI drives too."""
    make: Callable[..., Client] = Library
    return [
        make("openai-python", "openai-python", "openai", "openai_sdk.py"),
        make("anthropic-python", "anthropic-python", "anthropic", "anthropic_sdk.py"),
        make("openai-js", "openai-js", "openai", "openai_sdk.mjs", set="js"),
        make("anthropic-js", "anthropic-js", "anthropic", "anthropic_sdk.mjs", set="js"),
        make("ai-sdk compatible", "ai-sdk", "openai", "ai_sdk.mjs", variant="compatible", set="js"),
        make("ai-sdk openai", "ai-sdk", "openai", "ai_sdk.mjs", variant="openai", set="js"),
        make("ai-sdk anthropic", "ai-sdk", "anthropic", "ai_sdk.mjs", variant="anthropic", set="js"),
        make("langchain openai", "langchain", "openai", "langchain_chat.py", variant="openai", set="langchain"),
        make("langchain anthropic", "langchain", "anthropic", "langchain_chat.py", variant="anthropic", set="langchain"),
    ]
