"""How long a backend and a model may take: whose word holds, for how long, and that an error names the setting as it is written."""

import asyncio
import time

import pytest

from nexus.config import load
from nexus.errors import BackendError, ConfigError
from nexus.patience import Patience, Timeouts
from nexus.testing import Hang, Pace, Slow, openai_server

from .asking import CHAT, a_backend, ask, fleet, settled

BACKEND, MODEL = '[[backends]] "gpu"', '[[backends.models]] "tiny" of "gpu"'


def patience(backend: Timeouts | None = None, model: Timeouts | None = None) -> Patience:
    return Patience(connect=5, first_byte=300, answer=1800, idle=120).but(backend, BACKEND).but(model, MODEL)


@pytest.mark.parametrize("code", ["connect_timeout", "first_byte_timeout", "answer_timeout", "idle_timeout"])
@pytest.mark.parametrize(
    ("backend", "model", "seconds", "table"),
    [
        (None, None, None, "[upstream]"),
        (7.0, None, 7, BACKEND),
        (7.0, 0.5, 0.5, MODEL),
        (None, 900.0, 900, MODEL),
    ],
)
def test_the_narrowest_table_that_says_something_holds_and_is_named(code, backend, model, seconds, table):
    name = code.removesuffix("_timeout")
    made = patience(backend and Timeouts(**{name: backend}), model and Timeouts(**{name: model}))
    usual = {"connect": 5, "first_byte": 300, "answer": 1800, "idle": 120}
    assert made.setting(code) == f"{table} {code}_seconds"
    assert made.told(BackendError(code, "said nothing")) == (
        f"said nothing (waited {usual[name] if seconds is None else seconds:g} s: {table} {code}_seconds)"
    )
    others = {other: getattr(made, other) for other in usual if other != name}
    assert others == {other: usual[other] for other in others}


def test_what_is_no_timeout_is_told_as_it_is():
    assert patience().told(BackendError("reset", "closed")) == "closed"
    assert patience(Timeouts(idle=1)).told(BackendError("malformed")) == "malformed"


def test_upstreams_time_is_for_all_attempts_and_a_narrower_one_for_each():
    usual, own = patience(), patience(Timeouts(first_byte=1000))
    assert usual.until("first_byte", 290, 300) == 300
    assert own.until("first_byte", 290, 300) == 1290
    assert patience(Timeouts(first_byte=4)).until("first_byte", 200, 300) == 204
    assert own.until("answer", 290, 1800) == 1800


def test_signs_of_life_are_waited_through_for_as_long_as_a_whole_answer():
    assert patience().signs_until(10, 310) == 1810
    assert patience(Timeouts(first_byte=5)).signs_until(10, 310) == 1810
    assert patience(Timeouts(answer=50)).signs_until(10, 310) == 310
    assert patience(Timeouts(answer=50, first_byte=5)).signs_until(10, 310) == 60


# ---------------------------------------------------------------- on a real gateway


def story(said) -> str:
    return said.json["error"]["context"]["attempts"][0]["message"]


@pytest.mark.parametrize("where", ["upstream", "backend", "model"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_does_not_answer_is_given_up_and_the_setting_named(nexus_gateway, where, stream):
    key = f"{'first_byte' if stream else 'answer'}_timeout_seconds"
    tables = {"upstream": {key: 0.5 if where == "upstream" else 60}}
    table = {"backend": {key: 0.5}, "model": {key: 60, "models": [{"id": "tiny", key: 0.5}]}}.get(where, {})
    async with openai_server() as server:
        server.on(CHAT, Hang(), method="POST")
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, **table), **tables)))
        began = time.monotonic()
        said = await ask(gateway, stream=stream)
        assert time.monotonic() - began < 20
        assert (said.status, said.error["code"]) == (504, "all_attempts_timed_out")
        named = {"upstream": "[upstream]", "backend": BACKEND, "model": MODEL}[where]
        assert f"(waited 0.5 s: {named} {key})" in story(said)


async def test_a_slow_backend_may_be_given_more_time_than_upstream_gives(nexus_gateway):
    async with openai_server(text="at last") as server:
        server.on(CHAT, lambda received: Slow(1.5, server.chat(received)), method="POST")
        table = {"models": [{"id": "tiny", "answer_timeout_seconds": 30, "first_byte_timeout_seconds": 30}]}
        upstream = {"answer_timeout_seconds": 0.3, "first_byte_timeout_seconds": 0.3}
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, **table), upstream=upstream)))
        assert [(await ask(gateway, stream=stream)).status for stream in (False, True)] == [200, 200]


async def test_a_hanging_backend_is_given_up_in_time_for_another(nexus_gateway):
    """What is written at a backend is its own: the next one has the rest of the time."""
    async with openai_server() as hangs, openai_server() as serves:
        hangs.on(CHAT, Hang(), method="POST")
        quick = {"first_byte_timeout_seconds": 0.5, "answer_timeout_seconds": 0.5}
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", hangs, **quick), a_backend("cpu", serves))))
        for stream in (True, False):
            said = await ask(gateway, stream=stream)
            assert (said.status, said.nexus("Backend")) == (200, "cpu")


async def test_a_stream_that_stops_is_cut_after_its_models_time_and_says_which(nexus_gateway):
    async with openai_server(text="one two three", pace=Pace(tokens_per_second=0.05)) as server:
        table = {"idle_timeout_seconds": 60, "models": [{"id": "tiny", "idle_timeout_seconds": 0.5}]}
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, **table))))
        said = await asyncio.wait_for(ask(gateway, stream=True), 30)
        event = said.body.decode().replace('\\"', '"')
        assert f"(waited 0.5 s: {MODEL} idle_timeout_seconds)" in event


async def test_the_table_is_named_as_it_is_written(nexus_gateway):
    """By the id that the operator wrote, be it one of several names or one that stands for many."""
    async with openai_server(["tiny"]) as server:
        server.on(CHAT, Hang(), method="POST")
        tables = {"models": [{"id": "ti*", "answer_timeout_seconds": 0.5}]}
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, **tables))))
        assert '[[backends.models]] "ti*" of "gpu" answer_timeout_seconds' in story(await ask(gateway))


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("idle_timout_seconds = 1", "backends[0].idle_timout_seconds", "idle_timeout_seconds"),
        ("idle_timeout = 1", "backends[0].idle_timeout", "idle_timeout_seconds"),
        ("first_byte_timeout_seconds = 0", "backends[0].first_byte_timeout_seconds", "more than 0"),
        (
            "[[backends.models]]\nid = 'm'\nanswer_timeout_secs = 1",
            "backends[0].models[0].answer_timeout_secs",
            "answer_timeout_seconds",
        ),
        ("[[backends.models]]\nid = 'm'\nmax_concurent = 1", "backends[0].models[0].max_concurent", "max_concurrent"),
        ("[[backends.models]]\nid = 'm'\nmax_concurrent = 0", "backends[0].models[0].max_concurrent", "at least 1"),
        ("[[backends.models]]\nid = 'm'\nidle_timeout_seconds = '9'", "backends[0].models[0].idle_timeout_seconds", "number"),
    ],
)
def test_a_mistyped_setting_stops_the_start_and_names_itself(text, place, word):
    with pytest.raises(ConfigError) as caught:
        load(f"[[backends]]\nname = 'gpu'\nurl = 'http://127.0.0.1:1'\n{text}", env={})
    (mistake,) = caught.value.mistakes
    assert place in mistake.place
    assert word in str(mistake)
