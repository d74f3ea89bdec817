"""Extra endpoints of a component."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Route:
    """An extra endpoint.  `handler` takes an `aiohttp.web.Request` and returns a response.  `admin` ones need an admin key."""

    path: str
    handler: Callable[[Any], Awaitable[Any]]
    method: str = "GET"
    admin: bool = True


class Routes(abc.ABC):
    """A component that answers extra endpoints."""

    @abc.abstractmethod
    def routes(self) -> Iterable[Route]: ...
