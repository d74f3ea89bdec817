"""What an answer costs: each token at one price, the cached ones at theirs, and never less than nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.model import NO_USAGE, Price, Usage
from nexus.reply import cost_of
from nexus.testing import a_candidate

PRICE = Price(input=2.0, output=8.0, cached=0.5)
counts = st.integers(0, 10**9)
prices = st.floats(0, 1000, allow_nan=False)


def cost(usage, price=PRICE):
    return cost_of(usage, a_candidate(price=price))


@pytest.mark.parametrize(
    ("tokens", "dollars"),
    [
        ({"input_tokens": 1_000_000}, 2.0),
        ({"output_tokens": 1_000_000}, 8.0),
        ({"input_tokens": 1_000_000, "cached_tokens": 400_000}, 1.2 + 0.2),
        ({"input_tokens": 1_000_000, "cached_tokens": 1_000_000}, 0.5),
        # servers that count the cached tokens beside the prompt: no more than the prompt can have been cached
        ({"input_tokens": 100_000, "cached_tokens": 1_000_000}, 0.05),
        ({"cached_tokens": 1_000_000}, 0.0),
    ],
)
def test_each_token_has_one_price(tokens, dollars):
    assert cost(Usage(**tokens, source="reported")) == pytest.approx(dollars)


def test_cached_tokens_cost_what_others_do_where_no_price_says_otherwise():
    used = Usage(input_tokens=1_000_000, cached_tokens=400_000, source="reported")
    assert cost(used, Price(input=2.0, output=8.0)) == pytest.approx(2.0)


def test_what_is_not_known_costs_nothing_that_could_be_told():
    assert cost(NO_USAGE) is None
    assert cost(Usage(input_tokens=1, source="counted"), None) is None


@given(counts, counts, counts, prices, prices, st.none() | prices)
def test_no_report_makes_a_cost_negative(prompt, cached, output, dear, written, cheap):
    used = Usage(input_tokens=prompt, cached_tokens=cached, output_tokens=output, source="reported")
    told = cost(used, Price(input=dear, output=written, cached=cheap))
    assert told is not None
    assert told >= 0
