"""A name in another spelling: what a server would take for its own model by it is taken, and no rule is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.fleet import Fleet, Member, Override
from nexus.listing import Listing
from nexus.model import Leg, Model
from nexus.policies import normal
from nexus.testing import FakeClock, FakeModel, Respond, a_model, a_report, ollama_server, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

SPELT = [
    "plain",
    "PLAIN",
    "Plain:latest",
    "plain:LATEST",
    "library/plain",
    "Library/plain:latest",
    "registry.ollama.ai/library/plain",
    "https://registry.ollama.ai/library/Plain:latest",
]


@pytest.mark.parametrize("asked", SPELT)
async def test_ollama_is_asked_for_its_own_model_by_every_name_that_it_takes(nexus_gateway, asked):
    async with ollama_server(["plain:latest", "other:7b"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama"))))
        assert (await ask(gateway, asked)).status == 200
        assert [body["model"] for body in chats(up)] == ["plain:latest"]
        told = await page(gateway, f"/v1/models/{asked}")
        assert (told.status, told.json["id"]) == (200, "plain:latest")


@pytest.mark.parametrize("asked", ["plain:7b", "owner/plain", "plain2", "hf.co/library/plain", "other", "other:latest", "OTHER"])
async def test_what_ollama_takes_for_another_model_is_another(nexus_gateway, asked):
    async with ollama_server(["plain:latest", "other:7b"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama"))))
        said = await ask(gateway, asked)
        assert (said.status, said.error["code"]) == (404, "model_not_found")
        assert not chats(up)


async def test_a_tag_and_an_owner_may_have_other_capitals_too(nexus_gateway):
    async with ollama_server(["hf.co/Owner/Tiny-GGUF:Q4_K_M"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama"))))
        assert (await ask(gateway, "hf.co/owner/tiny-gguf:q4_k_m")).status == 200
        assert chats(up)[0]["model"] == "hf.co/Owner/Tiny-GGUF:Q4_K_M"


@pytest.mark.parametrize("type", ["vllm", "openai-compatible", "llamacpp"])
async def test_other_servers_are_asked_by_the_names_that_they_list(nexus_gateway, type):
    async with openai_server(["plain"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", up, type))))
        said = await ask(gateway, "PLAIN")
        assert (said.status, said.error["context"]["nearest"]) == (404, ["plain"])


async def test_the_very_name_counts_before_a_spelling_of_one_server_and_both_of_two(nexus_gateway):
    """Each server decides by itself what it takes."""
    async with ollama_server(["plain:latest"]) as up, openai_server(["PLAIN"]) as far:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama"), a_backend("far", far))))
        assert (await ask(gateway, "PLAIN")).nexus("Backend") == "home"
        up.next(*[Respond(500, json={})] * 9, path=CHAT)
        assert (await ask(gateway, "PLAIN")).nexus("Backend") == "far"
        assert (await ask(gateway, "plain")).status in (500, 502)
        assert [body["model"] for body in chats(far)] == ["PLAIN"]


@pytest.mark.parametrize("asked", ["PLAIN", "library/plain", "plain"])
async def test_a_server_that_has_gone_is_missed_by_every_name(nexus_gateway, asked):
    async with ollama_server(["plain:latest"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama"))))
        gateway.gateway.fleet.leave("home")
        said = await ask(gateway, asked)
        assert (said.status, said.error["code"]) == (503, "backends_unavailable")
        assert "'home'" in said.error["message"]


@pytest.mark.parametrize("written", ["PLAIN", "library/plain", "Plain:latest"])
async def test_the_operator_may_write_another_spelling(nexus_gateway, written):
    """It is the listed model that is meant, with all that is known of it."""
    models = [written, {"id": written, "tier": 4}]
    async with ollama_server([FakeModel("plain:latest", context=4096), FakeModel("other:7b")]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama", models=models))))
        (told,) = (await page(gateway, "/nexus/models")).json["models"]
        assert (told["name"], told["tier"], told["context"]) == ("plain:latest", 4, 4096)


async def test_a_forwarded_model_stays_open_however_the_operator_spells_it(nexus_gateway):
    remote = FakeModel("big:120b-cloud", remote_host="https://ollama.com:443")
    async with ollama_server([remote]) as up:
        policies = [{"models": ["big*"], "zone": "restricted"}]
        config = fleet(a_backend("home", up, "ollama", models=["Big:120B-Cloud"]), policies=policies)
        gateway = await settled(await nexus_gateway(config))
        (told,) = (await page(gateway, "/nexus/models")).json["models"]
        assert (told["name"], told["zone"]) == ("big:120b-cloud", "open")
        for asked in ("big:120b-cloud", "Big:120B-Cloud", "library/big:120b-cloud"):
            assert (await ask(gateway, asked)).error["code"] == "privacy_zone"
        assert not chats(up)


@pytest.mark.parametrize("asked", ["big:120b-cloud", "Big:120b-CLOUD", "x:cloud", "Library/X:Cloud"])
@pytest.mark.parametrize("models", [["big:120b-CLOUD", "X:cloud"], [{"id": "*"}]])
async def test_what_a_name_says_to_be_forwarded_is_open_though_no_list_has_it(nexus_gateway, asked, models):
    """Ollama passes on what has such a tag, whether it lists it or not."""
    async with ollama_server(["plain"]) as up:
        up.on("/api/tags", Respond(json={"models": [{"name": "*"}, {"name": "plain"}]}), method="GET")
        policies = [{"models": ["big*", "x"], "zone": "restricted"}, {"models": ["x:*"], "zone": "restricted"}]
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama", models=models), policies=policies)))
        said = await ask(gateway, asked)
        assert (said.status, said.error["code"]) == (503, "privacy_zone")
        assert not chats(up)


async def test_the_operators_word_counts_for_a_forwarded_model_that_no_list_has(nexus_gateway):
    models = [{"id": "big:120b-cloud", "zone": "restricted"}]
    async with ollama_server(["plain"]) as up:
        policies = [{"models": ["big*"], "zone": "restricted"}]
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", up, "ollama", models=models), policies=policies)))
        await ask(gateway, "big:120b-cloud")
        assert chats(up)


@pytest.mark.parametrize(
    ("opened", "asked", "status"),
    [
        (["plain*"], "plain", 200),
        (["plain", "PLAIN"], "PLAIN", 200),
        (["*"], "PLAIN", 200),
        (["[!p]*"], "PLAIN", 403),  # a glob may be made to match by another spelling: it opens no model that it does not match
        (["library/*"], "library/plain", 403),
        (["plain"], "PLAIN", 403),
    ],
)
async def test_another_spelling_opens_no_model_to_a_key(nexus_gateway, opened, asked, status):
    from nexus.keys import new_key

    key, hashed = new_key()
    async with ollama_server(["plain:latest"]) as up:
        config = fleet(a_backend("home", up, "ollama"), keys=[{"name": "k", "hash": hashed, "models": opened}])
        gateway = await settled(await nexus_gateway(config))
        assert (await ask(gateway, asked, headers={"Authorization": f"Bearer {key}"})).status == status
        assert len(chats(up)) == (status == 200)


# ---------------------------------------------------------------- whatever the names are

PARTS = st.sampled_from(
    ["a", "A", "b", "B", "latest", "Latest", "library", "LIBRARY", "registry.ollama.ai", "https:/", "hf.co", ""]
)
NAMES = st.builds(
    lambda parts, tags: "/".join(parts) + "".join(f":{tag}" for tag in tags),
    st.lists(PARTS, max_size=4),
    st.lists(PARTS, max_size=2),
).filter(bool)


def leg(name: str) -> Leg:
    return Leg(index=0, name=name, ids=(name,), trail=(name,))


@given(st.lists(NAMES, max_size=5, unique=True), NAMES, st.integers(0, 5))
def test_a_name_finds_what_is_so_called_or_so_spelt_and_nothing_when_all_have_left(listed, asked, gone):
    house = Fleet(FakeClock().now, lambda event: None)
    for name, any_spelling in (("home", True), ("far", False)):
        house.join(Member(name=name, kind="x", url=f"http://{name}", backend=None, any_spelling=any_spelling))
        house.report(name, a_report(*map(a_model, listed)), 0.01)
    left = listed[gone:]
    house.report("home", a_report(*map(a_model, left)), 0.01)
    found = {(c.backend, c.model) for c in house.candidates(leg(asked))}
    home = {asked} if asked in left else {name for name in left if normal(name) == normal(asked)}
    assert found == {("home", name) for name in home} | {("far", name) for name in listed if name == asked}
    assert house.has_candidates(leg(asked)) is bool(found)
    house.leave("home")
    house.leave("far")
    assert not house.candidates(leg(asked))
    assert (house._index._pairs, house._index._spellings) == ({}, {})


@given(st.lists(NAMES, max_size=4, unique_by=normal), st.lists(NAMES, max_size=3))
def test_what_is_declared_is_never_there_twice(listed, declared):
    listing = Listing((*declared, "zzz*"), [Override(id=id) for id in declared], frozenset(), any_spelling=True)
    used = [model.id for model, _, _ in listing.entries([Model(id=id) for id in listed])]
    assert {normal(id) for id in used} == {normal(id) for id in declared}
    assert set(used) >= {id for id in listed if normal(id) in map(normal, declared)}
