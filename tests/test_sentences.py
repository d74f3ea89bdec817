"""Every refusal code has words, whatever its data holds."""

import pytest

from nexus.api import Candidate, Refusal, RefusalKind, Zone
from nexus.sentences import WORDS, hint, sentence

GPU = Candidate(backend="gpu", kind="ollama", model="llama3:8b", name="llama3", zone=Zone.OPEN, tier=2, context=8192)


def refusal(code: str, **data: object) -> Refusal:
    return Refusal(kind=RefusalKind.POLICY, code=code, data=data)


CODES = {
    "down", "tried", "busy", "swap", "loading", "paused", "suspended", "ejected", "off", "dialect", "translation_loss", "key", "stage_lost_count",
    "zone", "tier", "no_vision", "no_image_url", "no_documents", "no_tools", "no_json_schema", "no_chat", "no_embedding", "no_completion", "context",
}  # fmt: skip


def test_the_codes_with_words_are_those_of_the_core_and_the_standard_stages():
    assert set(WORDS) == CODES


@pytest.mark.parametrize("code", sorted(CODES))
@pytest.mark.parametrize("data", [{}, dict.fromkeys(("required", "has", "capacity", "in_flight", "eta_seconds", "served"), None)])
def test_every_code_is_one_sentence_and_one_hint(code, data):
    said = sentence(refusal(code, **data), GPU)
    assert said.startswith("gpu (llama3) ")
    assert said.endswith(".")
    assert hint(refusal(code)).endswith(".")


@pytest.mark.parametrize(
    ("code", "data", "said"),
    [
        ("busy", {"capacity": 4, "in_flight": 4}, "gpu (llama3) is busy: it serves 4 at once and has 4 in flight."),
        ("loading", {"eta_seconds": 12.4}, "gpu (llama3) is loading the model, which takes about 12 s more."),
        ("loading", {}, "gpu (llama3) is loading the model."),
        ("dialect", {"dialect": "anthropic", "task": "chat"}, "gpu (llama3) does not speak anthropic chat."),
        (
            "translation_loss",
            {"lost": "n, image", "from": "openai", "to": "anthropic"},
            "gpu (llama3) speaks anthropic, which cannot say what this request means: n, image.",
        ),
        (
            "zone",
            {"required": "restricted", "has": "open"},
            "gpu (llama3) is in the zone open, and the request must stay restricted.",
        ),
        ("tier", {"required": 3, "has": 2}, "gpu (llama3) is of tier 2, and the request needs 3 or better."),
        ("no_vision", {"need": "vision", "missing": ("vision",)}, "gpu (llama3) takes no images."),
        ("no_documents", {"need": "documents", "missing": ("documents",)}, "gpu (llama3) reads no files."),
        ("no_tools", {"for_seconds": 90}, "gpu (llama3) takes no tools; the server said so, and is asked again in 90 s."),
        (
            "context",
            {"needed_at_least": 9000, "served": 8192},
            "gpu (llama3) serves a context of 8192 tokens, and the request needs at least 9000.",
        ),
        ("key", {"model": "llama3"}, "gpu (llama3) serves llama3, which this key may not use."),
    ],
)
def test_a_sentence_tells_the_figures_of_its_refusal(code, data, said):
    assert sentence(refusal(code, **data), GPU) == said


def test_figures_that_the_refusal_does_not_carry_come_from_the_candidate():
    assert "a context of 8192 tokens" in sentence(refusal("context"), GPU)
    assert "of tier 2" in sentence(refusal("tier", required=3), GPU)


def test_an_unknown_code_is_told_with_its_data():
    assert sentence(refusal("after_hours", until="18:00"), GPU) == "gpu (llama3) was refused as 'after_hours' (until 18:00)."
    assert sentence(refusal("after_hours"), GPU) == "gpu (llama3) was refused as 'after_hours'."
    assert hint(refusal("after_hours")) == ""


def test_a_stage_may_bring_its_own_words():
    own = refusal("after_hours", sentence="The office is closed.", hint="Come back at nine.")
    assert sentence(own, GPU) == "The office is closed."
    assert hint(own) == "Come back at nine."


def test_own_words_that_are_no_text_are_data_like_any_other():
    assert sentence(refusal("after_hours", sentence=7), GPU) == "gpu (llama3) was refused as 'after_hours' (sentence 7)."
    assert hint(refusal("busy", hint=7)) == WORDS["busy"].hint
