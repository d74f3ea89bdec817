"""What is told of a request by `Answered` is what its client saw, over every way in which a request can end.

`ENDS` is the table of these ways: one line for each.  Each is played on both ways in, whole and streamed, in both dialects, before servers
of the same dialect and of the other, and the judge compares what the client heard with the event, member by member.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

import nexus.watch
from nexus.api import Usage, replace
from nexus.backends import HTTPBackend
from nexus.keys import hash_key
from nexus.testing import Respond, anthropic_server, openai_server

from .answered_judge import judge, judge_claims
from .answered_plays import (
    Fragile,
    Play,
    Scene,
    answers,
    asks,
    breaks,
    breaks_with_an_error,
    counts,
    crashes,
    fails,
    finds_all_busy,
    good,
    hangs,
    large,
    late,
    leaves_after_all,
    leaves_before_a_byte,
    leaves_early,
    leaves_in_its_body,
    leaves_in_the_middle,
    leaves_the_queue,
    rejects,
    stopped_before_a_byte,
    stopped_early,
    stopped_in_a_large_one,
    stopped_in_the_middle,
    stopped_in_the_queue,
    too_long,
    waits,
    waits_for_long,
)
from .answered_speech import ANTHROPIC, OPENAI, Speech
from .wire import WAYS, open_house, tiny

PRICE = {"input": 2000.0, "output": 8000.0}
SOON = {"stream_keepalive_seconds": 0.1}


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch):
    monkeypatch.setattr(nexus.watch, "LOOK_SECONDS", 0.01)


@attrs.frozen
class End:
    """One way to end: the code that the event has then, how it is played, before which configuration, by which clients."""

    code: str
    play: Play
    tables: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    only: Callable[[Speech, Speech, bool], bool] = attrs.field(default=lambda client, server, stream: True, kw_only=True)


def is_stream(client: Speech, server: Speech, stream: bool) -> bool:
    return stream


def is_whole(client: Speech, server: Speech, stream: bool) -> bool:
    return not stream


def is_whole_in_openai(client: Speech, server: Speech, stream: bool) -> bool:
    return client is server is OPENAI and not stream


def is_count(client: Speech, server: Speech, stream: bool) -> bool:
    return client is server is ANTHROPIC and not stream


ONE_EACH = {name: {"max_concurrent": 1} for name in "abcd"}
EARLY = {"server": SOON}
OPEN = {name: {"zone": "open"} for name in "abcd"}
KEY = "of-a-client"
KEYED = {"keys": [{"name": "ci", "hash": hash_key(KEY), "models": ["other"]}]}
CRASHING = {"routing": {"stages": ["privacy", "balance", "crashing"]}}
FALLBACK = {"routing": {"fallbacks": {"lost-openai": ["tiny"], "lost-anthropic": ["claude-tiny"]}}}
IMPATIENT = {"upstream": {"first_byte_timeout_seconds": 0.3, "answer_timeout_seconds": 0.3}}

ENDS = {
    "ok": End("", answers(good)),
    "ok after a failover": End("", answers(fails, good)),
    "ok by a fallback": End("", asks(lambda scene: scene.body(f"lost-{scene.server.name}")), tables=FALLBACK),
    "ok after a wait": End("", waits, tables=ONE_EACH),
    "rejected by the server": End("backend_rejected", answers(rejects)),
    "rejected after a failover": End("backend_rejected", answers(fails, rejects)),
    "rejected as too long": End("context_length_exceeded", answers(too_long)),
    "all failed": End("all_attempts_failed", answers(fails)),
    "the deadline is over": End("all_attempts_timed_out", answers(hangs), tables=IMPATIENT),
    "unknown model": End("model_not_found", asks(lambda scene: scene.body("nothing"))),
    "malformed body": End("invalid_request", asks(lambda scene: b"{")),
    "no model": End("invalid_request", asks(lambda scene: b'{"messages": []}')),
    "a word that is not known": End("invalid_request", asks(Scene.body, "X-Nexus-Priority: urgent")),
    "too large": End(
        "request_too_large", asks(lambda scene: scene.body(user="x" * 3000)), tables={"server": {"max_body_bytes": 2000}}
    ),
    "a model that the key may not use": End("model_not_allowed", asks(Scene.body, f"Authorization: Bearer {KEY}"), tables=KEYED),
    "zone refused": End("privacy_zone", asks(Scene.body, "X-Nexus-Zone: restricted"), tables=OPEN),
    "queue full": End("queue_full", finds_all_busy, tables=ONE_EACH | {"queue": {"max_requests": 0}}),
    "waited too long": End("queue_timeout", finds_all_busy, tables=ONE_EACH | {"queue": {"max_wait_seconds": 0.2}}),
    **{
        f"a stage crashes in {verb}": End("stage_failed", crashes(verb, answers(good)), tables=CRASHING)
        for verb in ("refuse", "prepare", "admit", "tell")
    },
    "cut before its end": End("all_attempts_failed", answers(breaks), only=is_whole),
    "broken in the middle": End("cut", answers(breaks), only=is_stream),
    "broken by an error in the middle": End("error_event", answers(breaks_with_an_error), only=is_stream),
    "a large answer": End("", answers(large(b'"}', end="proper")), only=is_whole_in_openai),
    "a large answer breaks": End("cut", answers(large(end="cut")), only=is_whole_in_openai),
    "ok after signs of life": End("", late(good), tables=EARLY, only=is_stream),
    "ok after signs of life and a wait": End("", waits_for_long, tables=ONE_EACH | EARLY, only=is_stream),
    "all failed after signs of life": End("all_attempts_failed", late(fails), tables=EARLY, only=is_stream),
    "rejected after signs of life": End("backend_rejected", late(rejects), tables=EARLY, only=is_stream),
    "too long after signs of life": End("context_length_exceeded", late(too_long), tables=EARLY, only=is_stream),
    "broken after signs of life": End("cut", late(breaks), tables=EARLY, only=is_stream),
    "waited too long after signs of life": End(
        "queue_timeout", finds_all_busy, tables=ONE_EACH | EARLY | {"queue": {"max_wait_seconds": 0.5}}, only=is_stream
    ),
    "a stage crashes after signs of life": End(
        "stage_failed", crashes("tell", late(good)), tables=EARLY | CRASHING, only=is_stream
    ),
    "left in its body": End("client_left", leaves_in_its_body),
    "left the queue": End("client_left", leaves_the_queue, tables=ONE_EACH),
    "left before a byte": End("client_left", leaves_before_a_byte),
    "left in the middle": End("client_left", leaves_in_the_middle, only=is_stream),
    "left after all": End("", leaves_after_all),
    "left after signs of life": End("client_left", leaves_early, tables=EARLY, only=is_stream),
    "stopped in the queue": End("stopping", stopped_in_the_queue, tables=ONE_EACH),
    "stopped before a byte": End("stopping", stopped_before_a_byte),
    "stopped in the middle": End("stopping", stopped_in_the_middle, only=is_stream),
    "stopped after signs of life": End("stopping", stopped_early, tables=EARLY, only=is_stream),
    "stopped in a large answer": End("stopping", stopped_in_a_large_one, only=is_whole_in_openai),
    "an exact count": End("", counts(None, "claude-tiny"), only=is_count),
    "an estimate": End("", counts(None, "tiny"), only=is_count),
    "an estimate after a failure": End("", counts(Respond(500), "claude-tiny"), only=is_count),
}


def tables_of(end: End) -> dict[str, Any]:
    """Two servers for each dialect, whose tokens have a price."""
    kinds = {"a": "openai-compatible", "b": "openai-compatible", "c": "anthropic", "d": "anthropic"}
    models = {"a": "tiny", "b": "tiny", "c": "claude-tiny", "d": "claude-tiny"}
    known = {name: {"type": kinds[name], "models": [{"id": models[name], "price": PRICE}]} for name in kinds}
    return {**known, **end.tables, **{name: table | end.tables.get(name, {}) for name, table in known.items()}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ENDS)
async def test_what_is_told_of_a_request_is_what_its_client_saw(tmp_path, what, way):
    end, fragile = ENDS[what], Fragile()
    async with (
        openai_server(["tiny"]) as a,
        openai_server(["tiny"]) as b,
        anthropic_server(["claude-tiny"]) as c,
        anthropic_server(["claude-tiny"]) as d,
        open_house(tmp_path, a, b, c, d, way=way, quick=True, plugins=[fragile], **tables_of(end)) as house,
    ):
        servers = {OPENAI: (a, b), ANTHROPIC: (c, d)}
        for client, server, stream in itertools.product(servers, servers, (False, True)):
            if not end.only(client, server, stream):
                continue
            async with house.line() as line:
                scene = Scene(house, line, client, server, servers[server], fragile, stream)
                got = await end.play(scene)
                event = await scene.told()
            await house.settled()
            judge(got, event, left=scene.left)
            judge_claims(event, house.ledger.finished)
            assert event.code == end.code
            assert got is None or ("x-nexus-pending" in got.headers) == (end.tables.get("server") is SOON)


async def test_what_a_backend_counts_itself_is_the_cost_that_its_client_is_told(tmp_path, monkeypatch):
    plain = HTTPBackend.send

    async def counting(self, call):
        return replace(await plain(self, call), usage=lambda: Usage(input_tokens=11, output_tokens=5, source="counted"))

    monkeypatch.setattr(HTTPBackend, "send", counting)
    async with tiny() as up, open_house(tmp_path, up, a={"models": [{"id": "tiny", "price": PRICE}]}) as house:
        got = await house.post()
        (event,) = house.ledger.answered
        assert (got.headers["x-nexus-cost-estimated"], event.usage.input_tokens) == (f"{event.cost:g}", 11)
