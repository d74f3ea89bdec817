"""docs/reference/configuration.md and the sample file say what the classes say: every key, nothing else, and every block loads."""

import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_origin

import attrs
import pytest

from nexus.api import BackendKind, ObserverKind, SourceKind, StageKind, opens
from nexus.builtin import HistoryOptions
from nexus.catalog import Catalog
from nexus.config import OTHER_VARIABLES, Config, default_text, load
from nexus.config.sample import literal
from nexus.config.strict import keys
from nexus.config.tables import ARRAYS, FIXED, WORDS, ModelConfig
from nexus.loopback import LoopbackOptions
from nexus.model import Price

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
SECTIONS = (
    {f"[{name}]": cls for name, cls in FIXED.items()}
    | {f"[[{name}]]": cls for name, cls in ARRAYS.items()}
    | {"[[backends.models]]": ModelConfig, "At the top": Config}
)
COMPONENTS = {"[loopback]": LoopbackOptions, "[history]": HistoryOptions}
TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Price: "table"}

open_ = opens(lambda options, scope: None)
CATALOG = Catalog(
    backends={name: BackendKind(name=name, open=open_) for name in ("ollama", "openai")},
    stages={
        name: StageKind(name=name, open=open_, policy_words=words)
        for name, words in {"privacy": ("zone",), "budget": (), "tier": ("min_tier",), "capability": (), "balance": ()}.items()
    },
    sources={
        "loopback": SourceKind(name="loopback", open=open_, options=LoopbackOptions),
        "mdns": SourceKind(name="mdns", open=open_),
    },
    observers={"history": ObserverKind(name="history", open=open_, options=HistoryOptions)},
)
ENV = {"OPENAI_API_KEY": "k"}


def type_words(wanted):
    arms = [a for a in get_args(wanted) if a is not type(None)]
    if get_origin(wanted) is types.UnionType:
        return type_words(arms[0])
    if get_origin(wanted) is tuple:
        return "list of whole numbers" if int in arms else "list of texts"
    return TYPES.get(wanted) or ("table" if arms else "text")


def default_words(value):
    if value is attrs.NOTHING:
        return "required"
    return "" if value is None or isinstance(value, Mapping) else f"`{literal(value)}`"


def row(key, field):
    cells = (f"`{key}`", type_words(field.type), default_words(field.default), field.metadata["meaning"])
    return "".join(f"| {cell} ".replace("  ", " ") for cell in cells) + "|"


def rows(title):
    cls = (SECTIONS | COMPONENTS)[title]
    return [row(key, field) for key, field in keys(cls).items() if cls is not Config or key in WORDS]


def section(title):
    found = re.search(rf"^##+ `?{re.escape(title)}`?\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert found, f"the page has no section {title}"
    return found[1]


@pytest.mark.parametrize("title", SECTIONS | COMPONENTS)
def test_every_key_is_documented_and_no_other(title):
    documented = [line for line in section(title).splitlines() if re.match(r"\| `", line)]
    assert documented == rows(title), "the rows must be:\n" + "\n".join(rows(title))


def test_no_section_is_about_a_table_that_does_not_exist():
    assert set(re.findall(r"^##+ `(\[.*\])`$", PAGE, re.M)) == {*SECTIONS, *COMPONENTS} - {"At the top"}


def test_the_variables_of_commands_are_documented():
    assert set(re.findall(r"^\| `(NEXUS_[A-Z_]+)` \|", PAGE, re.M)) == set(OTHER_VARIABLES)


BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_of_the_page_loads(block):
    load(block, env=ENV, catalog=CATALOG)


def test_the_page_has_blocks_and_uses_every_table():
    text = "".join(BLOCKS)
    assert all(f"[{name}]" in text or f"[[{name}]]" in text for name in (*FIXED, *ARRAYS))


# ---------------------------------------------------------------- nexus config init


def uncommented(text):
    return "\n".join(
        line.removeprefix("#").removeprefix(" ") if not line.startswith("##") else line[1:] for line in text.splitlines()
    )


def test_the_sample_loads_as_it_is_and_is_all_comment():
    assert all(line.startswith("#") for line in default_text(CATALOG).splitlines() if line)
    assert load(default_text(CATALOG), env={}, catalog=CATALOG)[0] == load("", env={}, catalog=CATALOG)[0]


def test_the_sample_loads_with_every_line_uncommented_and_shows_the_defaults():
    config, _ = load(uncommented(default_text(CATALOG)), env={}, catalog=CATALOG)
    plain, _ = load("", env={}, catalog=CATALOG)
    for name in FIXED:
        if name != "routing":
            assert getattr(config, name) == getattr(plain, name)
    assert (config.routing.stages, config.routing.max_attempts) == (plain.routing.stages, plain.routing.max_attempts)
    assert (config.plugins, config.disabled) == ((), ())
    assert (config.backends[0].priority, config.backends[0].type) == (50, "auto")
    assert (len(config.backends), len(config.backends[0].overrides), len(config.policies)) == (1, 1, 1)


def test_the_sample_names_every_key():
    text = default_text(CATALOG)
    for cls in (SECTIONS | COMPONENTS).values():
        for key in keys(cls) if cls is not Config else WORDS:
            assert re.search(rf"^## {key}: |^# {key} = |^# \[\w+\.{key}\]$", text, re.M), key


def test_the_sample_has_no_links():
    assert "](" not in default_text(CATALOG)
    assert "docs/reference/errors.md" in default_text(CATALOG)
