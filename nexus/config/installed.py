"""Words of the file that stand for installed things: backend types, stages, sources.  Says what to install or mend where one is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from nexus.catalog import LOCAL, Catalog, Package
from nexus.config.mistakes import Mistakes, nearest, shown
from nexus.config.written import Names

# What the project itself publishes, so that a missing word can be answered with what to install.
STAGES = "nexus-proxy-stages"
SERVERS = "nexus-proxy-openai"
PUBLISHED = {
    "privacy": STAGES,
    "budget": STAGES,
    "tier": STAGES,
    "capability": STAGES,
    "balance": STAGES,
    "prefix": "nexus-proxy-prefix",
    "metrics": "nexus-proxy-metrics",
    "anthropic": "nexus-proxy-anthropic",
    "ollama": "nexus-proxy-ollama",
    "llamacpp": "nexus-proxy-llamacpp",
    "vllm": "nexus-proxy-vllm",
    "openai": SERVERS,
    "openai-compatible": SERVERS,
    "localai": SERVERS,
    "llamafile": SERVERS,
    "llamaswap": SERVERS,
    "litellm": SERVERS,
    "rayserve": SERVERS,
    "transformers": SERVERS,
    "mlx": SERVERS,
}

# place of a list → what its names stand for
WHERE: Mapping[str, Callable[[Catalog], tuple[str, Mapping[str, object]]]] = {
    "routing.stages": lambda catalog: ("stage", catalog.stages),
    "discovery.sources": lambda catalog: ("source", catalog.sources),
}


def missing(place: str, what: str, name: str, known: Collection[str], catalog: Catalog, mistakes: Mistakes) -> None:
    """`name` is no installed `what`.  Says the most likely reason first."""
    package = _home(name, catalog)
    near = nearest(name, {*known, *_published(what)})
    if package and package.disabled:
        mistakes.add(place, f"{what} {shown(name)} belongs to {_title(package)}, which is in `disabled`")
    elif package and package.problem:
        if mistakes.once([package]):
            mistakes.add(place, f"{what} {shown(name)} belongs to {_title(package)}, which cannot be used: {package.problem}")
    elif name in PUBLISHED and not package:
        mistakes.add(place, f"{what} {shown(name)} is not installed: pip install {PUBLISHED[name]}")
    elif near or not suspected(place, f"there is no {what} {shown(name)}", catalog, mistakes):
        mistakes.add(place, f"there is no {what} {shown(name)}", near)


def suspected(place: str, message: str, catalog: Catalog, mistakes: Mistakes) -> bool:
    """Whether what is missing may be that of a package which cannot be used.  Each of these is told once, where it is first missed:
    what else is missing cannot be judged before it is mended."""
    suspects = [p for p in catalog.broken if not p.provides]
    new = [p for p in suspects if mistakes.once([p])]
    if new:
        mistakes.add(place, message + "".join(f"; {_title(p)} cannot be used: {p.problem}" for p in new))
    return bool(suspects)


def all_there(place: str, names: Names, catalog: Catalog, mistakes: Mistakes) -> None:
    """`names` are those of the stages, or sources, asked for at `place`: each once, and installed."""
    what, known = WHERE[place](catalog)
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            mistakes.add(f"{place}[{index}]", f"{shown(name)} is there twice")
        elif name is not None and name not in known:
            missing(f"{place}[{index}]", what, name, known, catalog, mistakes)


def check_packages(plugins: Collection[str], disabled: Collection[str], catalog: Catalog, mistakes: Mistakes) -> None:
    """Local modules named in the file must be sound; `disabled` must name packages that are there."""
    for index, name in enumerate(plugins):
        package = next((p for p in catalog.packages if p.name == name and p.origin == LOCAL), None)
        if package and package.problem and mistakes.once([package]):
            mistakes.add(f"plugins[{index}]", f"{shown(name)} cannot be used: {package.problem}")
    for index, name in enumerate(disabled):
        if not any(p.disabled and p.called(name) for p in catalog.packages):
            names = [n for p in catalog.packages if p.distribution for n in (p.name, p.distribution)]
            mistakes.add(f"disabled[{index}]", f"no plugin package {shown(name)} is installed", nearest(name, names))


def _home(name: str, catalog: Catalog) -> Package | None:
    """The package that would give `name`, going by names."""
    wanted = PUBLISHED.get(name, name)
    return catalog.package(wanted) or catalog.package(name)


def _published(what: str) -> set[str]:
    staged = {name for name, home in PUBLISHED.items() if home == STAGES} | {"prefix"}
    return staged if what == "stage" else set(PUBLISHED) - staged - {"metrics"} if what == "backend type" else set()


def _title(package: Package) -> str:
    return f"the package {package.distribution or package.name}"
