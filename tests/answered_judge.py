"""What a client understands of its answer, and the judge who compares that with what `Answered` says.  Nothing is played here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nexus.errors import BackendError
from nexus.model import COUNT, Answered, Finished
from nexus.model.attempt import tries
from nexus.plain import sentence
from nexus.verdict import reasons_header

from .answered_speech import SERVERS_CODE
from .wire_client import Answer


def frames(got: Answer) -> list[Any]:
    """The JSON of all events that came whole."""
    data = [line[6:] for line in got.body.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(text) for text in data if text not in (b"", b"[DONE]")]


def streamed(got: Answer) -> bool:
    return got.headers["content-type"].startswith("text/event-stream")


def error_in(got: Answer) -> Mapping[str, Any] | None:
    """The error that it ends with."""
    if got.status < 400 and not streamed(got):
        return None
    said = frames(got) if streamed(got) else [got.json]
    error: Mapping[str, Any] | None = said[-1].get("error") if said else None
    return error


def usage_in(got: Answer) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer, as far as they were told."""
    told: dict[str, int] = {}
    for frame in frames(got) if streamed(got) else [got.json] if got.whole else []:
        told |= frame.get("usage") or frame.get("message", {}).get("usage") or {}
    if not told:
        return None
    cached = told.get("cache_read_input_tokens", 0) + told.get("cache_creation_input_tokens", 0)
    return (
        told.get("prompt_tokens", told.get("input_tokens", 0)) + cached,
        told.get("completion_tokens", told.get("output_tokens", 0)),
    )


# ---------------------------------------------------------------- the judge


def judge(got: Answer | None, event: Answered, *, left: bool) -> None:
    """Everything that the client saw is what the event says.  `got` is None where it saw nothing; `left`: it went before the end."""
    error = error_in(got) if got is not None else None
    assert (event.outcome, event.status) == seen(got, error, left=left)
    if got is None:
        return
    told = {name: value for name, value in got.headers.items() if name.startswith("x-nexus-")}
    told.pop("x-nexus-translation-loss", None)
    if told.pop("x-nexus-pending", None):
        assert told == {"x-nexus-request-id": event.request.id}
        told |= {name.lower(): value for name, value in event.unsent.items()}
    else:
        assert not event.unsent
    if got.headers.get("x-nexus-pending") is None or not left:
        assert told == headers_of(event, held="content-length" in got.headers, problem=error is not None)
    if error is not None:
        judge_error(error, event, got)
    elif event.outcome == "ok":
        assert (event.code, event.message) == ("", "")
        if event.request.task != COUNT:
            used = (event.usage.input_tokens, event.usage.output_tokens) if event.usage.source == "reported" else None
            assert usage_in(got) == used
    if event.candidate is not None:
        judge_attempt(event)


def seen(got: Answer | None, error: Any, *, left: bool) -> tuple[str, int]:
    """The outcome and the status, by what came."""
    if left:
        return "client_left", got.status if got else 499
    assert got is not None
    if got.status >= 400:
        assert got.whole
        return "refused", got.status
    return "broken" if error is not None or not got.whole else "ok", got.status


def headers_of(event: Answered, *, held: bool, problem: bool) -> dict[str, str]:
    """All headers by which Nexus says what such an event says.  `held`: all of the answer was there before its head was sent."""
    headers = {"x-nexus-request-id": event.request.id}
    served = event.candidate
    counting = event.request.task == COUNT and event.outcome == "ok"
    if served is not None:
        assert event.leg is not None
        headers |= {
            "x-nexus-backend": served.backend,
            "x-nexus-backend-type": "cloud" if served.cloud else "local",
            "x-nexus-model": served.name,
            "x-nexus-privacy-zone": served.zone.value,
            "x-nexus-route-reason": event.reason,
        }
        if event.leg.index:
            headers["x-nexus-fallback-model"] = served.name
        if held and event.cost is not None:
            headers["x-nexus-cost-estimated"] = f"{event.cost:g}"
    elif problem and event.plan is not None and event.plan.objections:
        headers["x-nexus-rejection-reasons"] = reasons_header(event.plan)
    if counting:
        headers["x-nexus-token-count"] = "exact" if served else "estimated"
    if served is not None or (problem and event.request.model):
        headers["x-nexus-attempts"] = str(tries(event.attempts))
        if event.queue_seconds:
            headers["x-nexus-queue-ms"] = str(round(event.queue_seconds * 1000))
    return headers


def judge_error(error: Mapping[str, Any], event: Answered, got: Answer) -> None:
    """The words that the client reads, and the code by which its program knows them."""
    code = error.get("code")
    if code == "backend_broke_off":  # the event says how
        assert event.code in BackendError.CODES
        assert error["message"].endswith(event.message)
        return
    assert event.message == sentence(error["message"])
    if event.code == "error_event":  # in the server's own words, or in those of a translation
        assert code in ("oom", "error_event", "backend_broke_off", None)
    elif event.attempts and event.attempts[-1].outcome == "rejected" and got.status >= 400:
        assert code in (event.code, SERVERS_CODE, None)  # its own word for it, where it speaks the client's dialect
    else:
        assert event.code == code


def judge_attempt(event: Answered) -> None:
    """The last line of the story is the pair that answered."""
    assert event.candidate is not None
    last = event.attempts[-1]
    assert (last.backend, last.model) == (event.candidate.backend, event.candidate.model)
    assert (last.code, last.message) == (event.code, event.message)
    assert (last.outcome == "ok") == (event.outcome == "ok")
    assert last.status is not None
    assert (last.status >= 400) == (last.outcome == "rejected")


def judge_claims(event: Answered, finished: Iterable[Finished]) -> None:
    """The story has each attempt that a server was asked in, and what the last one used is what the request did."""
    claims = [claim for claim in finished if claim.request.id == event.request.id]
    asked = [claim for claim in claims if claim.sent or claim.outcome != "refused"]
    assert [(claim.candidate.backend, claim.outcome) for claim in asked] == [(a.backend, a.outcome) for a in event.attempts]
    if event.candidate is not None:
        assert (claims[-1].candidate, claims[-1].usage, claims[-1].cost) == (event.candidate, event.usage, event.cost)
