"""`nexus clients`: names and address are those of the running gateway, and nothing that a server says is trusted with a shell."""

from __future__ import annotations

import tomllib

import pytest

from nexus.cli.clients_recipes import CLAUDE_NAMES, CLIENTS
from nexus.config import load
from nexus.keys import hash_key
from nexus.testing import openai_server

from .cases import case
from .cli_process import nexus, serving

CONFIG = '[[backends]]\nname = "one"\ntype = "openai-compatible"\nurl = "{url}"\n'
ALIASES = "[routing.aliases]\n" + "".join(f'"{name}" = "chatty"\n' for name in CLAUDE_NAMES)


@pytest.fixture
def gateway(tmp_path):
    """Starts a gateway of this configuration in front of a server with these models."""

    async def start(stack, models=("chatty",), more="", **env):
        server = await stack.enter_async_context(openai_server(models))
        (tmp_path / "nexus.toml").write_text(CONFIG.format(url=server.url) + more)
        running = await stack.enter_async_context(serving("serve", cwd=tmp_path))
        await running.until_logged("✓ one")
        return running

    return start


@pytest.fixture
async def stack():
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        yield stack


async def test_without_a_name_all_are_listed_and_nobody_is_asked(tmp_path):
    ended = await nexus("clients", "--json", "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert ended.code == 0
    assert [client["name"] for client in ended.json["clients"]] == list(CLIENTS)
    listed = (await nexus("clients", cwd=tmp_path)).out
    assert [name for name in CLIENTS if name not in listed] == []


WORKING = [name for name, client in CLIENTS.items() if client.works]


async def test_the_lines_carry_the_gateways_own_names(tmp_path, gateway, stack):
    running = await gateway(stack)
    for name in WORKING:
        with case(name):
            await carries_the_names(name, running, tmp_path)


async def carries_the_names(name, running, tmp_path):
    told = await nexus("clients", name, "--url", running.url, cwd=tmp_path)
    assert (told.code, told.err) == (0, "")
    described = (await nexus("clients", name, "--json", "--url", running.url, cwd=tmp_path)).json
    assert described["url"] == running.url
    for lines in described["lines"]:
        assert lines["text"] in told.out
        assert lines["where"] in told.out
    everything = "\n".join(lines["text"] for lines in described["lines"])
    assert running.url in everything
    assert "chatty" in everything


async def test_names_that_are_served_need_no_alias(tmp_path, gateway, stack):
    running = await gateway(stack, more=ALIASES)
    told = await nexus("clients", "claude-code", "--url", running.url, cwd=tmp_path)
    assert "routing.aliases" not in told.out
    assert f"export ANTHROPIC_BASE_URL={running.url}\n" in told.out


async def test_claude_code_gets_its_model_by_a_variable_first_and_aliases_second(tmp_path, gateway, stack):
    running = await gateway(stack)
    told = (await nexus("clients", "claude-code", "--url", running.url, cwd=tmp_path)).out
    assert told.index("export ANTHROPIC_MODEL=chatty\n") < told.index("that one.") < told.index(ALIASES)
    assert "Warning" not in told, "nobody knows the context of this model"


@pytest.mark.parametrize(("context", "warned"), [(8192, True), (65535, True), (65536, False), (None, False)])
async def test_a_context_too_small_for_claude_code_is_warned_of(tmp_path, gateway, stack, context, warned):
    tables = f'[[backends.models]]\nid = "chatty"\ncontext = {context}\n' if context else ""
    running = await gateway(stack, more=tables)
    told = (await nexus("clients", "claude-code", "--url", running.url, cwd=tmp_path)).out
    assert (f"Warning: chatty is served with a context of {context} tokens" in told) == warned
    assert ("OLLAMA_CONTEXT_LENGTH=65536" in told) == ("--ctx-size 65536" in told) == warned
    described = (await nexus("clients", "claude-code", "--json", "--url", running.url, cwd=tmp_path)).json
    assert bool(described["warning"]) == warned
    assert "Warning" not in (await nexus("clients", "aider", "--url", running.url, cwd=tmp_path)).out


async def test_what_cannot_work_gets_one_sentence_and_no_lines(tmp_path, gateway, stack):
    told = await nexus("clients", "codex", "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert (told.code, told.out, told.err) == (0, CLIENTS["codex"].note + "\n", "")
    running = await gateway(stack)
    described = (await nexus("clients", "codex", "--json", "--url", running.url, cwd=tmp_path)).json
    assert (described["lines"], described["note"]) == ([], CLIENTS["codex"].note)


async def test_a_key_is_never_printed(tmp_path, gateway, stack):
    key = "nx-of-a-client"
    running = await gateway(stack, more=f'[[keys]]\nname = "laptop"\nhash = "{hash_key(key)}"\n')
    refused = await nexus("clients", "continue", "--url", running.url, cwd=tmp_path)
    assert refused.code == 1
    assert "put a key into NEXUS_KEY" in refused.err
    told = await nexus("clients", "continue", "--url", running.url, cwd=tmp_path, env={"NEXUS_KEY": key})
    assert told.code == 0
    assert 'apiKey: "YOUR-KEY"' in told.out
    assert key not in told.out


async def test_a_model_may_be_named(tmp_path, gateway, stack):
    running = await gateway(stack, models=("chatty", "other"))
    told = await nexus("clients", "aider", "--model", "other", "--url", running.url, cwd=tmp_path)
    assert "aider --model 'openai/other'" in told.out
    refused = await nexus("clients", "aider", "--model", "nobody", "--url", running.url, cwd=tmp_path)
    assert refused.code == 1
    assert "does not serve 'nobody'" in refused.err


async def test_a_name_that_could_do_harm_in_a_shell_is_not_printed(tmp_path, gateway, stack):
    running = await gateway(stack, models=("x'; touch harm; '", "chatty"))
    told = await nexus("clients", "aider", "--url", running.url, cwd=tmp_path)
    assert "openai/chatty" in told.out
    refused = await nexus("clients", "aider", "--model", "x'; touch harm; '", "--url", running.url, cwd=tmp_path)
    assert refused.code == 1
    assert "alias" in refused.err


async def test_what_cannot_be_answered_is_said(tmp_path, gateway, stack):
    unknown = await nexus("clients", "claude-cod", cwd=tmp_path)
    assert unknown.code == 2
    assert "did you mean 'claude-code'?" in unknown.err
    nobody = await nexus("clients", "aider", "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert nobody.code == 1
    assert "no gateway runs" in nobody.err
    running = await gateway(stack, models=())
    empty = await nexus("clients", "aider", "--url", running.url, cwd=tmp_path)
    assert empty.code == 1
    assert "serves no chat model yet" in empty.err


async def test_claude_codes_picker_gets_a_name_for_every_model(tmp_path, gateway, stack):
    running = await gateway(stack, models=("meta-llama/Llama-3.3:70b", "claude-sonnet-5", "chatty"))
    told = await nexus("clients", "claude-code", "--aliases", "--url", running.url, cwd=tmp_path)
    table = tomllib.loads(told.out[told.out.index("[routing.aliases]") :])
    assert table["routing"]["aliases"] == {"claude-meta-llama-Llama-3.3-70b": "meta-llama/Llama-3.3:70b", "claude-chatty": "chatty"}
    load(told.out[told.out.index("[routing.aliases]") :], env={})
    refused = await nexus("clients", "aider", "--aliases", "--url", running.url, cwd=tmp_path)
    assert refused.code == 2


async def test_the_served_context_is_written_down_for_clients_that_take_it(tmp_path, gateway, stack):
    running = await gateway(stack, more='[[backends.models]]\nid = "chatty"\ncontext = 32768\n')
    for name, part in (("claude-code", "CLAUDE_CODE_MAX_CONTEXT_TOKENS=32768"), ("opencode", '"context": 32768')):
        assert part in (await nexus("clients", name, "--url", running.url, cwd=tmp_path)).out


ALLOWED = '[[keys]]\nname = "laptop"\nhash = "{hash}"\nmodels = ["chatty"]\n'


@pytest.mark.parametrize("more", [(), ("--aliases",)])
async def test_aliases_say_where_they_go_and_that_keys_must_have_them(tmp_path, gateway, stack, more):
    key = "nx-of-a-client"
    running = await gateway(stack, more='[routing.aliases]\n"mine" = "chatty"\n')
    told = (await nexus("clients", "claude-code", *more, "--url", running.url, cwd=tmp_path)).out
    assert "In nexus.toml, without the first line where that table is there already" in told
    assert "add them to that list" not in told, "this gateway has no keys"
    running = await gateway(stack, more=ALLOWED.format(hash=hash_key(key)))
    told = (await nexus("clients", "claude-code", *more, "--url", running.url, cwd=tmp_path, env={"NEXUS_KEY": key})).out
    assert "To a key that has `models`, these names are new: add them to that list." in told
