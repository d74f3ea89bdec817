"""How the work of a function grows with its input.  What is measured with it is in `test_linear`."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

TIMES = 8
LIMIT = 3 * TIMES  # a square would need TIMES * TIMES
ENOUGH = 0.004  # seconds of processor time that are no accident of the clock
RUNS = 5


def growth(work: Callable[[int], object], size: int) -> float:
    """By what `TIMES` as much input multiplies the processor time of `work`: about `TIMES` where that is linear.

    Each time is the best of several, for other programs only ever make it longer; input that takes no time to speak of is made
    larger first.
    """
    while (least := _best(work, size)) < ENOUGH:
        size *= 2
    return _best(work, size * TIMES) / least


def _best(work: Callable[[int], object], size: int) -> float:
    best = float("inf")
    for _ in range(RUNS):
        began = process_time()
        work(size)
        best = min(best, process_time() - began)
    return best
