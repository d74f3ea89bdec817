"""What each way an attempt can end means for the request and for the backend.  Pure functions; the table's lines are in `nexus.failures`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from nexus.errors import BackendError
from nexus.failures import LOADING, STATUSES, WORDS
from nexus.model import WILDCARD, FailureRule, Fault

BY_STATUS = "status"  # the code of an attempt that was judged by nothing but its status
_GAP = ".{0,100}?"
# what libraries put before the words of others: `litellm.RateLimitError: RateLimitError: OpenAIException - `, `Error: `
_WRAPPED = re.compile(r"(?:[\w.]*(?:error|exception)\s*[:-]\s+)+")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a fault.  `outcome` as in `Finished`; `next` says whether another pair is tried.  `probe` asks for a probe.
    `avoid` is a pair that would say the same to the next request: it comes last for a while."""

    outcome: str
    next: bool = True
    probe: bool = False
    avoid: bool = False


VERDICTS: Mapping[Fault, Verdict] = {
    Fault.REQUEST: Verdict(outcome="rejected", next=False),
    Fault.ACCOUNT: Verdict(outcome="rejected"),
    Fault.PERMISSION: Verdict(outcome="rejected"),
    Fault.BLOCKED: Verdict(outcome="rejected", avoid=True),
    Fault.MODEL: Verdict(outcome="rejected", probe=True, avoid=True),
    Fault.PATH: Verdict(outcome="rejected"),
    # some say that they cannot by a 500 or 501; who is asked for what it does not do is not unwell
    Fault.NEED: Verdict(outcome="rejected"),
    Fault.BUSY: Verdict(outcome="rate"),
    Fault.BROKEN: Verdict(outcome="failed"),
}
REJECTED_BY_STATUS = frozenset(
    status
    for status in range(400, 500)
    if next(rule.fault for rule in STATUSES if status in rule.status and not rule.retry_after) is Fault.REQUEST
)
FAILED = VERDICTS[Fault.BROKEN]
TIMED_OUT = Verdict(outcome="timeout")
MOVED = Verdict(outcome="rejected", probe=True)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A failed answer as the table reads it.  `status` is None for an error within a 200 that names none.  `codes` are the values of its
    `code`, `type` and `status`, `message` its sentence.  `needs` are the request's, its task among them; `path_known` says that the
    server has served this path before."""

    status: int | None
    message: str = ""
    codes: frozenset[str] = frozenset()
    says_when: bool = False
    needs: frozenset[str] = frozenset()
    path_known: bool = False


class Words(msgspec.Struct, frozen=True):
    """What an answer was judged by: a code, or the beginning of its sentence.  `spans` are the places in `said` that the rule names;
    what is between them may be anybody's.  `whole` says that the sentence has no other words."""

    said: str
    spans: tuple[tuple[int, int], ...]
    whole: bool = False


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the table says of an answer.  `words` are those of the answer that it was judged by; where they are the request's own, the
    next line that fits holds in its place."""

    rule: FailureRule
    words: Words | None = None

    @property
    def verdict(self) -> Verdict:
        return VERDICTS[self.rule.fault]

    @property
    def code(self) -> str:
        return self.rule.code or BY_STATUS


class FailureTable:
    """The core's lines and those of all kinds.  A kind's own come first, then those of the others, whose servers it may forward to."""

    def __init__(self, of_kinds: Mapping[str, tuple[FailureRule, ...]]) -> None:
        self._of_kinds = of_kinds
        self._lines: dict[str, tuple[_Line, ...]] = {}

    def judge(self, kind: str, answer: Answer) -> Iterator[Judged]:
        """All that fits, the first that holds first.  The last of them rests on no words and always comes."""
        said = " ".join(answer.message.lower().split())
        for line in self._lines.get(kind) or self._sorted(kind):
            if line.holds_for(answer) and (not line.by_words or (words := line.words_in(answer, said)) is not None):
                yield Judged(rule=line.rule, words=words if line.by_words else None)
        yield Judged(rule=_BROKEN)

    def _sorted(self, kind: str) -> tuple[_Line, ...]:
        own = self._of_kinds.get(kind, ())
        others = [rule for name, rules in self._of_kinds.items() if name != kind for rule in rules]
        lines = self._lines[kind] = tuple(map(_Line, dict.fromkeys((*own, *others, *WORDS, *STATUSES))))
        return lines


_BROKEN = FailureRule(fault=Fault.BROKEN)
_CORE = FailureTable({})


class _Line:
    """A rule, ready to be compared."""

    __slots__ = ("_codes", "_patterns", "_says_something", "_statuses", "by_words", "rule")

    def __init__(self, rule: FailureRule) -> None:
        self.rule = rule
        self._codes = frozenset(rule.codes)
        self._statuses = frozenset(rule.status)
        self._patterns = tuple(_pattern(words, rule.alone) for words in rule.words)
        self.by_words = bool(self._codes or self._patterns)
        self._says_something = bool(
            self._codes or any(words.strip() for words in rule.words)
        )  # an empty answer is told by its status

    def holds_for(self, answer: Answer) -> bool:
        """Whether it holds for such an answer, whatever it says.  An error within a 200 may have no status: only words tell what it is."""
        rule = self.rule
        if self._statuses and answer.status not in self._statuses and not (self._says_something and answer.status is None):
            return False
        if rule.fault is Fault.NEED:
            return rule.code.removeprefix("no_") in answer.needs
        if rule.fault is Fault.PATH:
            return not answer.path_known
        return answer.says_when or not rule.retry_after

    def words_in(self, answer: Answer, said: str) -> Words | None:
        """The words of the rule that the answer has."""
        if found := self._codes & answer.codes:
            code = min(found)
            return Words(code, ((0, len(code)),))
        for text in (said, _WRAPPED.sub("", said, count=1)) if _WRAPPED.match(said) else (said,):
            for pattern in self._patterns:
                if match := pattern.match(text):
                    spans = tuple(match.span(n) for n in range(1, pattern.groups + 1) if match.group(n).strip())
                    return Words(text, spans, whole=self.rule.alone)
        return None


def _pattern(words: str, alone: bool) -> re.Pattern[str]:
    pieces = [f"({re.escape(piece)})" for piece in words.split(WILDCARD)]
    return re.compile(_GAP.join(pieces) + (r"[\s.!]*$" if alone else ""))


def is_overloaded(status: int, message: str, codes: frozenset[str]) -> bool:
    """Whether the answer to a probe says in words that there is too much to do, by the core's lines.  A model that is being loaded is
    another matter."""
    found = next(_CORE.judge("", Answer(status=status, message=message, codes=codes)))
    return found.rule.fault is Fault.BUSY and found.words is not None and found.rule.code != LOADING


def of_error(error: BackendError) -> Verdict:
    """By what the exchange broke off with."""
    if error.code == "address_moved":  # what has been asked is no worse for it
        return MOVED
    return TIMED_OUT if error.timed_out else FAILED
