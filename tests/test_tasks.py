"""What runs in the background survives whatever happens to it, and says so."""

import asyncio
import functools
import logging

import pytest

from nexus import tasks as room
from nexus.cli.running import tidied
from nexus.config import load
from nexus.server import listen
from nexus.tasks import Tasks
from nexus.testing import openai_server, until
from nexus.testing.gateway import completed

from .asking import a_backend, fleet

LOG = logging.getLogger(__name__)


@pytest.fixture
def soon(monkeypatch):
    """Pauses that nobody has to wait for."""
    monkeypatch.setattr(room, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(room, "LONGEST_PAUSE_SECONDS", 0.004)


async def test_work_that_crashes_begins_again_and_is_told_until_it_is_well(soon, monkeypatch, caplog):
    monkeypatch.setattr(room, "WELL_SECONDS", 0.05)
    problems, runs = {}, []

    async def work():
        runs.append(dict(problems))
        if len(runs) < 4:
            raise LookupError("lost")
        await asyncio.Event().wait()

    async with Tasks(LOG, problems) as tasks:
        tasks.spawn(work, "work")
        await until(lambda: len(runs) == 4)
        assert runs[0] == {}
        assert all("LookupError" in run["work"] for run in runs[1:])
        assert "work" in problems
        await until(lambda: not problems)
    told = [record for record in caplog.records if record.exc_info]
    assert len(told) == 1  # the same traceback is of no use a second time
    assert len(caplog.records) == 3


async def test_pauses_grow_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(room, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(room, "LONGEST_PAUSE_SECONDS", 0.003)
    slept, sleep = [], asyncio.sleep

    async def noted(seconds):
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(room.asyncio, "sleep", noted)

    async def work():
        raise OSError

    async with Tasks(LOG) as tasks:
        tasks.spawn(work, "work")
        while len(slept) < 5:
            await sleep(0)
    assert slept[:5] == [0.001, 0.002, 0.003, 0.003, 0.003]


async def test_what_somebody_else_cancelled_is_a_crash_and_no_end(soon):
    runs = []

    async def work():
        runs.append(1)
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    async with Tasks(LOG) as tasks:
        tasks.spawn(work, "work")
        await until(lambda: len(runs) > 2)


async def test_work_that_returns_has_ended_and_what_is_done_once_is_not_repeated(soon):
    ran = []

    async def returns():
        ran.append("returns")

    async def crashes():
        ran.append("crashes")
        raise LookupError

    problems = {}
    async with Tasks(LOG, problems) as tasks:
        tasks.spawn(returns, "returns")
        tasks.once(crashes, "crashes")
        await asyncio.sleep(0.02)
    assert sorted(ran) == ["crashes", "returns"]
    assert not problems


async def test_closing_ends_work_that_waits_to_begin_again():
    problems = {}

    async def work():
        raise LookupError

    async with Tasks(LOG, problems) as tasks:
        tasks.spawn(work, "work")
        await until(lambda: "work" in problems)
    assert not problems


# ---------------------------------------------------------------- all of a gateway


def supervised():
    """Every piece of work of this loop that goes on for ever, by its name."""
    return {task.get_name(): task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "Tasks._supervise"}


def hurt(task):
    """Make whatever the task awaits fail, as a full disk or a bug would."""
    waiter = task._fut_waiter
    if waiter is None or waiter.done():
        return False
    if isinstance(waiter, asyncio.Task):  # it gathers, or waits for another
        return hurt(waiter)
    try:
        waiter.set_exception(RuntimeError("hurt"))
    except RuntimeError:  # a gathering future is hurt through its children
        return any(hurt(child) for child in waiter._children)
    return True


async def test_every_loop_of_a_gateway_survives_an_exception(soon, tmp_path):
    async with openai_server() as server, openai_server() as other:
        named = other.url.replace("127.0.0.1", "localhost")
        text = fleet(
            a_backend("one", server),
            {"name": "named", "type": "vllm", "url": named},
            {"name": "nobody", "type": "auto", "url": "http://127.0.0.1:9"},
            discovery={"sources": ["loopback"]},
            loopback={"ports": [server.port]},
        )
        config, catalog = load(completed({**text, "server": {"port": 0}}, tmp_path), env={})
        async with listen(config, catalog) as (gateway, _), Tasks(LOG, gateway.problems) as tasks:
            tasks.spawn(functools.partial(tidied, gateway), "tidy memory")
            await until(lambda: {"probe one", "recognise nobody"} <= set(supervised()))
            names = set(supervised())
            assert names >= {
                "close silent connections",
                "close silent connections of aiohttp",
                "probe named",
                "probe one",
                "recognise nobody",
                "resolve named",
                "source loopback",
                "sweep upstream connections",
                "tidy memory",
                "watch over open requests",
            }
            others = {t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()} - names
            assert not {name for name in others if not name.startswith("Task-")}, "a loop that nobody supervises"
            for name, task in supervised().items():
                await until(functools.partial(hurt, task))
                # what a probe, a question or a resolver meets is judged there; everything else is told
                judged = name.startswith(("probe", "recognise", "resolve"))
                await until(lambda name=name: name in gateway.problems, 5.0) if not judged else await asyncio.sleep(0)
            await until(lambda: gateway.ready)
            assert set(supervised()) >= names
            assert not any(task.done() for task in supervised().values())
