"""The known words that a mistyped one is nearest to.  `difflib` is loaded by the first mistake: a run without one never pays for it."""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator

FEW = 64  # words that are all compared
SORTED_AT_ONCE = 4096
BESIDE = 6  # words on either side of the place where a mistyped one would stand
COMPARED = 8  # of all that may be meant, letter by letter
LONG = 8  # letters of a word in which two may be wrong
LONGEST = 256  # letters of a word that may be a mistyped one
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_.:/"


def nearest(word: str, known: Iterable[str], *, n: int = 1, alike: float = 0.6) -> list[str]:
    """At most `n` of the `known`, best first, that are at least so much `alike` (0 to 1), whatever letters are capitals."""
    import difflib

    spelt: dict[str, list[str]] = {}
    for one in known:
        spelt.setdefault(one.casefold(), []).append(one)
    near = difflib.get_close_matches(word.casefold(), spelt, n=n, cutoff=alike)
    return [one for folded in near for one in sorted(spelt[folded], key=lambda one: -_common(word, one))][:n]


def is_slip(word: str, known: str) -> bool:
    """Whether a word is likely a known one, mistyped: its letters in another order, or one of them wrong (of long words two).  Other
    figures make another word: they tell the sizes and versions of models apart."""
    a, b = word.casefold(), known.casefold()
    if [c for c in a if c.isdigit()] != [c for c in b if c.isdigit()]:
        return False
    most = 2 if min(len(a), len(b)) >= LONG else 1
    return sorted(a) == sorted(b) or (abs(len(a) - len(b)) <= most and _steps(a, b) <= most)


def _steps(a: str, b: str) -> int:
    """How many letters must be put in, left out or changed to make one word of the other."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


class Vocabulary:
    """Words to be nearest to, of which there may be many.  To ask costs the same however many there are.

    Compared are words that differ by one letter, and those that begin or end like the mistyped one.  To find these the words are kept
    in order; a part of them is put in order by each question, so that the first ones do not see all of a hundred thousand.
    """

    def __init__(self) -> None:
        self._left: Iterator[str] = iter(())
        self._version: object = None
        self._parts: list[tuple[Callable[[str], str], list[str], list[str]]] = []

    def near(self, word: str, words: Collection[str], version: object, *, n: int, alike: float) -> list[str]:
        """At most `n` of the words, best first.  They are others than before only where `version` is."""
        if len(word) > LONGEST:
            return []
        if len(words) <= FEW:
            return nearest(word, words, n=n, alike=alike)
        if version != self._version:
            self._version, self._left = version, iter(list(words))
            self._parts.clear()
        self._sort()
        typed = dict.fromkeys((word, word.casefold()))
        meant = [*(near for one in typed for near in _one_letter_off(one, words)), *self._beside(word)]
        likely = heapq.nlargest(COMPARED, dict.fromkeys(meant), key=lambda known: _alike(word, known))
        return nearest(word, likely, n=n, alike=alike)

    def _sort(self) -> None:
        part = list(itertools.islice(self._left, SORTED_AT_ONCE))
        for turned in (_forwards, _backwards) if part else ():
            ordered = sorted(part, key=turned)
            self._parts.append((turned, [turned(known) for known in ordered], ordered))

    def _beside(self, word: str) -> Iterator[str]:
        for turned, keys, ordered in self._parts:
            at = bisect_left(keys, turned(word))
            yield from ordered[max(0, at - BESIDE) : at + BESIDE]


def _forwards(word: str) -> str:
    return word.casefold()


def _backwards(word: str) -> str:
    return word.casefold()[::-1]


def _alike(word: str, known: str) -> int:
    """How many letters they begin and end with alike: a first guess that costs little."""
    a, b = word.casefold(), known.casefold()
    return _common(a, b) + _common(a[::-1], b[::-1]) - abs(len(a) - len(b))


def _common(a: str, b: str) -> int:
    """How many letters two words have in common at their beginning."""
    at = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        at += 1
    return at


def _one_letter_off(word: str, words: Collection[str]) -> Iterator[str]:
    """Those of the words that one letter too much, too few, another or in the wrong place makes this one."""
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        variants = [before + after[1:], before + after[1:2] + after[:1] + after[2:]]
        variants += [before + letter + rest for letter in LETTERS for rest in (after, after[1:])]
        for variant in variants:
            if variant != word and variant in words:
                yield variant
