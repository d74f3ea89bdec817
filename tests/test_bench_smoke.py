"""The benchmark scripts run and say what they promise to say.  No speed is judged here: that is for a quiet machine."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"
SECONDS = 150
CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts pin processes to cores and read /proc")
smoke = pytest.mark.bench  # starts a script with all that it measures: `make bench-smoke`


def run(script, *arguments, path=None):
    """Exit code and output of one script; nothing that it started outlives it."""
    env = os.environ | ({"PATH": path} if path else {})
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"{script} did not end within {SECONDS} s: {process.communicate()[0]}")
    assert "Traceback" not in said, said
    assert process.returncode in (0, 1), said
    return process.returncode, said


def verdicts(said):
    """What each promise came to: its text up to the measured part, and whether it was met."""
    lines = [line for line in said.splitlines() if line.startswith(("met ", "MISSED "))]
    return {line[8:].rpartition(": ")[0]: line.startswith("met") for line in lines}


BRIEF = ("--rounds", 1, "--seconds", 0.2, "--runs", 1, "--only", "nexus")


@smoke
def test_run_without_nginx_and_wrk_writes_a_page_that_does_not_name_the_machine(tmp_path):
    page, figures, empty = tmp_path / "page.md", tmp_path / "figures.json", tmp_path / "bin"
    empty.mkdir()
    page.write_text("# Page\n\nkept\n\n## Results\n\nold figures\n")
    arguments = (*BRIEF, "--json", figures, "--write", page)
    code, said = run("run.py", *arguments, path=str(empty))
    assert code == 0, said
    assert "nginx is left out" in said
    assert "wrk is not installed" in said
    check_figures(json.loads(figures.read_text())["samples"])
    above, _, results = page.read_text().partition("## Results\n")
    assert above == "# Page\n\nkept\n\n"
    assert results.strip().removeprefix("```text\n").removesuffix("\n```") in said
    check_page(results)
    assert len(verdicts(results)) == (10 if CORES > 1 else 0)  # on one core no target is judged


def check_figures(samples):
    assert set(samples) == {"direct", "nexus"}
    assert all(samples["nexus"][name][0] > 0 for name in ("ready_s", "rss_start", "rps_1", "rps_64", "eps_single"))
    assert all(samples["nexus"][name][0] > 0 for name in ("eps_translated", "each_translated", "late_p50"))
    assert samples["nexus"]["paced_missing"] == samples["nexus"]["late_missing"] == [0]
    assert "eps_translated" not in samples["direct"]


def check_page(results):
    assert "old figures" not in results
    assert "memory after start, MiB" in results
    assert results.count(" ← ") == 1 + 8, "a head, and two streams of every pair of dialects"
    head = dict(line.split(": ", 1) for line in results.strip().partition("\n\n")[0].splitlines()[1:])
    assert set(head) - {"busy"} == {"system", "cores", "python"}
    assert (head["system"], head["python"]) == (platform.system(), platform.python_version())
    assert platform.release() not in results


@smoke
@pytest.mark.skipif(not (BENCH.parent.parent / ".git").exists(), reason="an earlier commit is checked out of git")
def test_run_beside_an_earlier_commit(tmp_path):
    figures = tmp_path / "figures.json"
    trees = worktrees()
    code, said = run("run.py", *BRIEF, "--beside", "HEAD", "--json", figures)
    assert code == 0, said
    samples = json.loads(figures.read_text())["samples"]
    direct, nexus, earlier = samples
    assert (direct, nexus) == ("direct", "nexus")
    assert re.fullmatch("nexus@[0-9a-f]{7,}", earlier)
    check_figures({"direct": samples[direct], "nexus": samples[earlier]})
    assert f"{nexus} / {earlier}" in said
    assert sum(promise.startswith(f"no slower than {earlier}: ") for promise in verdicts(said)) == (3 if CORES > 1 else 0)
    assert worktrees() == trees, "the checkout is gone"


def worktrees():
    command = ["git", "worktree", "list", "--porcelain"]
    return {
        line
        for line in subprocess.run(command, cwd=BENCH, capture_output=True, text=True, check=True).stdout.splitlines()
        if "nexus-beside" in line
    }


@smoke
def test_a_commit_that_git_does_not_know_is_named():
    code, said = run("run.py", *BRIEF, "--beside", "no-such-commit")
    assert code == 1
    assert "git knows no commit 'no-such-commit' here: give a hash, a tag or a branch of this checkout" in said


JUDGE = """
import json, sys
from targets import targets
read = json.loads(sys.stdin.read())
print(*targets(read["samples"], 2, read["costs"]), sep="\\n")
"""
SLOW = {"rps_64": [1.0], "p50_1": [9000.0], "rss_start": [51.0], "ready_s": [9.0], "eps_single": [1.0]}
SLOW |= {
    "paced_p50": [0.1],
    "paced_p99": [90.0],
    "paced_held": [7.0],
    "eps_batch": [1.0],
    "eps_translated": [9.0],
    "late_p50": [9.0],
}
QUICK = {"rps_64": [2.0], "p50_1": [30.0], "eps_single": [2.0], "eps_batch": [2.0], "paced_p50": [0.1]}
COSTS = [{"translated": True, "rate": 19_999.0, "slowest": 0.002}, {"translated": False, "rate": 1.0, "slowest": 1.0}]


def judged(nexus):
    samples = {"direct": QUICK, "nexus": nexus, "nexus@1234567": QUICK, "bare": QUICK, "nginx": QUICK}
    told = json.dumps({"samples": samples, "costs": COSTS})
    command = [sys.executable, "-c", JUDGE]
    return subprocess.run(command, cwd=BENCH, input=told, capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_missed_target_is_followed_by_its_explanation():
    lines = judged(SLOW)
    missed = [at for at, line in enumerate(lines) if line.startswith("MISSED  ")]
    assert len(missed) == 14
    assert all(lines[at + 1].startswith(" " * 8) for at in missed)


@pytest.mark.parametrize(("mib", "met"), [(50.0, True), (50.01, False)])
def test_memory_is_judged_in_mib_and_said_in_both_units(mib, met):
    [line] = [line for line in judged(SLOW | {"rss_start": [mib]}) if "memory" in line and not line.startswith(" ")]
    assert line.startswith("met " if met else "MISSED")
    assert "at most 50 MB, judged as 50 MiB = 52,428,800 bytes: 50.0 MiB = 52.4 MB" in line


@smoke
def test_soak():
    code, said = run("soak.py", "--minutes", 0.1)
    assert code == 0, said
    assert "'200'" in said
    assert "nothing is left under way: 0" in said


def test_what_a_soak_makes_of_its_minutes():
    """A leak is told from a rise that ends."""
    told = """
import soak
flat = [soak.Look(n, 10**8 + (n % 3) * 10**5, 40, 50 + n % 9, 2) for n in range(5, 30)]
leak = [soak.Look(n, 10**8 + n * 2 * 10**5, 40 + n * 2, 50 + n * 2, 2) for n in range(5, 30)]
for those in (flat, leak):
    print([met for *_, met in soak.verdicts(those, those[0], soak.Look(30, 10**8, 40, those[-1].tasks, len(those) == 0), 5)])
"""
    said = subprocess.run([sys.executable, "-c", told], cwd=BENCH, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[True, True, True, True, True, True]", "[False, False, False, True, False, True]"]


@smoke
def test_soak_streams():
    _, said = run("soak_streams.py", "--streams", 20, "--events", 2)
    found = verdicts(said)
    assert len(found) == 4, said
    assert found["every byte right"], said
    assert found["no upstream socket left open when the clients walk away"], said


def test_kill_burst():
    _, said = run("kill_burst.py", "--requests", 24, "--at-once", 8)
    found = verdicts(said)
    assert len(found) == 7, said
    assert said.startswith("24 requests: "), said
    assert found["every request without a byte yet ended in 200"], said
    assert found["a cut stream says so"], said
    assert found["no stream left open upstream"], said


@smoke
def test_routing_cost():
    _, said = run("routing_cost.py", "--rounds", 1, "--others", 50)
    assert list(verdicts(said)) == [
        "a decision at 10 candidates, 8 refused, below 100 us",
        "within 20 % of that with 50 more backends",
    ], said


@smoke
def test_scaling():
    sizes = [f"--{axis}=2,4" for axis in ("backends", "models", "waiters", "policies", "keys", "subscribers")]
    _, said = run("scaling.py", "--streams=1,3", "--seconds", 1, *sizes)
    rows = [line for line in said.splitlines() if line.startswith(("met ", "MISSED "))]
    assert len(rows) == 14 + 15 + 5 + 1 + 1 + 2 + 1, said
    assert re.search(r"^missed: ", said, re.MULTILINE), said
    for line in rows:
        assert re.search(r" [\d.]+ +[\d.]+ \([+-][\d.]+\)   stall +[\d.]+ ms$", line), line
    assert "did not come to their end" not in said, said


SLOPES = """
import sys
from scaling import Point, slopes, told
print(slopes([Point(10, 0.001, 0.0), Point(100, 0.01, 0.0), Point(1000, 1.0, 0.0)]))
print(told("square", [Point(10, 0.001, 0.001), Point(100, 0.1, 0.002)]))
print(told("slow", [Point(10, 0.001, 0.051), Point(100, 0.001, 0.002)]))
print(told("well", [Point(10, 0.001, 0.05), Point(100, 0.0125, 0.002)]))
"""


def test_what_scaling_calls_too_much():
    said = subprocess.run([sys.executable, "-c", SLOPES], cwd=BENCH, capture_output=True, text=True, check=True).stdout
    lines = said.splitlines()
    assert [round(float(n), 3) for n in lines[0].strip("[]").split(",")] == [1.0, 2.0]
    assert [line.split()[0] for line in lines[1:]] == ["MISSED", "False", "MISSED", "False", "met", "True"]
