"""The contracts: sound components pass every promise, and for each promise a component that breaks it is caught."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import re
from pathlib import Path

import pytest
from aiohttp import web

from nexus.api import (
    BackendError,
    BackendKind,
    Check,
    Demand,
    Dialect,
    DialectKind,
    Endpoint,
    Facts,
    FailureRule,
    Fault,
    Fingerprint,
    Model,
    Observer,
    ObserverKind,
    Problem,
    Reader,
    Refusal,
    RefusalKind,
    Refused,
    Reply,
    Report,
    Route,
    Routes,
    RoutesKind,
    Sighting,
    Source,
    SourceKind,
    Splice,
    Stage,
    StageKind,
    Usage,
    opens,
    replace,
)
from nexus.backends import HTTPBackend
from nexus.model import NO_DEMAND
from nexus.testing import openai_server, sse
from nexus.testing.contracts import (
    BackendContract,
    DialectContract,
    Golden,
    ObserverContract,
    RoutesContract,
    SourceContract,
    StageContract,
)
from nexus.testing.contracts.backend import GARBAGE, ODD_LISTS

BREACH = (Exception, pytest.fail.Exception)


async def broken(contract, promise, **kw):
    """Whether the contract's promise fails for this subclass of it."""
    function = getattr(contract(), promise)
    try:
        outcome = function(**kw)
        if inspect.isawaitable(outcome):
            await outcome
    except BREACH:
        return True
    return False


# ---------------------------------------------------------------- backends


class Sound(HTTPBackend):
    def __init__(self, server, options, scope):
        super().__init__(server, scope)

    async def probe(self):
        try:
            listed = await self.get_json("/v1/models")
            entries = [entry for entry in listed["data"] if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        except (BackendError, KeyError, TypeError) as error:
            return Report(ok=False, code="down", problem=str(error) or "no model list")
        return Report(ok=True, models=tuple(Model(id=entry["id"]) for entry in entries if entry["id"]))


class Careless(Sound):
    """Does not say which requests may not leave."""

    async def send(self, call):
        return await super().send(replace(call, ask=replace(call.ask, demand=NO_DEMAND)))


LISTS_MODELS = Check(path="/v1/models", json="data.0.id")


def backend_kind(component, check=LISTS_MODELS, **kw):
    fingerprints = (Fingerprint(ports=(1,), checks=(check,)),)

    @contextlib.asynccontextmanager
    async def open_(server, options, scope):
        yield component(server, options, scope)

    return BackendKind(name="sound", open=open_, fingerprints=fingerprints, **kw)


class TestSoundBackend(BackendContract):
    kind = backend_kind(Sound)
    models = ("tiny",)
    generic = True

    def server(self):
        return openai_server(self.models)


class Raises(Sound):
    async def probe(self):
        listed = await self.get_json("/v1/models")
        return Report(ok=True, models=tuple(Model(id=entry["id"]) for entry in listed["data"]))


class AlwaysWell(Sound):
    async def probe(self):
        with contextlib.suppress(BackendError):
            return await super().probe()
        return Report(ok=True)

    async def get_json(self, path, **kw):
        try:
            return await super().get_json(path, **kw)
        except BackendError:
            return {"data": []}


class Silent(Sound):
    async def probe(self):
        return replace(await super().probe(), problem="")


class Blind(Sound):
    async def probe(self):
        return replace(await super().probe(), models=())


class Billing(Sound):
    async def probe(self):
        await self.get_json("/v1/chat/completions", method="POST", body={})
        return await super().probe()


class Idle(Sound):
    async def probe(self):
        return Report(ok=True, models=(Model(id="tiny"),))


class Patient(Sound):
    async def get_json(self, path, **kw):
        return await super().get_json(path, timeout=3600)


class Follows(Sound):
    async def probe(self):
        async with self.scope.session().get(f"{self.base}/v1/models", headers=dict(self._auth)) as answer:
            await answer.read()
        return await super().probe()


class TwicePath(Sound):
    def __init__(self, server, options, scope):
        super().__init__(server, options, scope)
        self.base = server.url


class Tells(Sound):
    async def probe(self):
        report = await super().probe()
        return replace(report, problem=report.problem + self.server.key.reveal())


class Logs(Sound):
    async def probe(self):
        self.scope.log.info("probing with %s", self.server.key.reveal())
        return await super().probe()


class Spreads(Sound):
    async def get_json(self, path, **kw):
        return await super().get_json(f"{path}?key={self.server.key.reveal()}", **kw)


class Keyless(Sound):
    def auth(self):
        return {}


class Changes(Sound):
    async def send(self, call):
        return await super().send(replace(call, body=call.body + b" "))


class Wrapped(Sound):
    """Sends as it should, then lets `changed` have the reply."""

    async def changed(self, reply):
        raise NotImplementedError

    async def send(self, call):
        return await self.changed(await super().send(call))


class Collects(Wrapped):
    async def changed(self, reply):
        parts = [part async for part in pieces(reply)]
        return replace(reply, read=iter_read([b"".join(parts)]))


class Flattens(Wrapped):
    async def changed(self, reply):
        return replace(reply, status=200, headers=())


class Swallows(Wrapped):
    async def changed(self, reply):
        async def read():
            try:
                return await reply.read()
            except BackendError:
                return b""

        return replace(reply, read=read)


class Keeps(Sound):
    """Never gives an exchange up."""

    def __init__(self, server, options, scope):
        super().__init__(server, options, scope)
        self.kept = []

    async def send(self, call):
        reply = await super().send(call)
        self.kept.append(reply)
        return replace(reply, aclose=nothing)


class Pretends(Sound):
    async def send(self, call):
        try:
            return await super().send(call)
        except BackendError:
            return Reply(status=502, headers=(), read=iter_read([]), aclose=nothing)


async def nothing():
    """Closes nothing."""


async def pieces(reply):
    while part := await reply.read():
        yield part


def iter_read(parts):
    left = iter(parts)

    async def read():
        return next(left, b"")

    return read


def breach(base, component, **words):
    """The contract for a broken component."""
    return type(f"Breach{component.__name__}", (base,), {"kind": backend_kind(component), **words})


@pytest.mark.parametrize(
    ("promise", "component"),
    [
        ("test_probe_reports_the_models", Blind),
        ("test_probe_finds_the_models_with_the_api_path_in_the_url", TwicePath),
        ("test_probe_has_no_side_effects", Billing),
        ("test_probe_has_no_side_effects", Idle),
        ("test_probe_of_a_dead_port_is_a_report", Raises),
        ("test_probe_of_a_dead_port_is_a_report", Silent),
        ("test_probe_of_a_dead_port_is_a_report", AlwaysWell),
        ("test_probe_follows_no_redirect", Follows),
        ("test_send_sends_the_body_as_it_is", Changes),
        ("test_send_to_a_dead_port_raises", Pretends),
        ("test_send_takes_nothing_private_to_an_address_that_is_not", Careless),
    ],
)
async def test_a_broken_backend_is_caught(promise, component):
    assert await broken(breach(TestSoundBackend, component), promise)


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_backend_that_believes_anything_is_caught(answer):
    class Believes(Sound):
        async def probe(self):
            with contextlib.suppress(BackendError):
                await self.get_json("/v1/models")
            return Report(ok=True)

    assert await broken(breach(TestSoundBackend, Believes), "test_probe_of_something_else_is_a_report", answer=answer)


async def test_a_probe_that_stumbles_over_odd_lists_is_caught():
    entries = ODD_LISTS["odd entries"]
    assert await broken(breach(TestSoundBackend, Raises), "test_probe_survives_odd_model_lists", entries=entries)


async def test_a_probe_without_a_timeout_is_caught(monkeypatch):
    promise = "test_probe_of_a_server_that_hangs_ends_in_a_report"
    assert await broken(breach(TestSoundBackend, Patient), promise, monkeypatch=monkeypatch)


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_broken_stream_that_looks_whole_is_caught(end):
    assert await broken(breach(TestSoundBackend, Swallows), "test_a_stream_that_breaks_raises", end=end)


@pytest.mark.parametrize("status", [400, 429, 503])
async def test_a_changed_answer_is_caught(status):
    assert await broken(breach(TestSoundBackend, Flattens), "test_send_relays_the_answer", status=status)


async def test_a_changed_stream_is_caught():
    class Drops(Wrapped):
        async def changed(self, reply):
            await reply.read()
            return reply

    assert await broken(breach(TestSoundBackend, Drops), "test_send_relays_a_stream_as_it_is")


@pytest.mark.parametrize(
    ("promise", "component"),
    [("test_send_yields_before_the_stream_has_ended", Collects), ("test_leaving_early_gives_the_exchange_up", Keeps)],
)
async def test_a_backend_that_holds_on_is_caught(promise, component):
    assert await broken(breach(TestSoundBackend, component, patience=0.2), promise)


@pytest.mark.parametrize("component", [Tells, Logs, Spreads, Keyless])
async def test_a_key_that_gets_about_is_caught(component, caplog):
    promise = "test_the_key_goes_in_its_header_and_nowhere_else"
    assert await broken(breach(TestSoundBackend, component), promise, caplog=caplog)


@pytest.mark.parametrize("component", [Tells, Logs])
async def test_a_key_that_is_repeated_is_caught(component, caplog):
    promise = "test_a_server_that_repeats_the_key_does_not_spread_it"
    assert await broken(breach(TestSoundBackend, component), promise, caplog=caplog)


@pytest.mark.parametrize(
    ("promise", "words"),
    [
        ("test_the_fingerprint_matches_the_double", {"kind": backend_kind(Sound, Check(path="/nowhere"))}),
        ("test_the_fingerprint_matches_no_other_server", {"generic": False}),
        ("test_kind_default_url_has_no_trailing_slash", {"kind": backend_kind(Sound, default_url="http://127.0.0.1:1/")}),
        ("test_kind_can_be_configured_without_options", {"kind": backend_kind(Sound, options=dict)}),
        *(
            ("test_failures_are_written_as_they_are_compared", {"kind": backend_kind(Sound, failures=(rule,))})
            for rule in (
                FailureRule(fault=Fault.BUSY, words="Server busy", source="x"),
                FailureRule(fault=Fault.BUSY, words="server  busy", source="x"),
                FailureRule(fault=Fault.BUSY, words="…", source="x"),
                FailureRule(fault=Fault.BUSY, words="server busy"),
                FailureRule(fault=Fault.BUSY, status=503, source="x"),
            )
        ),
    ],
)
async def test_a_broken_descriptor_is_caught(promise, words):
    assert await broken(type("Breach", (TestSoundBackend,), words), promise)


# ---------------------------------------------------------------- stages


class Modest(Stage):
    """Every verb, as it should be."""

    def __init__(self, options, scope):
        self.scope = scope

    def describe(self, request, leg, payload, known):
        return Demand(min_tier=2) if payload.parsed.get("tools") else Demand()

    def refuse(self, ask, candidate):
        if candidate.tier >= ask.demand.min_tier:
            return None
        return Refusal(kind=RefusalKind.POLICY, code="tier_too_low", data={"tier": candidate.tier})

    def rank(self, ask, candidate):
        return candidate.priority / 100

    def prepare(self, call):
        return replace(call, body=call.body + b" ")

    async def admit(self, call):
        if call.candidate.cloud:
            raise Refused(Refusal(kind=RefusalKind.POLICY, code="no_cloud"))

    def tell(self, ask, candidate):
        return {"X-Nexus-Tier": str(candidate.tier)}

    def lacks(self, candidate):
        return {"vision": 1.5}

    def learn(self, event):
        self.scope.changed()


class TestModestStage(StageContract):
    kind = StageKind(name="modest", open=opens(Modest))


class TestStageWithoutVerbs(StageContract):
    kind = StageKind(name="silent", open=opens(lambda options, scope: Stage()))


def raising(*_):
    raise LookupError


async def async_raising(*_):
    raise LookupError


async def async_none(*_):
    return None


async def async_false(*_):
    return False


def gives(value):
    return lambda *_: value


def alternating(one, other):
    values = itertools.cycle((one, other))
    return lambda *_: next(values)


def spoil(self, request, leg, payload, known):
    payload.parsed["model"] = "mine"
    return Demand()


def learn_no_leaving(self, event):
    assert hasattr(event, "request")


REFUSAL = Refusal(kind=RefusalKind.POLICY, code="no")

STAGE_BREACHES = {
    "describe": (
        "test_describe_gives_a_demand_and_changes_nothing",
        [raising, gives(None), gives({"zone": "open"}), alternating(Demand(), Demand(min_tier=1)), spoil],
    ),
    "refuse": (
        "test_refuse_gives_a_refusal_or_none",
        [
            raising,
            gives(False),
            gives("no"),
            gives(replace(REFUSAL, code="Not allowed!")),
            gives(replace(REFUSAL, kind="policy-ish")),
            gives(replace(REFUSAL, data={"x": object()})),
            gives(replace(REFUSAL, retry_at=float("nan"))),
        ],
    ),
    "refuse twice": ("test_refuse_says_the_same_twice_in_any_order", [alternating(None, REFUSAL)]),
    "rank": ("test_rank_is_a_finite_number_of_seconds", [raising, gives(None), gives(float("inf")), gives(float("nan"))]),
    "prepare": (
        "test_prepare_changes_only_what_is_sent",
        [
            raising,
            gives(None),
            lambda self, call: replace(call, path="/elsewhere"),
            lambda self, call: replace(call, candidate=replace(call.candidate, backend="mine")),
            lambda self, call: replace(call, body="text"),
            lambda self, call: replace(call, headers=(("X-Mine", "1"),)),
        ],
    ),
    "admit": ("test_admit_returns_nothing_or_raises_refused", [async_raising, async_false, raising]),
    "tell": (
        "test_tell_gives_headers_of_nexus",
        [
            raising,
            gives(None),
            gives({"X-Mine": "1"}),
            gives({"X-Nexus-Tier": 1}),
            gives({"X-Nexus-Tier": "a\r\nSet-Cookie: b"}),
            gives({"X-Nexus-Tier\r\n": "1"}),
            gives({"X-Nexus-Tier": "é"}),
        ],
    ),
    "lacks": (
        "test_lacks_gives_seconds_by_need",
        [raising, gives(None), gives({"vision": "long"}), gives({1: 1.0}), gives({"vision": float("inf")})],
    ),
    "learn": ("test_learn_takes_every_event", [raising, learn_no_leaving, async_none, gives(1)]),
    "learn then refuse": ("test_the_verdicts_hold_after_everything_has_been_learnt", [raising]),
}


@pytest.mark.filterwarnings("ignore:coroutine 'async_none' was never awaited")
@pytest.mark.parametrize(
    ("verb", "promise", "method"),
    [(verb.split()[0], promise, method) for verb, (promise, methods) in STAGE_BREACHES.items() for method in methods],
)
async def test_a_broken_stage_is_caught(verb, promise, method):
    component = type("Broken", (Modest,), {verb: method})
    assert await broken(type("Breach", (StageContract,), {"kind": StageKind(name="broken", open=opens(component))}), promise)


# ---------------------------------------------------------------- dialects


class ToyReader(Reader):
    """Server-sent events of JSON; `{"usage": …}` before the last one, which is `END`."""

    def __init__(self, hide_usage):
        self.held = b""
        self.last = b""
        self.hide = hide_usage
        self.known = Usage()

    def feed(self, data):
        self.held += data
        ready, boundary, rest = self.held.rpartition(b"\n\n")
        self.held = rest if boundary else self.held
        return b"".join(self.passed(event + b"\n\n") for event in ready.split(b"\n\n") if event) if boundary else b""

    def passed(self, event):
        if self.over:
            return b""
        self.last = event
        if not event.startswith(b"data: ") or event == b"data: END\n\n":
            return event
        value = json.loads(event[6:])
        if not self.begun:
            self.begun, self.error = True, value.get("error")
        self.over = "error" in value
        if "usage" in value:
            self.known = Usage(input_tokens=value["usage"][0], output_tokens=value["usage"][1], source="reported")
        return b"" if self.hide and "usage" in value else event

    def finish(self):
        if self.over:
            raise BackendError("error_event")
        if self.held or self.last != b"data: END\n\n":
            raise BackendError("cut")
        return b""

    def usage(self):
        return self.known


class Toy(Dialect):
    """A small but sound dialect.  Its bodies are as `json.dumps` writes them, so that a splice keeps their values."""

    name = "toy"
    endpoints = (Endpoint(path="/toy", task="chat"),)
    keepalive = b": still here\n\n"
    reads = ToyReader

    def __init__(self, options, scope):
        pass

    def decode(self, endpoint, payload):
        try:
            body = payload.parsed
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise Problem(400, "invalid_request", "a JSON object with a 'model' is needed")
        return Facts(model=body["model"], stream=body.get("stream", False), tokens_high=9)

    def splice(self, endpoint, body, splice):
        value = json.loads(body)
        if splice.model is not None:
            value["model"] = splice.model
        if splice.ask_usage:
            value["usage"] = True
        return json.dumps(value).encode()

    def reader(self, endpoint, facts, *, hide_usage):
        return self.reads(hide_usage)

    def error(self, problem, request_id):
        return json.dumps({"error": problem.message}).encode()

    def error_event(self, problem, request_id):
        return b"data: " + self.error(problem, request_id) + b"\n\n"

    def read_error(self, body):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return "unreadable"
        return str(value.get("error")) if isinstance(value, dict) else "unreadable"

    def models(self, entries, query):
        return json.dumps([entry.name for entry in entries]).encode()

    def model(self, entry):
        return json.dumps({"model": entry.name}).encode()


WIRE = sse({"text": "hé"}) + sse({"usage": [3, 2]}) + sse("END")
HIDDEN = sse({"text": "hé"}) + sse("END")
ASKED = json.dumps({"model": "tiny", "stream": True, "words": ["a", "b"]}).encode()
TOY_USAGE = Usage(input_tokens=3, output_tokens=2, source="reported")


class TestToyDialect(DialectContract):
    kind = DialectKind(name="toy", open=opens(Toy))
    goldens = (
        Golden(path="/toy", request=ASKED, wire=WIRE, usage=TOY_USAGE),
        Golden(path="/toy", request=ASKED, wire=WIRE, usage=TOY_USAGE, out=HIDDEN, hide_usage=True),
    )


def reading(**methods):
    """A dialect whose reader is broken so."""
    return type("Broken", (Toy,), {"reads": type("BrokenReader", (ToyReader,), methods)})


def speaking(**methods):
    """A dialect that is itself broken so."""
    return type("Broken", (Toy,), methods)


class UnbufferedReader(ToyReader):
    def feed(self, data):
        super().feed(data)
        return data


class ForgetfulReader(ToyReader):
    def feed(self, data):
        self.held = b""
        return super().feed(data)


def finish_anyway(self):
    return self.held


def finish_early(self):
    """Takes half a last event for a whole one."""
    if self.held.startswith(b"data: E"):
        return self.held
    return ToyReader.finish(self)


def decode_anything(self, endpoint, payload):
    return Facts(model="tiny", stream=True, tokens_high=9)


def decode_without_a_doubt(self, endpoint, payload):
    return replace(Toy.decode(self, endpoint, payload), unambiguous=True)


def decode_upside_down(self, endpoint, payload):
    return replace(Toy.decode(self, endpoint, payload), tokens_low=10**9)


def splice_reformats(self, endpoint, body, splice):
    return json.dumps(json.loads(Toy.splice(self, endpoint, body, splice)), indent=1).encode()


def splice_keeps_twins(self, endpoint, body, splice):
    return body if splice == Splice() else Toy.splice(self, endpoint, body, splice)


def splice_drops(self, endpoint, body, splice):
    value = json.loads(Toy.splice(self, endpoint, body, splice))
    if splice.ask_usage:
        del value["stream"]
    return json.dumps(value).encode()


DIALECT_BREACHES = [
    ("test_a_reply_reads_the_same_wherever_it_is_split", type("Broken", (Toy,), {"reads": ForgetfulReader})),
    ("test_a_reply_reads_the_same_wherever_it_is_split", reading(usage=gives(Usage()))),
    ("test_a_reply_reads_the_same_byte_by_byte", type("Broken", (Toy,), {"reads": ForgetfulReader})),
    ("test_a_reply_reads_the_same_byte_by_byte", reading(passed=lambda self, event: event)),
    ("test_only_whole_events_are_passed_on", type("Broken", (Toy,), {"reads": UnbufferedReader})),
    ("test_a_stream_that_is_cut_looks_cut", reading(finish=finish_anyway)),
    ("test_a_stream_that_is_cut_looks_cut", reading(finish=gives(b""))),
    ("test_a_stream_that_is_cut_looks_cut", reading(finish=finish_early)),
    ("test_a_cut_behind_the_last_needed_event_passes_on_whole_events", reading(finish=finish_early)),
    ("test_decode_refuses_what_is_malformed", speaking(decode=decode_anything)),
    ("test_decode_refuses_what_is_malformed", speaking(decode=raising)),
    ("test_decode_bounds_the_prompt", speaking(decode=decode_upside_down)),
    ("test_splice_changes_nothing_else", speaking(splice=splice_reformats)),
    ("test_what_was_judged_is_what_leaves", speaking(splice=splice_keeps_twins)),
    ("test_what_was_judged_is_what_leaves", speaking(decode=decode_without_a_doubt)),
    ("test_splice_changes_nothing_else", speaking(splice=lambda self, endpoint, body, splice: body)),
    ("test_asking_for_usage_changes_nothing_else", speaking(splice=splice_drops)),
    ("test_an_error_is_json_with_the_message", speaking(error=gives(b"it broke"))),
    ("test_an_error_is_json_with_the_message", speaking(error=gives(b'{"error": "something"}'))),
    ("test_an_error_is_json_with_the_message", speaking(read_error=gives("something"))),
    ("test_read_error_takes_anything", speaking(read_error=lambda self, body: json.loads(body)["error"])),
    ("test_an_error_event_is_read_as_an_error", speaking(error_event=gives(sse({"text": "sorry"})))),
    (
        "test_nothing_is_passed_on_after_an_error_event",
        reading(over=property(lambda self: False, lambda self, value: None)),
    ),
    ("test_nothing_is_passed_on_after_an_error_event", reading(finish=gives(b""))),
    ("test_the_keepalive_begins_nothing", speaking(keepalive=sse({"text": ""}))),
    ("test_the_model_list_names_every_model", speaking(models=gives(b"[]"))),
    ("test_the_model_list_names_every_model", speaking(model=gives(b"{}"))),
]


@pytest.mark.parametrize(("promise", "component"), DIALECT_BREACHES)
async def test_a_broken_dialect_is_caught(promise, component):
    words = {"kind": DialectKind(name="broken", open=opens(component))}
    assert await broken(type("Breach", (TestToyDialect,), words), promise)


@pytest.mark.parametrize("goldens", [(), (Golden(path="/toy", request=b'{"model": "a"}', wire=WIRE, usage=TOY_USAGE),)])
async def test_goldens_without_a_stream_are_not_enough(goldens):
    contract = type("Breach", (TestToyDialect,), {"goldens": goldens})
    assert await broken(contract, "test_a_stream_that_is_cut_looks_cut")


async def test_spare_events_may_be_missing():
    class Lenient(ToyReader):
        def finish(self):
            if self.known == Usage():
                raise BackendError("cut")
            return b""

    lenient = DialectKind(name="toy", open=opens(type("Lenient", (Toy,), {"reads": Lenient})))
    golden = replace(TestToyDialect.goldens[0], spare=1)
    contract = type("Breach", (TestToyDialect,), {"kind": lenient, "goldens": (golden,)})
    assert not await broken(contract, "test_a_stream_that_is_cut_looks_cut")
    strict = type("Breach", (contract,), {"goldens": (replace(golden, spare=0),)})
    assert await broken(strict, "test_a_stream_that_is_cut_looks_cut")


# ---------------------------------------------------------------- sources and observers


class Counting(Observer):
    def __init__(self, options, scope):
        self.seen = 0

    def see(self, event):
        self.seen += 1


class TestCountingObserver(ObserverContract):
    kind = ObserverKind(name="counting", open=opens(Counting))


@pytest.mark.filterwarnings("ignore:coroutine 'async_none' was never awaited")
@pytest.mark.parametrize("see", [raising, learn_no_leaving, async_none, gives(1)])
async def test_a_broken_observer_is_caught(see):
    kind = ObserverKind(name="broken", open=opens(type("Broken", (Counting,), {"see": see})))
    assert await broken(type("Breach", (ObserverContract,), {"kind": kind}), "test_see_takes_every_event")


# ---------------------------------------------------------------- routes


class Greeting(Routes):
    """Answers one path."""

    def __init__(self, options, scope):
        pass

    def routes(self):
        yield Route(path="/greeting/{tail}", handler=self.greet)

    async def greet(self, request):
        return web.Response(text=request.match_info["tail"])


class TestGreetingRoutes(RoutesContract):
    kind = RoutesKind(name="greeting", open=opens(Greeting))


async def failing(request):
    raise ValueError("no")


@pytest.mark.parametrize(
    ("promise", "routes"),
    [
        ("test_routes_can_be_mounted", ()),
        ("test_routes_can_be_mounted", ("/x",)),
        ("test_routes_can_be_mounted", (Route(path="x", handler=failing),)),
        ("test_routes_can_be_mounted", (Route(path="/v1/x", handler=failing),)),
        ("test_routes_can_be_mounted", (Route(path="/x", handler=failing, method="get"),)),
        ("test_routes_can_be_mounted", (Route(path="/x", handler=failing), Route(path="/x", handler=failing))),
        ("test_every_get_is_answered", (Route(path="/x", handler=failing),)),
    ],
)
async def test_broken_routes_are_caught(promise, routes):
    kind = RoutesKind(name="broken", open=opens(type("Broken", (Greeting,), {"routes": lambda self: routes})))
    assert await broken(type("Breach", (RoutesContract,), {"kind": kind}), promise)


URL = "http://127.0.0.1:1"


class Watching(Source):
    """Sees one server, then waits for more."""

    def __init__(self, options, scope):
        self.scope = scope

    async def watch(self):
        yield Sighting(url=URL, source="test", evidence="it is always there")
        await asyncio.Event().wait()


class TestWatchingSource(SourceContract):
    kind = SourceKind(name="watching", open=opens(Watching))

    @contextlib.asynccontextmanager
    async def world(self):
        yield {URL}


async def watch_nothing(self):
    await asyncio.Event().wait()
    yield


async def watch_untyped(self):
    yield URL


async def watch_slash(self):
    yield Sighting(url=URL + "/", source="test")


async def watch_anonymous(self):
    yield Sighting(url=URL)


async def watch_loss(self):
    yield Sighting(url=URL, found=False, source="test")


async def watch_deaf(self):
    yield Sighting(url=URL, source="test")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def watch_leaving_a_task(self):
    left.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))
    yield Sighting(url=URL, source="test")
    await asyncio.Event().wait()


left: list[asyncio.Task] = []


@pytest.mark.parametrize(
    ("promise", "watch"),
    [
        ("test_watch_finds_what_is_there", watch_nothing),
        ("test_watch_finds_what_is_there", watch_untyped),
        ("test_watch_finds_what_is_there", watch_slash),
        ("test_watch_finds_what_is_there", watch_anonymous),
        ("test_watch_finds_what_is_there", watch_loss),
        ("test_cancelling_stops_it", watch_deaf),
        ("test_cancelling_stops_it", watch_leaving_a_task),
    ],
)
async def test_a_broken_source_is_caught(promise, watch):
    kind = SourceKind(name="broken", open=opens(type("Broken", (Watching,), {"watch": watch})))
    assert await broken(type("Breach", (TestWatchingSource,), {"kind": kind, "patience": 0.2}), promise)
    for task in left:
        task.cancel()
    left.clear()


async def test_a_world_without_servers_is_not_enough():
    class Empty(TestWatchingSource):
        @contextlib.asynccontextmanager
        async def world(self):
            yield set()

    assert await broken(Empty, "test_watch_finds_what_is_there")


# ---------------------------------------------------------------- the base classes


def test_a_backend_needs_a_double():
    with pytest.raises(NotImplementedError):
        BackendContract().server()
    with pytest.raises(NotImplementedError):
        SourceContract().world()


async def test_a_kind_without_a_fingerprint_is_skipped():
    kind = replace(TestSoundBackend.kind, fingerprints=())
    contract = type("Bare", (TestSoundBackend,), {"kind": kind})
    with pytest.raises(pytest.skip.Exception, match="has no fingerprint"):
        await contract().test_the_fingerprint_matches_the_double()


@pytest.mark.parametrize(
    "contract", [BackendContract, StageContract, DialectContract, SourceContract, ObserverContract, RoutesContract]
)
def test_every_promise_is_broken_by_somebody_here(contract):
    named = set(re.findall(r'"(test_\w+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {name for name in dir(contract) if name.startswith("test_")} <= named
