"""Which names a client may ask for, and what lists tell of each.  Made anew where the fleet has changed, a few in a turn of the loop; what
a key may not see is left out for its own list alone.  The form is the dialect's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from nexus.api import Dialect, ModelEntry
from nexus.aside import aside
from nexus.fleet import Fleet
from nexus.model import Health
from nexus.names import Names, matcher
from nexus.pairs import Pair, Standing
from nexus.policies import keep
from nexus.slices import lazily_in_slices

EVERYTHING = ("*",)
MANY_ENTRIES = 4096  # which are better written aside
KEPT = 8  # lists that were written out; keys may have thousands of different ones


class _Gathered:
    """What is known of one name by now."""

    __slots__ = ("backends", "capabilities", "cloud", "context", "denied")

    def __init__(self) -> None:
        self.context: int | None = None
        self.capabilities: set[str] = set()
        self.denied: set[str] = set()
        self.cloud = True
        self.backends: dict[str, None] = {}

    def add(self, pair: Pair, standing: Standing) -> None:
        model = pair.model
        if model.context is not None and (self.context is None or model.context > self.context):
            self.context = model.context
        for need, offered in model.offers.items():
            (self.capabilities if offered else self.denied).add(need)
        self.cloud = self.cloud and (standing.member.cloud or model.remote)
        self.backends[standing.member.name] = None


class Served:
    """The models and aliases that a healthy backend serves; `created` is told of each."""

    def __init__(self, fleet: Fleet, names: Names, created: int) -> None:
        self._fleet = fleet
        self._names = names
        self._created = created
        self._making = asyncio.Lock()
        self._entries: dict[str, ModelEntry] = {}
        self._revision = -1  # of the fleet, when these were made
        self._written: dict[tuple[str, tuple[str, ...]], bytes] = {}

    async def find(self, name: str, globs: tuple[str, ...] = EVERYTHING) -> ModelEntry | None:
        """What is told of one name, or of the model that a backend takes it for; None where nobody serves it, or the globs do not open
        it."""
        entries, allowed = await self.entries(), matcher(globs)
        named = (name, *(pair.name for pair, _ in self._fleet.find(name)))
        return next((entries[known] for known in named if known in entries and allowed(known)), None)

    async def entries(self) -> Mapping[str, ModelEntry]:
        """All of them, by name."""
        if self._revision != self._fleet.revision:
            async with self._making:
                await self._renewed()
        return self._entries

    async def written(self, dialect: Dialect, globs: tuple[str, ...], query: Mapping[str, str]) -> bytes:
        """The list of what the globs open, in the form of the dialect.  Raises Problem (400) where it does not understand the query."""
        entries, revision, key = await self.entries(), self._revision, (dialect.name, globs)
        known = None if query else self._written.get(key)
        if known is None:
            asked = (dialect, entries, globs, dict(query))
            known = _write(*asked) if len(entries) < MANY_ENTRIES else await aside(_write, *asked)
            if not query and revision == self._revision:
                keep(self._written, key, known, KEPT)
        return known

    async def _renewed(self) -> None:
        revision = self._fleet.revision
        if self._revision == revision:  # somebody else was first
            return
        gathered: dict[str, _Gathered] = {}
        entries: dict[str, ModelEntry] = {}

        def gather(known: tuple[str, Pair, Standing]) -> None:
            name, pair, standing = known
            if standing.pulse.health is Health.HEALTHY:
                (gathered.get(name) or gathered.setdefault(name, _Gathered())).add(pair, standing)

        def enter(item: tuple[str, _Gathered]) -> None:
            entries[item[0]] = self._entry(*item)

        await lazily_in_slices(self._known(), gather)
        await lazily_in_slices(gathered.items(), enter)
        self._entries, self._revision = entries, revision
        self._written.clear()

    def _known(self) -> Iterator[tuple[str, Pair, Standing]]:
        """Each pair by the name that a list has for it; backends may come and go meanwhile."""
        aliases = self._names.aliases
        for standing in tuple(self._fleet.standings.values()):
            for pair in tuple(standing.pairs.values()):
                if pair.name not in aliases:
                    yield pair.name, pair, standing
        for alias in aliases:
            for id in self._names.legs(alias, strict=True, flexible=False)[0].ids:
                for pair, standing in tuple(self._fleet.find(id)):
                    yield alias, pair, standing

    def _entry(self, name: str, known: _Gathered) -> ModelEntry:
        return ModelEntry(
            name=name,
            context=known.context,
            capabilities=tuple(sorted(known.capabilities)),
            backends=tuple(known.backends),
            created=self._created,
            lacks=tuple(sorted(known.denied - known.capabilities)),
            cloud=known.cloud,
        )


def _write(dialect: Dialect, entries: Mapping[str, ModelEntry], globs: tuple[str, ...], query: Mapping[str, str]) -> bytes:
    opened: Iterable[ModelEntry] = entries.values()
    if "*" not in globs:
        allowed = matcher(globs)
        opened = [entry for name, entry in entries.items() if allowed(name)]
    return dialect.models(opened, query)
