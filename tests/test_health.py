"""Health: the state machine of the probes, ejection by traffic, the half-open trial, and what never counts."""

import asyncio
import logging

import pytest

from nexus.cli.backends import row as backend_row
from nexus.cli.models import row as model_row
from nexus.cli.models import suspensions
from nexus.clock import LoopClock
from nexus.errors import BackendError
from nexus.fleet import Fleet, Member
from nexus.health import NO_CONNECTION, Limits, Pulse, Record, is_of_the_server
from nexus.model import Finished, Health, Model, Report
from nexus.probing import LEAST_SECONDS, Pace, Prober, Turns
from nexus.testing import FakeClock, FakeModel, Hang, Respond, a_leg, a_request, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

LIMITS = Limits(failure_threshold=3, recovery_threshold=2, min_samples=4, failure_ratio=0.5, window_seconds=30, eject_seconds=15)
U, H, D = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize(
    ("probes", "states"),
    [
        ("", []),
        ("+", [H]),
        ("-", [D]),
        ("+--", [H, H, H]),
        ("+---", [H, H, H, D]),
        ("+--+--+---", [H] * 9 + [D]),
        ("-+", [D, D]),
        ("-++", [D, D, H]),
        ("-+-++", [D, D, D, D, H]),
        ("+---+++", [H, H, H, D, D, H, H]),
    ],
)
def test_the_states_that_probes_lead_to(probes, states):
    pulse = Pulse(LIMITS)
    assert pulse.health is U
    seen = []
    for probe in probes:
        pulse.probed(probe == "+")
        seen.append(pulse.health)
    assert seen == states


# ---------------------------------------------------------------- traffic


def served(record: Record, outcomes: str, now: float = 0.0) -> bool:
    """Whether it is ejected after these exchanges."""
    for outcome in outcomes:
        record.served(outcome == "+", now)
    return record.ejected_until > 0


@pytest.mark.parametrize(
    ("outcomes", "ejected"),
    [("---", False), ("----", True), ("+++-", False), ("++--", True), ("+++--", False), ("+++---", True), ("++++++", False)],
)
def test_traffic_ejects_by_a_share_of_at_least_so_many(outcomes, ejected):
    assert served(Record(LIMITS), outcomes) is ejected


def test_old_failures_are_forgotten():
    record = Record(LIMITS)
    assert not served(record, "---", 0)
    assert not served(record, "-", 31)
    assert served(record, "---", 32)


def test_old_successes_are_forgotten_too_and_those_before_the_first_failure_count():
    record = Record(LIMITS)
    assert not served(record, "+" * 100, 0)
    assert not served(record, "-" * 20, 10)
    assert served(record, "-", 31)  # 21 failures, and what was fine is too long ago
    assert record.reason == "21 of its last 21 requests failed, the last of them so: "


def test_no_more_is_kept_than_the_last_thousand():
    record = Record(Limits(min_samples=10, failure_ratio=0.5, window_seconds=3600))
    for second in range(3000):
        record.served(second % 3 > 0, second)
    assert not record.ejected_until
    for second in range(3000, 3000 + 260):  # 247 of the last 740 of before had failed
        record.served(False, second)
    assert record.ejected_until > 0
    assert int(record.reason.split()[0]) == 500
    assert record.reason.split()[4] == "1000"


def test_one_success_ends_the_ejection_and_failed_trials_make_it_longer():
    record = Record(LIMITS)
    served(record, "----", 100)
    assert record.ejected_until == 115
    served(record, "-", 110)  # began before it: no trial
    assert record.ejected_until == 115
    served(record, "-", 120)
    assert record.ejected_until == 150
    served(record, "-", 151)
    assert record.ejected_until == 151 + 60
    served(record, "+", 212)
    assert record.ejected_until == 0
    assert not served(record, "--", 213)
    served(record, "-", 213)
    assert record.ejected_until == 228


def test_the_rest_after_an_ejection_grows_to_sixteen_times_and_no_further():
    record, now, rests = Record(LIMITS), 0.0, []
    served(record, "----", now)
    for _ in range(7):
        rests.append(record.ejected_until - now)
        now = record.ejected_until
        served(record, "-", now)
    assert rests == [15, 30, 60, 120, 240, 240, 240]


# ---------------------------------------------------------------- the fleet's bookkeeping


class Bench:
    """A fleet of members without servers, under a clock that stands still."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.events: list = []
        self.doubted: list[str] = []
        self.fleet = Fleet(self.clock.now, self.events.append, LIMITS)
        self.fleet.doubted = self.doubted.append
        for name in names:
            self.fleet.join(Member(name=name, kind="x", url=f"http://{name}", backend=None))
            self.fleet.report(name, Report(ok=True, models=(Model(id="m"),)), 0.01)

    def one(self, name: str):
        return next(c for c in self.fleet.candidates(a_leg("m")) if c.backend == name)

    def serve(self, name: str, outcome: str, **kw) -> None:
        self.fleet.claim(self.one(name), a_request(model="m")).finish(outcome, **kw)


@pytest.mark.parametrize("outcome", ["rejected", "left", "refused", "rate"])
def test_what_is_not_the_backends_fault_never_counts(outcome):
    bench = Bench("a")
    for _ in range(50):
        bench.serve("a", outcome)
    assert (bench.one("a").failures, bench.one("a").ejected_until, bench.doubted) == (0, 0, [])
    assert bench.fleet.standings["a"].in_flight == 0


@pytest.mark.parametrize("outcome", ["failed", "timeout"])
def test_a_failure_counts_and_asks_for_a_probe(outcome):
    bench = Bench("a")
    bench.serve("a", outcome)
    assert bench.one("a").failures > 0
    assert bench.doubted == ["a"]
    for _ in range(3):
        bench.serve("a", outcome)
    assert bench.one("a").ejected_until > bench.clock.now()
    assert bench.one("a").health is H


# how an exchange can end, and whom its failure speaks of
OF_THE_SERVER = [*({"code": code} for code in sorted(NO_CONNECTION)), {"code": "first_byte_timeout"}, {"code": "answer_timeout"}]
OF_THE_PAIR = [
    {"code": "status", "status": 500},
    {"code": "status", "status": 503},
    *({"code": code} for code in ("malformed", "error_event", "no_answer", "too_large")),
    {"code": "cut", "status": 200},
    {"code": "idle_timeout", "status": 200},
    {"code": "first_byte_timeout"},
    {"code": "answer_timeout"},
]


def test_every_code_of_a_failure_is_the_servers_or_the_pairs():
    codes = {code for code in BackendError.CODES if is_of_the_server(code, sent=True)}
    assert codes == {end["code"] for end in OF_THE_SERVER if not end["code"].endswith("_timeout")} | {"connect_timeout"}
    assert {end["code"] for end in OF_THE_PAIR} | codes == set(BackendError.CODES)


def several() -> Bench:
    """Two servers, each with a good and a bad model."""
    bench = Bench("a", "b")
    for name in "ab":
        bench.fleet.report(name, Report(ok=True, models=(Model(id="m"), Model(id="bad"))), 0.01)
    return bench


def ejected(bench: Bench) -> set[str]:
    pairs = (bench.fleet.candidates(a_leg("x", any_model=True)), bench.clock.now())
    return {f"{c.backend}/{c.model}" for c in pairs[0] if c.ejected_until > pairs[1]}


def end(bench: Bench, backend: str, model: str, outcome: str, **how) -> None:
    (candidate,) = (c for c in bench.fleet.candidates(a_leg(model)) if c.backend == backend)
    bench.fleet.claim(candidate, a_request(model=model)).finish(outcome, **how)


@pytest.mark.parametrize("how", OF_THE_PAIR, ids=str)
def test_what_is_answered_speaks_of_the_pair_alone(how):
    bench = several()
    for _ in range(10):
        end(bench, "a", "bad", "timeout" if how["code"].endswith("timeout") else "failed", sent=True, **how)
    assert ejected(bench) == {"a/bad"}
    assert not bench.fleet.standings["a"].record.ejected_until


@pytest.mark.parametrize("how", OF_THE_SERVER, ids=str)
def test_connections_speak_of_the_server_and_all_its_models(how):
    bench = several()
    for _ in range(4):
        end(bench, "a", "bad", "timeout" if how["code"].endswith("timeout") else "failed", sent=how["code"] == "reset", **how)
    assert ejected(bench) == {"a/m", "a/bad"}
    assert bench.fleet.standings["a"].pairs["bad"].record is None
    assert how["code"] in bench.fleet.standings["a"].record.reason


@pytest.mark.parametrize(("outcome", "status"), [("ok", 200), ("failed", 500), ("rejected", 404), ("rate", 429), ("left", 200)])
def test_any_answer_shows_that_the_server_can_be_reached(outcome, status):
    """The trial of a server ends its ejection, however bad what it answers is for the pair."""
    bench = several()
    for _ in range(4):
        end(bench, "a", "m", "failed", code="connect_refused")
    bench.clock.advance(15)
    end(bench, "a", "bad", outcome, sent=True, status=status, code="status")
    assert not bench.fleet.standings["a"].record.ejected_until
    assert ejected(bench) == set()


@pytest.mark.parametrize(
    ("outcome", "how"), [("left", {}), ("refused", {}), ("timeout", {"code": "first_byte_timeout", "sent": True})]
)
def test_what_says_nothing_of_the_server_leaves_it_ejected(outcome, how):
    bench = several()
    for _ in range(4):
        end(bench, "a", "m", "failed", code="reset", sent=True)
    until = bench.fleet.standings["a"].record.ejected_until
    bench.clock.advance(16)
    end(bench, "a", "bad", outcome, **how)
    assert bench.fleet.standings["a"].record.ejected_until == until


def test_server_and_pair_have_a_trial_each():
    bench = several()
    for _ in range(4):
        end(bench, "a", "bad", "failed", code="status", status=500, sent=True)
    bench.clock.advance(20)
    for _ in range(5):  # an answer is among the last four, and half of them is enough
        end(bench, "a", "m", "failed", code="connect_refused")
    server, pair = bench.fleet.standings["a"].record, bench.fleet.standings["a"].pairs["bad"].record
    assert server.ejected_until > pair.ejected_until > 0
    bench.clock.advance(16)
    end(bench, "a", "bad", "failed", code="status", status=500, sent=True)
    assert (server.ejected_until, pair.ejected_until) == (0, bench.clock.now() + 30)
    bench.clock.advance(31)
    end(bench, "a", "bad", "ok", sent=True, status=200)
    assert pair.ejected_until == 0


def test_failures_fade_so_that_an_avoided_pair_is_tried_again():
    bench = Bench("a")
    bench.serve("a", "failed")
    before = bench.one("a").failures
    seen = []
    for _ in range(12):
        bench.clock.advance(30)
        bench.fleet.report("a", Report(ok=True), 0.01)
        seen.append(bench.one("a").failures)
    assert seen[0] == pytest.approx(before / 2)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0


def test_what_refuses_is_avoided_from_when_it_refused_not_from_the_last_probe():
    bench = Bench("a")
    bench.clock.advance(60)
    bench.fleet.blame(bench.fleet.claim(bench.one("a"), a_request(model="m")), "")
    bench.clock.advance(1)
    bench.fleet.report("a", Report(ok=True), 0.01)
    assert 0.95 < bench.one("a").failures < 1
    bench.clock.advance(30)
    bench.fleet.report("a", Report(ok=True), 0.01)
    assert 0.45 < bench.one("a").failures < 0.5


def test_a_claim_ends_once():
    bench = Bench("a")
    claim = bench.fleet.claim(bench.one("a"), a_request(model="m"))
    assert (bench.one("a").in_flight, bench.one("a").backend_in_flight) == (1, 1)
    assert claim.finish("ok", sent=True).outcome == "ok"
    assert claim.finish("failed") is None
    assert (bench.one("a").in_flight, bench.one("a").backend_in_flight) == (0, 0)
    assert [e.outcome for e in bench.events if isinstance(e, Finished)] == ["ok"]


def test_a_claim_may_outlive_its_backend():
    bench = Bench("a")
    claim = bench.fleet.claim(bench.one("a"), a_request(model="m"))
    bench.fleet.leave("a")
    assert bench.fleet.candidates(a_leg("m")) == ()
    assert claim.finish("ok") is not None


@pytest.mark.parametrize(
    ("how", "whose"), [({"code": "connect_refused"}, "a"), ({"code": "status", "status": 500, "sent": True}, "a (m)")]
)
def test_the_log_says_who_is_left_out_and_for_how_long(caplog, how, whose):
    bench = Bench("a")
    for _ in range(6):
        bench.serve("a", "failed", **how)
    (line,) = [text for text in caplog.messages if "left out" in text]
    assert line.startswith(f"{whose} is left out for 15 s where another can serve: 4 of its last 4 requests failed")


@pytest.mark.parametrize(("seconds", "until"), [(None, 5.0), (0.0, 0.0), (90.0, 90.0)])
def test_a_pause_lasts_as_long_as_was_asked(seconds, until):
    bench = Bench("a")
    bench.serve("a", "rate", retry_after=seconds)
    assert bench.one("a").paused_until == bench.clock.now() + until


# ---------------------------------------------------------------- on a real gateway


async def test_ejection_spares_the_last_one_and_a_trial_ends_it(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        health = {"min_samples": 2, "eject_seconds": 0.3}
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b), health=health)))
        a.next(*[Respond(500, json={})] * 2, path=CHAT)
        assert [(await ask(gateway)).nexus("Backend") for _ in range(2)] == ["b", "b"]
        said = await ask(gateway)
        assert (said.nexus("Backend"), said.nexus("Attempts")) == ("b", "1")
        shown = {s["name"]: s for s in (await page(gateway, "/nexus/backends")).json["backends"]}
        assert (shown["a"]["ejected_seconds"], shown["a"]["health"]) == (None, "healthy")
        pairs = {s["backend"]: s for s in (await page(gateway, "/nexus/models")).json["models"]}
        assert pairs["a"]["ejected_seconds"] is not None
        assert pairs["a"]["ejected_reason"] == "2 of its last 2 requests failed, the last of them so: it answered 500"
        assert (pairs["b"]["ejected_seconds"], pairs["b"]["ejected_reason"]) == (None, None)
        b.next(*[Respond(500, json={})] * 2, path=CHAT)
        # `a` is ejected, so `b` is the last one: whatever it does it is asked, and then both are
        answers = [await ask(gateway) for _ in range(3)]
        assert answers[-1].status == 200
        record = gateway.gateway.fleet.standings["a"].pairs["tiny"].record
        now = gateway.gateway.clock.now
        await gateway.until(lambda: not record.ejected_until or now() > record.ejected_until)
        assert (await ask(gateway)).nexus("Backend") == "a"
        assert (record.ejected_until, record.reason) == (0, "")


async def test_a_model_that_cannot_be_served_ejects_no_other(nexus_gateway):
    """A stub of a cloud that is out of reach, a model that cannot start: the rest of the home server goes on at home."""
    async with openai_server(["good", "bad"]) as home, openai_server(["good", "bad"]) as cloud:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", home), a_backend("cloud", cloud, type="openai"))))
        fails = lambda received: home.chat(received) if received.json["model"] == "good" else Respond(500, json={"error": "no"})  # noqa: E731
        home.on(CHAT, fails, method="POST")
        bad = [await ask(gateway, "bad") for _ in range(14)]
        assert {said.nexus("Backend") for said in bad} == {"cloud"}
        assert bad[-1].nexus("Attempts") == "1"  # left out by then
        assert {(await ask(gateway, "good")).nexus("Backend") for _ in range(10)} == {"home"}
        shown = {s["name"]: s for s in (await page(gateway, "/nexus/models")).json["models"] if s["backend"] == "home"}
        assert (shown["bad"]["ejected_seconds"] > 0, shown["good"]["ejected_seconds"]) == (True, None)


@pytest.mark.parametrize("other", ["may not", "cannot", "is tried already"])
async def test_the_last_that_can_serve_the_request_is_never_left_out(nexus_gateway, other):
    """Another one counts only where the request may go there, can be served there and was not already tried there."""
    async with openai_server([FakeModel("tiny")]) as home, openai_server([FakeModel("tiny")]) as far:
        tables = {"zone": "restricted"}
        elsewhere = {"models": [{"id": "tiny", "capabilities": ["embedding"]}]} if other == "cannot" else {}
        health = {"min_samples": 2, "eject_seconds": 3600}
        config = fleet(a_backend("home", home, **tables), a_backend("far", far, **elsewhere), health=health)
        gateway = await settled(await nexus_gateway(config))
        standing = gateway.gateway.fleet.standings["home"]
        for _ in range(2):
            (candidate,) = standing.candidates()
            gateway.gateway.fleet.claim(candidate, a_request()).finish("failed", code="status", status=500, sent=True)
        assert standing.candidates()[0].ejected_until > gateway.gateway.clock.now()
        headers = {"X-Nexus-Zone": "restricted"} if other == "may not" else {}
        if other == "is tried already":
            far.next(Respond(500, json={}), path=CHAT)
        said = await ask(gateway, headers=headers)
        assert (said.status, said.nexus("Backend")) == (200, "home")
        assert float(said.nexus("Queue-Ms") or 0) < 5000


async def test_the_trial_is_one_request_at_a_time(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        health = {"min_samples": 2, "eject_seconds": 0.1}
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b), health=health)))
        a.next(*[Respond(500, json={})] * 2, path=CHAT)
        for _ in range(2):
            await ask(gateway)
        record, before = gateway.gateway.fleet.standings["a"].pairs["tiny"].record, len(chats(a))
        await gateway.until(lambda: gateway.gateway.clock.now() > record.ejected_until)
        a.stop_listening()
        a.cut_connections()
        (candidate,) = gateway.gateway.fleet.standings["a"].candidates()
        claim = gateway.gateway.fleet.claim(candidate, a_request())
        assert (await ask(gateway)).nexus("Attempts") == "1"  # `a` has its trial: nobody else goes there
        claim.finish("failed")
        assert record.ejected_until > gateway.gateway.clock.now()
        assert len(chats(a)) == before


async def test_a_404_for_the_model_brings_a_probe_that_learns_what_is_served(nexus_gateway):
    async with openai_server(["tiny", "new"]) as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        del a.models["tiny"]
        said = await ask(gateway)
        assert (said.nexus("Backend"), said.nexus("Route-Reason")) == ("b", "failover")
        await gateway.until(lambda: [c.name for c in gateway.gateway.fleet.standings["a"].candidates()] == ["new"])
        assert (await ask(gateway)).nexus("Attempts") == "1"


async def test_a_key_that_is_refused_is_said_where_the_operator_looks(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(Respond(401, json={"error": {"message": "bad key sk-1"}}), path=CHAT)
        assert (await ask(gateway)).nexus("Backend") == "b"
        shown = {s["name"]: s["problem"] for s in (await page(gateway, "/nexus/backends")).json["backends"]}
        assert "api_key_env" in shown["a"]
        assert shown["b"] is None


@pytest.mark.parametrize("words", [{"message": "no"}, {"message": "no", "code": "invalid_api_key"}])
async def test_a_mere_401_of_who_has_served_the_like_suspends_it_only_when_it_comes_again(nexus_gateway, words):
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        standing = gateway.gateway.fleet.standings["a"]
        refusal = Respond(401, json={"error": words})
        for _ in range(2):  # one that was good in between makes it the first again
            assert (await ask(gateway)).status == 200
            a.next(refusal, path=CHAT)
            assert (await ask(gateway)).status == 502
            assert (standing.suspension is not None) is ("code" in words)
            assert "api_key_env" in standing.problem
        a.next(refusal, path=CHAT)
        assert (await ask(gateway)).status == 502
        assert standing.suspension is not None


async def test_a_suspended_backend_is_told_wherever_an_operator_looks(nexus_gateway):
    async with openai_server() as a, openai_server() as b:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), a_backend("b", b))))
        a.next(Respond(401, json={"error": {"message": "who are you?"}}), path=CHAT)
        assert (await ask(gateway)).nexus("Backend") == "b"
        reason = "wants a key, and none is configured (api_key_env) (it answered 401)"
        said = (await page(gateway, "/health")).json
        assert (said["status"], said["problems"]) == ("degraded", {"backend a": reason})
        assert said["backends"] == {"total": 2, "healthy": 1, "unhealthy": 0, "unknown": 0, "suspended": 1}
        pairs = {m["backend"]: m for m in (await page(gateway, "/nexus/models")).json["models"]}
        assert {name: pair["suspended_reason"] for name, pair in pairs.items()} == {"a": reason, "b": None}
        (line,) = suspensions(pairs.values())
        assert line.startswith("a (tiny) is suspended (tried again in ")
        shown = {s["name"]: backend_row(s)[2] for s in (await page(gateway, "/nexus/backends")).json["backends"]}
        assert shown == {"a": "suspended", "b": "healthy"}
        assert [model_row(pairs[name])[2] == "suspended" for name in "ab"] == [True, False]


async def test_a_403_of_one_model_and_the_permission_of_another_are_both_told(nexus_gateway):
    async with openai_server(["tiny", "other"]) as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        a.next(Respond(403, json={"error": {"message": "no"}}), path=CHAT)
        await ask(gateway)
        a.next(Respond(403, json={"error": {"message": "no", "code": "model_not_allowed"}}), path=CHAT)
        await ask(gateway, model="other")
        (shown,) = (await page(gateway, "/nexus/backends")).json["backends"]
        assert "no key is configured" in shown["problem"]
        assert "other: the key may not use this model" in shown["problem"]


async def test_how_long_a_pause_lasts_is_told(nexus_gateway, caplog):
    caplog.set_level(logging.INFO, "nexus.health")
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a))))
        a.next(Respond(429, json={}, headers={"Retry-After": "900"}), path=CHAT)
        assert (await ask(gateway)).status == 429
        (pair,) = (await page(gateway, "/nexus/models")).json["models"]
        assert 890 < pair["paused_seconds"] <= 900
        assert "a (tiny) asked for a pause of 900 s" in caplog.messages


@pytest.mark.parametrize("strategy", ["smart", "priority", "round_robin", "random", "least_busy"])
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_one_good_backend_among_many_that_refuse_is_found_and_kept(nexus_gateway, strategy, status):
    async with openai_server() as a, openai_server() as b, openai_server() as c, openai_server() as good:
        for bad in (a, b, c):
            bad.on(CHAT, Respond(status, json={"error": {"message": "no"}}), method="POST")
        tables = [a_backend(name, server) for name, server in (("a", a), ("b", b), ("c", c), ("good", good))]
        gateway = await settled(await nexus_gateway(fleet(*tables, balance={"strategy": strategy})))
        answers = [await ask(gateway) for _ in range(12)]
        assert sorted(said.status for said in answers)[:11] == [200] * 11  # at most one used up its attempts to learn
        assert sum(len(chats(bad)) for bad in (a, b, c)) <= 3 + 1  # each is asked once; a probe may have let one come back


async def test_what_has_just_refused_is_not_asked_again_by_a_request_that_failed_once(nexus_gateway):
    """Faded or not: with home at fault a clean backend elsewhere is reached within the attempts of one request."""
    async with openai_server() as a, openai_server() as b, openai_server() as c, openai_server() as far:
        for bad in (a, b, c):
            bad.on(CHAT, Respond(401, json={}), method="POST")
        tables = [a_backend("a", a), a_backend("b", b), a_backend("c", c), a_backend("far", far, type="openai")]
        gateway = await settled(await nexus_gateway(fleet(*tables)))
        answers = [await ask(gateway) for _ in range(4)]
        assert [(said.status, said.nexus("Attempts")) for said in answers[1:]] == [(200, "1")] * 3


async def test_a_blame_stays_through_good_probes_until_an_exchange_is_good(nexus_gateway):
    async with openai_server() as a:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", a), health={"interval_seconds": 0.5})))
        standing = gateway.gateway.fleet.standings["a"]
        a.next(Respond(403, json={}), path=CHAT)
        assert (await ask(gateway)).status == 502
        probed = standing.last_probe
        await gateway.until(lambda: standing.last_probe > probed)
        assert "api_key_env" in standing.problem
        told = (await page(gateway, "/health")).json
        assert (told["status"], told["backends"]["healthy"]) == ("degraded", 1)
        assert (await ask(gateway)).status == 200
        assert standing.problem == ""
        assert (await page(gateway, "/health")).json["status"] == "healthy"


async def test_no_model_of_a_server_that_is_down_is_proposed_for_a_mistyped_name(nexus_gateway):
    async with openai_server(["tiny"]) as well, openai_server(["tinx", "tiny"]) as ill:
        configured = fleet(a_backend("a", well), a_backend("b", ill), health={"interval_seconds": 0.5, "failure_threshold": 1})
        configured["routing"] = {"aliases": {"tina": "tinx"}}
        gateway = await settled(await nexus_gateway(configured))
        assert set((await ask(gateway, "tinz")).error["context"]["nearest"]) == {"tiny", "tinx", "tina"}
        ill.on("/v1/models", Respond(500))
        await gateway.until(lambda: gateway.gateway.fleet.standings["b"].pulse.health is D, timeout=20)
        assert (await ask(gateway, "tinz")).error["context"]["nearest"] == ["tiny"]


async def test_clients_that_leave_and_4xx_never_eject(nexus_gateway):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", server), health={"min_samples": 1})))
        server.next(*[Respond(422, json={"error": {"message": "no"}})] * 5, path=CHAT)
        assert [(await ask(gateway)).status for _ in range(5)] == [422] * 5
        server.on(CHAT, Hang(), method="POST")
        for _ in range(3):
            task = asyncio.get_running_loop().create_task(ask(gateway))
            await server.until(lambda: server.in_flight == 1)
            task.cancel()
            await server.until(lambda: server.in_flight == 0)
        await gateway.until(lambda: gateway.gateway.fleet.standings["a"].in_flight == 0)
        (candidate,) = gateway.gateway.fleet.standings["a"].candidates()
        assert (candidate.failures, candidate.ejected_until) == (0, 0)


async def test_a_backend_goes_down_and_comes_back_by_its_probes(nexus_gateway, caplog):
    caplog.set_level(logging.INFO, "nexus.health")
    async with openai_server() as server:
        health = {"interval_seconds": 0.5, "failure_threshold": 2, "recovery_threshold": 2}
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", server), health=health)))
        assert (await page(gateway, "/health")).json["status"] == "healthy"
        server.kill()
        standing = gateway.gateway.fleet.standings["a"]
        await gateway.until(lambda: standing.pulse.health == "unhealthy")
        told = (await page(gateway, "/health")).json
        assert (told["status"], told["backends"]["unhealthy"], told["models"]) == ("unhealthy", 1, 0)
        assert (await page(gateway, "/health/ready")).status == 503
        said = await ask(gateway)
        assert (said.status, said.error["code"]) == (503, "backends_unavailable")
        assert (await page(gateway, "/v1/models")).json["data"] == []
        await server.start_listening()
        await gateway.until(lambda: standing.pulse.health == "healthy")
        assert (await ask(gateway)).status == 200
        said = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "nexus.health"]
        assert said == [
            ("INFO", "a serves tiny"),
            ("WARNING", f"a is unhealthy: refused the connection at {server.url}"),
            ("INFO", "a is healthy again"),
        ]


def test_a_backend_is_healthy_so_far_while_too_few_probes_have_failed():
    bench = Bench("a")
    standing = bench.fleet.standings["a"]
    bench.fleet.report("a", Report(ok=False, problem="refused the connection"), 0.01)
    assert (standing.pulse.health, standing.problem) == (H, "the last probe: refused the connection")
    for _ in range(2):
        bench.fleet.report("a", Report(ok=False, problem="refused the connection"), 0.01)
    assert (standing.pulse.health, standing.problem) == (D, "refused the connection")


# ---------------------------------------------------------------- how often one that is down is asked


def test_one_that_is_down_is_asked_less_and_less_often(monkeypatch):
    clock = FakeClock()
    house = Fleet(clock.now, lambda event: None, Limits(failure_threshold=2))
    house.join(Member(name="one", kind="x", url="http://one", backend=None))
    prober = Prober(house, Pace(interval=60.0), clock, None, logging.getLogger())
    monkeypatch.setattr("nexus.probing.random.uniform", lambda low, high: 1.0)
    turns = Turns(clock)

    def after(**report) -> float:
        report = Report(**{"ok": False, "code": "unreachable"} | report)
        house.report("one", report, 0.01)
        return prober._delay("one", report, turns)

    assert [after() for _ in range(7)] == [2, 4, 8, 16, 30, 30, 30]
    assert after(code="loading") == 2  # it will not be long
    assert [after(), after()] == [2, 4]
    assert after(ok=True, code="") == 2  # it is back: asked once more, to be sure
    assert after(ok=True, code="") == 60
    assert after() == 2  # one probe that fails is looked into at once
    assert [after(), after(), after()] == [2, 4, 8]


async def test_a_doubt_that_comes_while_it_is_asked_is_looked_into_afterwards():
    """What it said may be older than the doubt."""
    turns = Turns(LoopClock())
    turns.doubt()
    with turns.question():
        turns.doubt()
    async with asyncio.timeout(10):
        await turns.rest(60)
    with turns.question():
        pass
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(LEAST_SECONDS + 0.2):
            await turns.rest(60)


async def test_who_asks_for_what_is_down_brings_the_next_probe_forward(nexus_gateway):
    async with openai_server(["tiny"]) as server:
        tables = fleet(a_backend("one", server, models=["tiny"]), health={"recovery_threshold": 1})
        server.stop_listening()
        gateway = await settled(await nexus_gateway(tables))
        turns = gateway.gateway.prober._turns["one"]
        turns.misses = 20
        gateway.gateway.fleet.doubted("one")
        await gateway.until(lambda: turns.misses == 21)  # and now it rests for half a minute
        await server.start_listening()
        assert (await ask(gateway)).status == 503
        await gateway.until(lambda: gateway.gateway.fleet.standings["one"].pulse.health == "healthy")
