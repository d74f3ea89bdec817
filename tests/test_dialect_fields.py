"""The members of a request's body, as every dialect takes them: what is refused before anything is believed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import Dialect, Facts, Payload, Problem
from nexus.dialects.fields import fields_of, flag_in, likely_tokens, model_in, token_bounds, whole_in
from nexus.dialects.openai import OpenAI

LONG = json.dumps([{"role": "user", "content": 'a "model" and a "stream", quoted ' * 400}], separators=(",", ":"))
DIALECTS = (OpenAI(), Anthropic())


def body(*members: str, messages: str = LONG) -> bytes:
    return b"{" + ",".join([*members, f'"messages":{messages}']).encode() + b"}"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("twin", "field"),
    [
        ('"model":"b"', "model"),
        ('"model":0', "model"),
        ('"stream":true', "stream"),
        ('"stream":0', "stream"),
        ('"mod\\u0065l":"b"', "model"),
        ('"\\u0073tream":1', "stream"),
    ],
)
def test_what_routing_believes_may_stand_there_once(dialect: Dialect, twin: str, field: str) -> None:
    members = ('"max_tokens":9', '"model":"a"', '"stream":false')
    for order, messages in itertools.product(([twin, *members], [*members, twin]), ("[]", LONG)):
        with pytest.raises(Problem) as caught:
            dialect.decode(dialect.endpoints[0], Payload(body(*order, messages=messages)))
        assert caught.value.param == field
        assert caught.value.status == 400
        assert "twice" in caught.value.message


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize("spelling", ["Model", "STREAM", "ſtream"])
def test_other_letters_are_another_field(separators: tuple[str, str], spelling: str) -> None:
    value = {"model": "a", spelling: "b", "messages": json.loads(LONG)}
    with pytest.raises(Problem) as caught:
        fields_of(json.dumps(value, separators=separators, ensure_ascii=False).encode())
    assert caught.value.param == spelling


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_the_same_words_in_a_prompt_and_in_objects_are_nobodys_business(separators: tuple[str, str]) -> None:
    value = {"model": "é", "messages": json.loads(LONG), "metadata": {"model": 1, "stream": 2}, "stream": True}
    fields = fields_of(json.dumps(value, separators=separators).encode())
    assert (model_in(fields), flag_in(fields, "stream"), whole_in(fields, "max_tokens")) == ("é", True, None)


@pytest.mark.parametrize(
    ("value", "wanted"), [("-1", None), ("1e300", None), ("true", None), ('"7"', None), ("7.9", 7), ("0", 0), ("null", None)]
)
def test_a_whole_number_is_one_or_a_400(value: str, wanted: Any) -> None:
    fields = fields_of(body('"model":"a"', f'"n":{value}'))
    if wanted is None and value != "null":
        with pytest.raises(Problem):
            whole_in(fields, "n")
    else:
        assert whole_in(fields, "n") == wanted


@pytest.mark.parametrize("value", ["0", '"true"', "[]"])
def test_a_flag_is_true_false_or_null(value: str) -> None:
    with pytest.raises(Problem) as caught:
        flag_in(fields_of(body(f'"stream":{value}')), "stream")
    assert caught.value.param == "stream"


def test_tokens_are_between_an_eighth_and_half_of_the_bytes() -> None:
    low, high = token_bounds(800)
    assert (low, high) == (100, 401)
    assert low < likely_tokens(Facts(model="m", tokens_high=high)) < high
