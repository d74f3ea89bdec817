"""What a plugin's fault does to the judging of a configuration: it is told once, with its reason and the line of the module."""

import attrs
import pytest

from nexus.catalog import Package

from .config_cases import CATALOG, mistakes, only

USES = """
[routing]
stages = ["privacy", "tier", "{0}", "mine"]
[{0}]
x = 1
[mine]
y = 1
[[backends]]
name = "a"
type = "{0}"
url = "http://h"
[[backends]]
name = "b"
type = "qqq"
url = "http://h"
"""


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        (
            "cfg_no_import",
            {"cfg_no_import": "\nimport cfg_not_there\n"},
            "ModuleNotFoundError: No module named 'cfg_not_there' ({}/cfg_no_import.py:2)",
        ),
        ("cfg_syntax", {"cfg_syntax": "x = 1\ny = (\n"}, "SyntaxError: '(' was never closed ({}/cfg_syntax.py:2)"),
        ("cfg_raises", {"cfg_raises": "def f():\n    raise OSError('no')\n\nf()"}, "OSError: no ({0}/cfg_raises.py:2, called in {0}/cfg_raises.py:4)"),
        (
            "cfg_deep",
            {"cfg_deep": "import cfg_helper\n", "cfg_helper": "import sys\n1 / 0\n"},
            "ZeroDivisionError: division by zero ({0}/cfg_helper.py:2, called in {0}/cfg_deep.py:1)",
        ),
        ("cfg_nested", {"cfg_nested": "import cfg_odd\n", "cfg_odd": "\nx = =\n"}, "SyntaxError: invalid syntax ({0}/cfg_odd.py:2, called in {0}/cfg_nested.py:1)"),
        ("cfg_nowhere", {}, "ModuleNotFoundError: No module named 'cfg_nowhere'"),
        ("cfg_hook", {"cfg_hook": "from nexus.api import hookimpl\n\n@hookimpl\ndef nexus_stages():\n    return 1 / 0\n"}, "nexus_stages: ZeroDivisionError: division by zero ({}/cfg_hook.py:5)"),
    ],
)  # fmt: skip
def test_a_broken_module_is_told_once_however_often_it_is_missed(tmp_path, name, files, said):
    for module, text in files.items():
        (tmp_path / f"{module}.py").write_text(text)
    path = tmp_path / "nexus.toml"
    path.write_text(f"plugins = ['{name}']" + USES.format(name))
    place, message, near = only(path, catalog=None)
    assert (place, near) == ("plugins[0]", None)
    assert message == f"'{name}' cannot be used: {said.format(tmp_path)} (line 1)"


def test_a_broken_package_is_told_once_where_it_is_first_missed():
    package = Package(name="ollama", origin="entry point", distribution="nexus-proxy-ollama", problem="ImportError: no torch")
    broken = attrs.evolve(CATALOG, backends={}, packages=(package,))
    twice = 2 * "[[backends]]\nname = '{}'\ntype = 'ollama'\n"
    place, message, _ = only(twice.format("a", "b"), catalog=broken)
    assert place == "backends[0].type"
    assert message.startswith("backend type 'ollama' belongs to the package nexus-proxy-ollama, which cannot be used: ImportError")
    place, message, _ = only("[routing]\nstages = ['qqq']\n[xxx]\n", catalog=broken)
    assert message.startswith("there is no stage 'qqq'; the package nexus-proxy-ollama cannot be used: ImportError: no torch")


def test_a_policy_that_a_broken_package_would_enforce_says_so():
    package = Package(name="stages", origin="entry point", distribution="nexus-proxy-stages", problem="ImportError: no torch")
    bare = attrs.evolve(CATALOG, stages={"balance": CATALOG.stages["balance"]})
    policy = "[routing]\nstages = ['balance']\n[[policies]]\nmodels = ['m']\nzone = 'restricted'\nmin_tier = 2\n"
    _, message, _ = only(policy, catalog=attrs.evolve(bare, packages=(package,)))
    assert message.startswith("no active stage enforces it; the package nexus-proxy-stages cannot be used: ImportError: no torch")
    assert all("no installed stage does" in message for message, _ in mistakes(policy, catalog=bare).values())


def test_a_broken_module_hides_no_misspelt_word(tmp_path):
    (tmp_path / "cfg_bad.py").write_text("1 / 0")
    path = tmp_path / "nexus.toml"
    path.write_text("plugins = ['cfg_bad']\n[servre]\n[routing]\nstages = ['privcy']\n")
    assert set(mistakes(path, catalog=None)) == {"plugins[0]", "servre", "routing.stages[0]"}
