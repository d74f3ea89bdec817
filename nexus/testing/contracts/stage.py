"""What every stage promises: it only objects and adds up, answers the same twice, and survives values it has never seen."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from nexus.api import Ask, Call, Candidate, Demand, Payload, Refusal, RefusalKind, Refused, Stage, StageKind
from nexus.testing.builders import a_body, a_call, every_event, odd_asks, odd_candidates
from nexus.testing.contracts.opening import opened

CODE = re.compile(r"[a-z][a-z0-9_]*")
HEADER = re.compile(r"x-nexus-[a-z0-9-]+", re.IGNORECASE)

BODIES = (
    a_body(),
    b"{}",
    b'{"messages": null, "tools": 7, "model": [], "max_tokens": "many"}',
    b'{"messages": [null, 7, {"role": 7, "content": [null, {"type": "image_url"}]}], "input": [[1]], "stream": "yes"}',
)


class StageContract:
    """Subclass it and name `kind` (and `options`, an instance of the kind's options, where defaults will not do):

    class TestFoo(StageContract):
        kind = KIND
    """

    kind: StageKind
    options: Any = None

    def opened(self) -> AbstractAsyncContextManager[Stage]:
        """The stage, on a clock that stands still."""
        return opened(self.kind, self.options)

    @pytest.mark.asyncio
    async def test_describe_gives_a_demand_and_changes_nothing(self) -> None:
        async with self.opened() as stage:
            for ask, body in ((ask, body) for ask in odd_asks() for body in BODIES):
                for known in ((), odd_candidates()):
                    payload = Payload(body)
                    demand = stage.describe(ask.request, ask.leg, payload, known)
                    assert isinstance(demand, Demand)
                    assert stage.describe(ask.request, ask.leg, Payload(body), known) == demand, "asked twice, said two things"
                    assert payload.body == body
                    assert payload.parsed == json.loads(body), "a stage must not change the parsed body"

    @pytest.mark.asyncio
    async def test_refuse_gives_a_refusal_or_none(self) -> None:
        async with self.opened() as stage:
            for refusal in (stage.refuse(ask, candidate) for ask, candidate in _pairs()):
                if refusal is not None:
                    _check_refusal(refusal)

    @pytest.mark.asyncio
    async def test_refuse_says_the_same_twice_in_any_order(self) -> None:
        async with self.opened() as stage:
            pairs = list(_pairs())
            forwards = [stage.refuse(*pair) for pair in pairs]
            backwards = [stage.refuse(*pair) for pair in reversed(pairs)]
        assert forwards == backwards[::-1]

    @pytest.mark.asyncio
    async def test_rank_is_a_finite_number_of_seconds(self) -> None:
        async with self.opened() as stage:
            for ask, candidate in _pairs():
                seconds = stage.rank(ask, candidate)
                assert isinstance(seconds, int | float)
                assert math.isfinite(seconds), f"{seconds} for {candidate}"

    @pytest.mark.asyncio
    async def test_prepare_changes_only_what_is_sent(self) -> None:
        async with self.opened() as stage:
            for call in _calls():
                prepared = stage.prepare(call)
                assert isinstance(prepared, Call)
                assert _fixed(prepared) == _fixed(call), "prepare may change body, headers and deadlines"
                assert isinstance(prepared.body, bytes)
                assert all(name == name.lower() for name, _ in prepared.headers)

    @pytest.mark.asyncio
    async def test_admit_returns_nothing_or_raises_refused(self) -> None:
        async with self.opened() as stage:
            for call in _calls():
                try:
                    answer: object = await stage.admit(call)  # type: ignore[func-returns-value]  # that it returns nothing is the promise
                except Refused as refused:
                    _check_refusal(refused.refusal)
                else:
                    assert answer is None, "admit forbids by raising Refused, not by what it returns"

    @pytest.mark.asyncio
    async def test_tell_gives_headers_of_nexus(self) -> None:
        async with self.opened() as stage:
            for ask, candidate in _pairs():
                told = stage.tell(ask, candidate)
                assert isinstance(told, Mapping)
                for name, value in told.items():
                    assert HEADER.fullmatch(name), name
                    assert isinstance(value, str)
                    assert value.isascii(), f"{name}: {value!r}"
                    assert value.isprintable(), f"{name}: {value!r}"

    @pytest.mark.asyncio
    async def test_lacks_gives_seconds_by_need(self) -> None:
        async with self.opened() as stage:
            for event in every_event():
                stage.learn(event)
            for _, candidate in _pairs():
                for need, seconds in stage.lacks(candidate).items():
                    assert isinstance(need, str)
                    assert math.isfinite(seconds)

    @pytest.mark.asyncio
    async def test_learn_takes_every_event(self) -> None:
        async with self.opened() as stage:
            for event in every_event():
                assert stage.learn(event) is None  # type: ignore[func-returns-value]  # an `async def` would return something

    @pytest.mark.asyncio
    async def test_the_verdicts_hold_after_everything_has_been_learnt(self) -> None:
        async with self.opened() as stage:
            for event in every_event():
                stage.learn(event)
            for ask, candidate in _pairs():
                refusal = stage.refuse(ask, candidate)
                assert refusal is None or isinstance(refusal, Refusal)
                assert math.isfinite(stage.rank(ask, candidate))


def _pairs() -> Iterator[tuple[Ask, Candidate]]:
    for ask in odd_asks():
        for candidate in odd_candidates():
            yield ask, candidate


def _calls() -> Iterator[Call]:
    for index, (ask, candidate) in enumerate(_pairs()):
        yield a_call(ask=ask, candidate=candidate, body=BODIES[index % len(BODIES)], stream=bool(index % 2))


def _fixed(call: Call) -> tuple[object, ...]:
    return (call.ask, call.candidate, call.dialect, call.task, call.path, call.method, call.stream)


def _check_refusal(refusal: object) -> None:
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.kind, RefusalKind)
    assert CODE.fullmatch(refusal.code), f"{refusal.code!r} must be a stable word such as `too_small`"
    json.dumps(dict(refusal.data))
    assert refusal.retry_at is None or not math.isnan(refusal.retry_at)
