"""The commands that ask a running gateway: health, backends, models, explain.  A real gateway, real processes."""

import json
import re

import pytest

from nexus.cli.address import DEFAULT_URL, configured
from nexus.cli.models import context
from nexus.keys import new_key
from nexus.testing import FakeModel, Respond, ScriptedUpstream, ollama_server, openai_server

from .cli_process import nexus


def fleet(home, cloud, **more):
    backends = [
        {"name": "home", "type": "ollama", "url": home.url},
        {"name": "cloud", "type": "openai", "url": cloud.url, "models": [{"id": "gpt", "capabilities": ["chat", "vision"]}]},
    ]
    aliases = {"chat": ["tiny:latest", "gpt"]}
    return {"backends": backends, "routing": {"aliases": aliases}, **more}


@pytest.fixture
async def running(nexus_gateway):
    """A gateway over one backend at home and one in the cloud, both probed."""
    async with ollama_server(["tiny:latest"]) as home, openai_server(["gpt"]) as cloud:
        gateway = await nexus_gateway(fleet(home, cloud))
        await gateway.until(lambda: gateway.gateway.ready, timeout=30)
        yield gateway


# ---------------------------------------------------------------- health


async def test_health_is_a_sentence_and_an_exit_code(running, tmp_path):
    ended = await nexus("health", "--url", running.url, cwd=tmp_path)
    assert ended.code == 0
    assert ended.out.startswith("healthy: 2 of 2 backends healthy; ")
    assert running.url in ended.out
    assert (await nexus("health", "--json", cwd=tmp_path, env={"NEXUS_URL": running.url})).json["status"] == "healthy"


async def test_health_without_a_backend_fails(nexus_gateway, tmp_path):
    gateway = await nexus_gateway("")
    ended = await nexus("health", "--url", gateway.url, cwd=tmp_path)
    assert ended.code == 1
    assert ended.out.startswith("unhealthy: 0 of 0 backends healthy; 0 models; nexus")


async def test_the_configuration_says_where_the_gateway_is(running, tmp_path):
    host, _, port = running.url.removeprefix("http://").rpartition(":")
    (tmp_path / "nexus.toml").write_text(f'[server]\nhost = "{host}"\nport = {port}\n', encoding="utf-8")
    by_file = await nexus("backends", cwd=tmp_path)
    assert by_file.out.startswith(f"The gateway at {running.url}:\n\n")
    (tmp_path / "nexus.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    by_variable = await nexus("health", cwd=tmp_path, env={"NEXUS_SERVER_PORT": port})
    assert f"at {running.url}," in by_variable.out
    told = await nexus("health", "--url", running.url, cwd=tmp_path)
    assert told.code == 0
    assert "no gateway runs at http://127.0.0.1:1:" in (await nexus("health", cwd=tmp_path)).err


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", DEFAULT_URL),
        ("[server]\nhost = '0.0.0.0'\nport = 80", "http://localhost:80"),
        ("[server]\nhost = '::1'", "http://[::1]:6398"),
        ("[server]\nport = 0", DEFAULT_URL),
        ("[server]\nport = 'x'", DEFAULT_URL),
        ("server = 1", DEFAULT_URL),
        ("[server", DEFAULT_URL),
    ],
)
def test_where_a_configuration_lets_it_listen(tmp_path, text, url):
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert configured({"NEXUS_CONFIG": str(tmp_path / "mine.toml")}) == url


# ---------------------------------------------------------------- backends, models


async def test_backends_with_their_evidence(running, tmp_path):
    ended = await nexus("backends", "--url", running.url, cwd=tmp_path)
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["home", "ollama", "healthy", "restricted", "local", "0", "1"] in [row[:7] for row in rows]
    assert "zone    restricted: 127.0.0.1 is private, the configuration names it, and ollama runs its models itself" in ended.out
    assert "health  healthy: answered, version 0.13.5; probed" in ended.out
    as_json = await nexus("backends", "--json", "--url", running.url, cwd=tmp_path)
    assert [b["name"] for b in as_json.json["backends"]] == ["home", "cloud"]


async def test_no_backends_says_what_to_do(nexus_gateway, tmp_path):
    gateway = await nexus_gateway("")
    assert "start a server" in (await nexus("backends", "--url", gateway.url, cwd=tmp_path)).out
    assert "No model is known" in (await nexus("models", "--url", gateway.url, cwd=tmp_path)).out


async def test_models_with_what_they_can_do_and_the_aliases(running, tmp_path):
    ended = await nexus("models", "--url", running.url, cwd=tmp_path)
    assert ended.code == 0
    tiny = next(line for line in ended.out.splitlines() if line.startswith("tiny:latest"))
    assert "ready" in tiny
    assert "8k of 128k" in tiny
    assert "tools" in tiny
    assert "gpt" in ended.out
    assert "open, cloud" in ended.out
    assert "chat → tiny:latest = gpt" in ended.out
    names = {m["name"] for m in (await nexus("models", "--json", "--url", running.url, cwd=tmp_path)).json["models"]}
    assert names == {"tiny:latest", "gpt"}


@pytest.mark.parametrize(
    ("served", "most", "said"),
    [(8192, 131072, "8k of 128k"), (128000, 128000, "128k"), (511, None, "511"), (None, 4096, "of 4k"), (None, None, "")],
)
def test_contexts_are_said_short(served, most, said):
    assert context(served, most) == said


async def test_a_name_cannot_move_the_terminal(nexus_gateway, tmp_path):
    async with openai_server([FakeModel("evil\u202e[red]name")]) as upstream:
        backend = {"name": "home", "type": "openai-compatible", "url": upstream.url}
        gateway = await nexus_gateway({"backends": [backend]})
        await gateway.until(lambda: gateway.gateway.ready, timeout=30)
        ended = await nexus("models", "--url", gateway.url, cwd=tmp_path)
    assert not {"\x1b", "\u202e"} & set(ended.out)
    assert "[red]name" in ended.out


# ---------------------------------------------------------------- explain


async def test_explain_says_where_why_and_why_not_elsewhere(running, tmp_path):
    ended = await nexus("explain", "chat", "Hello", "--zone", "restricted", "--url", running.url, cwd=tmp_path)
    assert ended.code == 0
    text = ended.out
    assert "A chat request for chat, now:" in text
    assert "means     tiny:latest = gpt" in text
    assert "needs     zone restricted" in text
    assert "→ goes to home, model tiny:latest (home, zone restricted, tier 1)" in text
    assert "because   capability-match: " in text
    assert "  1. home (tiny:latest)  home  " in text
    assert "privacy  cloud (gpt) is in the zone open, and the request must stay restricted." in text
    assert "Only the operator can widen a zone" in text


async def test_explain_tells_the_error_that_the_client_would_get(running, tmp_path):
    args = ("explain", "tiny:latest", "--image", "--stream", "--url", running.url)
    ended = await nexus(*args, cwd=tmp_path)
    assert ended.code == 0
    assert "A streamed chat request" in ended.out
    assert "nobody can take it; the client would get 400 capability_mismatch:" in ended.out
    assert "takes no images" in ended.out
    answer = (await nexus(*args, "--json", cwd=tmp_path)).json
    assert answer["error"]["status"] == 400
    assert answer["demand"]["needs"] == ["chat", "vision"]


async def test_explain_flags_become_headers_and_body(running, tmp_path):
    flags = ("--tools", "--strict", "--flexible", "--priority", "low", "--json", "--url", running.url)
    answer = (await nexus("explain", "chat", *flags, cwd=tmp_path)).json
    assert "tools" in answer["demand"]["needs"]
    assert [leg["name"] for leg in answer["legs"]] == ["chat"]  # strict wins over flexible


async def test_explain_of_a_model_that_is_not_there(running, tmp_path):
    ended = await nexus("explain", "nonesuch", "--url", running.url, cwd=tmp_path)
    assert "404 model_not_found" in ended.out


async def test_explain_of_a_body_from_a_file_and_from_stdin(running, tmp_path):
    body = {"model": "gpt", "messages": [{"role": "user", "content": "x"}], "stream": True}
    (tmp_path / "body.json").write_text(json.dumps(body), encoding="utf-8")
    read = await nexus("explain", "--body", "body.json", "--json", "--url", running.url, cwd=tmp_path)
    assert read.json["request"] == {"model": "gpt", "task": "chat", "stream": True}
    named = await nexus("explain", "chat", "--body", "-", "--json", "--url", running.url, cwd=tmp_path, stdin=json.dumps(body))
    assert named.json["request"]["model"] == "chat"
    embed = await nexus("explain", "gpt", "--path", "/v1/embeddings", "--json", "--url", running.url, cwd=tmp_path)
    assert embed.json["request"]["task"] == "embedding"
    wrong = await nexus("explain", "--body", "-", "--url", running.url, cwd=tmp_path, stdin="{")
    assert (wrong.code, wrong.err) == (1, "nexus: stdin is not JSON\n")
    missing = await nexus("explain", "--body", "absent.json", "--url", running.url, cwd=tmp_path)
    assert missing.code == 1
    assert "absent.json cannot be read" in missing.err


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_explain_knows_anthropics_requests(running, tmp_path, path):
    flags = ("--image", "--tools", "--path", path, "--json", "--url", running.url)
    asked = await nexus("explain", "gpt", *flags, cwd=tmp_path)
    assert set(asked.json["demand"]["needs"]) >= {"vision", "tools"}


async def test_explain_of_a_path_whose_requests_are_not_known_wants_a_body(running, tmp_path):
    ended = await nexus("explain", "gpt", "--path", "/plain/chat", "--url", running.url, cwd=tmp_path)
    assert ended.code == 2
    assert "give one with --body FILE" in ended.err


async def test_explain_of_nothing_is_wrong_usage(running, tmp_path):
    ended = await nexus("explain", "--url", running.url, cwd=tmp_path)
    assert ended.code == 2
    assert "Name a MODEL" in ended.err


async def test_explain_of_a_request_that_was_served(running, tmp_path):
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"X-Request-Id": "mine/1 2".replace(" ", "_"), "X-Nexus-Zone": "restricted"}
    async with running.client.post("/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200
    ended = await nexus("explain", "--request", headers["X-Request-Id"], "--url", running.url, cwd=tmp_path)
    assert ended.code == 0
    assert f"Request {headers['X-Request-Id']}, ended 20" in ended.out
    assert "→ ok (status 200), " in ended.out
    assert "by        home, model tiny:latest" in ended.out
    assert "tokens in, " in ended.out
    assert "attempt 1 home (tiny:latest)  ok" in ended.out
    assert "privacy  cloud (gpt) is in the zone open" in ended.out
    assert "Who could take it, before the last attempt, best first" in ended.out
    assert ")  tried: ok\n" in ended.out
    both = await nexus("explain", "chat", "--request", headers["X-Request-Id"], "--url", running.url, cwd=tmp_path)
    assert both.code == 2
    assert "leave MODEL out" in both.err
    unknown = await nexus("explain", "--request", "nobody", "--url", running.url, cwd=tmp_path)
    assert unknown.code == 1
    assert "no request of that id is remembered" in unknown.err


# ---------------------------------------------------------------- keys, and what is no gateway


async def test_keys_are_shown_to_the_gateway_and_to_nobody_else(nexus_gateway, tmp_path):
    (admin, admin_hash), (user, user_hash) = new_key(), new_key()
    keys = [{"name": "boss", "hash": admin_hash, "admin": True}, {"name": "laptop", "hash": user_hash, "models": ["tiny*"]}]
    async with ollama_server(["tiny:latest"]) as home, openai_server(["gpt"]) as cloud:
        gateway = await nexus_gateway(fleet(home, cloud, keys=keys))
        await gateway.until(lambda: gateway.gateway.ready, timeout=30)
        url = ("--url", gateway.url)
        none = await nexus("backends", *url, cwd=tmp_path)
        wrong = await nexus("backends", *url, cwd=tmp_path, env={"NEXUS_KEY": user})
        right = await nexus("backends", *url, cwd=tmp_path, env={"NEXUS_KEY": admin})
        named = await nexus("models", "--key-env", "MY_KEY", *url, cwd=tmp_path, env={"MY_KEY": admin})
        as_user = ("explain", "gpt", "--key", "laptop", *url)
        denied = await nexus(*as_user, cwd=tmp_path, env={"NEXUS_KEY": admin})
        open_to_all = await nexus("health", *url, cwd=tmp_path)
        unsendable = await nexus("backends", *url, cwd=tmp_path, env={"NEXUS_KEY": "se\ncret"})
    assert (none.code, wrong.code, right.code, named.code) == (1, 1, 0, 0)
    assert "answered 401" in none.err
    assert "put an admin key into NEXUS_KEY" in none.err
    assert "'laptop' is no admin key" in wrong.err
    assert "may not use the model 'gpt'" in denied.out
    assert open_to_all.code == 0
    assert unsendable.err == "nexus: NEXUS_KEY holds something that cannot be sent as a key\n"
    everything = "".join(e.out + e.err for e in (none, wrong, right, named, denied, unsendable))
    assert admin not in everything
    assert user not in everything
    assert "cret" not in everything


@pytest.mark.parametrize("command", [("health",), ("backends",), ("models",), ("explain", "tiny")])
async def test_no_gateway_says_how_to_start_one(tmp_path, command):
    async with ScriptedUpstream() as upstream:
        upstream.stop_listening()
        ended = await nexus(*command, "--url", upstream.url, cwd=tmp_path)
    assert ended.code == 1
    assert ended.out == ""
    said = re.sub(r"`\S*/nexus serve`", "`nexus serve`", ended.err)  # where the command is not on the PATH it has its path
    assert said == (
        f"nexus: no gateway runs at {upstream.url}: start it with `nexus serve`, or say where it is with --url or NEXUS_URL\n"
    )


@pytest.mark.parametrize(
    "act",
    [
        Respond(body=b"<html>"),
        Respond(404, body=b"nothing"),
        Respond(json=["a", "list"]),
        Respond(json={"status": "ok"}),
        Respond(404, json={"error": {}}),
    ],
)
async def test_something_else_answers(tmp_path, act):
    async with ScriptedUpstream(act) as upstream:
        ended = await nexus("health", "--url", upstream.url, cwd=tmp_path)
    assert ended.code == 1
    assert f"what answers at {upstream.url} is not a Nexus gateway" in ended.err


async def test_a_url_without_a_scheme_is_of_http(nexus_gateway, tmp_path):
    gateway = await nexus_gateway()
    ended = await nexus("health", "--url", gateway.url.removeprefix("http://"), cwd=tmp_path)
    assert "unhealthy" in ended.out + ended.err


@pytest.mark.parametrize("url", [":6398", "127.0.0.1:port", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port"])
async def test_a_url_that_is_none(tmp_path, url):
    ended = await nexus("health", "--url", url, cwd=tmp_path)
    assert ended.code == 1
    assert "must look like http://127.0.0.1:6398" in ended.err


@pytest.mark.parametrize("url", ["http://me:nx-topsecret@localhost:1", "nx-topsecret@localhost:1", "localhost:1/?key=nx-topsecret"])
async def test_a_key_in_the_url_is_refused_and_not_repeated(tmp_path, url):
    ended = await nexus("health", "--url", url, cwd=tmp_path)
    assert ended.code == 1
    assert "put the key into NEXUS_KEY" in ended.err
    assert "topsecret" not in ended.out + ended.err


async def test_the_url_that_clients_are_given_will_do(running, tmp_path):
    assert (await nexus("health", "--url", f"{running.url}/v1/", cwd=tmp_path)).code == 0
