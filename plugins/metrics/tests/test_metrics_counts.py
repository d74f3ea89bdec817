"""What is counted, and that no gauge drifts and no table grows without end."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_metrics.counts import OTHER, Counts, Histogram

from nexus.api import (
    Answered,
    Candidate,
    Claimed,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Left,
    Leg,
    Objection,
    Plan,
    Probed,
    Queued,
    Refusal,
    RefusalKind,
    Request,
    Usage,
    replace,
)

REQUEST = Request(id="r", dialect="openai", task="chat", model="what-the-client-wrote")
GPU = Candidate(backend="gpu", kind="ollama", model="llama3:8b", name="llama3")
LEG = Leg(index=0, name="llama3", ids=("llama3",), trail=("llama3",))
FALLBACK = Leg(index=1, name="qwen", ids=("qwen",), trail=("llama3", "qwen"))
ANSWERED = Answered(at=1.0, request=REQUEST, status=200, outcome="ok", candidate=GPU, leg=LEG, seconds=1.0, first_byte=0.25)


def counted(*events: Event, **bounds: int) -> Counts:
    counts = Counts(**bounds)
    for event in events:
        counts.see(event)
    return counts


def answered(backend: str = "gpu", model: str = "llama3", **changes: object) -> Answered:
    return replace(ANSWERED, candidate=replace(GPU, backend=backend, name=model), **changes)


def claimed(claim: int, backend: str = "gpu") -> Claimed:
    return Claimed(at=1.0, claim=claim, request=REQUEST, candidate=replace(GPU, backend=backend))


def finished(claim: int, backend: str = "gpu", outcome: str = "ok", sent: bool = True) -> Finished:
    candidate = replace(GPU, backend=backend)
    return Finished(at=1.0, claim=claim, request=REQUEST, candidate=candidate, outcome=outcome, sent=sent)


def joined(backend: str = "gpu") -> Joined:
    return Joined(at=1.0, backend=backend, kind="ollama", url="http://gpu", source="config")


def objection(stage: str, code: str, leg: int = 0, name: str = "llama3") -> Objection:
    candidate = replace(GPU, name=name)
    return Objection(stage=stage, candidate=candidate, leg=leg, refusal=Refusal(kind=RefusalKind.POLICY, code=code))


# ---------------------------------------------------------------- requests


def test_an_answer_counts_by_model_backend_and_status():
    counts = counted(answered(), answered(), answered(status=502), answered("cpu"))
    assert counts.pairs["llama3", "gpu"].statuses == {200: 2, 502: 1}
    assert counts.pairs["llama3", "cpu"].statuses == {200: 1}


def test_a_request_without_a_backend_has_no_label_of_the_clients():
    counts = counted(Answered(at=1.0, request=REQUEST, status=404, outcome="refused"))
    assert counts.pairs["", ""].statuses == {404: 1}


def test_durations_fall_into_their_buckets():
    histogram = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.5, 1.0, 7.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == pytest.approx(8.6)


def test_durations_are_per_pair_and_a_first_byte_that_never_came_is_none():
    counts = counted(answered(seconds=2.0), answered(seconds=4.0, first_byte=None))
    pair = counts.pairs["llama3", "gpu"]
    assert (sum(pair.duration.counts), pair.duration.sum) == (2, 6.0)
    assert (sum(pair.first_byte.counts), pair.first_byte.sum) == (1, 0.25)


def test_routing_counts_where_there_was_a_plan():
    counts = counted(answered(plan=Plan(), routing_seconds=0.00004), answered(plan=None, routing_seconds=0.0))
    assert (sum(counts.routing.counts), counts.routing.sum) == (1, 0.00004)


def test_tokens_and_cost_add_up():
    usage = Usage(input_tokens=10, output_tokens=20, cached_tokens=3, reasoning_tokens=4, source="reported")
    pair = counted(answered(usage=usage, cost=0.5), answered(usage=usage, cost=0.25), answered()).pairs["llama3", "gpu"]
    assert (pair.input, pair.output, pair.cached, pair.reasoning, pair.cost) == (20, 40, 6, 8, 0.75)


def test_every_objection_of_the_plan_counts():
    plan = Plan(objections=(objection("privacy", "zone"), objection("privacy", "zone"), objection("core", "busy")))
    assert counted(answered(plan=plan), answered(plan=plan)).refusals == {("privacy", "zone"): 4, ("core", "busy"): 2}


# ---------------------------------------------------------------- fallbacks


def test_a_configured_fallback_counts_from_the_first_name_of_the_chain():
    plan = Plan(legs=(LEG, FALLBACK))
    counts = counted(answered(model="qwen", leg=FALLBACK, plan=plan), answered(plan=plan))
    assert counts.fallbacks == {("llama3", "qwen"): 1}


def test_a_flexible_request_never_makes_the_clients_word_a_label():
    asked = Leg(index=0, name=REQUEST.model, ids=(REQUEST.model,), trail=(REQUEST.model,))
    anything = replace(FALLBACK, any_model=True)
    unknown = answered(model="qwen", leg=anything, plan=Plan(legs=(asked, anything)))
    known = replace(unknown, plan=Plan(legs=(asked, anything), objections=(objection("core", "busy"),)))
    assert counted(unknown, known).fallbacks == {("", "qwen"): 1, ("llama3", "qwen"): 1}


def test_a_request_that_no_fallback_answered_is_no_fallback():
    refused = Answered(at=1.0, request=REQUEST, status=503, outcome="refused", leg=FALLBACK, plan=Plan(legs=(LEG, FALLBACK)))
    assert counted(refused).fallbacks == {}


# ---------------------------------------------------------------- attempts


def test_attempts_count_by_backend_and_outcome():
    counts = counted(*(finished(number, outcome=outcome) for number, outcome in enumerate(("ok", "ok", "timeout"))))
    assert counts.attempts == {("gpu", "ok"): 2, ("gpu", "timeout"): 1}


def test_what_was_cancelled_is_what_had_been_sent_when_the_client_left():
    counts = counted(finished(1, outcome="left"), finished(2, outcome="left", sent=False), finished(3, outcome="failed"))
    assert counts.cancelled == 1


def test_a_claim_is_in_flight_until_it_is_finished():
    counts = counted(joined(), claimed(1), claimed(2))
    assert counts.in_flight == {"gpu": 2}
    counts.see(finished(1))
    assert counts.in_flight == {"gpu": 1}


CLAIMS = st.tuples(st.sampled_from(["claim", "finish", "join", "leave"]), st.integers(0, 5), st.sampled_from("ab"))


@settings(deadline=None)
@given(st.lists(CLAIMS, max_size=60))
def test_in_flight_never_drifts(steps):
    """Whatever comes twice, too late or never: what is in flight are the claims that were counted and not yet finished."""
    counts, held = Counts(), {}
    for verb, number, backend in steps:
        if verb == "claim":
            counts.see(claimed(number, backend))
            held[number] = backend
        elif verb == "finish":
            counts.see(finished(number, backend))
            held.pop(number, None)
        else:
            counts.see(joined(backend) if verb == "join" else Left(at=1.0, backend=backend))
        assert {name: n for name, n in counts.in_flight.items() if n} == Counter(held.values())


def test_the_queue_is_as_deep_as_last_told():
    counts = Counts()
    assert counts.queue == {"high": 0, "normal": 0, "low": 0}
    for depth in (1, 2, 1):
        counts.see(Queued(at=1.0, request=REQUEST, lane=Lane.LOW, waiting=True, depth=depth))
    assert counts.queue == {"high": 0, "normal": 0, "low": 1}


# ---------------------------------------------------------------- backends


def probed(health: Health, models: int, backend: str = "gpu") -> Probed:
    return Probed(at=1.0, backend=backend, health=health, seconds=0.1, models=models)


def test_a_backend_is_unknown_until_it_is_probed():
    counts = counted(joined())
    assert counts.backends == {"gpu": (Health.UNKNOWN, 0)}
    counts.see(probed(Health.HEALTHY, 3))
    assert counts.backends == {"gpu": (Health.HEALTHY, 3)}


def test_a_backend_that_left_takes_its_rows_with_it():
    counts = counted(joined(), joined("cpu"), answered(), answered("cpu"), claimed(1), finished(1), finished(2, "cpu"))
    counts.see(Left(at=1.0, backend="gpu"))
    assert set(counts.backends) == set(counts.in_flight) == {"cpu"}
    assert set(counts.pairs) == {("llama3", "cpu")}
    assert set(counts.attempts) == {("cpu", "ok")}


def test_what_a_backend_reports_after_it_left_brings_no_row_back():
    counts = counted(joined(), claimed(1), Left(at=1.0, backend="gpu"))
    assert counts.in_flight == {"gpu": 1}
    for late in (finished(1, outcome="failed"), answered(status=502), probed(Health.HEALTHY, 3)):
        counts.see(late)
    assert counts.in_flight == counts.backends == {}
    assert counts.attempts == {("", "failed"): 1}
    assert {key: pair.statuses for key, pair in counts.pairs.items()} == {("llama3", ""): {502: 1}}


def test_a_backend_that_comes_back_begins_anew():
    counts = counted(joined(), answered(), Left(at=1.0, backend="gpu"), joined(), answered())
    assert counts.pairs["llama3", "gpu"].statuses == {200: 1}
    assert counts.in_flight == {"gpu": 0}


# ---------------------------------------------------------------- bounds


def test_more_pairs_than_the_bound_share_a_row():
    counts = counted(*(answered(model=f"m{number}") for number in range(5)), max_pairs=2)
    assert set(counts.pairs) == {("m0", "gpu"), ("m1", "gpu"), (OTHER, OTHER)}
    assert counts.pairs[OTHER, OTHER].statuses == {200: 3}


def test_more_rows_than_the_bound_share_one():
    plan = Plan(objections=tuple(objection("odd", f"code-{number}") for number in range(5)))
    counts = counted(answered(plan=plan), *(finished(n, f"b{n}") for n in range(5)), max_rows=2)
    assert counts.refusals == {("odd", "code-0"): 1, ("odd", "code-1"): 1, (OTHER, OTHER): 3}
    assert counts.attempts[OTHER, OTHER] == 3


def test_the_names_of_those_that_left_are_bounded():
    counts = counted(*(Left(at=1.0, backend=f"b{number}") for number in range(5)), answered("b0"), answered("b4"), max_rows=2)
    assert set(counts.pairs) == {("llama3", "b0"), ("llama3", "")}


def test_events_of_an_unknown_kind_are_let_pass():
    class Warmed(Event):
        pass

    assert counted(Warmed(at=1.0)).pairs == {}
