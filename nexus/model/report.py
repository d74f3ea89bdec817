"""What servers and sources say of themselves.  What is made of it is the fleet's."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nexus.model.tokens import Price
from nexus.model.words import EMPTY, State


@attrs.frozen(kw_only=True)
class Model:
    """What a server says of one of its models.

    `failed` says that its last load did: it may be asked for, after others.  `aliases` are further ids by which the server itself knows it.  `max_output_tokens` is the most it writes in one answer.
    `remote` says that the server forwards the model to somebody else, `evidence` by what that was seen.  `capacity` is how many
    requests for it are served at once, `digest` what its contents are known by: entries of one digest are one model in memory, and
    share its slots.  Both matter where a kind's `slots` are not the server's.
    """

    id: str
    aliases: tuple[str, ...] = ()
    offers: Mapping[str, bool] = EMPTY
    context: int | None = None
    context_max: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    state: State = State.UNKNOWN
    eta: float | None = None
    failed: bool = False
    remote: bool = False
    evidence: str = ""
    speaks: frozenset[tuple[str, str]] = frozenset()
    takes_usage: bool = False
    capacity: int | None = None
    digest: str = ""


MOST_MODELS = 10_000  # of one server: more would take longer than anybody may wait for a turn of the loop


@attrs.frozen(kw_only=True)
class Report:
    """What a probe saw.  `ok` false is a server that is down or refuses us: `code` and `problem` say how, for people.

    `models` None means "unchanged": the server answered, its list did not; of more than MOST_MODELS the first are used.  One
    whose id no request can ask for (empty, longer than 512 characters, on several lines, with half a character) is left out.
    `capacity` is how many requests it serves at once, of all models together, `load` how many it says are running or waiting, `eta` the seconds until it can serve.
    """

    ok: bool
    models: tuple[Model, ...] | None = None
    code: str = ""
    problem: str = ""
    version: str = ""
    capacity: int | None = None
    load: int | None = None
    eta: float | None = None


@attrs.frozen(kw_only=True)
class Sighting:
    """What a source found or lost.  `kind` None asks the gateway to fingerprint the server."""

    url: str
    found: bool = True
    kind: str | None = None
    name: str | None = None
    source: str = ""
    evidence: str = ""
