"""Servers that take a connection and answer nothing: they come last after a few timeouts, however far apart, and time says so."""

from __future__ import annotations

import pytest

from nexus.cli.backends import evidence
from nexus.cli.models import resting
from nexus.health import MOST_APART_SECONDS, Limits, Record
from nexus.plain import rounded
from nexus.testing import FakeModel, Hang, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

LIMITS = Limits(timeout_threshold=3, eject_seconds=15)
QUICK = {"first_byte_timeout_seconds": 0.1, "answer_timeout_seconds": 0.1}


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


@pytest.mark.parametrize(("seconds", "said"), [(12.0, "tried again in 12 s"), (0.0, "the next request tries it again")])
def test_when_who_is_suspended_is_tried_again_is_said_also_when_its_time_is_over(seconds, said):
    backend = {
        "name": "a", "url": "http://a", "zone": "open", "zone_evidence": "as written", "source": "config", "resting": [], "version": "",
        "health": "healthy", "problem": "no money", "last_probe_seconds_ago": 1.0, "ejected_seconds": None, "ejected_reason": None,
        "suspended_seconds": seconds, "suspended_reason": "no money",
    }  # fmt: skip
    assert " ".join(evidence([backend])).endswith(f"; {said}")


@pytest.mark.parametrize(
    ("number", "said"),
    [(1.99948, "2"), (0.1, "0.1"), (14.96, "15"), (99.96, "100"), (1200.0, "1200"), (0.0000123, "0"), (0.25, "0.25")],
)
def test_figures_are_rounded_for_people(number, said):
    assert rounded(number) == said
