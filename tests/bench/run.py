"""`make bench`: Nexus beside nginx, a bare aiohttp proxy and an earlier commit, on one core, in the same run.  See docs/benchmarks.md.

Each round starts every contender afresh, then takes scenario by scenario, contender by contender, forwards and backwards
in turn.  The gateway has the first core; the load and the upstream share the last.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import beside
import contenders
import loadgen
import report
from targets import Target, targets

RESULTS = "## Results\n"
BUSY_LOAD = 0.7
SATURATED = {"single": (1, loadgen.PASSED), "batch": (64, loadgen.PASSED), "translated": (1, loadgen.TRANSLATED)}
PACED = {"paced": (200, loadgen.PASSED), "hundred": (100, loadgen.PASSED), "late": (200, loadgen.TRANSLATED)}
PICTURES = {"small": 750_000, "large": 5_000_000}  # bytes


@attrs.frozen
class Subject:
    """A contender that runs: where to send load, and whose process to watch (none: the upstream itself)."""

    name: str
    port: int
    running: contenders.Running | None = None

    @property
    def is_nexus(self) -> bool:
        """Whether it translates, too."""
        return self.name == "nexus" or report.is_earlier(self.name)


class Round:
    """One round's figures."""

    def __init__(self, samples: report.Samples, seconds: float) -> None:
        self.samples = samples
        self.seconds = seconds

    def note(self, subject: Subject, **figures: float) -> None:
        kept = self.samples.setdefault(subject.name, {})
        for metric, figure in figures.items():
            kept.setdefault(metric, []).append(figure)

    def warm(self, subject: Subject) -> None:
        loadgen.requests(subject.port, 8, min(1, self.seconds))

    def rate(self, connections: int) -> Callable[[Subject], None]:
        def measure(subject: Subject) -> None:
            busy = Busy(subject)
            busy()
            rate = loadgen.requests(subject.port, connections, self.seconds)
            busy()
            self.note(subject, **{f"rps_{connections}": rate.rps, f"p50_{connections}": rate.p50, f"p99_{connections}": rate.p99})
            busy.note(self, f"cpu_{connections}")
            busy.each(self, f"each_{connections}", rate.rps)

        return measure

    def saturated(self, kind: str) -> Callable[[Subject], None]:
        batch, form = SATURATED[kind]

        def measure(subject: Subject) -> None:
            busy = Busy(subject)
            exact = subject.name != "litellm"
            eps = loadgen.saturated(subject.port, batch=batch, seconds=self.seconds, mark=busy, form=form, exact=exact)
            self.note(subject, **{f"eps_{kind}": eps})
            busy.note(self, f"cpu_{kind}")
            busy.each(self, f"each_{kind}", eps)

        return measure

    def pictures(self, kind: str) -> Callable[[Subject], None]:
        def measure(subject: Subject) -> None:
            busy = Busy(subject)
            busy()
            rate = loadgen.pictures(subject.port, PICTURES[kind], 4, self.seconds)
            busy()
            self.note(subject, **{f"rps_{kind}": rate.rps})
            busy.note(self, f"cpu_{kind}")
            busy.each(self, f"each_{kind}", rate.rps * 1000)

        return measure

    def paced(self, kind: str) -> Callable[[Subject], None]:
        streams, form = PACED[kind]

        def measure(subject: Subject) -> None:
            busy = Busy(subject)
            busy()
            pace = loadgen.paced(subject.port, seconds=self.seconds, form=form, streams=streams)
            busy()
            self.note(subject, **{f"{kind}_p50": pace.p50, f"{kind}_p99": pace.p99, f"{kind}_max": pace.most})
            self.note(subject, **{f"{kind}_held": pace.held, f"{kind}_missing": pace.missing})
            busy.note(self, f"{kind}_cpu")

        return measure

    def memory(self, metric: str) -> Callable[[Subject], None]:
        def measure(subject: Subject) -> None:
            if subject.running:
                self.note(subject, **{metric: subject.running.rss() / report.MIB})

        return measure


class Busy:
    """How much of its core a contender used between the first and the second call."""

    def __init__(self, subject: Subject) -> None:
        self.running = subject.running
        self.subject = subject
        self.marks: list[tuple[float, float]] = []

    def __call__(self) -> None:
        if self.running:
            self.marks.append((time.monotonic(), self.running.cpu()))

    def note(self, into: Round, metric: str) -> None:
        if len(self.marks) == 2:
            (t0, c0), (t1, c1) = self.marks
            into.note(self.subject, **{metric: 100 * (c1 - c0) / (t1 - t0)})

    def each(self, into: Round, metric: str, rate: float) -> None:
        """Note the microseconds of CPU that one request or event cost: a busy machine changes it less than a rate."""
        if len(self.marks) == 2:
            (t0, c0), (t1, c1) = self.marks
            into.note(self.subject, **{metric: 1e6 * (c1 - c0) / (t1 - t0) / rate})


@contextlib.contextmanager
def started(names: list[str], upstream: int, directory: Path, this: Round) -> Iterator[list[Subject]]:
    """Every named contender, ready; its start is timed."""
    with contextlib.ExitStack() as stack:
        subjects = []
        for name in names:
            if name == "direct":
                subjects.append(Subject(name, upstream))
                continue
            running, ready = contenders.STARTERS[name](directory, upstream)
            stack.enter_context(contenders.stopping(running))
            subjects.append(Subject(name, running.port, running))
            this.note(subjects[-1], ready_s=ready)
        yield subjects


def play(names: list[str], number: int, upstream: int, directory: Path, this: Round) -> None:
    """One round: every scenario for every contender, side by side."""
    with started(names, upstream, directory, this) as subjects:
        speak = [subject for subject in subjects if subject.is_nexus]
        passed = [this.memory("rss_start"), this.warm, this.rate(1), this.rate(64)]
        passed += [this.saturated("single"), this.saturated("batch"), this.paced("paced"), this.paced("hundred")]
        passed += [this.memory("rss_load"), this.pictures("small"), this.pictures("large")]
        translated = [this.saturated("translated"), this.paced("late")]
        for step, those in [*((step, subjects) for step in passed), *((step, speak) for step in translated)]:
            for subject in those if number % 2 == 0 else reversed(those):
                taken(step, subject)


def taken(step: Callable[[Subject], None], subject: Subject) -> None:
    """One scenario for one contender.  What others than the present Nexus cannot do is only said."""
    try:
        step(subject)
    except loadgen.LoadError as error:
        if subject.name != "litellm" and not report.is_earlier(subject.name):
            raise loadgen.LoadError(f"{subject.name}: {error}") from error
        print(f"{subject.name} cannot carry one scenario: {error}")


def chosen(options: argparse.Namespace, earlier: list[str]) -> list[list[str]]:
    """The contenders in groups that run at the same time; a heavy peer runs alone."""
    found = ["direct", "nexus", *earlier, "bare", "nginx"]
    if not contenders.has_nexus():
        print("nexus is left out: `python -m nexus --version` does not work here")
        found.remove("nexus")
    if not shutil.which("nginx"):
        print("nginx is left out: it is not installed (Debian: apt-get install nginx-light)")
        found.remove("nginx")
    if not shutil.which("wrk"):
        print("wrk is not installed: requests are made by a slower client in Python (Debian: apt-get install wrk)")
    if options.only:
        found = [name for name in found if name in {"direct", *earlier, *options.only}]
    groups = [found]
    if options.peers:
        contenders.install_litellm()
        groups.append(["litellm"])
    return groups


def translation(directory: Path, runs: int) -> tuple[str, list[dict[str, Any]]]:
    """What translating costs by itself, on the proxy's core: the table and its figures."""
    figures = directory / "translation.json"
    command = [sys.executable, str(contenders.HERE / "translate_cost.py"), "--runs", str(runs), "--json", str(figures)]
    pin = functools.partial(os.sched_setaffinity, 0, {contenders.PROXY_CORE})
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=pin)
    return said.stdout.strip(), json.loads(figures.read_text())


def machine() -> dict[str, str]:
    """What may be said of the machine on a page: neither its name nor its kernel's."""
    return {"system": platform.system(), "cores": str(len(contenders.CORES)), "python": platform.python_version()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each scenario")
    parser.add_argument("--runs", type=int, default=7, help="of each stream that is translated by itself; the best counts")
    parser.add_argument("--quick", action="store_true", help="one short round: does the harness work?")
    parser.add_argument("--only", action="append", choices=["nexus", "bare", "nginx"], help="leave the others out")
    parser.add_argument("--beside", action="append", default=[], metavar="COMMIT", help="an earlier commit as one more contender")
    parser.add_argument("--peers", action="store_true", help="LiteLLM's proxy too, in a virtual environment of its own")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure to this file")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the results under `## Results` of this page")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.runs = 1, 1.0, 1
    return options


def write(text: str, page: Path) -> None:
    """Put the results under the last heading of a page, in place of those that were there."""
    above, found, _ = page.read_text().partition(RESULTS)
    if not found:
        raise SystemExit(f"{page} has no heading {RESULTS.strip()!r}")
    page.write_text(f"{above}{RESULTS}\n```text\n{text}\n```\n")


def rounds(options: argparse.Namespace, groups: list[list[str]], directory: Path, samples: report.Samples) -> None:
    """Every round, with a server behind all contenders."""
    with contenders.stopping(contenders.start_upstream(directory)) as upstream:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} …", flush=True)
            for group in groups:
                play(group, number, upstream.port, directory, Round(samples, options.seconds))


def measured(options: argparse.Namespace, facts: dict[str, str], directory: Path) -> tuple[str, dict[str, Any], list[Target]]:
    """The text for people, the figures, and what they are held to."""
    with contextlib.ExitStack() as stack:
        earlier = [stack.enter_context(beside.checked_out(commit)) for commit in options.beside]
        for each in earlier:
            contenders.STARTERS[each.name] = contenders.starter(each.install)
        groups, samples = chosen(options, [each.name for each in earlier]), report.Samples()
        samples |= {name: {} for group in groups for name in group}
        told, costs = translation(directory, options.runs) if "nexus" in samples else ("", [])
        rounds(options, groups, directory, samples)
    found = targets(samples, len(contenders.CORES), costs)
    figures = {"machine": facts, "samples": samples, "translation": costs, "targets": [attrs.asdict(target) for target in found]}
    return report.text(samples, facts, told, map(str, found)), figures, found


def main() -> int:
    options = parse()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    facts = machine()
    if (load := os.getloadavg()[0]) > BUSY_LOAD:
        facts["busy"] = f"other programs ran at the start (load {load:.1f}): believe memory and ratios of CPU, not rates and delays"
        print(facts["busy"])
    os.sched_setaffinity(0, {contenders.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as name:
        text, figures, found = measured(options, facts, Path(name))
    print(f"\n{text}")
    if options.write:
        write(text, options.write)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False))
    return int(options.check and not all(target.met for target in found))


if __name__ == "__main__":
    sys.exit(main())
