"""A configured server of type `auto` that has not said yet what it is: a member of the fleet like any other, which serves nothing.

How it is recognised is in `discovery`, when it is asked again in `finding`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from nexus.api import BackendError, Call, Reply, Report
from nexus.backends import HTTPBackend

AUTO = "auto"  # its type until it is recognised


class Unrecognised(HTTPBackend):
    """Its report says, in one sentence, whether it is not there or is nothing that a plugin knows."""

    async def look(self) -> Report:
        """Never ok: where any answer comes, it is none that a fingerprint knows."""
        async with self.get("/", timeout=2.0):
            pass
        return self._unknown(f"answers at {self.shown}, but as no installed type of server; `type` can name what it is")

    def report_of(self, error: BackendError) -> Report:
        """What keeps it from being recognised."""
        return self._unknown(super().report_of(error).problem)

    def send(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        raise BackendError("unrecognised", "it has not said yet what it is")

    def _unknown(self, problem: str) -> Report:
        return Report(ok=False, code="unrecognised", problem=problem)
