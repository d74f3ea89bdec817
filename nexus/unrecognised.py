"""Configured servers that cannot be used (yet): members of the fleet like any other, which serve nothing and say why.

How one of type `auto` is recognised is in `discovery`, when it is asked again in `finding`.
"""

from __future__ import annotations

from nexus.api import Backend, BackendError, Call, Reply, Report
from nexus.backends import HTTPBackend

AUTO = "auto"  # its type until it is recognised
NO_KEY = "no_key"  # the code of a report on a server that is not asked


class Unrecognised(HTTPBackend):
    """Its report says, in one sentence, whether it is not there or is nothing that a plugin knows."""

    async def look(self) -> Report:
        """Never ok: where any answer comes, it is none that a fingerprint knows."""
        async with self.get("/v1/models", timeout=2.0) as (status, _):
            pass
        if status == 401:
            wants = "does not take the key" if self.server.key else "wants a key: put it into an environment variable"
            return self._unknown(f"answers 401 at {self.shown}: it {wants} (api_key_env)")
        return self._unknown(f"answers at {self.shown}, but as no installed type of server; `type` can name what it is")

    def report_of(self, error: BackendError) -> Report:
        """What keeps it from being recognised."""
        return self._unknown(super().report_of(error).problem)

    async def send(self, call: Call) -> Reply:
        raise BackendError("unrecognised", "it has not said yet what it is")

    def _unknown(self, problem: str) -> Report:
        return Report(ok=False, code="unrecognised", problem=problem)


class Keyless(Backend):
    """A server whose key is not there.  Nobody asks it: without its key it could only refuse."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    async def probe(self) -> Report:
        """Never ok."""
        return Report(ok=False, code=NO_KEY, problem=self._problem)

    async def send(self, call: Call) -> Reply:
        raise BackendError(NO_KEY, self._problem)
