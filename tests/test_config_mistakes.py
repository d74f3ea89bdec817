"""What a wrong configuration is told: every mistake, its place, the nearest word, and never a secret."""

import attrs
import pytest

from nexus.api import ObserverKind, replace
from nexus.catalog import Package
from nexus.config import load
from nexus.config.mistakes import nearest, quoted, secretive, shown
from nexus.errors import ConfigError

from .config_cases import CATALOG, mistakes, only, unopened


@attrs.frozen
class Needy:
    target: str


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "line"),
    [("[server]\nport = \n", 2), ("a = 1\na = 2", 2), ("[server\n", 1), ("[a]\n[a]", 2), ('x = "open\n', 1), ("y = [1,", 1)],
)
def test_what_is_no_toml_says_its_line(text, line):
    place, message, _ = only(text)
    assert place == f"line {line}"
    assert message.startswith("this is not TOML: ")
    assert "\\x00" not in message


def test_text_nested_too_deeply_is_no_crash():
    assert "not TOML" in only("a = " + "[" * 20000)[1]


def test_a_file_that_is_not_there(tmp_path):
    place, message, _ = only(tmp_path / "none.toml")
    assert (place, message) == (str(tmp_path / "none.toml"), "there is no such file")


def test_a_file_that_cannot_be_read(tmp_path):
    assert only(tmp_path)[1] == "this is a directory, not a file"
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    assert only(tmp_path / "latin.toml")[1] == "the file is not UTF-8 text"


# ---------------------------------------------------------------- words and types


@pytest.mark.parametrize(
    ("text", "place", "near"),
    [
        ("[server]\nprot = 1", "server.prot", "port"),
        ("[serverr]\nport = 1", "serverr", "server"),
        ("[budgte]", "budgte", "budget"),
        ("srver = 1", "srver", "server"),
        ("[budget]\nusdd = 1", "budget.usdd", "usd"),
        ("[routing]\nstags = []", "routing.stags", "stages"),
        ("[[policies]]\nmodel = ['a']\nmodels = ['a']\nmin_tier = 1", "policies[0].model", "models"),
        ("[[backends]]\nname = 'a'\nurl = 'http://h'\nzoen = 'open'", "backends[0].zoen", "zone"),
        ("[[backends]]\nname = 'a'\ntype = 'ollama'\nmoed = 'soft'", "backends[0].moed", "mode"),
        ("[[backends]]\nname = 'a'\ntype = 'olama'", "backends[0].type", "ollama"),
        ("[[backends]]\nname = 'a'\ntype = 'ollama'\nzone = 'opne'", "backends[0].zone", "open"),
        ("[routing]\nstages = ['tier', 'blance']", "routing.stages[1]", "balance"),
        ("[discovery]\nsources = ['mdsn']", "discovery.sources[0]", "mdns"),
        ("[server]\n'odd.key' = 1", 'server."odd.key"', None),
    ],
)
def test_an_unknown_word_has_its_place_and_the_nearest_known_one(text, place, near):
    found = only(text)
    assert (found[0], found[2]) == (place, near)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[server]\nport = '80'", "server.port", "expected a whole number, got the text '80'"),
        ("[server]\nport = true", "server.port", "expected a whole number, got true"),
        ("[server]\nport = 1.0", "server.port", "expected a whole number, got the number 1.0"),
        ("[server]\ninsecure = 1", "server.insecure", "expected true or false, got the number 1"),
        ("[server]\norigins = 'https://a'", "server.origins", "expected a list, got the text 'https://a'"),
        ("[server]\nhosts = ['a', 2]", "server.hosts[1]", "expected a string, got the number 2"),
        ("[upstream]\nidle_timeout_seconds = nan", "upstream.idle_timeout_seconds", "expected a number, got nan"),
        ("server = 3", "server", "expected a table, got the number 3"),
        ("plugins = 'a'", "plugins", "expected a list, got the text 'a'"),
        ("[policies]\nx = 1", "policies", "expected a list of tables, each written [[policies]], got a table"),
        ("backends = [1]", "backends[0]", "expected a table, got the number 1"),
        ("[routing.aliases]\n'a.b' = 3", 'routing.aliases."a.b"', "expected a list, got the number 3"),
        ("[routing]\nfallbacks = {m = ['x', 1]}", "routing.fallbacks.m[1]", "expected a string, got the number 1"),
        ("[server]\nport = 1979-05-27", "server.port", "expected a whole number, got a date"),
        ("[server]\nport = 1979-05-27T07:32:00Z", "server.port", "expected a whole number, got a date with a time"),
        ("[server]\nport = 07:32:00", "server.port", "expected a whole number, got a time of day"),
        ("budget = 2", "budget", "expected a table, got the number 2"),
    ],
)
def test_a_wrong_type_says_what_was_expected_and_what_was_given(text, place, message):
    found = only(text)
    assert found[0] == place
    assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("[server]\nport = 65536", "server.port", "between 0 and 65535"),
        ("[server]\nmax_body_bytes = 0", "server.max_body_bytes", "at least 1"),
        ("[server]\nmax_body_bytes = 600000000", "server.max_inflight_body_bytes", "at least max_body_bytes (600000000)"),
        ("[server]\nhost = ''", "server.host", "must not be empty"),
        ("[server]\nhost = 'http://localhost'", "server.host", "host name alone"),
        ("[server]\nhosts = ['a:80']", "server.hosts[0]", "host name alone"),
        ("[server]\norigins = ['https://a', 'https://a/path']", "server.origins[1]", "whole origin"),
        ("[upstream]\nconnect_timeout_seconds = 0", "upstream.connect_timeout_seconds", "more than 0"),
        ("[health]\nfailure_threshold = 0", "health.failure_threshold", "at least 1"),
        ("[health]\nfailure_ratio = 1.5", "health.failure_ratio", "between 0 and 1"),
        ("[discovery]\ntrusted = ['10.0.0.0/99']", "discovery.trusted[0]", "network"),
        ("[routing]\nmax_attempts = 0", "routing.max_attempts", "at least 1"),
        ("[routing]\nstages = ['privacy', 'privacy']", "routing.stages[1]", "twice"),
        ("[queue]\nmax_bytes = -1", "queue.max_bytes", "at least 0"),
        ("[[policies]]\nmodels = ['a']", "policies[0]", "give zone or min_tier"),
        ("[[policies]]\nmodels = []\nmin_tier = 1", "policies[0].models", "must not be empty"),
        ("[[policies]]\nmin_tier = 1", "policies[0].models", "is missing"),
        ("[[policies]]\nmodels = ['a']\nmin_tier = 6", "policies[0].min_tier", "between 1 and 5"),
        ("[budget]\nusd = -1", "budget.usd", ">= 0"),
        ("[budget]\nusd = 101", "budget", "the mode must be hard"),
        ("plugins = ['a', 'a']", "plugins[1]", "twice"),
    ],
)
def test_a_value_out_of_range(text, place, part):
    found = only(text)
    assert found[0] == place
    assert part in found[1]


def test_all_mistakes_come_at_once_in_the_order_of_the_file():
    text = "\n".join(
        [
            "[server]",
            "prot = 1",
            "port = 'x'",
            "[routing]",
            "stages = ['privcy', 'tier', 'tier']",
            "[[backends]]",
            "name = 'a'",
            "type = 'olama'",
            "tier = 7",
            "[[keys]]",
            "name = 'k'",
        ]
    )
    with pytest.raises(ConfigError) as caught:
        load(text, env={"NEXUS_QUEUE_MAX_REQUESTS": "many"}, flags={"routing.max_attempts": 0}, catalog=CATALOG)
    places = [m.place for m in caught.value.mistakes]
    assert set(places[:2]) == {"NEXUS_QUEUE_MAX_REQUESTS", "routing.max_attempts"}
    assert places[2:5] == ["server.prot", "server.port", "routing.stages[0]"]
    assert places[5:] == ["routing.stages[2]", "backends[0].type", "backends[0].tier", "keys[0].hash"]
    assert "(line 3)" in caught.value.mistakes[3].message
    assert str(caught.value).count("\n") == len(places) - 1


# ---------------------------------------------------------------- backends and keys

BACKEND = "[[backends]]\nname = 'gpu'\ntype = 'vllm'\n"


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("url = 'gpu:8000'", "url", "must begin with http"),
        ("url = 'ftp://gpu'", "url", "must begin with http"),
        ("url = 'http://'", "url", "is not a URL"),
        ("url = 'http://gpu:99999'", "url", "is not a URL"),
        ("url = 'http://gpu:0'", "url", "is not a URL"),
        ("url = 'http://[::1'", "url", "is not a URL"),
        ("url = 'http://a b'", "url", "is not a URL"),
        ('url = "http://gpu/\\r\\nX: y"', "url", "is not a URL"),
        ("url = 'http://gpu?x=1'", "url", "no ?query"),
        ("url = 'http://user:hunter2@gpu'", "url", "api_key_env"),
        ("url = ''", "url", "must begin with http"),
        ("", "url", "is missing, and the type vllm has no usual one"),
        ("url = 'http://h'\ntier = 0", "tier", "between 1 and 5"),
        ("url = 'http://h'\npriority = -1", "priority", "at least 0"),
        ("url = 'http://h'\nmax_concurrent = 0", "max_concurrent", "at least 1"),
        ("url = 'http://h'\nmodels = []", "models", "leave it out"),
        ("url = 'http://h'\nmodels = ['a', 3]", "models[1]", "expected a glob or a table"),
        ("url = 'http://h'\nmodels = 'a'", "models", "expected a list"),
        ("url = 'http://h'\nmodels = [{id = 'a'}, {id = 'a'}]", "models[1].id", "two tables"),
        ("url = 'http://h'\nmodels = [{name = 'a'}]", "models[0].id", "is missing"),
        ("url = 'http://h'\n[[backends.models]]\nid = 'a'\ncapabilities = ['vison']", "models[0].capabilities[0]", "one of chat"),
        ("url = 'http://h'\nmodels = [{id = 'a', price = {input = -1, output = 1}}]", "models[0].price.input", "at least 0"),
        ("url = 'http://h'\napi_key_env = 'SPLIT_KEY'", "api_key_env", "only printable ASCII"),
        ("url = 'http://h'\napi_key = 'x'", "api_key", "name it in api_key_env"),
        ("url = 'http://h'\ncapabilities = ['vision']", "capabilities", "belongs in a [[backends.models]] table"),
        ("url = 'http://h'\ncontext = 8192", "context", "belongs in a [[backends.models]] table"),
    ],
)
def test_one_wrong_thing_in_a_backend(text, place, part):
    found = only(BACKEND + text, env={"SPLIT_KEY": "a\nb"})
    assert found[0] == f"backends[0].{place}"
    assert part in found[1]


@pytest.mark.parametrize(("name", "why"), [("NOWHERE_KEY", "is not set"), ("EMPTY_KEY", "is empty")])
def test_a_key_that_is_not_there_is_no_mistake_of_the_file(name, why):
    config, _ = load(BACKEND + f"url = 'http://h'\napi_key_env = '{name}'", env={"EMPTY_KEY": " "}, catalog=CATALOG)
    assert config.backends[0].key is None
    assert config.backends[0].without_key == f"the variable {name} {why}"


def test_a_key_written_in_the_place_of_its_variable_is_not_repeated():
    for secret in SECRETS:
        text = f"[[backends]]\nname = 'a'\ntype = 'ollama'\nurl = 'http://h'\napi_key_env = '{secret}'"
        try:
            said = load(text, env={}, catalog=CATALOG)[0].backends[0].without_key
        except ConfigError as error:
            said = str(error)
        assert said
        assert secret not in said


def test_a_text_without_quotes_is_told_as_that():
    for line in ("host = gpu", "zone = restricted  # here", "url = http://h:1"):
        name = line.partition(" ")[0]
        with pytest.raises(ConfigError, match=f'line 2: this is not TOML: a text needs quotes: {name} = "…"'):
            load(f"[server]\n{line}\n", env={}, catalog=CATALOG)
    with pytest.raises(ConfigError, match=r"line 2: this is not TOML: (?!a text)"):
        load("[server]\nport = [1\n", env={}, catalog=CATALOG)


def test_names_and_key_hashes_are_unique():
    same = "sha256:" + "0" * 64
    text = f"[[keys]]\nname = 'k'\nhash = '{same}'\n[[keys]]\nname = 'k'\nhash = '{same}'\n" + 2 * (BACKEND + "url = 'http://h'\n")
    found = mistakes(text)
    assert set(found) == {"keys[1].name", "keys[1].hash", "backends[1].name"}
    assert found["backends[1].name"][0].startswith("'gpu' is already that of backends[0]")


@pytest.mark.parametrize("name", ["a b", "", "-x", "ü", "x" * 65, "a\\nb"])
def test_a_backends_name_can_stand_in_a_header(name):
    assert only(f'[[backends]]\ntype = "ollama"\nname = "{name}"')[0] == "backends[0].name"


def test_a_key_in_place_of_its_hash():
    assert "this is the key itself" in only("[[keys]]\nname = 'a'\nhash = 'nx-abc'")[1]
    assert "sha256:" in only("[[keys]]\nname = 'a'\nhash = 'abc'")[1]


def test_an_unknown_type_of_the_projects_own_says_what_to_install():
    bare = replace(CATALOG, backends={})
    text = "[[backends]]\nname = 'a'\nurl = 'http://h'\ntype = 'ollama'\nkeep_alive = 1"
    assert only(text, catalog=bare)[1].startswith("backend type 'ollama' is not installed: pip install nexus-proxy-ollama")


def test_a_missing_standard_stage_says_what_to_install():
    found = mistakes("", catalog=replace(CATALOG, stages={}))
    assert set(found) == {f"routing.stages[{i}]" for i in range(5)}
    assert all("pip install nexus-proxy-stages" in message for message, _ in found.values())


def test_a_broken_package_is_named_where_it_is_needed():
    package = Package(name="ollama", origin="entry point", distribution="nexus-proxy-ollama", problem="ImportError: no torch")
    broken = replace(CATALOG, backends={}, packages=(package,))
    load("", env={}, catalog=broken)
    message = only("[[backends]]\nname = 'a'\ntype = 'ollama'", catalog=broken)[1]
    assert message.startswith(
        "backend type 'ollama' belongs to the package nexus-proxy-ollama, which cannot be used: ImportError: no torch"
    )
    assert "nexus-proxy-ollama cannot be used: ImportError" in only("[[backends]]\nname = 'a'\ntype = 'xyz'", catalog=broken)[1]


def test_a_disabled_package_is_named_where_it_is_needed():
    package = Package(name="ollama", origin="entry point", distribution="nexus-proxy-ollama", disabled=True)
    without = replace(CATALOG, backends={}, packages=(package,))
    text = "disabled = ['ollama']\n[[backends]]\nname = 'a'\ntype = 'ollama'"
    assert "which is in `disabled`" in only(text, catalog=without)[1]
    assert only("disabled = ['olama']", catalog=without)[2] == "ollama"


def test_a_broken_local_module_is_a_mistake():
    package = Package(name="mine", origin="local module", problem="SyntaxError: bad")
    found = only("plugins = ['mine']", catalog=replace(CATALOG, packages=(package,)))
    assert found[0] == "plugins[0]"
    assert "SyntaxError: bad" in found[1]


# ---------------------------------------------------------------- between tables


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("[routing.aliases]\na = 'a'", "routing.aliases.a", "leads back to itself: a → a"),
        ("[routing.aliases]\na = 'b'\nb = 'c'\nc = 'd'\nd = 'e'", "routing.aliases.a", "longer than 3"),
        ("[routing.aliases]\na = []", "routing.aliases.a", "not empty"),
        ("[routing.aliases]\na = ''", "routing.aliases.a", "not empty"),
        ("[routing.aliases]\na = ['x', 'x']", "routing.aliases.a", "twice"),
        ("[routing.fallbacks]\nm = ['m']", "routing.fallbacks.m[0]", "falls back to itself"),
        ("[routing.fallbacks]\nm = ['x', 'x']", "routing.fallbacks.m", "twice"),
        ("[routing]\naliases = {a = 'm'}\nfallbacks = {m = ['a']}", "routing.fallbacks.m[0]", "one model"),
        ("[server]\nhost = '0.0.0.0'", "server.host", "beyond loopback"),
        ("[server]\nhost = 'box.local'", "server.host", "beyond loopback"),
        ("[spare]", "spare", "add 'spare' to stages"),
        ("[discovery]\nsources = ['loopback']\n[mdns]", "mdns", "add 'mdns' to sources"),
        ("[ollama]\nusd = 1", "ollama", "[[backends]] table with type = 'ollama'"),
        ("[metrics]", "metrics", "pip install nexus-proxy-metrics"),
    ],
)
def test_what_does_not_fit_together(text, place, part):
    found = only(text)
    assert found[0] == place
    assert part in found[1]


def test_chains_that_end_are_fine():
    load("[routing.aliases]\na = 'b'\nb = 'c'\nc = 'd'\nx = ['x', 'y']\nz = 'x'", env={}, catalog=CATALOG)


def test_every_member_of_a_cycle_is_named_once():
    found = mistakes("[routing.aliases]\na = 'b'\nb = 'a'\nc = 'a'")
    assert set(found) == {"routing.aliases.a", "routing.aliases.b"}


def test_privacy_cannot_be_lost_by_omission():
    policy = "[[policies]]\nmodels = ['x']\nzone = 'restricted'\nmin_tier = 2\n"
    found = mistakes(policy + "[routing]\nstages = ['balance']")
    assert found["policies[0].zone"][0].startswith("no active stage enforces it: add 'privacy' to stages in [routing]")
    assert "'tier'" in found["policies[0].min_tier"][0]
    assert set(mistakes("[budget]\nusd = 1\n[routing]\nstages = ['balance']")) == {"budget"}


def test_an_installed_component_that_needs_a_table_says_so():
    needy = replace(CATALOG, observers={"webhook": ObserverKind(name="webhook", open=unopened, options=Needy)})
    found = mistakes("", catalog=needy)
    assert found["webhook.target"][0] == "is missing"
    assert "[webhook]" in found["webhook"][0]
    config, _ = load("[webhook]\ntarget = 'x'", env={}, catalog=needy)
    assert config.options["webhook"] == Needy(target="x")


def test_an_options_class_that_cannot_be_read_is_a_mistake_not_a_crash():
    unreadable = attrs.make_class("Unreadable", {"x": attrs.field(type="NoSuchType", default=1)})
    found = only("", catalog=replace(CATALOG, observers={"odd": ObserverKind(name="odd", open=unopened, options=unreadable)}))
    assert "cannot be read: NameError" in found[1]


# ---------------------------------------------------------------- secrets

SECRETS = ["sk-proj-4f9aK2", "nx-Zm9vYmFyYmF6", "hf_abcdefgh", "AIzaSyA1234", "4f9a8b7c6d5e4f3a2b1c0d9e", "eyJhbGciOi.eyJzdWIi.abc"]


@pytest.mark.parametrize(
    "text",
    [
        "[server]\nport = '{}'",
        "[server]\nhosts = ['http://{}']",
        "[server]\nhost = '{}/'",
        "[server]\n'{}' = 1",
        "'{}' = 1",
        "[routing]\nstages = ['{}']",
        "[[backends]]\nname = 'a'\ntype = '{}'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\nurl = '{}'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\nurl = 'http://u:{}@h'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\nurl = 'https://h?key={}'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\napi_key = '{}'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\nmode = '{}'",
        "[[backends]]\nname = 'a'\ntype = 'ollama'\nzone = '{}'",
        "[[keys]]\nname = 'k'\nhash = '{}'",
        "[budget]\nmode = '{}'",
        "[budget]\nusd = '{}'",
        "x = {}",
    ],
)
def test_no_message_repeats_a_secret(text):
    for secret in SECRETS:
        with pytest.raises(ConfigError) as caught:
            load(text.format(secret), env={}, catalog=CATALOG)
        assert secret not in str(caught.value)


def test_a_wrong_key_in_the_environment_is_not_repeated():
    text = BACKEND + "url = 'http://h'\napi_key_env = 'GPU_KEY'"
    found = only(text, env={"GPU_KEY": "top secret words"})
    assert "secret" not in found[1]


def test_ordinary_words_are_shown():
    for word in (
        "llama3:70b",
        "meta-llama/Llama-3.3-70B-Instruct",
        "stream_keepalive_seconds",
        "claude-sonnet-4-5-20250929",
        "task-1",
    ):
        assert not secretive(word), word
    assert shown("privacy") == "'privacy'"
    assert quoted("gpt-4o") == "gpt-4o"
    assert quoted("llama3:70b") == '"llama3:70b"'
    assert nearest("Zone", ("zone", "tier")) == "zone"
    assert nearest("qqq", ("zone", "tier")) is None


@pytest.mark.parametrize("name", ["llama3.1:8b", "meta/llama", "a@b", "größe"])
def test_a_name_that_needs_quotes_is_told_so(name):
    with pytest.raises(ConfigError) as caught:
        load(f"[routing.aliases]\n{name} = 'x'\n", env={}, catalog=CATALOG)
    (mistake,) = caught.value.mistakes
    assert (mistake.place, mistake.message) == (
        "line 2",
        f'this is not TOML: a name with such letters needs quotes: "{name}" = …',
    )


def test_such_a_name_that_may_be_a_secret_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        load("sk-proj-abc:123 = 1", env={}, catalog=CATALOG)
    assert "abc" not in str(caught.value)


def test_a_key_outside_of_its_table_is_told_which():
    place, message, near = only("port = 7401")
    assert (place, near) == ("port", None)
    assert message == "there is no such key (it holds the number 7401) at the top of the file: write it below [server] (line 1)"
    assert "write it below [[backends.models]]" in only("capabilities = []")[1]
    assert only("sources = []")[1].startswith(
        "there is no such key (it holds a list) at the top of the file: write it below [discovery]"
    )
    assert "written as `type`" in only("[[backends]]\nname='a'\nkind = 'vllm'\nurl='http://h'")[1]
    assert only("prot = 7401")[1] == "there is no such key (it holds the number 7401) (line 1)"


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("aliases = {'x*' = 'm'}", 'aliases."x*"', "'x*' is no name: globs are not known here"),
        ("aliases = {m = 'x*'}", "aliases.m", "'x*' is no name"),
        ("aliases = {m = ['a', 'llama?']}", "aliases.m", "'llama?' is no name"),
        ("fallbacks = {'gpt-*' = ['a']}", 'fallbacks."gpt-*"', "'gpt-*' is no name"),
        ("fallbacks = {m = ['a', 'b*']}", "fallbacks.m", "'b*' is no name"),
    ],
)
def test_a_glob_is_no_name(text, place, part):
    found = only(f"[routing]\n{text}")
    assert found[0] == f"routing.{place}"
    assert part in found[1]


def test_a_key_that_may_use_nothing_is_of_use_to_the_admin_alone():
    key = f"[[keys]]\nname = 'k'\nhash = 'sha256:{'0' * 64}'\nmodels = []\n"
    place, message, _ = only(key)
    assert place == "keys[0].models"
    assert "lets the key use no model: leave it out for all" in message
    assert load(key + "admin = true", env={}, catalog=CATALOG)[0].keys[0].models == ()


@pytest.mark.parametrize(
    ("url", "extra", "warned"),
    [
        ("http://h:1", "", True),
        ("HTTP://H:1/", "", True),
        ("http://h:1/v1/", "", True),
        ("http://h:1/v1", "api_key_env = 'OTHER'", False),
        ("http://h:2", "", False),
        ("http://h:1/other", "", False),
    ],
)
def test_a_server_in_two_tables_is_a_warning(url, extra, warned):
    text = f"[[backends]]\nname = 'a'\nurl = 'http://h:1'\n[[backends]]\nname = 'b'\nurl = '{url}'\n{extra}"
    config, _ = load(text, env={}, catalog=CATALOG)
    said = "backends[1].url: is also that of backends[0]: one server needs one table (line 6)"
    assert config.warnings == ((said,) if warned else ())


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[queue]\nmax_wait_seconds = '10s'", "queue.max_wait_seconds", "write the number alone, without its unit"),
        ("[server]\nmax_body_bytes = '64 MiB'", "server.max_body_bytes", "write the number alone, without its unit"),
        ("[server]\nport = '6398'", "server.port", "write it without quotes"),
        ("[server]\ninsecure = 'true'", "server.insecure", "write it without quotes"),
        ("[routing]\nstages = 'privacy'", "routing.stages", "write it in brackets, as ['privacy']"),
        ("[routing]\nfallbacks = {a = 'b'}", "routing.fallbacks.a", "write it in brackets, as ['b']"),
        ("[[server]]\nport = 1", "server", "expected one table, written [server], got a list of tables"),
        ("[server]\nusd = 1", "server.usd", "there is no such key here, but below [budget]"),
        ("[routing]\napi_key_env = 'A'", "routing.api_key_env", "there is no such key here, but below [[backends]]"),
        ("[[models]]\nid = 'a'", "models", "write it below [[backends]], as [[backends.models]]"),
        ("plugins = ['./mine.py']", "plugins[0]", "must be the name of a module"),
        ("plugins = ['mine.py']", "plugins[0]", "no path and no .py"),
    ],
)
def test_a_usual_mistake_is_told_with_what_to_write(text, place, said):
    found = only(text)
    assert found[0] == place
    assert said in found[1]


@pytest.mark.parametrize(
    ("text", "place", "said", "near"),
    [
        ("url = 'http//h'", "url", "must begin with http", "http://h"),
        ("url = 'https:h'", "url", "is not a URL", "https://h"),
        ("url = ' http://h'", "url", "there is a space in it", None),
        ("url = 'http://h/v1/chat/completions'", "url", "must end before /v1/chat/completions", None),
        ("url = 'http://h:11434/api/chat/'", "url", "must end before /api/chat", None),
        ("base_url = 'http://h/v1'", "base_url", "is written as `url`", None),
        ("host = 'h'", "host", "is written as `url`", None),
        ("url = 'http://h'\napi_key_env = '${GPU_KEY}'", "api_key_env", "without $ and braces", "GPU_KEY"),
        ("url = 'http://h'\napi_key_env = '$GPU_KEY'", "api_key_env", "without $ and braces", "GPU_KEY"),
        ("url = 'http://h'\n[backends.models]\nid = 'm'", "models", "each written [[backends.models]], got a table", None),
    ],
)
def test_a_usual_mistake_in_a_backend_is_told_with_what_to_write(text, place, said, near):
    found = only(BACKEND + text)
    assert found[0] == f"backends[0].{place}"
    assert said in found[1]
    if near:
        assert found[2] == near
