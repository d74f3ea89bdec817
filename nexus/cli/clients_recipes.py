"""The lines that point each known client at a gateway.  Values only: asking the gateway and printing is `clients`'.

`docs/clients/` has a page for every one of them with the same lines, and `make clients` drives the clients by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

EXAMPLE_URL, EXAMPLE_MODEL, EXAMPLE_CONTEXT = "http://127.0.0.1:6398", "llama3.2:3b", 65_536
CLAUDE_NAMES = (
    *("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"),
    *("claude-opus-4-8", "claude-sonnet-5", "claude-haiku-4-5-20251001"),
)
"""What Claude Code asks for where nobody names a model: by default, for its smaller agents, for its chores.

The first three are those of 2.1.330, the others those of 2.1.197, the last one for Node 20.
"""
CLAUDE_PROMPT, CLAUDE_CONTEXT = 48_000, 65_536
"""Tokens of what Claude Code sends before a word is said, as a small model's tokenizer counts them; the context that has room for it."""


@attrs.frozen(kw_only=True)
class Lines:
    """Lines for one place: a shell, a file below the home directory, a program, `nexus.toml`."""

    where: str
    language: str
    text: str
    why: str = ""
    """A sentence to say before them, where they are not simply needed."""

    @property
    def file(self) -> str | None:
        """The file below the home directory that they are the whole of."""
        return self.where.removeprefix("~/") if self.where.startswith("~/") else None


@attrs.frozen(kw_only=True)
class Setting:
    """What the lines are filled with."""

    url: str = EXAMPLE_URL
    model: str = EXAMPLE_MODEL
    key: str = "anything"
    keyed: bool = False
    """Whether the gateway was asked with a key, which may be one that has `models`."""
    served: frozenset[str] = frozenset()
    context: int | None = None
    """Tokens that the model is served with, where that is known."""


@attrs.frozen(kw_only=True)
class Client:
    """One client.  `places` are (where, language, text with %(url)s, %(model)s and %(key)s)."""

    name: str
    title: str
    dialect: str
    places: tuple[tuple[str, str, str], ...]
    asks_for: tuple[str, ...] = ()
    """Names of models that it asks for by itself: an alias has to answer those that nothing serves."""
    needs_context: int = 0
    """Tokens of context below which it is warned."""
    works: bool = True
    note: str = ""
    """What is said instead of lines where it does not work."""

    def lines(self, setting: Setting) -> tuple[Lines, ...]:
        """Everything to write down, filled in; the aliases come last, since they are another way to the same."""
        context = setting.context or EXAMPLE_CONTEXT
        fields = {"url": setting.url, "model": setting.model, "key": setting.key, "context": context, "output": context // 4}
        missing = [name for name in self.asks_for if name not in setting.served]
        text = _aliases(missing, setting.model)
        why = OR_ALIASES + (NEW_NAMES if setting.keyed else "")
        aliases = (Lines(where=NEXUS_TOML, language="toml", text=text, why=why),) if missing else ()
        return (*(Lines(where=w, language=kind, text=text.strip("\n") % fields) for w, kind, text in self.places), *aliases)

    def warning(self, setting: Setting) -> str:
        """What will not fit; empty where it does, or where nobody knows."""
        if setting.context is None or setting.context >= self.needs_context:
            return ""
        return TOO_SMALL % {"title": self.title, "model": setting.model, "has": setting.context}


NEXUS_TOML = "nexus.toml, without the first line where that table is there already; then start the gateway again"
NEW_NAMES = "  To a key that has `models`, these names are new: add them to that list."
OR_ALIASES = (
    "Or leave ANTHROPIC_MODEL out, and let aliases answer the names that it asks for by itself.  They change with its version; "
    "the gateway's log line names the model it asked for: alias that one."
)
TOO_SMALL = (
    f"%(model)s is served with a context of %(has)d tokens, and %(title)s begins with about {CLAUDE_PROMPT}.  Give it {CLAUDE_CONTEXT}: "
    f"llama.cpp with `llama-server --ctx-size {CLAUDE_CONTEXT} --parallel 1`, Ollama with `OLLAMA_CONTEXT_LENGTH={CLAUDE_CONTEXT} ollama serve`."
)
PICKER = (
    "With CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1 Claude Code's `/model` lists what the gateway serves, but only names with "
    '"claude" in them.  These aliases give every model one.'
)
UNUSUAL = re.compile(r"[^\w.-]+", re.ASCII)
SHELL, PROGRAM = "the shell", "the program"
OPENAI_SHELL = "export OPENAI_BASE_URL=%(url)s/v1\nexport OPENAI_API_KEY=%(key)s"
ANTHROPIC_SHELL = "export ANTHROPIC_BASE_URL=%(url)s\nexport ANTHROPIC_API_KEY=%(key)s"


CLAUDE_SHELL = """
export ANTHROPIC_BASE_URL=%(url)s
export ANTHROPIC_AUTH_TOKEN=%(key)s
export ANTHROPIC_MODEL=%(model)s
export CLAUDE_CODE_MAX_CONTEXT_TOKENS=%(context)s
export CLAUDE_CODE_AUTO_MODE_SERVER=0
claude
"""


def _aliases(names: Iterable[str], model: str) -> str:
    return "\n".join(["[routing.aliases]", *(f'"{name}" = "{model}"' for name in names)])


def picker_aliases(served: Iterable[str], *, keyed: bool = False) -> Lines:
    """For each served name one that Claude Code shows in `/model`: it leaves out what has no "claude" in it.  `keyed` as in Setting."""
    names = {f"claude-{UNUSUAL.sub('-', name).strip('-')}": name for name in served if "claude" not in name.lower()}
    text = "\n".join(["[routing.aliases]", *(f'"{alias}" = "{name}"' for alias, name in names.items())])
    return Lines(where=NEXUS_TOML, language="toml", text=text, why=PICKER + (NEW_NAMES if keyed else ""))


OPENAI_PYTHON = """
from openai import OpenAI

client = OpenAI()
answer = client.chat.completions.create(model="%(model)s", messages=[{"role": "user", "content": "Say hello"}])
print(answer.choices[0].message.content)
"""

OPENAI_JS = """
import OpenAI from "openai";

const client = new OpenAI();
const answer = await client.chat.completions.create({ model: "%(model)s", messages: [{ role: "user", content: "Say hello" }] });
console.log(answer.choices[0].message.content);
"""

ANTHROPIC_PYTHON = """
from anthropic import Anthropic

client = Anthropic()
answer = client.messages.create(model="%(model)s", max_tokens=1024, messages=[{"role": "user", "content": "Say hello"}])
print(answer.content[0].text)
"""

ANTHROPIC_JS = """
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();
const messages = [{ role: "user", content: "Say hello" }];
const answer = await client.messages.create({ model: "%(model)s", max_tokens: 1024, messages });
console.log(answer.content[0].text);
"""

LANGCHAIN = """
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

one = ChatOpenAI(base_url="%(url)s/v1", api_key="%(key)s", model="%(model)s")
other = ChatAnthropic(base_url="%(url)s", api_key="%(key)s", model="%(model)s")
print(one.invoke("Say hello").content)
"""

AI_SDK = """
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

const nexus = createOpenAICompatible({ name: "nexus", baseURL: "%(url)s/v1", apiKey: "%(key)s" });
const { text } = await generateText({ model: nexus("%(model)s"), prompt: "Say hello" });
console.log(text);
"""

LLM_YAML = """
- model_id: nexus
  model_name: "%(model)s"
  api_base: "%(url)s/v1"
  api_key_name: nexus
  supports_tools: true
"""

CONTINUE_YAML = """
name: nexus
version: 1.0.0
schema: v1
models:
  - name: nexus
    provider: openai
    model: "%(model)s"
    apiBase: "%(url)s/v1"
    apiKey: "%(key)s"
    roles: [chat, edit, apply]
"""

OPENCODE_JSON = """
{
  "$schema": "https://opencode.ai/config.json",
  "model": "nexus/%(model)s",
  "provider": {
    "nexus": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Nexus",
      "options": { "baseURL": "%(url)s/v1", "apiKey": "%(key)s" },
      "models": { "%(model)s": { "limit": { "context": %(context)s, "output": %(output)s } } }
    }
  }
}
"""

CODEX_TOML = """
model = "%(model)s"
model_provider = "nexus"

[model_providers.nexus]
name = "Nexus"
base_url = "%(url)s/v1"
wire_api = "responses"
env_key = "NEXUS_KEY"
"""

_ALL = (
    Client(
        name="openai-python",
        title="OpenAI's SDK for Python",
        dialect="openai",
        places=((SHELL, "sh", OPENAI_SHELL), (PROGRAM, "python", OPENAI_PYTHON)),
    ),
    Client(
        name="openai-js",
        title="OpenAI's SDK for JavaScript",
        dialect="openai",
        places=((SHELL, "sh", OPENAI_SHELL), (PROGRAM, "javascript", OPENAI_JS)),
    ),
    Client(
        name="anthropic-python",
        title="Anthropic's SDK for Python",
        dialect="anthropic",
        places=((SHELL, "sh", ANTHROPIC_SHELL), (PROGRAM, "python", ANTHROPIC_PYTHON)),
    ),
    Client(
        name="anthropic-js",
        title="Anthropic's SDK for JavaScript",
        dialect="anthropic",
        places=((SHELL, "sh", ANTHROPIC_SHELL), (PROGRAM, "javascript", ANTHROPIC_JS)),
    ),
    Client(name="langchain", title="LangChain", dialect="openai or anthropic", places=((PROGRAM, "python", LANGCHAIN),)),
    Client(name="ai-sdk", title="the AI SDK", dialect="openai or anthropic", places=((PROGRAM, "javascript", AI_SDK),)),
    Client(
        name="llm",
        title="llm",
        dialect="openai",
        places=(
            ("~/.config/io.datasette.llm/extra-openai-models.yaml", "yaml", LLM_YAML),
            (SHELL, "sh", "llm keys set nexus --value %(key)s\nllm -m nexus 'Say hello'"),
        ),
    ),
    Client(
        name="aider",
        title="aider",
        dialect="openai",
        places=(
            (
                SHELL,
                "sh",
                "export OPENAI_API_BASE=%(url)s/v1\nexport OPENAI_API_KEY=%(key)s\naider --model 'openai/%(model)s'",
            ),
        ),
    ),
    Client(
        name="claude-code",
        title="Claude Code",
        dialect="anthropic",
        places=((SHELL, "sh", CLAUDE_SHELL),),
        asks_for=CLAUDE_NAMES,
        needs_context=CLAUDE_CONTEXT,
    ),
    Client(
        name="continue",
        title="Continue",
        dialect="openai",
        places=(("~/.continue/config.yaml", "yaml", CONTINUE_YAML), (SHELL, "sh", "cn")),
    ),
    Client(
        name="opencode",
        title="opencode",
        dialect="openai",
        places=(("~/.config/opencode/opencode.json", "json", OPENCODE_JSON), (SHELL, "sh", "opencode")),
    ),
    Client(
        name="codex",
        title="Codex",
        dialect="openai (responses)",
        places=(("~/.codex/config.toml", "toml", CODEX_TOML), (SHELL, "sh", "export NEXUS_KEY=%(key)s\ncodex")),
        works=False,
        note="Codex speaks only the Responses API, which Nexus does not serve yet: it tries again for some 7 s, ends, and says so.",
    ),
)
CLIENTS: Mapping[str, Client] = MappingProxyType({client.name: client for client in _ALL})
