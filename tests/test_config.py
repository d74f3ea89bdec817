"""What a right configuration becomes: values, precedence, defaults, plugins' options.  What is wrong is in test_config_mistakes."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest

from nexus.api import (
    BackendKind,
    DialectKind,
    Lane,
    NoOptions,
    ObserverKind,
    Price,
    RoutesKind,
    Secret,
    SourceKind,
    StageKind,
    Zone,
    opens,
    replace,
)
from nexus.catalog import Catalog
from nexus.config import BackendConfig, Config, RoutingConfig, ServerConfig, active_stages, finish, load, read


@contextlib.asynccontextmanager
async def unopened(*_):
    raise AssertionError("a configuration opens nothing")
    yield


@attrs.frozen
class OllamaOptions:
    keep_alive: str = "5m"
    mirrors: tuple[str, ...] = ()


@attrs.frozen
class BalanceOptions:
    strategy: str = "smart"
    weights: Mapping[str, float] = MappingProxyType({})


@attrs.frozen
class MetricsOptions:
    path: str = "/metrics"


def stage(name, options=NoOptions, words=()):
    return StageKind(name=name, open=opens(lambda o, s: None), options=options, policy_words=words)


CATALOG = Catalog(
    backends={
        "ollama": BackendKind(name="ollama", open=unopened, options=OllamaOptions, default_url="http://127.0.0.1:11434"),
        "vllm": BackendKind(name="vllm", open=unopened),
    },
    stages={
        "privacy": stage("privacy", words=("zone",)),
        "budget": stage("budget"),
        "tier": stage("tier", words=("min_tier",)),
        "capability": stage("capability"),
        "balance": stage("balance", BalanceOptions),
        "spare": stage("spare", OllamaOptions),
    },
    sources={"loopback": SourceKind(name="loopback", open=unopened), "mdns": SourceKind(name="mdns", open=unopened)},
    dialects={"openai": DialectKind(name="openai", open=unopened)},
    observers={"metrics": ObserverKind(name="metrics", open=unopened)},
    routes={"metrics": RoutesKind(name="metrics", open=unopened, options=MetricsOptions)},
)


def made(source="", env=None, flags=None) -> Config:
    config, catalog = load(source, env=env or {}, flags=flags or {}, catalog=CATALOG)
    assert catalog is CATALOG
    return config


def test_nothing_configured_gives_the_defaults():
    config = made()
    assert replace(config, options={}, discovery=Config().discovery, routing=Config().routing) == Config()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 6398)
    assert config.routing.stages == ("privacy", "budget", "tier", "capability", "balance")
    assert config.discovery.sources == ("loopback", "mdns")
    assert config.path is None


def test_the_defaults_are_those_of_the_contract():
    c = Config()
    assert attrs.astuple(c.server) == ("127.0.0.1", 6398, 67108864, 536870912, 30, 10, None, 60, (), (), False, None)
    assert attrs.astuple(c.upstream) == (5, 300, 1800, 300)
    assert attrs.astuple(c.health) == (30, 5, 3, 2, 3, 10, 0.5, 30, 15)
    assert attrs.astuple(c.queue) == (100, 268435456, 30, 0)
    assert c.routing.max_attempts == 3
    assert (BackendConfig(name="x").priority, BackendConfig(name="x").type, BackendConfig(name="x").tier) == (50, "auto", None)


def test_every_key_arrives_as_what_it_is():
    config = made(
        """
        [server]
        origins = ["https://chat.example.org", "tauri://localhost"]
        hosts = ["box.local"]
        state_dir = "~/nexus-state"
        shutdown_grace_seconds = 1
        [discovery]
        sources = []
        trusted = ["gpu-box.local", "192.168.1.0/24", "fd00::1"]
        [routing]
        max_attempts = 5
        [routing.aliases]
        "gpt-4o" = "llama3:70b"
        equal = ["llama3:70b", "meta-llama/Llama-3.3"]
        [routing.fallbacks]
        "llama3:70b" = ["qwen"]
        [[policies]]
        models = ["medical-*"]
        zone = "restricted"
        min_tier = 3
        [[keys]]
        name = "laptop"
        hash = "sha256:%s"
        priority = "high"
        admin = true
        """
        % ("ab" * 32)
    )
    assert config.server.state_dir == Path("~/nexus-state").expanduser()
    assert config.server.shutdown_grace_seconds == 1.0
    assert isinstance(config.server.shutdown_grace_seconds, float)
    assert config.discovery.sources == ()
    assert config.discovery.trusted == ("gpu-box.local", "192.168.1.0/24", "fd00::1")
    assert config.routing.aliases == {"gpt-4o": ("llama3:70b",), "equal": ("llama3:70b", "meta-llama/Llama-3.3")}
    assert config.routing.fallbacks == {"llama3:70b": ("qwen",)}
    assert config.policies[0].zone is Zone.RESTRICTED
    assert config.policies[0].min_tier == 3
    assert (config.keys[0].priority, config.keys[0].admin, config.keys[0].models) == (Lane.HIGH, True, ("*",))


def test_the_configuration_is_frozen_all_through():
    config = made('[routing.aliases]\na = "b"')
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.server.port = 1
    with pytest.raises(TypeError):
        config.routing.aliases["c"] = ("d",)
    with pytest.raises(TypeError):
        config.options["balance"] = None


# ---------------------------------------------------------------- backends


def test_a_backend_has_its_types_own_keys_its_url_and_its_key():
    config = made(
        """
        [[backends]]
        name = "gpu"
        type = "ollama"
        keep_alive = "1h"
        mirrors = ["a"]
        zone = "open"
        tier = 3
        max_concurrent = 4
        api_key_env = "GPU_KEY"
        """,
        env={"GPU_KEY": " secret-text\n"},
    )
    gpu = config.backends[0]
    assert gpu.options == OllamaOptions(keep_alive="1h", mirrors=("a",))
    assert gpu.url == "http://127.0.0.1:11434"
    assert gpu.key == Secret("secret-text")
    assert (gpu.zone, gpu.tier, gpu.max_concurrent) == (Zone.OPEN, 3, 4)
    assert "secret-text" not in repr(config)


def test_an_auto_backend_needs_only_a_url_and_has_no_options_yet():
    (backend,) = made('[[backends]]\nname = "somewhere"\nurl = "https://[::1]:8443/v1/"').backends
    assert (backend.type, backend.url, backend.options) == ("auto", "https://[::1]:8443/v1/", None)


@pytest.mark.parametrize(
    ("text", "globs", "ids"),
    [
        ('models = ["llama3*", "qwen"]', ("llama3*", "qwen"), ()),
        ('[[backends.models]]\nid = "llava"\n[[backends.models]]\nid = "b"', None, ("llava", "b")),
        ('models = ["llama3*", {id = "llava"}]', ("llama3*",), ("llava",)),
        ("", None, ()),
    ],
)
def test_models_are_an_allow_list_and_tables_under_one_key(text, globs, ids):
    (backend,) = made(f'[[backends]]\nname = "gpu"\ntype = "ollama"\n{text}').backends
    assert backend.models == globs
    assert tuple(m.id for m in backend.overrides) == ids


def test_a_models_table_says_what_the_server_does_not():
    (backend,) = made(
        """
        [[backends]]
        name = "gpu"
        type = "ollama"
        [[backends.models]]
        id = "llava"
        name = "vision-small"
        capabilities = ["vision", "tools"]
        context = 8192
        tier = 2
        zone = "restricted"
        price = {input = 1, output = 2.5}
        """
    ).backends
    (model,) = backend.overrides
    assert (model.name, model.capabilities, model.context, model.tier) == ("vision-small", ("vision", "tools"), 8192, 2)
    assert model.zone is Zone.RESTRICTED
    assert model.price == Price(input=1.0, output=2.5)


# ---------------------------------------------------------------- components


def test_active_components_have_options_with_or_without_a_table():
    config = made('[balance]\nstrategy = "random"\nweights = {gpu = 2}')
    assert config.options["balance"] == BalanceOptions(strategy="random", weights={"gpu": 2.0})
    assert config.options["privacy"] == NoOptions()
    assert config.options["metrics"] == MetricsOptions()
    assert set(config.options) == {"privacy", "budget", "tier", "capability", "balance", "loopback", "mdns", "openai", "metrics"}


def test_components_of_one_name_share_one_table():
    assert made('[metrics]\npath = "/m"').options["metrics"] == MetricsOptions(path="/m")


def test_an_inactive_component_has_no_options():
    config = made('[routing]\nstages = ["privacy"]\n[discovery]\nsources = ["mdns"]')
    assert set(config.options) == {"privacy", "mdns", "openai", "metrics"}


# ---------------------------------------------------------------- sources and precedence


def test_flags_win_over_the_environment_and_that_over_the_file():
    text = "[server]\nport = 1\nhost = '127.0.0.2'\n[queue]\nmax_requests = 1"
    env = {"NEXUS_SERVER_PORT": "2", "NEXUS_SERVER_HOST": "127.0.0.3"}
    config = made(text, env, {"server.port": 3, "server.host": None})
    assert (config.server.port, config.server.host, config.queue.max_requests) == (3, "127.0.0.3", 1)
    assert config.upstream.connect_timeout_seconds == 5


def test_a_file_is_read_and_remembered(tmp_path):
    path = tmp_path / "other.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\nport = 7\n")
    config = made(path)
    assert (config.server.port, config.path) == (7, path)


def test_without_a_source_the_working_directory_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert made(None).server.port == 6398
    (tmp_path / "nexus.toml").write_text("[server]\nport = 8")
    config = made(None)
    assert (config.server.port, config.path) == (8, tmp_path / "nexus.toml")


def test_a_mapping_is_taken_as_it_is_and_not_changed():
    source = MappingProxyType({"server": {"port": 9}, "routing": {"aliases": {"a": "b"}, "stages": ("tier",)}})
    config = made(source, flags={"server.port": 10})
    assert (config.server.port, config.routing.aliases, config.routing.stages) == (10, {"a": ("b",)}, ("tier",))
    assert source["server"] == {"port": 9}


def test_the_two_steps_are_those_of_load():
    draft = read("[server]\nport = 5\n", env={}, flags={})
    assert finish(draft, CATALOG) == made("[server]\nport = 5\n")


def test_the_file_names_the_plugins_that_judge_it(tmp_path):
    (tmp_path / "config_test_stage.py").write_text(
        "import attrs\n"
        "from nexus.api import Stage, StageKind, hookimpl, opens\n"
        "@attrs.frozen\n"
        "class Options:\n"
        "    limit: int = 1\n"
        "@hookimpl\n"
        "def nexus_stages():\n"
        "    yield StageKind(name='mine', open=opens(lambda o, s: Stage()), options=Options)\n"
    )
    (tmp_path / "nexus.toml").write_text('plugins = ["config_test_stage"]\n[routing]\nstages = ["mine"]\n[mine]\nlimit = 4\n')
    before = list(sys.path)
    try:
        config, catalog = load(tmp_path / "nexus.toml", env={})
    finally:
        sys.path[:] = before
        sys.modules.pop("config_test_stage", None)
    assert config.plugins == ("config_test_stage",)
    assert config.options["mine"].limit == 4
    assert "mine" in catalog.stages


def test_a_config_made_by_hand_is_checked_too():
    with pytest.raises(ValueError, match="must be between 0 and 65535"):
        ServerConfig(port=70000)
    with pytest.raises(ValueError, match="max_body_bytes"):
        ServerConfig(max_body_bytes=10, max_inflight_body_bytes=9)


def test_beyond_loopback_with_keys_or_the_operators_word():
    key = '[[keys]]\nname = "a"\nhash = "sha256:%s"\n' % ("0" * 64)
    assert made(f'{key}[server]\nhost = "0.0.0.0"').server.host == "0.0.0.0"
    assert made('[server]\nhost = "::"\ninsecure = true').server.insecure
    for host in ("localhost", "::1", "127.9.9.9"):
        assert made(f'[server]\nhost = "{host}"').server.host == host


def test_importing_the_configuration_is_cheap():
    code = "import sys, nexus.config, nexus.keys; print(sorted({'tomlkit', 'cattrs'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_right_is_read_without_the_reader_of_wrong_ones():
    code = "import sys; from nexus.config.source import plain; print(plain('[server]\\nport = 1').raw, 'tomlkit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "{'server': {'port': 1}} False"


def test_what_the_tables_hold_is_read_without_cattrs():
    text = "[server]\\nport = 1\\nhosts = ['a']\\n[health]\\n[routing.aliases]\\nx = ['y']\\n[[backends]]\\nname = 'b'\\ntype = 'openai-compatible'\\nurl = 'http://b'"
    code = f"import sys; from nexus.config import load; load(\"{text}\", env={{}}); print(sorted({{'tomlkit', 'cattrs'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


def test_the_installed_plugins_take_an_empty_configuration():
    """The options classes of whatever is installed here can be read."""
    config, catalog = load("", env={})
    assert set(config.routing.stages) | set(catalog.dialects) | set(catalog.observers) | set(catalog.routes) <= set(config.options)


# ---------------------------------------------------------------- stages that are on by default

STANDARD = ("privacy", "budget", "tier", "capability", "balance")
STEADY = StageKind(name="steady", open=opens(lambda o, s: None), options=OllamaOptions, default=True)
WITH_STEADY = replace(CATALOG, stages={"steady": STEADY, **CATALOG.stages})


def test_a_stage_that_is_on_by_default_follows_the_standard_ones():
    config, _ = load("[steady]\nkeep_alive = '7m'", env={}, catalog=WITH_STEADY)
    assert config.routing.stages == (*STANDARD, "steady")
    assert config.options["steady"] == OllamaOptions(keep_alive="7m")


@pytest.mark.parametrize("written", [("tier",), (), ("steady", "tier")])
def test_written_stages_are_all_there_are(written):
    config, _ = load({"routing": {"stages": list(written)}}, env={}, catalog=WITH_STEADY)
    assert config.routing.stages == written


def test_stages_written_in_the_environment_are_written():
    config, _ = load("[routing]\nmax_attempts = 2", env={"NEXUS_ROUTING_STAGES": "tier"}, catalog=WITH_STEADY)
    assert config.routing.stages == ("tier",)


def test_a_standard_stage_that_asks_to_be_on_by_default_is_there_once():
    eager = replace(CATALOG, stages={**CATALOG.stages, "tier": replace(CATALOG.stages["tier"], default=True)})
    assert load("", env={}, catalog=eager)[0].routing.stages == STANDARD


def test_a_configuration_made_by_hand_has_the_same_stages():
    assert active_stages(RoutingConfig().stages, WITH_STEADY) == (*STANDARD, "steady")
    assert active_stages(RoutingConfig(stages=("tier",)).stages, WITH_STEADY) == ("tier",)
