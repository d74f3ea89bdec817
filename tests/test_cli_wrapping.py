"""Sentences on a terminal: they end between words, and what people copy is whole.  Pure functions; the demo's table is rich's."""

import io

import click
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nexus.cli.backends import evidence
from nexus.cli.check import lines
from nexus.cli.demo.asking import Said
from nexus.cli.demo.telling import _burst
from nexus.cli.wrapping import _cells, wrapped

WORDS = st.lists(st.text("abcé模-/_:.", min_size=1, max_size=30), max_size=20)


@given(WORDS, st.integers(10, 200), st.sampled_from(["", "  ", "  attempt 1 ", "  ✗ spare  http://127.0.0.1:7107/v1  "]))
def test_nothing_is_lost_no_word_is_broken_and_only_a_word_is_longer_than_a_line(words, columns, prefix):
    said = wrapped(prefix, " ".join(words), columns)
    assert said.removeprefix(prefix).split() == words
    for line in said.removeprefix(prefix).split("\n")[1:]:
        assert _cells(line) <= columns or len(line.split()) == 1


def test_further_lines_begin_under_the_first_or_at_the_margin_where_there_is_no_room():
    assert wrapped("  health  ", "it is well and serves what it is asked for", 42) == (
        "  health  it is well and serves what it is\n          asked for"
    )
    narrow = wrapped("  ✗ spare  http://192.168.100.200:11434  ", "refused the connection", 50)
    assert narrow.split("\n")[1:] == ["    the connection"]


def test_colours_take_no_room():
    name = click.style("gaming-pc", bold=True)
    assert click.unstyle(wrapped("→ goes to ", f"{name}, at home", 29)) == "→ goes to gaming-pc, at home"


def test_a_pipe_gets_each_sentence_on_one_line():
    assert wrapped("  ", "word " * 100, None).count("\n") == 0


def test_the_demos_table_is_whole_on_eighty_columns():
    marks = {
        "backend": "laptop",
        "route-reason": "capacity-overflow",
        "attempts": "2",
        "queue-ms": "812",
        "cost-estimated": "0.000015",
    }
    out = io.StringIO()
    Console(file=out, width=80).print(_burst([Said(status=200, nexus=marks, text="", seconds=1.82)] * 10))
    assert out.getvalue().count("capacity-overflow") == out.getvalue().count("$0.000015") == 10
    assert "…" not in out.getvalue()


def test_the_same_evidence_is_said_once():
    one = {
        "zone": "open",
        "zone_evidence": "it can forward requests",
        "url": "http://h",
        "last_probe_seconds_ago": None,
        "problem": None,
    }
    one |= {"health": "unknown", "suspended_reason": None, "resting": [], "omitted": 0, "no_path": {}}
    other = {"zone": "restricted", "zone_evidence": "127.0.0.1 is private"}
    said = "\n".join(evidence([one | {"name": "a"}, one | {"name": "b"}, one | {"name": "c"} | other]))
    assert said.count("it can forward requests") == 1
    assert "zone    open: as a\n" in said
    assert "zone    restricted: 127.0.0.1 is private\n" in said


def test_check_wraps_what_it_confirms():
    backends = [{"name": f"server-{n}", "type": "openai-compatible", "zone": None} for n in range(6)]
    empty = {"warnings": [], "sources": [], "stages": [], "aliases": {}, "fallbacks": {}, "policies": [], "keys": []}
    told = list(lines({"file": None, "listen": "h:1", "backends": backends, "broken_plugins": {}, **empty}, 80))
    (backed,) = [line for line in told if line.startswith("  backends")]
    assert all(len(line) <= 80 for line in backed.split("\n"))
    assert all(line.startswith(" " * 13) for line in backed.split("\n")[1:])
