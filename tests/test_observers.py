"""History, live feed and totals, from events made by hand."""

import asyncio
import json

import pytest

from nexus.api import (
    Answered,
    Ask,
    Attempt,
    Candidate,
    Choice,
    Claimed,
    Demand,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Left,
    Leg,
    Objection,
    Observer,
    Plan,
    Probed,
    Problem,
    Queued,
    Refusal,
    RefusalKind,
    Request,
    Usage,
    Zone,
    replace,
)
from nexus.observers.feed import Feed
from nexus.observers.history import OBJECTIONS_PER_ENTRY, History
from nexus.observers.render import answered_json, event_json, iso
from nexus.observers.stats import Stats
from nexus.witnesses import Witnesses


class SetClock:
    """Monotonic time is 100 s, and wall time one second after the epoch."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def time(self) -> float:
        return self.seconds - 99.0


CLOCK = SetClock()
REQUEST = Request(
    id="req-1", dialect="openai", task="chat", model="gpt-4o", headers={"x-secret": "sk-very-secret"}, needs=frozenset({"tools"})
)
LEG = Leg(index=0, name="llama3", ids=("llama3",), trail=("gpt-4o", "llama3"))
GPU = Candidate(backend="gpu", kind="ollama", model="llama3:70b", name="llama3", zone=Zone.RESTRICTED)
CLOUD = Candidate(backend="cloud", kind="openai", model="llama3", name="llama3", cloud=True)
OBJECTION = Objection(
    stage="privacy",
    candidate=CLOUD,
    leg=0,
    refusal=Refusal(kind=RefusalKind.POLICY, code="zone", data={"required": Zone.RESTRICTED, "has": Zone.OPEN}),
)
PLAN = Plan(
    choices=(Choice(ask=Ask(request=REQUEST, leg=LEG, demand=Demand()), candidate=GPU, score=-0.5, parts=(("balance", -0.5),)),),
    objections=(OBJECTION,),
    legs=(LEG,),
)
ANSWERED = Answered(
    at=100.0,
    request=REQUEST,
    status=200,
    outcome="ok",
    candidate=GPU,
    leg=LEG,
    reason="privacy-requirement",
    attempts=(Attempt(backend="gpu", model="llama3", outcome="ok", status=200, seconds=1.5),),
    plan=PLAN,
    usage=Usage(input_tokens=12, output_tokens=34, cached_tokens=5, reasoning_tokens=7, source="reported"),
    cost=0.25,
    seconds=1.5,
    queue_seconds=0.25,
    routing_seconds=0.00004,
    first_byte=0.5,
)


def answered(id: str, **changes: object) -> Answered:
    return replace(ANSWERED, request=replace(REQUEST, id=id), **changes)


def claimed(claim: int, candidate: Candidate = GPU) -> Claimed:
    return Claimed(at=100.0, claim=claim, request=REQUEST, candidate=candidate)


def finished(claim: int, outcome: str = "ok") -> Finished:
    return Finished(at=101.0, claim=claim, request=REQUEST, candidate=GPU, outcome=outcome, seconds=0.5, status=200)


# ---------------------------------------------------------------- render


def test_an_answer_is_told_whole():
    told = answered_json(ANSWERED, CLOCK)
    assert told["time"] == "1970-01-01T00:00:01.000Z"
    assert told["request"]["id"] == "req-1"
    assert told["request"]["needs"] == ["tools"]
    assert (told["status"], told["outcome"], told["reason"], told["code"]) == (200, "ok", "privacy-requirement", None)
    assert told["answered_by"]["backend"] == "gpu"
    assert told["leg"] == {"index": 0, "name": "llama3", "trail": ["gpt-4o", "llama3"], "any_model": False}
    (attempt,) = told["attempts"]
    assert (attempt["backend"], attempt["outcome"], attempt["status"], attempt["seconds"]) == ("gpu", "ok", 200, 1.5)
    assert told["demand"] == {"zone": "open", "min_tier": 0, "needs": [], "context": 0}
    assert told["choices"][0]["parts"] == {"balance": -0.5}
    assert told["timings"] == {"queue_ms": 250.0, "routing_ms": 0.04, "first_byte_ms": 500.0, "total_ms": 1500.0}
    assert told["usage"]["source"] == "reported"
    assert told["cost_usd"] == 0.25


def test_a_refusal_is_told_with_stage_kind_reason_and_sentence():
    (refusal,) = answered_json(ANSWERED)["refusals"]
    assert refusal.pop("hint")
    assert refusal == {
        "backend": "cloud",
        "model": "llama3",
        "leg": 0,
        "stage": "privacy",
        "kind": "policy",
        "reason": "zone",
        "sentence": "cloud (llama3) is in the zone open, and the request must stay restricted.",
        "data": {"required": "restricted", "has": "open"},
    }


def test_an_answer_without_a_plan_is_told_too():
    told = answered_json(Answered(at=1.0, request=REQUEST, status=401, outcome="refused", code="invalid_api_key"))
    assert (told["time"], told["answered_by"], told["leg"], told["choices"], told["refusals"]) == (None, None, None, [], [])


def test_what_a_stage_puts_into_its_data_is_always_json():
    data = {"set": {2, 1}, "nested": {"a": (1, object)}, "price": 1.5}
    odd = replace(OBJECTION, refusal=Refusal(kind=RefusalKind.NEVER, code="odd", data=data))
    told = answered_json(replace(ANSWERED, plan=Plan(objections=(odd,))), CLOCK)
    assert json.loads(json.dumps(told))["refusals"][0]["data"]["set"] == ["1", "2"]


def test_headers_are_never_told():
    assert "sk-very-secret" not in json.dumps(answered_json(ANSWERED, CLOCK))
    assert "sk-very-secret" not in json.dumps(event_json(ANSWERED, CLOCK))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1893499200.0625, "2030-01-01T12:00:00.062Z"),
        (1893499199.9996, "2030-01-01T12:00:00.000Z"),
    ],
)
def test_time_is_told_to_the_millisecond(seconds, said):
    assert iso(seconds) == said


# ---------------------------------------------------------------- history


def recent(history, limit=50):
    return [history.told(entry) for entry in history.latest(limit)]


def test_a_request_is_found_by_its_id():
    history = History(CLOCK)
    history.see(ANSWERED)
    assert history.get("req-1") == answered_json(ANSWERED, CLOCK)
    assert history.get("req-2") is None


def test_a_quiet_moment_changes_nothing_of_what_the_history_says():
    history = History(CLOCK, size=2)
    for id in ("a", "b", "c"):
        history.see(answered(id))
        said = json.loads(json.dumps(recent(history)))
        history.pack()
        assert recent(history) == said
    assert (history.get("a"), history.get("b"), history.get("c")) == (None, said[1], said[0])
    history.see(answered("b", status=503))
    assert [(entry["request"]["id"], entry["status"]) for entry in recent(history)] == [("b", 503), ("c", 200)]


class Untellable:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


def test_a_plan_that_cannot_be_told_does_not_keep_the_rest_from_being_said(caplog):
    history = History(CLOCK)
    refusal = Refusal(kind=RefusalKind.POLICY, code="odd", data={"why": Untellable()})
    odd = Plan(objections=(replace(OBJECTION, refusal=refusal),))
    for id, plan in (("a", None), ("odd", odd), ("c", None)):
        history.see(answered(id, plan=plan))
    for _ in range(2):
        assert [entry["request"]["id"] for entry in recent(history)] == ["c", "odd", "a"]
        assert (history.get("odd")["status"], history.get("odd")["refusals"]) == (200, [])
        assert "the plan of the request odd cannot be told" in caplog.text
        history.pack()
    caplog.clear()
    recent(history)
    assert not caplog.text


def test_the_newest_come_first_and_the_oldest_go():
    history = History(CLOCK, size=3)
    for number in range(5):
        history.see(answered(f"req-{number}"))
    assert [entry["request"]["id"] for entry in recent(history, 2)] == ["req-4", "req-3"]
    assert [entry["request"]["id"] for entry in recent(history)] == ["req-4", "req-3", "req-2"]
    assert recent(history, 0) == []
    assert len(history) == 3


def test_of_two_requests_with_one_id_the_later_is_kept_as_the_newest():
    history = History(CLOCK, size=2)
    history.see(answered("a"))
    history.see(answered("b"))
    history.see(answered("a", status=503))
    assert [(e["request"]["id"], e["status"]) for e in recent(history)] == [("a", 503), ("b", 200)]


def test_plans_of_a_large_fleet_do_not_fill_the_memory():
    history = History(CLOCK, size=10)
    heavy = Plan(objections=(OBJECTION,) * (5 * OBJECTIONS_PER_ENTRY))
    for number in range(10):
        history.see(answered(f"req-{number}", plan=heavy))
    assert len(history) == 2
    for number in range(10):
        history.see(answered(f"light-{number}", plan=None))
    assert len(history) == 10


def test_a_history_of_nothing_keeps_nothing():
    history = History(CLOCK, size=0)
    history.see(ANSWERED)
    assert recent(history) == []


def test_the_last_request_is_kept_however_large_its_plan():
    history = History(CLOCK, size=2)
    history.see(answered("huge", plan=Plan(objections=(OBJECTION,) * 1000)))
    assert history.get("huge") is not None


def test_other_events_leave_the_history_alone():
    history = History(CLOCK)
    history.see(claimed(1))
    assert recent(history) == []


# ---------------------------------------------------------------- feed


async def read(events) -> list[dict]:
    """All that waits."""
    frames = (await events.take()).decode().split("\n\n")
    assert frames.pop() == ""
    told = [json.loads(frame.partition("\ndata: ")[2]) for frame in frames]
    assert [frame.partition("\n")[0] for frame in frames] == [f"event: {entry['type']}" for entry in told]
    return told


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        (claimed(7), {"type": "claimed", "id": "req-1", "claim": 7, "backend": "gpu", "model": "llama3"}),
        (finished(7, "timeout"), {"type": "finished", "claim": 7, "outcome": "timeout", "total_ms": 500.0}),
        (ANSWERED, {"type": "answered", "id": "req-1", "status": 200, "backend": "gpu", "input_tokens": 12}),
        (Queued(at=1.0, request=REQUEST, lane=Lane.HIGH, waiting=True, depth=3), {"type": "queued", "lane": "high", "depth": 3}),
        (Joined(at=1.0, backend="gpu", kind="ollama", url="http://h", source="loopback"), {"type": "joined", "kind": "ollama"}),
        (Left(at=1.0, backend="gpu"), {"type": "left", "backend": "gpu"}),
        (Probed(at=1.0, backend="gpu", health=Health.HEALTHY, seconds=0.1, models=2), {"type": "probed", "health": "healthy"}),
    ],
)
async def test_a_subscriber_gets_every_event(event, facts):
    feed = Feed(CLOCK)
    with feed.subscribe() as events:
        feed.see(event)
        (told,) = await read(events)
    assert facts.items() <= told.items()


async def test_an_event_is_made_once_for_all_and_whatever_it_holds():
    feed = Feed(CLOCK)
    with feed.subscribe() as one, feed.subscribe() as other:
        feed.see(Joined(at=1.0, backend="o\ud800", kind="x\n\ny", url="\u2028", source=float("nan")))
        assert one._waiting[0] is other._waiting[0]
        (told,) = await read(one)
    assert (told["kind"], told["url"]) == ("x\n\ny", "\u2028")


async def test_an_event_of_somebody_elses_kind_is_told_by_type_and_time():
    class Warmed(Event):
        pass

    assert event_json(Warmed(at=100.0), CLOCK) == {"type": "warmed", "time": "1970-01-01T00:00:01.000Z"}


async def test_a_subscriber_waits_for_what_comes():
    feed = Feed(CLOCK)
    order = []

    async def happen() -> None:
        order.append("happened")
        feed.see(claimed(1))

    async def reader(events) -> list[dict]:
        told = await read(events)
        order.append("read")
        return told

    with feed.subscribe() as events:
        told, _ = await asyncio.gather(reader(events), happen())
    assert [entry["claim"] for entry in told] == [1]
    assert order == ["happened", "read"]


async def test_a_slow_subscriber_loses_the_oldest_and_is_told():
    feed = Feed(CLOCK, queue=2)
    with feed.subscribe() as slow, feed.subscribe() as quick:
        for number in range(5):
            feed.see(claimed(number))
            assert [entry["claim"] for entry in await read(quick)] == [number]
        lost, *kept = await read(slow)
        assert lost == {"type": "dropped", "count": 3}
        assert [entry["claim"] for entry in kept] == [3, 4]
        assert (slow.dropped, quick.dropped) == (3, 0)


async def test_losses_are_told_once():
    feed = Feed(CLOCK, queue=1)
    with feed.subscribe() as events:
        for number in range(3):
            feed.see(claimed(number))
        assert [entry["type"] for entry in await read(events)] == ["dropped", "claimed"]
        feed.see(claimed(3))
        assert [entry["claim"] for entry in await read(events)] == [3]


def test_without_subscribers_nothing_is_made():
    class NoClock(SetClock):
        def time(self) -> float:
            raise AssertionError("an event was told")

    Feed(NoClock()).see(ANSWERED)


async def test_leaving_the_block_ends_the_subscription():
    feed = Feed(CLOCK)
    with pytest.raises(RuntimeError, match="reader"), feed.subscribe():
        raise RuntimeError("the reader broke")
    assert len(feed) == 0


async def test_closing_ends_the_readers_once_they_have_read():
    feed = Feed(CLOCK)

    async def claims(events) -> list[int]:
        told = []
        while frames := await events.take():
            told += [json.loads(frame.partition(b"\ndata: ")[2])["claim"] for frame in frames.split(b"\n\n")[:-1]]
        return told

    async def happen() -> None:
        feed.see(claimed(1))
        await asyncio.sleep(0)
        feed.see(claimed(2))
        feed.close()

    with feed.subscribe() as one, feed.subscribe() as other:
        assert await asyncio.gather(claims(one), claims(other), happen()) == [[1, 2], [1, 2], None]
    with feed.subscribe() as late:
        assert await claims(late) == []


async def test_there_is_a_bound_on_subscribers():
    feed = Feed(CLOCK, subscribers=1)
    with feed.subscribe():
        with pytest.raises(Problem) as refused, feed.subscribe():
            pass
        assert (refused.value.status, refused.value.code) == (503, "too_many_subscribers")
    with feed.subscribe():
        assert len(feed) == 1


# ---------------------------------------------------------------- totals


def test_totals_are_those_of_all_rows():
    stats = Stats(CLOCK)
    stats.see(ANSWERED)
    stats.see(answered("b", candidate=CLOUD, outcome="broken"))
    stats.see(Answered(at=1.0, request=REQUEST, status=404, outcome="refused"))
    told = stats.snapshot()
    assert told["requests"] == 3
    assert told["outcomes"] == {"ok": 1, "broken": 1, "refused": 1}
    assert [told[f"{kind}_tokens"] for kind in ("input", "output", "cached", "reasoning")] == [24, 68, 10, 14]
    assert told["cost_usd"] == 0.5
    assert {name: row["requests"] for name, row in told["backends"].items()} == {"gpu": 1, "cloud": 1}
    assert told["backends"]["cloud"]["outcomes"] == {"broken": 1}
    assert told["models"]["llama3"]["output_tokens"] == 68
    assert json.loads(json.dumps(told)) == told


def test_in_flight_counts_claims_that_have_not_finished():
    stats = Stats(CLOCK)
    for number in range(3):
        stats.see(claimed(number))
    stats.see(finished(0))
    stats.see(finished(0))
    stats.see(finished(99, "left"))
    told = stats.snapshot()
    assert told["in_flight"] == {"total": 2, "backends": {"gpu": 2}}
    assert told["attempts"] == {"ok": 2, "left": 1}


def test_the_queue_is_as_deep_as_last_told():
    stats = Stats(CLOCK)
    for lane, depth in ((Lane.HIGH, 1), (Lane.LOW, 5), (Lane.LOW, 4)):
        stats.see(Queued(at=1.0, request=REQUEST, lane=lane, waiting=True, depth=depth))
    assert stats.snapshot()["queue"] == {"total": 5, "lanes": {"high": 1, "normal": 0, "low": 4}}


def test_uptime_counts_from_the_start():
    clock = SetClock()
    stats = Stats(clock)
    clock.seconds += 12.5
    assert stats.snapshot()["uptime_seconds"] == 12.5


def test_rows_are_bounded_and_those_used_last_stay():
    stats = Stats(CLOCK, rows=2)
    for name in ("a", "b", "a", "c"):
        stats.see(answered("x", candidate=replace(GPU, backend=name, name=f"model-{name}")))
    told = stats.snapshot()
    assert set(told["backends"]) == {"a", "c"}
    assert set(told["models"]) == {"model-a", "model-c"}
    assert told["requests"] == 4


# ---------------------------------------------------------------- the way to them


async def test_an_observer_that_fails_hurts_itself_only(caplog):
    class Bad(Observer):
        sees = Answered

        def see(self, event):
            """Never called."""

    class Odd(Observer):
        sees = [Answered]  # noqa: RUF012 - as people write it

        def see(self, event):
            raise RuntimeError("no")

    class Good(Observer):
        def __init__(self):
            self.seen = []

        def see(self, event):
            self.seen.append(event)

    good, witnesses = Good(), Witnesses()
    witnesses.call([("bad", Bad()), ("odd", Odd()), ("good", good)])
    for event in (ANSWERED, claimed(1), ANSWERED):
        witnesses.tell(event)
    await asyncio.sleep(0)
    assert good.seen == [ANSWERED, claimed(1), ANSWERED]
    assert caplog.text.count("the observer bad failed") == 2  # once for each type
    assert caplog.text.count("the observer odd failed") == 2
