"""Members of a JSON object found and changed in its bytes: what is found is what a parser finds, and every other value stays."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.dialects.members import body_of, is_plain, members_of, respelled, times_at_top

WORDS = st.sampled_from(["model", "a", "b", "é", 'a "model":', "{", "]", "\\", "", ","])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(WORDS | st.text(), VALUES, max_size=6)
PAIRS = st.lists(st.tuples(WORDS, VALUES), max_size=8)
WRITING = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 2])})


def written(value: Any, how: dict[str, Any]) -> bytes:
    return json.dumps(value, **how).encode("utf-8", "surrogatepass")


def spelt(name: str) -> str:
    """The name with each of its letters as an escape."""
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    """Every member at the top, as often as it is there."""
    found: list[Any] = json.loads(body, object_pairs_hook=lambda pairs: pairs)
    return [(name, _value(value)) for name, value in found]


def _value(value: Any) -> Any:
    """Inner objects as dictionaries again."""
    if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
        return {name: _value(inner) for name, inner in value}
    return [_value(each) for each in value] if isinstance(value, list) else value


@given(OBJECTS, WRITING)
def test_members_are_those_that_a_parser_finds(value: dict[str, Any], how: dict[str, Any]) -> None:
    found = {name: json.loads(bytes(raw)) for name, raw in members_of(written(value, how)).items()}
    assert list(found.items()) == list(value.items())


@given(PAIRS, WRITING, st.booleans(), VALUES)
def test_what_is_written_is_what_a_parser_reads_and_each_name_is_there_once(
    pairs: list[tuple[str, Any]], how: dict[str, Any], escaped: bool, new: Any
) -> None:
    """However often a name is there and however it is spelt, no two readers can differ in what the new body says."""
    body = "{" + ",".join(f"{spelt(n) if escaped else json.dumps(n)}:{json.dumps(v, **how)}" for n, v in pairs) + "}"
    changed = respelled(body.encode(), {"model": json.dumps(new).encode()})
    assert json.loads(changed) == {**dict(pairs), "model": new}
    assert len(json.loads(changed, object_pairs_hook=list)) == len({*dict(pairs), "model"})
    assert spelt("model").encode() not in changed


@given(OBJECTS, WRITING)
def test_every_other_value_stays_byte_for_byte(value: dict[str, Any], how: dict[str, Any]) -> None:
    body = written(value, how)
    before, after = members_of(body), members_of(respelled(body, {"model": b'"m"'}))
    assert {**after, "model": None} == {**before, "model": None}


@given(OBJECTS, WRITING)
def test_a_body_is_plain_where_it_would_not_change(value: dict[str, Any], how: dict[str, Any]) -> None:
    body = written(value, how)
    once = respelled(body, {})
    assert is_plain(body, members_of(body)) == (once == body)
    assert is_plain(once, members_of(once))


@given(OBJECTS.map(lambda value: value | {"model": "m"}), st.randoms())
def test_the_order_of_the_members_does_not_matter(value: dict[str, Any], chance: Any) -> None:
    members = list(members_of(written(value, {"ensure_ascii": False, "indent": None})).items())
    body = body_of(dict(members))
    chance.shuffle(members)
    assert is_plain(body, dict(members))
    assert not is_plain(body[:-1] + b',"model":"m"}', dict(members))


@given(st.characters(codec="utf-8"))
def test_no_other_spelling_of_a_character_is_shorter(letter: str) -> None:
    """What is told by its length relies on it."""
    spelt = body_of({letter: b"1"})
    assert len(spelt) <= min(
        len(json.dumps({letter: 1}, ensure_ascii=each, separators=(",", ":")).encode()) for each in (True, False)
    )


@pytest.mark.parametrize(
    "body", [b'{"model":"a","model":"a"}', b'{"mod\\u0065l":"a"}', b'{"model": "a"}', b'{"model":"a"}\n', b'{"n":1,"n":1}']
)
def test_a_body_that_two_readers_might_read_in_two_ways_is_not_plain(body: bytes) -> None:
    assert not is_plain(body, members_of(body))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'["model"]', b'[{"model":1}]', b'{"model"', b'{"model":1', b"{,}", b'{"a":{'])
def test_what_is_no_object_or_half_of_one_has_no_members(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        members_of(body)
    assert times_at_top(body, "model") == (body in (b'{"model":1', b'{"model"') and body.endswith(b"1"))


@given(st.binary())
def test_any_bytes_are_counted_in(noise: bytes) -> None:
    for body in (noise, b"{" + noise, b'{"a":' + noise, b'{"a":["' + noise):
        assert times_at_top(body, "model") >= 0


@pytest.mark.parametrize("name", [b'"model"', b'"mod\\u0065l"', b'"\\u006dodel"', b'"\\u006Dodel"'])
def test_a_name_is_counted_however_it_is_spelt(name: bytes) -> None:
    assert times_at_top(b'{"x":{"model":1},%b:2}' % name, "model") == 1
    assert times_at_top(b'{"model":1,"x":{"model":1},%b:2}' % name, "model") == 2
    assert respelled(b'{"x":{"model":"1"}, %b : 2 }' % name, {"model": b"3"}) == b'{"x":{"model":"1"},"model":3}'


@pytest.mark.parametrize("name", [b'"models"', b'"Model"', b'"mod\\\\u0065l"'])
def test_other_names_are_others(name: bytes) -> None:
    assert times_at_top(b'{"x":{"model":1},%b:2}' % name, "model") == 0


def test_an_object_is_written_of_its_members() -> None:
    assert body_of({"a": b"1", 'b"': msgspec.Raw(b"[ 2 ]")}) == b'{"a":1,"b\\"":[ 2 ]}'
