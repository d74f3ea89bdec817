"""Policies bind a model by every name that it has or had, also those that only servers know: whatever happens, no bound request is open."""

from __future__ import annotations

import asyncio
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from nexus_stages.privacy import Privacy

from nexus import routing
from nexus.api import Backend, Report
from nexus.fleet import Fleet, Member, Override
from nexus.model import NO_DEMAND, Demand, Payload, Zone
from nexus.names import Names
from nexus.policies import KEPT, LONGEST_KEPT, Policies, Policy, normal
from nexus.routing import Circumstances, Pipeline, route
from nexus.testing import FakeClock, FakeModel, Held, Respond, a_model, a_report, a_request, ollama_server, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, settled

RESTRICTED, BETTER = Demand(zone=Zone.RESTRICTED), Demand(min_tier=4)


def policies(*rules: tuple[str, Demand]) -> Policies:
    return Policies([Policy(models=(glob,), demand=demand) for glob, demand in rules])


# ---------------------------------------------------------------- which names are bound


@pytest.mark.parametrize("glob", ["med", "m*", "*", "?ed", "[m]ed", "*d", "m*d"])
def test_every_kind_of_glob_binds_what_it_matches_and_nothing_else(glob):
    known = policies((glob, RESTRICTED))
    assert known.demand(("med",)) == RESTRICTED
    assert known.demand(("x", "med")) == RESTRICTED
    assert known.demand(("Nope",)) == (RESTRICTED if glob == "*" else NO_DEMAND)
    assert known.demand(("xmedx",)) == (RESTRICTED if glob == "*" else NO_DEMAND)
    assert known.demand(()) == NO_DEMAND


def test_all_rules_that_match_are_joined():
    known = policies(("a", RESTRICTED), ("a*", BETTER), ("a", Demand(min_tier=2)), ("*z", Demand(min_tier=5)))
    assert known.demand(("a",)) == RESTRICTED & BETTER
    assert known.demand(("a", "yz")) == Demand(zone=Zone.RESTRICTED, min_tier=5)


def test_names_of_one_model_are_bound_by_each_others_rules_for_good():
    known = policies(("med", RESTRICTED), ("b", BETTER))
    known.same(("med:latest", "med"))
    assert known.demand(("med:latest",)) == RESTRICTED
    known.same(("med:latest", "b", "c"))
    assert known.demand(("med:latest",)) == known.demand(("c",)) == known.demand(("med",)) == RESTRICTED & BETTER
    assert known.demand(("other",)) == NO_DEMAND


def test_what_is_remembered_of_other_peoples_names_is_bounded_and_forgets_no_rule():
    known = policies(("m*", RESTRICTED))
    known.same(("mine", "alias"))
    for number in range(KEPT + 10):
        known.demand((f"x{number}",))
    known.demand(("m" * (LONGEST_KEPT + 1),))
    assert len(known._known) <= KEPT
    assert max(map(len, known._known)) <= LONGEST_KEPT
    assert known.demand(("alias",)) == RESTRICTED
    assert known.demand(("m" * (LONGEST_KEPT + 1),)) == RESTRICTED


def test_rules_that_are_plain_names_or_prefixes_cost_nothing_each():
    """However many they are, a name is looked up once, and once for every length that prefixes have."""
    known = policies(*[(f"model-{n}", RESTRICTED) for n in range(500)], *[(f"team{n:03}-*", RESTRICTED) for n in range(500)])
    assert (len(known._plain), list(known._prefixes), known._globs) == (500, [8], [])
    assert known.demand(("model-499",)) == known.demand(("team499-x",)) == RESTRICTED
    assert known.demand(("model-500", "team500-x", "team49")) == NO_DEMAND


def test_more_names_than_can_be_remembered_bind_everything(monkeypatch):
    monkeypatch.setattr("nexus.policies.MOST_JOINED", 2)
    known = policies(("m*", RESTRICTED))
    assert known.demand(("z",)) == NO_DEMAND
    for number in range(3):
        known.same((f"m{number}", f"alias{number}"))
    assert known.demand(("alias2",)) == known.demand(("z",)) == RESTRICTED


def test_a_name_is_bound_by_what_is_told_later_of_the_name_that_it_shares():
    known = policies(("medical", RESTRICTED))
    known.same(("c", "b"))
    assert known.demand(("c",)) == NO_DEMAND
    known.same(("medical", "b"))
    assert known.demand(("c",)) == known.demand(("b",)) == RESTRICTED


SPELLINGS = [
    ("medical", "Medical"),
    ("Medical", "medical"),
    ("medical", "medical:latest"),
    ("medical:latest", "medical"),
    ("medical:LATEST", "MEDICAL"),
    ("medical", " medical\t"),
    ("medical", "library/medical"),
    ("library/medical:latest", "registry.ollama.ai/library/Medical"),
    ("medical", "https://registry.ollama.ai/library/medical"),
    ("medical", "HTTP://Medical:latest"),
    ("medical", "ollama.com/library/medical"),
    ("medical", "medical:latest:latest"),
    ("medical", "medi\0cal\x7f"),
    ("http://medical", "medical"),
    ("hf.co/Owner/Med-GGUF", "hf.co/owner/med-gguf:latest"),
    ("m?dical:latest", "Medical"),
    ("MED-*", "med-7b"),
    ("m\N{LATIN SMALL LETTER E WITH ACUTE}d", "me\N{COMBINING ACUTE ACCENT}d"),
    ("me\N{COMBINING ACUTE ACCENT}d", "M\N{LATIN CAPITAL LETTER E WITH ACUTE}D"),
    ("med", "\N{FULLWIDTH LATIN SMALL LETTER M}ed"),
    ("med", "me\N{ZERO WIDTH SPACE}d"),
    ("stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
]


@pytest.mark.parametrize(("rule", "asked"), SPELLINGS)
def test_no_spelling_of_a_name_is_bound_less(rule, asked):
    assert policies((rule, RESTRICTED)).demand((asked,)) == RESTRICTED
    known = policies((rule, RESTRICTED))
    assert known.demand(("another", "Another:latest")) == NO_DEMAND
    known.same(("another", asked))
    assert known.demand(("Another:latest",)) == RESTRICTED


def test_what_only_looks_alike_is_not_bound():
    known = policies(("medical", RESTRICTED), ("*:*", BETTER), ("x[!A-Z]", RESTRICTED))
    for name in ("medical:7b", "owner/medical", "medical2", "medica"):
        assert known.demand((name,)) == (BETTER if ":" in name else NO_DEMAND)
    assert known.demand(("xa",)) == RESTRICTED  # as it was written, too, and not only as all spellings share it


@given(st.text(max_size=6), st.text(max_size=3), st.sampled_from([str.upper, str.lower, str.title, str.casefold, str.swapcase]))
def test_a_rule_binds_whatever_letters_a_client_writes_its_name_with(name, more, spelt):
    for glob in (name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]"), "*"):
        known = policies((glob, RESTRICTED))
        assert known.demand((name,)) == RESTRICTED
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert known.demand((normalize(form, name),)) == RESTRICTED
        if name.isascii():
            assert known.demand((spelt(name),)) == known.demand((spelt(name) + ":latest",)) == RESTRICTED
    known = policies((more, RESTRICTED)) if not set(more) & set("[*?") else policies(("m", RESTRICTED))
    known.same((name, "m", more))
    assert known.demand((spelt(name) if name.isascii() else name,)) == RESTRICTED


def joined(told: list[set[str]], name: str) -> set[str]:
    """Every name that is the same as this one, by whatever way round."""
    names, before = {name}, set()
    while names != before:
        before = names
        names = names.union(*(each for each in told if each & names))
    return names


TOLD = st.lists(st.sets(st.sampled_from("abcdefghij"), min_size=1, max_size=4), max_size=10)
RULES = st.lists(
    st.tuples(st.sampled_from([*"abcdefghij", "[ab]", "j*"]), st.sampled_from([RESTRICTED, BETTER])), min_size=1, max_size=4
)


@given(RULES, TOLD, st.lists(st.sampled_from("abcdefghij"), max_size=4), st.randoms(), st.integers(0, 10))
def test_all_names_that_are_told_for_one_model_are_joined_whatever_the_order(rules, told, asked, dice, most):
    """Where there is no room for all of them, what is asked may be more and is never less."""
    known, short = policies(*rules), policies(*rules)
    for names in told:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nexus.policies.MOST_JOINED", most)
            short.same(dice.sample(sorted(names), len(names)))
        known.same(dice.sample(sorted(names), len(names)))
        known.demand(asked)  # what was asked in between changes nothing
        short.demand(asked)
    assert len(short._joined) <= most
    for name in "abcdefghij":
        right = policies(*rules).demand(joined(told, name))
        assert known.demand((name,)) == right
        assert short.demand((name,)) & right == short.demand((name,))


# ---------------------------------------------------------------- no fleet, no history, no timing


class Nobody(Backend):
    async def probe(self) -> Report:
        return Report(ok=True)

    async def send(self, call):
        raise NotImplementedError


WORDS = st.sampled_from(["a", "b", "c", "d", "a:1", "b:1", "A", "b:latest", "library/C", "B:1"])
MODELS = st.lists(
    st.builds(lambda name, aliases: a_model(name, aliases=tuple(aliases)), WORDS, st.lists(WORDS, max_size=2)),
    max_size=3,
    unique_by=lambda model: model.id,
)
BACKENDS = {"home": Zone.RESTRICTED, "second": Zone.RESTRICTED, "open": Zone.OPEN, "cloud": Zone.OPEN}


class Bound(RuleBasedStateMachine):
    """Servers come, go, fail, are busy and rename their models; requests are routed, and routed again later."""

    @initialize(
        aliases=st.dictionaries(WORDS, st.lists(WORDS, min_size=1, max_size=2, unique=True), max_size=2),
        fallbacks=st.dictionaries(WORDS, st.lists(WORDS, min_size=1, max_size=2, unique=True), max_size=2),
        rules=st.lists(st.sampled_from(["a", "b", "c", "*:1", "a*", "[cd]"]), min_size=1, max_size=2),
        overrides=st.dictionaries(st.sampled_from([*BACKENDS]), st.tuples(WORDS, WORDS), max_size=2),
    )
    def wire(self, aliases, fallbacks, rules, overrides):
        self.names = Names(aliases, fallbacks, [Policy(models=(glob,), demand=RESTRICTED) for glob in rules])
        self.plain = Policies([Policy(models=(glob,), demand=RESTRICTED) for glob in rules])
        self.told: list[frozenset[str]] = []
        self.fleet = Fleet(FakeClock().now, lambda event: None)
        self.fleet.named = self.hear
        self.overrides = overrides
        self.pipeline = Pipeline([("privacy", Privacy(None, None))])
        self.claims, self.waiting = [], []

    def hear(self, names):
        self.told.append(frozenset(map(normal, names)))
        self.names.policies.same(names)

    @rule(name=st.sampled_from([*BACKENDS]), remembered=MODELS)
    def join(self, name, remembered):
        if name in self.fleet.standings:
            self.fleet.leave(name)
        override = self.overrides.get(name)
        written = () if override is None else (Override(id=override[0], name=override[1]),)
        member = Member(
            name=name,
            kind="x",
            url=f"http://{name}",
            backend=Nobody(),
            zone=BACKENDS[name],
            cloud=name == "cloud",
            capacity=1,
            overrides=written,
            any_spelling=name in ("home", "cloud"),
        )
        self.fleet.join(member, remembered)

    @rule(name=st.sampled_from([*BACKENDS]))
    def leave(self, name):
        self.fleet.leave(name)

    @rule(name=st.sampled_from([*BACKENDS]), models=MODELS)
    def list_models(self, name, models):
        self.fleet.report(name, a_report(*models) if models else Report(ok=True, models=()), 0.01)

    @rule(name=st.sampled_from([*BACKENDS]))
    def go_down(self, name):
        for _ in range(3):
            self.fleet.report(name, Report(ok=False, code="connect", problem="refused"), 0.01)

    @rule(name=st.sampled_from([*BACKENDS]))
    def occupy(self, name):
        standing = self.fleet.standings.get(name)
        candidates = standing.candidates() if standing else ()
        if candidates and not standing.in_flight:
            self.claims.append(self.fleet.claim(candidates[0], a_request()))

    @rule()
    def free(self):
        if self.claims:
            self.claims.pop().finish("failed", sent=True)

    @rule(asked=WORDS, flexible=st.booleans(), strict=st.booleans())
    def ask(self, asked, flexible, strict):
        self.waiting.append((self.names.legs(asked, strict=strict, flexible=flexible), NO_DEMAND, False))
        del self.waiting[:-6]

    @invariant()
    def no_bound_request_goes_out(self):
        """Every request so far is routed again: first as a client's, then as one that has waited."""
        for index, (legs, demand, tried) in enumerate(getattr(self, "waiting", ())):
            tried_pairs = {("home", word): routing.tried() for word in ("a", "b")} if tried else {}
            at = Circumstances(
                candidates=self.fleet.candidates, now=self.fleet.now(), policy=self.names.demand, bound=demand, tried=tried_pairs
            )
            plan = route(self.pipeline, a_request(), Payload(b""), legs, at, whole=True)
            for choice in plan.choices:
                assert choice.candidate.zone is Zone.RESTRICTED or not self.is_bound(choice.ask.leg, legs[0])
            assert demand & plan.demand == plan.demand
            self.waiting[index] = (legs, plan.demand, not tried)

    def is_bound(self, leg, first) -> bool:
        """By the names on its way, and by whatever a server has ever called the models of the first leg and of its own."""
        meant = set(map(normal, (*first.trail, *leg.trail)))
        akin = [names for names in self.told if names & meant]
        return any(self.plain.demand((name,)) == RESTRICTED for name in meant.union(*akin))


TestBound = Bound.TestCase
TestBound.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# ---------------------------------------------------------------- through a gateway

OK = Respond(json={"choices": [{"message": {}}]})
FLEXIBLE = {"X-Nexus-Flexible": "true"}


def begin(coro):
    return asyncio.get_running_loop().create_task(coro)


def private(home, far, **tables):
    """An Ollama at home knows `medical:latest` as `medical` too, which the policy names; there is an open server beside it."""
    routing = {"fallbacks": {"medical:latest": ["spare"]}, "aliases": {"doctor": ["medical:latest"]}}
    tables = {"routing": routing, "policies": [{"models": ["medical"], "zone": "restricted"}], **tables}
    health = {"failure_threshold": 1, "interval_seconds": 0.5}
    return fleet(a_backend("home", home, "ollama", max_concurrent=1), a_backend("far", far), health=health, **tables)


@pytest.mark.parametrize("asked", ["medical:latest", "medical", "doctor"])
@pytest.mark.parametrize("how", ["busy", "fails", "down", "no longer listed"])
async def test_a_servers_other_name_binds_every_leg(nexus_gateway, asked, how):
    gate = asyncio.Event()
    async with ollama_server([FakeModel("medical:latest")]) as home, openai_server(["spare", "medical:latest"]) as far:
        gateway = await settled(await nexus_gateway(private(home, far, queue={"max_requests": 0})))
        assert (await ask(gateway, asked, headers=FLEXIBLE)).nexus("Backend") == "home"
        holding = None
        if how == "busy":
            home.next(Held(gate, OK), path=CHAT)
            holding = begin(ask(gateway, asked))
            await home.until(lambda: len(chats(home)) == 2)
        elif how == "fails":
            home.next(*[Respond(500, json={})] * 9, path=CHAT)
        elif how == "down":
            home.kill()
            gateway.gateway.fleet.doubted("home")
            await gateway.until(lambda: gateway.gateway.fleet.standings["home"].pulse.health == "unhealthy")
        else:
            home.models.pop("medical:latest")
            gateway.gateway.fleet.doubted("home")
            await gateway.until(lambda: not gateway.gateway.fleet.standings["home"].pairs)
        said = await ask(gateway, asked, headers=FLEXIBLE)
        assert said.status in (502, 503)
        assert not chats(far)
        gate.set()
        if holding:
            assert (await holding).nexus("Backend") == "home"


async def test_who_waits_stays_bound_when_the_server_that_told_the_name_leaves(nexus_gateway):
    gate = asyncio.Event()
    async with ollama_server([FakeModel("medical:latest")]) as home, openai_server(["spare"]) as far:
        gateway = await settled(await nexus_gateway(private(home, far, queue={"max_wait_seconds": 20})))
        home.next(Held(gate, OK), path=CHAT)
        holding = begin(ask(gateway, "medical:latest"))
        await home.until(lambda: home.in_flight == 1)
        waiting = begin(ask(gateway, "medical:latest", headers=FLEXIBLE))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        gateway.gateway.fleet.leave("home")
        said = await asyncio.wait_for(waiting, 10)
        assert said.status == 503
        newcomer = await ask(gateway, "medical:latest", headers=FLEXIBLE)
        assert newcomer.status == 503
        gate.set()
        await holding
        assert not chats(far)


@pytest.mark.parametrize("listed", [True, False])
async def test_names_of_an_earlier_run_bind_while_their_server_is_not_there_yet(tmp_path, listed):
    """The server is written down, or it was found by itself: then only the state of the earlier run knows it."""
    from nexus.testing.gateway import running_gateway

    async with ollama_server([FakeModel("medical:latest")]) as home, openai_server(["spare", "medical:latest"]) as far:
        config = private(home, far)
        async with running_gateway(config, state_dir=tmp_path) as first:
            await settled(first)
            assert (await ask(first, "medical:latest", headers=FLEXIBLE)).nexus("Backend") == "home"
        home.kill()
        if not listed:
            del config["backends"][0]
        async with running_gateway(config, state_dir=tmp_path) as second:
            await settled(second)
            said = await ask(second, "medical:latest", headers=FLEXIBLE)
            assert said.status in (502, 503)
        assert not chats(far)


@pytest.mark.parametrize(("asked", "policy"), [("vision-small", "llava"), ("llava", "vision-small"), ("vision-small", "llava:x")])
async def test_a_name_of_the_operators_own_binds_in_both_directions(nexus_gateway, asked, policy):
    async with ollama_server([FakeModel("llava:x")]) as home, openai_server(["spare", "llava", "vision-small"]) as far:
        written = [{"id": "llava:x" if policy == "llava:x" else "llava", "name": "vision-small"}]
        config = fleet(
            a_backend("home", home, "ollama", models=written, zone="restricted"),
            a_backend("far", far),
            policies=[{"models": [policy], "zone": "restricted"}],
            health={"failure_threshold": 1},
        )
        gateway = await settled(await nexus_gateway(config))
        home.kill()
        said = await ask(gateway, asked, headers=FLEXIBLE)
        assert said.status in (502, 503)
        assert not chats(far)


async def test_the_tier_of_home_binds_who_waits_when_home_leaves(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server(["big"]) as home, openai_server(["spare"]) as weak:
        config = fleet(
            a_backend("home", home, tier=3, max_concurrent=1),
            a_backend("weak", weak, tier=1),
            routing={"fallbacks": {"big": ["spare"]}},
        )
        gateway = await settled(await nexus_gateway(config))
        home.next(Held(gate, OK), path=CHAT)
        holding = begin(ask(gateway, "big"))
        await home.until(lambda: home.in_flight == 1)
        waiting = begin(ask(gateway, "big"))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        gateway.gateway.fleet.leave("home")
        said = await asyncio.wait_for(waiting, 10)
        assert (said.status, said.error["code"]) == (503, "tier")
        gate.set()
        await holding
        assert not chats(weak)


ASKED = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hello"}]},
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("asked", ["Medical", "MEDICAL:latest", "medical:latest"])
async def test_no_task_leads_out_by_another_spelling(nexus_gateway, path, asked):
    """Ollama serves `medical` by each of these names; the open server lists them as models of its own."""
    async with ollama_server(["medical"]) as home, openai_server([asked, "spare"]) as far:
        gateway = await settled(await nexus_gateway(private(home, far)))
        for body in (ASKED[path], ASKED[path] | {"stream": True}):
            for headers in ({}, FLEXIBLE):
                async with gateway.client.post(path, json={"model": asked, **body}, headers=headers) as said:
                    assert said.headers.get("X-Nexus-Privacy-Zone") != "open", await said.text()
        question = {"path": path, "request": {"model": asked, **ASKED[path]}}
        async with gateway.client.post("/nexus/explain", json=question) as told:
            explained = await told.json()
        assert explained["demand"]["zone"] == "restricted"
        assert "far" not in [choice["backend"] for choice in explained["choices"]]
        assert not [got for got in far.requests if got.method == "POST"]
