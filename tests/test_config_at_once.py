"""One run tells all that can be judged: a mistake hides no other, and what would only be its echo is not told."""

import attrs
import pytest

from nexus.config.fields import each, one_of, setting
from nexus.config.mistakes import Mistakes
from nexus.config.strict import build

from .config_cases import mistakes

TWICE = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("[routing.aliases]\na = 'b'\nb = 'a'\nc = 3", {"aliases.a", "aliases.b", "aliases.c"}),
        ("[routing.aliases]\na = 'a'\nc = ['x', 3, 'x']", {"aliases.a", "aliases.c", "aliases.c[1]"}),
        ("[routing]\nmax_attempts = 'x'\naliases = {a = 'a'}", {"max_attempts", "aliases.a"}),
        ("[routing]\nstagess = []\naliases = {a = 'a'}", {"stagess", "aliases.a"}),
        ("[routing]\naliases = {a = 'a'}\nfallbacks = {m = [3, 'm'], n = 4}", {"aliases.a", "fallbacks.m[0]", "fallbacks.m[1]", "fallbacks.n"}),
        ("[routing]\naliases = 3\nfallbacks = {m = ['m']}", {"aliases", "fallbacks.m[0]"}),
        ("[routing]\nstages = ['privcy', 3, 'tier', 'tier']", {"stages[0]", "stages[1]", "stages[3]"}),
    ],
)  # fmt: skip
def test_a_wrong_value_in_routing_hides_no_other(text, places):
    assert set(mistakes(text)) == {f"routing.{place}" for place in places}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("[discovery]\nsources = [1, 'mdsn']", {"discovery.sources[0]", "discovery.sources[1]"}),
        ("[[backends]]\ntier = 9", {"backends[0].name", "backends[0].tier", "backends[0].url"}),
        ("[[backends]]\nurl = 'http://h'\napi_key_env = 'SPLIT'", {"backends[0].name", "backends[0].api_key_env"}),
        (
            2 * "[[backends]]\nname = 'a'\ntier = 9\nurl = 'http://h'\n",
            {"backends[0].tier", "backends[1].tier", "backends[1].name"},
        ),
        (
            "[[backends]]\nname = 'a'\nurl = 'http://h'\nmodels = [{id = 'x', tier = 'y'}, {id = 'x', name = 3}]",
            {"backends[0].models[0].tier", "backends[0].models[1].name", "backends[0].models[1].id"},
        ),
        (f"[[keys]]\nhash = '{TWICE}'\n[[keys]]\nhash = '{TWICE}'", {"keys[0].name", "keys[1].name", "keys[1].hash"}),
        ("[[keys]]\nname = 'k'\n[[keys]]\nname = 'k'", {"keys[0].hash", "keys[1].hash", "keys[1].name"}),
        (
            "[routing]\nstages = ['balance']\n[[policies]]\nzone = 'restricted'",
            {"policies[0].models", "policies[0].zone"},
        ),
        ("[[policies]]\nmodels = 3", {"policies[0].models", "policies[0]"}),
        (
            "[server]\nport = 'x'\nprot = 1\nmax_body_bytes = 2\nmax_inflight_body_bytes = 1",
            {"server.port", "server.prot", "server.max_inflight_body_bytes"},
        ),
        ("[server]\nport = 'x'\nhost = '0.0.0.0'", {"server.port", "server.host"}),
        ("[budget]\nusd = 101\nmoed = 3", {"budget.moed"}),
        ("[budget]\nusd = 101\nowner = 3", {"budget.owner", "budget"}),
    ],
)
def test_a_wrong_value_hides_no_other(text, places):
    assert set(mistakes(text, env={"SPLIT": "a\nb"})) == places


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[[policies]]\nmodels = ['a']\nmin_teir = 1", "policies[0].min_teir"),
        ("[[policies]]\nmodels = ['a']\nmin_tier = 9", "policies[0].min_tier"),
        ("[server]\nmax_body_bytes = 'x'\nmax_inflight_body_bytes = 1", "server.max_body_bytes"),
        ("[routing]\nstages = ['privacy', 3, 'spare']\n[spare]", "routing.stages[1]"),
        ("[[backends]]\nname = 'a'\nurl = 3", "backends[0].url"),
        ("[[backends]]\nname = 'a'\ntype = 3", "backends[0].type"),
    ],
)
def test_the_echo_of_a_mistake_is_not_told(text, place):
    assert set(mistakes(text)) == {place}


def test_a_wrong_word_among_the_plugins_keeps_no_other_from_being_loaded(tmp_path):
    (tmp_path / "stage_of_mine.py").write_text(
        "from nexus.api import StageKind, hookimpl, opens\n\n\n"
        "@hookimpl\ndef nexus_stages():\n"
        "    yield StageKind(name='mine', open=opens(lambda options, scope: None))\n"
    )
    path = tmp_path / "nexus.toml"
    path.write_text("plugins = ['stage_of_mine', 3, 'stage_of_mine']\n[routing]\nstages = ['mine']\n[mine]\n")
    assert set(mistakes(path, catalog=None)) == {"plugins[1]", "plugins[2]"}


@attrs.frozen
class Window:
    low: int = 0
    high: int = 1
    name: str = "x"

    def __attrs_post_init__(self):
        if self.width() < 0:
            raise ValueError("high must be above low")

    def width(self):
        return self.high - self.low


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"low": 5, "high": 2, "name": 3}, ["expected a string, got the number 3", "high must be above low"]),
        ({"low": 5, "name": 3}, ["expected a string, got the number 3", "high must be above low"]),
        ({"low": 5, "high": "x"}, ["expected a whole number, got the text 'x'"]),
        ({"low": 5, "hihg": 9}, ["there is no such key"]),
    ],
)
def test_a_check_across_attributes_is_made_where_all_that_it_looks_at_is_right(raw, said):
    found = Mistakes()
    build(Window, raw, "window", found)
    assert [m.message for m in found.found] == said


@attrs.frozen
class Lists:
    words: tuple[str, ...] = setting((), "words", each(one_of("a", "b")))
    pair: tuple[int, int] = (1, 2)
    some: tuple[str, ...] = attrs.field(default=("x",), validator=attrs.validators.min_len(2))


@pytest.mark.parametrize(
    ("raw", "places"),
    [
        ({"words": [1, "c", "a", None, "d"]}, ["t.words[0]", "t.words[3]", "t.words[1]", "t.words[4]"]),
        ({"words": ["c", "a"]}, ["t.words[0]"]),
        ({"pair": [1, "x"]}, ["t.pair[1]"]),
        ({"some": ["x", 1]}, ["t.some[1]"]),
        ({"words": [1, 2]}, ["t.words[0]", "t.words[1]"]),
    ],
)
def test_an_element_of_another_type_hides_no_other_element(raw, places):
    found = Mistakes()
    build(Lists, raw, "t", found)
    assert [m.place for m in found.found] == places
