"""`nexus demo` as a newcomer runs it: the whole story, with real requests through a real gateway."""

import asyncio
import signal
import sys
from collections import Counter

import aiohttp

from nexus.testing import ScriptedUpstream

from .cli_process import Serving, kill, nexus, start

TITLES = (
    "A plain chat",
    "What is private stays at home",
    "Home is full: the cloud helps",
    "A server dies",
    "A picture",
    "Why there, and why not elsewhere?",
)
HOME = {"gpu", "laptop", "pi"}


async def test_the_story_is_true(tmp_path):
    ended = await nexus("demo", "--once", "--json", "--port", "0", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    chapters = {c["title"]: c for c in ended.json["chapters"]}
    assert tuple(chapters) == TITLES
    requests = {title: chapter["requests"] for title, chapter in chapters.items()}

    (plain,) = requests["A plain chat"]
    assert plain["status"] == 200
    assert plain["backend"] in HOME

    private = requests["What is private stays at home"]
    assert [r["status"] for r in private] == [200] * 6
    assert {r["backend"] for r in private} <= HOME
    assert any("queue_ms" in r for r in private)

    overflow = requests["Home is full: the cloud helps"]
    assert [r["status"] for r in overflow] == [200] * 10
    spilled = [r for r in overflow if r["backend"] == "cloud"]
    assert len(spilled) >= 3
    assert {r["route_reason"] for r in spilled} == {"capacity-overflow"}
    assert all(float(r["cost_estimated"]) > 0 for r in spilled)
    assert any("queue_ms" in r for r in overflow)

    killed = requests["A server dies"]
    assert [r["status"] for r in killed] == [200] * 6
    assert Counter(r["route_reason"] for r in killed)["failover"] == 2
    assert all(int(r["attempts"]) >= 2 for r in killed if r["route_reason"] == "failover")

    refused, seen = requests["A picture"]
    assert refused["status"] == 400
    assert "takes no images" in refused["error"]
    assert (seen["status"], seen["backend"], seen["model"]) == (200, "gpu", "llava:7b")

    last = chapters["Why there, and why not elsewhere?"]
    assert [r["backend"] for r in last["explain"]["refusals"]] == ["cloud"]
    assert last["stats"]["backends"]["cloud"]["cost_usd"] > 0
    assert last["stats"]["requests"] == 25
    assert list(tmp_path.iterdir()) == []


async def test_it_reads_well_and_keeps_running_until_a_signal(tmp_path):
    env = {"PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)}
    process = await start("demo", "--port", "0", cwd=tmp_path, env=env)
    try:
        assert process.stdout is not None
        text = ""
        while "is all you need" not in text:
            line = await process.stdout.readline()
            assert line, text
            text += line.decode()
        for number, title in enumerate(TITLES, start=1):
            assert f"{number}. {title} " in text
        assert "\x1b" not in text
        assert "6 of 6 clients got their answer" in text
        url = text[text.index("base_url = ") + 11 : text.index("/v1, api_key")]
        async with aiohttp.ClientSession() as client:
            body = {"model": "llama", "messages": [{"role": "user", "content": "hi"}]}
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
                assert answer.headers["X-Nexus-Backend"] in HOME
        process.send_signal(signal.SIGINT)
        running = Serving(process)
        assert await running.ended() == 0
        assert running.log == ""
    finally:
        await kill(process)
    assert list(tmp_path.iterdir()) == []


async def test_a_signal_ends_the_story(tmp_path):
    process = await start("demo", "--port", "0", cwd=tmp_path, env={"PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)})
    try:
        assert process.stdout is not None
        assert await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        running = Serving(process)
        assert await running.ended() == 1
        assert "Traceback" not in running.log
    finally:
        await kill(process)
    assert list(tmp_path.iterdir()) == []


async def test_a_port_that_is_taken_is_an_error_where_it_was_asked_for(tmp_path):
    async with ScriptedUpstream() as other:
        ended = await nexus("demo", "--once", "--port", str(other.port), cwd=tmp_path)
    assert ended.code == 1
    assert ended.err.startswith(f"nexus: cannot listen on 127.0.0.1:{other.port}: ")


async def test_without_the_servers_plugins_it_says_what_to_install(tmp_path):
    script = (
        "import nexus.catalog as c; real = c._entry_points; "
        "c._entry_points = lambda: [p for p in real() if p.name not in ('ollama', 'llamacpp', 'openai')]; "
        "import sys; sys.argv = ['nexus', 'demo', '--once', '--port', '0']; from nexus.cli import main; main()"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert 'pip install "nexus-proxy[standard]"' in err.decode()
    assert "Traceback" not in err.decode()
