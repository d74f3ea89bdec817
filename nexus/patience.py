"""How long an attempt may take, and the names of the settings that say so.  Who keeps the deadlines is the upstream's."""

from __future__ import annotations

import attrs

from nexus.errors import BackendError

UPSTREAM = "[upstream]"


@attrs.frozen(kw_only=True)
class Patience:
    """Seconds: until a connection, the first byte of a stream, a whole answer, and between two pieces.

    Signs of life before a stream's first event (comments, pings) are waited through up to `answer`.  `where` is the table of the
    configuration in which the settings stand, for errors.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    answer: float = 1800.0
    idle: float = 300.0
    where: str = UPSTREAM

    def told(self, error: BackendError) -> str:
        """The error's sentence; of one that took too long also how long was waited, and which setting said so."""
        code = error.code
        said = error.hint or code
        if not error.timed_out:
            return said
        seconds = getattr(self, code.removesuffix("_timeout"))
        where = UPSTREAM if code == "connect_timeout" else self.where
        return f"{said} (waited {seconds:g} s: {where} {code}_seconds)"
