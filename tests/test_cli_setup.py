"""check, plugins, config init, keys new, completion, --help, --version: commands that need no gateway."""

import re
import tomllib

import pytest
from rich.console import Console

from nexus import __version__
from nexus.cli import tables
from nexus.cli.tables import widths
from nexus.config import load
from nexus.keys import hash_key

from .cli_process import nexus

FULL = """
[server]
port = 7000
[routing.aliases]
"gpt-4o" = "tiny"
[routing.fallbacks]
tiny = ["other"]
[[policies]]
models = ["medical-*"]
zone = "restricted"
min_tier = 2
[[backends]]
name = "gpu"
type = "ollama"
url = "http://127.0.0.1:11434"
zone = "restricted"
api_key_env = "GPU_KEY"
"""
SECRET = "sk-a-very-secret-key"


# ---------------------------------------------------------------- check


async def test_check_without_a_file(tmp_path):
    ended = await nexus("check", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "configuration is fine"
    assert "none: all defaults" in ended.out


async def test_check_sums_up_what_the_file_says(tmp_path):
    (tmp_path / "mine.toml").write_text(FULL, encoding="utf-8")
    env = {"GPU_KEY": SECRET}
    text = (await nexus("check", "-c", "mine.toml", cwd=tmp_path, env=env)).out
    for said in (
        str(tmp_path / "mine.toml"),
        "127.0.0.1:7000",
        "gpu (ollama, restricted)",
        "gpt-4o → tiny",
        "tiny → other",
        "medical-*: zone restricted and tier ≥ 2",
        "privacy → budget → tier → capability → balance",
    ):
        assert said in text
    as_json = await nexus("check", "--json", cwd=tmp_path, env={**env, "NEXUS_CONFIG": "mine.toml"})
    assert as_json.json["ok"] is True
    assert as_json.json["backends"] == [{"name": "gpu", "type": "ollama", "zone": "restricted"}]
    assert SECRET not in text + as_json.out


async def test_check_lists_every_mistake(tmp_path):
    (tmp_path / "nexus.toml").write_text(FULL.replace("port", "prot").replace('"ollama"', '"olama"'), encoding="utf-8")
    ended = await nexus("check", cwd=tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert f"the configuration {tmp_path / 'nexus.toml'} has 2 mistakes:" in ended.err
    assert "did you mean 'port'?" in ended.err
    assert "did you mean 'ollama'?" in ended.err
    as_json = await nexus("check", "--json", cwd=tmp_path)
    assert as_json.code == 1
    assert as_json.json["ok"] is False
    assert [m["nearest"] for m in as_json.json["mistakes"]] == ["port", "ollama"]


async def test_an_unknown_table_has_its_line_and_a_file_that_is_no_toml_its_name(tmp_path):
    (tmp_path / "nexus.toml").write_text('[[bakends]]\nname = "x"\n[serverr.x]\na = 1\n', encoding="utf-8")
    _, first, second = (await nexus("check", cwd=tmp_path)).err.splitlines()
    assert first == "  bakends: there is no such table (line 1) (did you mean 'backends'?)"
    assert second == "  serverr: there is no such table (line 3) (did you mean 'server'?)"
    (tmp_path / "nexus.toml").write_text("[server\n", encoding="utf-8")
    head, _ = (await nexus("check", cwd=tmp_path)).err.splitlines()
    assert head == f"nexus: the configuration {tmp_path / 'nexus.toml'} has 1 mistake:"


async def test_check_opens_nothing(tmp_path):
    await nexus("check", cwd=tmp_path, env={"NEXUS_SERVER_STATE_DIR": str(tmp_path / "state")})
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- plugins


async def test_plugins_lists_packages_and_what_they_give(tmp_path):
    ended = await nexus("plugins", cwd=tmp_path)
    assert ended.code == 0
    stages = next(line for line in ended.out.splitlines() if line.startswith("nexus-proxy-stages"))
    assert "entry point" in stages
    assert "stage privacy, stage budget" in stages
    assert all(line == line.rstrip() for line in ended.out.splitlines())
    listed = {p["name"]: p for p in (await nexus("plugins", "--json", cwd=tmp_path)).json["plugins"]}
    assert "dialect openai" in listed["nexus.builtin"]["provides"]


async def test_plugins_tells_what_is_wrong_with_a_local_module(tmp_path):
    (tmp_path / "nexus.toml").write_text('plugins = ["my_stages"]\n', encoding="utf-8")
    (tmp_path / "my_stages.py").write_text("import nonesuch\n", encoding="utf-8")
    ended = await nexus("plugins", cwd=tmp_path)
    assert ended.code == 0
    assert "No module named 'nonesuch'" in ended.out


ROWS = [
    ("meta-llama/Llama-3.3-70B-Instruct", "gaming-pc", "restricted", "8k of 128k", "chat, tools, json_schema, vision"),
    ("hf.co/bartowski/Qwen2.5-Coder-32B-Instruct-GGUF:Q4_K_M-with-a-tail-that-no-line-holds", "ollama", "open", "", "chat"),
]


@pytest.mark.parametrize("columns", [60, 80, 100, 130, 200])
def test_what_people_copy_is_neither_cut_nor_wrapped(columns, monkeypatch, capsys):
    monkeypatch.setattr(tables, "console", lambda: Console(width=columns, force_terminal=True, no_color=True, highlight=False))
    tables.show_table(("Model", "Backend", "Zone", "Context", "Can"), ROWS, ids=2)
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    for model, backend, *_ in ROWS:
        assert any(model in line.split() for line in shown), shown
        assert any(backend in line.split() for line in shown), shown
    assert all(len(line) <= columns for line in shown if not line.startswith("hf.co/")), shown


@pytest.mark.parametrize("room", [40, 59, 80, 200])
def test_a_list_is_never_broken_before_its_comma_while_names_can_give_way(room):
    columns = [["Model", "meta-llama/Llama-3.1-8B-Instruct"], ["State", "ready"], ["Can", "chat, completion, json_schema, tools"]]
    given = widths(columns, room)
    assert sum(given) <= room
    assert given[2] >= len("json_schema,")
    assert given[1] == len("ready")


# ---------------------------------------------------------------- config init, keys new


async def test_config_init_writes_a_file_that_is_fine_and_keeps_what_is_there(tmp_path):
    assert (await nexus("config", "init", cwd=tmp_path)).code == 0
    assert (await nexus("check", cwd=tmp_path)).code == 0
    (tmp_path / "nexus.toml").write_text("# mine\n", encoding="utf-8")
    again = await nexus("config", "init", cwd=tmp_path)
    assert (again.code, again.err) == (1, "nexus: nexus.toml is there already; --force overwrites it\n")
    assert (tmp_path / "nexus.toml").read_text(encoding="utf-8") == "# mine\n"
    forced = await nexus("config", "init", "--force", "--json", cwd=tmp_path)
    assert forced.json == {"written": "nexus.toml"}
    assert "[server]" in (tmp_path / "nexus.toml").read_text(encoding="utf-8")


async def test_config_init_where_it_cannot_write(tmp_path):
    ended = await nexus("config", "init", "absent/nexus.toml", cwd=tmp_path)
    assert ended.code == 1
    assert "cannot be written: No such file or directory" in ended.err


async def test_keys_new_prints_a_key_once_and_a_table_without_it(tmp_path):
    args = ("keys", "new", "laptop", "--admin", "--models", "llama*", "--models", "qwen*", "--priority", "high")
    ended = await nexus(*args, cwd=tmp_path)
    assert ended.code == 0
    key = next(line.strip() for line in ended.err.splitlines() if line.strip().startswith("nx-"))
    assert key not in ended.out
    assert "was written to stdout" in ended.err
    assert "Add this" not in ended.err
    config, _ = load(ended.out, env={})
    assert config.keys[0].hash == hash_key(key)
    assert (config.keys[0].name, config.keys[0].admin, config.keys[0].priority) == ("laptop", True, "high")
    assert config.keys[0].models == ("llama*", "qwen*")


async def test_a_table_can_be_appended_to_a_file_without_a_final_newline(tmp_path):
    ended = await nexus("keys", "new", "a", cwd=tmp_path)
    config, _ = load("[server]\nport = 7000" + ended.out, env={})
    assert (config.server.port, config.keys[0].name) == (7000, "a")


async def test_a_backend_without_its_key_is_a_warning_of_check(tmp_path):
    (tmp_path / "nexus.toml").write_text(FULL, encoding="utf-8")
    ended = await nexus("check", cwd=tmp_path)
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == [
        "configuration is fine, with 1 warning",
        "  gpu cannot be used: the variable GPU_KEY is not set",
    ]


async def test_keys_new_as_json(tmp_path):
    first = (await nexus("keys", "new", "a", "--json", cwd=tmp_path)).json
    assert first["hash"] == hash_key(first["key"])
    assert tomllib.loads(first["toml"]) == {"keys": [{"name": "a", "hash": first["hash"]}]}
    assert first["key"] not in first["toml"]


async def test_keys_new_refuses_a_name_that_no_header_could_carry(tmp_path):
    ended = await nexus("keys", "new", "my laptop", cwd=tmp_path)
    assert ended.code == 2
    assert "letters, digits" in ended.err


# ---------------------------------------------------------------- help, version, completion


async def test_version(tmp_path):
    assert (await nexus("--version", cwd=tmp_path)).out == f"nexus {__version__}\n"


async def test_an_unknown_command_is_wrong_usage(tmp_path):
    ended = await nexus("explian", cwd=tmp_path)
    assert ended.code == 2
    assert "No such command 'explian'; did you mean 'explain'?" in ended.err
    assert "nexus --help" in (await nexus("qqq", cwd=tmp_path)).err


@pytest.mark.parametrize(
    ("shell", "part"), [("bash", "complete -o nosort"), ("zsh", "#compdef nexus"), ("fish", "complete --no-files")]
)
async def test_completion_prints_a_script(tmp_path, shell, part):
    ended = await nexus("completion", shell, cwd=tmp_path)
    assert ended.code == 0
    assert part in ended.out
    assert "_NEXUS_COMPLETE" in ended.out


async def test_completion_answers_the_shell(tmp_path):
    env = {"_NEXUS_COMPLETE": "zsh_complete", "COMP_WORDS": "nexus expl", "COMP_CWORD": "1"}
    assert "explain" in (await nexus(cwd=tmp_path, env=env)).out
