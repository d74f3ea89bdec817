"""Finds plugins, asks each its hooks once, and keeps what broke with its reason.  Only home of the pluggy manager and of
importlib.metadata.  Whether a broken package matters is not decided here: the configuration knows what it needs.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from nexus import hookspecs
from nexus.api import EMPTY, BackendKind, DialectKind, NoOptions, ObserverKind, RoutesKind, SourceKind, StageKind
from nexus.nearest import nearest
from nexus.overriding import misspelt

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILTIN = ("nexus.builtin",)
GROUP = "nexus.plugins"
BUILT_IN, ENTRY_POINT, LOCAL, EMBEDDED = "built in", "entry point", "local module", "embedded"

# hook → the word for one of its descriptors, and their class
HOOKS: Mapping[str, tuple[str, type]] = {
    "nexus_backends": ("backend", BackendKind),
    "nexus_stages": ("stage", StageKind),
    "nexus_dialects": ("dialect", DialectKind),
    "nexus_sources": ("source", SourceKind),
    "nexus_observers": ("observer", ObserverKind),
    "nexus_routes": ("routes", RoutesKind),
}
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
IMPORTING = (str(Path(importlib.__file__).parent), __file__)  # whose lines say nothing of a plugin
# A component's table carries its name, so no component may be called like one of the core's own tables and keys.
RESERVED = frozenset(
    (
        "plugins",
        "disabled",
        "server",
        "upstream",
        "health",
        "discovery",
        "routing",
        "translation",
        "policies",
        "queue",
        "backends",
        "keys",
    )
)


@attrs.frozen(kw_only=True)
class Package:
    """One plugin, loaded or not.  `provides` are lines such as "backend ollama"; `problem` says what is wrong with it, `warnings`
    what is allowed but cannot be meant."""

    name: str
    origin: str
    distribution: str | None = None
    version: str | None = None
    provides: tuple[str, ...] = ()
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    disabled: bool = False

    def called(self, name: str) -> bool:
        """Whether somebody who writes `name` means this package: its own name or its distribution's."""
        return name == self.name or (self.distribution is not None and _normal(name) == _normal(self.distribution))


@attrs.frozen(kw_only=True)
class Catalog:
    """What is installed: descriptors by name, and the packages that they came from."""

    backends: Mapping[str, BackendKind] = EMPTY
    stages: Mapping[str, StageKind] = EMPTY
    dialects: Mapping[str, DialectKind] = EMPTY
    sources: Mapping[str, SourceKind] = EMPTY
    observers: Mapping[str, ObserverKind] = EMPTY
    routes: Mapping[str, RoutesKind] = EMPTY
    packages: tuple[Package, ...] = ()

    @classmethod
    def load(
        cls,
        modules: Sequence[str] = (),
        extra: Sequence[object] = (),
        disabled: Sequence[str] = (),
        path: Path | None = None,
    ) -> Catalog:
        """Load the built-in modules, the installed plugin packages less those `disabled`, the local `modules` (found on sys.path
        or in the directory of the configuration file `path`), then `extra` modules or objects with hookimpls.

        Never raises for a plugin's fault: a package that cannot be used is in `packages` with its `problem`.
        """
        loader = _Loader()
        for name in BUILTIN:
            loader.add(Package(name=name, origin=BUILT_IN), functools.partial(importlib.import_module, name))
        for point in _entry_points():
            package = _installed(point)
            skip = any(package.called(name) for name in disabled)
            loader.add(attrs.evolve(package, disabled=skip), point.load)
        if path is not None and modules:
            _findable(path)
        for name in modules:
            loader.add(Package(name=name, origin=LOCAL), functools.partial(importlib.import_module, name))
        for thing in extra:
            loader.add(Package(name=_name_of(thing), origin=EMBEDDED), functools.partial(_itself, thing))
        return cls(packages=tuple(loader.packages), **loader.kinds())

    def package(self, name: str) -> Package | None:
        """The package called so, by its own name or its distribution's."""
        return next((p for p in self.packages if p.called(name)), None)

    @property
    def broken(self) -> tuple[Package, ...]:
        """Packages that something is wrong with."""
        return tuple(p for p in self.packages if p.problem)


class _Loader:
    """One loading: the pluggy manager, and what was found so far.  Nothing of it outlives `Catalog.load`."""

    def __init__(self) -> None:
        self.packages: list[Package] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._found: dict[str, dict[str, Any]] = {hook: {} for hook in HOOKS}
        self._owner: dict[tuple[str, str], Package] = {}
        self._options: dict[str, tuple[type, Package]] = {}

    def add(self, package: Package, load: Callable[[], object]) -> None:
        """Load one package and ask it everything.  What was loaded before under another name is not listed again."""
        if package.disabled:
            self.packages.append(package)
            return
        try:
            plugin = load()
        except (Exception, SystemExit) as error:
            self.packages.append(attrs.evolve(package, problem=_reason(error)))
            return
        if self._manager.is_registered(plugin):
            return
        provides: list[str] = []
        self._warnings: list[str] = []
        problems = "; ".join(self._register(plugin, package, provides)) or None
        warnings = tuple(dict.fromkeys(self._warnings))
        self.packages.append(attrs.evolve(package, provides=tuple(provides), problem=problems, warnings=warnings))

    def kinds(self) -> dict[str, Any]:
        """The arguments of `Catalog`: `nexus_backends` is what `backends` holds."""
        return {hook.removeprefix("nexus_"): MappingProxyType(found) for hook, found in self._found.items()}

    def _register(self, plugin: object, package: Package, provides: list[str]) -> Iterator[str]:
        """Register and ask; yields problems, and adds to `provides` what is good."""
        try:
            self._manager.register(plugin, name=f"{package.origin} {package.name} {len(self.packages)}")
        except Exception as error:
            yield _first_line(error)
            return
        callers = self._manager.get_hookcallers(plugin) or []
        yield from _misspelt(plugin, [c.name for c in callers if not c.has_spec()])
        if not callers:
            yield "it answers no hook: mark functions such as nexus_stages with @hookimpl"
        for caller in callers:
            for impl in caller.get_hookimpls() if caller.has_spec() else ():
                if impl.plugin is plugin:
                    yield from self._ask(caller.name, impl.function, package, provides)

    def _ask(self, hook: str, function: Callable[[], object], package: Package, provides: list[str]) -> Iterator[str]:
        """Call one hook, once."""
        try:
            for descriptor in _several(function()):
                problem = self._keep(hook, descriptor, package)
                if problem:
                    yield f"{hook}: {problem}"
                else:
                    provides.append(f"{HOOKS[hook][0]} {descriptor.name}")
        except (Exception, SystemExit) as error:
            yield f"{hook}: {_reason(error)}"

    def _keep(self, hook: str, descriptor: Any, package: Package) -> str | None:
        """Keep a good descriptor; otherwise say what is wrong with it."""
        word, wanted = HOOKS[hook]
        problem = _unusable(descriptor, wanted, word)
        if problem:
            return problem
        name = descriptor.name
        owner = self._owner.setdefault((hook, name), package)
        if name in self._found[hook]:
            return f"{word} {name!r} is already given by {_known_as(owner)}, so that of {_known_as(package)} is not used"
        if hook != "nexus_backends" and (clash := self._other_options(name, descriptor.options, package)):
            return clash
        self._found[hook][name] = descriptor
        self._warnings += misspelt(getattr(descriptor.open, "makes", None))
        return None

    def _other_options(self, name: str, options: type, package: Package) -> str | None:
        """Components of one name share one table, so they must share one options class."""
        if options is NoOptions:
            return None
        first, owner = self._options.setdefault(name, (options, package))
        if first is options:
            return None
        return f"the table [{name}] already belongs to {_known_as(owner)}, with other options than those of {_known_as(package)}"


# ---------------------------------------------------------------- finding


def _entry_points() -> list[EntryPoint]:
    """In an order that does not hang on the file system."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def _installed(point: EntryPoint) -> Package:
    dist = point.dist
    return Package(
        name=point.name, origin=ENTRY_POINT, distribution=dist.name if dist else None, version=dist.version if dist else None
    )


def _findable(path: Path) -> None:
    """At the end of sys.path, so that no file beside the configuration can stand in for an installed module; for good, since a
    plugin may import its neighbours when it opens."""
    directory = str((path if path.is_dir() else path.parent).resolve())
    if directory not in sys.path:
        sys.path.append(directory)
        importlib.invalidate_caches()


def _itself(thing: object) -> object:
    return thing


def _name_of(thing: object) -> str:
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _known_as(package: Package) -> str:
    return f"{package.distribution or package.name!r} ({package.origin})" if package.distribution else repr(package.name)


# ---------------------------------------------------------------- what can be wrong


def _reason(error: BaseException) -> str:
    """Type and message, on one line, and where it was raised, for people."""
    message = error.msg if isinstance(error, SyntaxError) else _first_line(error)
    return f"{type(error).__name__}: {message}".removesuffix(": ") + _where(error)


def _where(error: BaseException) -> str:
    """The lines of files in which a plugin's code was: where it failed, and where it called that."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    lines = [f"{f.filename}:{f.lineno}" for f in frames if not f.filename.startswith(IMPORTING)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"{error.filename}:{error.lineno}")
    shown = dict.fromkeys(lines[-1:] + lines[:1])
    return f" ({', called in '.join(shown)})" if shown else ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:500]


def _misspelt(plugin: object, unknown: Iterable[str]) -> Iterator[str]:
    """Hooks that nobody asks: unknown names, and known ones without the mark."""
    for name in unknown:
        near = nearest(name, HOOKS)
        yield f"there is no hook {name}" + (f" (did you mean {near[0]!r}?)" if near else "")
    for name in HOOKS:
        function = inspect.getattr_static(plugin, name, None)
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function) and not hasattr(function, f"{hookspecs.PROJECT}_impl"):
            yield f"{name} is not marked with @hookimpl, so it is not asked"


def _several(answer: object) -> Iterable[Any]:
    """What a hook gave, as something to go through.  Raises TypeError that says what it should have been."""
    if inspect.iscoroutine(answer):
        answer.close()
    if answer is None:
        return ()
    if not isinstance(answer, Iterable) or isinstance(answer, (str, bytes, Mapping)):
        raise TypeError(f"a hook is a plain function that yields descriptors; this one gave a {type(answer).__name__}")
    return answer


def _unusable(descriptor: Any, wanted: type, word: str) -> str | None:
    if not isinstance(descriptor, wanted):
        return f"a {word} is described by a {wanted.__name__}, not by a {type(descriptor).__name__}"
    kind: Any = descriptor
    if not isinstance(kind.name, str) or not NAME.fullmatch(kind.name):
        return f"{word} {kind.name!r}: a name is made of lower-case letters, digits, - and _"
    if word != "backend" and kind.name in RESERVED:
        return f"{word} {kind.name!r}: the core has a table of this name"
    if word == "backend" and kind.name == "auto":
        return "backend 'auto': this word asks for recognition by fingerprint"
    if not isinstance(kind.options, type) or not attrs.has(kind.options):
        return f"{word} {kind.name!r}: its options must be an attrs class"
    return None
