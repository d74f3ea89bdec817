"""NEXUS_<TABLE>_<KEY>: what a variable can set, and which variables are somebody else's."""

import pytest

from nexus.api import SourceKind, StageKind, opens
from nexus.catalog import Catalog
from nexus.config import OTHER_VARIABLES, load
from nexus.config.overlay import variables
from nexus.config.strict import keys
from nexus.config.tables import FIXED
from nexus.errors import ConfigError

STAGES = {
    name: StageKind(name=name, open=opens(lambda o, s: None), policy_words=("zone",) if name == "privacy" else ())
    for name in ("privacy", "budget", "tier", "capability", "balance")
}
CATALOG = Catalog(stages=STAGES, sources={"loopback": SourceKind(name="loopback", open=opens(lambda o, s: None))})


def made(env, text=""):
    return load(text, env=env, catalog=CATALOG)[0]


def mistakes(env, text=""):
    with pytest.raises(ConfigError) as caught:
        made(env, text)
    return {m.place: (m.message, m.nearest) for m in caught.value.mistakes}


def test_a_variable_sets_what_its_type_asks_for(tmp_path):
    config = made(
        {
            "NEXUS_SERVER_PORT": "8080",
            "NEXUS_SERVER_INSECURE": "Yes",
            "NEXUS_SERVER_HOST": "0.0.0.0",
            "NEXUS_SERVER_ORIGINS": "https://a, https://b,",
            "NEXUS_SERVER_STATE_DIR": str(tmp_path),
            "NEXUS_ROUTING_MAX_ATTEMPTS": "7",
            "NEXUS_ROUTING_STAGES": "tier,balance",
            "NEXUS_HEALTH_FAILURE_RATIO": "0.25",
            "NEXUS_DISCOVERY_SOURCES": "",
        }
    )
    assert (config.server.port, config.server.insecure, config.server.host) == (8080, True, "0.0.0.0")
    assert (config.server.origins, config.server.state_dir) == (("https://a", "https://b"), tmp_path)
    assert (config.routing.max_attempts, config.routing.stages) == (7, ("tier", "balance"))
    assert (config.health.failure_ratio, config.discovery.sources) == (0.25, ())


def test_an_empty_variable_of_a_single_value_is_not_set():
    assert made({"NEXUS_SERVER_PORT": "", "NEXUS_SERVER_HOST": ""}).server.port == 6398


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("NEXUS_SERVER_PORT", "http", "expected a whole number, got the text 'http'"),
        ("NEXUS_SERVER_PORT", "tcp://10.0.0.1:80", "expected a whole number"),
        ("NEXUS_SERVER_PORT", "70000", "between 0 and 65535"),
        ("NEXUS_SERVER_INSECURE", "maybe", "expected true or false"),
        ("NEXUS_QUEUE_MAX_WAIT_SECONDS", "inf", "expected a number"),
    ],
)
def test_a_wrong_value_is_told_of_the_variable(name, text, part):
    found = mistakes({name: text}, "[server]\nport = 80\n")
    assert list(found) == [name]
    assert part in found[name][0]


def test_a_wrong_element_is_told_of_the_variable():
    assert set(mistakes({"NEXUS_ROUTING_STAGES": "tier,blance"})) == {"NEXUS_ROUTING_STAGES[1]"}


def test_a_flag_takes_the_place_of_a_wrong_variable():
    config, _ = load("", env={"NEXUS_SERVER_PORT": "x"}, flags={"server.port": 5}, catalog=CATALOG)
    assert config.server.port == 5


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("NEXUS_SERVER_PROT", "NEXUS_SERVER_PORT"),
        ("NEXUS_SERVR_PORT", "NEXUS_SERVER_PORT"),
        ("NEXUS_ROUTING_ALIASES", None),
        ("NEXUS_CONFG", "NEXUS_CONFIG"),
    ],
)
def test_an_unknown_variable_near_a_known_one(name, near):
    found = mistakes({name: "1"})
    assert list(found) == [name]
    if near:
        assert found[name][1] == near


def test_other_peoples_variables_are_left_alone():
    strangers = (
        "NEXUS_SERVICE_HOST",
        "NEXUS_SERVER_SERVICE_PORT_HTTP",
        "NEXUS_PORT",
        "NEXUS_PORT_6398_TCP",
        "NEXUS_REPOSITORY",
        "NEXUS_",
        "OTHER_SERVER_PORT",
    )
    env = dict.fromkeys((*OTHER_VARIABLES, *strangers), "x")
    assert made(env) == made({})


def test_a_variable_that_a_backend_names_is_the_operators():
    text = '[[backends]]\nname = "a"\nurl = "http://h"\napi_key_env = "NEXUS_SERVER_KEY"'
    assert made({"NEXUS_SERVER_KEY": "k"}, text).backends[0].key.reveal() == "k"
    assert "NEXUS_SERVER_KEY" in mistakes({"NEXUS_SERVER_KEY": "k"})


def test_a_variable_does_not_hide_a_table_that_is_none():
    assert "server" in mistakes({"NEXUS_SERVER_PORT": "1"}, "server = 5")


def test_every_key_of_the_fixed_tables_but_the_tables_has_a_variable():
    names = variables()
    assert len(names) == sum(len(keys(cls)) for cls in FIXED.values()) - 2
    assert {table for table, _, _ in names.values()} == set(FIXED)
    assert "NEXUS_ROUTING_FALLBACKS" not in names
    assert not set(names) & set(OTHER_VARIABLES)


@pytest.mark.parametrize("stages", ["", "balance", ","])
def test_what_a_list_in_a_variable_lacks_is_to_be_added_there(stages):
    env = {"NEXUS_ROUTING_STAGES": stages, "NEXUS_DISCOVERY_SOURCES": ""}
    text = '[[policies]]\nmodels = ["m"]\nzone = "restricted"\n[tier]\n[loopback]\n[routing]\nstages = ["privacy", "tier"]\n'
    found = mistakes(env, text)
    assert found["policies[0].zone"][0] == "no active stage enforces it: add 'privacy' to NEXUS_ROUTING_STAGES (line 3)"
    assert found["tier"][0].endswith("add 'tier' to NEXUS_ROUTING_STAGES (line 4)")
    assert found["loopback"][0].endswith("add 'loopback' to NEXUS_DISCOVERY_SOURCES (line 5)")
    del env["NEXUS_ROUTING_STAGES"]
    assert [*mistakes(env, text)] == ["loopback"]
