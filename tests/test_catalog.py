"""Plugins are found, asked once, and a bad one is kept with its reason.  Real distributions in a directory on sys.path."""

import importlib
import importlib.util
import re
import sys
import textwrap
import types

import attrs
import pytest

from nexus import hookspecs
from nexus.api import Dialect, DialectKind, NoOptions, ObserverKind, StageKind, hookimpl, opens
from nexus.catalog import BUILTIN, HOOKS, RESERVED, Catalog
from nexus.config.installed import PUBLISHED
from nexus.config.tables import OWN

STAGE = """
from nexus.api import Stage, StageKind, hookimpl, opens

@hookimpl
def nexus_stages():
    return [StageKind(name="{name}", open=opens(lambda o, s: Stage()))]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Install a module as a plugin package: `site(distribution, module, source)`; everything is gone afterwards."""
    directory = tmp_path / "site"
    directory.mkdir()
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.syspath_prepend(directory)

    def install(distribution, module, source, *, entry=None, version="1.2"):
        (directory / f"{module}.py").write_text(textwrap.dedent(source))
        info = directory / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[nexus.plugins]\n{entry or module} = {module}\n")
        importlib.invalidate_caches()

    yield install
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("cat_"):
            del sys.modules[name]


def package(catalog, name):
    (found,) = [p for p in catalog.packages if p.name == name]
    return found


def stage(name, options=NoOptions):
    return StageKind(name=name, open=opens(lambda o, s: None), options=options)


def plugin(**hooks):
    """An embedded plugin: an object whose functions are hooks."""
    module = types.ModuleType("cat_embedded")
    for name, function in hooks.items():
        function.__name__ = name
        setattr(module, name, hookimpl(function))
    return module


def problem(**hooks):
    return package(Catalog.load(extra=[plugin(**hooks)]), "cat_embedded").problem


# ---------------------------------------------------------------- finding


def test_an_installed_package_is_found_by_its_entry_point(site):
    site("nexus-proxy-cat-one", "cat_one", STAGE.format(name="cat-one"), entry="one")
    catalog = Catalog.load()
    found = package(catalog, "one")
    assert (found.distribution, found.version, found.origin) == ("nexus-proxy-cat-one", "1.2", "entry point")
    assert (found.provides, found.problem, found.disabled) == (("stage cat-one",), None, False)
    assert catalog.stages["cat-one"].name == "cat-one"
    assert catalog.package("nexus_proxy.cat-one") is found
    assert catalog.package("one") is found


def test_the_built_in_modules_come_first_then_packages_then_local_then_embedded(site, tmp_path):
    site("cat-b", "cat_b", STAGE.format(name="cat-b"))
    site("cat-a", "cat_a", STAGE.format(name="cat-a"))
    (tmp_path / "cat_local.py").write_text(STAGE.format(name="cat-local"))
    catalog = Catalog.load(["cat_local"], [plugin(nexus_stages=lambda: [stage("cat-embedded")])], path=tmp_path / "nexus.toml")
    order = [(p.name, p.origin) for p in catalog.packages if p.name.startswith("cat_") or p.origin == "built in"]
    assert order == [
        *((name, "built in") for name in BUILTIN),
        ("cat_a", "entry point"),
        ("cat_b", "entry point"),
        ("cat_local", "local module"),
        ("cat_embedded", "embedded"),
    ]
    assert {"cat-a", "cat-b", "cat-local", "cat-embedded"} <= set(catalog.stages)


def test_a_local_module_lies_beside_the_configuration_but_hides_nothing(tmp_path, site):
    (tmp_path / "cat_beside.py").write_text(STAGE.format(name="cat-beside"))
    (tmp_path / "this.py").write_text("")
    catalog = Catalog.load(["cat_beside"], path=tmp_path / "nexus.toml")
    assert package(catalog, "cat_beside").problem is None
    assert sys.path[-1] == str(tmp_path)
    assert not importlib.util.find_spec("this").origin.startswith(str(tmp_path))
    assert Catalog.load(["cat_beside"], path=tmp_path).stages["cat-beside"]
    assert sys.path.count(str(tmp_path)) == 1


def test_a_disabled_package_is_listed_and_never_imported(site):
    site("nexus-proxy-cat-off", "cat_off", "raise AssertionError('imported')", entry="off")
    for word in ("off", "nexus-proxy-cat-off", "Nexus_Proxy.cat_off"):
        found = package(Catalog.load(disabled=[word]), "off")
        assert found.disabled
        assert found.problem is None
        assert "cat_off" not in sys.modules


def test_what_is_given_twice_is_loaded_and_listed_once(site):
    site("cat-twice", "cat_twice", "CALLS = []\n" + STAGE.format(name="cat-twice") + "    CALLS.append(1)\n")
    module = importlib.import_module("cat_twice")
    catalog = Catalog.load(["cat_twice"], [module])
    assert package(catalog, "cat_twice").problem is None


def test_each_hook_is_called_once():
    calls = []

    def stages():
        calls.append(1)
        yield stage("cat-once")

    Catalog.load(extra=[plugin(nexus_stages=stages)])
    assert calls == [1]


def test_an_object_with_methods_is_a_plugin_too():
    class Embedded:
        @hookimpl
        def nexus_stages(self):
            return [stage("cat-object")]

    catalog = Catalog.load(extra=[Embedded()])
    assert "cat-object" in catalog.stages
    assert package(catalog, "Embedded").problem is None


def test_the_catalog_is_frozen():
    catalog = Catalog.load()
    with pytest.raises(TypeError):
        catalog.stages["x"] = None
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        catalog.packages = ()


# ---------------------------------------------------------------- what is broken


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import cat_no_such_module", "ModuleNotFoundError: No module named 'cat_no_such_module'"),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line second line"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: "),
        ("raise ValueError", "ValueError"),
    ],
)
def test_a_package_that_cannot_be_imported_is_kept_with_its_reason(site, source, reason):
    site("cat-broken", "cat_broken", source)
    site("cat-fine", "cat_fine", STAGE.format(name="cat-fine"))
    catalog = Catalog.load()
    found = package(catalog, "cat_broken")
    assert found.problem.startswith(reason)
    assert "\n" not in found.problem
    assert "Traceback" not in found.problem
    assert found in catalog.broken
    assert "cat-fine" in catalog.stages


def test_a_local_module_that_is_not_there(tmp_path, site):
    found = package(Catalog.load(["cat_nowhere"], path=tmp_path), "cat_nowhere")
    assert found.problem == "ModuleNotFoundError: No module named 'cat_nowhere'"


def test_a_hook_that_raises_costs_only_itself():
    def stages():
        yield stage("cat-before")
        raise KeyError("cat")

    catalog = Catalog.load(
        extra=[
            plugin(nexus_stages=stages, nexus_dialects=lambda: [DialectKind(name="cat-dialect", open=opens(lambda o, s: Dialect))])
        ]
    )
    found = package(catalog, "cat_embedded")
    assert re.fullmatch(rf"nexus_stages: KeyError: 'cat' \({re.escape(__file__)}:\d+\)", found.problem)
    assert set(found.provides) == {"stage cat-before", "dialect cat-dialect"}


async def _async_hook():
    return []


async def _async_generator():
    yield stage("cat")


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (lambda: ["cat"], "a stage is described by a StageKind, not by a str"),
        (lambda: [StageKind], "not by a type"),
        (lambda: [ObserverKind(name="cat", open=opens(lambda o, s: None))], "not by a ObserverKind"),
        (lambda: stage("cat"), "yields descriptors; this one gave a StageKind"),
        (lambda: "cat", "this one gave a str"),
        (lambda: 3, "this one gave a int"),
        (_async_hook, "this one gave a coroutine"),
        (_async_generator, "this one gave a async_generator"),
        (lambda: [stage("Cat!")], "lower-case letters"),
        (lambda: [stage("server")], "the core has a table of this name"),
        (lambda: [stage("cat", options=dict)], "options must be an attrs class"),
        (lambda: [stage("cat", options=NoOptions())], "options must be an attrs class"),
    ],
)
def test_what_is_no_descriptor(hook, reason):
    found = problem(nexus_stages=hook)
    assert found.startswith("nexus_stages: ")
    assert reason in found


def test_a_hook_with_nothing_to_give_is_fine():
    assert problem(nexus_stages=lambda: None) is None
    assert problem(nexus_stages=lambda: ()) is None


def test_a_hook_takes_no_arguments():
    assert "config" in problem(nexus_stages=lambda config: [])


def test_a_misspelt_hook_is_reported_with_the_nearest_name():
    found = package(Catalog.load(extra=[plugin(nexus_backend=lambda: [], nexus_stages=lambda: [stage("cat")])]), "cat_embedded")
    assert found.problem == "there is no hook nexus_backend (did you mean 'nexus_backends'?)"
    assert found.provides == ("stage cat",)


def test_a_hook_without_its_mark_is_reported():
    module = types.ModuleType("cat_plain")
    module.nexus_stages = lambda: [stage("cat-plain")]
    catalog = Catalog.load(extra=[module])
    assert "not marked with @hookimpl" in package(catalog, "cat_plain").problem
    assert "cat-plain" not in catalog.stages


def test_a_module_without_hooks_is_reported():
    assert "answers no hook" in package(Catalog.load(extra=[types.ModuleType("cat_empty")]), "cat_empty").problem


def test_the_first_of_two_equal_names_keeps_it(site):
    site("cat-first", "cat_first", STAGE.format(name="cat-same"))
    site("cat-second", "cat_second", STAGE.format(name="cat-same"))
    catalog = Catalog.load()
    first, second = package(catalog, "cat_first"), package(catalog, "cat_second")
    assert (first.problem, first.provides, second.provides) == (None, ("stage cat-same",), ())
    assert "'cat-same'" in second.problem
    assert "cat-first" in second.problem
    assert "cat-second" in second.problem


def test_two_packages_may_have_the_same_entry_point_name(site):
    site("cat-left", "cat_left", STAGE.format(name="cat-left"), entry="cat_same")
    site("cat-right", "cat_right", STAGE.format(name="cat-right"), entry="cat_same")
    assert {"cat-left", "cat-right"} <= set(Catalog.load().stages)


def test_one_name_has_one_table_and_so_one_options_class():
    @attrs.frozen
    class One:
        x: int = 1

    @attrs.frozen
    class Other:
        x: int = 1

    def observer(options):
        return ObserverKind(name="cat-shared", open=opens(lambda o, s: None), options=options)

    shared = {"nexus_stages": lambda: [stage("cat-shared", One)], "nexus_observers": lambda: [observer(One)]}
    assert problem(**shared) is None
    assert problem(**shared | {"nexus_observers": lambda: [observer(NoOptions)]}) is None
    assert "the table [cat-shared] already belongs to" in problem(**shared | {"nexus_observers": lambda: [observer(Other)]})


# ---------------------------------------------------------------- what must agree


def test_the_hooks_asked_are_the_hooks_specified():
    specified = {name for name in vars(hookspecs) if name.startswith("nexus_")}
    assert set(HOOKS) == specified
    assert {hook.removeprefix("nexus_") for hook in HOOKS} == {f.name for f in attrs.fields(Catalog)} - {"packages"}


def test_the_reserved_names_are_the_core_tables():
    assert set(RESERVED) == set(OWN)


def test_the_projects_own_packages_are_known_by_what_they_provide():
    """Whatever of them is installed here."""
    words = {"stage", "backend", "observer"}
    for found in Catalog.load().packages:
        if found.distribution in PUBLISHED.values() and not found.problem:
            given = {name for word, name in (line.split() for line in found.provides) if word in words}
            assert {PUBLISHED.get(name) for name in given} == {found.distribution}, found
