"""How long an attempt may take, and the names of the settings that say so.  Who keeps the deadlines is the upstream's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from nexus.errors import BackendError
from nexus.plain import rounded

UPSTREAM = "[upstream]"
GOOD_PART = 0.9  # of the time that a setting allows: a server that has had it and did not answer is to blame
NOTHING: Mapping[str, str] = MappingProxyType({})


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """What one table says of its backend or model, in seconds; None where it says nothing."""

    connect: float | None = None
    first_byte: float | None = None
    answer: float | None = None
    idle: float | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: until a connection, the first byte of a stream, a whole answer, and between two pieces.

    Signs of life before a stream's first event (comments, pings) are waited through up to `answer`.  `written` names the table of each
    setting that is not `[upstream]`'s.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    answer: float = 1800.0
    idle: float = 300.0
    written: Mapping[str, str] = NOTHING

    def but(self, timeouts: Timeouts | None, table: str) -> Patience:
        """The same, but for what a narrower table says."""
        said = {} if timeouts is None else {k: v for k, v in msgspec.structs.asdict(timeouts).items() if v is not None}
        return msgspec.structs.replace(self, written={**self.written, **dict.fromkeys(said, table)}, **said) if said else self

    def until(self, setting: str, now: float, shared: float) -> float:
        """When an attempt that begins now is out of time.  `shared` is when all of the request's attempts are, by `[upstream]`; what a
        narrower table says holds for each attempt by itself."""
        seconds: float = getattr(self, setting)
        return now + seconds if setting in self.written else shared

    def had(self, code: str, since: float, shared: float | None, *, stream: bool) -> bool:
        """Whether a timeout of this code tells of the server: not where the attempts before it had used up so much of the time that all
        share that it had not its own."""
        setting = code.removesuffix("_timeout")
        if shared is None or setting not in ("first_byte", "answer"):
            return True
        if stream and setting == "answer":
            until, allowed = self.signs_until(since, shared), max(self.answer, self.first_byte)
        else:
            until, allowed = self.until(setting, since, shared), getattr(self, setting)
        return bool(until - since >= GOOD_PART * allowed)

    def signs_until(self, now: float, shared: float) -> float:
        """How long signs of life before a stream's first event are waited through, in an attempt that began at `now`."""
        longest = max(self.answer, self.first_byte)
        return now + longest if self.written.keys() & {"first_byte", "answer"} else shared - self.first_byte + longest

    def shared(self, *, stream: bool) -> str:
        """How long all attempts of a request may take together, and which setting says so, of the patience of `[upstream]`."""
        setting = "first_byte" if stream else "answer"
        return f"{rounded(getattr(self, setting))} s: {UPSTREAM} {setting}_timeout_seconds"

    def setting(self, code: str) -> str:
        """Where the setting stands whose time was over, by the code of the error: `[upstream] idle_timeout_seconds`."""
        return f"{self.written.get(code.removesuffix('_timeout'), UPSTREAM)} {code}_seconds"

    def told(self, error: BackendError, waited: float | None = None) -> str:
        """The error's sentence; of one that took too long also how long was waited, and which setting said so.  `waited` is how many
        seconds the attempt took in all, None where it had been answered in part."""
        code = error.code
        said = error.hint or code
        if not error.timed_out:
            return said
        seconds: float = getattr(self, code.removesuffix("_timeout"))
        if waited is None or code == "idle_timeout" or 0.95 * seconds - 0.05 <= waited <= 1.05 * seconds + 0.2:
            return f"{said} (waited {rounded(seconds)} s: {self.setting(code)})"
        return f"{said} (waited {rounded(waited)} s; {self.setting(code)} is {rounded(seconds)})"


USUAL = Patience()
