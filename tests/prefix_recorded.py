"""What the stage `prefix` saves of Claude Code's own prompts: the client itself, a gateway, and the real llama.cpp with one slot.

    .venv/bin/python -m tests.prefix_recorded

It installs Claude Code where `make clients` does, asks two things one after the other, each in a conversation of its own in the same
directory, and prints a row of the package's README for each way and each place of the system prompt in a chat template.  Prompts of
fixed words, and how much of them must be found again, are in `test_prefix_real`.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from .clients import packages
from .clients.processes import running, until
from .clients.tap import Tap
from .clients.world import CONTEXT, KINDS, MODEL, NATIVE, SAYS, SMALL, TRANSLATED, World, backend, configured, gateway
from .llamacpp.process import LlamaCpp, make_model

WORDS = ("say hi", "what is a file")
TEMPLATES = {"the tools": (), "the system prompt": ("--system-first",)}  # what they begin with
SPEAKS = {NATIVE: "`/v1/messages`", TRANSLATED: "OpenAI's dialect only"}
OFF = "[prefix]\nenabled = false"
COUNTS = {
    NATIVE: "",
    TRANSLATED: "takes_usage = true",
}  # streams of a server that is only compatible are not asked for it by themselves
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}


def measured(folder: Path, way: str, template: tuple[str, ...], *, on: bool) -> str:
    """How much of the second prompt the server had from the first."""
    with ExitStack() as stack:
        gguf = folder / "model.gguf"
        make_model(gguf, *SMALL, *template)
        server = LlamaCpp(gguf, folder / "server.log", ["--alias", MODEL, "--ctx", str(CONTEXT), "--parallel", "1"])
        stack.callback(server.close)
        server.start()
        tap = Tap(server.port)
        stack.callback(tap.close)
        stack.callback(server.kill)
        config = configured(backend("real", way, tap.url, COUNTS[way]), *([] if on else [OFF]))
        home = folder / "home"
        home.mkdir()
        there = World(url=gateway(stack, folder, config), folder=home, way=way, tap=tap)
        there.settled(1)
        for words in WORDS:
            ask(there, words)
        until(lambda: len(there.stories()) >= len(WORDS), "the story of the last request")
        usage = there.stories()[-1]["usage"]
    prompt, cached = usage["input_tokens"], usage["cached_tokens"]
    return f"{cached:,} of {prompt:,} ({cached / prompt:.1%})"


def ask(there: World, words: str) -> None:
    """One conversation of one question.  Raises AssertionError where the answer is not the model's."""
    claude = str(packages.npm("claude-code") / "node_modules" / ".bin" / "claude")
    with running([claude, "-p", words], there.folder, there.variables("claude-code") | QUIET) as program:
        ended = program.ended()
    assert ended.code == 0, ended.all[-400:]
    assert SAYS in ended.out, ended.all[-400:]


def main() -> None:
    for way in KINDS:
        for template, arguments in TEMPLATES.items():
            figures = []
            for on in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    figures.append(measured(Path(folder), way, arguments, on=on))
            sys.stdout.write(f"| {SPEAKS[way]} | {template} | {' | '.join(figures)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
