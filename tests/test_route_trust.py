"""What nobody may lean on by accident: a zone that no stage keeps, a key's list of models, a server that repeats its key, our own bugs."""

from nexus.api import Call, Stage, StageKind, hookimpl, opens
from nexus.keys import new_key
from nexus.testing import FakeModel, Respond, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

RESTRICTED = {"X-Nexus-Zone": "restricted"}


async def test_a_zone_that_no_stage_keeps_is_refused_not_ignored(nexus_gateway):
    async with openai_server() as server:
        config = fleet(a_backend("a", server), routing={"stages": ["capability", "balance"]})
        gateway = await settled(await nexus_gateway(config))
        said = await ask(gateway, headers=RESTRICTED)
        assert (said.status, said.error["code"]) == (400, "zone_not_enforced")
        assert not chats(server)
        assert (await ask(gateway)).status == 200


async def test_a_fallback_is_no_way_round_a_keys_list(nexus_gateway):
    text, hash = new_key()
    models = [FakeModel("big"), FakeModel("little")]
    async with openai_server(models) as server:
        tables = {"routing": {"fallbacks": {"small": ["big", "little"]}}}
        tables["keys"] = [{"name": "laptop", "hash": hash, "models": ["small", "little"]}]
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", server), **tables)))
        said = await ask(gateway, "small", headers={"Authorization": f"Bearer {text}"})
        assert (said.status, said.nexus("Model")) == (200, "little")
        assert [body["model"] for body in chats(server)] == ["little"]


async def test_a_key_that_the_server_repeats_is_told_to_nobody(nexus_gateway, monkeypatch):
    monkeypatch.setenv("SECRET_OF_A", "sk-very-secret-indeed")
    wrong_key, wrong_value = "Incorrect API key provided", "this is no value that anything takes"
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", server, api_key_env="SECRET_OF_A"))))
        for status, words, told in ((401, wrong_key, 502), (422, wrong_key, 502), (500, wrong_key, 502), (422, wrong_value, 422)):
            server.next(Respond(status, json={"error": {"message": f"{words}: sk-very-secret-indeed."}}), path=CHAT)
            said = await ask(gateway)
            assert said.status == told
            assert f"{words}: ***.".encode() in said.body
            story = await page(gateway, f"/nexus/requests/{said.nexus('Request-Id')}")
            assert b"very-secret" not in said.body + story.body


class Clumsy(Stage):
    """Crashes where a call is prepared."""

    def prepare(self, call: Call) -> Call:
        raise RuntimeError("oh")


class Plugin:
    """Offers it."""

    @hookimpl
    def nexus_stages(self):
        yield StageKind(name="clumsy", open=opens(lambda options, scope: Clumsy()))


async def test_a_crash_of_a_stage_is_not_the_backends_fault(nexus_gateway):
    async with openai_server() as server:
        config = fleet(a_backend("a", server), routing={"stages": ["balance", "clumsy"]})
        gateway = await settled(await nexus_gateway(config, plugins=[Plugin()]))
        for _ in range(15):
            assert (await ask(gateway)).error["code"] == "stage_failed"
        (candidate,) = gateway.gateway.fleet.standings["a"].candidates()
        assert (candidate.failures, candidate.ejected_until, candidate.in_flight) == (0, 0, 0)


async def test_a_whole_answer_that_is_an_error_is_a_failed_attempt(nexus_gateway):
    async with openai_server() as first, openai_server() as second:
        gateway = await settled(await nexus_gateway(fleet(a_backend("a", first), a_backend("b", second))))
        first.next(Respond(200, json={"error": {"message": "out of memory"}}), path=CHAT)
        said = await ask(gateway)
        assert (said.status, said.nexus("Backend"), said.nexus("Attempts")) == (200, "b", "2")
        story = (await page(gateway, f"/nexus/requests/{said.nexus('Request-Id')}")).json
        assert [a["outcome"] for a in story["attempts"]] == ["failed", "ok"]
        assert all(a["seconds"] > 0 for a in story["attempts"])
