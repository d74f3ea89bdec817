"""What the gateway says of a request, in lines for people: `/nexus/explain` and `/nexus/requests/{id}`.  Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from nexus.cli.wrapping import wrapped
from nexus.plain import plain, rounded

Json = Mapping[str, Any]
REASONS = {
    "failover": "an earlier attempt failed",
    "fallback": "the model asked for cannot be had now, this is its fallback",
    "capacity-overflow": "home is busy, so it goes to the cloud",
    "privacy-requirement": "a pair that would have come first is not in the zone that is required",
    "capability-match": "it meets every need and comes first",
}


def of_asked(answer: Json, columns: int | None = None) -> Iterator[str]:
    """What would happen now; sentences wrapped where `columns` says how wide the terminal is."""
    request, choices = answer["request"], answer["choices"]
    kind = f"{'streamed ' if request['stream'] else ''}{request['task']}"
    yield f"{'An' if kind[0] in 'aeiou' else 'A'} {kind} request for {_strong(request['model'])}, now:"
    yield from _named(answer["legs"], columns)
    yield from _demanded(answer["demand"], request["task"], columns)
    yield ""
    yield from _OUTLOOKS[answer["outlook"]](answer, columns)
    if choices:
        yield from _scores(choices, columns)
    yield from _elsewhere(answer, columns)


def of_served(answer: Json, columns: int | None = None) -> Iterator[str]:
    """What happened to one request; `columns` as above."""
    request = answer["request"]
    key = f", key {plain(request['key'])}" if request["key"] else ""
    about = f"{plain(request['id'])}, ended {answer['time']}: {request['task']} for {_strong(request['model'])}{key}"
    yield wrapped("Request ", about, columns)
    if answer["leg"]:
        yield from _named([answer["leg"]], columns)
    yield from _demanded(answer["demand"], request["task"], columns)
    yield ""
    colour = "green" if answer["outcome"] == "ok" else "red"
    code = f", {answer['code']}" if answer["code"] else ""
    ended = f"{click.style(answer['outcome'], fg=colour, bold=True)} (status {answer['status']}{code}), {_times(answer['timings'])}"
    yield wrapped("→ ", ended, columns)
    if answer["answered_by"]:
        yield wrapped("  by        ", _pair(answer["answered_by"]), columns)
        yield _why(answer["reason"], columns)
    yield from _told(answer, columns)
    yield from _spent(answer)
    yield from _attempts(answer["attempts"], columns)
    if answer["choices"]:
        last = {(tried["backend"], tried["model"]): tried["outcome"] for tried in answer["attempts"]}
        yield from _scores(answer["choices"], columns, last)
    yield from _elsewhere(answer, columns)


# ---------------------------------------------------------------- what would happen


def _goes(answer: Json, columns: int | None) -> Iterator[str]:
    yield wrapped("→ goes to ", _pair(answer["choices"][0]), columns)
    yield _why(answer["route_reason"], columns)
    yield from _in_spite(answer["choices"][0], columns)


def _waits(answer: Json, columns: int | None) -> Iterator[str]:
    seconds = f"{rounded(answer['wait_seconds'])} s"
    if answer["choices"]:
        then = f"{_waiting()} up to {seconds} for home, then goes to {_pair(answer['choices'][0])}"
        yield wrapped("→ ", then, columns)
        yield _why(answer["route_reason"], columns)
        yield from _in_spite(answer["choices"][0], columns)
        return
    yield f"→ {_waiting()} in the queue, up to {seconds}, until a pair can take it"
    yield from _got(answer["error"], "  in vain, the client would get ", columns)


def _refused(answer: Json, columns: int | None) -> Iterator[str]:
    said = "nobody can take it" if answer["legs"] else "goes nowhere"
    yield from _got(answer["error"], f"→ {click.style(said, fg='red', bold=True)}; the client would get ", columns)


def _estimated(answer: Json, columns: int | None) -> Iterator[str]:
    yield "→ Nexus answers itself, with an estimate: no server that counts tokens for this API can be asked"


_OUTLOOKS = {"goes": _goes, "waits": _waits, "refused": _refused, "estimated": _estimated}


def _waiting() -> str:
    return click.style("waits", fg="yellow", bold=True)


def _got(error: Json, begun: str, columns: int | None) -> Iterator[str]:
    yield wrapped("", f"{begun}{error['status']} {error['code']}:", columns)
    yield wrapped("  ", plain(error["message"]), columns)


# ---------------------------------------------------------------- the parts


def _strong(text: str) -> str:
    return click.style(plain(text), bold=True)


def _pair(choice: Json) -> str:
    where = "cloud" if choice["cloud"] else "home"
    return f"{_strong(choice['backend'])}, model {_strong(choice['model'])} ({where}, zone {choice['zone']}, tier {choice['tier']})"


def _why(reason: str | None, columns: int | None) -> str:
    return wrapped("  because   ", f"{reason}: {REASONS[reason]}" if reason in REASONS else str(reason), columns)


def _named(legs: Iterable[Json], columns: int | None) -> Iterator[str]:
    """Names are told only where they are not simply the one asked for."""
    for leg in legs:
        if leg["index"] == 0 and len(leg["trail"]) > 1:
            yield wrapped("  means     ", plain(_meaning(leg)), columns)
        elif leg["index"]:
            yield wrapped("  fallback  ", "any model" if leg["any_model"] else plain(leg["name"]), columns)


def _meaning(leg: Json) -> str:
    """The way of aliases; after the leg's own name come the ids that an alias holds equal."""
    trail = leg["trail"]
    way = trail.index(leg["name"]) + 1
    return " → ".join([*trail[1:way], " = ".join(trail[way:])] if trail[way:] else trail[1:])


def _demanded(demand: Json | None, task: str, columns: int | None) -> Iterator[str]:
    """What is more than the task itself asks for."""
    if demand is None:
        return
    words = [
        "zone restricted" if demand["zone"] == "restricted" else "",
        f"tier {demand['min_tier']} or better" if demand["min_tier"] > 1 else "",
        ", ".join(need for need in demand["needs"] if need != task),
        f"a context of at least {demand['context']} tokens" if demand["context"] else "",
    ]
    said = "; ".join(word for word in words if word)
    if said:
        yield wrapped("  needs     ", plain(said), columns)


def _in_spite(choice: Json, columns: int | None) -> Iterator[str]:
    """What speaks against the one that comes first all the same, and what its server or its probes have said, where that is known."""
    for sentence in choice["in_spite_of"]:
        yield wrapped(f"  {click.style('though', fg='yellow')}    ", plain(sentence), columns)
    if problem := choice.get("problem"):
        yield wrapped("            ", plain(f"{choice['backend']}: {problem}"), columns)


def _scores(choices: list[Json], columns: int | None, ended: Mapping[tuple[str, str], str] | None = None) -> Iterator[str]:
    """The order and what made it: seconds expected to be lost, the fewer the better.  Of a request that is over, the order is that before
    its last attempt, and `ended` says how the last one at each pair ended."""
    yield ""
    when = "" if not ended else ", before the last attempt"
    how = f"Who could take it{when}, best first (home before cloud, then by the seconds expected to be lost there):"
    yield wrapped("", how, columns)
    if any(choice["score_seconds"] < 0 for choice in choices):
        yield "  (a number below zero: seconds gained there)"
    for place, choice in enumerate(choices, start=1):
        parts = ", ".join(f"{name} {seconds:+.3f}" for name, seconds in choice["parts"].items())
        where = ("cloud" if choice["cloud"] else "home") + (f", fallback {choice['leg']}" if choice["leg"] else "")
        score = f"{choice['score_seconds']:+.3f} s" + (f"  ({plain(parts)})" if parts else "")
        rest = f"{plain(choice['backend'])} ({plain(choice['model'])})  {where}  {score}{_tried(choice, ended or {})}"
        yield wrapped(f"  {place}. ", rest, columns)
        if place > 1:
            yield from (wrapped("     ", plain(sentence), columns) for sentence in choice["in_spite_of"])


def _tried(choice: Json, ended: Mapping[tuple[str, str], str]) -> str:
    outcome = ended.get((choice["backend"], choice["model"]))
    return f"  tried: {outcome}" if outcome else ""


def _elsewhere(answer: Json, columns: int | None) -> Iterator[str]:
    """Why not the others, pair by pair."""
    pairs: dict[tuple[int, str, str], list[Json]] = {}
    for refusal in answer["refusals"]:
        pairs.setdefault((refusal["leg"], refusal["backend"], refusal["model"]), []).append(refusal)
    if pairs:
        yield ""
        yield "Why not elsewhere:"
    for (_, backend, model), refusals in pairs.items():
        yield f"  {_strong(backend)} ({plain(model)})"
        for refusal in refusals:
            yield wrapped(f"    {click.style(refusal['stage'], fg='yellow')}  ", plain(refusal["sentence"]), columns)
            if refusal["hint"]:
                yield click.style(wrapped(f"    {' ' * len(refusal['stage'])}  ", plain(refusal["hint"]), columns), dim=True)


def _times(timings: Json) -> str:
    names = (("queue_ms", "queued"), ("first_byte_ms", "first byte"), ("total_ms", "total"))
    return ", ".join(f"{name} {timings[key]:.0f} ms" for key, name in names if timings[key])


def _spent(answer: Json) -> Iterator[str]:
    usage, cost = answer["usage"], answer["cost_usd"]
    if usage["source"] != "unknown":
        dollars = f", ${cost:.6f}" if cost is not None else ""
        yield f"  spent     {usage['input_tokens']} tokens in, {usage['output_tokens']} out ({usage['source']}){dollars}"


def _told(answer: Json, columns: int | None) -> Iterator[str]:
    """What the client was told, where no attempt says the same."""
    message = answer["message"]
    if message and message not in [attempt["message"] for attempt in answer["attempts"]]:
        yield wrapped("  told      ", plain(message), columns)


def _attempts(attempts: list[Json], columns: int | None) -> Iterator[str]:
    for number, attempt in enumerate(attempts, start=1):
        status = f" ({attempt['status']})" if attempt["status"] else ""
        said = f": {plain(attempt['message'] or attempt['code'])}" if attempt["message"] or attempt["code"] else ""
        where = f"{plain(attempt['backend'])} ({plain(attempt['model'])})"
        often = f", {attempt['times']} times in" if attempt["times"] > 1 else ", after"
        ended = f"{attempt['outcome']}{status}{said}{often} {attempt['seconds']:.3f} s"
        yield wrapped(f"  {f'attempt {number}':<9} ", f"{where}  {ended}", columns)
