"""The names that a mistyped one may stand for: as good among ten thousand as among ten, and at the same cost."""

import random
from difflib import SequenceMatcher

import pytest

from nexus.nearest import LETTERS, SORTED_AT_ONCE, Vocabulary, is_slip, nearest


def words(count: int) -> dict[str, int]:
    kinds = ("org", "meta-llama", "qwen", "mistralai")
    return {f"{kinds[n % 4]}/{('llama', 'phi', 'qwen')[n % 3]}-{n}-{('instruct', 'chat')[n % 2]}": 1 for n in range(count)}


class Counted(dict):
    """Words that count how often they are looked at."""

    looks = 0

    def __contains__(self, word) -> bool:
        self.looks += 1
        return super().__contains__(word)


def alike(word: str, other: str) -> float:
    return SequenceMatcher(None, other, word).ratio()


@pytest.mark.parametrize("count", [10, 100, 3 * SORTED_AT_ONCE])
def test_one_wrong_letter_is_found_wherever_it_is(count):
    chance, known, vocabulary = random.Random(count), words(count), Vocabulary()
    for meant in chance.sample(sorted(known), 10):
        at = chance.randrange(len(meant))
        for typed in (meant[:at] + meant[at + 1 :], meant[:at] + "x" + meant[at:], meant[:at] + "x" + meant[at + 1 :]):
            if typed not in known:
                found = vocabulary.near(typed, known, 1, n=3, alike=0.4)
                assert alike(typed, found[0]) >= alike(typed, meant)


def test_words_with_the_same_beginning_or_end_are_found_too():
    known = words(2 * SORTED_AT_ONCE) | {"llama3.1:8b-instruct-q4": 1, "meta/Gemma2-27b": 1}
    vocabulary = Vocabulary()
    for _ in range(3):  # a part is put in order at a time
        near = [vocabulary.near(typed, known, 1, n=3, alike=0.4) for typed in ("llama3.1:8b", "gemma2-27b", "META/GEMMA2-27B")]
    assert [names[0] for names in near] == ["llama3.1:8b-instruct-q4", "meta/Gemma2-27b", "meta/Gemma2-27b"]


@pytest.mark.parametrize("count", [0, 1000])
@pytest.mark.parametrize(
    ("typed", "meant"), [("Llama-3", "llama-3"), ("LLAMA-3", "llama-3"), ("GEMMA2:27B", "Gemma2:27b"), ("LAMA-3", "llama-3")]
)
def test_capitals_make_no_word_another(count, typed, meant):
    known = words(count) | {"llama-3": 1, "Gemma2:27b": 1, "phi": 1}
    assert Vocabulary().near(typed, known, 1, n=3, alike=0.8)[0] == meant


def test_of_words_that_differ_in_capitals_the_likest_comes_first():
    assert nearest("Tiny-A", ["tiny-a", "Tiny-a", "other"], n=2) == ["Tiny-a", "tiny-a"]
    assert nearest("Tiny-A", ["tiny-a", "Tiny-a", "other"]) == ["Tiny-a"]


def test_what_is_unlike_everything_finds_nothing():
    assert Vocabulary().near("§§§§", words(1000), 1, n=3, alike=0.4) == []


def test_words_that_have_changed_are_read_again():
    known, vocabulary = words(200), Vocabulary()
    assert vocabulary.near("brand-new-words", known, 1, n=1, alike=0.4) == []
    known["brand-new-word-of-this-year"] = 1
    assert vocabulary.near("brand-new-words", known, 2, n=1, alike=0.4) == ["brand-new-word-of-this-year"]


def test_a_question_costs_the_same_however_many_words_there_are(monkeypatch):
    compared = []

    def nearest(word, known, **more):
        compared.append(len(list(known)))
        return []

    monkeypatch.setattr("nexus.nearest.nearest", nearest)
    looks = []
    for count in (1000, 4 * SORTED_AT_ONCE):
        known, vocabulary = Counted(words(count)), Vocabulary()
        for _ in range(5):
            vocabulary.near("meta-lama/llama-77-chat", known, 1, n=3, alike=0.4)
        looks.append(known.looks)
    assert looks[0] == looks[1] < 5 * 24 * 3 * len(LETTERS)
    assert max(compared) <= 8


def test_a_word_of_any_length_costs_little():
    known = Counted(words(1000))
    assert Vocabulary().near("x" * 1_000_000, known, 1, n=3, alike=0.4) == []
    assert known.looks == 0


@pytest.mark.parametrize(
    ("typed", "known", "slip"),
    [
        ("tinny", "tiny", True),
        ("tyni", "tiny", True),
        ("TINY", "tiny", True),
        ("tin", "tiny", True),
        ("tinnyy", "tiny", False),
        ("lama3:70b", "llama3:70b", True),
        ("lama-3:70b", "llama3:70b", True),
        ("qwen-codr-intsruct", "qwen-coder-instruct", False),
        ("qwen-codr-instrct", "qwen-coder-instruct", True),
        ("llama3:8b", "llama3:70b", False),
        ("llama3:7b", "llama3:70b", False),
        ("llama3.2", "llama3.1", False),
        ("phi-medium", "phi-mini", False),
        ("big", "tiny", False),
        ("", "tiny", False),
    ],
)
def test_a_slip_is_a_letter_or_two_and_never_a_figure(typed, known, slip):
    assert is_slip(typed, known) is is_slip(known, typed) is slip
