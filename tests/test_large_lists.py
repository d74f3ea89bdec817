"""Lists of many models, and fleets of many backends: work that grows with what changes, in turns of the loop that nobody notices."""

import asyncio
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus import largejson
from nexus.backends import metric_sum
from nexus.dialects.openai import OpenAI
from nexus.explaining import explained
from nexus.fleet import STEP, Fleet, Limits, Member
from nexus.model import MOST_MODELS, Answered, Leg, Model, Report, State
from nexus.names import Names
from nexus.served import Served
from nexus.slices import SLICE
from nexus.testing import FakeClock, Respond, a_request, openai_server

from .asking import a_backend, ask, fleet, settled
from .growing import LIMIT, growth

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_what_is_json_is_decoded_as_ever(value, indent, ascii):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    raw = f" \n{text}\r\n".encode("utf-8", "surrogatepass")
    assert largejson.decode(raw) == json.loads(raw)


@given(st.text(alphabet='{}[]":,0 a\\\n', max_size=12))
def test_what_is_none_is_refused_as_ever(text):
    for whole in (text, f'{{"data":[{text}]}}', f'{{"data":{text}'):
        try:
            expected = json.loads(whole)
        except ValueError:
            with pytest.raises(ValueError, match=r"."):
                largejson.decode(whole.encode())
        else:
            assert largejson.decode(whole.encode()) == expected


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b'{"a":[' + b"[" * 100_000])
def test_what_is_broken_is_one_of_two_errors(raw):
    with pytest.raises((ValueError, RecursionError)):
        largejson.decode(raw)


def test_the_metrics_of_one_name_are_added_and_of_longer_ones_not():
    text = """# HELP vllm:waiting x
vllm:waiting{engine="0",model="a} b"} 2.0
vllm:waiting{engine="1"} 3 1700000000
vllm:waiting_by_reason{reason="capacity"} 50
vllm:waiting 1e0
 vllm:waiting 7
vllm:waiting{broken 9
vllm:waiting NaN
vllm:waiting -5
vllm:running\t4"""
    assert metric_sum(text, "vllm:waiting") == 6
    assert metric_sum(text, "vllm:waiting", "vllm:running") == 10
    assert metric_sum(text, "vllm:other") is None
    assert metric_sum("", "x") is None
    assert metric_sum("x 1", "x") == 1


@given(st.lists(st.sampled_from(["a 1", "a{x} 2", "ab 3", "b 4", "", "a", "a{", " a 5", "a\t6.5", "a 1e99", "a x"]), max_size=8))
def test_metrics_are_read_as_by_an_expression(lines):
    text = "\n".join(lines)
    samples = [float(found) for found in re.findall(r"^a(?:\{[^\n]*\})?[ \t]+([0-9.eE+-]+)", text, re.MULTILINE)]
    assert metric_sum(text, "a") == (round(sum(min(max(s, 0.0), 1e9) for s in samples)) if samples else None)


def a_fleet() -> Fleet:
    return Fleet(FakeClock().now, lambda event: None, Limits())


def joined(house: Fleet, count: int, *, shared: bool) -> None:
    for n in range(count):
        house.join(Member(name=f"b{n}", kind="x", url=f"http://b{n}", backend=None))
        models = (Model(id="same" if shared else f"m{n}"), Model(id=f"own{n}"))
        house.report(f"b{n}", Report(ok=True, models=models), 0.01)


def left(house: Fleet, count: int) -> None:
    for n in range(count):
        house.report(f"b{n}", Report(ok=True, models=(Model(id="another"),)), 0.01)
    for n in range(count):
        house.leave(f"b{n}")


@pytest.mark.parametrize("shared", [False, True])
def test_who_joins_and_leaves_costs_nothing_for_those_who_stay(shared):
    def work(count: int) -> None:
        house = a_fleet()
        joined(house, count, shared=shared)
        left(house, count)
        assert not house.standings

    assert growth(work, 50) < LIMIT


def test_a_list_costs_what_it_holds():
    def work(count: int) -> None:
        house = a_fleet()
        house.join(Member(name="one", kind="x", url="http://one", backend=None))
        for turn in range(3):
            house.report("one", Report(ok=True, models=tuple(Model(id=f"m{n}-{turn}") for n in range(count))), 0.01)
        house.leave("one")

    assert growth(work, 100) < LIMIT


async def test_more_models_than_anybody_has_are_left_out_and_told(nexus_gateway, caplog):
    ids = [f"model-{n}" for n in range(MOST_MODELS + 5)]
    async with openai_server() as server:
        server.any_model = True
        server.on("/v1/models", Respond(json={"data": [{"id": id} for id in ids]}), method="GET")
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        assert len(gateway.gateway.fleet.standings["one"].pairs) == MOST_MODELS
        assert f"models are left out, since only the first {MOST_MODELS} of a server are used" in caplog.text
        assert (await ask(gateway, ids[MOST_MODELS - 1])).status == 200
        assert (await ask(gateway, ids[-1])).status == 404


async def test_the_loop_goes_on_while_a_long_list_is_read(nexus_gateway):
    """Its decoding and reading take a good part of a second here; the loop has its turns in between."""
    entries = [{"id": f"m{n}", "capabilities": ["chat"], "filler": "x" * 600} for n in range(9000)]
    async with openai_server() as server:
        server.any_model = True
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        body = json.dumps({"data": entries}).encode()
        server.on("/v1/models", Respond(body=body), method="GET")
        turns, seen = 0, largejson.decode

        def decode(raw):
            nonlocal turns
            before = turns
            answer = seen(raw)
            counted.append(turns - before)
            return answer

        counted: list[int] = []
        largejson.decode = decode
        try:
            gateway.gateway.fleet.doubted("one")
            while len(gateway.gateway.fleet.standings["one"].pairs) < 9000:
                await asyncio.sleep(0)
                turns += 1
        finally:
            largejson.decode = seen
        assert counted[0] > 3


def a_report(ids) -> Report:
    return Report(ok=True, models=tuple(Model(id=id) for id in ids))


def leg(name: str) -> Leg:
    return Leg(index=0, name=name, ids=(name,), trail=(name,))


async def turns_of(task) -> int:
    """How many turns the loop has until that is done."""
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


def a_list(count: int, *, aliases=None) -> tuple[Fleet, Served]:
    house = a_fleet()
    for backend in ("one", "two"):
        house.join(Member(name=backend, kind="x", url=f"http://{backend}", backend=None))
        house.report(backend, Report(ok=True, models=tuple(Model(id=f"m{n}", offers={"chat": True}) for n in range(count))), 0.01)
    return house, Served(house, Names(aliases or {}, {}, ()), 0)


async def test_the_list_of_many_names_is_made_in_slices_and_once_for_all_who_ask():
    _, listed = a_list(5000, aliases={"all": [f"m{n}" for n in range(5000)]})
    together = asyncio.gather(*[listed.entries() for _ in range(3)])
    assert await turns_of(together) >= (2 * 5000 + 2 * 5000 + 5001) // SLICE
    first, *others = await together
    assert len(first) == 5001
    assert first["all"].backends == ("one", "two")
    assert all(other is first for other in others)
    assert await listed.entries() is first


async def test_a_list_is_made_anew_where_the_fleet_has_changed():
    house, listed = a_list(2, aliases={"best": ["m1"]})
    assert list(await listed.entries()) == ["m0", "m1", "best"]
    house.report("one", Report(ok=True, models=(Model(id="new", context=7, offers={"chat": True, "tools": False}),)), 0.01)
    entries = await listed.entries()
    assert (entries["new"].context, entries["new"].capabilities, entries["best"].backends) == (7, ("chat",), ("two",))
    house.leave("two")
    assert list(await listed.entries()) == ["new"]
    for _ in range(3):
        house.report("one", Report(ok=False, code="connect", problem="refused"), 0.01)
    assert not await listed.entries()


async def test_what_changes_while_a_list_is_made_is_in_the_next():
    house, listed = a_list(1000)
    making = asyncio.gather(listed.entries())
    await asyncio.sleep(0)
    house.leave("two")
    assert "m999" in (await making)[0]
    assert all(entry.backends == ("one",) for entry in (await listed.entries()).values())


async def test_a_key_sees_its_own_list_and_nobody_elses():
    house, listed = a_list(3)
    dialect = OpenAI()

    async def names(*globs: str) -> list[str]:
        return [entry["id"] for entry in json.loads(await listed.written(dialect, globs, {}))["data"]]

    for _ in range(2):
        assert await names("*") == ["m0", "m1", "m2"]
        assert await names("m1", "x*") == ["m1"]
        assert await names() == []
    assert await listed.find("m1", ("m2",)) is None
    assert (await listed.find("m1", ("m1",))).name == "m1"
    house.leave("one")
    house.leave("two")
    assert await names("*") == []


@pytest.mark.parametrize("slots", ["server", "model"])
async def test_a_list_that_is_all_new_comes_in_a_few_models_at_a_time(slots):
    house, old, new = a_fleet(), [f"old{n}" for n in range(3 * STEP)], [f"new{n}" for n in range(3 * STEP)]
    house.join(Member(name="one", kind="x", url="http://one", backend=None, slots=slots, default_capacity=2))
    house.report("one", a_report(old), 0.01)
    claim = house.claim(house.candidates(leg("old1"))[0], a_request())
    task = asyncio.gather(house.take_in("one", a_report(new), 0.01))
    seen = set()
    while not task.done():
        await asyncio.sleep(0)
        standing = house.standings["one"]
        seen.add(len(standing.pairs))
        assert all(house.find(id) for id in list(standing.pairs)[:: STEP // 4])
    assert seen >= {2 * STEP, STEP, 0, 3 * STEP}
    assert (await task) == [True]
    assert list(house.standings["one"].pairs) == new
    assert set(house.served) == set(new)
    assert not any(map(house.find, old))
    assert house.standings["one"].in_flight == 1
    claim.finish("ok", sent=True, status=200)
    assert house.standings["one"].in_flight == 0


async def test_who_leaves_while_its_list_comes_in_leaves_nothing_behind():
    house = a_fleet()
    house.join(Member(name="one", kind="x", url="http://one", backend=None))
    task = asyncio.gather(house.take_in("one", a_report([f"m{n}" for n in range(3 * STEP)]), 0.01))
    for _ in range(3):
        await asyncio.sleep(0)
    assert house.find("m0")
    house.leave("one")
    await task
    assert not house.find("m0")
    assert not house.served
    assert house.has_candidates(leg("m0")) is False


async def test_a_backend_has_answered_when_all_of_its_list_is_in():
    house = a_fleet()
    house.join(Member(name="one", kind="x", url="http://one", backend=None))
    task = asyncio.gather(house.take_in("one", a_report([f"m{n}" for n in range(2 * STEP + 1)]), 0.01))
    while not house.settled:
        assert not task.done()
        await asyncio.sleep(0)
    assert house.find(f"m{2 * STEP}")
    await task


async def test_what_is_remembered_of_a_long_list_comes_in_the_same_way():
    house = a_fleet()
    house.join(Member(name="one", kind="x", url="http://one", backend=None))
    models = tuple(Model(id=f"m{n}", state=State.READY) for n in range(3 * STEP))
    assert await turns_of(asyncio.gather(house.remember("one", models))) > 3
    assert {pair.model.state for pair in house.standings["one"].pairs.values()} == {State.UNKNOWN}


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=6), min_size=1, max_size=5))
def test_whatever_was_listed_before_what_is_listed_now_is_known(lists):
    """Ids with an alias and a digest of two each, which may be another's at the next look."""
    models = [
        tuple(Model(id=f"m{id}", aliases=(f"a{extra}",), digest=f"d{extra}" if extra else "") for id, extra in each)
        for each in lists
    ]
    one, fresh = (a_fleet() for _ in range(2))
    for house in (one, fresh):
        house.join(Member(name="b", kind="x", url="http://b", backend=None, slots="model", default_capacity=1))
    for each in models:
        one.report("b", Report(ok=True, models=each), 0.01)
    fresh.report("b", Report(ok=True, models=models[-1]), 0.01)
    for name in [f"{kind}{n}" for kind in "ma" for n in range(6)]:
        known = [{(c.model, c.name, c.domain, c.domain_capacity) for c in house.candidates(leg(name))} for house in (one, fresh)]
        assert known[0] == known[1]
    assert list(one.standings["b"].pairs) == list(fresh.standings["b"].pairs)
    assert one.served == fresh.served


# ---------------------------------------------------------------- pages about many


async def test_what_would_happen_among_a_thousand_backends_is_told_in_slices(nexus_gateway):
    async with openai_server() as server:
        gateway = (await settled(await nexus_gateway(fleet(a_backend("one", server))))).gateway
    for n in range(1000):
        gateway.fleet.join(Member(name=f"b{n}", kind="x", url=f"http://b{n}", backend=None))
        gateway.fleet.report(f"b{n}", a_report(["many"] if n % 2 else ["many", "other"]), 0.01)
    raw = json.dumps({"request": {"model": "many", "messages": []}, "headers": {"X-Nexus-Zone": "restricted"}}).encode()
    for body in raw, raw.replace(b"restricted", b"open"):
        telling = asyncio.get_running_loop().create_task(explained(gateway, tuple(gateway.runtime.dialects.values()), body))
        assert await turns_of(telling) > 1000 // SLICE
        told = await telling
        assert len(told["choices"]) + len(told["refusals"]) == 1000


async def test_the_stories_of_a_thousand_requests_are_told_in_slices(nexus_gateway):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), history={"size": 1000})))
        history = gateway.gateway.components["history"]
        for n in range(1000):
            history.see(Answered(at=0.0, request=a_request(id=f"r{n}"), status=200, outcome="ok"))
        turns, at, seen = 0, [], history.told
        history.told = lambda entry: at.append(turns) or seen(entry)

        async def asked():
            async with gateway.client.get("/nexus/requests?limit=1000") as answer:
                return (await answer.json())["requests"]

        asking = asyncio.get_running_loop().create_task(asked())
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
    assert [said["request"]["id"] for said in await asking] == [f"r{n}" for n in reversed(range(1000))]
    assert at[-1] - at[0] >= 1000 // SLICE
