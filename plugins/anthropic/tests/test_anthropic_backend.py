"""Anthropic's cloud as a backend: the contract, against a double of it, and what the contract does not know."""

from __future__ import annotations

import json

import pytest
from nexus_anthropic import KIND
from nexus_anthropic.families import FAMILIES, Reasons, family

from nexus.api import BackendError, NoOptions, Secret, Server
from nexus.testing import FakeModel, Respond, a_body, a_call, a_scope, anthropic_problem, anthropic_server
from nexus.testing.contracts import BackendContract

KEY = "sk-ant-test"


class TestAnthropicCloud(BackendContract):
    kind = KIND
    models = ("claude-tiny", "claude-opus-4-5-20251101", "claude-x")
    key_header = "x-api-key"

    def server(self):
        return anthropic_server(models=self.models, page=2)


class Opened:
    """The backend of a double, in a scope of its own."""

    def __init__(self, server, key=KEY):
        self._server = server
        self._key = key

    async def __aenter__(self):
        self._scope = a_scope("anthropic")
        scope = await self._scope.__aenter__()
        self._backend = KIND.open(Server(name="cloud", url=self._server.url, key=Secret(self._key)), NoOptions(), scope)
        return await self._backend.__aenter__()

    async def __aexit__(self, *error):
        await self._backend.__aexit__(*error)
        await self._scope.__aexit__(*error)


# ---------------------------------------------------------------- probing


async def test_all_pages_of_the_list_are_read():
    names = [f"claude-{n}" for n in range(7)]
    async with anthropic_server(names, page=3) as server, Opened(server) as backend:
        report = await backend.probe()
    assert [model.id for model in report.models] == names
    assert [r.query for r in server.calls("/v1/models")] == [
        "limit=1000",
        "limit=1000&after_id=claude-2",
        "limit=1000&after_id=claude-5",
    ]


async def test_a_list_that_never_ends_is_left_alone():
    page = Respond(json={"data": [{"id": "x"}], "has_more": True, "last_id": "x"})
    async with anthropic_server() as server, Opened(server) as backend:
        server.on("/v1/models", page, method="GET")
        report = await backend.probe()
    assert [model.id for model in report.models] == ["x"]
    assert len(server.requests) == 20


async def test_what_the_list_says_goes_before_the_table():
    models = (FakeModel("claude-sonnet-4-5-20250929", context=1_000_000, vision=False), FakeModel("claude-next", vision=True))
    async with anthropic_server(models) as server, Opened(server) as backend:
        known, new = (await backend.probe()).models
    assert (known.context, known.offers["vision"], known.offers["tools"]) == (1_000_000, False, True)
    assert (new.context, new.offers["vision"], new.offers["json_schema"]) == (8192, True, True)
    assert (known.offers["image_url"], new.offers["image_url"]) == (False, True)  # the cloud fetches pictures for all that see
    assert "tools" not in new.offers
    assert known.speaks == {("anthropic", "chat"), ("anthropic", "count")}
    assert known.price is None


async def test_a_list_that_says_nothing_but_names_is_completed_from_the_table():
    async with anthropic_server() as server, Opened(server) as backend:
        server.on("/v1/models", Respond(json={"data": [{"id": "claude-haiku-4-5"}, {"id": "claude-new"}]}), method="GET")
        known, new = (await backend.probe()).models
    assert (known.context, known.offers["vision"], known.offers["documents"]) == (200_000, True, True)
    assert (new.context, new.offers) == (None, {"chat": True, "completion": False, "embedding": False})


async def test_a_wrong_key_is_said_to_be_one():
    async with anthropic_server(api_key="another") as server, Opened(server) as backend:
        report = await backend.probe()
    assert (report.ok, report.code) == (False, "unauthorized")
    assert "api_key_env" in report.problem


@pytest.mark.parametrize(("status", "said"), [(429, "slow down"), (529, "overloaded")])
async def test_a_list_that_cannot_be_had_now_changes_nothing(status, said):
    busy = anthropic_problem(status, "overloaded_error", "Overloaded", retry_after="7")
    async with anthropic_server() as server, Opened(server) as backend:
        server.next(busy)
        first = await backend.probe()
        assert (first.ok, first.code) == (False, "unreachable")
        assert said in first.problem
        assert (await backend.probe()).ok
        server.next(busy)
        again = await backend.probe()
    assert (again.ok, again.models) == (True, None)


# ---------------------------------------------------------------- sending and counting


async def test_a_request_says_its_version_or_ours():
    headers = (("content-type", "application/json"),)
    async with anthropic_server() as server, Opened(server) as backend:
        for given in (headers, (*headers, ("anthropic-version", "2026-10-21"))):
            server.next(Respond(json={}))
            async with await backend.send(a_call(headers=given)) as reply:
                while await reply.read():
                    pass
    assert [[v for k, v in r.headers if k == "anthropic-version"] for r in server.requests] == [["2023-06-01"], ["2026-10-21"]]
    assert {r.header("x-api-key") for r in server.requests} == {KEY}
    assert not any(r.header("authorization") for r in server.requests)


async def test_counting_asks_the_cloud_with_the_fields_it_takes():
    body = a_body("claude-tiny", max_tokens=5, stream=True, system="be brief", metadata={"user_id": "x"})
    async with anthropic_server() as server, Opened(server) as backend:
        count = await backend.count(a_call(dialect="anthropic", body=body))
    (asked,) = server.calls("/v1/messages/count_tokens")
    assert set(asked.json) == {"model", "messages", "system"}
    assert count == len(json.dumps([asked.json["system"], asked.json["messages"]])) // 4


@pytest.mark.parametrize("call", [a_call(), a_call(dialect="anthropic", body=b"no JSON"), a_call(dialect="anthropic", body=b"[]")])
async def test_what_is_no_message_request_is_not_counted(call):
    async with anthropic_server() as server, Opened(server) as backend:
        with pytest.raises(BackendError) as caught:
            await backend.count(call)
    assert caught.value.code == "unsupported"
    assert server.requests == []


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("claude-sonnet-4-0", "claude-sonnet-4"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("anthropic/claude-opus-4-6", "claude-opus-4-6"),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", "claude-opus-4-1"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("claude-opus-4-8", None),
        ("claude-opus-5-5", None),
        ("claude-opus-4-5-turbo", None),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_the_family_of_a_name(name, found):
    assert family(name) is (FAMILIES[found] if found else None)


def test_the_table_makes_sense():
    for known in FAMILIES.values():
        assert known.max_output
        assert known.offers["chat"]
        assert known.offers["thinking"] is (known.reasons is not Reasons.NEVER)
