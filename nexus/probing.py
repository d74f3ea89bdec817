"""One loop for each backend that asks how it is.  What the answers mean is the fleet's to say."""

from __future__ import annotations

import asyncio
import logging
import random

import attrs

from nexus.api import Clock
from nexus.crossing import without_secrets
from nexus.fleet import Fleet, Member
from nexus.model import Health, Report
from nexus.state import Store

LEAST_SECONDS = 0.5  # between two probes of one backend, however often somebody doubts it
UNWELL_SECONDS = 2.0  # a backend that is down is asked more often, so that it is back soon


@attrs.frozen(kw_only=True)
class Pace:
    """Seconds between probes, and for one probe."""

    interval: float = 30.0
    timeout: float = 5.0


class Prober:
    """Probes run side by side, each at its own pace.  `doubt` brings the next one forward."""

    def __init__(self, fleet: Fleet, pace: Pace, clock: Clock, store: Store, log: logging.Logger) -> None:
        self._fleet = fleet
        self._pace = pace
        self._clock = clock
        self._store = store
        self._log = log
        self._doubts: dict[str, asyncio.Event] = {}

    def doubt(self, name: str) -> None:
        """Something happened that a probe should look into."""
        if name in self._doubts:
            self._doubts[name].set()

    async def run(self, member: Member) -> None:
        """Probe until cancelled."""
        doubt = self._doubts[member.name] = asyncio.Event()
        try:
            while True:
                report = await self._probe(member)
                doubt.clear()
                await asyncio.sleep(LEAST_SECONDS)
                try:
                    async with asyncio.timeout(self._delay(member.name, report) - LEAST_SECONDS):
                        await doubt.wait()
                except TimeoutError:
                    pass
        finally:
            self._doubts.pop(member.name, None)

    def _delay(self, name: str, report: Report) -> float:
        standing = self._fleet.standings.get(name)
        unwell = standing is not None and standing.pulse.health is not Health.HEALTHY
        loading = report.eta is not None or report.code == "loading"
        seconds = UNWELL_SECONDS if unwell or loading or not report.ok else self._pace.interval
        return max(min(seconds, self._pace.interval) * random.uniform(0.9, 1.1), LEAST_SECONDS)

    async def _probe(self, member: Member) -> Report:
        began = self._clock.now()
        report = await self._asked(member)
        if self._told(member, report, began):
            self._store.keep(member.url, report.models or ())
        return report

    def _told(self, member: Member, report: Report, began: float) -> bool:
        """Whether the models are others than before.  A report that cannot be read is an ill backend, not the last good one."""
        try:
            return self._fleet.report(member.name, report, self._clock.now() - began)
        except Exception:
            self._fleet.report(member.name, Report(ok=False, code="crashed", problem="its plugin's report makes no sense"), 0.0)
            raise

    async def _asked(self, member: Member) -> Report:
        try:
            async with asyncio.timeout(self._pace.timeout):
                return without_secrets(await member.backend.probe(), member.backend.secrets())
        except TimeoutError:
            return Report(ok=False, code="timeout", problem=f"did not answer within {self._pace.timeout:g} s")
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it is we who are to stop, and not something that the plugin awaited
            self._log.exception("the probe of %s crashed", member.name)
            return Report(ok=False, code="crashed", problem=f"its plugin crashed in probe: {type(error).__name__}")
