"""The stage `prefix`: takes out what changes at the start of a prompt for every server but Anthropic's.  What that is, is in `header`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from nexus.api import EMPTY, Ask, Call, Candidate, Scope, Stage, replace
from nexus_prefix.header import NAME, without

ANTHROPIC = "anthropic"
TOLD = MappingProxyType({"X-Nexus-Prefix": "stabilised"})
REMEMBERED = 1024  # calls between their sending and the head of their answer


@attrs.frozen(kw_only=True)
class PrefixOptions:
    """`[prefix]`: whether prompts are changed at all."""

    enabled: bool = True


class Prefix(Stage):
    """Requests without the header cost one search of their bytes.

    What was changed is remembered by request and backend, for `tell` does not see the call; the oldest is forgotten first.
    """

    def __init__(self) -> None:
        self._changed: dict[tuple[str, str], None] = {}

    def prepare(self, call: Call) -> Call:
        if NAME not in call.body or call.candidate.kind == ANTHROPIC:
            return call
        body = without(call.body)
        if body is call.body:
            return call
        self._remember(call.ask.request.id, call.candidate.backend)
        return replace(call, body=body)

    def tell(self, ask: Ask, candidate: Candidate) -> Mapping[str, str]:
        return TOLD if (ask.request.id, candidate.backend) in self._changed else EMPTY

    def _remember(self, request: str, backend: str) -> None:
        self._changed[request, backend] = None
        if len(self._changed) > REMEMBERED:
            del self._changed[next(iter(self._changed))]


def make_prefix(options: PrefixOptions, scope: Scope) -> Stage:
    """The stage, or one that does nothing."""
    return Prefix() if options.enabled else Stage()
