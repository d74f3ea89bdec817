"""What the client is told when nobody can have its request.  Reads plans and attempts; decides nothing and sends nothing."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from typing import Any

from nexus.errors import RETRY_SECONDS, Problem
from nexus.model import OUT_OF_TIME, Attempt, Objection, Plan, RefusalKind, Zone
from nexus.routing import by_pair, by_rule, held_back
from nexus.sentences import hint, sentence

LONGEST_RETRY_AFTER = 59  # Claude Code gives up at once above 60 s
RETRY_GONE_SECONDS = 5  # a server that is started again is found within three
GUESSED_SECONDS = 5.0  # how long an exchange takes where none has been measured
GUESSED_LOADING_SECONDS = 10.0
UNAVAILABLE = frozenset({503, 529})  # a server's own words for "not now", which its client hears as they are
REFUSALS_SHOWN = 50
NAMES_SHOWN = 10
REASONS_HEADER_LENGTH = 1000


def no_choice(plan: Plan, now: float, waiting: int = 0, code: str | None = None, silent: Sequence[str] = ()) -> Problem:
    """No pair may or can have the request now (contract §7).  `waiting` is how many are queued, `code` why the wait is over, `silent`
    the backends that have not said what they serve.

    What a rule keeps from the request hides nothing of what the others say: it is as if it were not there, where there are others.
    """
    pairs = by_pair(plan.objections)
    permitted = [objections for objections in pairs if not by_rule(objections)] or pairs
    kinds = [{o.refusal.kind for o in objections} for objections in permitted] if not plan.choices else []
    if kinds and all(RefusalKind.NEVER in k for k in kinds):
        return _never(plan, permitted)
    if kinds and all(RefusalKind.DENIED in k for k in kinds):
        return _problem(plan, 403, "model_not_allowed", "this key may not use any model that could answer")
    held = held_back(plan.objections)
    if held or plan.choices:  # what is free is for those who have waited
        eta = min([max(_lasts(o, now, waiting) for o in objections) for objections in held], default=GUESSED_SECONDS)
        return _held(plan, held, eta, code)
    return _unavailable(plan, pairs, silent)


def unknown_model(name: str, near: Sequence[str], silent: Sequence[str] = ()) -> Problem:
    """No backend serves the name, and all have been asked.  `near` are names that may have been meant, the likeliest first, `silent`
    those that could not be asked, and hardly mean it."""
    offer = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; GET /v1/models lists what is served"
    page = "" if near else "GET /v1/models"
    message, context = f"no backend serves the model {name!r}{offer}", {"nearest": list(near)}
    if silent:
        unheard = f"these cannot be asked, and have not said what they serve: {_few(silent)}"
        message = f"no backend that answers serves the model {name!r} ({unheard}){offer}"
        context["silent_backends"] = list(silent)
    return Problem(404, "model_not_found", message, param="model", context=context, see=page)


def not_ready(name: str, meant: Sequence[str], silent: Sequence[str], near: Sequence[str] = ()) -> Problem:
    """The name is unknown, but not every backend has said what it serves.  `meant` are the models that it stands for, `near` names that
    may have been meant, the likeliest first."""
    offer = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    stands = "" if list(meant) == [name] else f" (an alias of {' and '.join(map(repr, meant))})"
    return Problem(
        503,
        "backends_unavailable",
        f"no backend that answers serves the model {name!r}{stands}, and these have not said what they serve: {_few(silent)}; "
        f"see `nexus backends`{offer}",
        param="model",
        context={"available_backends": [], "silent_backends": list(silent), "nearest": list(near)},
    )


def gone(name: str, backend: str) -> Problem:
    """Who served the name has left, and may be back."""
    return Problem(
        503,
        "backends_unavailable",
        f"the backend {backend!r}, which serves the model {name!r}, has gone; try again when it is back",
        param="model",
        context={"available_backends": []},
        retry_after=RETRY_GONE_SECONDS,
    )


def no_backends() -> Problem:
    """There is nobody to route to."""
    return Problem(
        503,
        "no_backends",
        "no backend is connected: start a server such as Ollama or llama.cpp on this machine, or name one under [[backends]] in nexus.toml",
        context={"available_backends": []},
    )


def all_failed(
    plan: Plan | None, attempts: Sequence[Attempt], needs: Container[str], retry_after: float | None, over: str = ""
) -> Problem:
    """Every attempt failed; what each backend answered is in the message.  `over` is how long all attempts may take together, in words,
    where that time is over; `plan` is then of those that it has not been tried at.

    400 if no pair has what it `needs`, 504 if all timed out, 404 if none knows the model; if all were busy 429, or the status that says
    so; else the 503 or 529 that all answered, or 502.
    """
    busy = all(a.outcome == "rate" for a in attempts)
    story = "; ".join(dict.fromkeys(f"{a.backend} ({a.model}): {a.message or a.code}" for a in attempts))
    context = {
        "attempts": [
            {"backend": a.backend, "model": a.model, "status": a.status, "code": a.code, "message": a.message, "times": a.times}
            for a in attempts
        ],
        **_context(plan, retry_after if busy else None),
    }
    left = _untried(plan, attempts)
    if left:
        context["available_backends"] = list(dict.fromkeys([*left, *context["available_backends"]]))
    if plan is not None and _nobody_can(plan, attempts, needs):
        return Problem(400, "capability_mismatch", f"no backend can do what this request needs: {story}", context=context)
    if over and not busy and (left or attempts[-1].code == OUT_OF_TIME):
        message = f"the request's own time is over: {story}{_no_time_for(left, over)}"
        return Problem(504, "all_attempts_timed_out", message, context=context, retry_after=RETRY_SECONDS)
    if all(a.outcome == "timeout" for a in attempts):
        return Problem(504, "all_attempts_timed_out", f"no backend answered in time: {story}", context=context)
    if busy:
        return _all_busy({a.status for a in attempts}, story, context, retry_after)
    if all(a.code == "model_not_found" for a in attempts):
        return Problem(404, "model_not_found", f"no backend serves the model any more: {story}", param="model", context=context)
    statuses = {a.status for a in attempts}
    status = statuses.pop() if len(statuses) == 1 and statuses <= UNAVAILABLE else None
    return Problem(status or 502, "all_attempts_failed", f"no backend answered: {story}", context=context)


def _untried(plan: Plan | None, attempts: Sequence[Attempt]) -> list[str]:
    """The backends of pairs that could have had the request and were not asked."""
    asked = {(a.backend, a.model) for a in attempts}
    choices = () if plan is None else plan.choices
    return list(dict.fromkeys(c.candidate.backend for c in choices if (c.candidate.backend, c.candidate.model) not in asked))


def _no_time_for(left: Sequence[str], over: str) -> str:
    """Whom nobody had time to try, and what to do about it."""
    if not left:
        return ""
    return (
        f"; no time was left to try {_few(left)}, since all attempts share it ({over}): a server that may hang needs a timeout of its own "
        "in its [[backends]] table, well below that"
    )


def _all_busy(statuses: set[int | None], story: str, context: dict[str, Any], retry_after: float | None) -> Problem:
    seconds, story = _seconds(retry_after), story + _until(retry_after)
    if statuses == {429}:
        return Problem(429, "rate_limited", f"every backend asks to slow down: {story}", context=context, retry_after=seconds)
    return Problem(_busy_status(statuses), "busy", f"every backend is busy: {story}", context=context, retry_after=seconds)


def _until(pause: float | None) -> str:
    """How long a pause lasts, which may be longer than a Retry-After says."""
    return "" if pause is None else f"; asked again in {max(1, math.ceil(pause))} s"


def _busy_status(statuses: set[int | None]) -> int:
    """A server's own word for being busy, where it is one."""
    (status,) = statuses if len(statuses) == 1 else (503,)
    return status if status in UNAVAILABLE and status is not None else 503


def _nobody_can(plan: Plan, attempts: Sequence[Attempt], needs: Container[str]) -> bool:
    """Whether every pair that was asked said that it lacks something needed, and every other one is known never to be able to, or
    is kept from the request by a rule."""
    asked = {(a.backend, a.model) for a in attempts}
    unasked = [c for c in plan.choices if (c.candidate.backend, c.candidate.model) not in asked]
    unseen = plan.choices and plan.choices[0].ask.leg.index < plan.legs[-1].index  # a plan ends at the first leg with a choice
    others = [found for found in by_pair(plan.objections) if (found[0].candidate.backend, found[0].candidate.model) not in asked]
    return (
        not (unasked or unseen)
        and all(_lacks(attempt, needs) for attempt in attempts)
        and all(by_rule(found) or any(o.refusal.kind is RefusalKind.NEVER for o in found) for found in others)
    )


def _lacks(attempt: Attempt, needs: Container[str]) -> bool:
    """Whether the server said that it lacks what the request needs; of a key or an account it may say as much in the same words."""
    lack = attempt.code.removeprefix("no_")
    return attempt.outcome == "rejected" and lack != attempt.code and lack in needs


def reasons_header(plan: Plan) -> str:
    """`X-Nexus-Rejection-Reasons`: `backend/model=stage:code`, a comma between them, cut at a whole entry."""
    header = ""
    for o in plan.objections:
        entry = f"{o.candidate.backend}/{o.candidate.model}={o.stage}:{o.refusal.code}"
        entry = entry.encode("ascii", "backslashreplace").decode("ascii").replace(",", "%2C")
        if len(header) + len(entry) > REASONS_HEADER_LENGTH:
            break
        header += (", " if header else "") + entry
    return "".join(c if c.isprintable() else "?" for c in header)


def _never(plan: Plan, pairs: list[list[Objection]]) -> Problem:
    impossible = [[o for o in objections if o.refusal.kind is RefusalKind.NEVER] for objections in pairs]
    context = [next((o for o in objections if o.refusal.code == "context"), None) for objections in impossible]
    if all(context):
        best = max((o for o in context if o), key=_served)
        # these words are what Claude Code and others recognise, to compact the conversation
        message = f"prompt is too long: at least {_tokens(best)} tokens > {_served(best)} maximum"
        return _problem(plan, 400, "context_length_exceeded", message, param="messages")
    lost = all(any(o.refusal.code == "translation_loss" for o in objections) for objections in impossible)
    missing = _reasons(o for objections in impossible for o in _said_once(objections))
    code = "translation_loss" if lost else "capability_mismatch"
    return _problem(plan, 400, code, "no backend can do what this request needs: " + "; ".join(missing))


def _said_once(objections: Sequence[Objection]) -> Iterable[Objection]:
    """That a server has no path for a task says already that it does not do it."""
    tasks = {f"no_{o.refusal.data.get('task')}" for o in objections if o.refusal.code == "dialect"}
    return (o for o in objections if o.refusal.code not in tasks)


def _reasons(objections: Iterable[Objection]) -> list[str]:
    """The first few that differ, as parts of one sentence."""
    why: dict[str, None] = {}
    for objection in objections:
        why[_why(objection)] = None
        if len(why) == NAMES_SHOWN:
            break
    return list(why)


def _why(objection: Objection) -> str:
    """The sentence, which names the pair, as a part of a longer one."""
    return sentence(objection.refusal, objection.candidate).rstrip(".")


def _served(objection: Objection) -> int:
    """The context that the pair turned out to serve, where it was not known before."""
    served = objection.refusal.data.get("served", objection.candidate.context)
    return served if isinstance(served, int) else 0


def _tokens(objection: Objection) -> Any:
    return objection.refusal.data.get("needed_at_least", "?")


def _held(plan: Plan, held: list[list[Objection]], eta: float, code: str | None) -> Problem:
    kinds = {o.refusal.kind for objections in held for o in objections}
    candidates = [objections[0].candidate for objections in held] or [choice.candidate for choice in plan.choices]
    names = _few(dict.fromkeys(c.backend for c in candidates))
    if kinds == {RefusalKind.RATE}:
        statuses = {o.refusal.data.get("status", 429) for objections in held for o in objections if o.refusal.code == "paused"}
        if statuses <= {429}:
            return _problem(plan, 429, "rate_limited", f"every backend asks to slow down: {names}{_until(eta)}", eta=eta)
        return _problem(plan, _busy_status(statuses), "busy", f"every backend is busy: {names}{_until(eta)}", eta=eta)
    message = {
        "queue_full": f"{names}: busy, and the queue is full",
        "queue_timeout": f"{names}: still busy after the longest allowed wait",
    }.get(code or "", f"{names}: busy")
    return _problem(plan, 503, code or "busy", message + "; try again later", eta=eta)


def _unavailable(plan: Plan, pairs: list[list[Objection]], silent: Sequence[str]) -> Problem:
    codes = [{o.refusal.code for o in objections} for objections in pairs]
    message = "no backend may or can answer now: " + "; ".join(_reasons(o for objections in pairs for o in objections))
    code = "no_backend_available"
    if any(c == {"zone"} for c in codes):
        code = "privacy_zone"
    elif any(c == {"tier"} for c in codes):
        code = "tier"
    elif codes and all(c & {"down", "off"} for c in codes):
        code = "backends_unavailable"
    if silent:
        message += f"; these have not said what they serve: {_few(silent)}"
    context = _context(plan, None) | ({"silent_backends": list(silent)} if silent else {})
    lasting = bool(pairs) and not silent and all(map(_lasts_for_good, pairs))
    return Problem(503, code, message, context=context, lasting=lasting)


def _lasts_for_good(objections: Sequence[Objection]) -> bool:
    """Whether only the operator, or another request, can change that the pair is refused: by a rule that names no time, or for what it
    cannot do."""
    timeless = [o for o in objections if o.refusal.retry_at is None]
    return by_rule(timeless) or any(o.refusal.kind is RefusalKind.NEVER for o in timeless)


def _problem(plan: Plan, status: int, code: str, message: str, *, eta: float | None = None, param: str | None = None) -> Problem:
    return Problem(status, code, message, param=param, context=_context(plan, eta), retry_after=_seconds(eta))


def _context(plan: Plan | None, eta: float | None) -> dict[str, Any]:
    if plan is None:
        return {}
    objections = plan.objections
    down = {o.candidate.backend for o in objections if o.refusal.code in ("down", "off")}
    return {
        "available_backends": [b for b in dict.fromkeys(o.candidate.backend for o in objections) if b not in down],
        "privacy_zone_required": plan.demand.zone.value if plan.demand.zone is Zone.RESTRICTED else None,
        "required_tier": _required_tier(objections),
        "eta_seconds": _seconds(eta),
        "refusals": [_refusal(o) for o in objections[:REFUSALS_SHOWN]],
    }


def _required_tier(objections: Iterable[Objection]) -> Any:
    """The tier that a pair would have had to have which nothing else kept from the request; the least of them."""
    alone = [found[0].refusal for found in by_pair(objections) if len(found) == 1 and found[0].refusal.code == "tier"]
    return min((required for refusal in alone if (required := refusal.data.get("required")) is not None), default=None)


def _refusal(o: Objection) -> dict[str, Any]:
    return {
        "backend": o.candidate.backend,
        "model": o.candidate.name,
        "stage": o.stage,
        "kind": o.refusal.kind.value,
        "reason": o.refusal.code,
        "hint": hint(o.refusal) or sentence(o.refusal, o.candidate),
    }


def _few(names: Iterable[str]) -> str:
    """The names, in a sentence that somebody may read to its end."""
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more


def _lasts(o: Objection, now: float, waiting: int) -> float:
    """Seconds until what holds a pair back may be over."""
    if o.refusal.retry_at is not None:
        return o.refusal.retry_at - now
    if o.refusal.code == "loading":
        return o.candidate.eta or GUESSED_LOADING_SECONDS
    turn = (o.candidate.seconds or GUESSED_SECONDS) / (o.candidate.domain_capacity or o.candidate.capacity or 1)
    return turn * (waiting + 1)


def _seconds(eta: float | None) -> int | None:
    return None if eta is None else max(1, min(LONGEST_RETRY_AFTER, math.ceil(eta)))
