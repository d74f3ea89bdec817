"""Plain values into typed ones: what an options class may name, and that nothing is guessed."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.lines import Lines
from nexus.config.mistakes import Mistakes, Wrong
from nexus.config.strict import build, structure
from nexus.model import Zone


class Colour(str, enum.Enum):  # noqa: UP042 (plugins may write it so)
    RED = "red"


@attrs.frozen
class Inner:
    x: int = 0


@attrs.frozen
class Outer:
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    low: int = 0
    high: int = attrs.field(default=1)

    @high.validator
    def _above_low(self, attribute, value):
        if value <= self.low:
            raise ValueError("high must be above low")


@pytest.mark.parametrize(
    ("value", "wanted", "result"),
    [
        (5, float, 5.0),
        ("x", Path, Path("x")),
        ("open", Zone | None, Zone.OPEN),
        (None, int | None, None),
        ("a", str | tuple[str, ...], "a"),
        (["a"], str | tuple[str, ...], ("a",)),
        ([1, "a"], tuple[int, str], (1, "a")),
        ([1, 1], frozenset[int], frozenset({1})),
        ([1], list[int], [1]),
        ([1], Sequence[int], (1,)),
        ({"a": [1]}, Mapping[str, tuple[int, ...]], {"a": (1,)}),
        ("b", Literal["a", "b"], "b"),
        ("red", Colour, Colour.RED),
        ({"x": 1}, Any, {"x": 1}),
        ({"x": 1}, object, {"x": 1}),
        ({"x": 1}, Inner, Inner(1)),
    ],
)
def test_what_fits(value, wanted, result):
    made = structure(value, wanted)
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize(
    ("value", "wanted", "place"),
    [
        ("5", int, ""),
        (5, str, ""),
        (True, float, ""),
        (float("inf"), float, ""),
        ("abc", tuple[str, ...], ""),
        (["a", 1], tuple[str, ...], "[1]"),
        ([1], tuple[int, int], ""),
        ({"a": {"b": 1, "c": "x"}}, dict[str, dict[str, int]], "a.c"),
        ([["x"]], tuple[tuple[int, ...], ...], "[0][0]"),
        (3, str | tuple[str, ...], ""),
        ("ba", Literal["bar"], ""),
        (1, Literal[True], ""),
        ("rde", Colour, ""),
        ({"y": 1}, Inner, "y"),
        ([], Mapping[str, int], ""),
        ("a\0b", Path, ""),
    ],
)
def test_what_does_not_fit(value, wanted, place):
    with pytest.raises(Wrong) as caught:
        structure(value, wanted)
    assert [m.place for m in caught.value.mistakes] == [place]


@given(
    st.one_of(
        st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()), st.none(), st.dictionaries(st.text(), st.text())
    )
)
def test_a_plain_type_takes_its_own_values_alone(value):
    for wanted in (str, int, bool):
        if type(value) is wanted:
            assert structure(value, wanted) is value
        else:
            with pytest.raises(Wrong):
                structure(value, wanted)


def test_nested_tables_say_every_mistake_with_its_whole_place():
    mistakes = Mistakes()
    build(Outer, {"inner": {"y": 1, "x": "a"}, "many": [{}, {"z": 1}], "low": "q"}, "table", mistakes)
    assert {m.place for m in mistakes.found} == {"table.inner.y", "table.inner.x", "table.many[1].z", "table.low"}


def test_a_check_across_attributes_waits_for_all_of_them():
    mistakes = Mistakes()
    assert build(Outer, {"low": 5, "high": 9}, "t", mistakes) == Outer(low=5, high=9)
    assert not mistakes.found
    assert build(Outer, {"low": 5, "high": 2}, "t", mistakes) is None
    assert [m.message for m in mistakes.found] == ["high must be above low"]


TEXT = '''plugins = []

[server]  # here
port = 1
"odd.key" = 2
motd = """
port = 3
[queue]
"""
host = "x"

[[backends]]
name = "a"
[[backends.models]]
id = "m"
[[backends]]
name = "b"
limits.most = 3
models = [
  "x",
  {id = "y"},
]
  [[backends.models]]
  id = "n"
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("plugins", 1),
        ("plugins[3]", 1),
        ("server", 3),
        ("server.port", 4),
        ('server."odd.key"', 5),
        ("server.host", 10),
        ("server.missing", 3),
        ("backends[0].name", 13),
        ("backends[0].models[0].id", 15),
        ("backends[1]", 16),
        ("backends[1].limits.most", 18),
        ("backends[1].models", 19),
        ("backends[1].url", 16),
        ("queue", None),
        ("nowhere.at.all", None),
        ("", None),
    ],
)
def test_the_line_of_a_place(place, line):
    assert Lines(TEXT).find(place) == line


@given(st.text(alphabet="[]=\"'.#\n ab1{}"))
def test_any_text_has_lines(text):
    assert (Lines(text).find("a.b[0].c") or 1) >= 1


Port = NewType("Port", int)


@dataclasses.dataclass
class Plain:
    ports: list[Port]
    colour: Colour
    inner: Inner
    name: str | None = None


def test_types_that_cattrs_knows_are_as_strict_within():
    made = structure({"ports": [1], "colour": "red", "inner": {"x": 2}}, Plain)
    assert made == Plain([Port(1)], Colour.RED, Inner(2))
    assert structure(1, Annotated[int, "of something"]) == 1
    for wrong in ({"ports": ["1"]}, {"colour": "blue"}, {"inner": {"x": "2"}}, {"name": 1}, {"other": 1}):
        with pytest.raises(Wrong):
            structure({"ports": [1], "colour": "red", "inner": {"x": 2}, **wrong}, Plain)
