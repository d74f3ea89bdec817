"""Who is left alone because its account or key was refused, and what a probe says of a server that is only busy."""

from __future__ import annotations

import logging

import pytest

from nexus.api import Server
from nexus.catalog import Catalog
from nexus.fleet import Fleet, Member
from nexus.model import Model, Report, State
from nexus.suspension import LONGEST_SECONDS, Suspension
from nexus.testing import FakeClock, FakeModel, Respond, a_leg, a_request, a_scope, ollama_server, rayserve_server

BACKPRESSURE = Respond(503, body=b"Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).")


class Bench:
    """A fleet of one backend with two models, and a clock that the test moves."""

    def __init__(self):
        self.clock = FakeClock()
        self.fleet = Fleet(self.clock.now, lambda event: None)
        self.fleet.join(Member(name="a", kind="openai", url="http://a", backend=None))
        self.report(Model(id="m"), Model(id="n"))

    def report(self, *models, **more):
        self.fleet.report("a", Report(ok=True, models=models, **more), 0.0)

    def one(self, model="m"):
        (found,) = self.fleet.candidates(a_leg(model))
        return found

    def claim(self, model="m", **request):
        return self.fleet.claim(self.one(model), a_request(model=model, **request))

    def refused(self, model="m", *, model_only=False):
        claim = self.claim(model)
        self.fleet.suspend(claim, "no money", model_only=model_only)
        claim.finish("rejected", sent=True, status=402)

    def left(self, model="m"):
        return max(0.0, self.one(model).suspended_until - self.clock.now())


def test_it_grows_only_when_the_one_that_tried_is_told_the_same():
    held = Suspension("no", 0.0)
    lengths = []
    for _ in range(7):
        lengths.append(held.seconds)
        assert not held.try_again(held.until - 0.001)
        now = held.until
        assert held.try_again(now)
        assert not held.try_again(now), "only one"
        held.failed_again("no", now)
    assert lengths == [60, 120, 240, 480, 960, LONGEST_SECONDS, LONGEST_SECONDS]


def test_an_account_is_every_models():
    bench = Bench()
    bench.refused()
    assert (bench.left("m"), bench.left("n")) == (60, 60)
    assert bench.fleet.standings["a"].problem == "no money"


def test_a_permission_is_one_models():
    bench = Bench()
    bench.refused(model_only=True)
    assert (bench.left("m"), bench.left("n")) == (60, 0)
    assert bench.fleet.standings["a"].problem == "m: no money"


def test_those_that_were_under_way_do_not_make_it_longer():
    bench = Bench()
    claims = [bench.claim() for _ in range(5)]
    for claim in claims:
        bench.fleet.suspend(claim, "no money", model_only=False)
        claim.finish("rejected", sent=True)
    assert bench.left() == 60


def test_one_that_tries_and_ends_otherwise_leaves_it_as_long():
    bench = Bench()
    bench.refused()
    bench.clock.advance(60)
    assert bench.left() == 0
    claim = bench.claim()
    assert bench.left() == 60, "nobody else goes with it"
    claim.finish("left", sent=True)
    assert bench.left() == 60
    bench.clock.advance(60)
    bench.refused()
    assert bench.left() == 120


def test_a_good_exchange_ends_it_and_the_log_says_both(caplog):
    caplog.set_level(logging.INFO, "nexus.health")
    bench = Bench()
    bench.refused()
    bench.clock.advance(60)
    bench.claim("n").finish("ok", sent=True, status=200)
    assert (bench.left("m"), bench.left("n"), bench.fleet.standings["a"].problem) == (0, 0, "")
    assert [record.message for record in caplog.records if "money" in record.message or "again" in record.message] == [
        "a: no money; one request tries it again in 60 s",
        "a (n) serves again",
    ]


def test_counting_tokens_neither_begins_nor_ends_it():
    bench = Bench()
    claim = bench.claim(takes_slot=False)
    bench.fleet.suspend(claim, "no money", model_only=False)
    claim.finish("rejected", sent=True)
    assert bench.left() == 0
    bench.refused()
    bench.claim(takes_slot=False).finish("ok", sent=True)
    assert bench.left() == 60


# ---------------------------------------------------------------- paths


def lacking(bench, dialect="openai", task="embedding"):
    claim = bench.claim(task=task)
    claim.asked = (dialect, task)
    bench.fleet.lack(claim)
    claim.finish("rejected", sent=True)


def test_a_missing_path_is_the_servers_and_believed_for_a_while():
    bench = Bench()
    lacking(bench)
    for model in ("m", "n"):
        assert not bench.one(model).takes("openai", "embedding")
        assert bench.one(model).takes("openai", "chat")
    for minutes in (1, 2, 4, 8, 16, 30, 30):  # it is tried again, and says the same
        bench.clock.advance(60 * minutes - 1)
        bench.report(Model(id="m"), Model(id="n"))
        assert not bench.one().takes("openai", "embedding")
        bench.clock.advance(1)
        bench.report(Model(id="m"), Model(id="n"))
        assert bench.one().takes("openai", "embedding")
        lacking(bench)


def test_a_path_that_is_there_after_all_is_told_to_everybody_at_once():
    bench = Bench()
    under_way = bench.claim(task="embedding")
    under_way.asked = ("openai", "embedding")
    lacking(bench)
    assert not bench.one().takes("openai", "embedding")
    under_way.finish("ok", sent=True)
    assert bench.one().takes("openai", "embedding")
    lacking(bench)
    bench.clock.advance(60)
    bench.report(Model(id="m"), Model(id="n"))
    assert bench.one().takes("openai", "embedding"), "what it said before is forgotten"


def test_a_server_that_is_another_one_may_have_the_path():
    bench = Bench()
    lacking(bench)
    bench.report(Model(id="m"), Model(id="new"))
    assert bench.one().takes("openai", "embedding")


# ---------------------------------------------------------------- a load that failed


def test_a_model_whose_load_failed_comes_last_for_a_while_and_may_be_asked():
    """llama.cpp's router sets the flag on models that are well, too: when it stops one that is slow to go."""
    bench = Bench()
    bench.report(Model(id="m", state=State.ASLEEP, failed=True), Model(id="n", state=State.ASLEEP))
    assert (bench.one("m").failures, bench.one("n").failures) == (1.0, 0.0)
    assert bench.one("m").state is State.ASLEEP
    for _ in range(4):
        bench.clock.advance(30)
        bench.report(Model(id="m", state=State.ASLEEP, failed=True), Model(id="n", state=State.ASLEEP))
    assert bench.one("m").failures < 0.1, "the flag stays until the next load, and is no news"


# ---------------------------------------------------------------- probes of who is busy


@pytest.mark.parametrize("path", ["/v1/models", "/-/healthz"])
async def test_a_probe_that_is_dropped_by_backpressure_is_no_illness(path):
    kind = Catalog.load().backends["rayserve"]
    async with rayserve_server() as server, a_scope("rayserve") as scope:
        async with kind.open(Server(name="ray", url=server.url), kind.options(), scope) as backend:
            server.next(BACKPRESSURE, path="/v1/models")
            first = await backend.probe()
            assert (first.ok, "overloaded" in first.problem) == (False, True), "nothing is known of it yet"
            assert (await backend.probe()).ok
            server.next(BACKPRESSURE, path=path)
            busy = await backend.probe()
            assert (busy.ok, busy.models) == (True, None)
            server.next(Respond(503, body=b"no healthy upstream"), path="/v1/models")
            assert not (await backend.probe()).ok


async def test_a_limit_on_questions_says_nothing_of_an_ollama():
    kind = Catalog.load().backends["ollama"]
    async with ollama_server([FakeModel("tiny")]) as server, a_scope("ollama") as scope:
        async with kind.open(Server(name="o", url=server.url), kind.options(), scope) as backend:
            assert (await backend.probe()).ok
            server.next(Respond(429, json={"error": "too many requests"}), path="/api/tags")
            assert (await backend.probe()).ok
