"""Servers that take a connection and answer nothing: they come last after a few timeouts, however far apart, and time says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from nexus.cli.backends import evidence
from nexus.cli.check import summary
from nexus.cli.explanation import of_served
from nexus.cli.models import resting
from nexus.config import load
from nexus.errors import BackendError
from nexus.health import MOST_APART_SECONDS, Limits, Record
from nexus.model import Attempt
from nexus.model.attempt import told_again, tries
from nexus.patience import Patience, Timeouts
from nexus.plain import rounded
from nexus.testing import Act, FakeModel, Hang, Respond, Slow, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

LIMITS = Limits(timeout_threshold=3, eject_seconds=15)
QUICK = {"first_byte_timeout_seconds": 0.4, "answer_timeout_seconds": 0.4}


# ---------------------------------------------------------------- the record


@pytest.mark.parametrize("apart", [0.0, 31.0, MOST_APART_SECONDS])
@pytest.mark.parametrize("waited", [1.0, 300.0, 1800.0])
def test_timeouts_in_a_row_eject_however_long_each_takes(apart, waited):
    record, now = Record(LIMITS), 10_000.0
    for _ in range(3):
        assert not record.ejected_until
        now += apart + waited
        record.served(False, now, "first_byte_timeout", waited=waited)
    assert record.ejected_until == now + 15
    assert record.reason == "3 requests in a row got no answer in time, the last of them so: first_byte_timeout"


def test_a_success_between_or_a_long_time_begins_the_row_anew():
    record, now = Record(LIMITS), 10_000.0
    for between in ("ok", "late") * 3:
        for _ in range(2):
            record.served(False, now, "answer_timeout", waited=5.0)
            now += 60
        if between == "ok":
            record.served(True, now)
        else:
            now += MOST_APART_SECONDS + 6
    assert not record.ejected_until


def test_what_fails_otherwise_is_no_timeout():
    record = Record(LIMITS)
    for second in range(0, 300, 60):
        record.served(False, 1000 + second, "status")
    assert not record.ejected_until


# ---------------------------------------------------------------- on a real gateway


@contextlib.asynccontextmanager
async def unanswering():
    """The address of a server that takes no more connections: what wants one waits."""
    with socket.socket() as server, contextlib.ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def hung(nexus_gateway, home, cloud, **tables):
    """A gateway whose home server takes connections and never answers a chat; `tables` beside the usual ones."""
    home.on(CHAT, Hang(), method="POST")
    backends = (a_backend("home", home, zone="restricted", **QUICK), a_backend("cloud", cloud, type="openai"))
    return await settled(await nexus_gateway(fleet(*backends, health={"eject_seconds": 600}, **tables)))


def is_due(gateway):
    """The time is over for which the model at home was left out."""
    standing = gateway.gateway.fleet.standings["home"]
    standing.pairs["tiny"].record.ejected_until = gateway.gateway.clock.now()
    standing.redraw()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("served", ["the same", "a fallback"])
async def test_a_home_that_hangs_comes_after_the_cloud(nexus_gateway, stream, served):
    """One after the other, so that there are never many in the window of the failure rate; and nobody waits for home to come free."""
    other = "tiny" if served == "the same" else "big"
    tables = {"queue": {"overflow_after_seconds": 20}}
    if served == "a fallback":
        tables["routing"] = {"fallbacks": {"tiny": ["big"]}}
    async with openai_server([FakeModel("tiny")]) as home, openai_server([FakeModel(other)]) as cloud:
        gateway = await hung(nexus_gateway, home, cloud, **tables)
        attempts = []
        for _ in range(5):
            said = await ask(gateway, stream=stream)
            assert (said.status, said.nexus("Backend"), said.nexus("Queue-Ms")) == (200, "cloud", None)
            attempts.append(said.nexus("Attempts"))
    assert attempts == ["2", "2", "2", "1", "1"]
    assert len(chats(home)) == 3


async def test_a_home_that_hangs_is_told_wherever_an_operator_looks(nexus_gateway):
    async with openai_server() as home, openai_server() as cloud:
        gateway = await hung(nexus_gateway, home, cloud)
        for _ in range(3):
            await ask(gateway)
        reason = "3 requests in a row got no answer in time, the last of them so: answer_timeout"
        health = (await page(gateway, "/health")).json
        pairs = {m["backend"]: m for m in (await page(gateway, "/nexus/models")).json["models"]}
        (shown, _) = (await page(gateway, "/nexus/backends")).json["backends"]
        body = {"request": {"model": "tiny", "messages": []}}
        async with gateway.client.post("/nexus/explain", json=body) as answer:
            foreseen = await answer.json()
        is_due(gateway)
        due = {m["backend"]: m for m in (await page(gateway, "/nexus/models")).json["models"]}
    assert (health["status"], health["problems"]) == ("degraded", {"backend home": f"tiny: left out: {reason}"})
    assert (pairs["home"]["ejected_reason"], pairs["cloud"]["ejected_reason"]) == (reason, None)
    assert shown["resting"] == ["tiny"]
    assert "models  tiny: paused, suspended or left out" in " ".join(evidence([shown]))
    assert [choice["backend"] for choice in foreseen["choices"]] == ["cloud"]
    assert [(r["backend"], r["reason"]) for r in foreseen["refusals"]] == [("home", "ejected")]
    (line,) = resting(pairs.values())
    assert line.startswith("home (tiny) is left out where another can serve (tried again in ")
    assert line.endswith(reason)
    (line,) = resting(due.values())
    assert "(the next request tries it again)" in line


async def test_one_request_tries_it_again_and_an_answer_brings_home_back(nexus_gateway):
    async with openai_server() as home, openai_server() as cloud:
        gateway = await hung(nexus_gateway, home, cloud)
        for _ in range(3):
            await ask(gateway)
        is_due(gateway)
        said = [(await ask(gateway)).nexus("Attempts") for _ in range(2)]
        assert said == ["2", "1"]
        is_due(gateway)
        home.on(CHAT, home.chat, method="POST")
        assert [(await ask(gateway)).nexus("Backend") for _ in range(2)] == ["home", "home"]


async def test_a_hung_home_is_asked_where_the_request_may_not_leave(nexus_gateway):
    async with openai_server() as home, openai_server() as cloud:
        gateway = await hung(nexus_gateway, home, cloud)
        for _ in range(3):
            await ask(gateway)
        said = await ask(gateway, headers={"X-Nexus-Zone": "restricted"})
        assert (said.status, said.nexus("Attempts")) == (504, "1")
    assert len(chats(home)) == 4


@pytest.mark.parametrize(("passed", "said"), [(0.0, "; tried again in "), (90.0, "; the next request tries it again")])
async def test_when_who_is_suspended_is_tried_again_is_said_also_when_its_time_is_over(nexus_gateway, passed, said):
    async with openai_server() as poor, openai_server() as other:
        gateway = await settled(await nexus_gateway(fleet(a_backend("poor", poor), a_backend("other", other))))
        poor.next(Respond(402, json={"error": {"message": "pay"}}), path=CHAT)
        await ask(gateway)
        gateway.gateway.fleet.standings["poor"].suspension.until -= passed
        (shown, _) = (await page(gateway, "/nexus/backends")).json["backends"]
    assert said in " ".join(evidence([shown]))


@pytest.mark.parametrize(
    ("number", "said"),
    [(1.99948, "2"), (0.1, "0.1"), (14.96, "15"), (99.96, "100"), (1200.0, "1200"), (0.0000123, "0"), (0.25, "0.25")],
)
def test_figures_are_rounded_for_people(number, said):
    assert rounded(number) == said


# ---------------------------------------------------------------- the time that all attempts share

TOTAL = {"first_byte_timeout_seconds": 1.0, "answer_timeout_seconds": 1.0}
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def setting(stream: bool) -> str:
    return f"{'first_byte' if stream else 'answer'}_timeout_seconds"


@BOTH
@pytest.mark.parametrize("own", [None, 1.0, 1.5])
async def test_that_no_time_was_left_for_another_is_said(nexus_gateway, stream, own):
    async with openai_server() as hangs, openai_server() as serves:
        hangs.on(CHAT, Hang(), method="POST")
        table = {} if own is None else {setting(stream): own}
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("gpu", hangs, **table), a_backend("cpu", serves), upstream=TOTAL))
        )
        said = await ask(gateway, stream=stream)
        standing = gateway.gateway.fleet.standings["gpu"]
        assert standing.pairs["tiny"].failures > 0  # it had all of its time
    assert (said.status, said.error["code"], said.headers["Retry-After"]) == (504, "all_attempts_timed_out", "1")
    assert f"no time was left to try cpu, since all attempts share it (1 s: [upstream] {setting(stream)})" in said.error["message"]
    assert said.error["context"]["available_backends"] == ["cpu", "gpu"]
    assert [(r["backend"], r["reason"]) for r in said.error["context"]["refusals"]] == [("gpu", "tried")]
    assert len(chats(serves)) == 0


@BOTH
async def test_where_there_is_nobody_else_nothing_is_said_of_others(nexus_gateway, stream):
    async with openai_server() as hangs:
        hangs.on(CHAT, Hang(), method="POST")
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", hangs), upstream=TOTAL)))
        said = await ask(gateway, stream=stream)
    assert said.status == 504
    assert "no time was left" not in said.error["message"]
    assert said.error["message"].startswith("no backend answered in time: ")


@BOTH
@pytest.mark.parametrize("connects", [True, False], ids=["hangs", "takes no connection"])
async def test_the_requests_own_deadline_is_no_fault_of_who_had_the_rest_of_it(nexus_gateway, stream, connects):
    async with openai_server() as fails, openai_server() as hangs, unanswering() as nowhere:
        fails.on(CHAT, Slow(0.6, Respond(500, json={})), method="POST")
        hangs.on(CHAT, Hang(), method="POST")
        second = a_backend("gpu", hangs if connects else nowhere, models=[{"id": "tiny"}])
        gateway = await nexus_gateway(fleet(a_backend("old", fails), second, upstream=TOTAL))
        await gateway.until(lambda: gateway.gateway.fleet.standings["old"].pairs.keys() == {"tiny"})
        said = await ask(gateway, stream=stream, headers={"X-Request-Id": "late"})
        standing = gateway.gateway.fleet.standings["gpu"]
        assert (standing.record.ejected_until, standing.pairs["tiny"].failures, standing.pairs["tiny"].record) == (0.0, 0.0, None)
        story = (await page(gateway, "/nexus/requests/late")).json
    assert (said.status, said.error["code"]) == (504, "all_attempts_timed_out")
    assert said.error["message"].startswith("the request's own time is over: old (tiny): answered 500")
    assert f"the time for all attempts (1 s: [upstream] {setting(stream)}) was over after 0." in said.error["message"]
    assert [a["code"] for a in story["attempts"]] == ["status", "out_of_time"]


@BOTH
async def test_time_in_the_queue_is_no_time_of_the_attempts(nexus_gateway, stream):
    async with openai_server() as server:
        busy = Respond(429, headers={"Retry-After": "1.3"}, json={"error": {"message": "slow down"}})
        server.next(busy, path=CHAT)
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server), upstream=TOTAL)))
        said = await ask(gateway, stream=stream)
        assert said.status == 200
        assert int(said.nexus("Queue-Ms")) > 1000


async def test_a_pair_that_is_asked_again_while_it_is_busy_is_told_once(nexus_gateway):
    async with openai_server() as server:
        server.on(CHAT, Respond(429, headers={"Retry-After": "0"}, json={"error": {"message": "slow down"}}), method="POST")
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server), queue={"max_wait_seconds": 1.5})))
        said = await ask(gateway, headers={"X-Request-Id": "again"})
        story = (await page(gateway, "/nexus/requests/again")).json
    (attempt,) = said.error["context"]["attempts"]
    assert said.status == 429
    assert attempt["times"] == len(chats(server)) > 1
    (told,) = story["attempts"]
    assert (told["times"], told["outcome"]) == (attempt["times"], "rate")
    assert f"{told['times']} times in " in "".join(of_served(story))


def test_only_those_that_were_busy_in_the_same_way_are_told_as_one():
    attempts: list[Attempt] = []
    for backend, status, outcome in [
        ("a", 429, "rate"),
        ("b", 429, "rate"),
        ("a", 429, "rate"),
        ("a", 503, "rate"),
        ("b", 500, "failed"),
    ] * 2:
        told_again(attempts, Attempt(backend=backend, model="m", status=status, outcome=outcome, seconds=0.5))
    assert sorted((a.backend, a.status, a.times, a.seconds) for a in attempts) == [
        ("a", 429, 4, 2.0), ("a", 503, 2, 1.0), ("b", 429, 2, 1.0), ("b", 500, 1, 0.5), ("b", 500, 1, 0.5)
    ]  # fmt: skip
    assert tries(attempts) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "first_byte_timeout_seconds = 300",
            "first_byte_timeout_seconds = 300, and [upstream] first_byte_timeout_seconds = 300 is",
        ),
        ("answer_timeout_seconds = 2000.5", "answer_timeout_seconds = 2000.5, and [upstream] answer_timeout_seconds = 1800 is"),
        ("[[backends.models]]\nid = 'm'\nfirst_byte_timeout_seconds = 1200", "first_byte_timeout_seconds = 1200 for m, and"),
        ("first_byte_timeout_seconds = 299", None),
        ("connect_timeout_seconds = 2000\nidle_timeout_seconds = 2000", None),
    ],
)
def test_check_warns_of_a_timeout_that_leaves_no_time_for_another(tmp_path, text, said):
    file, slow = tmp_path / "nexus.toml", f"[[backends]]\nname = 'slow'\ntype = 'ollama'\nurl = 'http://10.1.1.1:11434'\n{text}\n"
    file.write_text(slow)
    alone = summary(*load(file, env={}))["warnings"]
    file.write_text(f"[[backends]]\nname = 'other'\ntype = 'ollama'\nurl = 'http://10.1.1.2:11434'\n{slow}")
    warned = summary(*load(file, env={}))["warnings"]
    assert alone == []
    assert [said in warning for warning in warned] == ([True] if said else [])


# ---------------------------------------------------------------- how late a timeout is


class BeginsAndStops(Act):
    """A stream of one event, whose end never comes."""

    async def play(self, wire):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        event = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
        await wire.send(b"%x\r\n%b\r\n" % (len(event), event))
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("act", "stream", "key"),
    [
        (Hang(), True, "first_byte_timeout_seconds"),
        (Hang(), False, "answer_timeout_seconds"),
        (BeginsAndStops(), True, "idle_timeout_seconds"),
    ],
    ids=["first byte", "answer", "idle"],
)
async def test_short_timeouts_are_kept_to_a_fraction_of_a_second(nexus_gateway, act, stream, key):
    """Each of them would last a second, were deadlines looked at once a second."""
    async with openai_server() as server:
        server.on(CHAT, act, method="POST")
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, **{key: 0.2}))))
        began = time.monotonic()
        for _ in range(5):
            said = await ask(gateway, stream=stream)
            assert "0.2" in said.body.decode()
        assert 1.0 <= time.monotonic() - began < 3.0


@pytest.mark.parametrize(
    ("code", "waited", "said"),
    [
        ("answer_timeout", 1.98, "slow (waited 1.98 s; [upstream] answer_timeout_seconds is 1)"),
        ("answer_timeout", 1.06, "slow (waited 1 s: [upstream] answer_timeout_seconds)"),
        ("answer_timeout", None, "slow (waited 1 s: [upstream] answer_timeout_seconds)"),
        ("first_byte_timeout", 270.0, "slow (waited 270 s; [upstream] first_byte_timeout_seconds is 300)"),
        ("first_byte_timeout", 300.987654, "slow (waited 300 s: [upstream] first_byte_timeout_seconds)"),
        ("idle_timeout", 400.0, "slow (waited 300 s: [upstream] idle_timeout_seconds)"),
        ("reset", 400.0, "slow"),
    ],
)
def test_what_was_waited_is_said_where_it_is_not_what_the_setting_says(code, waited, said):
    assert Patience(answer=1.0).told(BackendError(code, "slow"), waited) == said


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("code", "own", "late", "had"),
    [
        ("first_byte_timeout", None, 0.0, True),
        ("first_byte_timeout", None, 20.0, True),  # another had refused the connection before
        ("first_byte_timeout", None, 200.0, False),
        ("first_byte_timeout", 50.0, 200.0, True),
        ("connect_timeout", None, 200.0, True),
        ("idle_timeout", None, 200.0, True),
    ],
)
def test_who_had_the_time_that_its_setting_allows_is_to_blame(code, own, late, had, stream):
    patience = Patience(answer=300.0).but(None if own is None else Timeouts(first_byte=own), "[[backends]]")
    assert patience.had(code, 1000.0 + late, 1300.0, stream=stream) is had


def test_signs_of_life_are_waited_through_as_long_as_an_answer_may_take():
    patience = Patience(first_byte=300.0, answer=1000.0)
    assert patience.had("answer_timeout", 1050.0, 1300.0, stream=True)
    assert not patience.had("answer_timeout", 1150.0, 1300.0, stream=True)
