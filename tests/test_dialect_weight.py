"""What JSON weighs before it is decoded, against what it holds once it is."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.dialects import weight
from nexus.dialects.jsontext import loads, whole_characters
from nexus.dialects.weight import TooMany, check_text, is_light, weigh, windows
from nexus.errors import BackendError

TEXT = st.text(st.sampled_from('ab"\\,{}[]: \n😀é'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def values_in(value: Any) -> int:
    """What opens, and the commas between."""
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + sum(map(values_in, value.values()))
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(values_in, value))
    return 0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight, "WINDOW", 16)  # so that windows end in all places


@pytest.mark.usefixtures("_small")
@given(VALUES, st.booleans())
def test_it_weighs_what_is_outside_of_texts(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert b"".join(windows(data)) == data
    if isinstance(value, dict):
        assert weight.has_few_members(data, max(len(value), 1))
        assert len(value) < 2 or not weight.has_few_members(data, len(value) - 1)
    weighs = values_in(value)
    assert is_light(data, weighs)
    assert weighs == 0 or not is_light(data, weighs - 1)
    assert all(json.loads(f'"{w.decode()}"') is not None for w in windows(json.dumps(data.decode())[1:-1].encode()))


@given(st.lists(st.sampled_from([r"\ud83d", r"\ude00", r"\\", r"\"", "ud83d", r"\n", "x" * 7]), max_size=40).map("".join))
def test_windows_part_no_character_and_halves_are_mended_as_in_one(text: str) -> None:
    data = f'"{text}"'.encode()
    first, second = r"\\u[dD][89abAB][0-9a-f]{2}", r"\\u[dD][c-fC-F][0-9a-f]{2}"
    plain = text.replace(r"\\", "\0\0")
    expected = re.sub(f"{first}(?!{second})|(?<!{first}){second}", lambda _: r"\ufffd", plain).replace("\0\0", r"\\")
    assert whole_characters(data) == f'"{expected}"'.encode()
    assert msgspec.json.decode(whole_characters(data)) is not None


def test_texts_are_checked_over_the_ends_of_windows() -> None:
    check_text(("é漢😀x" * 50).encode())
    for bad in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xe6\xbc"):
        for before in range(40):
            data = "é".encode() * before + b"x" * (before % 3) + bad
            with pytest.raises(UnicodeDecodeError) as caught:
                check_text(data)
            with pytest.raises(UnicodeDecodeError) as whole:
                data.decode()
            assert (caught.value.start, caught.value.reason) == (whole.value.start, whole.value.reason)


def test_too_many_values_are_not_decoded() -> None:
    many = b"[" + b"{}," * (weight.MOST_VALUES // 2) + b"{}]"
    with pytest.raises(TooMany, match="250,000 JSON values"):
        weigh(many)
    with pytest.raises(ValueError, match="250,000"):
        loads(many)
    few = b'["' + b"{}," * weight.MOST_VALUES + b'"]'
    assert loads(few) == [few[2:-2].decode()]


def test_it_is_one_event_that_is_too_large_and_not_all_that_came_together() -> None:
    one = b"data: [" + b"1," * 60_000 + b"1]\n\n"
    weight.check_events([one, one, one])
    with pytest.raises(BackendError, match="100,000 JSON values"):
        weight.check_events([one, one[:-3] + b"," + one[7:]])
