"""Members of a JSON object found and changed in its bytes: what is found is what a parser finds, and every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.dialects.jsonbytes import is_key, replace_top_level, set_member, times_at_top, top_level_members

WORDS = st.sampled_from(["model", "a", "b", "é", 'a "model":', "{", "]", "\\", "", ","])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(WORDS | st.text(), VALUES, max_size=6)
WRITING = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 2])})


def written(value: Any, how: dict[str, Any]) -> bytes:
    return json.dumps(value, **how).encode("utf-8", "surrogatepass")


@given(OBJECTS, WRITING)
def test_members_are_those_that_a_parser_finds(value: dict[str, Any], how: dict[str, Any]) -> None:
    body = written(value, how)
    found = [(json.loads(key), json.loads(body[start:end])) for key, start, end in top_level_members(body)]
    assert found == list(value.items())
    assert all(body[start:end] == body[start:end].strip() for _, start, end in top_level_members(body))


@given(OBJECTS, WRITING, VALUES)
def test_a_value_is_replaced_and_every_other_stays(value: dict[str, Any], how: dict[str, Any], new: Any) -> None:
    value.setdefault("model", "m")
    changed = replace_top_level(written(value, how), "model", json.dumps(new).encode())
    assert list(json.loads(changed).items()) == list((value | {"model": new}).items())


@given(OBJECTS, WRITING)
def test_a_member_is_set_and_every_other_stays(value: dict[str, Any], how: dict[str, Any]) -> None:
    inner = value.get("a")
    expected = value | {"a": {**inner, "b": True} if isinstance(inner, dict) else {"b": True}}
    assert json.loads(set_member(written(value, how), "a", "b", b"true")) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b"[]", b'["model"]', b'[{"model":1}]', b'{"model"', b'{"model":1', b"{,}", b'{"a":{']
)
def test_what_is_no_object_or_half_of_one_ends_the_search(body: bytes) -> None:
    assert len(list(top_level_members(body))) <= 1
    assert times_at_top(body, "model") == (body == b'{"model":1')


@given(st.binary())
def test_any_bytes_pass(noise: bytes) -> None:
    for body in (noise, b"{" + noise, b'{"a":' + noise, b'{"a":["' + noise):
        assert all(0 < start <= end <= len(body) for _, start, end in top_level_members(body))


def test_nothing_is_read_beyond_what_is_asked_for() -> None:
    found = top_level_members(b'{ "a" : {"b":[1]} , "c": ???')
    assert next(found) == (b'"a"', 8, 17)


@pytest.mark.parametrize("spelt", [b'"model"', b'"mod\\u0065l"', b'"\\u006dodel"', b'"\\u006Dodel"'])
def test_a_key_is_known_however_it_is_spelt(spelt: bytes) -> None:
    assert is_key(spelt, "model")
    assert times_at_top(b'{"x":{"model":1},%b:2}' % spelt, "model") == 1
    assert replace_top_level(b'{"x":{"model":"1"}, %b : 2 }' % spelt, "model", b"3") == b'{"x":{"model":"1"}, %b : 3 }' % spelt


@pytest.mark.parametrize("spelt", [b'"models"', b'"Model"', b'"mod\\x65l"', b'"mod\\\\u0065l"', b'"\xff"'])
def test_other_keys_are_others(spelt: bytes) -> None:
    assert not is_key(spelt, "model")


def test_a_key_that_stands_there_twice_is_changed_twice() -> None:
    assert replace_top_level(b'{"model":1,"x":0,"model": "2"}', "model", b'"m"') == b'{"model":"m","x":0,"model": "m"}'
    assert set_member(b'{"o":{"u":1,"u":2}}', "o", "u", b"3") == b'{"o":{"u":3,"u":3}}'
