"""What is no TOML: on which line, and what is wrong in words.  Whatever is done to a file, it is told so and nothing is raised but ConfigError."""

import re

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.cli.group import cli
from nexus.config import load
from nexus.config.slips import told
from nexus.errors import ConfigError

from .config_cases import CATALOG, only


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "[[backends]]\nname = 'a'\nmodels = ['x']\n[[backends.models]]\nid = 'y'",
            4,
            "[[backends.models]] is a list already (line 3): put each table into that list",
        ),
        (
            "[[backends]]\n[[backends]]\nmodels = 'x'\n[[backends.models]]",
            4,
            "[[backends.models]] has a value already (line 3): keep",
        ),
        ("a = 1\n\na = 2\nb = 3", 3, "a has a value already (line 1): keep one of the two"),
        ("a = 1\n'a' = 2", 2, "a has a value already (line 1)"),
        ("[server]\nport = 1\n[routing]\n[server]", 4, "[server] is a table already (line 1): write all its keys there"),
        ("[a]\nb = 1\n[a.b]\nc = 1", 3, "[a.b] has a value already (line 2)"),
        ("[a]\nb.c = 1\n[a.b]\nd = 1", 3, "[a.b] is a table already (line 2)"),
        ("a.b = 1\na.b.c = 2", 2, "a.b has a value already (line 1)"),
        ("server.port = 1\n[server]", 2, "[server] is a table already (line 1)"),
        ("[a.b]\nx = 1\n[a]\nb.y = 2", 4, "a.b is a table already (line 1): write what belongs in it there"),
        ("[a.b]\n[a]\nb = 1", 3, "a.b is a table already (line 1)"),
        ("a = 1\n[[a]]", 2, "[[a]] has a value already (line 1)"),
        ("[a]\nx = 1\n[[a]]", 3, "[[a]] is a table already (line 1): begin that one with two brackets"),
        ("[[a]]\nx = 1\n[a]", 3, "[a] is a list of tables already (line 1): begin each of its tables with two brackets"),
        ("[[a]]\n[[a.b]]\n[a.b]", 3, "[a.b] is a list of tables already (line 2)"),
        ("a = {b = 1}\n[a]", 2, "[a] is a table already (line 1)"),
        ("a = {b = 1}\na.c = 1", 2, "a is a table already (line 1)"),
        ("\nx = {b = 1, b = 2}", 2, "a key is there twice between { and }"),
        ("x = {a = 1, a.b = 2}", 1, "a key is there twice between { and }"),
        ('a = """\nb = 1\n"""\na = [\n1,\n2]\nb = 1', 4, "a has a value already (line 1)"),
        ("a = 1\r\na = 2\r\n", 2, "a has a value already (line 1)"),
        ('a = "\u2028\x85"\nb = 1\nb = 2', 3, "b has a value already (line 2)"),
        ("[a]\nb = 1\n\n# b\nb = '''\n'''", 5, "a.b has a value already (line 2)"),
    ],
)
def test_what_is_there_twice_is_told_with_both_lines(text, line, said):
    for ended in (text, text + "\n\n[else]\nx = 1\n"):
        place, message, _ = only(ended)
        assert place == f"line {line}"
        assert message.startswith(f"this is not TOML: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("port 7401", "followed by = and its value"),
        ("[queue", "one opens it, so one must close it"),
        ("[queue]]", "one opens it, so one must close it"),
        ("[[backends]", "two open it, so two must close it"),
        ("x = 'a", "the quote that closes the text is missing: '"),
        ('x = "a', 'the quote that closes the text is missing: "'),
        ("x = “a”", "not typographic"),
        ("models = ['a', ‘b’]", "unexpected character"),
        ("host: 'a'", "not by a colon"),
        ("host := 'a'", "not by :="),
        ('{"server": {}}', "no JSON"),
        ("- name: gpu", "stands in brackets"),
        ("insecure = True", "in small letters: insecure = true"),
        ("insecure = yes # really", "in small letters: insecure = true"),
        ("url = null", "leave the key out"),
        ("path = 'C:\\temp'\nx = \"C:\\temp\\x\"", "a backslash"),
        ("// port", "a comment begins with #"),
        ("idle = 10s", "without its unit: idle = 10"),
        ("size = 64 MiB", "without its unit: size = 10"),
        ("failure_ratio = 0,5", "a point, not a comma"),
        ("port =", "the value is missing after port ="),
        ("<<<<<<< HEAD", "a merge that was not finished"),
        ("host = gpu", 'a text needs quotes: host = "…"'),
        ("llama3.1:8b = 'x'", 'needs quotes: "llama3.1:8b" = …'),
        ('x = "a\nb"', "the quote that closes the text is missing"),
    ],
)
def test_a_slip_of_the_hand_is_told_in_words(line, said):
    place, message, _ = only(f"[server]\n{line}\nport = 1\n")
    assert place == f"line {2 + (line.startswith('path'))}"
    assert said in message


def test_where_a_value_begins_that_does_not_end():
    assert only("a = 1\nmodels = [\n  'x',\n\n[server]\nport = 1")[1].endswith(", in what begins in line 2")


def test_a_line_is_never_repeated_where_it_may_be_a_secret():
    for line in ("sk-proj-abc123 12", "sk-proj-abc123", "sk-proj-abc123 = yes", "sk-proj-abc123 = 1s", "a = 'x' sk-proj-abc123"):
        with pytest.raises(ConfigError) as caught:
            load(line, env={}, catalog=CATALOG)
        assert "abc123" not in str(caught.value)
    assert told("?", 'Invalid key "sk-proj-abc123 12"') == "it cannot be read"


VALID = """plugins = []
[server]
port = 1
hosts = ["a", "b"]
[routing.aliases]
"gpt-4o" = "llama3:70b"
[[policies]]
models = ["x"]
min_tier = 3
[[backends]]
name = "gpu"
type = "ollama"
models = ["x", {id = "y"}]
[[backends]]
name = "other"
url = "http://h"
[[backends.models]]
id = "m"
price = {input = 1, output = 2}
""".splitlines()
PIECES = ("=", "[", "]", "[[", "]]", '"', "'", '"""', "'''", "{", "}", "#", ",", ".", "\\", " ", "a", "models", "server", "1", "\x00", "\u2028", "é", "\r")  # fmt: skip
JUNK = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.sampled_from(VALID))


@given(st.lists(st.tuples(st.integers(0, len(VALID)), JUNK, st.booleans()), min_size=1, max_size=3))
def test_whatever_stands_in_a_file_is_told_with_its_place(changes):
    lines = list(VALID)
    for at, junk, replace in changes:
        lines[at : at + replace] = [junk]
    text = "\n".join(lines)
    for mistake in mistakes_of(text):
        assert mistake.message
        found = re.fullmatch(r"line (\d+)", mistake.place) or re.search(r"\(line (\d+)\)$", mistake.message)
        assert found, mistake
        assert 1 <= int(found[1]) <= text.count("\n") + 1


def mistakes_of(text):
    try:
        load(text, env={}, catalog=CATALOG)
    except ConfigError as error:
        return error.mistakes
    return ()


LITERALS = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.sampled_from(("true", "nan", "-inf", "1.5", "1e400", "1979-05-27", "07:32:00", "[]", "{}", "[[]]", "[{}]", '""', '"*"', '"10s"')),
    st.sampled_from(('["x", 1, "x"]', '{x = "x"}', '{"" = [1]}', "[nan]", '"http://[::1"', '"a\\u0000b"', '"$X"', '"sk-proj-4f9aK2"')),
    st.text(st.characters(codec="ascii", exclude_categories=("C",), exclude_characters="'"), max_size=20).map(lambda t: f"'{t}'"),
)  # fmt: skip
PAIRS = [at for at, line in enumerate(VALID) if "=" in line]
KEYS = ("models", "url", "port", "id", "aliases", "fallbacks", "stages", "zone", "hash", "enabled", '"x y"')


@given(st.lists(st.tuples(st.sampled_from(PAIRS), LITERALS, st.none() | st.sampled_from(KEYS)), min_size=1, max_size=4))
def test_whatever_value_a_key_has_is_told_with_its_place(changes):
    lines = list(VALID)
    for at, literal, key in changes:
        lines[at] = f"{key or lines[at].partition(' = ')[0]} = {literal}"
    for mistake in mistakes_of("\n".join(lines)):
        found = re.fullmatch(r"line (\d+)", mistake.place) or re.search(r"\(line (\d+)\)$", mistake.message)
        assert found, mistake
        assert "4f9aK2" not in str(mistake)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.tuples(st.integers(0, len(VALID)), JUNK), st.booleans())
def test_check_shows_no_traceback_whatever_is_in_the_file(tmp_path, change, as_json):
    at, junk = change
    path = tmp_path / "nexus.toml"
    path.write_text("\n".join([*VALID[:at], junk, *VALID[at:]]), encoding="utf-8")
    ended = CliRunner().invoke(cli, ["check", "-c", str(path), *(["--json"] if as_json else [])])
    assert ended.exit_code in (0, 1)
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    assert "Traceback" not in ended.output
