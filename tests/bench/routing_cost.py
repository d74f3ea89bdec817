"""What one routing decision costs: name to legs, candidates, every standard stage, plan.  Exit 1 where a target is missed.

Ten backends serve the model; eight of them are refused, by zone, tier, a missing ability, health and a full house.  The
same again in a fleet with a thousand more backends that serve something else, in turn, so that a slow moment of the
machine hits both.  Each decision is followed by a claim and its end, as in traffic: what they change is seen anew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from time import perf_counter_ns
from typing import Any

from nexus_stages import nexus_stages

from nexus.api import Backend, Model, Payload, Report, Request, State, Zone
from nexus.fleet import Claim, Fleet, Member
from nexus.model import CHAT, TOOLS, Demand, Event
from nexus.names import Names
from nexus.policies import Policy
from nexus.routing import Circumstances, Pipeline, route
from nexus.testing import a_body, a_request, a_scope

MODEL = "bench-model"
SPEAKS = frozenset({("openai", CHAT)})
ABLE = {CHAT: True, TOOLS: True}
BLOCK = 100
WELL: Mapping[str, Any] = {"zone": Zone.RESTRICTED, "tier": 3}
TEN: tuple[Mapping[str, Any], ...] = (
    WELL,
    {**WELL, "zone": Zone.OPEN},
    {**WELL, "zone": Zone.OPEN},
    {**WELL, "tier": 1},
    {**WELL, "tier": 2},
    {**WELL, "offers": {CHAT: True, TOOLS: False}},
    {**WELL, "context": 64},
    {**WELL, "ok": False},
    {**WELL, "capacity": 1},
    WELL,
)


class Nobody(Backend):
    """A backend that is never sent anything."""

    async def probe(self) -> Report:
        return Report(ok=True)

    async def send(self, call: object) -> Any:
        raise NotImplementedError("the micro-benchmark sends nothing")


class Bench:
    """A fleet with the stages, and the request that is routed again and again."""

    def __init__(self, pipeline: Pipeline, others: int) -> None:
        self.pipeline = pipeline
        loop = asyncio.get_running_loop()
        self.fleet = Fleet(loop.time, self._tell)
        for number, facts in enumerate(TEN):
            self._join(f"gpu{number}", MODEL, **facts)
        for number in range(others):
            self._join(f"other{number}", f"other-{number % 50}", **WELL)
        policy = Policy(models=("bench-*",), demand=Demand(zone=Zone.RESTRICTED, min_tier=3))
        self.names = Names({"gpt-4o": [MODEL]}, {MODEL: ["other-1"]}, [policy])
        self.payload = Payload(a_body("gpt-4o", tools=[{"type": "function", "function": {"name": "f"}}]))
        self.request: Request = a_request(model="gpt-4o", needs=frozenset({TOOLS}), tokens_low=400, tokens_high=600)
        self.busy = self._occupy("gpu8")

    def _tell(self, event: Event) -> None:
        for _, learn in self.pipeline.learners(type(event)):
            learn(event)

    def _join(
        self,
        name: str,
        model: str,
        *,
        zone: Zone,
        tier: int,
        ok: bool = True,
        capacity: int | None = None,
        context: int = 32768,
        offers: Mapping[str, bool] = ABLE,
    ) -> None:
        url = f"http://{name}.invalid"
        self.fleet.join(
            Member(name=name, kind="bench", url=url, backend=Nobody(), zone=zone, tier=tier, capacity=capacity),
            [Model(id=model, offers=offers, context=context, speaks=SPEAKS, state=State.READY)],
        )
        models = None if not ok else (Model(id=model, offers=offers, context=context, speaks=SPEAKS, state=State.READY),)
        self.fleet.report(name, Report(ok=ok, models=models), 0.001)

    def _occupy(self, backend: str) -> Claim:
        standing = self.fleet.standings[backend]
        return self.fleet.claim(standing.candidates()[0], self.request)

    def once(self) -> int:
        """Nanoseconds of one decision."""
        fleet = self.fleet
        began = perf_counter_ns()
        legs = self.names.legs(self.request.model, strict=False, flexible=False)
        at = Circumstances(candidates=fleet.candidates, now=fleet.now(), policy=self.names.demand)
        plan = route(self.pipeline, self.request, self.payload, legs, at)
        spent = perf_counter_ns() - began
        refused = {objection.candidate.backend for objection in plan.objections}
        assert (len(plan.choices), len(refused)) == (2, 8), (len(plan.choices), sorted(refused))
        claim = fleet.claim(plan.choices[0].candidate, self.request)
        claim.finish("ok", sent=True, status=200, first_byte=0.05)
        return spent

    def block(self) -> float:
        """The median microseconds of a hundred decisions."""
        return statistics.median(self.once() for _ in range(BLOCK)) / 1000


async def measure(rounds: int, others: int) -> tuple[list[float], list[float]]:
    """Microseconds a decision takes in the small and in the large fleet, block by block in turn."""
    async with AsyncExitStack() as stack:
        scope = await stack.enter_async_context(a_scope("bench"))
        stages = [(kind.name, await stack.enter_async_context(kind.open(kind.options(), scope))) for kind in nexus_stages()]
        small, large = Bench(Pipeline(stages), 0), Bench(Pipeline(stages), others)
        small.block(), large.block()
        gc.collect()
        gc.freeze()
        pairs = [(small.block(), large.block()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="blocks of a hundred decisions, for each fleet")
    parser.add_argument("--others", type=int, default=1000, help="backends that do not serve the model")
    options = parser.parse_args()
    small, large = asyncio.run(measure(options.rounds, options.others))
    ten, thousand = statistics.median(small), statistics.median(large)
    growth = statistics.median(b / a for a, b in zip(small, large, strict=True))
    results = [
        ("a decision at 10 candidates, 8 refused, below 100 us", f"{ten:.1f} us [{min(small):.1f}–{max(small):.1f}]", ten < 100),
        (f"within 20 % of that with {options.others} more backends", f"{thousand:.1f} us, {growth - 1:+.1%}", growth < 1.2),
    ]
    for promise, measured, met in results:
        print(f"{'met   ' if met else 'MISSED'}  {promise}: {measured}")
    return int(not all(met for _, _, met in results))


if __name__ == "__main__":
    sys.exit(main())
