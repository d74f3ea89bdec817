"""GET /metrics on a real socket, read by Prometheus' own parsers; the reference page says the same."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import nexus_metrics
import pytest
from aiohttp import web
from nexus_metrics.component import Metrics
from nexus_metrics.counts import DURATION, FIRST_BYTE, ROUTING
from nexus_metrics.families import Families
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nexus.api import (
    Answered,
    Candidate,
    Claimed,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Leg,
    Objection,
    Plan,
    Probed,
    Queued,
    Refusal,
    RefusalKind,
    Request,
    Scope,
    Usage,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"

REQUEST = Request(id="r", dialect="openai", task="chat", model="what-the-client-wrote")
GPU = Candidate(backend="gpu", kind="ollama", model="qwen:7b", name='qwen"\n\\')
LEGS = tuple(Leg(index=i, name=name, ids=(name,), trail=("llama3",)) for i, name in enumerate(("llama3", "qwen")))
PLAN = Plan(
    legs=LEGS,
    objections=(Objection(stage="core", candidate=GPU, leg=0, refusal=Refusal(kind=RefusalKind.WAIT, code="busy")),),
)
EVENTS: tuple[Event, ...] = (
    Joined(at=1.0, backend="gpu", kind="ollama", url="http://gpu", source="config"),
    Joined(at=1.0, backend="cpu", kind="ollama", url="http://cpu", source="config"),
    Probed(at=1.0, backend="gpu", health=Health.HEALTHY, seconds=0.1, models=3),
    Probed(at=1.0, backend="cpu", health=Health.UNHEALTHY, seconds=0.1, models=2),
    Queued(at=1.0, request=REQUEST, lane=Lane.HIGH, waiting=True, depth=4),
    Claimed(at=1.0, claim=1, request=REQUEST, candidate=GPU),
    Claimed(at=1.0, claim=2, request=REQUEST, candidate=GPU),
    Finished(at=1.0, claim=1, request=REQUEST, candidate=GPU, outcome="left", sent=True),
    Answered(
        at=1.0,
        request=REQUEST,
        status=200,
        outcome="ok",
        candidate=GPU,
        leg=LEGS[1],
        plan=PLAN,
        usage=Usage(input_tokens=12, output_tokens=34, cached_tokens=5, reasoning_tokens=6, source="reported"),
        cost=0.5,
        seconds=3.0,
        routing_seconds=0.00004,
        first_byte=0.75,
    ),
)


def fed(*events: Event) -> Metrics:
    metrics = Metrics()
    for event in events or EVENTS:
        metrics.see(event)
    return metrics


async def scrape(aiohttp_client: Any, metrics: Metrics, accept: str = "") -> tuple[str, str]:
    app = web.Application()
    for route in metrics.routes():
        app.router.add_route(route.method, route.path, route.handler)
    client = await aiohttp_client(app)
    async with client.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        return await answer.text(), answer.headers["Content-Type"]


async def families(aiohttp_client: Any, metrics: Metrics) -> dict[str, Any]:
    text, _ = await scrape(aiohttp_client, metrics)
    return {family.name: family for family in parse_text(text)}


def samples(found: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], float]:
    flat = [sample for family in found.values() for sample in family.samples]
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in flat}


# ---------------------------------------------------------------- what is said


async def test_every_figure_arrives(aiohttp_client):
    told = samples(await families(aiohttp_client, fed()))
    model = GPU.name
    expected = {
        ("nexus_requests_total", ("gpu", model, "200")): 1,
        ("nexus_request_duration_seconds_sum", ("gpu", model)): 3.0,
        ("nexus_request_duration_seconds_count", ("gpu", model)): 1,
        ("nexus_request_duration_seconds_bucket", ("gpu", "2.5", model)): 0,
        ("nexus_request_duration_seconds_bucket", ("gpu", "5.0", model)): 1,
        ("nexus_request_duration_seconds_bucket", ("gpu", "+Inf", model)): 1,
        ("nexus_time_to_first_byte_seconds_sum", ("gpu", model)): 0.75,
        ("nexus_routing_duration_seconds_bucket", ("2.5e-05",)): 0,
        ("nexus_routing_duration_seconds_bucket", ("5e-05",)): 1,
        ("nexus_routing_duration_seconds_count", ()): 1,
        ("nexus_refusals_total", ("busy", "core")): 1,
        ("nexus_attempts_total", ("gpu", "left")): 1,
        ("nexus_fallbacks_total", ("llama3", model)): 1,
        ("nexus_upstream_cancelled_total", ()): 1,
        ("nexus_tokens_total", ("gpu", model, "input")): 12,
        ("nexus_tokens_total", ("gpu", model, "output")): 34,
        ("nexus_tokens_total", ("gpu", model, "cached")): 5,
        ("nexus_tokens_total", ("gpu", model, "reasoning")): 6,
        ("nexus_cost_usd_total", ("gpu",)): 0.5,
        ("nexus_backends", ("healthy",)): 1,
        ("nexus_backends", ("unhealthy",)): 1,
        ("nexus_backends", ("unknown",)): 0,
        ("nexus_models_available", ()): 3,
        ("nexus_in_flight", ("gpu",)): 1,
        ("nexus_in_flight", ("cpu",)): 0,
        ("nexus_queue_depth", ("high",)): 4,
        ("nexus_queue_depth", ("low",)): 0,
    }
    assert expected.items() <= told.items()


async def test_what_the_client_wrote_is_nowhere(aiohttp_client):
    unknown = Answered(at=1.0, request=REQUEST, status=404, outcome="refused")
    text, _ = await scrape(aiohttp_client, fed(*EVENTS, unknown))
    assert 'nexus_requests_total{backend="",model="",status="404"} 1.0' in text
    assert REQUEST.model not in text


async def test_before_the_first_event_every_metric_is_named(aiohttp_client):
    found = await families(aiohttp_client, Metrics())
    assert set(found) == set(await families(aiohttp_client, fed()))
    assert samples(found)["nexus_upstream_cancelled_total", ()] == 0


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/html", "text/plain"),
        ("application/openmetrics-text; version=1.0.0, text/plain", "application/openmetrics-text"),
    ],
)
async def test_the_format_is_the_one_asked_for(aiohttp_client, accept, content_type):
    text, told = await scrape(aiohttp_client, fed(), accept)
    assert told.startswith(content_type)
    openmetrics = content_type.startswith("application")
    parsed = list((parse_openmetrics if openmetrics else parse_text)(text))
    assert len(parsed) == len(list(Families(fed().counts).collect()))
    assert text.endswith("# EOF\n") is openmetrics


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
async def test_a_large_fleet_is_written_in_parts_that_make_one_whole(aiohttp_client, accept):
    models = [f"model-{number}" for number in range(200)]
    candidates = (Candidate(backend="gpu", kind="ollama", model=name, name=name) for name in models)
    metrics = fed(*(Answered(at=1.0, request=REQUEST, status=200, outcome="ok", candidate=each) for each in candidates))
    text, _ = await scrape(aiohttp_client, metrics, accept)
    parsed = list((parse_openmetrics if accept else parse_text)(text))
    names = [family.name for family in parsed]
    assert len(names) == len(set(names)) == text.count("# TYPE") == text.count("# HELP")
    (requests,) = [family for family in parsed if family.name == "nexus_requests"]
    assert sorted(sample.labels["model"] for sample in requests.samples) == sorted(models)
    (duration,) = [family for family in parsed if family.name == "nexus_request_duration_seconds"]
    assert len(duration.samples) == 200 * (len(DURATION) + 3)


async def test_two_gateways_in_one_process_do_not_see_each_other(aiohttp_client):
    ours, theirs = fed(), Metrics()
    assert samples(await families(aiohttp_client, ours))["nexus_upstream_cancelled_total", ()] == 1
    assert samples(await families(aiohttp_client, theirs))["nexus_upstream_cancelled_total", ()] == 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("nexus")]


# ---------------------------------------------------------------- the plugin


async def test_what_it_counts_is_what_it_serves():
    (observer,), (routes,) = nexus_metrics.nexus_observers(), nexus_metrics.nexus_routes()
    assert observer.name == routes.name == "metrics"
    assert observer.open is routes.open
    assert observer.options is routes.options
    for public in (False, True):
        async with observer.open(nexus_metrics.MetricsOptions(public=public), cast(Scope, None)) as component:
            assert isinstance(component, Metrics)
            (route,) = component.routes()
        assert (route.method, route.path, route.admin) == ("GET", "/metrics", not public)


def test_installing_it_costs_a_gateway_that_does_not_open_it_nothing():
    code = "import sys, nexus_metrics; list(nexus_metrics.nexus_observers()); print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---------------------------------------------------------------- the page


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.read_text().split(heading, 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def test_the_page_names_every_metric_with_its_type_and_labels_and_no_other(aiohttp_client):
    written = {
        name.strip("`").removesuffix("_total"): (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in rows("# Metrics")
    }
    found = await families(aiohttp_client, fed())
    told = {
        name: (family.type, set().union(*(sample.labels for sample in family.samples)) - {"le"}) for name, family in found.items()
    }
    assert written == told


async def test_counters_are_written_with_their_suffix(aiohttp_client):
    for name, kind, _, _ in rows("# Metrics"):
        assert name.strip("`").endswith("_total") is (kind == "counter")


def test_the_page_names_the_buckets():
    buckets = {
        "nexus_request_duration_seconds": DURATION,
        "nexus_time_to_first_byte_seconds": FIRST_BYTE,
        "nexus_routing_duration_seconds": ROUTING,
    }
    assert {name.strip("`"): tuple(map(float, text.split())) for name, text in rows("## Buckets")} == buckets


def test_the_page_asks_questions_about_metrics_that_exist():
    names = {name.strip("`") for name, *_ in rows("# Metrics")}
    asked = re.findall(r"nexus_\w+", PAGE.read_text().split("```promql", 1)[1])
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= names


def test_the_page_names_the_bounds():
    from nexus_metrics.counts import MAX_PAIRS, MAX_ROWS, OTHER

    text = " ".join(PAGE.read_text().split())
    assert f"at most {MAX_PAIRS} pairs of model and backend, and {MAX_ROWS} rows" in text
    assert f"`{OTHER}`" in text
