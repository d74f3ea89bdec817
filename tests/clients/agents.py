"""Clients that are programs of their own: agents for the terminal, and `llm`.  They are set up by what `nexus clients` tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from . import packages
from .processes import Ended, Running, running, until
from .scenarios import ABORT, ERROR, LOST, NOBODY, PLAIN, STREAM, TOOLS, WAITING, Client, model_of
from .sitting import converse
from .slow import SlowWorld
from .terminal import terminal
from .world import ASK, MISSING, NATIVE, NOTE, SAYS, TRANSLATED, World

ALWAYS_STREAMS = "it streams always"


class Program(Client):
    """A program that is given a prompt, answers on stdout, and ends."""

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        raise NotImplementedError

    def variables(self, world: World, scenario: str) -> Mapping[str, str]:
        """What `nexus clients` tells to set, and what keeps the client quiet."""
        return world.variables(self.page, model_of(scenario))

    def write_files(self, world: World, scenario: str) -> None:
        world.write_files(self.page, model_of(scenario))

    def start(self, world: World, scenario: str) -> AbstractContextManager[Running]:
        self.write_files(world, scenario)
        prompt = ASK if scenario == TOOLS else "say hello"
        return running(self.command(world, scenario, prompt), world.folder, self.variables(world, scenario))

    def _ended(self, world: World, scenario: str) -> Ended:
        with self.start(world, scenario) as program:
            return program.ended()

    def _says(self, world: World, scenario: str) -> Ended:
        ended = self._ended(world, scenario)
        self.says(ended)
        return ended

    def says(self, ended: Ended) -> None:
        assert ended.code == 0, f"exit code {ended.code}: {ended.all[-400:]}"
        assert SAYS in ended.out, f"it said: {ended.all[-400:]}"
        assert "keep-alive" not in ended.all, f"it said: {ended.all[-400:]}"

    def gave_up(self, ended: Ended) -> None:
        """It says why, and ends as what has failed."""
        assert NOBODY in ended.all, f"it said: {ended.all[-400:]}"
        assert SAYS not in ended.all
        assert self.failed(ended), f"exit code {ended.code} after {ended.all[-400:]}"

    def plain(self, world: World) -> None:
        self._says(world, PLAIN)

    def stream(self, world: World) -> None:
        self._says(world, STREAM)

    def tools(self, world: World) -> None:
        self._says(world, TOOLS)

    def error(self, world: World) -> None:
        """It says which model there is not, in the gateway's words or in its own."""
        ended = self._ended(world, ERROR)
        assert MISSING in ended.all, f"it said: {ended.all[-400:]}"
        assert SAYS not in ended.all
        assert self.failed(ended), f"exit code {ended.code} after {ended.all[-400:]}"

    def failed(self, ended: Ended) -> bool:
        """Whether it ended as what has failed."""
        return ended.code != 0

    def abort(self, world: World) -> None:
        """Ctrl-C, as soon as the server is at work."""
        ended = len(world.stories())
        with self.start(world, ABORT) as program:
            until(lambda: world.in_flight or program.over, "a request")
            assert not program.over, program.ended().all[-400:]
            program.interrupt()
            self.left(world, ended)


class ClaudeCode(Program):
    """Its model is named by a variable in one scenario; in the others two variables, the names it asks for behind aliases, and no more."""

    has_terminal = True
    name = page = "claude-code"
    dialect = "anthropic"
    ways = (NATIVE, TRANSLATED)
    call = MappingProxyType({"name": "Read", "arguments": {"file_path": NOTE}})

    def install(self) -> None:
        packages.npm("claude-code")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        claude = str(packages.npm("claude-code") / "node_modules" / ".bin" / "claude")
        model = ["--model", model_of(scenario)] if scenario in (ERROR, ABORT, LOST) else []
        pieces = ["--output-format", "stream-json", "--include-partial-messages", "--verbose"] if scenario == STREAM else []
        return [claude, "-p", prompt, *model, *pieces]

    def variables(self, world: World, scenario: str) -> Mapping[str, str]:
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        # By itself it asks for minutes before it says that nobody answers.
        brief = {"CLAUDE_CODE_MAX_RETRIES": "0"} if scenario == LOST else {}
        told = {**super().variables(world, scenario), **quiet, **brief}
        return told if scenario == PLAIN else _by_alias(told)

    def interactive(self, world: SlowWorld) -> None:
        command = [str(packages.npm("claude-code") / "node_modules" / ".bin" / "claude"), "--permission-mode", "manual"]
        with terminal(command, world.folder, _by_alias(world.variables(self.page))) as seat:
            converse(seat, world)

    def stream(self, world: World) -> None:
        """It tells of every event that it hears."""
        told = [json.loads(line) for line in self._says(world, STREAM).out.splitlines()]
        events = [line["event"] for line in told if line["type"] == "stream_event"]
        texts = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta" and e["delta"]["type"] == "text_delta"]
        assert len(texts) > 1, "the answer came in one piece"
        assert "".join(texts).strip() == SAYS, texts


def _by_alias(variables: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in variables.items() if name != "ANTHROPIC_MODEL"}


class Continue(Program):
    """`cn -p`, by either of the providers that its page names; it takes an interrupt for the end of one answer."""

    page = "continue"
    call = MappingProxyType({"name": "Read", "arguments": {"filepath": NOTE}})
    leaves_out = MappingProxyType({STREAM: ALWAYS_STREAMS})

    def __init__(self, provider: str = "openai") -> None:
        self.name = self.page if provider == "openai" else f"{self.page} {provider}"
        self.dialect = provider
        self.ways = (NATIVE,) if provider == "openai" else (NATIVE, TRANSLATED)
        # As Anthropic's client it asks again after a broken stream as well, but takes the next 502 for the end.
        self.asks_again = provider == "openai"

    def write_files(self, world: World, scenario: str) -> None:
        super().write_files(world, scenario)
        (file,) = [world.folder / lines.file for lines in world.lines(self.page) if lines.file]
        file.write_text(file.read_text().replace("provider: openai", f"provider: {self.dialect}"))

    def install(self) -> None:
        packages.npm("continue")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        return ["node", str(packages.npm("continue") / "node_modules" / ".bin" / "cn"), "-p", prompt]

    def variables(self, world: World, scenario: str) -> Mapping[str, str]:
        quiet = {"CONTINUE_CLI_ENABLE_TELEMETRY": "0", "CONTINUE_ALLOW_ANONYMOUS_TELEMETRY": "0"}
        return {**super().variables(world, scenario), **quiet}


class OpenCode(Program):
    name = page = "opencode"
    dialect = "openai"
    call = MappingProxyType({"name": "read", "arguments": {"filePath": NOTE}})
    asks_again = True
    leaves_out = MappingProxyType({STREAM: ALWAYS_STREAMS})

    def install(self) -> None:
        packages.npm("opencode")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        return [str(packages.npm("opencode") / "node_modules" / ".bin" / "opencode"), "run", prompt]

    def variables(self, world: World, scenario: str) -> Mapping[str, str]:
        quiet = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE")
        return {**super().variables(world, scenario), **{f"OPENCODE_DISABLE_{name}": "1" for name in quiet}}


class Codex(Program):
    """It speaks the Responses API only: what is tried is that it ends at once, with the gateway's own words."""

    name = page = "codex"
    dialect = "openai"
    call = MappingProxyType({"name": "shell", "arguments": {"command": ["cat", NOTE]}})
    leaves_out = MappingProxyType(
        dict.fromkeys((PLAIN, STREAM, TOOLS, ABORT, WAITING, LOST), "the Responses API is not served yet")
    )

    def install(self) -> None:
        packages.npm("codex")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        codex = str(packages.npm("codex") / "node_modules" / ".bin" / "codex")
        return [codex, "exec", "--skip-git-repo-check", "--sandbox", "read-only", prompt]

    def error(self, world: World) -> None:
        ended = self._ended(world, ERROR)
        assert "/v1/responses" in ended.all, f"it said: {ended.all[-400:]}"
        assert "404" in ended.all, f"it said: {ended.all[-400:]}"
        assert self.failed(ended), f"exit code {ended.code}"


class Llm(Program):
    """`llm`, with the one tool that it brings and that needs nothing."""

    name = page = "llm"
    dialect = "openai"
    call = MappingProxyType({"name": "llm_version", "arguments": {}})
    finds = "0.36"

    def install(self) -> None:
        packages.venv("llm")

    def _llm(self) -> str:
        return str(packages.venv("llm") / "bin" / "llm")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        options = {PLAIN: ["--no-stream"], TOOLS: ["-T", "llm_version", "--tools-debug"]}.get(scenario, [])
        return [self._llm(), "-m", "nexus", *options, prompt]

    def start(self, world: World, scenario: str) -> AbstractContextManager[Running]:
        """After its key was set, as `nexus clients` tells."""
        told = "\n".join(lines.text for lines in world.lines(self.page))
        (words,) = [line.split()[1:] for line in told.splitlines() if line.startswith("llm keys set ")]
        with running([self._llm(), *words], world.folder, {}) as keys:
            assert keys.ended().code == 0
        return super().start(world, scenario)


class Aider(Program):
    name = page = "aider"
    dialect = "openai"
    call = MappingProxyType({"name": "none", "arguments": {}})
    asks_again = True
    leaves_out = MappingProxyType({TOOLS: "it uses no tools"})

    def install(self) -> None:
        packages.venv("aider")

    def command(self, world: World, scenario: str, prompt: str) -> list[str]:
        aider = str(packages.venv("aider") / "bin" / "aider")
        quiet = "--no-git --yes-always --no-check-update --no-show-model-warnings --no-show-release-notes --no-pretty"
        quiet += " --analytics-disable --no-gitignore --no-detect-urls"
        how = "--no-stream" if scenario == PLAIN else "--stream"
        return [aider, "--model", f"openai/{model_of(scenario)}", *quiet.split(), how, "--message", prompt]

    def variables(self, world: World, scenario: str) -> Mapping[str, str]:
        return {**super().variables(world, scenario), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def failed(self, ended: Ended) -> bool:
        """Its exit code is 0 whatever happens."""
        return ended.code == 0 and "NotFoundError" in ended.all


def agents() -> list[Client]:
    """All of them: first those that CI drives too."""
    return [ClaudeCode(), Continue(), Continue("anthropic"), Llm(), Aider(), OpenCode(), Codex()]
