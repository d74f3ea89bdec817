"""How a kind of server is recognised.  Who looks is in `nexus.discovery`."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Check:
    """One observation that a fingerprint rests on: GET `path` answers `status`, and where given its JSON body has the dotted
    key `json` (`data.0.max_model_len`), its body contains `text`, its header `header` exists; `name: beginning` also says how its value
    begins."""

    path: str
    status: int = 200
    json: str | None = None
    text: str | None = None
    header: str | None = None


@attrs.frozen(kw_only=True)
class Fingerprint:
    """How to recognise a kind of server by what it says, never by its port.

    `ports` are where to knock.  All `checks` must hold.  Fingerprints are tried in the order of `rank`, lower first: a
    server that also speaks another one's API must be asked about before that other one.
    """

    ports: tuple[int, ...]
    checks: tuple[Check, ...]
    rank: int = 100
