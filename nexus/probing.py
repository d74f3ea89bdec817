"""One loop for each backend that asks how it is.  What the answers mean is the fleet's to say."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from nexus.api import Clock
from nexus.crossing import without_secrets
from nexus.errors import CRASHES, is_cancelled
from nexus.fleet import Fleet, Member
from nexus.model import Health, Report
from nexus.state import Store

LEAST_SECONDS = 0.5  # between two probes of one backend, however often somebody doubts it
SHORTAGE = "shortage"  # of descriptors, here
UNWELL_SECONDS = 2.0  # until a backend that is down is asked again; doubled each time that it is down still
LONGEST_SECONDS = 30.0
NEWS_SECONDS = 5.0  # what was asked so short a while ago has said what it serves
ROUND_SECONDS = 1.0  # between two rounds for names that nobody knows
MOST_ASKED = 16  # backends in one such round, those first that were asked longest ago
PATIENCE_SECONDS = 1.0  # that somebody waits for it


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between probes, and for one probe."""

    interval: float = 30.0
    timeout: float = 5.0


class Turns:
    """When one backend is asked: `rest` ends early where somebody doubts it.  `misses` counts how often in a row it was found down."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._doubt = asyncio.Event()
        self._answers: list[asyncio.Future[None]] = []
        self.began = float("-inf")
        self.asking = False
        self.misses = 0

    def doubt(self) -> None:
        self._doubt.set()

    def answer(self) -> asyncio.Future[None]:
        """Done as soon as the backend has been asked once more, or is asked no more."""
        future = asyncio.get_running_loop().create_future()
        self._answers.append(future)
        return future

    @contextmanager
    def question(self) -> Iterator[None]:
        """Now it is asked."""
        self.began, self.asking = self._clock.now(), True
        self._doubt.clear()  # what is doubted while it is asked may have happened after the answer was made
        try:
            yield
        finally:
            self.asking = False
            self.close()

    def close(self) -> None:
        answers, self._answers = self._answers, []
        for future in answers:
            if not future.done():
                future.set_result(None)

    def pause(self) -> float:
        """Seconds until one that is down is asked again: 2, 4, 8 … at most 30."""
        self.misses += 1
        return float(min(UNWELL_SECONDS * 2 ** min(self.misses - 1, 10), LONGEST_SECONDS))

    async def rest(self, seconds: float) -> None:
        """Wait so long, or until somebody doubts it, but at least LEAST_SECONDS, and UNWELL_SECONDS where it was down before."""
        least = min(UNWELL_SECONDS if self.misses > 1 else LEAST_SECONDS, seconds)
        await asyncio.sleep(least)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - least):
                await self._doubt.wait()


class Prober:
    """Probes run side by side, each at its own pace.  `doubt` brings the next one forward."""

    def __init__(self, fleet: Fleet, pace: Pace, clock: Clock, store: Store, log: logging.Logger) -> None:
        self._fleet = fleet
        self._pace = pace
        self._clock = clock
        self._store = store
        self._log = log
        self._turns: dict[str, Turns] = {}
        self._last_round = float("-inf")

    def doubt(self, name: str) -> None:
        """Something happened that a probe should look into."""
        if name in self._turns:
            self._turns[name].doubt()

    @contextmanager
    def turns(self, name: str) -> Iterator[Turns]:
        """Whoever asks the backend of this name does so by these."""
        turns = self._turns[name] = Turns(self._clock)
        try:
            yield turns
        finally:
            turns.close()
            if self._turns.get(name) is turns:
                del self._turns[name]

    async def run(self, member: Member) -> None:
        """Probe until cancelled."""
        with self.turns(member.name) as turns:
            while True:
                with turns.question():
                    report = await self._probe(member)
                await turns.rest(self._delay(member.name, report, turns))

    async def learn(self, names: Iterable[str]) -> None:
        """Nobody is known to serve any of these: ask those anew that may by now, and wait for what they say, a short while at most.

        Who was asked a few seconds ago is believed, and there is one such round a second: mistyped names cost the servers little.
        """
        asked = [turns.answer() for turns in self._may_know(tuple(names))]
        if asked:
            await asyncio.wait(asked, timeout=PATIENCE_SECONDS)

    def _may_know(self, names: tuple[str, ...]) -> list[Turns]:
        now = self._clock.now()
        begins = now - self._last_round >= ROUND_SECONDS
        found = []
        for name, turns in self._turns.items() if begins else ():
            standing = self._fleet.standings.get(name)
            well = standing is not None and standing.pulse.health is not Health.UNHEALTHY
            if standing is not None and well and now - turns.began >= NEWS_SECONDS and any(map(standing.listing.may_have, names)):
                found.append(turns)
        found = sorted(found, key=lambda turns: turns.began)[:MOST_ASKED]
        if found:
            self._last_round = now
        for turns in found:
            turns.doubt()
        return found or [turns for turns in self._turns.values() if turns.asking][:MOST_ASKED]

    def _delay(self, name: str, report: Report, turns: Turns) -> float:
        standing = self._fleet.standings.get(name)
        health = standing.pulse.health if standing is not None else Health.UNHEALTHY
        loading = report.eta is not None or report.code == "loading"
        if health is Health.UNHEALTHY and not report.ok and not loading:
            seconds = turns.pause()
        else:
            turns.misses = 0
            seconds = self._pace.interval if report.ok and health is Health.HEALTHY and not loading else UNWELL_SECONDS
        return max(min(seconds, self._pace.interval) * random.uniform(0.9, 1.1), LEAST_SECONDS)

    async def _probe(self, member: Member) -> Report:
        began = self._clock.now()
        report = await self._asked(member)
        if await self._told(member, report, began):
            self._store.keep(member.url, report.models or ())
        return report

    async def _told(self, member: Member, report: Report, began: float) -> bool:
        """Whether the models are others than before.  A report that cannot be read is an ill backend, not the last good one; where we had
        nothing to ask with, nothing is known of it."""
        if report.code == SHORTAGE:
            return False
        try:
            return await self._fleet.take_in(member.name, report, self._clock.now() - began)
        except Exception:
            self._fleet.report(member.name, Report(ok=False, code="crashed", problem="its plugin's report makes no sense"), 0.0)
            raise

    async def _asked(self, member: Member) -> Report:
        try:
            async with asyncio.timeout(self._pace.timeout):
                return without_secrets(await member.backend.probe(), member.backend.secrets())
        except TimeoutError:
            return Report(ok=False, code="timeout", problem=f"did not answer within {self._pace.timeout:g} s")
        except (*CRASHES, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise  # it is we who are to stop, and not something that the plugin awaited
            self._log.exception("the probe of %s crashed", member.name)
            return Report(ok=False, code="crashed", problem=f"its plugin crashed in probe: {type(error).__name__}")
