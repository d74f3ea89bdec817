"""The queue on its own: lanes, order, bounds, alarms, turns that come too late, and changes within changes."""

import asyncio
import random

import pytest

from nexus.model import Lane, Queued
from nexus.testing import a_request, until
from nexus.waiting import Bounds, QueueFull, WaitedTooLong, Waiter, Waiting


def start(coro) -> asyncio.Task[str]:
    return asyncio.get_running_loop().create_task(coro)


class Slots:
    """So many slots, handed out through a queue."""

    def __init__(self, free: int = 0, **bounds) -> None:
        self.free = free
        self.held = 0
        self.peak = 0
        self.order: list[str] = []
        self.events: list[Queued] = []
        self.now = asyncio.get_running_loop().time
        self.waiting: Waiting[str] = Waiting(Bounds(**bounds), self.now, self.events.append)

    def take(self, name: str) -> str | None:
        if not self.free:
            return None
        self.free -= 1
        self.held += 1
        self.peak = max(self.peak, self.held)
        self.order.append(name)
        return name

    def release(self, _: str = "") -> None:
        self.free += 1
        self.held -= 1
        self.waiting.pump()

    def waiter(self, name: str, lane: Lane = Lane.NORMAL, size: int = 1, watch=frozenset()) -> Waiter[str]:
        return Waiter(a_request(id=name, priority=lane), size, lambda: self.take(name), watch, self.now())

    async def turn(self, waiter: Waiter[str], retry_at: float | None = None) -> str:
        """As dispatch does: a turn that comes in the tick of the cancellation goes back."""
        try:
            return await self.waiting.wait(waiter, retry_at)
        except asyncio.CancelledError:
            waiter.give_back(self.release)
            raise

    def start(self, *names_and_lanes) -> list[asyncio.Task[str]]:
        return [start(self.turn(self.waiter(*args))) for args in names_and_lanes]

    def give(self, count: int = 1) -> None:
        self.free += count
        self.waiting.pump()


async def drained(tasks) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_lanes_go_by_priority_and_first_come_first_served_within():
    slots = Slots()
    asked = [("low", Lane.LOW), ("n1", Lane.NORMAL), ("h1", Lane.HIGH), ("n2", Lane.NORMAL), ("h2", Lane.HIGH)]
    tasks = slots.start(*asked)
    await until(lambda: len(slots.waiting) == 5)
    assert [w.request.id for w in slots.waiting.waiters()] == ["h1", "h2", "n1", "n2", "low"]
    for _ in asked:
        slots.give()
    assert slots.order == ["h1", "h2", "n1", "n2", "low"]
    assert await asyncio.gather(*tasks) == [name for name, _ in asked]
    assert (len(slots.waiting), slots.waiting.bytes) == (0, 0)


async def test_who_has_a_turn_is_out_of_the_queue_in_the_same_tick():
    slots = Slots(max_requests=1)
    first = slots.start(("a",))
    await until(lambda: len(slots.waiting) == 1)
    slots.give()
    assert (len(slots.waiting), slots.waiting.bytes) == (0, 0)
    second = slots.start(("b",))  # there is room for it, though `a` has not run yet
    await until(lambda: len(slots.waiting) == 1)
    slots.give()
    assert await asyncio.gather(*first, *second) == ["a", "b"]


async def test_bounds_hold_in_number_and_in_bytes():
    slots = Slots(max_requests=2, max_bytes=100)
    tasks = [start(slots.turn(slots.waiter("a", size=60)))]
    await until(lambda: len(slots.waiting) == 1)
    with pytest.raises(QueueFull):
        await slots.turn(slots.waiter("b", size=41))
    tasks.append(start(slots.turn(slots.waiter("c", size=40))))
    await until(lambda: len(slots.waiting) == 2)
    with pytest.raises(QueueFull):
        await slots.turn(slots.waiter("d", size=0))
    assert slots.waiting.bytes == 100
    await drained(tasks)
    assert (len(slots.waiting), slots.waiting.bytes) == (0, 0)


async def test_the_longest_wait_ends_and_says_so():
    slots = Slots(max_wait_seconds=0.05)
    with pytest.raises(WaitedTooLong):
        await slots.turn(slots.waiter("a"))
    assert [(e.waiting, e.depth) for e in slots.events] == [(True, 1), (False, 0)]


async def test_a_waiter_that_leaves_is_gone_and_its_late_turn_goes_to_the_next():
    slots = Slots()
    first, second = slots.start(("a",), ("b",))
    await until(lambda: len(slots.waiting) == 2)
    slots.give()  # `a` has the slot, but has not run
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "b"
    assert (slots.order, slots.held, slots.free) == (["a", "b"], 1, 0)


async def test_only_those_who_watch_a_backend_are_asked_and_none_beyond_its_room():
    slots, asked = Slots(), []

    def waiter(name, watch):
        return Waiter(a_request(), 1, lambda: asked.append(name) or slots.take(name), watch, slots.now())

    watching = [waiter("a", frozenset("x")), waiter("b", frozenset("y")), waiter("c", frozenset()), waiter("d", frozenset("x"))]
    tasks = [start(slots.turn(w)) for w in watching]
    await until(lambda: len(slots.waiting) == 4)
    slots.waiting.pump("x")
    assert asked == ["a", "c", "d"]
    slots.free = 1
    slots.waiting.pump("x", lambda: slots.free > 0)
    assert asked == ["a", "c", "d", "a"]
    await drained(tasks)


async def test_those_due_at_one_moment_are_woken_in_the_order_of_the_queue():
    slots = Slots(free=0)
    at = slots.now() + 0.05
    names = [("low", Lane.LOW), ("a", Lane.NORMAL), ("b", Lane.NORMAL), ("high", Lane.HIGH)]
    tasks = [start(slots.turn(slots.waiter(*n), at)) for n in names]
    await until(lambda: len(slots.waiting) == 4)
    slots.free = 2  # nobody says so: only the alarm finds out
    assert await asyncio.wait_for(tasks[3], 5) == "high"
    assert slots.order == ["high", "a"]
    await drained(tasks)


async def test_a_newcomer_lets_those_go_first_whose_moment_has_come():
    slots = Slots()
    (task,) = slots.start(("a",))
    await until(lambda: len(slots.waiting) == 1)
    slots.free = 1
    slots.waiting.pump_due()
    assert slots.order == []
    slots.waiting.waiters()[0].retry_at = slots.now()
    slots.waiting.pump_due()
    assert await task == "a"


async def test_an_attempt_that_fails_ends_only_that_wait():
    slots = Slots()
    broken = Waiter(a_request(), 1, lambda: 1 / 0, frozenset(), slots.now())
    first = start(slots.turn(broken))
    (second,) = slots.start(("b",))
    await until(lambda: len(slots.waiting) == 2)
    slots.give()
    with pytest.raises(ZeroDivisionError):
        await first
    assert await second == "b"


async def test_a_change_within_an_attempt_is_looked_at_afterwards():
    """A stage may say `changed()` while it learns of the claim that an attempt has just made."""
    slots = Slots()

    def attempt(name: str) -> str | None:
        got = slots.take(name)
        if got:
            slots.waiting.pump()
        return got

    waiters = [Waiter(a_request(), 1, lambda name=name: attempt(name), frozenset("x"), slots.now()) for name in "abc"]
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 3)
    slots.free = 2
    slots.waiting.pump("x")
    assert slots.order == ["a", "b"]
    assert await asyncio.gather(*tasks[:2]) == ["a", "b"]
    assert slots.held == 2
    await drained(tasks)


@pytest.mark.parametrize("seed", range(10))
async def test_whoever_comes_and_goes_slots_are_never_overrun_nor_lost(seed):
    chance, total, capacity = random.Random(seed), 60, 3
    slots = Slots(free=capacity, max_requests=25, max_wait_seconds=0.2)
    ends: list[str] = []
    began: list[str] = []

    async def client(name: str) -> None:
        began.append(name)
        try:
            turn = slots.take(name) or await slots.turn(slots.waiter(name, chance.choice(list(Lane))), slots.now() + 0.01)
        except (QueueFull, WaitedTooLong) as end:
            ends.append(type(end).__name__)
            return
        except asyncio.CancelledError:
            ends.append("left")
            raise
        try:
            await asyncio.sleep(chance.choice((0, 0, 0.002)))
        finally:
            ends.append("served")
            slots.release(turn)

    tasks = []
    for number in range(total):
        tasks.append(start(client(str(number))))
        if chance.random() < 0.4:
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(ends) == len(began) > total / 2
    assert "served" in ends
    assert (slots.held, slots.free, len(slots.waiting), slots.waiting.bytes) == (0, capacity, 0, 0)
    assert 0 < slots.peak <= capacity


async def test_what_changes_within_an_attempt_is_told_to_those_who_were_asked_before():
    """`b` finds nothing, but what it did makes room for `a`, who has been asked already."""
    slots = Slots()
    asked: list[str] = []

    def attempt(name: str) -> str | None:
        asked.append(name)
        if name == "b" and "b" not in asked[:-1]:
            slots.free += 1
            slots.waiting.pump()
            return None
        return slots.take(name) if name == "a" else None

    tasks = [start(slots.turn(Waiter(a_request(), 1, lambda name=name: attempt(name), frozenset(), slots.now()))) for name in "ab"]
    await until(lambda: len(slots.waiting) == 2)
    slots.waiting.pump()
    assert await asyncio.wait_for(tasks[0], 5) == "a"
    await drained(tasks)
