"""`nexus serve` as people and process managers use it: real processes, real signals."""

import asyncio
import json
import logging
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest
from click.testing import CliRunner

from nexus.api import replace
from nexus.catalog import Catalog
from nexus.cli import serve
from nexus.cli.address import lan_url
from nexus.cli.greeting import lines, warn_insecure
from nexus.config import Config, DiscoveryConfig, KeyConfig, ServerConfig
from nexus.keys import hash_key
from nexus.testing import FakeModel, Hang, ScriptedUpstream, Stream, openai_server

from .cli_process import nexus, serving

CHUNK = {"choices": [{"index": 0, "delta": {"content": "hello"}}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def one_backend(cwd: Path, url: str, more: str = "") -> None:
    text = f'{more}\n[[backends]]\nname = "home"\ntype = "openai-compatible"\nurl = "{url}"\n'
    (cwd / "nexus.toml").write_text(text, encoding="utf-8")


async def health(url: str) -> dict:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/health") as answer:
        assert answer.status == 200
        return await answer.json()


async def healthy(url: str) -> None:
    """Once the one backend has answered its first probe."""
    async with asyncio.timeout(30):
        while (await health(url))["backends"]["healthy"] < 1:
            await asyncio.sleep(0.05)


def in_background(client: aiohttp.ClientSession, url: str) -> asyncio.Task:
    async def ask() -> int:
        async with client.post(f"{url}/v1/chat/completions", json=BODY) as answer:
            return answer.status

    return asyncio.get_running_loop().create_task(ask())


# ---------------------------------------------------------------- starting


async def test_no_arguments_in_an_empty_directory_serve(tmp_path):
    begun = time.monotonic()
    env = {"NEXUS_DISCOVERY_SOURCES": "loopback"}
    async with serving(cwd=tmp_path, env=env) as running:
        answer = await health(running.url)
        assert time.monotonic() - begun < 10
        assert answer["version"]
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    assert "Traceback" not in running.log


async def test_flags_without_the_word_serve(tmp_path):
    async with serving("--log-level", "info", cwd=tmp_path) as running:
        assert (await health(running.url))["status"] == "unhealthy"


async def test_flags_win_over_variables_and_these_over_the_file(tmp_path):
    (tmp_path / "nexus.toml").write_text('[server]\nport = 1\nhost = "127.0.0.3"\nstate_dir = "a"\n', encoding="utf-8")
    env = {"NEXUS_SERVER_HOST": "127.0.0.2", "NEXUS_SERVER_PORT": "1"}
    async with serving("--port", "0", "--state-dir", "mine", cwd=tmp_path, env=env) as running:
        assert running.url.startswith("http://127.0.0.2:")
        assert (await health(running.url))["version"]
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "a").exists()


async def test_json_log_is_json_and_nothing_else(tmp_path):
    async with serving("serve", "--json", cwd=tmp_path) as running:
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    entries = [json.loads(line) for line in running.log.splitlines()]
    assert entries[0]["message"].startswith("listening on")
    assert entries[-1]["message"] == "stopped"


async def test_a_broken_plugin_is_a_warning(tmp_path):
    info = tmp_path / "site" / "broken_thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[nexus.plugins]\nbroken = broken_thing\n", encoding="utf-8")
    (tmp_path / "site" / "broken_thing.py").write_text("raise RuntimeError('no engine')\n", encoding="utf-8")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    async with serving(cwd=tmp_path, env=env) as running:
        assert "WARNING nexus: the plugin broken-thing is broken: RuntimeError: no engine" in running.log
    listed = await nexus("plugins", cwd=tmp_path, env=env)
    assert listed.code == 0
    assert "no engine" in listed.out


async def test_serve_loads_no_library_of_other_commands(tmp_path):
    script = "import sys, nexus.cli.group, nexus.cli.serve, nexus.cli.running; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    loaded = set(out.decode().split())
    assert "nexus.server" in loaded
    assert not loaded & {"rich", "pytest", "nexus.testing", "nexus.cli.tables", "nexus.cli.remote", "nexus.cli.explain", "zeroconf"}


# ---------------------------------------------------------------- what is said first


async def test_greeting_says_what_was_found_and_what_to_set(tmp_path):
    async with openai_server([FakeModel("it's tiny")]) as upstream:
        one_backend(tmp_path, upstream.url)
        async with serving(cwd=tmp_path) as running:
            await running.until_logged("nexus explain")
            assert f"✓ home  {upstream.url}  it's tiny" in running.log
            assert f"base_url = {running.url}/v1" in running.log
            assert "api_key  = anything" in running.log
            command = running.log[running.log.index("curl ") : running.log.index("  See where")]
            shell = await asyncio.create_subprocess_shell(
                command.replace("curl ", "curl -sS ", 1), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, err = await shell.communicate()
            if shell.returncode != 127:  # where there is no curl, nobody can be shown that it works
                assert json.loads(out)["choices"], err


async def test_greeting_of_a_server_that_is_down(tmp_path):
    async with ScriptedUpstream() as upstream:
        one_backend(tmp_path, upstream.url)
        upstream.stop_listening()
        async with serving(cwd=tmp_path) as running:
            await running.until_logged("api_key")
            assert "✗ home" in running.log
            assert "refused the connection" in running.log
            assert "curl" not in running.log


def bare(**server) -> SimpleNamespace:
    catalog = Catalog.load()
    config = Config(server=ServerConfig(**server), discovery=DiscoveryConfig(sources=("loopback",)))
    return SimpleNamespace(config=config, catalog=catalog, fleet=SimpleNamespace(standings={}))


def test_greeting_without_any_server_says_where_nexus_looked():
    text = "\n".join(lines(bare(), "http://127.0.0.1:6398"))
    assert re.search(r"^    11434 +ollama$", text, re.M)
    assert re.search(r"^    8080 +llamacpp", text, re.M)
    assert max(map(len, text.splitlines())) <= 120
    assert "ollama serve" in text
    assert "nexus demo" in text
    assert "within 3 seconds" in text


def test_greeting_says_the_address_for_clients_of_anthropics_api_where_they_are_served():
    gateway = bare()
    line = "In any Anthropic client,   base_url = http://127.0.0.1:6398  (without /v1)"
    assert line in "\n".join(lines(gateway, "http://127.0.0.1:6398"))
    gateway.catalog = replace(gateway.catalog, dialects={})
    assert "Anthropic" not in "\n".join(lines(gateway, "http://127.0.0.1:6398"))


async def test_greeting_tries_a_model_that_is_known_to_chat_and_to_do_most(tmp_path):
    async with openai_server(["mystery", "chatty", "able"]) as upstream:
        one_backend(tmp_path, upstream.url)
        with (tmp_path / "nexus.toml").open("a") as file:
            for name, can in (("chatty", ["chat"]), ("able", ["chat", "tools"])):
                file.write(f'[[backends.models]]\nid = "{name}"\ncapabilities = {can}\n'.replace("'", '"'))
        async with serving(cwd=tmp_path) as running:
            await running.until_logged("nexus explain")
            assert running.log.partition("nexus explain")[2].split()[0] == "able"


def test_greeting_names_an_address_that_can_be_used(monkeypatch):
    assert "http://localhost:6398/v1" in "\n".join(lines(bare(), "http://0.0.0.0:6398"))
    monkeypatch.setattr("nexus.cli.greeting.lan_url", lambda url: "http://192.168.1.5:6398" if "0.0.0.0" in url else None)
    assert "On other machines, http://192.168.1.5:6398" in "\n".join(lines(bare(), "http://0.0.0.0:6398"))
    assert "other machines" not in "\n".join(lines(bare(), "http://127.0.0.1:6398"))


def test_the_address_for_other_machines_is_one_of_this_machine_and_only_where_it_listens_there():
    assert lan_url("http://127.0.0.1:6398") is None
    assert lan_url("http://gpu.lan:6398") is None
    for url in ("http://0.0.0.0:6398", "http://[::]:6398"):
        found = lan_url(url)  # None on a machine without a route
        assert found is None or (urlsplit(found).port == 6398 and urlsplit(found).hostname not in ("0.0.0.0", "::", "localhost"))


def test_greeting_without_any_plugin_for_servers_says_what_to_install():
    gateway = bare()
    gateway.catalog = replace(gateway.catalog, backends={})
    text = "\n".join(lines(gateway, "http://127.0.0.1:6398"))
    assert "pip install 'nexus-proxy[standard]'" in text
    assert "usual ports" not in text


def test_greeting_with_keys_says_where_one_comes_from():
    gateway = bare()
    gateway.config = replace(gateway.config, keys=(KeyConfig(name="a", hash=hash_key("k")),))
    assert "nexus keys new" in "\n".join(lines(gateway, "http://127.0.0.1:6398"))


def test_insecure_says_loudly_what_it_means(caplog):
    config = Config(server=ServerConfig(host="0.0.0.0", insecure=True))
    warn_insecure(config)
    assert "INSECURE" in caplog.text
    assert "spend money" in caplog.text
    caplog.clear()
    warn_insecure(replace(config, server=ServerConfig(insecure=True)))
    warn_insecure(replace(config, keys=(KeyConfig(name="a", hash=hash_key("k")),)))
    assert not caplog.text


# ---------------------------------------------------------------- not starting


async def test_a_port_in_use_is_one_sentence(tmp_path):
    async with ScriptedUpstream() as somebody:
        second = await nexus("serve", "--port", str(somebody.port), "--no-discovery", cwd=tmp_path)
    assert second.code == 1
    assert second.err.splitlines()[-1] == (
        f"nexus: cannot listen on 127.0.0.1:{somebody.port}: address already in use; set [server] port or --port to another"
    )
    assert "Traceback" not in second.err


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_who_starts_nexus_twice_is_told_which_one_runs(tmp_path, host):
    async with serving(cwd=tmp_path) as running:
        port = running.url.rpartition(":")[2]
        flags = ("--host", host, "--insecure", "--state-dir", "state", "--no-discovery")
        second = await nexus("serve", "--port", port, *flags, cwd=tmp_path)
        assert second.code == 1
        assert second.err.splitlines()[-1] == (
            f"nexus: cannot listen on {host}:{port}: Nexus already runs at {running.url} (pid {running.process.pid}); "
            "stop that one, or set [server] port or --port to another"
        )
        unknown = await nexus("serve", "--port", port, *flags[:3], "--state-dir", "other", cwd=tmp_path)
        assert f"Nexus already runs at {running.url}; stop that one" in unknown.err


async def test_a_second_one_on_another_port_shares_the_state_directory(tmp_path):
    async with serving(cwd=tmp_path) as one, serving(cwd=tmp_path) as two:
        assert one.url != two.url


async def test_a_file_that_is_not_there(tmp_path):
    ended = await nexus("-c", "missing.toml", cwd=tmp_path)
    assert ended.code == 1
    assert "missing.toml: there is no such file" in ended.err
    by_variable = await nexus("serve", cwd=tmp_path, env={"NEXUS_CONFIG": "absent.toml"})
    assert by_variable.code == 1
    assert "absent.toml" in by_variable.err


async def test_every_mistake_has_its_line_and_the_nearest_word(tmp_path):
    (tmp_path / "nexus.toml").write_text('[server]\nprot = 1\n[routing]\nmax_attempts = "many"\n', encoding="utf-8")
    ended = await nexus("serve", cwd=tmp_path)
    assert ended.code == 1
    head, first, second = ended.err.splitlines()
    assert head == f"nexus: the configuration {tmp_path / 'nexus.toml'} has 2 mistakes:"
    assert first == "  server.prot: there is no such key (line 2) (did you mean 'port'?)"
    assert second.startswith("  routing.max_attempts: ")


async def test_beyond_loopback_needs_keys(tmp_path):
    ended = await nexus("serve", "--host", "0.0.0.0", cwd=tmp_path)
    assert ended.code == 1
    assert "nexus keys new" in ended.err


@pytest.mark.parametrize("flag", [("--port", "70000"), ("--log-level", "loud"), ("--bogus",)])
async def test_wrong_usage_is_exit_code_2(tmp_path, flag):
    ended = await nexus("serve", *flag, cwd=tmp_path)
    assert ended.code == 2
    assert "Usage: nexus serve" in ended.err


# ---------------------------------------------------------------- stopping


async def test_sigterm_lets_a_stream_finish_and_turns_newcomers_away(tmp_path):
    gate = asyncio.Event()
    async with openai_server(["tiny"]) as upstream:
        upstream.on("/v1/chat/completions", Stream([CHUNK, gate, LAST]), method="POST")
        one_backend(tmp_path, upstream.url)
        async with serving(cwd=tmp_path) as running, aiohttp.ClientSession() as client:
            await healthy(running.url)
            async with client.post(f"{running.url}/v1/chat/completions", json={**BODY, "stream": True}) as stream:
                assert b"hello" in await stream.content.readline()
                running.process.send_signal(signal.SIGTERM)
                await running.until_logged("1 request under way may take 30 s more")
                async with client.post(f"{running.url}/v1/chat/completions", json=BODY) as late:
                    assert late.status == 503
                    assert (await late.json())["error"]["code"] == "stopping"
                async with client.get(f"{running.url}/health/ready") as ready:
                    assert ready.status == 503
                    assert (await ready.json())["status"] == "stopping"
                gate.set()
                rest = await stream.content.read()
                assert rest.endswith(b"data: [DONE]\n\n")
            assert await running.ended() == 0
        assert len(upstream.calls("/v1/chat/completions")) == 1


async def test_a_second_signal_stops_at_once(tmp_path):
    async with openai_server(["tiny"]) as upstream:
        upstream.on("/v1/chat/completions", Hang(), method="POST")
        one_backend(tmp_path, upstream.url)
        async with serving(cwd=tmp_path) as running, aiohttp.ClientSession() as client:
            await healthy(running.url)
            asked = in_background(client, running.url)
            await upstream.until(lambda: upstream.calls("/v1/chat/completions"), timeout=30)
            running.process.send_signal(signal.SIGINT)
            await running.until_logged("another signal stops at once")
            running.process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            assert await running.ended() == 1
            assert time.monotonic() - begun < 15  # the grace is 30 s
            assert await asked == 503
    assert "requests under way were cut off" in running.log
    assert "Traceback" not in running.log


async def test_the_last_words_are_json_where_the_log_is(tmp_path):
    async with openai_server(["tiny"]) as upstream:
        upstream.on("/v1/chat/completions", Hang(), method="POST")
        one_backend(tmp_path, upstream.url)
        async with serving("serve", "--json", cwd=tmp_path) as running, aiohttp.ClientSession() as client:
            await healthy(running.url)
            asked = in_background(client, running.url)
            await upstream.until(lambda: upstream.calls("/v1/chat/completions"), timeout=30)
            running.process.send_signal(signal.SIGTERM)
            await running.until_logged("another signal stops at once")
            running.process.send_signal(signal.SIGTERM)
            assert await running.ended() == 1
            await asked
    entries = [json.loads(line) for line in running.log.splitlines()]
    assert ("error", "stopped at once, as asked; requests under way were cut off") in [
        (entry["level"], entry.get("message")) for entry in entries
    ]


@pytest.mark.parametrize(
    ("args", "greeted"),
    [
        ([], True),
        (["--log-level", "DEBUG"], True),
        (["--log-level", "warning"], False),
        (["--log-level", "error"], False),
        (["--json"], False),
        (["--log-format", "none"], False),
    ],
)
def test_only_who_reads_along_is_greeted(monkeypatch, tmp_path, args, greeted):
    asked = []

    async def run(config, catalog, *, greeted):
        asked.append(greeted)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nexus.cli.running.run", run)
    monkeypatch.setattr("nexus.observers.format.setup_logging", lambda *how: logging.NullHandler())
    assert CliRunner().invoke(serve.command, ["--state-dir", str(tmp_path), *args]).exit_code == 0
    assert asked == [greeted]


async def test_the_grace_ends(tmp_path):
    async with openai_server(["tiny"]) as upstream:
        upstream.on("/v1/chat/completions", Hang(), method="POST")
        one_backend(tmp_path, upstream.url, "[server]\nshutdown_grace_seconds = 0\n")
        async with serving(cwd=tmp_path) as running, aiohttp.ClientSession() as client:
            await healthy(running.url)
            asked = in_background(client, running.url)
            await upstream.until(lambda: upstream.calls("/v1/chat/completions"), timeout=30)
            running.process.send_signal(signal.SIGTERM)
            assert await running.ended() == 0
            assert await asked == 503


async def test_sighup_changes_nothing(tmp_path):
    async with serving(cwd=tmp_path) as running:
        running.process.send_signal(signal.SIGHUP)
        await running.until_logged("SIGHUP is ignored: restart")
        assert (await health(running.url))["version"]
