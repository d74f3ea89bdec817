"""The commented `nexus.toml` of `nexus config init`, made from the classes, so that it cannot differ from them."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nexus.catalog import Catalog
from nexus.config.components import default_options
from nexus.config.strict import keys
from nexus.config.tables import FIXED, WORDS, BackendConfig, Config, KeyConfig, ModelConfig, PolicyConfig

HEAD = """\
## nexus.toml: the configuration of Nexus.  Nothing here is needed: every key below shows its default.
## Lines that begin with ## are for reading; take the # away from another one to use it.
## Flags win over NEXUS_<TABLE>_<KEY> variables (NEXUS_SERVER_PORT=8080), these over this file.
"""
ALIASES = """
# [routing.aliases]
# "gpt-4o" = "llama3:70b"  # asked for, and meant
# "llama-70b" = ["llama3:70b", "meta-llama/Llama-3.3-70B-Instruct"]  # several ids held equal: one model, many servers

# [routing.fallbacks]
# "llama3:70b" = ["qwen2.5:32b", "claude-sonnet"]  # in order
"""
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
POLICY = {"models": ["medical-*"], "zone": "restricted", "min_tier": 3}
BACKEND = {"name": "gpu", "url": "http://127.0.0.1:11434"}
MODEL = {"id": "llava", "name": "vision-small", "capabilities": ["vision", "tools"], "context": 8192}


def default_text(catalog: Catalog) -> str:
    """A nexus.toml in which everything is commented out: the core's tables, and those of what is installed and active by default.

    It loads as it is, and with all of its lines uncommented.
    """
    parts = [HEAD, *_keys(Config, {}, only=WORDS)]
    for name, cls in FIXED.items():
        parts += ["", f"# [{name}]", *_keys(cls, {})]
        if name == "routing":
            parts.append(ALIASES.rstrip())
    for name, cls in default_options(catalog).items():
        if keys(cls) and not hasattr(cls, "not_yet"):
            parts += ["", f"# [{name}]", *_keys(cls, {})]
    parts += ["", "## A rule for every request whose model's name matches; the strictest word wins.", "# [[policies]]"]
    parts += _keys(PolicyConfig, POLICY)
    parts += [
        "",
        "## A server.  Those on this machine are found without a table.",
        "# [[backends]]",
        *_keys(BackendConfig, BACKEND),
    ]
    parts += [
        "",
        "## What the server does not say of a model, or says wrongly.",
        "# [[backends.models]]",
        *_keys(ModelConfig, MODEL),
    ]
    parts += ["", "## A client's key: `nexus keys new laptop` prints the key once, and its [[keys]] table with these keys:"]
    parts += [f"## {key}: {field.metadata['meaning']}" for key, field in keys(KeyConfig).items()]
    return "\n".join(parts) + "\n"


def _keys(cls: type, example: Mapping[str, Any], *, only: tuple[str, ...] = ()) -> Iterator[str]:
    """One line for each key: its example or default where it has one, otherwise a line for reading."""
    for key, field in keys(cls).items():
        value = example.get(key, field.default)
        meaning = field.metadata.get("meaning")
        if meaning is None or (only and key not in only) or isinstance(value, Mapping):
            continue
        meaning = _for_reading(meaning)
        unset = value is None or value is attrs.NOTHING
        yield f"## {key}: {meaning}" if unset else f"# {key} = {literal(value)}  # {meaning}"


def _for_reading(meaning: str) -> str:
    """A meaning without a link: the file lies where the pages do not."""
    return LINK.sub(r"docs/reference/\1", meaning)


def literal(value: Any) -> str:
    """A default as TOML."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
