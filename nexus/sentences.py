"""What a refusal means, in words for people: one sentence that says why, one that says what to do about it.

Codes and data are made where the decision is (the core, the stages); nothing here decides anything.  A stage from somebody
else's package may put its own words into the refusal's data, under `sentence` and `hint`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nexus.model import Candidate, Refusal
from nexus.model.candidate import FAILING

NOTED = 0.1  # share of recent exchanges that failed, below which nobody need read of it
Facts = Mapping[str, Any]


class Words(msgspec.Struct, frozen=True):
    """How one code is said: `because` makes the rest of a sentence that begins with the pair's name."""

    because: Callable[[Candidate, Facts], str]
    hint: str


def sentence(refusal: Refusal, candidate: Candidate) -> str:
    """Why this pair cannot have the request: one sentence, whatever the code and whatever its data."""
    own = refusal.data.get("sentence")
    if isinstance(own, str) and own:
        return own
    words = WORDS.get(refusal.code)
    because = words.because(candidate, refusal.data) if words else _unknown(refusal)
    return f"{candidate.backend} ({candidate.name}) {because}."


def hint(refusal: Refusal) -> str:
    """What to do about it: one sentence, or "" where a code of somebody else's stage brought none."""
    own = refusal.data.get("hint")
    if isinstance(own, str) and own:
        return own
    words = WORDS.get(refusal.code)
    return words.hint if words else ""


def in_spite_of(candidate: Candidate) -> list[str]:
    """What speaks against a pair that may have the request all the same: sentences, none where nothing does."""
    name, said = f"{candidate.backend} ({candidate.name})", []
    if candidate.suspended_until:
        said.append(f"{name} is suspended, since its account or key was refused; this request tries it again.")
    if candidate.ejected_until:
        said.append(f"{name} is left out since it kept failing; nobody else can take this request, or it is time to try it again.")
    elif candidate.failures > FAILING:
        said.append(
            f"{name} keeps failing, or has said what it would say to the next request too: it comes last {_among(candidate)}."
        )
    elif candidate.failures > NOTED:
        said.append(f"{name} has failed now and then, which counts as seconds lost.")
    return said


def _among(candidate: Candidate) -> str:
    return "among the clouds" if candidate.cloud else "at home, and before the clouds"


def _unknown(refusal: Refusal) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in refusal.data.items())
    return f"was refused as {refusal.code!r}" + (f" ({facts})" if facts else "")


def _says(text: str) -> Callable[[Candidate, Facts], str]:
    return lambda candidate, data: text


def _busy(candidate: Candidate, data: Facts) -> str:
    capacity, held = data.get("capacity", candidate.capacity), data.get("in_flight", candidate.backend_in_flight)
    return f"is busy: it serves {capacity} at once and has {held} in flight" if capacity is not None else "is busy"


def _swap(candidate: Candidate, data: Facts) -> str:
    if data.get("for", candidate.waits_for) == "load":
        return "waits until its server has loaded another model"
    return "would have to be loaded, and its server is answering with other models"


def _loading(candidate: Candidate, data: Facts) -> str:
    eta = data.get("eta_seconds", candidate.eta)
    return "is loading the model" + (f", which takes about {eta:.0f} s more" if isinstance(eta, int | float) else "")


def _paused(candidate: Candidate, data: Facts) -> str:
    status = data.get("status", candidate.paused_status)
    seconds = data.get("for_seconds")
    lasts = f", and is asked again in {seconds} s" if seconds is not None else ""
    return (f"asked for a pause ({status})" if status == 429 else f"said that it is busy ({status})") + lasts


def _suspended(candidate: Candidate, data: Facts) -> str:
    seconds = data.get("for_seconds")
    return "refuses its account or key" + (f", and is tried again in {seconds} s" if seconds is not None else "")


def _dialect(candidate: Candidate, data: Facts) -> str:
    wanted = " ".join(str(data[key]) for key in ("dialect", "task") if data.get(key))
    if (data.get("dialect"), data.get("task")) in candidate.missing:
        return f"has no path for {wanted}, as it said when it was asked"
    return f"does not speak {wanted}" if wanted else "does not speak this request's dialect"


def _lost(candidate: Candidate, data: Facts) -> str:
    return f"speaks {data.get('to', 'another dialect')}, which cannot say what this request means: {data.get('lost', '?')}"


def _key(candidate: Candidate, data: Facts) -> str:
    return f"serves {data.get('model', candidate.name)}, which this key may not use"


def _zone(candidate: Candidate, data: Facts) -> str:
    return f"is in the zone {data.get('has', candidate.zone)}, and the request must stay {data.get('required', 'restricted')}"


def _tier(candidate: Candidate, data: Facts) -> str:
    required = data.get("required")
    return f"is of tier {data.get('has', candidate.tier)}, and the request needs " + (
        f"{required} or better" if required is not None else "a better one"
    )


def _context(candidate: Candidate, data: Facts) -> str:
    served, needed = data.get("served", candidate.context), data.get("needed_at_least")
    return f"serves a context of {served} tokens, and the request needs " + (f"at least {needed}" if needed is not None else "more")


def _lacks(what: str) -> Callable[[Candidate, Facts], str]:
    def because(candidate: Candidate, data: Facts) -> str:
        seconds = data.get("for_seconds")
        # Learnt from the server's own error, so it is believed for a while only.
        learnt = f"; the server said so, and is asked again in {seconds} s" if seconds is not None else ""
        return f"{what}{learnt}"

    return because


_CAPABILITY = "Ask for a model that can, or, if this one can, list it in `capabilities` of a [[backends.models]] table."
_TASK = "Ask for a model that is made for this."

WORDS: Mapping[str, Words] = {
    # The core.
    "down": Words(_says("is down"), "See `nexus backends` for why."),
    "tried": Words(_says("was tried for this request already"), "See the request's attempts for how that one ended."),
    "busy": Words(_busy, "Try again soon, or raise `max_concurrent` if the server can do more."),
    "swap": Words(_swap, "Try again soon, or let the server keep more models loaded, and for longer."),
    "loading": Words(_loading, "Try again once it is loaded."),
    "paused": Words(_paused, "Try again when the pause is over."),
    "suspended": Words(_suspended, "See `nexus backends` for what it said; it is tried again by itself."),
    "ejected": Words(_says("is left out for a while, since its last requests failed"), "It is tried again by itself."),
    "off": Words(_says("has the model switched off"), "Load the model on that server."),
    "dialect": Words(_dialect, "Use an API that this server speaks, or another model."),
    "translation_loss": Words(_lost, "Leave it out, or ask for a model whose server speaks this request's own dialect."),
    "key": Words(_key, "Add the model to the `models` of the key."),
    "stage_lost_count": Words(
        _says("is refused by a stage that failed to take note of an earlier request"),
        "Look into the log for that failure, then restart: a policy that lost count stays closed.",
    ),
    # The standard stages.
    "zone": Words(_zone, "Only the operator can widen a zone: `zone` of the backend, `[[policies]]` of the model."),
    "tier": Words(_tier, "Add a backend of that tier, or correct `tier` in the configuration."),
    "no_vision": Words(_lacks("takes no images"), _CAPABILITY),
    "no_image_url": Words(
        _lacks("takes pictures only as data, and not by their address"),
        "Send the picture itself (base64), or, if this server fetches pictures, list `image_url` in `capabilities` of a [[backends.models]] table.",
    ),
    "no_documents": Words(_lacks("reads no files"), _CAPABILITY),
    "no_tools": Words(_lacks("takes no tools"), _CAPABILITY),
    "no_json_schema": Words(_lacks("cannot answer by a JSON schema"), _CAPABILITY),
    "no_chat": Words(_lacks("is not made for chats"), _TASK),
    "no_embedding": Words(_lacks("makes no embeddings"), _TASK),
    "no_completion": Words(_lacks("does not complete plain text"), _TASK),
    "context": Words(_context, "Shorten the prompt, serve the model with a larger context, or ask for another model."),
}
"""Every code that Nexus itself uses, with its words."""
