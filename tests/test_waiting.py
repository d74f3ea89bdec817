"""The queue on its own: lanes, order, bounds, alarms, turns that come too late, and changes within changes."""

import asyncio
import random

import pytest

from nexus.model import Lane, Queued
from nexus.testing import a_request, until
from nexus.waiters import OWN_BYTES, Condition, Waiter
from nexus.waiting import Bounds, QueueFull, WaitedTooLong, Waiting

X = Condition(slots=frozenset("x"), backends=frozenset("x"), names=frozenset({"tiny"}))


def start(coro) -> asyncio.Task[str]:
    return asyncio.get_running_loop().create_task(coro)


class Slots:
    """So many slots of the domain `x`, handed out through a queue.  `up` are the backends that serve everything."""

    def __init__(self, free: int = 0, **bounds) -> None:
        self.free = free
        self.held = 0
        self.peak = 0
        self.order: list[str] = []
        self.events: list[Queued] = []
        self.now = asyncio.get_running_loop().time
        self.up = {"x"}
        self.asked: list[str] = []
        self.waiting: Waiting[str] = Waiting(Bounds(**bounds), self.now, self.events.append, self)

    def has_room(self, domain: str) -> bool:
        return self.free > 0

    def serving(self, names) -> frozenset[str]:
        return frozenset(self.up)

    def take(self, name: str) -> str | None:
        self.asked.append(name)
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
        self.waiting.freed("x")

    def waiter(self, name: str, lane: Lane = Lane.NORMAL, size: int = 1, condition: Condition = X) -> Waiter[str]:
        return Waiter(a_request(id=name, priority=lane), size, lambda: self.take(name), condition, self.now())

    async def turn(self, waiter: Waiter[str]) -> str:
        """As dispatch does: a turn that comes in the tick of the cancellation goes back."""
        try:
            return await self.waiting.wait(waiter)
        except asyncio.CancelledError:
            waiter.give_back(self.release)
            raise

    def start(self, *names_and_lanes) -> list[asyncio.Task[str]]:
        return [start(self.turn(self.waiter(*args))) for args in names_and_lanes]

    def give(self, count: int = 1) -> None:
        self.free += count
        self.waiting.freed("x")


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
    slots = Slots(max_requests=2, max_bytes=100 + 2 * OWN_BYTES)
    tasks = [start(slots.turn(slots.waiter("a", size=60)))]
    await until(lambda: len(slots.waiting) == 1)
    with pytest.raises(QueueFull):
        await slots.turn(slots.waiter("b", size=41))
    tasks.append(start(slots.turn(slots.waiter("c", size=40))))
    await until(lambda: len(slots.waiting) == 2)
    with pytest.raises(QueueFull):
        await slots.turn(slots.waiter("d", size=0))
    assert slots.waiting.bytes == 100 + 2 * OWN_BYTES
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


def watching(domain: str, **more) -> Condition:
    return Condition(slots=frozenset({domain}), backends=frozenset({domain}), names=frozenset({"tiny"}), **more)


async def test_only_those_who_watch_a_domain_are_asked_and_none_beyond_its_room():
    slots = Slots()
    conditions = {"a": watching("x"), "b": watching("y"), "c": watching("x", mark=1), "d": watching("x")}
    tasks = [start(slots.turn(slots.waiter(name, condition=condition))) for name, condition in conditions.items()]
    await until(lambda: len(slots.waiting) == 4)
    slots.waiting.freed("x")
    assert slots.asked == []  # there is no room
    slots.free = 1
    slots.waiting.freed("z")
    assert slots.asked == []
    slots.waiting.freed("x")
    assert slots.asked == ["a"]
    slots.free = 2
    slots.waiting.freed("x")
    assert slots.order == ["a", "c", "d"]
    await drained(tasks)


async def test_of_those_who_wait_for_the_same_only_the_first_is_asked_in_vain():
    slots = Slots()
    asked: list[str] = []
    marks = {"a": None, "b": None, "c": "its own", "d": None}
    waiters = [
        Waiter(a_request(), 1, lambda name=name: asked.append(name), watching("x", mark=mark), slots.now())
        for name, mark in marks.items()
    ]
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 4)
    slots.free = 1
    slots.waiting.freed("x")
    assert asked == ["a", "c"]
    await drained(tasks)


async def test_who_hears_another_answer_than_before_waits_for_something_else_and_the_next_is_asked():
    slots = Slots()
    first = slots.waiter("a")
    first.attempt = lambda: setattr(first, "condition", watching("y"))
    tasks = [start(slots.turn(first)), *slots.start(("b",))]
    await until(lambda: len(slots.waiting) == 2)
    slots.give()
    assert slots.order == ["b"]
    first.attempt = lambda: slots.take("a")
    slots.free = 1
    slots.waiting.freed("x")
    assert slots.order == ["b"]
    slots.waiting.freed("y")
    assert slots.order == ["b", "a"]
    await drained(tasks)


async def test_those_due_at_one_moment_are_woken_in_the_order_of_the_queue():
    slots = Slots(free=0)
    at = slots.now() + 0.05
    names = [("low", Lane.LOW), ("a", Lane.NORMAL), ("b", Lane.NORMAL), ("high", Lane.HIGH)]
    own = [Condition(own_at=at, backends=frozenset("x")), Condition(retry_at=at, backends=frozenset("x"))]
    tasks = [start(slots.turn(slots.waiter(*n, condition=own[i % 2]))) for i, n in enumerate(names)]
    await until(lambda: len(slots.waiting) == 4)
    slots.free = 2  # nobody says so: only the alarm finds out
    for task, name in ((tasks[3], "high"), (tasks[1], "a")):
        assert await asyncio.wait_for(task, 5) == name
    assert slots.order == ["high", "a"]
    await drained(tasks)


async def test_a_newcomer_lets_those_go_first_whose_moment_has_come():
    slots = Slots()
    at = slots.now() + 0.05
    task = start(slots.turn(slots.waiter("a", condition=Condition(retry_at=at, backends=frozenset("x")))))
    await until(lambda: len(slots.waiting) == 1)
    slots.free = 1
    slots.waiting.pump_due()
    assert slots.order == []
    while slots.now() < at:
        """The loop gets no chance to say so."""
    slots.waiting.pump_due()
    assert slots.order == ["a"]
    assert await task == "a"


async def test_a_newcomer_lets_all_go_first_whose_moment_has_come(monkeypatch):
    """Waiters each with a moment of its own, and groups that wait for different things: one look at the clock is for all of them."""
    monkeypatch.setattr("nexus.waiting.SLICE_SECONDS", 60.0)  # a machine that is busy elsewhere ends no turn
    slots, ahead = Slots(), 0.0
    slots.waiting = Waiting(Bounds(), lambda: slots.now() + ahead, slots.events.append, slots)
    at = slots.now() + 60
    x, y = frozenset("x"), frozenset("y")
    due = [
        ("low", Lane.LOW, Condition(own_at=at, backends=x)),
        ("a", Lane.NORMAL, Condition(own_at=at - 0.001, backends=x)),
        ("b", Lane.NORMAL, Condition(retry_at=at, backends=x, names=x)),
        ("c", Lane.NORMAL, Condition(retry_at=at - 0.002, backends=y, names=y)),
        ("high", Lane.HIGH, Condition(own_at=at, backends=y)),
    ]
    later = Condition(own_at=at + 60, backends=x, names=y)
    tasks = [start(slots.turn(slots.waiter(name, lane, condition=condition))) for name, lane, condition in due]
    tasks.append(start(slots.turn(slots.waiter("later", condition=later))))
    await until(lambda: len(slots.waiting) == 6)
    slots.free = 6
    ahead = 61.0  # of what the loop has seen
    slots.waiting.pump_due()
    assert slots.order == ["high", "a", "b", "c", "low"]
    assert slots.waiting.waiters()[0].request.id == "later"
    await drained(tasks)


# ---------------------------------------------------------------- what changes in the fleet


async def asked_after(slots: Slots, *changed: str) -> list[str]:
    """Who is asked because these backends have changed."""
    del slots.asked[:]
    for backend in changed:
        slots.waiting.changed(backend)
    await asyncio.sleep(0)
    await until(lambda: not slots.waiting.busy)
    return slots.asked


async def test_a_change_asks_those_who_gain_by_it_and_those_who_have_nothing_left_to_wait_for():
    slots = Slots(free=1)
    slots.up = {"x", "y"}
    conditions = {
        "both": Condition(backends=frozenset("xy"), names=frozenset({"tiny"})),
        "one": Condition(backends=frozenset("y"), names=frozenset({"tiny"})),
        "unsure": Condition(backends=frozenset("x"), names=frozenset({"tiny"}), unsure=True),
    }
    tasks = []
    for name, condition in conditions.items():
        waiter = slots.waiter(name, condition=condition)
        waiter.attempt = lambda name=name: slots.asked.append(name)
        tasks.append(start(slots.turn(waiter)))
    await until(lambda: len(slots.waiting) == 3)
    assert await asked_after(slots, "x") == ["both", "one", "unsure"]  # it is up: whoever it may serve
    slots.up = {"x"}
    assert await asked_after(slots, "y") == ["one", "unsure"]  # it went down: `both` has somebody left
    slots.free = 0
    assert await asked_after(slots, "x") == ["unsure"]  # it is up, and full
    slots.free = 1
    slots.asked.clear()
    slots.waiting.freed("x")
    assert slots.asked == ["one"]  # who could not be asked before is asked when there is room; `both` waits for no slot of it
    slots.asked.clear()
    slots.waiting.freed("x")
    assert slots.asked == []  # they said what they wait for
    await drained(tasks)


async def test_what_some_of_a_group_can_use_is_offered_to_each_as_long_as_there_is_room():
    slots = Slots()
    slots.up = {"x", "new"}
    waiters = [slots.waiter(name, condition=watching("y")) for name in "abcd"]
    for waiter in waiters[::2]:
        waiter.attempt = lambda name=waiter.request.id: slots.asked.append(name)  # it is not for these
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 4)
    slots.free = 1
    assert await asked_after(slots, "new") == ["a", "b"]
    slots.asked.clear()
    slots.free = 9
    slots.waiting.freed("new")
    assert slots.asked == ["c", "d"]
    assert slots.order == ["b", "d"]
    await drained(tasks)


async def test_all_that_changes_in_a_turn_is_told_once_and_never_within_it():
    slots = Slots(free=1)
    slots.up = set(map(str, range(100)))
    told: list[str] = []
    waiters = [slots.waiter(str(n), condition=Condition(backends=frozenset("0"), names=frozenset({"tiny"}))) for n in range(5)]
    for waiter in waiters:
        waiter.attempt = lambda waiter=waiter: told.append(waiter.request.id)
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 5)
    for backend in slots.up:
        slots.waiting.changed(backend)
        slots.waiting.pump()
    assert told == []
    await asyncio.sleep(0)
    await until(lambda: not slots.waiting.busy)
    assert told == ["0", "1", "2", "3", "4"]
    await drained(tasks)


async def test_what_takes_long_is_done_in_slices_and_nobody_is_overtaken_meanwhile(monkeypatch):
    """Every attempt takes more than a turn allows: the loop goes on between any two, and newcomers come last."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("nexus.waiting.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("nexus.waiting.SLICE_SECONDS", 2.0)
    slots, turns, beside = Slots(), [], 0
    waiters = [slots.waiter(str(n)) for n in range(5)]
    for waiter in waiters:
        waiter.attempt = lambda name=waiter.request.id: turns.append(beside) or slots.take(name)
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 5)
    assert not slots.waiting.come_first("x")
    slots.free = 9
    slots.waiting.pump()
    assert slots.waiting.come_first("x")
    newcomer = start(slots.waiting.wait(slots.waiter("newcomer"), ask=True))
    while len(slots.waiting) or not newcomer.done():
        assert slots.waiting.come_first("x") or not len(slots.waiting)
        beside += 1
        await asyncio.sleep(0)
    assert slots.order == ["0", "1", "2", "3", "4", "newcomer"]
    assert len(set(turns)) == 5
    assert not slots.waiting.come_first("x")
    await drained([*tasks, newcomer])


async def test_who_has_left_is_asked_for_nothing_that_it_had_gained():
    slots = Slots()
    tasks = slots.start(("a",))
    stays = start(slots.turn(slots.waiter("stays", condition=Condition(slots=frozenset("z"), backends=frozenset("yz")))))
    await until(lambda: len(slots.waiting) == 2)
    slots.up = {"x", "y", "z"}
    slots.waiting.changed("y")
    await until(lambda: not slots.waiting.busy)
    await drained(tasks)
    slots.free = 1
    slots.waiting.freed("y")
    assert (slots.asked, slots.waiting.busy, len(slots.waiting)) == ([], False, 1)
    await drained([stays])


async def test_who_was_asked_before_the_last_change_is_asked_again(monkeypatch):
    """The second change comes while the first is still being told: whoever has heard of the first hears of it, too."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("nexus.waiting.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("nexus.waiting.SLICE_SECONDS", 2.0)
    slots, again = Slots(), iter([True])
    waiters = [slots.waiter(str(n)) for n in range(4)]
    waiters[1].attempt = lambda: slots.waiting.pump() if next(again, False) else slots.take("1")
    tasks = [start(slots.turn(waiter)) for waiter in waiters]
    await until(lambda: len(slots.waiting) == 4)
    slots.waiting.pump()
    await until(lambda: not slots.waiting.busy)
    assert slots.asked == ["0", "2", "3", "0", "1", "2", "3"]
    await drained(tasks)


async def test_a_slot_that_becomes_free_goes_to_the_first_also_while_others_are_still_to_be_asked(monkeypatch):
    clock = iter(range(1_000_000))
    monkeypatch.setattr("nexus.waiting.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("nexus.waiting.SLICE_SECONDS", 2.0)
    slots = Slots()
    tasks = slots.start(*[(str(n),) for n in range(4)])
    await until(lambda: len(slots.waiting) == 4)
    slots.waiting.pump()
    await until(lambda: "0" in slots.asked)
    slots.give()
    assert await asyncio.wait_for(tasks[0], 5) == "0"
    await until(lambda: not slots.waiting.busy)
    assert slots.order == ["0"]
    await drained(tasks[1:])


async def test_an_attempt_that_fails_ends_only_that_wait():
    slots = Slots()
    broken = Waiter(a_request(), 1, lambda: 1 / 0, X, slots.now())
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

    waiters = [Waiter(a_request(), 1, lambda name=name: attempt(name), X, slots.now()) for name in "abc"]
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 3)
    slots.free = 2
    slots.waiting.freed("x")
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
            soon = Condition(slots=frozenset("x"), backends=frozenset("x"), names=frozenset({"tiny"}), own_at=slots.now() + 0.01)
            turn = slots.take(name) or await slots.turn(slots.waiter(name, chance.choice(list(Lane)), condition=soon))
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


async def test_an_attempt_is_never_made_within_another():
    slots, depth, deepest = Slots(), 0, 0

    def attempt(name: str) -> str | None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        got = slots.take(name)
        slots.waiting.freed("x")
        depth -= 1
        return got

    waiters = [Waiter(a_request(), 1, lambda name=name: attempt(name), watching("x", mark=name), slots.now()) for name in "abc"]
    tasks = [start(slots.turn(w)) for w in waiters]
    await until(lambda: len(slots.waiting) == 3)
    slots.give(2)
    assert (slots.order, deepest) == (["a", "b"], 1)
    await drained(tasks)


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

    tasks = [start(slots.turn(Waiter(a_request(), 1, lambda name=name: attempt(name), X, slots.now()))) for name in "ab"]
    await until(lambda: len(slots.waiting) == 2)
    slots.waiting.pump()
    assert await asyncio.wait_for(tasks[0], 5) == "a"
    await drained(tasks)
