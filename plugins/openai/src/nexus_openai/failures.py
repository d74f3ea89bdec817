"""What the kinds of this package say when they fail, in their own words: lines of the table of failures."""

from __future__ import annotations

from nexus.api import FailureRule, Fault

LLAMASWAP = (
    FailureRule(fault=Fault.BUSY, status=429, codes="concurrency_limit", code="busy", pause=1.0, source="llama-swap"),
    FailureRule(
        fault=Fault.MODEL,
        status=(404, 500, 502),
        words=("no router for requested model", "could not find real modelid"),
        code="model_not_found",
        source="llama-swap",
    ),
    FailureRule(fault=Fault.MODEL, status=(500, 502), words="unspecific error: ", code="model_failed", source="llama-swap"),
)
LITELLM = (
    # what one of its providers says of LiteLLM's own account there speaks of the models that it forwards to that provider
    FailureRule(
        fault=Fault.PERMISSION,
        words=(
            "litellm.authenticationerror: ",
            "litellm.permissiondeniederror: ",
            "litellm.ratelimiterror: … you exceeded your current quota",
            "litellm.badrequesterror: … your credit balance is too low",
            "litellm.apierror: … insufficient balance",
        ),
        code="permission",
        reason="LiteLLM's account at this model's provider is refused",
        source="LiteLLM",
    ),
    FailureRule(
        fault=Fault.MODEL,
        status=(400, 404),
        words=("litellm.notfounderror: ", "…: invalid model name passed in model="),
        code="model_not_found",
        source="LiteLLM",
    ),
    FailureRule(fault=Fault.BUSY, status=429, words="no deployments available for selected model", code="busy", source="LiteLLM"),
)
