"""What servers turn out to lack is told by the pages and the commands, though their probes are fine."""

import pytest

from nexus.cli.backends import evidence
from nexus.cli.models import lacking
from nexus.cli.models import row as model_row
from nexus.testing import Respond, openai_server

from .asking import CHAT, a_backend, ask, fleet, page, settled

NOT_THERE = Respond(404, json={"detail": "Not Found"})


async def shown(gateway):
    (backend,) = (await page(gateway, "/nexus/backends")).json["backends"]
    return backend, (await page(gateway, "/nexus/models")).json["models"]


async def test_a_server_that_lists_models_and_has_no_path_for_them(nexus_gateway):
    async with openai_server() as up:
        up.on(CHAT, NOT_THERE, method="POST")
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", up))))
        assert (await ask(gateway)).status == 400
        backend, (model,) = await shown(gateway)
        assert (backend["health"], list(backend["no_path"])) == ("healthy", ["openai chat"])
        assert 0 < backend["no_path"]["openai chat"] <= 60
        assert any("it has none for openai chat (tried again in" in line for line in evidence([backend]))
        assert list(model["lacks"]) == ["chat"]
        assert model_row(model)[6] == "no chat"
        (line,) = lacking([model])
        assert line.startswith("one (tiny) does not take, as its server has answered: chat (asked again in ")
        up.on(CHAT, Respond(json={"choices": [{"message": {}, "finish_reason": "stop"}]}), method="POST")
        gateway.gateway.fleet.standings["one"].lacks.clear()
        gateway.gateway.fleet.standings["one"].missing = frozenset()
        backend, (model,) = await shown(gateway)
        assert (backend["no_path"], model["lacks"]) == ({}, {})


async def test_what_a_model_said_it_cannot_do(nexus_gateway):
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, {"type": "text", "text": "?"}]
    async with openai_server(["tiny", "other"]) as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", up))))
        up.next(Respond(400, json={"error": {"message": "tiny is not a multimodal model"}}), path=CHAT)
        assert (await ask(gateway, messages=[{"role": "user", "content": picture}])).status == 400
        _, models = await shown(gateway)
        lacks = {model["name"]: model["lacks"] for model in models}
        assert list(lacks["tiny"]) == ["vision"]
        assert 590 < lacks["tiny"]["vision"] <= 600
        assert lacks["other"] == {}
        assert len([*lacking(models)]) == 1


@pytest.mark.parametrize(("listed", "left_out"), [(["tiny"], 0), (["tiny", "a\nb"], 1), (["tiny", "c\td", "\ud800"], 2)])
async def test_models_that_no_request_can_ask_for_are_counted(nexus_gateway, listed, left_out):
    async with openai_server() as up:
        up.on(
            "/v1/models", Respond(json={"object": "list", "data": [{"id": id, "object": "model"} for id in listed]}), method="GET"
        )
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", up))))
        backend, models = await shown(gateway)
        assert (backend["omitted"], len(models)) == (left_out, 1)
        told = [line for line in evidence([backend]) if "of its list" in line]
        assert len(told) == (left_out > 0)
        if left_out:
            assert f"{left_out} more of its list {'is' if left_out == 1 else 'are'} left out" in told[0]
