"""The descriptors that a plugin's hooks yield: a name, options, and how to open one.  What is opened is in the other files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar

import attrs

from nexus.api.backend import Backend, Server
from nexus.api.dialect import Dialect
from nexus.api.fingerprint import Fingerprint
from nexus.api.observer import Observer
from nexus.api.routes import Routes
from nexus.api.scope import Scope
from nexus.api.source import Source
from nexus.api.stage import Stage
from nexus.model import ANYTHING, Accepts, FailureRule


@attrs.frozen
class NoOptions:
    """The options of a component that has none."""


T = TypeVar("T")
Open = Callable[[Any, Scope], AbstractAsyncContextManager[T]]


def opens(factory: Callable[[Any, Scope], T]) -> Open[T]:
    """An `open` for a component that needs nothing closed: `open=opens(MyStage)` calls `MyStage(options, scope)`."""

    @contextlib.asynccontextmanager
    async def open_(options: Any, scope: Scope) -> AsyncIterator[T]:
        yield factory(options, scope)

    open_.makes = factory  # type: ignore[attr-defined]  # what is opened can be looked at without opening it
    return open_


OPENAI_API = frozenset({("openai", "chat"), ("openai", "completion"), ("openai", "embedding")})


@attrs.frozen(kw_only=True)
class BackendKind:
    """A kind of server.  `open(server, options, scope)` yields a Backend.

    `options` is a frozen attrs class with the keys that this kind adds to a `[[backends]]` table.  `capacity` is how many
    requests such a server serves at once where it does not say (None: unlimited), and `slots` says of what: `server`, of all models
    together; `model`, of each model, and the server itself decides what it loads and who waits for that; `resident`, of each model
    while it is in memory: one that would have to be loaded waits while another answers, and all wait while one is loaded.
    `runs_models` says that it runs models
    itself and forwards nothing: only such a kind can be `restricted` without the operator's word.  `cloud` marks kinds
    that are somebody else's computer.  `default_url` is used where the operator gives none.  `accepts` is
    what such servers take in a request: one that is translated is made to fit.  `failures` are its servers' own lines of
    the table of failures, which go before the core's.  `speaks` are the (dialect, task) pairs of a model that the operator declares
    and no server lists.  `refused` is what to do on the machine of one that refuses connections from elsewhere (`start it there with
    --host 0.0.0.0`), where such servers listen for their own machine only unless told otherwise.  `any_spelling` says that they take the
    name of a model in other spellings than the one they list: other capitals, with or without `:latest` and `library/`.
    `forwards` are globs, in small letters, of names that they pass on to somebody else's computer whether they list them or not.
    """

    name: str
    open: Callable[[Server, Any, Scope], AbstractAsyncContextManager[Backend]]
    options: type = NoOptions
    fingerprints: tuple[Fingerprint, ...] = ()
    service_types: tuple[str, ...] = ()
    capacity: int | None = None
    slots: Literal["server", "model", "resident"] = "server"
    runs_models: bool = False
    cloud: bool = False
    default_url: str | None = None
    accepts: Accepts = ANYTHING
    failures: tuple[FailureRule, ...] = ()
    speaks: frozenset[tuple[str, str]] = OPENAI_API
    refused: str = ""
    any_spelling: bool = False
    forwards: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class StageKind:
    """A stage.  `policy_words` are the keys of `[[policies]]` that it enforces.

    `default` makes it active where `[routing] stages` is not written, after the five standard ones.  It is for stages that
    refuse nothing: one that can refuse waits until the operator names it.
    """

    name: str
    open: Open[Stage]
    options: type = NoOptions
    policy_words: tuple[str, ...] = ()
    default: bool = False


@attrs.frozen(kw_only=True)
class DialectKind:
    """A dialect."""

    name: str
    open: Open[Dialect]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class SourceKind:
    """A source."""

    name: str
    open: Open[Source]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class ObserverKind:
    """An observer.  Descriptors that share one `open` are opened once and play every part they were yielded for."""

    name: str
    open: Open[Observer]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class RoutesKind:
    """Extra endpoints."""

    name: str
    open: Open[Routes]
    options: type = NoOptions
