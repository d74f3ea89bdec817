"""The request log: what a line says, what it never says, and that nobody can forge one."""

import asyncio
import io
import json
import logging

import pytest

from nexus.api import Answered, Attempt, Candidate, Claimed, Request, Usage, Zone, replace
from nexus.observers import log
from nexus.observers.format import FLUSH_LINES, HANDLER, LineHandler, setup_logging
from nexus.observers.line import clip
from nexus.observers.log import RequestLog
from nexus.plain import plain
from nexus.testing import FakeClock, until

REQUEST = Request(id="req-1", dialect="openai", task="chat", model="gpt-4o", key="laptop", headers={"x-secret": "sk-very-secret"})
GPU = Candidate(backend="gpu", kind="ollama", model="llama3:70b", name="llama3", zone=Zone.RESTRICTED)
ANSWERED = Answered(
    at=1.0,
    request=REQUEST,
    status=200,
    outcome="ok",
    candidate=GPU,
    reason="failover",
    attempts=(Attempt(backend="old", model="llama3", outcome="failed"), Attempt(backend="gpu", model="llama3", outcome="ok")),
    usage=Usage(input_tokens=12, output_tokens=34, source="reported"),
    cost=0.0042,
    seconds=1.5,
    queue_seconds=0.25,
    first_byte=0.5,
)
INJECTION = 'evil"\n{"level": "error"}\r\x1b[31m red \u2028 \u202e \ud800'


@pytest.fixture
def out():
    """A stream, and every logger as it was afterwards."""
    root, nexus, requests = logging.getLogger(), logging.getLogger("nexus"), logging.getLogger("nexus.request")
    levels = root.level, nexus.level, requests.level
    yield io.StringIO()
    for handler in [handler for handler in root.handlers if handler.name == HANDLER]:
        root.removeHandler(handler)
    for logger, level in zip((root, nexus, requests), levels, strict=True):
        logger.setLevel(level)


def seen(out, format, *events, level="info"):
    setup_logging(format, level, out)
    root = logging.getLogger()
    for listening in [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest.")]:
        root.removeHandler(listening)  # pytest puts it back: with it, no line would be written without a record
    observer = RequestLog(FakeClock())
    for event in events:
        observer.see(event)
    return out.getvalue()


def test_a_json_line_has_every_fact(out):
    entry = json.loads(seen(out, "json", ANSWERED))
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "nexus.request",
        "id": "req-1",
        "key": "laptop",
        "dialect": "openai",
        "task": "chat",
        "model": "gpt-4o",
        "answered_model": "llama3",
        "backend": "gpu",
        "zone": "restricted",
        "status": 200,
        "code": None,
        "outcome": "ok",
        "reason": "failover",
        "attempts": 2,
        "met": ["old: failed"],
        "queue_ms": 250.0,
        "first_byte_ms": 500.0,
        "total_ms": 1500.0,
        "input_tokens": 12,
        "output_tokens": 34,
        "tokens_source": "reported",
        "cost_usd": 0.0042,
    }


def test_a_pretty_line_reads_well(out):
    line = seen(out, "pretty", ANSWERED)
    assert line.endswith(
        "INFO    nexus.request: 200 ok openai/chat gpt-4o → llama3 on gpu (restricted) failover 2 attempts (old: failed) "
        "queued 250 ms, first byte 500 ms, total 1500 ms, 12+34 tokens reported, $0.0042 key laptop [req-1]\n"
    )


def test_a_failed_line_names_what_each_attempt_met(out):
    met = (
        Attempt(backend="a", model="m", outcome="failed", code="connect_refused"),
        Attempt(backend="b", model="m", outcome="rejected", code="status", status=401, message="bad key sk-1"),
    )
    failed = Answered(at=1.0, request=REQUEST, status=502, outcome="refused", code="all_attempts_failed", attempts=met)
    line = seen(out, "pretty", failed)
    assert "2 attempts (a: connect_refused, b: 401) total" in line
    assert "sk-1" not in line


def test_a_client_that_left_is_said_to_have_left_once(out):
    attempts = (Attempt(backend="gpu", model="llama3", outcome="left", code="client_left"),)
    left = replace(ANSWERED, outcome="client_left", code="client_left", attempts=attempts)
    assert seen(out, "pretty", left).count("left") == 1


def test_a_request_that_found_no_backend_has_a_line_too(out):
    refused = Answered(at=1.0, request=replace(REQUEST, key=None), status=404, outcome="refused", code="model_not_found")
    assert json.loads(seen(out, "json", refused))["backend"] is None
    out.truncate(0)
    assert seen(out, "pretty", refused).endswith("404 refused model_not_found openai/chat gpt-4o total 0 ms [req-1]\n")


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_what_a_client_says_stays_on_its_line(out, format):
    forged = replace(ANSWERED, request=replace(REQUEST, id=INJECTION, model=INJECTION))
    text = seen(out, format, forged)
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    text.encode()


def test_json_keeps_what_a_client_said_as_it_was(out):
    forged = replace(ANSWERED, request=replace(REQUEST, model=INJECTION))
    assert json.loads(seen(out, "json", forged))["model"] == INJECTION


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_a_name_longer_than_any_is_cut(out, format):
    endless = replace(ANSWERED, request=replace(REQUEST, model="m" * 100_000))
    assert len(seen(out, format, endless)) < 1000


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_headers_are_never_in_it(out, format):
    text = seen(out, format, ANSWERED)
    assert "gpt-4o" in text
    assert "sk-very-secret" not in text


def test_only_answers_have_a_line(out):
    assert seen(out, "json", Claimed(at=1.0, claim=1, request=REQUEST, candidate=GPU)) == ""


@pytest.mark.parametrize(("format", "level"), [("json", "warning"), ("none", "debug")])
def test_where_nobody_listens_nothing_is_made(out, monkeypatch, format, level):
    def never(event):
        raise AssertionError("a line was made")

    monkeypatch.setattr(log, "line_of", never)
    assert seen(out, format, ANSWERED, level=level) == ""


def test_none_leaves_warnings(out):
    setup_logging("none", "info", out)
    logging.getLogger("nexus.fleet").warning("gpu is down")
    assert out.getvalue().endswith("WARNING nexus.fleet: gpu is down\n")


def test_other_records_are_json_too_with_their_exception(out):
    setup_logging("json", "info", out)
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        logging.getLogger("nexus.fleet").exception("it %s", "broke")
    entry = json.loads(out.getvalue())
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "nexus.fleet", "it broke")
    assert "ValueError: bad\nnews" in entry["exception"]


def test_pretty_indents_further_lines_so_that_none_passes_for_a_record(out):
    setup_logging("pretty", "info", out)
    logging.getLogger("nexus.fleet").warning("first\n2030-01-01T00:00:00.000Z ERROR   nexus: forged \x1b[31m")
    first, second = out.getvalue().splitlines()
    assert first.endswith("nexus.fleet: first")
    assert second == "    2030-01-01T00:00:00.000Z ERROR   nexus: forged \\x1b[31m"


def test_an_exception_is_indented_below_its_record(out):
    setup_logging("pretty", "info", out)
    try:
        raise ValueError("bad news")
    except ValueError:
        logging.getLogger("nexus.fleet").exception("it broke")
    head, *rest = out.getvalue().splitlines()
    assert head.endswith("ERROR   nexus.fleet: it broke")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    ValueError: bad news"


class Elsewhere(logging.Handler):
    """What an application that embeds Nexus may do with its records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.mark.parametrize(
    ("status", "outcome", "level"),
    [
        (200, "ok", "INFO"),
        (404, "refused", "INFO"),
        (429, "refused", "INFO"),
        (499, "client_left", "INFO"),
        (500, "refused", "WARNING"),
        (503, "refused", "WARNING"),
        (200, "broken", "WARNING"),
    ],
)
def test_what_failed_is_a_warning(out, status, outcome, level):
    event = replace(ANSWERED, status=status, outcome=outcome)
    said = {"refused": "failed"}.get(outcome, outcome) if status >= 500 else {"broken": "broken off"}.get(outcome, outcome)
    assert f" {level:7} nexus.request: {status} {said} " in seen(out, "pretty", event)
    out.seek(0)
    out.truncate()
    assert json.loads(seen(out, "json", event))["level"] == level.lower()
    out.seek(0)
    out.truncate()
    assert bool(seen(out, "pretty", event, level="warning")) == (level == "WARNING")


@pytest.mark.parametrize("event", ["answered", "odd", "failed"])
@pytest.mark.parametrize("format", ["json", "pretty"])
@pytest.mark.parametrize("name", ["nexus.request", "nexus", ""])
def test_who_else_listens_gets_a_whole_record_and_our_line_stays_the_same(out, monkeypatch, name, format, event):
    event = {
        "answered": ANSWERED,
        "odd": replace(ANSWERED, request=replace(REQUEST, model=INJECTION)),
        "failed": replace(ANSWERED, status=503, outcome="refused"),
    }[event]
    with monkeypatch.context() as without_records:
        without_records.delattr(RequestLog, "_record")
        alone = seen(out, format, event)
    out.seek(0)
    out.truncate()
    logger, elsewhere = logging.getLogger(name), Elsewhere()
    logger.addHandler(elsewhere)
    try:
        beside = seen(out, format, event)
    finally:
        logger.removeHandler(elsewhere)
    (record,) = elsewhere.records
    level = logging.WARNING if event.status == 503 else logging.INFO
    assert (record.name, record.levelno, record.levelname) == ("nexus.request", level, logging.getLevelName(level))
    assert (record.fields["id"], record.fields["status"]) == ("req-1", event.status)
    said = "failed" if event.status >= 500 else event.outcome
    assert f"{event.status} {said} openai/chat" in logging.Formatter("%(asctime)s %(process)d %(message)s").format(record)
    assert beside == alone


def test_what_a_filter_drops_is_not_written(out):
    setup_logging("json", "info", out).addFilter(lambda record: record.name != "nexus.request")
    RequestLog(FakeClock()).see(ANSWERED)
    assert out.getvalue() == ""


async def test_lines_that_are_no_warnings_are_written_together(out):
    handler = setup_logging("json", "info", out)
    observer = RequestLog(FakeClock())
    observer.see(ANSWERED)
    logging.getLogger("nexus").info("between")
    observer.see(ANSWERED)
    assert out.getvalue() == ""
    logging.getLogger("nexus").warning("now")
    logger_of = [json.loads(line)["logger"] for line in out.getvalue().splitlines()]
    assert logger_of == ["nexus.request", "nexus", "nexus.request", "nexus"]
    for _ in range(FLUSH_LINES):
        observer.see(ANSWERED)
    assert len(out.getvalue().splitlines()) == 4 + FLUSH_LINES
    handler.flush()
    assert len(out.getvalue().splitlines()) == 4 + FLUSH_LINES


def test_one_loop_after_another_and_none_between(out):
    handler = LineHandler(out)

    async def told(line: str) -> None:
        handler.put(line)

    async def told_and_waited(line: str) -> None:
        handler.put(line)
        await until(lambda: line in out.getvalue())

    asyncio.run(told("the first loop ends before it is time"))
    handler.put("no loop runs")
    assert out.getvalue().splitlines() == ["the first loop ends before it is time", "no loop runs"]
    asyncio.run(told_and_waited("the second"))


def test_a_stream_that_does_not_take_every_character_loses_no_line():
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding="ascii")
    handler = LineHandler(stream)
    handler.put("good")
    handler.put("café", at_once=True)
    stream.flush()
    assert kept.getvalue().splitlines() == [b"good", rb"caf\xe9"]


@pytest.mark.parametrize("error", [RuntimeError, BrokenPipeError, ValueError])
def test_a_warning_that_cannot_be_written_stops_nothing(error):
    class Broken(io.StringIO):
        def write(self, text):
            raise error

    logger = logging.getLogger("nexus.broken")
    logger.addHandler(LineHandler(Broken()))
    logger.propagate = False
    try:
        logger.warning("lost")
    finally:
        logger.handlers.clear()
        logger.propagate = True


def test_a_stream_that_nobody_reads_any_more_stops_nothing():
    class Broken(io.StringIO):
        written = 0

        def write(self, text):
            Broken.written += 1
            raise BrokenPipeError

    handler = LineHandler(Broken())
    handler.put("a line", at_once=True)
    handler.put("another", at_once=True)
    assert Broken.written == 2


def test_setting_up_again_replaces_the_former_handler(out):
    setup_logging("pretty", "info", io.StringIO())
    seen(out, "json", ANSWERED)
    assert [handler.name for handler in logging.getLogger().handlers].count(HANDLER) == 1
    assert json.loads(out.getvalue())["id"] == "req-1"


def test_after_none_the_requests_can_be_logged_again(out):
    setup_logging("none", "info", out)
    assert json.loads(seen(out, "json", ANSWERED))["id"] == "req-1"


@pytest.mark.parametrize(("format", "level"), [("xml", "info"), ("json", "loud")])
def test_what_is_unknown_is_refused_with_the_known(out, format, level):
    with pytest.raises(ValueError, match=r"unknown log .* use "):
        setup_logging(format, level, out)


def test_plain_and_clip_leave_honest_names_alone():
    assert plain("mistral-nemo:12b é 模型") == "mistral-nemo:12b é 模型"
    assert plain("a\nb\x1b") == "a\\nb\\x1b"
    assert clip("short") == "short"
    assert clip("x" * 201) == "x" * 200 + "…"
