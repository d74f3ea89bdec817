"""What a client is told when nobody can have its request, or nobody answered: status, code, words, headers, and when to return."""

import asyncio

import pytest

from nexus.testing import FakeModel, Hang, Held, Respond, llamacpp_server, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def begin(coro):
    return asyncio.get_running_loop().create_task(coro)


async def one(nexus_gateway, server, *, settle=True, backend=None, **tables):
    gateway = await nexus_gateway(fleet(a_backend("one", server, **(backend or {})), **tables))
    return await settled(gateway) if settle else gateway


# ---------------------------------------------------------------- never


@pytest.mark.parametrize(("fields", "word"), [({"messages": IMAGE}, "images"), ({"tools": TOOLS}, "tools")])
async def test_what_nobody_can_do_is_a_400_that_names_it(nexus_gateway, fields, word):
    async with llamacpp_server([FakeModel("tiny", tools=False)]) as server:
        gateway = await one(nexus_gateway, server, backend={"type": "llamacpp"})
        said = await ask(gateway, **fields)
        assert (said.status, said.error["code"], said.error["type"]) == (400, "capability_mismatch", "invalid_request_error")
        assert word in said.error["message"]
        assert said.nexus("Rejection-Reasons").startswith("one/tiny=capability:no_")
        assert (said.nexus("Attempts"), said.headers.get("Retry-After")) == ("0", None)
        assert not chats(server)


async def test_a_prompt_that_is_too_long_is_said_in_words_that_agents_know(nexus_gateway):
    async with llamacpp_server([FakeModel("tiny", context=64)]) as server:
        gateway = await one(nexus_gateway, server, backend={"type": "llamacpp"})
        said = await ask(gateway, messages=[{"role": "user", "content": "x" * 8000}])
        assert (said.status, said.error["code"], said.error["param"]) == (400, "context_length_exceeded", "messages")
        start, _, rest = said.error["message"].partition(": ")
        assert start == "prompt is too long"
        assert rest.endswith("> 64 maximum")
        (refusal,) = said.error["context"]["refusals"]
        assert (refusal["backend"], refusal["stage"], refusal["kind"], refusal["reason"]) == (
            "one",
            "capability",
            "never",
            "context",
        )
        assert refusal["hint"]


async def test_one_that_could_but_is_down_is_no_mismatch(nexus_gateway):
    async with llamacpp_server([FakeModel("m", tools=False)]) as cannot, openai_server(["m"]) as can:
        config = fleet(a_backend("cannot", cannot, "llamacpp"), a_backend("can", can), health={"failure_threshold": 1})
        gateway = await settled(await nexus_gateway(config))
        can.kill()
        gateway.gateway.fleet.doubted("can")
        await gateway.until(lambda: gateway.gateway.fleet.standings["can"].pulse.health == "unhealthy")
        said = await ask(gateway, "m", tools=TOOLS)
    assert said.status == 503
    assert said.headers.get("Retry-After") is None


# ---------------------------------------------------------------- unknown names


async def test_an_unknown_model_is_a_404_with_the_nearest_names(nexus_gateway):
    async with openai_server(["llama3:70b", "qwen"]) as server:
        gateway = await one(nexus_gateway, server, routing={"aliases": {"llama": "llama3:70b"}})
        said = await ask(gateway, "lama3:70b")
        assert (said.status, said.error["code"], said.error["param"]) == (404, "model_not_found", "model")
        assert said.error["context"]["nearest"][0] == "llama3:70b"
        assert "'llama3:70b'" in said.error["message"]
        far = await ask(gateway, "zzzzzzzz")
        assert (far.status, far.error["context"]["nearest"]) == (404, [])


async def test_a_name_is_unknown_only_once_everybody_has_answered(nexus_gateway):
    """A backend that never answered may know it: that is a 503."""
    async with openai_server() as well, openai_server(["big"]) as ill:
        ill.stop_listening()
        config = fleet(a_backend("well", well), a_backend("ill", ill), health={"recovery_threshold": 1})
        gateway = await settled(await nexus_gateway(config))
        said = await ask(gateway, "big")
        assert (said.status, said.error["code"]) == (503, "backends_unavailable")
        assert "ill" in said.error["message"]
        assert said.error["context"]["silent_backends"] == ["ill"]
        await ill.start_listening()
        await gateway.until(lambda: gateway.gateway.fleet.find("big"))
        assert (await ask(gateway, "big")).status == 200
        assert (await ask(gateway, "huge")).status == 404


async def test_who_has_not_said_what_it_serves_is_named_beside_those_who_are_down(nexus_gateway):
    """Also where the name is an alias, and where the model is only written down: by an id of a table, or a name of `models`."""
    async with openai_server(["other"]) as well, openai_server(["llama3"]) as dead, openai_server(["llama3"]) as silent:
        dead.stop_listening()
        silent.stop_listening()
        backends = a_backend("well", well), a_backend("dead", dead, models=["llama3"]), a_backend("silent", silent)
        aliases = {"chat": ["llama3"], "far": ["unknown", "unheard"]}
        gateway = await settled(await nexus_gateway(fleet(*backends, routing={"aliases": aliases})))
        for asked in ("llama3", "chat"):
            said = await ask(gateway, asked)
            assert (said.status, said.error["code"]) == (503, "backends_unavailable")
            assert said.error["message"].endswith("dead (llama3) is down; these have not said what they serve: silent")
            assert said.error["context"]["silent_backends"] == ["silent"]
        far = await ask(gateway, "far")
        assert (far.status, far.error["context"]["silent_backends"]) == (503, ["silent"])
        assert "the model 'far' (an alias of 'unknown' and 'unheard')" in far.error["message"]
        listed = (await page(gateway, "/nexus/models")).json["models"]
        assert [(m["name"], m["backend"], m["health"]) for m in listed] == [
            ("other", "well", "healthy"),
            ("llama3", "dead", "unhealthy"),
        ]


async def test_a_name_is_missed_for_a_while_after_its_backend_has_left(nexus_gateway, monkeypatch):
    """A server that is started again is no reason for a client to give up."""
    async with openai_server() as stays, openai_server(["big"]) as goes:
        tables = {"routing": {"aliases": {"large": ["big"]}}}
        gateway = await settled(await nexus_gateway(fleet(a_backend("stays", stays), a_backend("goes", goes), **tables)))
        held = gateway.gateway.fleet
        held.leave("goes")
        for name in ("big", "large"):
            said = await ask(gateway, name)
            assert (said.status, said.error["code"], said.headers["Retry-After"]) == (503, "backends_unavailable", "5")
            assert "'goes', which serves" in said.error["message"]
        now = held.now
        monkeypatch.setattr(held, "now", lambda: now() + 601)
        assert (await ask(gateway, "big")).status == 404


async def test_a_request_that_comes_before_the_first_probe_waits_for_it(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server() as server:
        server.next(Held(gate, Respond(json={"data": [{"id": "tiny"}]})), path="/v1/models")
        gateway = await one(nexus_gateway, server, settle=False)
        asking = begin(ask(gateway))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        gate.set()
        assert (await asking).status == 200


async def test_without_a_backend_the_answer_says_what_to_start(nexus_gateway):
    said = await ask(await nexus_gateway())
    assert (said.status, said.error["code"], said.error["type"]) == (503, "no_backends", "service_unavailable")
    assert "[[backends]]" in said.error["message"]
    assert said.nexus("Request-Id")


# ---------------------------------------------------------------- attempts


@pytest.mark.parametrize(
    ("acts", "status", "code"),
    [
        ((Respond(500, json={"error": {"message": "boom"}}), Respond(503, json={})), 502, "all_attempts_failed"),
        ((Respond(404, json={}), Respond(404, json={})), 502, "all_attempts_failed"),
        ((Respond(429, json={}, headers={"Retry-After": "120"}), Respond(500, json={})), 502, "all_attempts_failed"),
    ],
)
async def test_when_every_attempt_failed_the_answer_says_what_each_backend_said(nexus_gateway, acts, status, code):
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(acts[0], path=CHAT)
        b.next(acts[1], path=CHAT)
        said = await ask(gateway)
        tried = str(sum(act.status != 429 for act in acts))
        assert (said.status, said.error["code"], said.nexus("Attempts")) == (status, code, tried)
        assert [(x["backend"], x["status"]) for x in said.error["context"]["attempts"]] == [
            ("a", acts[0].status),
            ("b", acts[1].status),
        ]
        assert "a (tiny): answered" in said.error["message"]


LACKS = Respond(501, json={"error": {"message": "this model does not support tools"}})


@pytest.mark.parametrize(
    ("acts", "status", "code"),
    [
        ((LACKS, LACKS), 400, "capability_mismatch"),
        ((LACKS, Respond(500, json={"error": {"message": "boom"}})), 502, "all_attempts_failed"),
    ],
    ids=["neither can", "one cannot, the other fails"],
)
async def test_what_every_backend_says_it_cannot_do_is_told_so_from_the_first_time_on(nexus_gateway, acts, status, code):
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(acts[0], path=CHAT)
        b.next(acts[1], path=CHAT)
        wanted = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
        said = await ask(gateway, **wanted)
        tried = str(sum(act.status != 429 for act in acts))
        assert (said.status, said.error["code"], said.nexus("Attempts")) == (status, code, tried)
        if status == 400:
            again = await ask(gateway, **wanted)
            assert (again.status, again.error["code"], again.nexus("Attempts")) == (400, "capability_mismatch", "0")


@pytest.mark.parametrize(
    ("status", "said", "wanted"),
    [
        (403, "your plan does not support tools", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
        (401, "this key is not an embedding key", {}),
        (404, "this endpoint does not support image generation models", {}),
    ],
)
async def test_words_about_a_key_or_about_what_nobody_asked_for_are_no_lack(nexus_gateway, status, said, wanted):
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        a.next(Respond(status, json={"error": {"message": said}}), path=CHAT)
        answer = await ask(gateway, **wanted)
        assert (answer.status, answer.error["code"]) == (502, "all_attempts_failed")


async def test_a_fallback_that_was_not_looked_at_might_have_been_able(nexus_gateway):
    async with openai_server(["tiny", "spare"]) as a:
        routing = {"max_attempts": 1, "fallbacks": {"tiny": ["spare"]}}
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), routing=routing)))
        a.next(LACKS, path=CHAT)
        wanted = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
        assert (await ask(gateway, **wanted)).status == 502
        again = await ask(gateway, **wanted)
        assert (again.status, again.nexus("Fallback-Model")) == (200, "spare")


async def test_who_was_not_asked_might_have_been_able(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        config = fleet(a_backend("a", a), a_backend("b", b), routing={"max_attempts": 1})
        gateway = await settled(await nexus_gateway(config))
        a.next(LACKS, path=CHAT)
        b.next(LACKS, path=CHAT)
        said = await ask(gateway, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
        assert (said.status, said.error["code"], said.nexus("Attempts")) == (502, "all_attempts_failed", "1")


async def test_all_paused_for_long_is_a_429_at_once_and_again_without_asking(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(Respond(429, json={}, headers={"Retry-After": "3000"}), path=CHAT)
        b.next(Respond(429, json={}, headers={"Retry-After": "45"}), path=CHAT)
        first, second = await ask(gateway), await ask(gateway)
        assert [(x.status, x.error["code"], x.error["type"]) for x in (first, second)] == [
            (429, "rate_limited", "rate_limit_error")
        ] * 2
        assert [x.nexus("Attempts") for x in (first, second)] == ["0", "0"], "who is only busy has not been tried"
        assert all(40 <= int(x.headers["Retry-After"]) <= 45 for x in (first, second))
        assert (len(chats(a)), len(chats(b))) == (1, 1)


async def test_timeouts_are_a_504(nexus_gateway):
    async with openai_server() as server:
        gateway = await one(nexus_gateway, server, upstream={"answer_timeout_seconds": 0.2})
        server.next(Hang(), path=CHAT)
        said = await ask(gateway)
        assert (said.status, said.error["code"], said.error["type"]) == (504, "all_attempts_timed_out", "timeout_error")


@pytest.mark.parametrize("status", [400, 405, 409, 413, 415, 422, 499])
async def test_any_other_4xx_is_the_clients_untouched_and_not_held_against_the_backend(nexus_gateway, status):
    body = {"error": {"message": "this is yours", "type": "odd", "extra": [1, 2]}}
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(Respond(status, json=body, headers={"X-RateLimit-Limit": "7", "X-Secret": "s"}), path=CHAT)
        said = await ask(gateway, stream=True)
        assert (said.status, said.json, said.nexus("Backend")) == (status, body, "a")
        assert (said.headers.get("X-RateLimit-Limit"), "X-Secret" in said.headers) == ("7", False)
        (pair,) = gateway.gateway.fleet.standings["a"].pairs.values()
        assert (pair.failures, pair.claimed) == (0, 0)
        assert not chats(b)


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_no_answer_and_is_not_followed(nexus_gateway, status):
    async with openai_server() as a, openai_server() as elsewhere:
        gateway = await one(nexus_gateway, a)
        a.next(Respond(status, headers={"Location": elsewhere.url + CHAT}), path=CHAT)
        assert (await ask(gateway)).status == 502
        assert not elsewhere.requests


# ---------------------------------------------------------------- waiting helps, or not


@pytest.mark.parametrize(
    ("queue", "code"),
    [({"max_requests": 0}, "queue_full"), ({"max_wait_seconds": 0.05}, "queue_timeout"), ({"max_bytes": 10}, "queue_full")],
)
async def test_when_the_queue_does_not_help_the_answer_says_when_to_return(nexus_gateway, queue, code):
    gate = asyncio.Event()
    async with openai_server() as server:
        gateway = await one(nexus_gateway, server, backend={"max_concurrent": 1}, queue=queue)
        server.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        first = begin(ask(gateway))
        await server.until(lambda: server.in_flight == 1)
        said = await ask(gateway)
        assert (said.status, said.error["code"]) == (503, code)
        assert 1 <= int(said.headers["Retry-After"]) < 60
        assert said.error["context"]["eta_seconds"] == int(said.headers["Retry-After"])
        assert said.nexus("Rejection-Reasons") == "one/tiny=core:busy"
        gate.set()
        assert (await first).status == 200


async def test_explain_says_the_same_as_the_request_would_hear(nexus_gateway):
    async with openai_server() as server:
        gateway = await one(nexus_gateway, server, policies=[{"models": ["tiny"], "zone": "restricted"}])
        body = {"request": {"model": "tiny", "messages": [{"role": "user", "content": "x" * 300_000}]}}
        async with gateway.client.post("/nexus/explain", json=body) as answer:
            told = await answer.json()
        said = await ask(gateway)
        assert (told["error"]["status"], told["error"]["code"]) == (said.status, said.error["code"]) == (503, "privacy_zone")
        for odd in ({"path": 5}, {"key": 5}, {"headers": []}, {"request": []}):
            async with gateway.client.post("/nexus/explain", json=body | odd) as answer:
                assert answer.status == 400, odd
        assert not chats(server)
        assert (await page(gateway, "/nexus/requests/none")).status == 404


async def test_a_typo_is_a_404_though_a_backend_is_silent_and_what_may_be_its_model_is_none(nexus_gateway):
    """Nobody knows what it serves.  A name that is another's but for a letter is likelier a slip; other figures make another model."""
    async with openai_server(["llama3:70b"]) as a, openai_server() as dead:
        dead.on("/v1/models", Respond(500))
        tables = {"routing": {"aliases": {"lama3:70b-chat": ["llama:70b"], "chat": ["llama3:70b"]}}}
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("dead", dead), **tables)))
        slip = await ask(gateway, "lama3:70b")
        assert (slip.status, slip.error["code"]) == (404, "model_not_found")
        assert "did you mean 'llama3:70b'" in slip.error["message"]
        assert "have not said what they serve: dead)" in slip.error["message"]
        assert (slip.error["context"]["silent_backends"], slip.error["context"]["nearest"][0]) == (["dead"], "llama3:70b")
        smaller, alias = await ask(gateway, "llama3:7b"), await ask(gateway, "lama3:70b-chat")
        for other in smaller, alias:
            assert (other.status, other.error["code"]) == (503, "backends_unavailable")
        assert smaller.error["context"]["nearest"][0] == "llama3:70b"


async def test_who_has_been_silent_for_long_holds_up_no_404(nexus_gateway, monkeypatch):
    """As long as a name is missed that a server has taken with it.  What it is declared to serve stays a 503."""
    async with openai_server() as well, openai_server() as dead, openai_server() as written:
        dead.stop_listening()
        written.stop_listening()
        backends = a_backend("well", well), a_backend("dead", dead), a_backend("written", written, models=["big"])
        gateway = await settled(await nexus_gateway(fleet(*backends)))
        held = gateway.gateway.fleet
        now, said = held.now, []
        for later in (0, 500, 601):
            monkeypatch.setattr(held, "now", lambda later=later: now() + later)
            said.append(await ask(gateway, "huge"))
            assert (await ask(gateway, "big")).status == 503
        assert [(one.status, one.error["code"]) for one in said] == [(503, "backends_unavailable")] * 2 + [(404, "model_not_found")]
        assert all(one.error["context"]["silent_backends"] == ["dead"] for one in said)


async def test_who_may_not_serve_a_name_is_not_waited_for(nexus_gateway):
    """A backend whose `models` do not have it."""
    async with openai_server() as well, openai_server() as dead:
        dead.stop_listening()
        gateway = await settled(await nexus_gateway(fleet(a_backend("well", well), a_backend("dead", dead, models=["qwen*"]))))
        assert [(await ask(gateway, name)).status for name in ("huge", "qwen3")] == [404, 503]


async def test_an_answer_without_words_is_told_by_its_status_alone(nexus_gateway):
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        a.next(Respond(402, body=b""), path=CHAT)
        said = await ask(gateway)
        assert [attempt["message"] for attempt in said.error["context"]["attempts"]] == ["answered 402"]
        assert said.error["message"].endswith("a (tiny): answered 402")


async def test_a_path_that_a_server_lacks_is_one_reason(nexus_gateway):
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        a.on("/v1/embeddings", Respond(404, json={"detail": "Not Found"}), method="POST")
        for _ in range(2):
            async with gateway.client.post("/v1/embeddings", json={"model": "tiny", "input": "hello"}) as answer:
                told = (await answer.json())["error"]
        assert told["code"] == "capability_mismatch"
        assert told["message"].endswith(": a (tiny) has no path for openai embedding, as it said when it was asked")
